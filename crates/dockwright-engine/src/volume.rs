//! Volumes: directories of the engine that outlive containers.
//!
//! Each is a directory `_data` below one of its own, as Docker lays them out, because scripts look there. Only the `local` driver
//! exists, without options.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::{Context as _, EngineError, Result};

/// A volume.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Its name; 64 hex digits for an anonymous one.
    pub name: String,
    /// Whether it was made for one container without being named.
    pub anonymous: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its directory in the sandbox.
    pub path: PathBuf,
}

impl Volume {
    /// Returns what `docker volume inspect` shows.
    pub fn shown(&self) -> Value {
        json!({
            "CreatedAt": crate::time::seconds(self.created),
            "Driver": "local",
            "Labels": if self.labels.is_empty() { Value::Null } else { json!(self.labels) },
            "Mountpoint": self.path,
            "Name": self.name,
            "Options": null,
            "Scope": "local",
        })
    }
}

/// A volume, and whether it was made just now.
#[derive(Debug, Clone)]
pub struct CreatedVolume {
    /// The volume.
    pub volume: Volume,
    /// False when one of that name was there.
    pub is_new: bool,
}

/// The volumes of one engine.
#[derive(Debug)]
pub struct Volumes {
    dir: PathBuf,
    volumes: Mutex<BTreeMap<String, Volume>>,
}

/// Checks the name of a volume, in Docker's words.
pub fn check_name(name: &str) -> Result<()> {
    let rest_is_valid = || name.chars().skip(1).all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let valid = name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && rest_is_valid();
    if valid {
        return Ok(());
    }
    if name.len() == 1 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(EngineError::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    Err(EngineError::invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

impl Volumes {
    /// Makes an empty set of volumes whose directories will be below `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, volumes: Mutex::default() }
    }

    /// Returns the volume of a name, made if missing; without a name, a new anonymous one.
    pub fn create(&self, name: Option<&str>, labels: BTreeMap<String, String>) -> Result<CreatedVolume> {
        let anonymous = name.is_none();
        let name = name.map_or_else(crate::id::random, str::to_owned);
        check_name(&name)?;
        let mut volumes = self.lock();
        if let Some(volume) = volumes.get(&name) {
            return Ok(CreatedVolume { volume: volume.clone(), is_new: false });
        }
        let path = self.dir.join(&name).join("_data");
        make_directory(&path).context(format_args!("create volume {name}"))?;
        let volume = Volume { name: name.clone(), anonymous, created: Timestamp::now(), labels, path };
        volumes.insert(name, volume.clone());
        Ok(CreatedVolume { volume, is_new: true })
    }

    /// Returns a volume.
    pub fn get(&self, name: &str) -> Result<Volume> {
        self.lock().get(name).cloned().ok_or_else(|| EngineError::not_found(format!("get {name}: no such volume")))
    }

    /// Returns all volumes by name.
    pub fn list(&self) -> Vec<Volume> {
        self.lock().values().cloned().collect()
    }

    /// Removes a volume that no container uses, with everything in it. Files may be many: call it where blocking is fine.
    pub fn remove(&self, name: &str) -> Result<()> {
        let removed = self.lock().remove(name);
        let volume = removed.ok_or_else(|| EngineError::not_found(format!("get {name}: no such volume")))?;
        remove_tree(volume.path.parent().unwrap_or(&volume.path)).context(format_args!("remove volume {name}"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Volume>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    // The umask does not apply to what containers of any user are meant to see.
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Returns the bytes of the files below a directory; what cannot be read counts nothing.
pub fn disk_usage(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_usage(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creating_twice_gives_the_same_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(dir.path().to_owned());
        assert!(volumes.create(Some("data"), BTreeMap::new()).unwrap().is_new);
        assert!(!volumes.create(Some("data"), BTreeMap::new()).unwrap().is_new);
        assert!(dir.path().join("data/_data").is_dir());
        volumes.remove("data").unwrap();
        assert!(!dir.path().join("data").exists());
        assert_eq!(volumes.remove("data").unwrap_err().message, "get data: no such volume");
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        for name in ["..", "a/b", "", ".hidden", "a b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("a").unwrap_err().message.contains("too short"));
        check_name("project_db-data.1").unwrap();
    }
}
