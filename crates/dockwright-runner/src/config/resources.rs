//! What `[runners.docker]` says about a job's network, volumes and services.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use dockwright_job::{Image, Variable};

use super::{
    decide::DecideError,
    file::{DockerTable, ServiceTable},
};

/// Settings of a job's network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// `bridge`, `host`, `none`, or the name of a network that is there. Without it, every job has a network of its own.
    pub mode: Option<String>,
    /// `container[:alias]`: containers of others that the job's container finds by name. They need a network that is there.
    pub links: Vec<String>,
    /// Of the job's own network.
    pub ipv6: bool,
    /// Bytes of a packet in the job's own network; 0 is the engine's default.
    pub mtu: i64,
}

/// Settings of a job's volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeSettings {
    /// A directory of the engine's machine in which volumes without a source are directories.
    pub cache_dir: Option<String>,
    pub driver: String,
    pub driver_options: HashMap<String, String>,
    /// Volumes that images declare stay when their container is removed.
    pub keep_anonymous: bool,
}

/// Where the docker client of whoever runs the runner keeps credentials of registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryLogins {
    /// The first that is there is read: `~/.docker/config.json`, then `~/.dockercfg`.
    pub files: Vec<PathBuf>,
    /// Where programs `docker-credential-…` are looked for, as the runner's `PATH` says.
    pub helper_directories: Vec<PathBuf>,
}

impl NetworkSettings {
    pub(super) fn decide(docker: &DockerTable) -> Self {
        Self {
            mode: Some(docker.network_mode.clone()).filter(|mode| !mode.is_empty()),
            links: docker.links.clone(),
            ipv6: docker.enable_ipv6,
            mtu: docker.network_mtu,
        }
    }
}

impl VolumeSettings {
    pub(super) fn decide(docker: &DockerTable) -> Result<Self, DecideError> {
        let cache_dir = Some(docker.cache_dir.clone()).filter(|directory| !directory.is_empty());
        if let Some(value) = cache_dir.as_ref().filter(|directory| !Path::new(directory).is_absolute()) {
            return Err(DecideError::Value { key: "cache_dir", value: value.clone(), expected: "the path of a directory is absolute" });
        }
        Ok(Self {
            cache_dir,
            driver: docker.volume_driver.clone(),
            driver_options: docker.volume_driver_ops.clone(),
            keep_anonymous: docker.volume_keep,
        })
    }
}

/// Returns the services that every job of the runner gets.
pub(super) fn services(docker: &DockerTable) -> Result<Vec<Image>, DecideError> {
    docker.services.iter().map(service).collect()
}

fn service(table: &ServiceTable) -> Result<Image, DecideError> {
    let variable = |pair: &String| match pair.split_once('=') {
        Some((key, value)) => Ok(Variable { key: key.to_owned(), value: value.to_owned(), ..Variable::default() }),
        None => Err(DecideError::Value { key: "environment", value: pair.clone(), expected: "a variable of a service is `KEY=VALUE`" }),
    };
    Ok(Image {
        name: table.name.clone(),
        alias: table.alias.clone(),
        command: table.command.clone(),
        entrypoint: table.entrypoint.clone(),
        variables: table.environment.iter().map(variable).collect::<Result<_, _>>()?,
        ..Image::default()
    })
}
