//! From what a request wants mounted to what PID 1 of the sandbox can mount.
//!
//! Everything is decided when a container is created, because only then is it known who asks: a bind mount's source is resolved in the
//! caller's own root, cloned there, and kept attached to the sandbox until the container is removed.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use dockwright_container::{
    process::{Mount, MountSource},
    spawner::ErrorKind as SpawnerErrorKind,
};
use rustix::fs::OFlags;
use serde_json::{Value, json};

use super::config::{Config, HostConfig, MountRequest, MountRequestSource};
use crate::{
    Engine,
    api::Caller,
    error::{Context as _, EngineError, ErrorKind, Result},
    event::EventType,
    tree,
};

/// Where bind mounts' sources are attached in the sandbox.
const ATTACHED_DIR: &str = "/run/dockwright/binds";
/// Where containers expect the engine's socket.
const DOCKER_SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

/// What is mounted at one place of a container.
#[derive(Debug, Clone)]
pub(crate) struct MountPoint {
    pub(crate) target: String,
    pub(crate) read_only: bool,
    mode: String,
    pub(crate) source: Source,
}

/// What is mounted.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A file or directory as the caller named it, and where it is in the sandbox.
    Bind {
        named: String,
        path: PathBuf,
        attached: bool,
    },
    Volume {
        name: String,
        path: PathBuf,
        anonymous: bool,
    },
    Tmpfs {
        options: String,
    },
}

impl MountPoint {
    /// Returns the mount for PID 1 of the sandbox.
    pub(crate) fn mount(&self) -> Mount {
        let source = match &self.source {
            Source::Bind { path, .. } | Source::Volume { path, .. } => MountSource::Path(path.clone()),
            Source::Tmpfs { options } => {
                MountSource::Tmpfs { options: options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect() }
            }
        };
        Mount { target: PathBuf::from(&self.target), source, read_only: self.read_only }
    }

    /// Returns the directory (or file) behind it in the sandbox; a tmpfs has none.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::Bind { path, .. } | Source::Volume { path, .. } => Some(path),
            Source::Tmpfs { .. } => None,
        }
    }

    /// Returns the name of the volume, if it is one.
    pub(crate) fn volume(&self) -> Option<&str> {
        match &self.source {
            Source::Volume { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Returns what `docker inspect` shows.
    pub(crate) fn shown(&self) -> Value {
        let mut shown = match &self.source {
            Source::Bind { named, .. } => json!({ "Type": "bind", "Source": named }),
            Source::Volume { name, path, .. } => json!({ "Type": "volume", "Name": name, "Source": path, "Driver": "local" }),
            Source::Tmpfs { .. } => json!({ "Type": "tmpfs", "Source": "" }),
        };
        let propagation = if matches!(self.source, Source::Bind { .. }) { "rprivate" } else { "" };
        shown["Destination"] = json!(self.target);
        shown["Mode"] = json!(self.mode);
        shown["RW"] = json!(!self.read_only);
        shown["Propagation"] = json!(propagation);
        shown
    }
}

/// What is needed to resolve the mounts of a container that is being created.
pub(crate) struct MountPlan<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) caller: Caller,
    pub(crate) container: &'a str,
    pub(crate) config: &'a Config,
    pub(crate) host: &'a HostConfig,
}

impl MountPlan<'_> {
    /// Resolves all mounts. What was attached or made before a failure is in `made`.
    pub(crate) async fn resolve(&self, made: &mut Vec<MountPoint>) -> Result<()> {
        for request in &self.host.mounts {
            let source = self.resolve_one(request, made.len()).await?;
            made.push(MountPoint { target: request.target.clone(), read_only: request.read_only, mode: request.mode.clone(), source });
        }
        self.volumes_of_others(made)?;
        for target in &self.config.volumes {
            let target = super::config::clean_path(target);
            if made.iter().any(|mount| mount.target == target) {
                continue;
            }
            let source = self.volume(None, BTreeMap::new())?;
            self.fill_volume(&source, &target).await?;
            made.push(MountPoint { target, read_only: false, mode: String::new(), source });
        }
        // A mount below another one has to come after it.
        made.sort_by_key(|mount| mount.target.matches('/').count());
        Ok(())
    }

    async fn resolve_one(&self, request: &MountRequest, number: usize) -> Result<Source> {
        match &request.source {
            MountRequestSource::Tmpfs { options } => Ok(Source::Tmpfs { options: options.clone() }),
            MountRequestSource::Volume { name, driver_options, labels } => {
                if !driver_options.is_empty() {
                    return Err(EngineError::invalid("options of the `local` volume driver are not implemented by Dockwright"));
                }
                let source = self.volume(name.as_deref(), labels.clone())?;
                if !request.no_copy {
                    self.fill_volume(&source, &request.target).await?;
                }
                Ok(source)
            }
            MountRequestSource::Bind { path, must_exist } => self.bind(path, *must_exist, number).await,
        }
    }

    async fn bind(&self, named: &str, must_exist: bool, number: usize) -> Result<Source> {
        if DOCKER_SOCKETS.contains(&named) {
            let path = self.engine.settings().socket.clone();
            return Ok(Source::Bind { named: named.to_owned(), path, attached: false });
        }
        let caller = self.engine.container_of(self.caller).await?;
        let attached = Path::new(ATTACHED_DIR).join(format!("{}-{number}", self.container));
        let (path, at) = (PathBuf::from(named), attached.clone());
        let mounted = self.engine.sandbox().ask(move |spawner| {
            let tree = spawner.clone_tree(caller.as_deref(), &path, !must_exist)?;
            spawner.attach_mount(&at, tree)
        });
        mounted.await.map_err(|error| match error.kind() {
            SpawnerErrorKind::NotFound => {
                EngineError::invalid(format!("invalid mount config for type \"bind\": bind source path does not exist: {named}"))
            }
            _ => EngineError::new(ErrorKind::Internal, format!("mount {named}: {}", crate::error::chain(&error))),
        })?;
        Ok(Source::Bind { named: named.to_owned(), path: attached, attached: true })
    }

    fn volume(&self, name: Option<&str>, labels: BTreeMap<String, String>) -> Result<Source> {
        let created = self.engine.volumes().create(name, labels)?;
        let volume = created.volume;
        if created.is_new {
            self.engine.owners().made(&volume.name, self.caller);
            self.engine.volume_event("create", &volume.name);
        }
        Ok(Source::Volume { name: volume.name, path: volume.path, anonymous: volume.anonymous })
    }

    /// Copies what the image has at the mount's target into a volume that is still empty.
    async fn fill_volume(&self, source: &Source, target: &str) -> Result<()> {
        let Source::Volume { path, .. } = source else { return Ok(()) };
        let (volume, target, container) = (path.clone(), PathBuf::from(target), self.container.to_owned());
        let copied = self.engine.sandbox().ask(move |spawner| {
            let root = spawner.open_rootfs(&container)?;
            Ok(fill(&root, &target, &volume))
        });
        copied.await?.context("copy the image's files into a volume")
    }

    fn volumes_of_others(&self, made: &mut Vec<MountPoint>) -> Result<()> {
        for entry in &self.host.volumes_from {
            let (name, mode) = entry.split_once(':').unwrap_or((entry, ""));
            let other = self.engine.containers().find(name)?;
            for mount in other.mounts.iter().filter(|mount| !matches!(mount.source, Source::Tmpfs { .. })) {
                if made.iter().any(|own| own.target == mount.target) {
                    continue;
                }
                let mut mount = mount.clone();
                mount.read_only |= mode == "ro";
                if let Source::Bind { attached, .. } = &mut mount.source {
                    // The other container owns the attached mount.
                    *attached = false;
                }
                made.push(mount);
            }
        }
        Ok(())
    }
}

fn fill(root: &OwnedFd, target: &Path, volume: &Path) -> io::Result<()> {
    let from = match tree::open(root, target, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        other => other?,
    };
    let to = std::fs::File::open(volume)?;
    if tree::is_empty(&to)? { tree::copy_contents(from.as_fd(), to.as_fd()) } else { Ok(()) }
}

impl Engine {
    /// Lets go of what a removed container's mounts held. Anonymous volumes go too, if asked for and not used by others.
    pub(crate) async fn release_mounts(&self, mounts: &[MountPoint], with_volumes: bool) {
        for mount in mounts {
            match &mount.source {
                Source::Bind { path, attached: true, .. } => {
                    let path = path.clone();
                    if let Err(error) = self.sandbox().ask(move |spawner| spawner.detach_mount(&path)).await {
                        tracing::warn!(%error, "detach a bind mount");
                    }
                }
                Source::Volume { name, anonymous: true, .. } if with_volumes && self.volume_users(name).is_empty() => {
                    self.remove_volume(name.clone()).await.unwrap_or_else(|error| tracing::warn!(%error, "remove an anonymous volume"));
                }
                _ => {}
            }
        }
    }

    /// Returns the containers that mount a volume.
    pub(crate) fn volume_users(&self, name: &str) -> Vec<String> {
        let uses = |container: &super::Container| container.mounts.iter().any(|mount| mount.volume() == Some(name));
        self.containers().list().iter().filter(|container| uses(container)).map(|container| container.id.clone()).collect()
    }

    /// Removes a volume and everything in it.
    pub(crate) async fn remove_volume(&self, name: String) -> Result<()> {
        let engine = self.clone();
        let removed = tokio::task::spawn_blocking(move || engine.volumes().remove(&name).map(|()| name)).await;
        let name = removed.context("remove a volume")??;
        self.volume_event("destroy", &name);
        Ok(())
    }

    /// Records an event about a volume.
    pub(crate) fn volume_event(&self, action: &str, name: &str) {
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        self.events().emit(EventType::Volume, action, name, attributes);
    }
}
