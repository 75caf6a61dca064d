//! Paths. Repository names contain slashes, so paths are read from both ends.

use dockwright_store::{ManifestReference, digest::Digest, reference};

use super::respond::Failure;
use crate::protocol::ErrorCode;

/// What a path is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Ping,
    Token,
    Catalog,
    Tags { repository: String },
    Referrers { repository: String, digest: Digest },
    Manifest { repository: String, reference: ManifestReference },
    Blob { repository: String, digest: Digest },
    StartUpload { repository: String },
    Upload { repository: String, id: String },
}

impl Route {
    pub(super) fn of(path: &str) -> Result<Self, Failure> {
        let unknown =
            || Failure::new(ErrorCode::Unsupported, format!("`{path}` is no path of a registry")).with_status(http::StatusCode::NOT_FOUND);
        if path == "/jwt/auth" {
            return Ok(Self::Token);
        }
        let rest = path.strip_prefix("/v2").ok_or_else(unknown)?;
        match rest {
            "" | "/" => return Ok(Self::Ping),
            "/_catalog" => return Ok(Self::Catalog),
            _ => {}
        }
        let parts: Vec<&str> = rest.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            [name @ .., "tags", "list"] => Ok(Self::Tags { repository: repository(name)? }),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                Ok(Self::StartUpload { repository: repository(name)? })
            }
            [name @ .., "blobs", "uploads", id] => Ok(Self::Upload { repository: repository(name)?, id: (*id).to_owned() }),
            [name @ .., "blobs", digest] => Ok(Self::Blob { repository: repository(name)?, digest: parse_digest(digest)? }),
            [name @ .., "manifests", reference] => {
                Ok(Self::Manifest { repository: repository(name)?, reference: manifest_reference(reference)? })
            }
            [name @ .., "referrers", digest] => Ok(Self::Referrers { repository: repository(name)?, digest: parse_digest(digest)? }),
            _ => Err(unknown()),
        }
    }

    /// Returns the repository that the path is about.
    pub(super) fn repository(&self) -> Option<&str> {
        match self {
            Self::Ping | Self::Token | Self::Catalog => None,
            Self::Tags { repository }
            | Self::Referrers { repository, .. }
            | Self::Manifest { repository, .. }
            | Self::Blob { repository, .. }
            | Self::StartUpload { repository }
            | Self::Upload { repository, .. } => Some(repository),
        }
    }
}

fn repository(parts: &[&str]) -> Result<String, Failure> {
    let name = parts.join("/");
    match reference::validate_repository(&name) {
        Ok(()) => Ok(name),
        Err(error) => Err(Failure::new(ErrorCode::NameInvalid, error.to_string())),
    }
}

pub(super) fn parse_digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|error| Failure::new(ErrorCode::DigestInvalid, format!("{error}")))
}

fn manifest_reference(text: &str) -> Result<ManifestReference, Failure> {
    if text.contains(':') {
        return Ok(ManifestReference::Digest(parse_digest(text)?));
    }
    match reference::validate_tag(text) {
        Ok(()) => Ok(ManifestReference::Tag(text.to_owned())),
        Err(error) => Err(Failure::new(ErrorCode::TagInvalid, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_slashes_are_found() {
        let digest = Digest::of(b"");
        let repository = || "group/blobs/app".to_owned();
        assert_eq!(Route::of("/v2/").unwrap(), Route::Ping);
        assert_eq!(Route::of("/v2/group/blobs/app/tags/list").unwrap(), Route::Tags { repository: repository() });
        assert_eq!(Route::of("/v2/group/blobs/app/blobs/uploads/").unwrap(), Route::StartUpload { repository: repository() });
        let upload = Route::Upload { repository: repository(), id: "x".to_owned() };
        assert_eq!(Route::of("/v2/group/blobs/app/blobs/uploads/x").unwrap(), upload);
        assert_eq!(Route::of(&format!("/v2/group/blobs/app/blobs/{digest}")).unwrap(), Route::Blob { repository: repository(), digest });
        let reference = ManifestReference::Tag("1.0".to_owned());
        assert_eq!(Route::of("/v2/group/blobs/app/manifests/1.0").unwrap(), Route::Manifest { repository: repository(), reference });
        for path in ["/", "/v2/A/tags/list", "/v2/a/blobs/sha256:12", "/v2/a", "/v2//tags/list", "/v2/a/manifests/..", "/v2/../x/tags/list"]
        {
            assert!(Route::of(path).is_err(), "{path}");
        }
    }
}
