//! The repository that jobs fetch from, and the commit of the working tree in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{OpenProjectError, Tree, git};

/// Makes a bare repository at `sources` that borrows the objects of the one at `root`, and returns the commit to run.
pub(super) fn create(root: &Path, head: &str, tree: Tree, sources: &Path) -> Result<String, OpenProjectError> {
    let prepared = |source: io::Error| OpenProjectError::Prepare { directory: sources.to_owned(), source };
    fs::create_dir_all(sources).map_err(prepared)?;
    let object_format = git(root, &["rev-parse", "--show-object-format"]).text()?;
    git(sources, &["init", "--quiet", "--bare", "--object-format", &object_format, "."]).bytes()?;
    let objects = git_path(root, "objects")?;
    fs::write(sources.join("objects/info/alternates"), format!("{}\n", objects.display())).map_err(prepared)?;
    let shallow = git_path(root, "shallow")?;
    if shallow.is_file() {
        fs::copy(&shallow, sources.join("shallow")).map_err(prepared)?;
    }
    match tree {
        Tree::Committed => Ok(head.to_owned()),
        Tree::Working => commit_working_tree(root, head, sources, &objects),
    }
}

/// Names the commit, as the branch or tag that jobs are told about.
pub(super) fn point(sources: &Path, ref_name: &str, is_tag: bool, sha: &str) -> Result<(), OpenProjectError> {
    let full_ref = format!("refs/{}/{ref_name}", if is_tag { "tags" } else { "heads" });
    git(sources, &["update-ref", &full_ref, sha]).bytes()?;
    git(sources, &["symbolic-ref", "HEAD", &full_ref]).bytes()?;
    Ok(())
}

fn git_path(root: &Path, name: &str) -> Result<PathBuf, OpenProjectError> {
    // Relative paths are relative to the directory that Git runs in.
    Ok(root.join(git(root, &["rev-parse", "--git-path", name]).text()?))
}

fn commit_working_tree(root: &Path, head: &str, sources: &Path, objects: &Path) -> Result<String, OpenProjectError> {
    let index = sources.join("dockwright-index");
    let prepared = |source: io::Error| OpenProjectError::Prepare { directory: sources.to_owned(), source };
    // Starting from the user's index, Git need not read files again that did not change.
    match fs::copy(git_path(root, "index")?, &index) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(prepared(error)),
        _ => {}
    }
    let objects_of_both = |arguments: &[&str]| {
        git(root, arguments)
            .env("GIT_INDEX_FILE", &index)
            .env("GIT_OBJECT_DIRECTORY", sources.join("objects"))
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects)
    };
    objects_of_both(&["add", "--all", "."]).bytes().map_err(|source| OpenProjectError::WorkingTree { root: root.to_owned(), source })?;
    let tree = objects_of_both(&["write-tree"]).text()?;
    fs::remove_file(&index).map_err(prepared)?;
    if tree == git(root, &["rev-parse", &format!("{head}^{{tree}}")]).text()? {
        return Ok(head.to_owned());
    }
    let text = |format: &str| git(root, &["log", "-1", &format!("--format={format}"), head]).text();
    let commit = git(sources, &["commit-tree", &tree, "-p", head, "-m", &text("%B")?])
        .env("GIT_AUTHOR_NAME", text("%an")?)
        .env("GIT_AUTHOR_EMAIL", text("%ae")?)
        .env("GIT_AUTHOR_DATE", text("%aI")?)
        .env("GIT_COMMITTER_NAME", text("%cn")?)
        .env("GIT_COMMITTER_EMAIL", text("%ce")?)
        .env("GIT_COMMITTER_DATE", text("%cI")?);
    Ok(commit.text()?)
}
