//! containers/image as a client.

use dockwright_store::{Depth, ManifestReference};
use dockwright_testing::requires;

use crate::support::{Fixture, image};

async fn skopeo(arguments: &[&str]) -> bool {
    let mut command = tokio::process::Command::new("skopeo");
    command.arg("--insecure-policy").args(arguments).status().await.unwrap().success()
}

#[tokio::test]
async fn skopeo_pushes_copies_inspects_and_pulls() {
    requires!(Root, Command("skopeo"));
    let fixture = Fixture::start().await;
    let here = fixture.other_store("here");
    let id = image(&here, b"through skopeo");
    let archive = fixture.dir.path().join("image.tar");
    let exported = dockwright_store::archive::ExportedImage { id, names: vec!["app:1".parse().unwrap()] };
    dockwright_store::archive::export(&here, &[exported], std::fs::File::create(&archive).unwrap()).unwrap();
    let archive = format!("docker-archive:{}", archive.display());
    let remote = |repository: &str| format!("docker://{}/{repository}", fixture.address);
    let (first, second, denied) = (remote("alice/app:1"), remote("alice/other:2"), remote("bob/app:1"));
    let as_alice = "alice:secret";

    assert!(skopeo(&["copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", as_alice, &archive, &first]).await);
    assert!(!skopeo(&["copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", as_alice, &archive, &denied]).await);
    let copy = ["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds", as_alice, "--dest-creds", as_alice];
    assert!(skopeo(&[copy.as_slice(), &[&first, &second]].concat()).await);
    let inspect = ["inspect", "--tls-verify=false", "--creds", as_alice, "--format", "{{.Digest}}"];
    assert!(skopeo(&[inspect.as_slice(), &[&second]].concat()).await);
    let layout = format!("oci:{}:app", fixture.dir.path().join("layout").display());
    assert!(skopeo(&["copy", "--quiet", "--src-tls-verify=false", "--src-creds", as_alice, &first, &layout]).await);

    let tag = ManifestReference::Tag("1".to_owned());
    let pulled = dockwright_registry::local::pull_local(&fixture.store, "alice/app", &tag).unwrap().unwrap();
    assert_eq!(pulled.image, id);
    assert_eq!(fixture.store.verify(Depth::Digests).unwrap(), []);
    fixture.stop().await;
}
