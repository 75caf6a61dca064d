//! The image that stands in for Docker in Docker.
//!
//! `docker:dind` and its relatives start a Docker daemon, which needs a privileged container, seconds of start and its own copy of
//! every layer. Here the engine is at hand already. A pull of such a name succeeds without a registry and gives an image without layers,
//! whose containers run a small process that hands its ports to the engine.

use std::sync::Arc;

use dockwright_store::{ImageConfig, ImageRef, config::Empty};

use super::{Image, ImageTable};
use crate::{
    broker::Client,
    error::{EngineError, Result},
};

/// What makes the image's containers recognisable to a reader of `docker inspect`.
const LABEL: &str = "dockwright.stand-in";

/// Whether a name is one of Docker in Docker: the repository's last part is `docker`, and the tag contains `dind`. The host does not
/// matter, because mirrors and GitLab's dependency proxy serve the same image under other names.
pub fn is_dind(name: &ImageRef) -> bool {
    let repository = name.repository().rsplit('/').next();
    repository == Some("docker") && name.digest().is_none() && name.tag().is_some_and(|tag| tag.contains("dind"))
}

/// The configuration that clients see, as the real image has it.
fn config(name: &ImageRef) -> ImageConfig {
    let mut config = ImageConfig { os: "linux".to_owned(), ..ImageConfig::default() };
    config.architecture = dockwright_store::manifest::Platform::host().architecture;
    let run = &mut config.config;
    run.env = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(), "DOCKER_TLS_CERTDIR=/certs".to_owned()];
    run.entrypoint = Some(vec!["dockerd-entrypoint.sh".to_owned()]);
    run.cmd = Some(Vec::new());
    run.volumes.insert("/var/lib/docker".to_owned(), Empty {});
    for port in ["2375/tcp", "2376/tcp"] {
        run.exposed_ports.insert(port.to_owned(), Empty {});
    }
    run.labels.insert(LABEL.to_owned(), name.familiar());
    config
}

/// Adds the stand-in under a name.
pub(super) async fn add(table: &ImageTable, broker: &Client, name: &ImageRef) -> Result<Arc<Image>> {
    let text = String::from_utf8(config(name).encode()).expect("JSON is UTF-8");
    let record = broker.put_image(text).await.map_err(EngineError::from)?;
    let image = table.insert_image(Image { stand_in: true, ..Image::new(record)? }, false)?;
    table.tag(image.id(), name);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_docker_in_docker() {
        for (name, expected) in [
            ("docker:dind", true),
            ("docker:19.03.12-dind", true),
            ("docker:28-dind-rootless", true),
            ("gitlab.example.com/group/dependency_proxy/containers/docker:dind", true),
            ("docker:19.03.12", false),
            ("docker", false),
            ("mydocker:dind", false),
            ("dind", false),
        ] {
            assert_eq!(is_dind(&name.parse().expect("a name")), expected, "{name}");
        }
    }
}
