//! The parts of an archive, on disk until the import is over.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    path::PathBuf,
};

use serde::de::DeserializeOwned;
use tar::EntryType;

use super::{DOCUMENT_MAX_BYTES, ImportError};
use crate::store::{Store, StoreError, remove_all};

/// `docker save` of before 25 links equal layers to each other.
const LINKS_MAX: usize = 8;

/// The parts by their cleaned names.
pub(super) struct Spool {
    dir: PathBuf,
    files: HashMap<String, PathBuf>,
    links: HashMap<String, String>,
}

impl Spool {
    /// Reads a whole archive.
    pub(super) fn read(store: &Store, archive: impl Read) -> Result<Self, ImportError> {
        let dir = store.inner.temp_path("archive");
        fs::create_dir(&dir).map_err(StoreError::io("make the directory", &dir))?;
        let mut spool = Self { dir, files: HashMap::new(), links: HashMap::new() };
        let mut archive = tar::Archive::new(archive);
        for entry in archive.entries().map_err(ImportError::Read)? {
            spool.take(entry.map_err(ImportError::Read)?)?;
        }
        Ok(spool)
    }

    fn take(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), ImportError> {
        let name = clean(&String::from_utf8_lossy(&entry.path_bytes()));
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let path = self.dir.join(self.files.len().to_string());
                let copied = File::create_new(&path).and_then(|mut file| io::copy(&mut entry, &mut file));
                copied.map_err(ImportError::Read)?;
                self.files.insert(name, path);
            }
            EntryType::Symlink | EntryType::Link => {
                let target = String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned();
                let base =
                    if entry.header().entry_type() == EntryType::Link { "" } else { name.rsplit_once('/').map_or("", |split| split.0) };
                let target = clean(&format!("{base}/{target}"));
                self.links.insert(name, target);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<&PathBuf> {
        let mut name = clean(name);
        for _ in 0..LINKS_MAX {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => return self.files.get(&name),
            }
        }
        None
    }

    pub(super) fn open(&self, name: &str) -> Result<File, ImportError> {
        let path = self.find(name).ok_or_else(|| ImportError::MissingPart(name.to_owned()))?;
        Ok(File::open(path).map_err(StoreError::io("open", path))?)
    }

    /// Returns a small part's bytes.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, ImportError> {
        let mut bytes = Vec::new();
        self.open(name)?.take(DOCUMENT_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(ImportError::Read)?;
        if bytes.len() as u64 > DOCUMENT_MAX_BYTES {
            return Err(ImportError::TooLarge(name.to_owned()));
        }
        Ok(bytes)
    }

    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, ImportError> {
        serde_json::from_slice(&self.document(name)?).map_err(|source| ImportError::Parse { part: name.to_owned(), source })
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // The next one to open the store removes what cannot be removed now.
        let _ = remove_all(&self.dir);
    }
}

/// Resolves `.` and `..` in a name.
fn clean(name: &str) -> String {
    let mut components = Vec::new();
    for component in name.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            _ => components.push(component),
        }
    }
    components.join("/")
}
