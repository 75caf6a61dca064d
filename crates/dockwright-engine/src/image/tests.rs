use dockwright_store::{Digest, ImageConfig};

use super::{
    ImageTable,
    remove::{ImageUser, Removed},
};
use crate::broker::{HostFacts, ImageRecord};

/// An image whose only difference from others is its author.
fn record(author: &str) -> ImageRecord {
    let config = ImageConfig { author: Some(author.to_owned()), os: "linux".to_owned(), ..ImageConfig::default() };
    let id = config.image_id();
    let config = String::from_utf8(config.encode()).expect("JSON is UTF-8");
    ImageRecord { id, config, layers: Vec::new(), manifest: None }
}

fn table_with(names: &[(&str, &str)]) -> ImageTable {
    let table = ImageTable::default();
    for (author, name) in names {
        let image = table.insert(record(author)).expect("an image");
        if !name.is_empty() {
            table.tag(image.id(), &name.parse().expect("a name"));
        }
    }
    table
}

#[test]
fn an_image_is_found_by_name_id_and_prefix() {
    let table = table_with(&[("a", "busybox"), ("b", "registry:5000/group/app:1")]);
    let a = record("a").id;
    let digest = Digest::of(b"manifest");
    table.tag(a, &"busybox".parse::<dockwright_store::ImageRef>().expect("a name").with_digest(digest));
    for text in ["busybox", "busybox:latest", "docker.io/library/busybox", &a.to_string(), &a.hex(), &a.hex()[..9]] {
        assert_eq!(table.find(text).expect(text).id(), a, "{text}");
    }
    assert_eq!(table.find(&format!("busybox@{digest}")).expect("by digest").id(), a);
    assert_eq!(table.find(&format!("busybox:latest@{digest}")).expect("by tag and digest").id(), a);
    assert_eq!(table.find("registry:5000/group/app:1").expect("by name").id(), record("b").id);
}

#[test]
fn a_missing_image_is_named_as_docker_names_it() {
    let table = ImageTable::default();
    assert_eq!(table.find("docker.io/library/nope").expect_err("missing").message, "No such image: nope:latest");
    assert_eq!(table.find("nope!").expect_err("invalid").message, "invalid reference format");
    let upper_case = table.find("Nope").expect_err("invalid").message;
    assert_eq!(upper_case, "invalid reference format: repository name (library/Nope) must be lowercase");
    let id = record("a").id;
    assert_eq!(table.find(&id.to_string()).expect_err("missing").message, format!("No such image: {id}"));
}

#[test]
fn the_last_name_takes_the_image_along() {
    let table = table_with(&[("a", "app:1"), ("a", "app:2")]);
    let id = record("a").id.to_string();
    assert_eq!(table.remove("app:1", false, &[]).expect("first"), [Removed::Untagged("app:1".into())]);
    let last = table.remove("app:2", false, &[]).expect("last");
    assert_eq!(last, [Removed::Untagged("app:2".into()), Removed::Deleted(id)]);
    assert!(table.list().is_empty());
}

#[test]
fn the_last_tag_of_a_repository_takes_its_digest_along() {
    let table = table_with(&[("a", "app:1"), ("a", "app:2"), ("a", "other:1")]);
    let app: dockwright_store::ImageRef = "app".parse().expect("a name");
    let digest = app.with_digest(Digest::of(b"manifest"));
    table.tag(record("a").id, &digest);
    assert_eq!(table.remove("app:1", false, &[]).expect("one of two"), [Removed::Untagged("app:1".into())]);
    let last = table.remove("app:2", false, &[]).expect("the last of its repository");
    assert_eq!(last, [Removed::Untagged("app:2".into()), Removed::Untagged(digest.familiar())]);
    assert_eq!(table.describe("other:1").expect("the image").digests, Vec::<String>::new());
}

#[test]
fn containers_keep_their_image() {
    let id = record("a").id;
    let user = |running| [ImageUser { image: id, container: "0123456789abcdef".into(), running }];
    let table = table_with(&[("a", "app:1")]);
    let refused = table.remove("app:1", false, &user(false)).expect_err("in use");
    let reference = format!(
        "conflict: unable to remove repository reference \"app:1\" (must force) - container 0123456789ab is using its referenced image {}",
        id.short()
    );
    assert_eq!(refused.message, reference);
    let refused = table.remove(&id.hex(), true, &user(true)).expect_err("in use");
    let running =
        format!("conflict: unable to delete {} (cannot be forced) - image is being used by running container 0123456789ab", id.short());
    assert_eq!(refused.message, running);
    assert_eq!(table.remove("app:1", true, &user(false)).expect("forced"), [Removed::Untagged("app:1".into())]);
    assert!(table.list()[0].is_dangling());
}

#[test]
fn an_id_with_several_repositories_needs_force() {
    let table = table_with(&[("a", "app:1"), ("a", "other:1")]);
    let id = record("a").id;
    let refused = table.remove(&id.hex(), false, &[]).expect_err("several repositories");
    assert!(refused.message.contains("image is referenced in multiple repositories"), "{refused}");
    assert_eq!(table.remove(&id.hex(), true, &[]).expect("forced").len(), 3);
}

#[test]
fn a_name_moves_to_the_newer_image() {
    let table = table_with(&[("a", "app"), ("b", "app")]);
    assert_eq!(table.find("app").expect("the name").id(), record("b").id);
    assert!(table.describe(&record("a").id.hex()).expect("the old image").is_dangling());
}

#[test]
fn prune_spares_used_images() {
    let table = table_with(&[("a", ""), ("b", ""), ("c", "app")]);
    let users = [ImageUser { image: record("a").id, container: "c".into(), running: false }];
    let (removed, _) = table.prune(&users, super::Listed::is_dangling);
    assert_eq!(removed, [Removed::Deleted(record("b").id.to_string())]);
    assert_eq!(table.count(), 2);
}

#[test]
fn steps_of_a_build_are_hidden_until_kept() {
    let table = ImageTable::default();
    let image = table.insert_intermediate(record("a")).expect("an image");
    assert_eq!(table.count(), 0);
    table.keep(image.id());
    assert_eq!(table.count(), 1);
    // Another build that passes by the same image does not hide it again.
    table.insert_intermediate(record("a")).expect("an image");
    assert_eq!(table.count(), 1);
}

#[test]
fn what_the_host_grants_is_there_but_not_listed() {
    let facts = HostFacts {
        engine_name: "engine".to_owned(),
        owner_apart: false,
        registry: None,
        granted_images: vec![record("helper")],
        granted_names: vec!["dockwright-helper:1".to_owned()],
    };
    let table = ImageTable::new(&facts).expect("a table");
    assert_eq!(table.find("dockwright-helper:1").expect("the helper").id(), record("helper").id);
    assert!(table.list().is_empty() && table.count() == 0);
    assert_eq!(table.prune(&[], |_| true).0, []);
}
