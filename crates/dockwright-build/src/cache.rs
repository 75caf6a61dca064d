//! Results of steps, remembered by content.
//!
//! # What enters a key
//!
//! | Input | RUN | COPY, ADD | `--link` | WORKDIR | others |
//! |---|---|---|---|---|---|
//! | version of this table, platform, `SOURCE_DATE_EPOCH` | ✓ | ✓ | ✓ | ✓ | ✓ |
//! | id of the image that the stage started from | ✓ | ✓ | | ✓ | ✓ |
//! | layers below (their DiffIds) | ✓ | ✓ | | ✓ | ✓ |
//! | the instruction with its variables replaced, as in the history | ✓ | ✓ | ✓ | ✓ | ✓ |
//! | sums of the files copied (see [`crate::tree`]), what is excluded, `--chmod` | | ✓ | ✓ | | |
//! | each variable of the process's environment | ✓ | | | | |
//! | user, working directory, declared volumes, network mode, extra hosts | ✓ | | | | |
//! | the whole run configuration so far | | | | | ✓ |
//!
//! Not in it, so never noticed: modification times; proxy variables that no `ARG` declares; limits of memory and processors; what a `RUN`
//! fetches from the network; the DNS answers of that moment. `LABEL`, `CMD` and the like do not invalidate a later `RUN` or `COPY`, since
//! their results cannot depend on them. Values of variables enter as digests only.
//!
//! Fields are framed by their length, so no two lists of inputs give the same bytes.
//!
//! # Why a step missed
//!
//! Beside the result a build records the inputs themselves, under a key made of the stage's base and the instruction as written. When
//! a step misses, the difference to that record is the reason, reported as a debug event.

use std::{collections::BTreeMap, fmt};

use dockwright_store::{DiffId, Digest, ImageConfig, config::History};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::backend::BaseImage;

/// Raised when the table of the module changes.
const KEY_VERSION: &str = "1";

/// Identity of a step: equal keys give interchangeable results. 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheKey(String);

impl CacheKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a step left. Stored as JSON; unknown fields of later versions are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// The layer, or `None` for a step that changed no file.
    pub layer: Option<DiffId>,
    /// When the step ran first, RFC 3339; part of the history entry, so that a cached build gives the same image id.
    pub created: String,
    /// What entered the key, to explain later misses; empty in records of results.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
}

/// What a step's result depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs(BTreeMap<String, String>);

impl Inputs {
    pub fn new() -> Self {
        Self::default().with("version", KEY_VERSION)
    }

    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Adds a value that must not be read back, or is long.
    pub fn with_digest(self, name: impl Into<String>, value: &[u8]) -> Self {
        self.with(name, Digest::of(value).hex())
    }

    pub fn key(&self) -> CacheKey {
        framed("result", self.0.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]))
    }

    /// The key under which these inputs are kept for comparison.
    pub fn explanation_key(base: &str, instruction: &str) -> CacheKey {
        framed("explanation", [KEY_VERSION, base, instruction])
    }

    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.0.clone()
    }

    /// Names what differs from an earlier run of the step.
    pub fn differences(&self, earlier: &BTreeMap<String, String>) -> Vec<String> {
        let changed = self.0.iter().filter_map(|(name, value)| match earlier.get(name) {
            None => Some(format!("{name} is new")),
            Some(old) if old != value => Some(format!("{name} changed")),
            Some(_) => None,
        });
        let gone = earlier.keys().filter(|name| !self.0.contains_key(*name)).map(|name| format!("{name} is gone"));
        changed.chain(gone).collect()
    }
}

fn framed<'t>(kind: &'t str, fields: impl IntoIterator<Item = &'t str>) -> CacheKey {
    let mut sum = Sha256::new();
    for field in std::iter::once(kind).chain(fields) {
        sum.update((field.len() as u64).to_be_bytes());
        sum.update(field);
    }
    CacheKey(hex::encode(sum.finalize()))
}

/// The images of `--cache-from`, as they may answer the steps of one stage: Docker's classic rule.
///
/// An image answers a step when everything so far is a prefix of its own history and layers, and its next history entry has the step's
/// text. Times are not compared. After a hit only that image goes on answering, after a miss none does.
#[derive(Debug, Clone, Default)]
pub struct CacheImages {
    candidates: Vec<BaseImage>,
}

impl CacheImages {
    pub fn new(candidates: Vec<BaseImage>) -> Self {
        Self { candidates }
    }

    /// Returns the result that one of the images holds for the next step.
    pub fn find(&mut self, current: &ImageConfig, created_by: &str) -> Option<CacheRecord> {
        let found = self.candidates.iter().find_map(|image| Some((image.clone(), answer(&image.config, current, created_by)?)));
        let (candidates, record) = found.map_or((Vec::new(), None), |(image, record)| (vec![image], Some(record)));
        self.candidates = candidates;
        record
    }
}

fn answer(image: &ImageConfig, current: &ImageConfig, created_by: &str) -> Option<CacheRecord> {
    let same_step = |(a, b): (&History, &History)| a.created_by == b.created_by && a.empty_layer == b.empty_layer;
    let prefix_agrees = current.history.len() < image.history.len()
        && current.history.iter().zip(&image.history).all(same_step)
        && image.rootfs.diff_ids.starts_with(&current.rootfs.diff_ids);
    let next = image.history.get(current.history.len()).filter(|_| prefix_agrees)?;
    if next.created_by.as_deref() != Some(created_by) {
        return None;
    }
    let layer = match next.empty_layer {
        true => None,
        false => Some(*image.rootfs.diff_ids.get(current.rootfs.diff_ids.len())?),
    };
    Some(CacheRecord { layer, created: next.created.clone()?, inputs: BTreeMap::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(text: &str) -> DiffId {
        DiffId(Digest::of(text.as_bytes()))
    }

    fn image(steps: &[(&str, bool)]) -> ImageConfig {
        let mut image = ImageConfig::default();
        for (text, empty_layer) in steps {
            let entry =
                History { created: Some("2020-01-01T00:00:00Z".to_owned()), created_by: Some((*text).to_owned()), ..History::default() };
            image.history.push(History { empty_layer: *empty_layer, ..entry });
            if !empty_layer {
                image.rootfs.diff_ids.push(diff(text));
            }
        }
        image
    }

    fn sources(images: &[ImageConfig]) -> CacheImages {
        CacheImages::new(images.iter().map(|config| BaseImage { id: config.image_id(), config: config.clone() }).collect())
    }

    #[test]
    fn keys_are_framed() {
        let key = |name: &str, value: &str| Inputs::new().with(name, value).key();
        assert_ne!(key("a", "bc"), key("ab", "c"));
        assert_eq!(key("a", "b"), key("a", "b"));
        assert_ne!(Inputs::explanation_key("a", "b"), key("a", "b"));
    }

    #[test]
    fn differences_are_named() {
        let earlier = Inputs::new().with("a", "1").with("b", "1").to_map();
        let now = Inputs::new().with("a", "2").with("c", "1");
        assert_eq!(now.differences(&earlier), ["a changed", "c is new", "b is gone"]);
    }

    #[test]
    fn an_image_answers_by_history_prefix() {
        let whole = image(&[("base", false), ("ENV a=1", true), ("RUN x", false)]);
        let mut sources = sources(std::slice::from_ref(&whole));
        let base = image(&[("base", false)]);
        let env = sources.find(&base, "ENV a=1").unwrap();
        assert_eq!((env.layer, env.created.as_str()), (None, "2020-01-01T00:00:00Z"));
        let after_env = image(&[("base", false), ("ENV a=1", true)]);
        assert_eq!(sources.find(&after_env, "RUN x").unwrap().layer, Some(diff("RUN x")));
        assert_eq!(sources.find(&whole, "RUN y"), None);
    }

    #[test]
    fn after_a_miss_no_image_answers() {
        let whole = image(&[("base", false), ("ENV a=1", true)]);
        let mut sources = sources(&[whole]);
        let base = image(&[("base", false)]);
        assert_eq!(sources.find(&base, "ENV a=2"), None);
        assert_eq!(sources.find(&base, "ENV a=1"), None);
    }

    #[test]
    fn another_base_does_not_match() {
        let mut other = image(&[("base", false), ("RUN x", false)]);
        other.rootfs.diff_ids[0] = diff("changed");
        assert_eq!(sources(&[other]).find(&image(&[("base", false)]), "RUN x"), None);
    }
}
