//! The volumes of a job: every one goes to the job's container, the helper's and all services'.

use sha2::{Digest as _, Sha256};

use super::{image_name::is_dind, job_services};
use crate::{
    config::DockerConfig,
    executor::{ExecuteError, ExecutorContext},
    variables::JobVariables,
};

/// What is mounted where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volumes {
    /// As the Engine API wants them, `source:destination[:mode]`.
    pub(super) binds: Vec<String>,
    /// Named volumes to create, and where they are mounted.
    pub(super) named: Vec<NamedVolume>,
    /// Where in the containers everybody is to be allowed to write.
    pub(super) opened: Vec<String>,
    /// The engine's socket is among the binds.
    pub(super) socket: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedVolume {
    pub(super) name: String,
    pub(super) destination: String,
    /// Kept after the job, for the next one of this project.
    pub(super) reusable: bool,
}

const SOCKET: &str = "/var/run/docker.sock";

/// Decides on a job's volumes. `job_scoped` tells that the engine, and so its volumes, go with the job.
pub(super) fn plan(context: &ExecutorContext, unique_name: &str, job_scoped: bool) -> Result<Volumes, ExecuteError> {
    let config = &context.config.docker;
    let mut planner = Planner {
        context,
        unique_name,
        // What belongs to the machine of a job's own engine is not this machine's.
        cache_dir: config.volume_settings.cache_dir.as_deref().filter(|_| !job_scoped),
        volumes: Volumes { binds: Vec::new(), named: Vec::new(), opened: Vec::new(), socket: false },
        destinations: Vec::new(),
    };
    for text in &config.volumes {
        planner.add_configured(text)?;
    }
    let builds = context.directories.builds.clone();
    planner.add_named_unless_there(&builds, false);
    let dind_services = job_services(context).filter(|service| is_dind(&context.variables.expand(&service.name)));
    let mut has_dind = false;
    for service in dind_services {
        has_dind = true;
        let own = JobVariables::new(service.variables.clone());
        for directory in certificate_directories(config, own.get("DOCKER_TLS_CERTDIR").or(context.variables.get("DOCKER_TLS_CERTDIR"))) {
            planner.add_named_unless_there(&directory, false);
        }
    }
    if config.job_engine_socket && job_scoped && !has_dind && !planner.destinations.iter().any(|there| there == SOCKET) {
        planner.volumes.binds.push(format!("{SOCKET}:{SOCKET}"));
        planner.volumes.socket = true;
    }
    Ok(planner.volumes)
}

/// Where a dind service leaves the client's certificates; `/certs` is the image's own default.
fn certificate_directories(config: &DockerConfig, tls_certdir: Option<&str>) -> Vec<String> {
    if !config.dind_certificates {
        return Vec::new();
    }
    let mut directories = vec!["/certs/client".to_owned()];
    match tls_certdir {
        Some(directory) if directory.starts_with('/') && directory.trim_end_matches('/') != "/certs" => {
            directories.push(format!("{}/client", directory.trim_end_matches('/')));
        }
        _ => {}
    }
    directories
}

struct Planner<'a> {
    context: &'a ExecutorContext,
    unique_name: &'a str,
    cache_dir: Option<&'a str>,
    volumes: Volumes,
    destinations: Vec<String>,
}

impl Planner<'_> {
    fn add_configured(&mut self, text: &str) -> Result<(), ExecuteError> {
        let error = |problem: &'static str| ExecuteError::Volume { volume: text.to_owned(), problem };
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, mode) = match parts.as_slice() {
            [destination] => (None, *destination, None),
            [source, destination] => (Some(*source), *destination, None),
            [source, destination, mode] => (Some(*source), *destination, Some(*mode)),
            _ => return Err(error("it has more than three parts")),
        };
        let destination = self.absolute(&self.context.variables.expand(destination));
        if destination == "/" {
            return Err(error("the root directory cannot be a volume"));
        }
        if self.destinations.contains(&destination) {
            return Err(error("another volume has the same container path"));
        }
        let Some(source) = source else {
            match self.cache_dir.filter(|_| self.context.config.docker.keep_cache_volumes) {
                Some(directory) => self.add_cache_directory(directory, &destination),
                None => self.add_named_unless_there(&destination, self.context.config.docker.keep_cache_volumes),
            }
            return Ok(());
        };
        let mode = mode.map(|mode| format!(":{mode}")).unwrap_or_default();
        self.volumes.socket |= destination == SOCKET;
        self.volumes.binds.push(format!("{source}:{destination}{mode}"));
        self.destinations.push(destination);
        Ok(())
    }

    fn absolute(&self, destination: &str) -> String {
        let joined = match destination.starts_with('/') {
            true => destination.to_owned(),
            false => format!("{}/{destination}", self.context.directories.project),
        };
        let trimmed = joined.trim_end_matches('/');
        if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }
    }

    /// A directory in the place of a volume that is kept. The engine makes it.
    fn add_cache_directory(&mut self, directory: &str, destination: &str) {
        let name = volume_name(self.context, self.unique_name, destination, true);
        self.volumes.binds.push(format!("{}/{name}:{destination}", directory.trim_end_matches('/')));
        self.volumes.opened.push(destination.to_owned());
        self.destinations.push(destination.to_owned());
    }

    fn add_named_unless_there(&mut self, destination: &str, reusable: bool) {
        if self.destinations.iter().any(|there| there == destination) {
            return;
        }
        let name = volume_name(self.context, self.unique_name, destination, reusable);
        self.volumes.binds.push(format!("{name}:{destination}"));
        self.volumes.named.push(NamedVolume { name, destination: destination.to_owned(), reusable });
        self.volumes.opened.push(destination.to_owned());
        self.destinations.push(destination.to_owned());
    }
}

/// Volumes of protected refs are their own, so that unprotected jobs cannot leave anything for protected ones.
fn volume_name(context: &ExecutorContext, unique_name: &str, destination: &str, reusable: bool) -> String {
    let payload = &context.payload;
    let protected = if payload.git_info.protected == Some(true) { "-protected" } else { "" };
    let place = short_hash(destination);
    if !reusable {
        return format!("{unique_name}-cache-{place}{protected}");
    }
    let config = &context.config;
    let owner = format!(
        "{}-{}-{}-{}-{}",
        config.short_token, config.system_id, payload.job_info.project_id, payload.job_info.project_full_path, context.slot
    );
    format!("runner-{}-cache-{place}{protected}", short_hash(&owner))
}

fn short_hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}
