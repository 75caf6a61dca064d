//! What the runner's settings say about a container, apart from its volumes and network, which are the job's.

use bollard::models::HostConfig;

use crate::config::{DockerConfig, restrictions::allow};

/// Settings of the job's container and the helper's. `image` is the image's name with variables expanded.
pub(super) fn of_job(config: &DockerConfig, image: &str) -> HostConfig {
    HostConfig { privileged: Some(config.privileged && allow(&config.restrictions.privileged_images, image)), ..HostConfig::default() }
}

/// Settings of a service's container.
pub(super) fn of_service(config: &DockerConfig, image: &str) -> HostConfig {
    HostConfig {
        privileged: Some(config.services_privileged && allow(&config.restrictions.privileged_services, image)),
        ..HostConfig::default()
    }
}
