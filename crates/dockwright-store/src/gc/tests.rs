//! What collection takes and what it leaves.

use super::*;
use crate::{CacheRefs, Depth, ImageId, ImageRef, LayerOrigin, config::ImageConfig, faults::fail_each_step};

const NO_GRACE: GcPolicy = GcPolicy { grace_secs: 0, cache_idle_secs: DAY_SECS, upload_idle_secs: DAY_SECS };

struct Fixture {
    _dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { _dir: dir, store }
    }

    /// An image of one layer without entries. `variant` makes the configuration differ.
    fn image(&self, variant: &str) -> (ImageId, DiffId) {
        let tar = [0; 1024];
        let layer = self.store.apply_layer(tar.as_slice(), LayerOrigin::Own).unwrap().diff_id;
        let mut config = ImageConfig { variant: Some(variant.to_owned()), ..ImageConfig::default() };
        config.rootfs.diff_ids.push(layer);
        (self.store.put_image(&config.encode()).unwrap(), layer)
    }

    fn gc(&self) -> GcReport {
        let report = self.store.gc(&NO_GRACE).unwrap();
        assert_eq!(self.store.verify(Depth::Digests).unwrap(), []);
        report
    }
}

#[test]
fn names_keep_images_and_images_keep_layers() {
    let fixture = Fixture::new();
    let (named, layer) = fixture.image("named");
    let (unnamed, _) = fixture.image("unnamed");
    let name: ImageRef = "app:1".parse().unwrap();
    fixture.store.set_name(&name, &named).unwrap();
    let compressed = fixture.store.compressed_layer(&layer).unwrap();
    let report = fixture.gc();
    assert_eq!((report.images, report.layers, report.blobs), (1, 0, 1));
    assert!(fixture.store.image(&unnamed).unwrap().is_none());
    assert!(fixture.store.has_blob(&compressed.digest).unwrap());

    assert!(fixture.store.remove_name(&name).unwrap());
    let report = fixture.gc();
    assert_eq!((report.images, report.layers, report.blobs), (1, 1, 2));
    assert_eq!(content_paths(&fixture.store.inner).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn grace_leases_and_the_build_cache_keep_content() {
    let fixture = Fixture::new();
    let (image, layer) = fixture.image("x");
    assert_eq!(fixture.store.gc(&GcPolicy::default()).unwrap(), GcReport::default());
    let lease = fixture.store.lease();
    assert!(lease.hold_layer(&layer).unwrap());
    assert!(!lease.hold_blob(&Digest::of(b"absent")).unwrap());
    assert_eq!(fixture.gc().images, 1);
    assert!(fixture.store.has_layer(&layer).unwrap());
    assert!(fixture.store.image(&image).unwrap().is_none());

    let key = Digest::of(b"key");
    let refs = CacheRefs { layers: vec![layer], ..CacheRefs::default() };
    fixture.store.cache_put("scope", &key, b"value", &refs).unwrap();
    drop(lease);
    fixture.gc();
    assert_eq!(fixture.store.cache_get("scope", &key).unwrap().as_deref(), Some(b"value".as_slice()));
    assert_eq!(fixture.store.cache_get("other scope", &key).unwrap(), None);
    assert_eq!(fixture.store.cache_clear("scope").unwrap(), 1);
    assert_eq!(fixture.gc().layers, 1);
    assert!(fixture.store.cache_put("scope", &key, b"value", &refs).is_err());
}

#[test]
fn leftovers_of_crashes_go() {
    let fixture = Fixture::new();
    let orphan = fixture.store.inner.blob_path(&Digest::of(b"orphan"));
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::write(&orphan, b"orphan").unwrap();
    assert_eq!(fixture.gc().leftovers, 1);
    assert!(!orphan.exists());
}

#[test]
fn content_that_comes_back_while_it_goes_stays() {
    let fixture = Fixture::new();
    let digest = fixture.store.put_blob(b"content").unwrap();
    fixture.store.mark(&NO_GRACE).unwrap();
    assert!(!fixture.store.has_blob(&digest).unwrap());
    fixture.store.put_blob(b"content").unwrap();
    let mut report = GcReport::default();
    let mut trash = Trash { inner: &fixture.store.inner, moved: false };
    fixture.store.db().write("test", |transaction| trash.take_marked(transaction, &mut report)).unwrap();
    assert_eq!(report.blobs, 0);
    assert_eq!(fixture.store.read_blob(&digest).unwrap().unwrap(), b"content");
}

#[test]
fn a_collection_that_fails_anywhere_leaves_a_sound_store() {
    let fixture = Fixture::new();
    fixture.image("x");
    fixture.store.put_blob(b"loose").unwrap();
    fail_each_step(&fixture.store, || fixture.store.gc(&NO_GRACE), |_| assert_eq!(fixture.store.verify(Depth::Digests).unwrap(), []));
    assert_eq!(content_paths(&fixture.store.inner).unwrap(), Vec::<PathBuf>::new());
}
