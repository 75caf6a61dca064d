//! The protocol, request by request.

use dockwright_store::{Digest, manifest::media_type};
use serde_json::json;

use crate::{http::Http, support::Fixture};

fn alice(fixture: &Fixture) -> Http {
    Http { address: fixture.address, user: Some(("alice", "secret")) }
}

async fn push_blob(http: Http, repository: &str, content: &[u8]) -> Digest {
    let digest = Digest::of(content);
    let answer = http.send("POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}"), &[], content).await;
    assert_eq!(answer.status, 201);
    digest
}

fn manifest(config: &Digest, size: usize) -> Vec<u8> {
    let config = json!({ "mediaType": media_type::OCI_CONFIG, "digest": config, "size": size });
    json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [] }).to_string().into_bytes()
}

async fn push_manifest(http: Http, repository: &str, reference: &str, bytes: &[u8]) -> crate::http::Answer {
    http.send("PUT", &format!("/v2/{repository}/manifests/{reference}"), &[("Content-Type", media_type::OCI_MANIFEST)], bytes).await
}

#[tokio::test]
async fn an_upload_in_chunks() {
    let fixture = Fixture::start().await;
    let http = alice(&fixture);
    let started = http.send("POST", "/v2/alice/app/blobs/uploads/", &[], b"").await;
    assert_eq!((started.status, started.header("range")), (202, "0-0"));
    let location = started.header("location").to_owned();

    let first = http.send("PATCH", &location, &[("Content-Range", "0-4")], b"hello").await;
    assert_eq!((first.status, first.header("range")), (202, "0-4"));
    let again = http.send("PATCH", &location, &[("Content-Range", "0-4")], b"hello").await;
    assert_eq!((again.status, again.code().as_str(), again.header("range")), (416, "RANGE_INVALID", "0-4"));
    let status = http.get(&location).await;
    assert_eq!((status.status, status.header("range")), (204, "0-4"));

    let digest = Digest::of(b"hello world");
    let done = http.send("PUT", &format!("{location}?digest={digest}"), &[("Content-Range", "5-10")], b" world").await;
    assert_eq!((done.status, done.header("docker-content-digest")), (201, digest.to_string().as_str()));
    assert_eq!(http.get(done.header("location")).await.body, b"hello world");
    assert_eq!(http.get(&location).await.code(), "BLOB_UPLOAD_UNKNOWN");
    fixture.stop().await;
}

#[tokio::test]
async fn uploads_that_go_wrong() {
    let fixture = Fixture::start().await;
    let http = alice(&fixture);
    let start = || async { http.send("POST", "/v2/alice/app/blobs/uploads/", &[], b"").await.header("location").to_owned() };
    let location = start().await;
    let wrong = http.send("PUT", &format!("{location}?digest={}", Digest::of(b"other")), &[], b"content").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(http.get(&location).await.status, 404);
    assert_eq!(http.get(&format!("/v2/alice/app/blobs/{}", Digest::of(b"content"))).await.code(), "BLOB_UNKNOWN");

    let location = start().await;
    assert_eq!(http.send("PUT", &location, &[], b"x").await.code(), "DIGEST_INVALID");
    assert_eq!(http.send("PUT", &format!("{location}?digest=sha512:00"), &[], b"x").await.code(), "DIGEST_INVALID");
    assert_eq!(http.send("PATCH", &location, &[("Content-Range", "nonsense")], b"x").await.code(), "BLOB_UPLOAD_INVALID");
    // Somebody else who may push to a repository of the same registry does not own the upload.
    let bob = Http { user: Some(("bob", "hunter2")), ..http };
    assert_eq!(bob.get(&location.replace("alice/", "bob/")).await.code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(http.send("DELETE", &location, &[], b"").await.status, 204);
    assert_eq!(http.send("DELETE", &location, &[], b"").await.status, 404);
    fixture.stop().await;
}

#[tokio::test]
async fn parts_of_blobs() {
    let fixture = Fixture::start().await;
    let http = alice(&fixture);
    let digest = push_blob(http, "alice/app", b"0123456789").await;
    let path = format!("/v2/alice/app/blobs/{digest}");
    let head = http.send("HEAD", &path, &[], b"").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "10", 0));
    for (range, status, body, content_range) in [
        ("bytes=2-4", 206, b"234".as_slice(), "bytes 2-4/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
        ("items=1-2", 200, b"0123456789", ""),
    ] {
        let answer = http.send("GET", &path, &[("Range", range)], b"").await;
        assert_eq!((answer.status, answer.body.as_slice(), answer.header("content-range")), (status, body, content_range), "{range}");
    }
    let beyond = http.send("GET", &path, &[("Range", "bytes=10-")], b"").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */10"));
    assert_eq!(http.send("DELETE", &path, &[], b"").await.status, 202);
    assert_eq!(http.get(&path).await.status, 404);
    fixture.stop().await;
}

#[tokio::test]
async fn manifests_and_tags() {
    let fixture = Fixture::start().await;
    let http = alice(&fixture);
    let missing = push_manifest(http, "alice/app", "1", &manifest(&Digest::of(b"{}"), 2)).await;
    assert_eq!((missing.status, missing.code().as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(http.get("/v2/alice/app/tags/list").await.code(), "NAME_UNKNOWN");

    let config = push_blob(http, "alice/app", b"{}").await;
    let bytes = manifest(&config, 2);
    let digest = Digest::of(&bytes);
    for tag in ["1", "2", "10"] {
        let put = push_manifest(http, "alice/app", tag, &bytes).await;
        assert_eq!((put.status, put.header("docker-content-digest")), (201, digest.to_string().as_str()));
    }
    let by_digest = push_manifest(http, "alice/app", &format!("{digest}?tag=a&tag=b"), &bytes).await;
    assert_eq!((by_digest.status, by_digest.header("oci-tag")), (201, "a, b"));
    let get = http.get("/v2/alice/app/manifests/10").await;
    assert_eq!((get.header("content-type"), get.body.as_slice()), (media_type::OCI_MANIFEST, bytes.as_slice()));
    let narrow = http.send("GET", "/v2/alice/app/manifests/10", &[("Accept", media_type::DOCKER_MANIFEST)], b"").await;
    assert_eq!(narrow.code(), "MANIFEST_UNKNOWN");

    let list = http.get("/v2/alice/app/tags/list?n=2").await;
    assert_eq!(list.json()["tags"], json!(["1", "10"]));
    assert_eq!(list.header("link"), r#"</v2/alice/app/tags/list?n=2&last=10>; rel="next""#);
    assert_eq!(http.get("/v2/alice/app/tags/list?last=10").await.json()["tags"], json!(["2", "a", "b"]));
    let none = http.get("/v2/alice/app/tags/list?n=0").await;
    assert_eq!((none.json()["tags"].clone(), none.header("link")), (json!([]), ""));
    assert_eq!(http.get("/v2/alice/app/tags/list?n=x").await.code(), "PAGINATION_NUMBER_INVALID");
    assert_eq!(http.get("/v2/_catalog").await.json(), json!({ "repositories": ["alice/app"] }));
    assert_eq!(Http { user: Some(("bob", "hunter2")), ..http }.get("/v2/_catalog").await.json(), json!({ "repositories": [] }));

    assert_eq!(http.send("DELETE", "/v2/alice/app/manifests/a", &[], b"").await.status, 202);
    assert_eq!(http.get(&format!("/v2/alice/app/manifests/{digest}")).await.status, 200);
    assert_eq!(http.send("DELETE", &format!("/v2/alice/app/manifests/{digest}"), &[], b"").await.status, 202);
    assert_eq!(http.get("/v2/alice/app/manifests/1").await.code(), "MANIFEST_UNKNOWN");
    assert_eq!(http.get("/v2/alice/app/tags/list").await.json()["tags"], json!([]));
    fixture.stop().await;
}

#[tokio::test]
async fn referrers_are_found() {
    let fixture = Fixture::start().await;
    let http = alice(&fixture);
    let config = push_blob(http, "alice/app", b"{}").await;
    let subject = Digest::of(b"not pushed yet");
    let mut document: serde_json::Value = serde_json::from_slice(&manifest(&config, 2)).unwrap();
    document["subject"] = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 1 });
    document["artifactType"] = json!("application/x.sbom");
    document["annotations"] = json!({ "key": "value" });
    let put = push_manifest(http, "alice/app", "sbom", document.to_string().as_bytes()).await;
    assert_eq!((put.status, put.header("oci-subject")), (201, subject.to_string().as_str()));
    let path = format!("/v2/alice/app/referrers/{subject}");
    let found = http.get(&path).await.json();
    assert_eq!(found["manifests"][0]["artifactType"], "application/x.sbom");
    assert_eq!(found["manifests"][0]["annotations"]["key"], "value");
    let filtered = http.get(&format!("{path}?artifactType=other")).await;
    assert_eq!((filtered.json()["manifests"].clone(), filtered.header("oci-filters-applied")), (json!([]), "artifactType"));
    assert_eq!(http.get(&format!("/v2/alice/none/referrers/{subject}")).await.json()["manifests"], json!([]));
    fixture.stop().await;
}

#[tokio::test]
async fn presence_is_not_permission() {
    let fixture = Fixture::start().await;
    let http = alice(&fixture);
    let bob = Http { user: Some(("bob", "hunter2")), ..http };
    let digest = push_blob(http, "alice/app", b"private").await;
    assert_eq!(bob.get(&format!("/v2/alice/app/blobs/{digest}")).await.code(), "DENIED");
    assert_eq!(bob.get(&format!("/v2/bob/app/blobs/{digest}")).await.code(), "BLOB_UNKNOWN");
    for mount in [format!("mount={digest}&from=alice/app"), format!("mount={digest}")] {
        let answer = bob.send("POST", &format!("/v2/bob/app/blobs/uploads/?{mount}"), &[], b"").await;
        assert_eq!(answer.status, 202, "a session instead of the blob: {mount}");
        assert_eq!(bob.get(&format!("/v2/bob/app/blobs/{digest}")).await.status, 404);
    }
    // Who may read it mounts it, with or without saying from where; who has the bytes uploads them.
    for mount in [format!("mount={digest}&from=alice/app"), format!("mount={digest}")] {
        let answer = http.send("POST", &format!("/v2/alice/other/blobs/uploads/?{mount}"), &[], b"").await;
        assert_eq!((answer.status, answer.header("docker-content-digest")), (201, digest.to_string().as_str()));
    }
    assert_eq!(http.get(&format!("/v2/alice/other/blobs/{digest}")).await.body, b"private");
    push_blob(bob, "bob/app", b"private").await;
    assert_eq!(bob.get(&format!("/v2/bob/app/blobs/{digest}")).await.body, b"private");
    fixture.stop().await;
}

#[tokio::test]
async fn tokens_follow_gitlabs_rules() {
    let fixture = Fixture::start().await;
    let http = alice(&fixture);
    let anonymous = Http { user: None, ..http };
    let challenge = anonymous.get("/v2/alice/app/tags/list").await;
    assert_eq!(
        (challenge.status, challenge.header("www-authenticate")),
        (401, r#"Bearer realm="http://registry.test/jwt/auth",service="container_registry",scope="repository:alice/app:pull""#)
    );
    assert_eq!(anonymous.get("/v2/").await.status, 401);
    assert_eq!(http.get("/v2/").await.status, 200);
    let wrong = Http { user: Some(("alice", "wrong")), ..http };
    assert_eq!((wrong.get("/jwt/auth").await.status, wrong.get("/v2/").await.status), (401, 401));
    assert_eq!(anonymous.get("/jwt/auth?scope=repository:alice/app:pull").await.code(), "DENIED");
    assert_eq!(anonymous.get("/jwt/auth?scope=repository:public/app:pull,push").await.status, 200);

    let with_token = |token: String| async move {
        let header = format!("Bearer {token}");
        anonymous.send("GET", "/v2/alice/app/tags/list", &[("Authorization", &header)], b"").await
    };
    let token = http.get("/jwt/auth?service=container_registry&scope=repository:alice/app:pull,push,delete").await.json();
    assert_eq!((token["token"].clone(), token["expires_in"].clone()), (token["access_token"].clone(), json!(300)));
    assert_eq!(with_token(token["token"].as_str().unwrap().to_owned()).await.code(), "NAME_UNKNOWN");
    // A partial grant is no error, and a token is good for what it lists only.
    let other = http.get("/jwt/auth?scope=repository:bob/app:pull").await.json();
    let refused = with_token(other["token"].as_str().unwrap().to_owned()).await;
    assert!(refused.status == 401 && refused.header("www-authenticate").ends_with(r#"error="insufficient_scope""#));
    let forged = with_token("a.b.c".to_owned()).await;
    assert!(forged.status == 401 && forged.header("www-authenticate").ends_with(r#"error="invalid_token""#));

    let form = b"grant_type=password&service=container_registry&username=alice&password=secret&scope=repository:alice/app:pull";
    assert_eq!(anonymous.send("POST", "/jwt/auth", &[], form).await.status, 200);
    assert_eq!(anonymous.send("POST", "/jwt/auth", &[], b"grant_type=refresh_token").await.status, 400);
    fixture.stop().await;
}

#[tokio::test]
async fn nonsense_is_refused() {
    let fixture = Fixture::start().await;
    let http = alice(&fixture);
    for (method, path, status, code) in [
        ("GET", "/", 404, "UNSUPPORTED"),
        ("GET", "/v2/Alice/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/alice/app/manifests/sha256:0", 400, "DIGEST_INVALID"),
        ("GET", "/v2/alice/app/manifests/-x", 400, "TAG_INVALID"),
        ("POST", "/v2/alice/app/manifests/x", 405, "UNSUPPORTED"),
        ("PUT", "/v2/alice/app/manifests/x", 400, "MANIFEST_INVALID"),
    ] {
        let answer = http.send(method, path, &[], b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
    }
    let schema1 = http.send("PUT", "/v2/alice/app/manifests/x", &[], br#"{"schemaVersion":1}"#).await;
    assert!(String::from_utf8_lossy(&schema1.body).contains("old format schema 1"));
    fixture.stop().await;
}
