//! Files as the editor has them, over those of the repository.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fs,
    path::{Component, Path, PathBuf},
};

use dockwright_pipeline::{LoadError, LoadErrorKind, Loaded, Loader, Place, Request};

/// What came of requests for files of elsewhere: they are not asked for anew with every letter.
pub(super) type Distant = RefCell<HashMap<Request, Result<Loaded, LoadError>>>;

/// Open texts over other files.
pub(super) struct Overlay<'a> {
    pub(super) below: &'a dyn Loader,
    /// Open texts by their path from the root.
    pub(super) buffers: &'a BTreeMap<String, String>,
    pub(super) distant: &'a Distant,
}

impl Overlay<'_> {
    fn buffer(&self, request: &Request) -> Option<Loaded> {
        let Request::Local { place: Place::Own, path } = request else { return None };
        let text = self.buffers.get(path.trim_start_matches('/'))?;
        Some(Loaded { text: text.clone(), place: Place::Own, component: None })
    }
}

impl Loader for Overlay<'_> {
    fn load(&self, request: &Request) -> Result<Loaded, LoadError> {
        if let Some(loaded) = self.buffer(request) {
            return Ok(loaded);
        }
        if matches!(request, Request::Local { place: Place::Own, .. }) {
            return self.below.load(request);
        }
        if let Some(known) = self.distant.borrow().get(request) {
            return known.clone();
        }
        let loaded = self.below.load(request);
        self.distant.borrow_mut().insert(request.clone(), loaded.clone());
        loaded
    }

    fn list_files(&self, place: &Place) -> Vec<String> {
        let mut files = self.below.list_files(place);
        if *place == Place::Own {
            files.extend(self.buffers.keys().cloned());
            files.sort();
            files.dedup();
        }
        files
    }

    fn prepare(&self, requests: &[Request]) {
        let is_open = |request: &Request| self.buffer(request).is_some() || self.distant.borrow().contains_key(request);
        let wanted: Vec<Request> = requests.iter().filter(|request| !is_open(request)).cloned().collect();
        self.below.prepare(&wanted);
    }
}

/// Files of a directory that is in no repository.
pub(super) struct Directory(pub(super) PathBuf);

impl Loader for Directory {
    fn load(&self, request: &Request) -> Result<Loaded, LoadError> {
        let Request::Local { place: Place::Own, path } = request else {
            let error = LoadError::from(LoadErrorKind::NoProject);
            return Err(error.help("this file lies in no Git repository, so nothing is known of other projects"));
        };
        let path = Path::new(path.trim_start_matches('/'));
        let stays = path.components().all(|part| matches!(part, Component::Normal(_)));
        let real = self.0.join(path).canonicalize().ok().zip(self.0.canonicalize().ok());
        let Some((file, _)) = real.filter(|(file, root)| stays && file.starts_with(root)) else {
            return Err(LoadErrorKind::NotFound.into());
        };
        let text = fs::read_to_string(file).map_err(|error| LoadErrorKind::Unreadable(error.to_string()))?;
        Ok(Loaded { text, place: Place::Own, component: None })
    }

    fn list_files(&self, _place: &Place) -> Vec<String> {
        Vec::new()
    }
}
