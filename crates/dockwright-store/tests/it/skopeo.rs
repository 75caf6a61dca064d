//! Archives as containers/image writes and reads them.

use std::{path::Path, process::Command};

use dockwright_store::{RootfsOptions, Store, archive};
use dockwright_testing::requires;

fn skopeo(from: &str, to: &str) {
    let status = Command::new("skopeo").args(["copy", "--quiet", "--insecure-policy", from, to]).status().unwrap();
    assert!(status.success(), "skopeo copy {from} {to}");
}

fn import(path: &Path) -> Vec<archive::ImportedImage> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    archive::import(&store, std::fs::File::open(path).unwrap()).unwrap()
}

#[test]
fn archives_go_through_skopeo_and_back() {
    requires!(Root, Command("skopeo"));
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir("etc", dir.path()).unwrap();
    let id = store.import_rootfs(builder.into_inner().unwrap().as_slice(), &RootfsOptions::default()).unwrap();
    let name = "docker.io/library/app:1";
    let saved = dir.path().join("saved.tar");
    let exported = archive::ExportedImage { id, names: vec![name.parse().unwrap()] };
    archive::export(&store, &[exported], std::fs::File::create(&saved).unwrap()).unwrap();
    let saved = format!("docker-archive:{}", saved.display());

    let docker = dir.path().join("docker.tar");
    skopeo(&saved, &format!("docker-archive:{}:{name}", docker.display()));
    assert_eq!(import(&docker), [archive::ImportedImage { id, names: vec![name.parse().unwrap()] }]);

    // skopeo rewrites the configuration for OCI, so the identity differs; the layers do not.
    let oci = dir.path().join("oci.tar");
    skopeo(&saved, &format!("oci-archive:{}", oci.display()));
    assert_eq!(import(&oci).len(), 1);
}
