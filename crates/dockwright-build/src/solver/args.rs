//! Build arguments: declared where, with which value.
//!
//! A value comes from the request, else from the `ARG` in the stage, else from the `ARG` before the first `FROM`. Proxy variables need no
//! declaration and stay out of history and keys without one.

use std::collections::{BTreeMap, BTreeSet};

use crate::request::BuildOptions;

const PROXIES: [&str; 10] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"];

/// Build arguments that are for the builder and need no `ARG`.
const SWITCHES: [&str; 2] = ["SOURCE_DATE_EPOCH", "BUILDKIT_INLINE_CACHE"];

/// The build arguments of a stage.
#[derive(Debug, Clone, Default)]
pub(super) struct BuildArgs {
    request: BTreeMap<String, Option<String>>,
    global: BTreeMap<String, Option<String>>,
    declared: BTreeMap<String, Option<String>>,
    /// Everything ever declared, for the warning about the rest.
    seen: BTreeSet<String>,
}

impl BuildArgs {
    /// The request's values, and the platform variables, which a stage has to declare to see.
    pub(super) fn predefined(options: &BuildOptions) -> Self {
        let host = format!("linux/{}", host_architecture());
        let target = options.platform.clone().unwrap_or_else(|| host.clone());
        let mut args = Self { request: options.build_args.clone(), ..Self::default() };
        for (prefix, platform) in [("BUILD", host), ("TARGET", target)] {
            let mut parts = platform.split('/').map(str::to_owned);
            let mut part = || Some(parts.next().unwrap_or_default());
            let (os, architecture, variant) = (part(), part(), part());
            args.global.insert(format!("{prefix}OS"), os);
            args.global.insert(format!("{prefix}ARCH"), architecture);
            args.global.insert(format!("{prefix}VARIANT"), variant);
            args.global.insert(format!("{prefix}PLATFORM"), Some(platform));
        }
        let stage = options.target.clone().filter(|target| !target.is_empty()).unwrap_or_else(|| "default".to_owned());
        args.global.insert("TARGETSTAGE".to_owned(), Some(stage));
        args
    }

    /// `ARG` before the first `FROM`.
    pub(super) fn declare_global(&mut self, name: &str, default: Option<String>) {
        let value = default.or_else(|| self.global.get(name).cloned().flatten());
        self.global.insert(name.to_owned(), value);
        self.seen.insert(name.to_owned());
    }

    /// The value that `FROM` and other global `ARG`s see.
    pub(super) fn global(&self, name: &str) -> Option<String> {
        let default = self.global.get(name)?.clone();
        self.request.get(name).cloned().flatten().or(default)
    }

    /// `ARG` in a stage.
    pub(super) fn declare(&mut self, name: &str, default: Option<String>) {
        self.declared.insert(name.to_owned(), default);
        self.seen.insert(name.to_owned());
    }

    /// The value in a stage.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let declared = self.declared.get(name);
        if declared.is_none() && !PROXIES.contains(&name) {
            return None;
        }
        let from_request = self.request.get(name).cloned().flatten();
        from_request.or_else(|| declared.cloned().flatten()).or_else(|| self.global.get(name).cloned().flatten())
    }

    /// All that have a value in the stage, proxies included.
    pub(super) fn values(&self) -> impl Iterator<Item = (String, String)> {
        let proxies = PROXIES.iter().map(|name| (*name).to_owned()).filter(|name| !self.declared.contains_key(name));
        let names: BTreeSet<String> = self.declared.keys().cloned().chain(proxies).collect();
        names.into_iter().filter_map(|name| Some((name.clone(), self.value(&name)?)))
    }

    /// Whether a value shows in history and keys.
    pub(super) fn is_recorded(&self, name: &str) -> bool {
        self.declared.contains_key(name) || !PROXIES.contains(&name)
    }

    /// The request's arguments that no stage declared.
    pub(super) fn unused<'a>(&self, stages: impl Iterator<Item = &'a Self>) -> Vec<String> {
        let mut seen = self.seen.clone();
        seen.extend(stages.flat_map(|stage| stage.seen.iter().cloned()));
        let built_in = |name: &str| PROXIES.contains(&name) || SWITCHES.contains(&name) || self.global.contains_key(name);
        self.request.keys().filter(|name| !seen.contains(*name) && !built_in(name)).cloned().collect()
    }
}

/// This machine's architecture in Go's words.
pub(super) fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(request: &[(&str, Option<&str>)]) -> BuildArgs {
        let build_args = request.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect();
        BuildArgs::predefined(&BuildOptions { build_args, ..BuildOptions::default() })
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_request_beats_the_stage_beats_the_file() {
        let mut args = args(&[("R", Some("request")), ("UNSET", None)]);
        for name in ["R", "S", "G"] {
            args.declare_global(name, some("global"));
        }
        assert_eq!(args.value("G"), None, "a stage sees only what it declares");
        args.declare("R", some("stage"));
        args.declare("S", some("stage"));
        args.declare("G", None);
        args.declare("UNSET", None);
        let values: Vec<_> = args.values().collect();
        let expected = [("G", "global"), ("R", "request"), ("S", "stage")];
        assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(args.global("R"), some("request"));
    }

    #[test]
    fn proxies_need_no_declaration() {
        let mut args = args(&[("HTTP_PROXY", Some("p")), ("x", Some("1"))]);
        assert_eq!(args.values().collect::<Vec<_>>(), [("HTTP_PROXY".to_owned(), "p".to_owned())]);
        assert!(!args.is_recorded("HTTP_PROXY"));
        args.declare("HTTP_PROXY", None);
        assert!(args.is_recorded("HTTP_PROXY"));
        assert_eq!(args.unused(std::iter::empty()), ["x"]);
    }

    #[test]
    fn platforms_have_to_be_declared() {
        let mut args = args(&[]);
        assert_eq!(args.value("TARGETOS"), None);
        assert_eq!(args.global("TARGETOS"), some("linux"));
        args.declare("TARGETOS", None);
        assert_eq!(args.value("TARGETOS"), some("linux"));
    }
}
