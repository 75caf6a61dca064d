//! Images: names, lists, removal, archives.

use std::process::Command;

use crate::daemon::{Docker, Image, each};

const BUSYBOX: &[Image] = &[Image::Busybox];

#[test]
fn images_are_named_listed_and_removed() {
    each("images_are_named_listed_and_removed", BUSYBOX, |docker| {
        let id = docker.ok(&["inspect", "-f", "{{.Id}}", "busybox"]);
        let repository = docker.name("registry.test:5000/group/app");
        for tag in ["1", "2"] {
            docker.ok(&["tag", "busybox", &format!("{repository}:{tag}")]);
        }
        let format = ["--format", "{{.Repository}}:{{.Tag}}"];
        let listed = docker.ok(&[&["images"][..], &format, &[&repository]].concat());
        let mut listed: Vec<_> = listed.lines().collect();
        listed.sort_unstable();
        assert_eq!(listed, [format!("{repository}:1"), format!("{repository}:2")]);
        assert_eq!(docker.ok(&["images", "-q", "--no-trunc", &format!("{repository}:1")]), id);
        assert_eq!(docker.ok(&["rmi", &format!("{repository}:1")]), format!("Untagged: {repository}:1"));

        // By id, an image with names in several repositories is not removed without force.
        let refused = docker.fails(1, &["rmi", &id]);
        assert!(refused.contains("(must be forced) - image is referenced in multiple repositories"), "{refused}");
        assert_eq!(docker.ok(&["rmi", &format!("{repository}:2")]), format!("Untagged: {repository}:2"));
        let missing = docker.fails(1, &["rmi", &format!("{repository}:1")]);
        assert!(missing.contains(&format!("No such image: {repository}:1")), "{missing}");
        let missing = docker.fails(1, &["tag", "nonsense", "x"]);
        assert!(missing.contains("No such image: nonsense:latest"), "{missing}");
        let invalid = docker.fails(1, &["tag", "busybox", "Upper/Case"]);
        assert!(invalid.contains("must be lowercase"), "{invalid}");
    });
}

#[test]
fn containers_keep_their_image() {
    each("containers_keep_their_image", BUSYBOX, |docker| {
        let image = imported(docker, "kept", &[]);
        let container = docker.ok(&["run", "-d", &image, "sleep", "1000"]);
        let refused = docker.fails(1, &["rmi", &image]);
        let reason = format!("(must force) - container {} is using its referenced image", &container[..12]);
        assert!(refused.contains(&reason), "{refused}");
        docker.ok(&["rm", "-f", &container]);
        let removed = docker.ok(&["rmi", &image]);
        assert!(removed.starts_with(&format!("Untagged: {image}\nDeleted: sha256:")), "{removed}");
    });
}

/// An image of its own, made by import of busybox's one layer.
fn imported(docker: &Docker<'_>, name: &str, changes: &[&str]) -> String {
    let name = docker.name(name) + ":1";
    let archive = docker.directory().join(docker.name("save"));
    docker.ok(&["save", "-o", &archive.to_string_lossy(), "busybox"]);
    let extract = |path: &str| Command::new("tar").arg("-xOf").arg(&archive).arg(path).output().expect("tar runs").stdout;
    let manifest = String::from_utf8_lossy(&extract("manifest.json")).into_owned();
    let layer = manifest.split("\"Layers\":[\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a layer");
    let changes = changes.iter().flat_map(|change| ["-c", change]);
    let arguments: Vec<&str> = ["import", "-m", "made for a test"].into_iter().chain(changes).chain(["-", &name]).collect();
    docker.with_input(&arguments, &extract(layer));
    name
}

#[test]
fn an_import_is_an_image_of_one_layer() {
    each("an_import_is_an_image_of_one_layer", BUSYBOX, |docker| {
        let image = imported(docker, "imported", &["CMD [\"/bin/busybox\", \"env\"]", "ENV FROM=\"an import\""]);
        let printed = docker.ok(&["run", "--rm", &image]);
        assert!(printed.lines().any(|line| line == "FROM=an import"), "{printed}");
        assert_eq!(docker.ok(&["inspect", "-f", "{{len .RootFS.Layers}} {{.Comment}} {{.Os}}", &image]), "1 made for a test linux");
        assert_eq!(docker.ok(&["history", "-q", &image]).lines().count(), 1);
        docker.ok(&["rmi", &image]);
    });
}

#[test]
fn what_is_saved_can_be_loaded() {
    each("what_is_saved_can_be_loaded", BUSYBOX, |docker| {
        let (first, second) = (docker.name("saved") + ":1", docker.name("saved") + ":2");
        docker.ok(&["tag", "busybox", &first]);
        docker.ok(&["tag", "busybox", &second]);
        let id = docker.ok(&["inspect", "-f", "{{.Id}}", "busybox"]);
        let archive = docker.directory().join(docker.name("archive.tar"));
        let archive = archive.to_string_lossy();
        docker.ok(&["save", "-o", &archive, &first, &second]);
        docker.in_new_engine(|docker| {
            assert_eq!(docker.ok(&["images", "-q"]), "");
            let loaded = docker.ok(&["load", "-i", &archive]);
            assert!(loaded.contains(&format!("Loaded image: {first}")) && loaded.contains(&format!("Loaded image: {second}")), "{loaded}");
            assert_eq!(docker.ok(&["inspect", "-f", "{{.Id}}", &second]), id);
            assert_eq!(docker.ok(&["run", "--rm", &first, "echo", "loaded"]), "loaded");
        });
        // Compressed, and read from standard input.
        let compressed = Command::new("gzip").args(["-c", &archive]).output().expect("gzip runs").stdout;
        docker.ok(&["rmi", &first, &second]);
        let loaded = docker.with_input(&["load", "-q"], &compressed);
        assert!(loaded.contains(&format!("Loaded image: {first}")), "{loaded}");
        docker.ok(&["rmi", &first, &second]);
        std::fs::write(docker.directory().join("no.tar"), "this is no archive").expect("a file");
        let refused = docker.fails(1, &["load", "-i", &docker.directory().join("no.tar").to_string_lossy()]);
        assert!(refused.contains("invalid archive"), "{refused}");
    });
}

#[test]
fn a_pull_needs_no_registry_for_what_the_machine_has() {
    each("a_pull_needs_no_registry_for_what_the_machine_has", BUSYBOX, |docker| {
        docker.in_new_engine(|docker| {
            let printed = docker.ok(&["pull", "busybox"]);
            assert!(printed.contains("latest: Pulling from library/busybox"), "{printed}");
            assert!(printed.contains("Status: Downloaded newer image for busybox:latest"), "{printed}");
            let printed = docker.ok(&["pull", "busybox"]);
            assert!(printed.contains("Status: Image is up to date for busybox:latest"), "{printed}");
        });
        let dind = docker.ok(&["pull", "docker:19.03.12-dind"]);
        assert!(dind.contains("docker:19.03.12-dind"), "{dind}");
        let port = "{{range $port, $_ := .Config.ExposedPorts}}{{$port}} {{end}}";
        assert_eq!(docker.ok(&["inspect", "-f", port, "docker:19.03.12-dind"]), "2375/tcp 2376/tcp");
        let refused = docker.fails(1, &["save", "docker:19.03.12-dind"]);
        assert!(refused.contains("it stands in for Docker in Docker") || refused.contains("terminal"), "{refused}");
        docker.ok(&["rmi", "docker:19.03.12-dind"]);
    });
}

#[test]
fn prune_removes_what_nobody_names() {
    each("prune_removes_what_nobody_names", BUSYBOX, |docker| {
        docker.in_new_engine(|docker| {
            docker.ok(&["pull", "-q", "busybox"]);
            let first = imported(docker, "pruned", &[]);
            let id = docker.ok(&["inspect", "-f", "{{.Id}}", &first]);
            docker.ok(&["tag", "busybox", &first]);
            assert_eq!(docker.ok(&["images", "-q", "--no-trunc", "--filter", "dangling=true"]), id);
            let pruned = docker.ok(&["image", "prune", "-f"]);
            assert!(pruned.contains(&format!("deleted: {id}")), "{pruned}");
            assert_eq!(docker.ok(&["images", "-q", "--filter", "dangling=true"]), "");
            docker.ok(&["image", "prune", "-a", "-f"]);
            assert_eq!(docker.ok(&["images", "-aq"]), "");
        });
    });
}
