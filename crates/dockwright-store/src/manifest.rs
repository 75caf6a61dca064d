//! Manifests and indexes, Docker schema 2 and OCI.
//!
//! A manifest's identity is the digest of its exact bytes, so the bytes are kept and never written again from the parsed fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;

/// The media types of image documents and layers.
pub mod media_type {
    /// Docker's manifest of one image.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's list of manifests by platform.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's compressed layer.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's manifest of before 2016, which nobody can verify; known only to be refused by name.
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    /// As [`DOCKER_SCHEMA1`], signed.
    pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// OCI's manifest of one image or artifact.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI's list of manifests.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI's image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI's uncompressed layer.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI's layer compressed with gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI's layer compressed with zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

    /// Tells whether a layer of this type may be missing from the registry that holds its manifest.
    pub fn is_non_distributable(media_type: &str) -> bool {
        media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
    }
}

/// A pointer to content: type, digest and size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    #[serde(default)]
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// How many bytes there are.
    pub size: u64,
    /// Other places to fetch them from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// For which platform a manifest in an index is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free-form annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Descriptor {
    /// Returns a descriptor with nothing but the three mandatory fields.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            platform: None,
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }
}

/// What a manifest in an index runs on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Platform {
    /// In Go's words: `amd64`.
    pub architecture: String,
    /// In Go's words: `linux`.
    pub os: String,
    /// For instance `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Platform {
    /// Returns the platform this binary was built for.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), ..Self::default() }
    }

    /// Tells whether an image for `self` runs where `host` is. A host without a variant takes any.
    pub fn runs_on(&self, host: &Self) -> bool {
        self.os == host.os && self.architecture == host.architecture && (host.variant.is_none() || self.variant == host.variant)
    }
}

/// Why bytes are no manifest or index.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The bytes are not the JSON of either document.
    #[error("parse a manifest of type `{media_type}`")]
    Parse {
        /// The type that was expected.
        media_type: String,
        /// What was wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The format of before 2016.
    #[error("the manifest has the old format schema 1, which is not supported")]
    Schema1,
    /// A type we do not know.
    #[error("`{0}` is not the type of a manifest")]
    UnknownMediaType(String),
    /// The `Content-Type` and the `mediaType` inside differ.
    #[error("the manifest says it is `{inner}` but was sent as `{outer}`")]
    Mismatch {
        /// What the document says.
        inner: String,
        /// What the sender said.
        outer: String,
    },
    /// An index has no entry for this machine.
    #[error("no matching manifest for {os}/{architecture} in the manifest list entries")]
    NoPlatform {
        /// The operating system asked for.
        os: String,
        /// The architecture asked for.
        architecture: String,
    },
}

/// A manifest of one image, with its bytes as they were received or made.
#[derive(Debug, Clone)]
pub struct Manifest {
    raw: Vec<u8>,
    digest: Digest,
    media_type: String,
    /// The image's configuration.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// The manifest this one says something about.
    pub subject: Option<Descriptor>,
    /// Free-form annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, with its bytes as they were received.
#[derive(Debug, Clone)]
pub struct Index {
    raw: Vec<u8>,
    digest: Digest,
    media_type: String,
    /// The listed manifests.
    pub manifests: Vec<Descriptor>,
    /// The manifest this one says something about.
    pub subject: Option<Descriptor>,
    /// Free-form annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Which of the two families a manifest is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Docker schema 2: what classic clients push.
    Docker,
    /// OCI.
    Oci,
}

/// What a registry may answer for a reference.
#[expect(clippy::large_enum_variant, reason = "one exists at a time, on its way from the wire to the store")]
#[derive(Debug, Clone)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

/// The fields that decide what a document is, in either format.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: Option<u32>,
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestFields {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct IndexFields {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Document {
    /// Reads a document. `content_type` is what the sender called it, without parameters.
    pub fn parse(raw: Vec<u8>, content_type: Option<&str>) -> Result<Self, ManifestError> {
        let media_type = media_type_of(&raw, content_type)?;
        match media_type.as_str() {
            media_type::DOCKER_MANIFEST | media_type::OCI_MANIFEST => Manifest::from_parts(raw, media_type).map(Self::Manifest),
            media_type::DOCKER_LIST | media_type::OCI_INDEX => Index::from_parts(raw, media_type).map(Self::Index),
            media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED => Err(ManifestError::Schema1),
            _ => Err(ManifestError::UnknownMediaType(media_type)),
        }
    }

    /// Returns the exact bytes.
    pub fn raw(&self) -> &[u8] {
        match self {
            Self::Manifest(manifest) => &manifest.raw,
            Self::Index(index) => &index.raw,
        }
    }

    /// Returns the digest of the exact bytes.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Manifest(manifest) => manifest.digest,
            Self::Index(index) => index.digest,
        }
    }

    /// Returns the media type.
    pub fn media_type(&self) -> &str {
        match self {
            Self::Manifest(manifest) => &manifest.media_type,
            Self::Index(index) => &index.media_type,
        }
    }
}

/// The type inside the document wins over an absent or meaningless outer one; two that name different types contradict each other.
fn media_type_of(raw: &[u8], content_type: Option<&str>) -> Result<String, ManifestError> {
    let outer = content_type.filter(|name| name.starts_with("application/vnd."));
    let probe: Probe =
        serde_json::from_slice(raw).map_err(|source| ManifestError::Parse { media_type: outer.unwrap_or("unknown").to_owned(), source })?;
    if probe.schema_version == Some(1) {
        return Err(ManifestError::Schema1);
    }
    match (probe.media_type, outer) {
        (Some(inner), Some(outer)) if inner != outer => Err(ManifestError::Mismatch { inner, outer: outer.to_owned() }),
        (Some(inner), _) => Ok(inner),
        (None, Some(outer)) => Ok(outer.to_owned()),
        // OCI documents may leave `mediaType` out.
        (None, None) => Ok(if probe.manifests.is_some() { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST }.to_owned()),
    }
}

impl Manifest {
    /// Makes the manifest of an image. The bytes depend on the arguments only.
    pub fn build(family: Family, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let media_type = match family {
            Family::Docker => media_type::DOCKER_MANIFEST,
            Family::Oci => media_type::OCI_MANIFEST,
        };
        let fields = ManifestFields {
            schema_version: 2,
            media_type: Some(media_type.to_owned()),
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let raw = serde_json::to_vec_pretty(&fields).expect("a manifest's fields are valid JSON");
        Self::from_fields(raw, media_type.to_owned(), fields)
    }

    fn from_parts(raw: Vec<u8>, media_type: String) -> Result<Self, ManifestError> {
        let fields = serde_json::from_slice(&raw).map_err(|source| ManifestError::Parse { media_type: media_type.clone(), source })?;
        Ok(Self::from_fields(raw, media_type, fields))
    }

    fn from_fields(raw: Vec<u8>, media_type: String, fields: ManifestFields) -> Self {
        let ManifestFields { config, layers, subject, annotations, .. } = fields;
        Self { digest: Digest::of(&raw), raw, media_type, config, layers, subject, annotations }
    }

    /// Returns the exact bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Returns the digest of the exact bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the media type.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }
}

impl Index {
    fn from_parts(raw: Vec<u8>, media_type: String) -> Result<Self, ManifestError> {
        let fields: IndexFields =
            serde_json::from_slice(&raw).map_err(|source| ManifestError::Parse { media_type: media_type.clone(), source })?;
        let IndexFields { manifests, subject, annotations } = fields;
        Ok(Self { digest: Digest::of(&raw), raw, media_type, manifests, subject, annotations })
    }

    /// Returns the exact bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Returns the digest of the exact bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the media type.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// Returns the first manifest that runs on `host`. Entries without a platform are taken only when no entry has one.
    pub fn for_platform(&self, host: &Platform) -> Result<&Descriptor, ManifestError> {
        let matching = self.manifests.iter().find(|entry| entry.platform.as_ref().is_some_and(|platform| platform.runs_on(host)));
        let without_platforms = || self.manifests.first().filter(|_| self.manifests.iter().all(|entry| entry.platform.is_none()));
        matching
            .or_else(without_platforms)
            .ok_or_else(|| ManifestError::NoPlatform { os: host.os.clone(), architecture: host.architecture.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str, content: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(content), content.len() as u64)
    }

    #[test]
    fn a_built_manifest_reads_back_and_keeps_its_digest() {
        let config = descriptor(media_type::DOCKER_CONFIG, b"{}");
        let built = Manifest::build(Family::Docker, config.clone(), vec![descriptor(media_type::DOCKER_LAYER_GZIP, b"layer")]);
        let Document::Manifest(read) = Document::parse(built.raw().to_vec(), Some(media_type::DOCKER_MANIFEST)).unwrap() else {
            panic!("expected a manifest");
        };
        assert_eq!((read.digest(), &read.config, read.layers.len()), (built.digest(), &config, 1));
        // Frozen: a change of key order or indentation changes every digest we push.
        assert_eq!(built.digest().short(), "f9d7f51939c3");
    }

    #[test]
    fn the_entry_for_the_host_is_chosen() {
        let entry = |os: &str, architecture: &str| {
            format!(
                r#"{{"mediaType":"{}","digest":"{}","size":1,"platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#,
                media_type::OCI_MANIFEST,
                Digest::of(architecture.as_bytes())
            )
        };
        let raw = format!(r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#, entry("linux", "arm64"), entry("linux", "amd64"));
        let Document::Index(index) = Document::parse(raw.into_bytes(), None).unwrap() else { panic!("expected an index") };
        let amd64 = Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() };
        assert_eq!(index.for_platform(&amd64).unwrap().digest, Digest::of(b"amd64"));
        let s390x = Platform { architecture: "s390x".into(), ..amd64 };
        assert_eq!(
            index.for_platform(&s390x).unwrap_err().to_string(),
            "no matching manifest for linux/s390x in the manifest list entries"
        );
    }

    #[test]
    fn contradictions_and_old_formats_are_named() {
        let raw = format!(r#"{{"schemaVersion":2,"mediaType":"{}"}}"#, media_type::OCI_INDEX).into_bytes();
        assert!(matches!(Document::parse(raw, Some(media_type::OCI_MANIFEST)), Err(ManifestError::Mismatch { .. })));
        assert!(matches!(Document::parse(br#"{"schemaVersion":1}"#.to_vec(), None), Err(ManifestError::Schema1)));
        assert!(matches!(Document::parse(b"[".to_vec(), None), Err(ManifestError::Parse { .. })));
    }
}
