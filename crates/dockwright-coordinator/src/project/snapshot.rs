//! The repository that jobs fetch from, and the commit of the working tree in it.

use std::{fs, io, path::Path};

use super::{
    GitError, OpenProjectError, Tree,
    facts::{Head, Places},
    git,
};

/// Makes a bare repository at `sources` that borrows the objects of the user's, points `full_ref` at the commit to run, and returns it.
pub(super) fn create(places: &Places, head: &Head, tree: Tree, sources: &Path, full_ref: &str) -> Result<String, OpenProjectError> {
    let prepared = |source: io::Error| OpenProjectError::Prepare { directory: sources.to_owned(), source };
    init(places, sources, full_ref).map_err(prepared)?;
    let sha = match tree {
        Tree::Committed => head.sha.clone(),
        Tree::Working => commit_working_tree(places, head, sources)?,
    };
    let path = sources.join(full_ref);
    fs::create_dir_all(path.parent().unwrap_or(sources)).map_err(prepared)?;
    fs::write(path, format!("{sha}\n")).map_err(prepared)?;
    Ok(sha)
}

/// Points another ref at the commit, under a name that a user gave: Git decides whether it can be one.
pub(super) fn point(sources: &Path, full_ref: &str, sha: &str) -> Result<(), GitError> {
    git(sources, &["update-ref", full_ref, sha]).bytes()?;
    git(sources, &["symbolic-ref", "HEAD", full_ref]).bytes()?;
    Ok(())
}

/// Does what `git init --bare` does, without the process.
fn init(places: &Places, sources: &Path, full_ref: &str) -> io::Result<()> {
    fs::create_dir_all(sources.join("objects/info"))?;
    fs::create_dir_all(sources.join("refs"))?;
    fs::write(sources.join("HEAD"), format!("ref: {full_ref}\n"))?;
    let format = match places.object_format.as_str() {
        "sha1" => "repositoryformatversion = 0\n\tbare = true\n".to_owned(),
        other => format!("repositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = {other}\n"),
    };
    fs::write(sources.join("config"), format!("[core]\n\t{format}"))?;
    fs::write(sources.join("objects/info/alternates"), format!("{}\n", places.objects.display()))?;
    if places.shallow.is_file() {
        fs::copy(&places.shallow, sources.join("shallow"))?;
    }
    Ok(())
}

fn commit_working_tree(places: &Places, head: &Head, sources: &Path) -> Result<String, OpenProjectError> {
    let index = sources.join("dockwright-index");
    let prepared = |source: io::Error| OpenProjectError::Prepare { directory: sources.to_owned(), source };
    // Starting from the user's index, Git need not read files again that did not change.
    match copy_index(&places.index, &index) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(prepared(error)),
        _ => {}
    }
    let objects_of_both = |arguments: &[&str]| {
        git(&places.root, arguments)
            .env("GIT_INDEX_FILE", &index)
            .env("GIT_OBJECT_DIRECTORY", sources.join("objects"))
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &places.objects)
    };
    let added = objects_of_both(&["add", "--all", "."]).bytes();
    added.map_err(|source| OpenProjectError::WorkingTree { root: places.root.clone(), source })?;
    let tree = objects_of_both(&["write-tree"]).text()?;
    fs::remove_file(&index).map_err(prepared)?;
    if tree == head.tree {
        return Ok(head.sha.clone());
    }
    let commit = git(sources, &["commit-tree", &tree, "-p", &head.sha, "-m", &head.message])
        .env("GIT_AUTHOR_NAME", &head.author.name)
        .env("GIT_AUTHOR_EMAIL", &head.author.email)
        .env("GIT_AUTHOR_DATE", &head.authored)
        .env("GIT_COMMITTER_NAME", &head.committer.name)
        .env("GIT_COMMITTER_EMAIL", &head.committer.email)
        .env("GIT_COMMITTER_DATE", &head.committed);
    Ok(commit.text()?)
}

/// Keeps the time of the index: Git looks again at files that changed in the moment in which the index was written, and a copy that
/// seems younger would have it overlook them.
fn copy_index(from: &Path, to: &Path) -> io::Result<()> {
    let written = fs::metadata(from)?.modified()?;
    fs::copy(from, to)?;
    fs::File::options().write(true).open(to)?.set_modified(written)
}
