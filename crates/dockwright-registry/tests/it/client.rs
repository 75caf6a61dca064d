//! Our client against our server.

use dockwright_registry::{Client, ClientOptions, Credentials, client::ErrorKind, local};
use dockwright_store::{Depth, ManifestReference};
use dockwright_testing::requires;

use crate::support::{BreakingProxy, Fixture, Lines, image, reference, silent};

#[tokio::test]
async fn an_image_goes_there_and_comes_back() {
    requires!(Root);
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let alice = Credentials::basic("alice", "secret");
    let here = fixture.other_store("here");
    let id = image(&here, &b"content".repeat(100_000));
    let layer = here.image(&id).unwrap().unwrap().layers[0];
    let blob = here.compressed_layer(&layer).unwrap().digest;
    let name = reference("registry.test/alice/app:1");
    let lines = Lines::default();

    let pushed = client.push(&here, &id, &name, Some(&alice), &lines.on_progress()).await.unwrap();
    assert_eq!(lines.take(), [format!("{} Preparing", layer.short()), format!("{} Pushed", layer.short())]);
    let again = client.push(&here, &id, &name, Some(&alice), &lines.on_progress()).await.unwrap();
    assert_eq!((again, lines.take()[1].clone()), (pushed, format!("{} Layer already exists", layer.short())));
    let mounted = reference("registry.test/alice/other:1");
    client.push(&here, &id, &mounted, Some(&alice), &lines.on_progress()).await.unwrap();
    assert_eq!(lines.take()[1], format!("{} Mounted from alice/app", layer.short()));

    let there = fixture.other_store("there");
    let pulled = client.pull(&there, &name, None, Some(&alice), &lines.on_progress()).await.unwrap();
    assert_eq!((pulled.image, pulled.digest, pulled.changed), (id, pushed.digest, true));
    assert_eq!(
        lines.take(),
        [
            "1 Pulling from alice/app".to_owned(),
            format!("{} Pulling fs layer", blob.short()),
            format!("{} Verifying Checksum", blob.short()),
            format!("{} Download complete", blob.short()),
            format!("{} Extracting", blob.short()),
            format!("{} Pull complete", blob.short()),
            format!(" Digest: {}", pushed.digest),
        ]
    );
    let by_digest = reference(&format!("registry.test/alice/app@{}", pushed.digest));
    assert!(!client.pull(&there, &by_digest, None, Some(&alice), &silent()).await.unwrap().changed);
    assert_eq!(there.image(&id).unwrap().unwrap().layers, [layer]);
    assert_eq!(there.verify(Depth::Digests).unwrap(), []);
    assert_eq!(fixture.store.verify(Depth::Digests).unwrap(), []);
    assert_eq!(client.tags(&name, Some(&alice)).await.unwrap(), ["1"]);
    assert_eq!(client.inspect(&name, Some(&alice)).await.unwrap().descriptor.digest, pushed.digest);
    fixture.stop().await;
}

#[tokio::test]
async fn pulls_at_once_download_once() {
    requires!(Root);
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let id = image(&fixture.store, b"shared");
    local::push_local(&fixture.store, &id, "public/app", "1").unwrap();
    let there = fixture.other_store("there");
    let lines = Lines::default();
    let name = reference("registry.test/public/app:1");
    let on_progress = lines.on_progress();
    let pull = || client.pull(&there, &name, None, None, &on_progress);
    let (first, second, third) = tokio::join!(pull(), pull(), pull());
    for pulled in [first, second, third] {
        assert_eq!(pulled.unwrap().image, id);
    }
    let downloads = lines.take().into_iter().filter(|line| line.ends_with("Download complete")).count();
    assert_eq!(downloads, 1);
    fixture.stop().await;
}

#[tokio::test]
async fn on_the_same_host_nothing_is_copied() {
    requires!(Root);
    let fixture = Fixture::start().await;
    let store = &fixture.store;
    let id = image(store, b"local");
    let local::PushedLocally { manifest: pushed, added } = local::push_local(store, &id, "alice/app", "1").unwrap();
    assert_eq!(added.len(), 1);
    let again = local::PushedLocally { manifest: pushed, added: Vec::new() };
    assert_eq!(local::push_local(store, &id, "alice/app", "1").unwrap(), again);
    let tag = ManifestReference::Tag("1".to_owned());
    let pulled = local::pull_local(store, "alice/app", &tag).unwrap().unwrap();
    assert_eq!((pulled.image, pulled.digest, pulled.changed), (id, pushed.digest, false));
    assert_eq!(local::pull_local(store, "alice/none", &tag).unwrap(), None);

    // What another host pushed is unpacked when it is first pulled here.
    let here = fixture.other_store("here");
    let foreign = image(&here, b"foreign");
    let alice = Credentials::basic("alice", "secret");
    fixture.client().push(&here, &foreign, &reference("registry.test/alice/app:2"), Some(&alice), &silent()).await.unwrap();
    let tag = ManifestReference::Tag("2".to_owned());
    let pulled = local::pull_local(store, "alice/app", &tag).unwrap().unwrap();
    assert_eq!((pulled.image, pulled.changed), (foreign, true));
    assert_eq!(store.verify(Depth::Digests).unwrap(), []);
    fixture.stop().await;
}

#[tokio::test]
async fn refusals_have_their_kind() {
    requires!(Root);
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let (alice, bob) = (Credentials::basic("alice", "secret"), Credentials::basic("bob", "hunter2"));
    let wrong = Credentials::basic("alice", "wrong");
    let here = fixture.other_store("here");
    let id = image(&here, b"x");
    let name = reference("registry.test/alice/app:1");
    let push = |credentials| {
        let (client, here, name) = (&client, &here, &name);
        async move { client.push(here, &id, name, credentials, &silent()).await.unwrap_err().kind() }
    };
    assert_eq!(push(Some(&bob)).await, ErrorKind::Forbidden);
    assert_eq!(push(Some(&wrong)).await, ErrorKind::Unauthorized);
    assert_eq!(push(None).await, ErrorKind::Forbidden);
    let error = client.pull(&here, &reference("registry.test/alice/none:1"), None, Some(&alice), &silent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        "manifest for registry.test/alice/none:1 not found: manifest unknown: repository `alice/none` has no tag `1`"
    );

    client.login("registry.test", &alice).await.unwrap();
    let error = client.login("http://registry.test/", &wrong).await.unwrap_err();
    assert_eq!(error.to_string(), "unauthorized: incorrect username or password");

    let address = fixture.address;
    fixture.stop().await;
    let error = Client::new(ClientOptions::default()).unwrap().login(&address.to_string(), &alice).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn loopback_registries_are_spoken_to_over_http() {
    requires!(Root);
    let fixture = Fixture::start().await;
    let client = Client::new(ClientOptions::default()).unwrap();
    let id = image(&fixture.store, b"plain");
    local::push_local(&fixture.store, &id, "public/app", "1").unwrap();
    let there = fixture.other_store("there");
    let name = reference(&format!("{}/public/app:1", fixture.address));
    // The token service names itself by the Host header, so nothing here needs an alias.
    assert_eq!(client.pull(&there, &name, None, None, &silent()).await.unwrap().image, id);
    fixture.stop().await;
}

/// More than a megabyte that does not compress.
fn noise() -> Vec<u8> {
    (0..400_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

#[tokio::test]
async fn broken_connections_are_mended() {
    requires!(Root);
    let fixture = Fixture::start().await;
    let client = Client::new(ClientOptions::default()).unwrap();
    let alice = Credentials::basic("alice", "secret");
    let here = fixture.other_store("here");
    let id = image(&here, &noise());
    let push_proxy = BreakingProxy::start(fixture.address, 200_000).await;
    let name = reference(&format!("{}/alice/app:1", push_proxy.address));
    client.push(&here, &id, &name, Some(&alice), &silent()).await.unwrap();
    assert!(push_proxy.broken() > 0, "nothing was broken off");
    assert_eq!(fixture.store.verify(Depth::Digests).unwrap(), []);

    let pull_proxy = BreakingProxy::start(fixture.address, 200_000).await;
    let name = reference(&format!("{}/alice/app:1", pull_proxy.address));
    let there = fixture.other_store("there");
    assert_eq!(client.pull(&there, &name, None, Some(&alice), &silent()).await.unwrap().image, id);
    assert!(pull_proxy.broken() > 0, "nothing was broken off");
    assert_eq!(there.verify(Depth::Digests).unwrap(), []);
    fixture.stop().await;
}
