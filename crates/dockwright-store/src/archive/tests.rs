//! Archives survive the round trip; other tools' archives are covered by the integration tests.

use dockwright_testing::requires;

use super::*;
use crate::{Depth, RootfsOptions, manifest::media_type};

/// A tar of one file, as a root file system.
fn rootfs(content: &[u8]) -> Vec<u8> {
    archive_of(&[("file", content)])
}

fn archive_of(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

#[test]
fn what_is_exported_imports_to_the_same_images() {
    requires!(Root);
    let (_a, from) = store();
    let first = from.import_rootfs(rootfs(b"one").as_slice(), &RootfsOptions::default()).unwrap();
    let comment = RootfsOptions { comment: Some("other".to_owned()), ..RootfsOptions::default() };
    let second = from.import_rootfs(rootfs(b"one").as_slice(), &comment).unwrap();
    let names: Vec<ImageRef> = vec!["app:1".parse().unwrap(), "registry.example.com/app:2".parse().unwrap()];
    let images = [ExportedImage { id: first, names: names.clone() }, ExportedImage { id: second, names: Vec::new() }];
    let mut bytes = Vec::new();
    export(&from, &images, &mut bytes).unwrap();

    let (_b, to) = store();
    let imported = import(&to, bytes.as_slice()).unwrap();
    assert_eq!(imported, [ImportedImage { id: first, names }, ImportedImage { id: second, names: Vec::new() }]);
    assert_eq!(to.image(&first).unwrap().unwrap().layers, from.image(&first).unwrap().unwrap().layers);
    let mut again = Vec::new();
    export(&to, &images, &mut again).unwrap();
    assert_eq!(again, bytes);
    assert_eq!(to.verify(Depth::Digests).unwrap(), []);
}

#[test]
fn an_oci_layout_is_read_with_its_names() {
    requires!(Root);
    let (_dir, store) = store();
    let layer = rootfs(b"two");
    let config = format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, Digest::of(&layer));
    let descriptor = |media_type: &str, bytes: &[u8]| {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len())
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        descriptor(media_type::OCI_CONFIG, config.as_bytes()),
        descriptor(media_type::OCI_LAYER, &layer),
    );
    let entry = descriptor(media_type::OCI_MANIFEST, manifest.as_bytes());
    let named = format!(r#"{},"annotations":{{"io.containerd.image.name":"docker.io/library/app:1"}}}}"#, &entry[..entry.len() - 1]);
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{named}]}}"#);
    let part = |bytes: &[u8]| blob_part(&Digest::of(bytes));
    let parts = [
        (part(&layer), layer.as_slice()),
        (part(config.as_bytes()), config.as_bytes()),
        (part(manifest.as_bytes()), manifest.as_bytes()),
        ("index.json".to_owned(), index.as_bytes()),
    ];
    let parts: Vec<(&str, &[u8])> = parts.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let imported = import(&store, archive_of(&parts).as_slice()).unwrap();
    let expected = ImportedImage { id: ImageId(Digest::of(config.as_bytes())), names: vec!["app:1".parse().unwrap()] };
    assert_eq!(imported, [expected]);
}

#[test]
fn refusals_name_the_part() {
    requires!(Root);
    let (_dir, store) = store();
    let check = |parts: &[(&str, &[u8])], expected: &str| {
        assert_eq!(import(&store, archive_of(parts).as_slice()).unwrap_err().to_string(), expected);
    };
    check(&[("x", b"")], "the archive has neither `manifest.json` nor `index.json`, so it is no saved image");
    check(&[("manifest.json", b"[{")], "parse `manifest.json` in the archive");
    let saved = br#"[{"Config":"c.json","RepoTags":null,"Layers":["l.tar"]}]"#;
    check(&[("manifest.json", saved)], "the archive refers to `c.json`, which is not in it");
    let config = format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, Digest::of(b"other"));
    let layer = rootfs(b"three");
    let expected = format!("layer `l.tar` of the archive is {}, but the configuration wants {}", Digest::of(&layer), Digest::of(b"other"));
    check(&[("manifest.json", saved), ("c.json", config.as_bytes()), ("l.tar", &layer)], &expected);
}
