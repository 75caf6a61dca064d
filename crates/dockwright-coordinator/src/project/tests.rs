use std::fs;

use dockwright_pipeline::Repository as _;
use tempfile::TempDir;

use super::*;

struct Repository {
    directory: TempDir,
}

impl Repository {
    fn new() -> Self {
        let directory = TempDir::with_prefix("my app").expect("a temporary directory");
        let repository = Self { directory };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.git(&["config", "user.name", "Ada"]);
        repository.git(&["config", "user.email", "ada@example.com"]);
        repository
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    fn git(&self, arguments: &[&str]) -> String {
        fs::create_dir_all(self.root()).expect("directory is made");
        git(&self.root(), arguments).text().expect("git succeeds")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory is made");
        fs::write(path, text).expect("file is written");
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    fn open(&self, tree: Tree) -> Project {
        let sources = TempDir::new_in(self.directory.path()).expect("a temporary directory").keep();
        Project::open(&self.root(), tree, &sources.join("sources.git")).expect("the project opens")
    }
}

#[test]
fn blob_ids_are_those_of_files_in_the_commit() {
    let repository = Repository::new();
    repository.write("a.lock", "x\n");
    repository.write("sub/a.lock", "y\n");
    repository.write("sub/b.lock", "y\n");
    repository.commit("files");
    let project = repository.open(Tree::Committed);
    // `echo x | git hash-object --stdin`, and the same of `y`.
    let (x, y) = ("587be6b4c3f93f93c489c0111bba5596147a26cb", "975fbec8256d3e8a3797e7a3611380f27c49f4ac");
    let cases: [(&[&str], &[&str]); 5] = [
        (&["a.lock"], &[x]),
        (&["sub/a.lock", "a.lock", "none.lock"], &[x, y]),
        (&["sub"], &[]),
        (&["sub/*.lock"], &[y, y]),
        (&["**/*.lock"], &[x, y, y]),
    ];
    for (paths, expected) in cases {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let mut ids = project.blob_ids(&paths).expect("git succeeds");
        ids.sort();
        assert_eq!(ids, expected, "{paths:?}");
    }
}

#[test]
fn several_files_are_read_by_one_process() {
    let repository = Repository::new();
    repository.write("a.txt", "a\nmissing\n");
    repository.write("empty.txt", "");
    repository.write("sub/b c.txt", "b");
    repository.commit("files");
    let project = repository.open(Tree::Committed);
    let paths = ["a.txt", "none.txt", "sub", "empty.txt", "with\nline", "sub/b c.txt", "none missing"];
    let texts = git::read_files(&project.sources, &project.sha, &paths);
    let expected = [("a.txt", "a\nmissing\n"), ("empty.txt", ""), ("sub/b c.txt", "b")];
    assert_eq!(texts, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
}

fn load(project: &Project, path: &str) -> Result<String, LoadErrorKind> {
    let request = Request::Local { place: Place::Own, path: path.to_owned() };
    project.load(&request).map(|loaded| loaded.text).map_err(|error| error.kind)
}

#[test]
fn the_working_tree_becomes_a_commit_and_nothing_else_changes() {
    let repository = Repository::new();
    repository.write("kept.txt", "old");
    repository.write("removed.txt", "x");
    repository.write(".gitignore", "ignored.txt\n");
    repository.commit("Title\n\nBody");
    let clean = repository.open(Tree::Working);
    assert_eq!(clean.sha, repository.git(&["rev-parse", "HEAD"]));
    assert!(!clean.has_changes);

    repository.write("kept.txt", "new");
    repository.write("sub/added.txt", "x");
    repository.write("ignored.txt", "x");
    fs::remove_file(repository.root().join("removed.txt")).expect("file is removed");
    let before = (repository.git(&["status", "--porcelain"]), repository.git(&["count-objects"]), repository.git(&["show-ref"]));
    let project = repository.open(Tree::Working);
    assert_eq!(before, (repository.git(&["status", "--porcelain"]), repository.git(&["count-objects"]), repository.git(&["show-ref"])));
    assert!(project.has_changes);
    assert_eq!(project.list_files(&Place::Own), [".gitignore", "kept.txt", "sub/added.txt"]);
    assert_eq!(load(&project, "kept.txt"), Ok("new".to_owned()));
    assert_eq!(load(&project, "ignored.txt"), Err(LoadErrorKind::NotFound));
    assert_eq!(project.sha, repository.open(Tree::Working).sha, "the same files give the same commit");

    let committed = repository.open(Tree::Committed);
    assert_eq!(load(&committed, "kept.txt"), Ok("old".to_owned()));
    assert_eq!((committed.commit.message.as_str(), committed.commit.author.as_str()), ("Title\n\nBody\n", "Ada <ada@example.com>"));
}

#[test]
fn sources_can_be_fetched() {
    let repository = Repository::new();
    repository.write("a.txt", "1");
    repository.commit("first");
    repository.write("a.txt", "2");
    let project = repository.open(Tree::Working);
    let job = TempDir::new().expect("a temporary directory");
    let run = |arguments: &[&str]| git(job.path(), arguments).text().expect("git succeeds");
    run(&["init", "--quiet"]);
    let address = project.sources.display().to_string();
    run(&["fetch", "--quiet", "--depth", "20", &address, "+refs/heads/main:refs/remotes/origin/main"]);
    run(&["checkout", "--quiet", "--detach", &project.sha]);
    assert_eq!(fs::read_to_string(job.path().join("a.txt")).expect("file is there"), "2");
}

#[test]
fn linked_working_trees_shallow_clones_and_directories_below_the_top() {
    let repository = Repository::new();
    repository.write("sub/a.txt", "1");
    repository.commit("first");
    repository.write("sub/a.txt", "2");
    repository.commit("second");
    let open = |directory: &Path, name: &str| {
        let sources = repository.directory.path().join(name);
        let project = Project::open(directory, Tree::Working, &sources).expect("the project opens");
        git(&sources, &["fsck", "--strict"]).bytes().expect("the sources are sound");
        project
    };
    assert_eq!(open(&repository.root().join("sub"), "below.git").root, repository.root());

    let linked = repository.directory.path().join("linked");
    repository.git(&["worktree", "add", "--quiet", "-b", "side/branch", &linked.display().to_string()]);
    fs::write(linked.join("sub/a.txt"), "3").expect("file is written");
    let project = open(&linked, "linked.git");
    assert_eq!((project.ref_name.as_str(), load(&project, "sub/a.txt")), ("side/branch", Ok("3".to_owned())));
    assert_eq!(git(&project.sources, &["rev-parse", "refs/heads/side/branch"]).text().expect("the ref is there"), project.sha);

    let shallow = repository.directory.path().join("shallow");
    let address = format!("file://{}", repository.root().display());
    repository.git(&["clone", "--quiet", "--depth", "1", &address, &shallow.display().to_string()]);
    fs::write(shallow.join("sub/a.txt"), "4").expect("file is written");
    let project = open(&shallow, "shallow.git");
    assert_eq!(git(&project.sources, &["log", "--format=%s", &project.sha]).text().expect("history is there"), "second\nsecond");
}

#[test]
fn a_detached_head_is_called_by_its_name() {
    let repository = Repository::new();
    repository.write("a.txt", "1");
    repository.commit("first");
    repository.git(&["checkout", "--quiet", "--detach"]);
    let project = repository.open(Tree::Working);
    assert_eq!((project.ref_name.as_str(), project.is_tag, project.default_branch.as_str()), ("HEAD", false, "main"));
}

#[test]
fn branches_tags_and_remotes() {
    let repository = Repository::new();
    repository.write("a.txt", "1");
    repository.commit("first");
    let first = repository.git(&["rev-parse", "HEAD"]);
    repository.git(&["remote", "add", "origin", "git@gitlab.example.com:Group/App.git"]);
    repository.git(&["update-ref", "refs/remotes/origin/main", &first]);
    repository.write("a.txt", "2");
    repository.commit("second");
    let project = repository.open(Tree::Working);
    assert_eq!((project.ref_name.as_str(), project.is_tag, project.before_sha.as_str()), ("main", false, first.as_str()));
    assert_eq!((project.remote.path.as_str(), project.default_branch.as_str()), ("Group/App", "main"));

    repository.git(&["tag", "--annotate", "--message", "The first release", "v1"]);
    repository.git(&["checkout", "--quiet", "v1"]);
    let project = repository.open(Tree::Committed);
    assert_eq!((project.ref_name.as_str(), project.is_tag), ("v1", true));
    assert_eq!(project.commit.tag_message.as_deref(), Some("The first release"));
    assert_eq!(project.before_sha, NO_COMMIT);
}

#[test]
fn rules_learn_what_changed_and_what_exists() {
    let repository = Repository::new();
    repository.write("a.txt", "1");
    repository.commit("first");
    let files = |base: &Project| ProjectFiles::new(base, Base::of(base, "push"));
    assert_eq!(files(&repository.open(Tree::Working)).changed_paths(), None, "a new branch");
    repository.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    assert_eq!(files(&repository.open(Tree::Working)).changed_paths().as_deref(), Some(&[][..]));
    repository.git(&["checkout", "--quiet", "-b", "topic"]);
    repository.write("b.txt", "2");
    repository.commit("second");
    repository.write("c.txt", "3");
    let mut project = repository.open(Tree::Working);
    let topic = files(&project);
    assert_eq!(topic.changed_paths(), None, "the remote has no such branch");
    assert_eq!(topic.changed_since("main").as_deref(), Some(&["b.txt".to_owned(), "c.txt".to_owned()][..]));
    assert_eq!(topic.changed_since("--all"), None);
    assert_eq!(*topic.files(), ["a.txt", "b.txt", "c.txt"].map(str::to_owned));
    project.stand_on_merge_request("main").expect("there is such a branch");
    assert_eq!(files(&project).changed_paths(), topic.changed_since("main"));
    assert!(matches!(project.stand_on_merge_request("mian"), Err(OpenProjectError::UnknownReference { .. })));
    project.compare_changes_with("topic").expect("there is such a branch");
    assert_eq!(files(&project).changed_paths().as_deref(), Some(&["c.txt".to_owned()][..]));
}

#[test]
fn another_branch_or_tag_can_be_stood_on() {
    let repository = Repository::new();
    repository.write("a.txt", "1");
    repository.commit("first");
    let mut project = repository.open(Tree::Committed);
    project.stand_on_tag("v2").expect("a usable name");
    assert_eq!((project.ref_name.as_str(), project.is_tag), ("v2", true));
    project.stand_on_branch("topic").expect("a usable name");
    assert_eq!((project.ref_name.as_str(), project.is_tag), ("topic", false));
    let refs = git(&project.sources, &["show-ref"]).text().expect("git succeeds");
    assert!(refs.contains("refs/tags/v2") && refs.contains("refs/heads/topic"), "{refs}");
    assert!(project.stand_on_branch("no..name").is_err());
}

#[test]
fn what_is_no_project() {
    let directory = TempDir::new().expect("a temporary directory");
    let sources = directory.path().join("sources.git");
    let error = Project::open(directory.path(), Tree::Working, &sources).expect_err("no repository");
    assert!(matches!(error, OpenProjectError::NoRepository { .. }), "{error}");
    let repository = Repository::new();
    let error = Project::open(&repository.root(), Tree::Working, &sources).expect_err("no commit");
    assert!(matches!(error, OpenProjectError::NoCommit { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("git commit")));

    let repository = Repository::new();
    repository.write("a.txt", "1");
    repository.commit("first");
    repository.write("nested/b.txt", "2");
    repository.git(&["init", "--quiet", "nested"]);
    let sources = repository.directory.path().join("sources.git");
    let error = Project::open(&repository.root(), Tree::Working, &sources).expect_err("a repository without a commit");
    assert!(matches!(error, OpenProjectError::WorkingTree { .. }), "{error}");
    Project::open(&repository.root(), Tree::Committed, &sources).expect("the last commit is there");
}
