//! Image names as people write them, in Docker's normal form.
//!
//! `busybox` means `docker.io/library/busybox:latest`. The full form is what is stored and compared; the *familiar* form is what is shown.
//! The grammar is the one of distribution/reference, including its odd rule for what counts as a host: a first component with a dot, a
//! colon or an upper-case letter, or `localhost`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, ParseDigestError};

/// The registry meant when a name has no host.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const NAME_MAX_BYTES: usize = 255;
const TAG_MAX_BYTES: usize = 128;

/// The name of an image: registry, repository, and a tag or a digest or both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an [`ImageRef`]. The texts begin as Docker's do, because scripts look for them.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseImageRefError {
    /// Nothing was given.
    #[error("invalid reference format: the image name is empty")]
    Empty,
    /// A character or separator is out of place in the name.
    #[error("invalid reference format: `{0}` is not an image name")]
    Name(String),
    /// Docker wants lower case after the host.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The host part is malformed.
    #[error("invalid reference format: `{0}` is not a registry host")]
    Host(String),
    /// The tag is malformed.
    #[error("invalid reference format: `{0}` is not a tag")]
    Tag(String),
    /// The part after `@` is no digest.
    #[error("invalid reference format: {0}")]
    Digest(#[from] ParseDigestError),
    /// The name is longer than registries accept.
    #[error("repository name must not be more than {NAME_MAX_BYTES} characters")]
    TooLong,
    /// 64 hexadecimal digits name an image by identifier, not a repository.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
}

impl ImageRef {
    /// Makes a reference from parts that were split elsewhere, for instance by an API with separate `repo` and `tag` parameters.
    pub fn with_name_and_tag(name: &str, tag: Option<&str>) -> Result<Self, ParseImageRefError> {
        let parsed: Self = name.parse()?;
        match tag {
            Some(tag) if !tag.is_empty() => parsed.with_tag(tag),
            _ => Ok(parsed),
        }
    }

    /// Returns the registry's host, with its port if any: `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the path at the registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag; absent when only a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns registry and repository without tag and digest: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Returns the name as Docker shows it: `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        match self.repository.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// Returns the whole reference as Docker shows it: `busybox:latest`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.suffix())
    }

    /// Returns what names the manifest at the registry: the digest if there is one, else the tag.
    pub fn manifest_reference(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// Returns the same repository with another tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ParseImageRefError> {
        validate_tag(tag)?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// Returns the same repository named by digest only.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{tag}{digest}")
    }
}

impl FromStr for ImageRef {
    type Err = ParseImageRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ParseImageRefError::Empty);
        }
        if Digest::from_hex(text).is_ok() {
            return Err(ParseImageRefError::Identifier(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if let Some(tag) = tag {
            validate_tag(tag)?;
        }
        let (registry, repository) = split_registry(name)?;
        if registry.len() + 1 + repository.len() > NAME_MAX_BYTES {
            return Err(ParseImageRefError::TooLong);
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
        Ok(Self { registry, repository, tag, digest })
    }
}

/// The colon of a tag comes after the last slash; one before it belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let path_start = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[path_start..].find(':') {
        Some(colon) => (&text[..path_start + colon], Some(&text[path_start + colon + 1..])),
        None => (text, None),
    }
}

fn split_registry(name: &str) -> Result<(String, String), ParseImageRefError> {
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    validate_host(registry)?;
    let registry = if registry == LEGACY_DEFAULT_REGISTRY { DEFAULT_REGISTRY } else { registry };
    let official = registry == DEFAULT_REGISTRY && !path.contains('/');
    let repository = if official { format!("{OFFICIAL_PREFIX}{path}") } else { path.to_owned() };
    validate_repository(&repository)?;
    Ok((registry.to_owned(), repository))
}

fn is_host(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':']) || component.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn validate_host(host: &str) -> Result<(), ParseImageRefError> {
    let invalid = || ParseImageRefError::Host(host.to_owned());
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or_else(invalid)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
            (None, after.strip_prefix(':').or((!after.is_empty()).then_some("")))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    let name_is_valid = name.is_none_or(|name| name.split('.').all(is_host_label));
    let port_is_valid = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    if name_is_valid && port_is_valid { Ok(()) } else { Err(invalid()) }
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Checks a repository's path, without a host: components of `[a-z0-9]+` joined by `.`, `_`, `__` or dashes.
pub fn validate_repository(path: &str) -> Result<(), ParseImageRefError> {
    if path.len() > NAME_MAX_BYTES {
        return Err(ParseImageRefError::TooLong);
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ParseImageRefError::Uppercase(path.to_owned()));
    }
    if path.split('/').all(is_path_component) { Ok(()) } else { Err(ParseImageRefError::Name(path.to_owned())) }
}

fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends_well = |byte: Option<&u8>| byte.is_some_and(|byte| is_alphanumeric(*byte));
    let bytes = component.as_bytes();
    let separators = component.split(|character: char| character.is_ascii_alphanumeric()).filter(|run| !run.is_empty());
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.iter().all(|byte| is_alphanumeric(*byte) || b"._-".contains(byte))
        && separators.into_iter().all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}

/// Checks a tag: a word character, then up to 127 word characters, dots and dashes.
pub fn validate_tag(tag: &str) -> Result<(), ParseImageRefError> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let valid = tag.len() <= TAG_MAX_BYTES
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-');
    if valid { Ok(()) } else { Err(ParseImageRefError::Tag(tag.to_owned())) }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name(), self.suffix())
    }
}

impl fmt::Debug for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check(text: &str, full: &str, familiar: &str) {
        let reference: ImageRef = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar), "{text}");
    }

    #[test]
    fn normalises_as_docker_does() {
        check("busybox", "docker.io/library/busybox:latest", "busybox:latest");
        check("docker:19.03.12", "docker.io/library/docker:19.03.12", "docker:19.03.12");
        check("user/app", "docker.io/user/app:latest", "user/app:latest");
        check("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest");
        check("docker.io/library/busybox:1", "docker.io/library/busybox:1", "busybox:1");
        check("localhost/app", "localhost/app:latest", "localhost/app:latest");
        check("localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t");
        check("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest");
        check("registry.example.com/g/p/i", "registry.example.com/g/p/i:latest", "registry.example.com/g/p/i:latest");
        check(&format!("busybox@{DIGEST}"), &format!("docker.io/library/busybox@{DIGEST}"), &format!("busybox@{DIGEST}"));
        check(&format!("a/b:t@{DIGEST}"), &format!("docker.io/a/b:t@{DIGEST}"), &format!("a/b:t@{DIGEST}"));
        check("a--b__c.d_e", "docker.io/library/a--b__c.d_e:latest", "a--b__c.d_e:latest");
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, expected) in [
            ("", "invalid reference format: the image name is empty"),
            ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
            ("a b", "invalid reference format: `library/a b` is not an image name"),
            ("a:b:c", "invalid reference format: `b:c` is not a tag"),
            ("a:", "invalid reference format: `` is not a tag"),
            ("/a", "invalid reference format: `/a` is not an image name"),
            ("host:/a", "invalid reference format: `host:` is not a registry host"),
            ("a___b", "invalid reference format: `library/a___b` is not an image name"),
            ("a@sha256:12", "invalid reference format: digest `12` is not 64 lower-case hexadecimal digits"),
        ] {
            assert_eq!(text.parse::<ImageRef>().unwrap_err().to_string(), expected, "{text}");
        }
        assert!(matches!(DIGEST[7..].parse::<ImageRef>(), Err(ParseImageRefError::Identifier(_))));
        assert!(matches!("a".repeat(300).parse::<ImageRef>(), Err(ParseImageRefError::TooLong)));
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(
            host in prop_oneof![Just(String::new()), "[a-z]{1,8}\\.[a-z]{2,3}(:[0-9]{1,5})?/"],
            // No separator in the first component: a dot there makes it a host.
            path in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}([._-][a-z0-9]{1,5}){0,2}){0,3}",
            tag in prop_oneof![Just(String::new()), ":[A-Za-z0-9_][A-Za-z0-9._-]{0,20}"],
            by_digest in any::<bool>(),
        ) {
            let digest = if by_digest { format!("@{DIGEST}") } else { String::new() };
            if let Ok(reference) = format!("{host}{path}{tag}{digest}").parse::<ImageRef>() {
                prop_assert_eq!(&reference.to_string().parse::<ImageRef>().unwrap(), &reference);
                prop_assert_eq!(&reference.familiar().parse::<ImageRef>().unwrap(), &reference);
            } else {
                // The only generated names that are refused are bare 64-digit identifiers, which this grammar cannot reach.
                prop_assert!(false, "refused {host}{path}{tag}{digest}");
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = text.parse::<ImageRef>();
        }
    }
}
