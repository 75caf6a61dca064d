//! Manifests: stored and served byte for byte.

use dockwright_store::{Document, ManifestReference, PutManifestError, digest::Digest, reference};
use http::{HeaderMap, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{
    Registry,
    blobs::CONTENT_DIGEST,
    respond::{self, Failure, Response},
};
use crate::{
    blocking::blocking,
    protocol::{ErrorCode, MANIFEST_MAX_BYTES},
};

const INDEX: &str = dockwright_store::manifest::media_type::OCI_INDEX;
const OCI_SUBJECT: header::HeaderName = header::HeaderName::from_static("oci-subject");
const OCI_TAG: header::HeaderName = header::HeaderName::from_static("oci-tag");
const OCI_FILTERS_APPLIED: header::HeaderName = header::HeaderName::from_static("oci-filters-applied");
/// Tags of one push by digest.
const TAGS_MAX: usize = 50;

impl Registry {
    pub(super) async fn manifest(
        &self,
        repository: &str,
        reference: &ManifestReference,
        request: Request<Incoming>,
    ) -> Result<Response, Failure> {
        match *request.method() {
            Method::GET | Method::HEAD => self.get_manifest(repository, reference, request.headers()).await,
            Method::PUT => self.put_manifest(repository, reference, request).await,
            Method::DELETE => self.delete_manifest(repository, reference).await,
            _ => Err(Failure::new(ErrorCode::Unsupported, "a manifest can be read, written and deleted")),
        }
    }

    async fn get_manifest(&self, repository: &str, reference: &ManifestReference, headers: &HeaderMap) -> Result<Response, Failure> {
        let (store, name, wanted) = (self.store.clone(), repository.to_owned(), reference.clone());
        let found = blocking(move || match store.manifest(&name, &wanted)? {
            Some(stored) => Ok::<_, dockwright_store::StoreError>(store.read_blob(&stored.digest)?.map(|bytes| (stored, bytes))),
            None => Ok(None),
        });
        let (stored, bytes) = found.await?.ok_or_else(|| unknown(repository, reference))?;
        if !accepts(headers, &stored.media_type) {
            let message = format!("the manifest is of type `{}`, which the request does not accept", stored.media_type);
            return Err(Failure::new(ErrorCode::ManifestUnknown, message));
        }
        let etag = format!("\"{}\"", stored.digest);
        let unchanged = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes());
        let mut response =
            if unchanged { respond::empty(StatusCode::NOT_MODIFIED) } else { respond::bytes(StatusCode::OK, &stored.media_type, bytes) };
        respond::set(&mut response, CONTENT_DIGEST, &stored.digest.to_string());
        respond::set(&mut response, header::ETAG, &etag);
        Ok(response)
    }

    async fn put_manifest(&self, repository: &str, reference: &ManifestReference, request: Request<Incoming>) -> Result<Response, Failure> {
        let invalid = |message: String| Failure::new(ErrorCode::ManifestInvalid, message);
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.and_then(|value| value.split(';').next()).map(|value| value.trim().to_owned());
        let mut tags = tags_of_query(&request)?;
        let bytes = respond::read_body(request.into_body(), MANIFEST_MAX_BYTES, "the manifest").await?;
        let document = Document::parse(bytes, content_type.as_deref()).map_err(|error| invalid(chain(&error)))?;
        match reference {
            ManifestReference::Tag(tag) => tags.push(tag.clone()),
            ManifestReference::Digest(digest) if *digest != document.digest() => {
                return Err(Failure::new(ErrorCode::DigestInvalid, format!("the manifest is {}", document.digest())));
            }
            ManifestReference::Digest(_) => {}
        }
        let subject = match &document {
            Document::Manifest(manifest) => manifest.subject.as_ref(),
            Document::Index(index) => index.subject.as_ref(),
        };
        let subject = subject.map(|subject| subject.digest);
        let (store, name, pointed) = (self.store.clone(), repository.to_owned(), tags.clone());
        let digest = match blocking(move || store.put_manifest(&name, &document, &pointed)).await {
            Ok(digest) => digest,
            Err(PutManifestError::Store(error)) => return Err(error.into()),
            Err(error @ PutManifestError::MissingContent { .. }) => {
                let message = error.to_string();
                let PutManifestError::MissingContent { missing, .. } = error else { unreachable!("matched above") };
                let detail: Vec<Value> = missing.iter().map(|digest| json!({ "digest": digest })).collect();
                return Err(Failure::new(ErrorCode::ManifestBlobUnknown, message).with_detail(Value::Array(detail)));
            }
        };
        let mut response = respond::empty(StatusCode::CREATED);
        respond::set(&mut response, header::LOCATION, &format!("/v2/{repository}/manifests/{digest}"));
        respond::set(&mut response, CONTENT_DIGEST, &digest.to_string());
        if let Some(subject) = subject {
            respond::set(&mut response, OCI_SUBJECT, &subject.to_string());
        }
        if matches!(reference, ManifestReference::Digest(_)) && !tags.is_empty() {
            respond::set(&mut response, OCI_TAG, &tags.join(", "));
        }
        Ok(response)
    }

    async fn delete_manifest(&self, repository: &str, reference: &ManifestReference) -> Result<Response, Failure> {
        let (store, name, wanted) = (self.store.clone(), repository.to_owned(), reference.clone());
        let deleted = blocking(move || match wanted {
            ManifestReference::Tag(tag) => store.delete_tag(&name, &tag),
            ManifestReference::Digest(digest) => store.delete_manifest(&name, &digest),
        });
        if deleted.await? { Ok(respond::empty(StatusCode::ACCEPTED)) } else { Err(unknown(repository, reference)) }
    }

    /// Lists the manifests that say something about another one.
    pub(super) async fn referrers(&self, repository: &str, subject: &Digest, request: &Request<Incoming>) -> Result<Response, Failure> {
        let query = respond::query(request.uri());
        let wanted = respond::parameter(&query, "artifactType").map(ToOwned::to_owned);
        let (store, name, subject) = (self.store.clone(), repository.to_owned(), *subject);
        let found = blocking(move || -> Result<Vec<Value>, dockwright_store::StoreError> {
            let mut descriptors = Vec::new();
            for referrer in store.referrers(&name, &subject)? {
                if let Some(bytes) = store.read_blob(&referrer.digest)? {
                    descriptors.push(describe(&referrer, &bytes));
                }
            }
            Ok(descriptors)
        });
        let mut manifests = found.await?;
        if let Some(wanted) = &wanted {
            manifests.retain(|descriptor| descriptor["artifactType"] == wanted.as_str());
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let mut response = respond::bytes(StatusCode::OK, INDEX, index.to_string().into_bytes());
        if wanted.is_some() {
            respond::set(&mut response, OCI_FILTERS_APPLIED, "artifactType");
        }
        Ok(response)
    }
}

/// The descriptor of a referrer: with its artifact type (its own, or that of its configuration) and all annotations.
fn describe(referrer: &dockwright_store::StoredManifest, bytes: &[u8]) -> Value {
    let manifest: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let mut descriptor = json!({ "mediaType": referrer.media_type, "digest": referrer.digest, "size": bytes.len() });
    let artifact_type = [&manifest["artifactType"], &manifest["config"]["mediaType"]].into_iter().find(|value| value.is_string());
    if let Some(artifact_type) = artifact_type {
        descriptor["artifactType"] = artifact_type.clone();
    }
    if manifest["annotations"].is_object() {
        descriptor["annotations"] = manifest["annotations"].clone();
    }
    descriptor
}

fn tags_of_query(request: &Request<Incoming>) -> Result<Vec<String>, Failure> {
    let tags: Vec<String> = respond::query(request.uri()).into_iter().filter(|(key, _)| key == "tag").map(|(_, tag)| tag).collect();
    if tags.len() > TAGS_MAX {
        let failure = Failure::new(ErrorCode::TagInvalid, format!("more than {TAGS_MAX} tags in one request"));
        return Err(failure.with_status(StatusCode::URI_TOO_LONG));
    }
    for tag in &tags {
        reference::validate_tag(tag).map_err(|error| Failure::new(ErrorCode::TagInvalid, error.to_string()))?;
    }
    Ok(tags)
}

/// No list, or one with a wildcard, accepts everything. Only an explicit list without the type does not, which is what Docker's own
/// client relies on.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let values: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let types = || values.iter().flat_map(|value| value.split(',')).map(|item| item.split(';').next().unwrap_or(item).trim());
    values.is_empty() || types().any(|accepted| accepted == media_type || accepted == "*/*" || accepted == "application/*")
}

fn unknown(repository: &str, reference: &ManifestReference) -> Failure {
    let reference = match reference {
        ManifestReference::Tag(tag) => format!("tag `{tag}`"),
        ManifestReference::Digest(digest) => format!("manifest {digest}"),
    };
    Failure::new(ErrorCode::ManifestUnknown, format!("repository `{repository}` has no {reference}"))
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
