//! The network of a job: one of its own, in which its containers find each other by name, or one that is there.
//!
//! A network that is there may be shared with others, and the engine's default one has no names. In it, the job's container finds
//! services through lines of its `/etc/hosts`, as it finds the containers of `links`.

use std::collections::HashMap;

use bollard::{
    errors::Error,
    models::{ContainerInspectResponse, EndpointSettings, NetworkCreateRequest, NetworkingConfig},
};

use super::{Ready, labels};
use crate::executor::{ExecuteError, ExecutorContext};

const DEFAULT_NETWORK: &str = "bridge";
const LOCALHOST: &str = "127.0.0.1";

/// Where a job's containers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JobNetwork {
    /// Made for the job, and removed with it.
    Own(String),
    /// A `network_mode` of the engine.
    Present(String),
}

impl JobNetwork {
    /// Decides where. `own_name` is for a network that nobody else has. An engine that is the job's own has no other networks but
    /// those that every engine has.
    pub(super) fn decide(context: &ExecutorContext, job_scoped: bool, own_name: String) -> Self {
        let settings = &context.config.docker.network;
        let per_build = context.variables.is_true("FF_NETWORK_PER_BUILD");
        match &settings.mode {
            Some(mode) if !job_scoped || is_of_every_engine(mode) => Self::Present(mode.clone()),
            None if per_build == Some(false) => Self::Present(DEFAULT_NETWORK.to_owned()),
            // Containers in a network of the job's own cannot reach others.
            None if per_build.is_none() && !settings.links.is_empty() && !job_scoped => Self::Present(DEFAULT_NETWORK.to_owned()),
            _ => Self::Own(own_name),
        }
    }

    pub(super) fn mode(&self) -> &str {
        match self {
            Self::Own(name) | Self::Present(name) => name,
        }
    }

    /// The variable that tells a job its network's name, so that it can start containers there.
    pub(super) fn variable(&self) -> Option<String> {
        match self {
            Self::Own(name) => Some(format!("CI_BUILD_NETWORK_NAME={name}")),
            Self::Present(_) => None,
        }
    }

    /// How a container is joined to it. The networks of every engine know no names.
    pub(super) fn endpoint(&self, aliases: Vec<String>, mac_address: &str) -> NetworkingConfig {
        let has_names = match self {
            Self::Own(_) => true,
            Self::Present(mode) => is_user_defined(mode),
        };
        let mac_address = Some(mac_address.to_owned()).filter(|address| !address.is_empty());
        if !has_names && mac_address.is_none() {
            return NetworkingConfig::default();
        }
        let endpoint = EndpointSettings { aliases: has_names.then_some(aliases), mac_address, ..EndpointSettings::default() };
        NetworkingConfig { endpoints_config: Some(HashMap::from([(self.mode().to_owned(), endpoint)])) }
    }

    /// Returns the addresses of a container that is in it.
    pub(super) fn addresses(&self, inspected: &ContainerInspectResponse) -> Vec<String> {
        if self.mode() == "host" {
            return vec![LOCALHOST.to_owned()];
        }
        let networks = inspected.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        let endpoints = networks.into_iter().flat_map(HashMap::values);
        let addresses = endpoints.flat_map(|endpoint| [&endpoint.ip_address, &endpoint.global_ipv6_address]);
        addresses.flatten().filter(|address| !address.is_empty()).cloned().collect()
    }
}

fn is_of_every_engine(mode: &str) -> bool {
    matches!(mode, DEFAULT_NETWORK | "default" | "host" | "none")
}

fn is_user_defined(mode: &str) -> bool {
    !is_of_every_engine(mode) && !mode.starts_with("container:")
}

/// Lines of `/etc/hosts`, as `name:address`.
pub(super) fn hosts<'a>(names: impl IntoIterator<Item = &'a str>, addresses: &[String]) -> Vec<String> {
    names.into_iter().flat_map(|name| addresses.iter().map(move |address| format!("{name}:{address}"))).collect()
}

impl Ready {
    /// Makes the job's own network, or sees that the one that is said to be there is.
    pub(super) async fn prepare_network(&mut self, context: &ExecutorContext) -> Result<(), ExecuteError> {
        match &self.network {
            JobNetwork::Own(name) => self.create_network(context, name.clone()).await,
            JobNetwork::Present(mode) if is_user_defined(mode) => self.find_network(mode).await,
            JobNetwork::Present(_) => Ok(()),
        }
    }

    async fn find_network(&self, name: &str) -> Result<(), ExecuteError> {
        let action = format!("use the network `{name}`");
        match self.docker.inspect_network(name, None).await {
            Ok(_) => Ok(()),
            Err(Error::DockerResponseServerError { status_code: 404, message }) => {
                Err(ExecuteError::InvalidContainer { action, reason: message })
            }
            Err(error) => Err(ExecuteError::engine(action)(error)),
        }
    }

    async fn create_network(&mut self, context: &ExecutorContext, name: String) -> Result<(), ExecuteError> {
        let settings = &context.config.docker.network;
        // Packets of a job's own engine go through it, whatever their size, and it has no IPv6.
        let mtu = Some(settings.mtu).filter(|mtu| *mtu > 0 && !self.job_scoped);
        let request = NetworkCreateRequest {
            name: name.clone(),
            driver: Some("bridge".to_owned()),
            enable_ipv6: (settings.ipv6 && !self.job_scoped).then_some(true),
            options: mtu.map(|mtu| HashMap::from([("com.docker.network.driver.mtu".to_owned(), mtu.to_string())])),
            labels: Some(labels(context, "network")),
            ..NetworkCreateRequest::default()
        };
        self.docker.create_network(request).await.map_err(ExecuteError::engine(format!("create the network {name}")))?;
        self.created.network = Some(name);
        Ok(())
    }

    /// Returns lines of `/etc/hosts` for the containers of `links`.
    pub(super) async fn linked_hosts(&self, context: &ExecutorContext) -> Result<Vec<String>, ExecuteError> {
        let mut lines = Vec::new();
        if self.job_scoped {
            return Ok(lines);
        }
        for link in &context.config.docker.network.links {
            let (container, alias) = link.split_once(':').unwrap_or((link, link));
            let inspected = match self.docker.inspect_container(container, None).await {
                Ok(inspected) => inspected,
                Err(Error::DockerResponseServerError { status_code: 404, message }) => {
                    return Err(ExecuteError::InvalidContainer { action: format!("link the container `{container}`"), reason: message });
                }
                Err(error) => return Err(ExecuteError::engine(format!("look for the linked container `{container}`"))(error)),
            };
            lines.extend(hosts([alias], &self.network.addresses(&inspected)));
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_networks_with_names_get_aliases() {
        let aliases = |network: JobNetwork| {
            let endpoints = network.endpoint(vec!["build".to_owned()], "").endpoints_config?;
            endpoints.into_values().next()?.aliases
        };
        let present = |mode: &str| JobNetwork::Present(mode.to_owned());
        for mode in ["bridge", "host", "none", "default", "container:other"] {
            assert_eq!(aliases(present(mode)), None, "{mode}");
        }
        assert_eq!(aliases(present("their-network")), Some(vec!["build".to_owned()]));
        assert_eq!(aliases(JobNetwork::Own("ours".to_owned())), Some(vec!["build".to_owned()]));
        let endpoints = present("bridge").endpoint(Vec::new(), "02:42:ac:11:00:09").endpoints_config.expect("an endpoint");
        assert_eq!(endpoints["bridge"].mac_address.as_deref(), Some("02:42:ac:11:00:09"));
    }

    #[test]
    fn every_name_has_every_address() {
        let addresses = ["172.17.0.2".to_owned(), "fd00::2".to_owned()];
        assert_eq!(hosts(["a", "b"], &addresses), ["a:172.17.0.2", "a:fd00::2", "b:172.17.0.2", "b:fd00::2"]);
    }
}
