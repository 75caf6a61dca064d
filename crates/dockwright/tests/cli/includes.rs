//! Files of other projects and of the web, found without a GitLab.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::Project;

/// Projects that can be cloned from a directory, beside a project that includes them.
struct Server {
    project: Project,
}

impl Server {
    fn new(configuration: &str) -> Self {
        let server = Self { project: Project::new(configuration) };
        server.settings(&format!("[include]\nserver = 'file://{}'\n", server.project.path("server").display()));
        server
    }

    fn settings(&self, text: &str) {
        fs::write(self.project.path("settings.toml"), text).expect("settings");
    }

    /// Commits a file to a project of the server, and returns the commit.
    fn commit(&self, project: &str, file: &str, text: &str) -> String {
        let directory = self.project.path("server").join(format!("{project}.git"));
        if !directory.exists() {
            fs::create_dir_all(&directory).expect("directory");
            git(&directory, &["init", "-q", "-b", "main"]);
        }
        let path = directory.join(file);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
        fs::write(path, text).expect("file");
        git(&directory, &["add", "-A"]);
        git(&directory, &["commit", "-q", "-m", "change"]);
        git(&directory, &["rev-parse", "HEAD"])
    }

    fn tag(&self, project: &str, tag: &str) {
        git(&self.project.path("server").join(format!("{project}.git")), &["tag", tag]);
    }

    fn remove(&self, project: &str) {
        fs::remove_dir_all(self.project.path("server").join(format!("{project}.git"))).expect("removed");
    }

    fn list(&self, more: &[&str]) -> crate::common::Printed {
        let settings = self.project.path("settings.toml");
        let arguments = [&["list", "--config", settings.to_str().expect("path")], more].concat();
        self.project.output(&arguments)
    }

    fn run(&self, more: &[&str]) -> crate::common::Printed {
        let settings = self.project.path("settings.toml");
        let arguments = [&["run", "--config", settings.to_str().expect("path")], more].concat();
        self.project.output(&arguments)
    }

    fn lock_file(&self) -> PathBuf {
        self.project.repository().join(".gitlab-ci.lock")
    }
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Ann", "-c", "user.email=ann@example.invalid"]).args(arguments).current_dir(directory);
    let output = command.output().expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", crate::common::text(&output.stderr));
    crate::common::text(&output.stdout).trim().to_owned()
}

#[test]
fn a_project_is_fetched_once_and_locked() {
    let server = Server::new("include: {project: group/lib, ref: main, file: [ci/build.yml]}\n");
    server.commit("group/lib", "ci/tools.yml", "build: {image: gcc}\n");
    let first = server.commit("group/lib", "ci/build.yml", "include: ci/too*.yml\nbuild: {script: [make]}\n");
    assert!(server.list(&[]).ended_with(0).stdout.contains("gcc"));
    let lock = fs::read_to_string(server.lock_file()).expect("a lock file");
    assert!(lock.contains(&format!("\ncommit group/lib main {first}\n")), "{lock}");

    let second = server.commit("group/lib", "ci/tools.yml", "build: {image: clang}\n");
    assert!(server.list(&[]).ended_with(0).stdout.contains("gcc"), "the lock file keeps the commit");
    assert!(server.list(&["--refresh"]).ended_with(0).stdout.contains("clang"));
    assert!(fs::read_to_string(server.lock_file()).expect("a lock file").contains(&second));

    server.remove("group/lib");
    assert!(server.list(&["--frozen"]).ended_with(0).stdout.contains("clang"), "what was fetched stays usable");
    fs::remove_file(server.lock_file()).expect("removed");
    let printed = server.list(&["--frozen"]).ended_with(3);
    assert!(printed.stderr.contains("include-not-locked") && printed.stderr.contains("--frozen"), "{}", printed.stderr);
}

#[test]
fn a_child_pipeline_includes_another_project() {
    let server =
        Server::new("child: {trigger: {include: [{project: group/lib, file: child.yml, inputs: {word: hello}}], strategy: depend}}\n");
    let commit = server.commit("group/lib", "child.yml", "spec: {inputs: {word: }}\n---\nsay: {script: ['echo $[[ inputs.word ]]']}\n");
    let printed = server.run(&[]).ended_with(0);
    assert!(printed.stdout.lines().any(|line| line == "child > say | hello"), "{}\n{}", printed.stdout, printed.stderr);
    let lock = fs::read_to_string(server.lock_file()).expect("a lock file");
    assert!(lock.contains(&format!("\ncommit group/lib HEAD {commit}\n")), "{lock}");

    server.remove("group/lib");
    server.run(&["--frozen"]).ended_with(0);
    fs::remove_file(server.lock_file()).expect("removed");
    let printed = server.run(&["--frozen"]).ended_with(1);
    assert!(printed.stdout.contains("is not in the lock file"), "{}\n{}", printed.stdout, printed.stderr);
    assert!(!server.lock_file().exists(), "frozen writes nothing");
}

#[test]
fn what_is_missing_is_named_with_its_chain_and_a_remedy() {
    let server = Server::new("include: ci.yml\njob: {script: [x]}\n");
    server.project.write(
        "ci.yml",
        "include:\n  - {project: group/none, file: a.yml}\n  - {project: group/lib, ref: none, file: a.yml}\n  - {project: group/lib, file: b.yml}\n",
    );
    server.commit("group/lib", "a.yml", "x: {script: x}\n");
    let printed = server.list(&[]).ended_with(3);
    for expected in [
        "Project `group/none` not found or access denied!",
        "[include.checkouts]",
        "Project `group/lib` reference `none` does not exist!",
        "Project `group/lib` file `b.yml` does not exist!",
        "included from `.gitlab-ci.yml` line 1",
    ] {
        assert!(printed.stderr.contains(expected), "`{expected}` is missing in:\n{}", printed.stderr);
    }
}

#[test]
fn a_named_directory_is_used_as_it_lies_there() {
    let server = Server::new("include:\n  - {project: Group/lib, ref: v1, file: a.yml}\n  - {template: Bash.gitlab-ci.yml}\n");
    let (lib, gitlab) = (server.project.path("lib"), server.project.path("gitlab"));
    fs::create_dir_all(gitlab.join("lib/gitlab/ci/templates")).expect("directory");
    fs::write(gitlab.join("lib/gitlab/ci/templates/Bash.gitlab-ci.yml"), "from-template: {script: [x]}\n").expect("file");
    fs::create_dir_all(&lib).expect("directory");
    fs::write(lib.join("a.yml"), "from-directory: {script: [x]}\n").expect("file");
    let (lib, gitlab) = (lib.display(), gitlab.display());
    server.settings(&format!("[include.checkouts]\n'group/Lib' = '{lib}'\n'gitlab-org/gitlab' = '{gitlab}'\n"));
    let printed = server.list(&[]).ended_with(0);
    assert!(printed.stdout.contains("from-directory") && printed.stdout.contains("from-template"), "{}", printed.stdout);
    assert!(!server.lock_file().exists(), "directories are not locked");
}

#[test]
fn a_clone_beside_the_repository_is_used_at_the_reference() {
    let server = Server::new("include: {project: group/lib, ref: v1, file: a.yml}\n");
    server.project.git(&["remote", "add", "origin", "git@gitlab.example.com:group/app.git"]);
    server.settings("");
    let clone = server.project.path("lib");
    fs::create_dir_all(&clone).expect("directory");
    git(&clone, &["init", "-q", "-b", "main"]);
    git(&clone, &["remote", "add", "origin", "https://gitlab.example.com/group/lib.git"]);
    fs::write(clone.join("a.yml"), "tagged: {script: [x]}\n").expect("file");
    git(&clone, &["add", "-A"]);
    git(&clone, &["commit", "-q", "-m", "first"]);
    git(&clone, &["tag", "v1"]);
    fs::write(clone.join("a.yml"), "changed: {script: [x]}\n").expect("file");
    assert!(server.list(&[]).ended_with(0).stdout.contains("tagged"));
    assert!(server.lock_file().exists());
}

#[test]
fn a_component_has_versions() {
    let server = Server::new("include:\n  - {component: $CI_SERVER_FQDN/group/lib/deploy@1, inputs: {to: staging}}\n");
    let component =
        "spec: {component: [version], inputs: {to: {}}}\n---\ndeploy-$[[ inputs.to ]]-$[[ component.version ]]: {script: [x]}\n";
    server.commit("group/lib", "templates/deploy/template.yml", component);
    server.tag("group/lib", "1.2.0");
    server.tag("group/lib", "2.0.0");
    assert!(server.list(&[]).ended_with(0).stdout.contains("deploy-staging-1.2.0"));
    let lock = fs::read_to_string(server.lock_file()).expect("a lock file");
    assert!(lock.contains("version group/lib 1 1.2.0") && lock.contains("commit group/lib 1.2.0 "), "{lock}");
    server.remove("group/lib");
    server.list(&["--frozen"]).ended_with(0);
}

/// Answers some requests, each with a status and a body.
fn web(answers: Vec<(u16, &'static str)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for (status, body) in answers {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    format!("http://{address}/ci.yml")
}

#[test]
fn a_remote_file_is_fetched_once_and_locked() {
    let url = web(vec![(503, ""), (200, "from-web: {script: [x]}\n"), (200, "changed: {script: [x]}\n")]);
    let server = Server::new(&format!("include: {url}\n"));
    assert!(server.list(&[]).ended_with(0).stdout.contains("from-web"), "a second attempt helps");
    assert!(server.list(&["--frozen"]).ended_with(0).stdout.contains("from-web"));
    assert!(server.list(&["--refresh"]).ended_with(0).stdout.contains("changed"));
}

#[test]
fn a_remote_file_that_is_not_what_it_should_be() {
    let url = web(vec![(404, ""), (200, "x: {script: [x]}\n")]);
    let server = Server::new(&format!("include: {url}\n"));
    let printed = server.list(&[]).ended_with(3);
    let expected = format!("Remote file `{url}` could not be fetched after 1 attempt because of HTTP code `404` error!");
    assert!(printed.stderr.contains(&expected), "{}", printed.stderr);
    let digest = format!("sha256-{}=", "A".repeat(43));
    server.project.write(".gitlab-ci.yml", &format!("include: {{remote: '{url}', integrity: '{digest}'}}\n"));
    let printed = server.list(&[]).ended_with(3);
    assert!(printed.stderr.contains("failed integrity check") && printed.stderr.contains("its digest is"), "{}", printed.stderr);
}

#[test]
fn inputs_are_typed_on_the_command_line() {
    let server =
        Server::new("spec: {inputs: {dry-run: {type: boolean}}}\n---\njob: {script: [x], allow_failure: \"$[[ inputs.dry-run ]]\"}\n");
    server.list(&["--input", "dry-run=true"]).ended_with(0);
    let printed = server.list(&["--input", "dry-run=maybe"]).ended_with(3);
    assert!(printed.stderr.contains("provided value is not a boolean") && printed.stderr.contains("dry-run=maybe"), "{}", printed.stderr);
    assert!(server.list(&[]).ended_with(3).stderr.contains("--input dry-run=VALUE"));
    assert!(server.list(&["--input", "x"]).ended_with(2).stderr.contains("NAME=VALUE"));
}
