//! Files that a configuration includes from elsewhere, without a GitLab.
//!
//! | Asked for | Looked for |
//! |---|---|
//! | a project, a component | a directory that the user names for it; then the commit that the lock file names, else the one that the reference means, in a clone beside this repository, in the cache, and at the server with the user's own Git credentials |
//! | a remote file | the cache, by the digest that the lock file names; then its address |
//! | a template | a directory or clone of `gitlab-org/gitlab`; then gitlab.com, as a remote file |
//!
//! Whatever came from elsewhere is written to the lock file, so that the next run includes the same. Named directories are not: they are
//! read as they lie there, which is what somebody wants who works on both.

mod checkout;
mod component;
mod lock;
mod remote;
mod repository;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use dockwright_pipeline::{Component, ComponentAddress, LoadError, LoadErrorKind, Loaded, Loader, Place, Request};

pub use lock::LockError;
use lock::LockFile;
pub use remote::{Web, WebError};
use repository::{Cache, Commit};

use crate::project::{Project, git};

/// Where GitLab keeps its templates, and the project that has them.
const TEMPLATE_PROJECT: &str = "gitlab-org/gitlab";
const TEMPLATE_DIRECTORY: &str = "lib/gitlab/ci/templates";
const TEMPLATE_ADDRESS: &str = "https://gitlab.com/gitlab-org/gitlab/-/raw/master/lib/gitlab/ci/templates";

/// How files from elsewhere are found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IncludeOptions {
    /// Directories by the path of the project that lies there.
    pub checkouts: BTreeMap<String, PathBuf>,
    /// Address below which projects are cloned from, when it is not that of this repository's remote.
    pub server: Option<String>,
    /// Where fetched files are kept.
    pub cache: PathBuf,
    pub mode: LockMode,
}

/// What the lock file decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockMode {
    /// What it names is used; what it does not name is looked up and added.
    #[default]
    Extend,
    /// Only what it names is used, and nothing is fetched.
    Frozen,
    /// Everything is looked up anew.
    Refresh,
}

/// The files of a project and those it includes from elsewhere.
pub struct Includes<'a> {
    project: &'a Project,
    options: IncludeOptions,
    web: &'a dyn Web,
    cache: Cache,
    lock: RefCell<LockFile>,
    /// Files of the project that were read ahead.
    read: RefCell<HashMap<String, String>>,
    /// Commits that were found for projects and references.
    found: RefCell<HashMap<(String, String), Result<Source, LoadError>>>,
}

/// Where a project was found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// A directory, as it lies there.
    Directory(PathBuf),
    Commit(Commit),
}

impl Source {
    fn sha(&self) -> &str {
        match self {
            Self::Directory(_) => "HEAD",
            Self::Commit(commit) => &commit.sha,
        }
    }

    fn read(&self, path: &str) -> Result<String, LoadError> {
        match self {
            Self::Directory(directory) => checkout::read(directory, path),
            Self::Commit(commit) => commit.read(path),
        }
    }
}

impl<'a> Includes<'a> {
    /// Reads the lock file of a project.
    pub fn new(project: &'a Project, options: IncludeOptions, web: &'a dyn Web) -> Result<Self, LockError> {
        let lock = LockFile::read(&project.root)?;
        let cache = Cache::new(&options.cache);
        Ok(Self { project, options, web, cache, lock: RefCell::new(lock), read: RefCell::default(), found: RefCell::default() })
    }

    /// Writes what was added to the lock file. Returns its path when there was something.
    pub fn save(&self) -> Result<Option<PathBuf>, LockError> {
        if self.options.mode == LockMode::Frozen { Ok(None) } else { self.lock.borrow().write(&self.project.root) }
    }

    /// Finds the commit of a project; it is looked for once.
    fn project(&self, project: &str, reference: &str) -> Result<Source, LoadError> {
        let key = (project.to_owned(), reference.to_owned());
        if let Some(found) = self.found.borrow().get(&key) {
            return found.clone();
        }
        let found = match self.near(project, reference) {
            Some(found) => found,
            None => self.fetched(project, reference),
        };
        self.remember(key, found.clone());
        found
    }

    fn remember(&self, key: (String, String), found: Result<Source, LoadError>) {
        if let Ok(Source::Commit(commit)) = &found {
            self.lock.borrow_mut().set_commit(&key.0, &key.1, &commit.sha);
        }
        self.found.borrow_mut().insert(key, found);
    }

    /// Finds a project without asking anybody; nothing when it must be fetched.
    fn near(&self, project: &str, reference: &str) -> Option<Result<Source, LoadError>> {
        if let Some(directory) = self.options.checkouts.get(project) {
            return Some(checkout::named(project, directory).map(Source::Directory));
        }
        let locked = self.locked(project, reference);
        let frozen = self.options.mode == LockMode::Frozen;
        if locked.is_none() && frozen && !repository::is_full_sha(reference) {
            let help = "run once without `--frozen`, and keep `.gitlab-ci.lock` in Git";
            return Some(Err(LoadError::from(LoadErrorKind::NotLocked).help(help)));
        }
        let wanted = locked.as_deref().unwrap_or(reference);
        let beside = checkout::beside(self.project, project).and_then(|clone| Commit::find_in_clone(&clone, wanted));
        let known = beside.or_else(|| repository::is_full_sha(wanted).then(|| self.cache.commit(project, wanted)).flatten());
        match known {
            Some(commit) => Some(Ok(Source::Commit(commit))),
            None if frozen => {
                let reason = "because `--frozen` forbids fetching, and the cache does not have it".to_owned();
                Some(Err(LoadError::from(LoadErrorKind::Unreachable(reason)).help("run once without `--frozen`")))
            }
            None => None,
        }
    }

    fn locked(&self, project: &str, reference: &str) -> Option<String> {
        if self.options.mode == LockMode::Refresh { None } else { self.lock.borrow().commit(project, reference) }
    }

    fn fetched(&self, project: &str, reference: &str) -> Result<Source, LoadError> {
        let url = self.url(project).ok_or_else(|| self.without_server(project))?;
        let wanted = self.locked(project, reference);
        self.cache.fetch(project, &url, reference, wanted.as_deref()).map(Source::Commit)
    }

    /// Returns where a project is cloned from. A component's project may begin with another host.
    fn url(&self, project: &str) -> Option<String> {
        if let Some((host, path)) = project.split_once("//") {
            return Some(format!("https://{host}/{path}.git"));
        }
        match &self.options.server {
            Some(server) => Some(format!("{}/{project}.git", server.trim_end_matches('/'))),
            None => repository::sibling_url(&repository::origin(&self.project.root)?, project),
        }
    }

    fn read_ahead(&self, requests: &[Request]) {
        let own = |request: &'_ Request| match request {
            Request::Local { place: Place::Own, path } => Some(path.clone()),
            _ => None,
        };
        let paths: Vec<String> = requests.iter().filter_map(own).collect();
        if paths.len() > 1 {
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            self.read.borrow_mut().extend(git::read_files(&self.project.sources, &self.project.sha, &paths));
        }
    }

    fn without_server(&self, project: &str) -> LoadError {
        LoadError::from(LoadErrorKind::NoProject).help(format!(
            "this repository has no remote to find `{project}` at; name a directory in the settings file: `[include.checkouts]` `\"{project}\" = \"/path\"`"
        ))
    }

    fn in_project(&self, project: &str, reference: &str, path: &str) -> Result<Loaded, LoadError> {
        let source = self.project(project, reference)?;
        let place = Place::Project { project: project.to_owned(), reference: reference.to_owned(), sha: source.sha().to_owned() };
        Ok(Loaded { text: source.read(path)?, place, component: None })
    }

    fn template(&self, name: &str) -> Result<Loaded, LoadError> {
        let text = match self.near(TEMPLATE_PROJECT, "HEAD") {
            Some(Ok(source)) => source.read(&format!("{TEMPLATE_DIRECTORY}/{name}"))?,
            _ => self.remote(&format!("{TEMPLATE_ADDRESS}/{name}"), None).map_err(|error| LoadError {
                help: Some(format!(
                    "templates are part of GitLab; clone `{TEMPLATE_PROJECT}` and name the directory in the settings file: `[include.checkouts]` `\"{TEMPLATE_PROJECT}\" = \"/path\"`"
                )),
                ..error
            })?,
        };
        Ok(Loaded { text, place: Place::Nowhere, component: None })
    }

    fn component(&self, address: &ComponentAddress) -> Result<Loaded, LoadError> {
        let project = self.component_project(address);
        let version = self.version(&project, &address.version)?;
        let source = self.project(&project, &version)?;
        let place = Place::Project { project, reference: version.clone(), sha: source.sha().to_owned() };
        let mut missing = LoadError::from(LoadErrorKind::NotFound);
        for path in address.paths() {
            match source.read(&path) {
                Ok(text) => {
                    let sha = source.sha().to_owned();
                    let component = Component { name: address.name.clone(), sha, version, reference: address.version.clone() };
                    return Ok(Loaded { text, place, component: Some(component) });
                }
                Err(error) if error.kind == LoadErrorKind::NotFound => {}
                Err(error) => missing = error,
            }
        }
        let [simple, complex] = address.paths();
        Err(if missing.help.is_none() { missing.help(format!("the project has neither `{simple}` nor `{complex}`")) } else { missing })
    }

    /// Projects of another server than this repository's are called `host//path`.
    fn component_project(&self, address: &ComponentAddress) -> String {
        let is_own = address.host == self.project.remote.fqdn() || self.options.checkouts.contains_key(&address.project);
        if is_own { address.project.clone() } else { format!("{}//{}", address.host, address.project) }
    }

    /// Returns the tag that `~latest`, `1` or `1.2` means; other versions are references themselves.
    fn version(&self, project: &str, version: &str) -> Result<String, LoadError> {
        let Some(range) = component::range(version) else { return Ok(version.to_owned()) };
        if self.options.checkouts.contains_key(project) {
            return Ok("HEAD".to_owned());
        }
        if let Some(locked) = self.lock.borrow().version(project, version).filter(|_| self.options.mode != LockMode::Refresh) {
            return Ok(locked);
        }
        if self.options.mode == LockMode::Frozen {
            return Err(LoadError::from(LoadErrorKind::NotLocked).help("run once without `--frozen`"));
        }
        let url = self.url(project).ok_or_else(|| self.without_server(project))?;
        let tags = self.cache.tags(project, &url)?;
        let tag = range.latest(&tags).ok_or_else(|| {
            let help = if tags.is_empty() { "the project has no tags".to_owned() } else { format!("its tags are `{}`", tags.join("`, `")) };
            LoadError::from(LoadErrorKind::NoReference).help(help)
        })?;
        self.lock.borrow_mut().set_version(project, version, &tag);
        Ok(tag)
    }

    fn remote(&self, url: &str, integrity: Option<&str>) -> Result<String, LoadError> {
        let locked = if self.options.mode == LockMode::Refresh { None } else { self.lock.borrow().digest(url) };
        let expected = integrity.map(str::to_owned).or(locked);
        if let Some(text) = expected.as_deref().and_then(|digest| self.cache.file(digest)) {
            self.lock.borrow_mut().set_digest(url, expected.as_deref().unwrap_or_default());
            return Ok(text);
        }
        if self.options.mode == LockMode::Frozen {
            let kind = match expected {
                None => LoadErrorKind::NotLocked,
                Some(_) => LoadErrorKind::Unreachable("because `--frozen` forbids fetching, and the cache does not have it".to_owned()),
            };
            return Err(LoadError::from(kind).help("run once without `--frozen`"));
        }
        let bytes = self.web.get(url).map_err(remote::load_error)?;
        let digest = remote::digest(&bytes);
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            let changed = LoadError::from(LoadErrorKind::Changed { actual: digest });
            let help = match integrity {
                Some(_) => "compare the file with what you expect; if it is right, write this digest to `integrity`".to_owned(),
                None => format!("the lock file says `{expected}`; if the change is right, take it over with `--refresh`"),
            };
            return Err(changed.help(help));
        }
        let text = String::from_utf8(bytes).map_err(|_| LoadErrorKind::Unreadable("it is not valid UTF-8".to_owned()))?;
        self.cache.keep_file(&digest, &text);
        self.lock.borrow_mut().set_digest(url, &digest);
        Ok(text)
    }
}

impl Loader for Includes<'_> {
    fn load(&self, request: &Request) -> Result<Loaded, LoadError> {
        match request {
            Request::Local { place: Place::Own, path } => match self.read.borrow_mut().remove(path) {
                Some(text) => Ok(Loaded { text, place: Place::Own, component: None }),
                None => self.project.load(request),
            },
            Request::Local { place: Place::Project { project, reference, .. }, path } => self.in_project(project, reference, path),
            Request::Local { place: Place::Nowhere, .. } => Err(LoadErrorKind::NotFound.into()),
            Request::Project { project, reference, path } => self.in_project(project, reference.as_deref().unwrap_or("HEAD"), path),
            Request::Remote { url, integrity } => {
                let text = self.remote(url, integrity.as_deref())?;
                Ok(Loaded { text, place: Place::Nowhere, component: None })
            }
            Request::Template { name } => self.template(name),
            Request::Component(address) => self.component(address),
        }
    }

    fn list_files(&self, place: &Place) -> Vec<String> {
        match place {
            Place::Own => self.project.list_files(place),
            Place::Project { project, reference, .. } => match self.project(project, reference) {
                Ok(Source::Directory(directory)) => checkout::list(&directory),
                Ok(Source::Commit(commit)) => commit.list(),
                Err(_) => Vec::new(),
            },
            Place::Nowhere => Vec::new(),
        }
    }

    /// Reads files of the project by one process, and fetches projects that are far, several at a time.
    fn prepare(&self, requests: &[Request]) {
        self.read_ahead(requests);
        let mut far: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for request in requests {
            let Request::Project { project, reference, .. } = request else { continue };
            let reference = reference.as_deref().unwrap_or("HEAD").to_owned();
            let references = far.entry(project.clone()).or_default();
            let key = (project.clone(), reference.clone());
            if references.contains(&reference) || self.found.borrow().contains_key(&key) {
                continue;
            }
            match self.near(project, &reference) {
                Some(found) => self.remember(key, found),
                None => references.push(reference),
            }
        }
        let wanted = far.iter().filter_map(|(project, references)| {
            let locked = references.iter().map(|reference| (reference.clone(), self.locked(project, reference))).collect();
            (!references.is_empty()).then_some((project.clone(), self.url(project)?, locked))
        });
        for (key, found) in self.cache.fetch_all(wanted.collect()) {
            self.remember(key, found.map(Source::Commit));
        }
    }
}
