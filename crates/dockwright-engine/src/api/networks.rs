//! Endpoints of networks.

use std::sync::Arc;

use dockwright_container::network::{Bridge, create_bridge, delete_link};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    Engine,
    api::{
        Request, Response,
        router::{Filters, Route, route},
        stream,
    },
    container::{Attachment, Container, Fields, config::EndpointConfig, interface},
    error::{Context as _, EngineError, ErrorKind, Result},
    network::{Driver, Network, NetworkRequest, ipam::Subnet},
};

pub(super) const ROUTES: &[Route] = &[
    route!(GET "/networks" => list),
    route!(GET "/networks/" => list),
    route!(POST "/networks/create" => create),
    route!(POST "/networks/prune" => prune),
    route!(GET "/networks/{id}" => inspect),
    route!(DELETE "/networks/{id}" => remove),
    route!(POST "/networks/{id}/connect" => connect),
    route!(POST "/networks/{id}/disconnect" => disconnect),
];

async fn list(request: Request) -> Result<Response> {
    let filters = request.query.filters()?;
    filters.check(&["dangling", "driver", "id", "label", "label!", "name", "scope", "type"])?;
    let networks = request.engine.networks();
    let listed = networks.list().into_iter().filter(|network| request.sees(&network.id));
    let mut matching: Vec<_> = listed.filter(|network| matches(&request.engine, network, &filters)).collect();
    matching.sort_by_key(|network| std::cmp::Reverse(network.created));
    let shown: Vec<Value> = matching.iter().map(|network| networks.shown(network, false)).collect();
    Ok(stream::ok(&shown))
}

fn matches(engine: &Engine, network: &Network, filters: &Filters) -> bool {
    let driver = match network.driver {
        Driver::Bridge => "bridge",
        Driver::Host => "host",
        Driver::None => "null",
    };
    let kind = if network.predefined { "builtin" } else { "custom" };
    let dangling = !network.predefined && network_users(engine, network).is_empty();
    filters.any("id", |wanted| network.id.starts_with(wanted.as_str()))
        && filters.any("name", |wanted| network.name.contains(wanted.as_str()))
        && filters.any("driver", |wanted| wanted == driver)
        && filters.any("scope", |wanted| wanted == "local")
        && filters.any("type", |wanted| wanted == kind)
        && filters.any("dangling", |wanted| matches!(wanted.as_str(), "true" | "1") == dangling)
        && filters.labels_match(|key| network.labels.get(key).map(String::as_str))
}

/// Returns the containers that are or will be on a network.
fn network_users(engine: &Engine, network: &Network) -> Vec<Arc<Container>> {
    let uses = |container: &Arc<Container>| container.state().networks.values().any(|attachment| attachment.network_id == network.id);
    engine.containers().list().into_iter().filter(uses).collect()
}

async fn inspect(request: Request) -> Result<Response> {
    let network = request.engine.networks().find(request.param("id"))?;
    Ok(stream::ok(&request.engine.networks().shown(&network, true)))
}

fn parse(body: &Value) -> Result<NetworkRequest> {
    let fields = Fields::of(body, "the request")?;
    let name = fields.string("Name")?;
    let rest_is_valid = name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !rest_is_valid {
        return Err(EngineError::invalid(format!("invalid network name: \"{name}\"")));
    }
    match fields.string("Driver")?.as_str() {
        "" | "bridge" | "default" => {}
        driver @ ("host" | "null") => return Err(EngineError::forbidden(format!("only one instance of \"{driver}\" network is allowed"))),
        other => return Err(EngineError::not_found(format!("could not find plugin {other} in v1 plugin registry: plugin not found"))),
    }
    let ipam = fields.object("IPAM")?;
    let mut request = NetworkRequest {
        name,
        internal: fields.bool("Internal")?,
        attachable: fields.bool("Attachable")?,
        labels: fields.string_map("Labels")?,
        options: fields.string_map("Options")?,
        ..NetworkRequest::default()
    };
    for config in ipam.objects("Config")? {
        let subnet = config.string("Subnet")?;
        if subnet.contains(':') {
            // IPv6 is not there; the IPv4 part of the request is served.
            continue;
        }
        let optional = |name: &str| -> Result<Option<String>> { Ok(config.optional_string(name)?.filter(|text| !text.is_empty())) };
        request.subnet = Some(subnet).filter(|text| !text.is_empty()).map(|text| text.parse::<Subnet>()).transpose()?;
        let invalid = |text: &str| EngineError::invalid(format!("invalid gateway address: {text}"));
        request.gateway = optional("Gateway")?.map(|text| text.parse().map_err(|_| invalid(&text))).transpose()?;
        request.allocated_from = optional("IPRange")?.map(|text| text.parse::<Subnet>()).transpose()?;
    }
    Ok(request)
}

async fn create(mut request: Request) -> Result<Response> {
    let body: Value = request.json().await?;
    let engine = request.engine.clone();
    engine.network_up().await?;
    let network = engine.networks().create(parse(&body)?)?;
    if let Err(error) = engine.make_bridge(&network).await {
        engine.networks().remove(&network.id)?;
        return Err(error);
    }
    engine.owners().made(&network.id, request.caller);
    engine.network_event("create", &network, "");
    Ok(stream::json(StatusCode::CREATED, &json!({ "Id": network.id, "Warning": "" })))
}

async fn remove(request: Request) -> Result<Response> {
    let engine = request.engine.clone();
    engine.remove_network(request.param("id")).await?;
    Ok(stream::no_content())
}

async fn prune(request: Request) -> Result<Response> {
    let filters = request.query.filters()?;
    filters.check(&["until", "label", "label!"])?;
    let until = filters.values("until").first().map(|text| crate::time::parse(text)).transpose()?;
    let mut deleted = Vec::new();
    for network in request.engine.networks().list() {
        let old = until.is_none_or(|until| network.created < until);
        let labelled = filters.labels_match(|key| network.labels.get(key).map(String::as_str));
        let wanted = request.sees(&network.id) && !network.predefined && old && labelled;
        if !wanted || !network_users(&request.engine, &network).is_empty() {
            continue;
        }
        // Somebody may have connected meanwhile.
        if request.engine.remove_network(&network.id).await.is_ok() {
            deleted.push(network.name.clone());
        }
    }
    Ok(stream::ok(&json!({ "NetworksDeleted": if deleted.is_empty() { Value::Null } else { json!(deleted) } })))
}

async fn connect(mut request: Request) -> Result<Response> {
    let body: Value = request.json().await?;
    let fields = Fields::of(&body, "the request")?;
    let engine = request.engine.clone();
    let container = engine.containers().find(&fields.string("Container")?)?;
    let network = engine.networks().find(request.param("id"))?;
    let config = EndpointConfig::parse(fields.get("EndpointConfig").unwrap_or(&Value::Null))?;
    engine.connect_container(&container, &network, config).await?;
    Ok(stream::empty(StatusCode::OK))
}

async fn disconnect(mut request: Request) -> Result<Response> {
    let body: Value = request.json().await?;
    let fields = Fields::of(&body, "the request")?;
    let engine = request.engine.clone();
    let network = engine.networks().find(request.param("id"))?;
    let container = match engine.containers().find(&fields.string("Container")?) {
        Ok(container) => container,
        // A container that is gone is not connected, which is what was asked for.
        Err(_) if fields.bool("Force")? => return Ok(stream::empty(StatusCode::OK)),
        Err(error) => return Err(error),
    };
    engine.disconnect_container(&container, &network).await?;
    Ok(stream::empty(StatusCode::OK))
}

impl Engine {
    /// Makes the bridge of a network.
    pub(crate) async fn make_bridge(&self, network: &Network) -> Result<()> {
        let Some(range) = network.range else { return Ok(()) };
        let bridge = Bridge {
            name: network.bridge(),
            addresses: vec![(range.gateway.into(), range.subnet.prefix())],
            mtu: network.options.get("com.docker.network.driver.mtu").and_then(|mtu| mtu.parse().ok()),
        };
        let made = tokio::task::spawn_blocking(move || create_bridge(&bridge)).await;
        made.context("make a bridge")?.context(format_args!("create network {}", network.name))
    }

    async fn remove_network(&self, name: &str) -> Result<()> {
        let network = self.networks().remove(name)?;
        let bridge = network.bridge();
        let deleted = tokio::task::spawn_blocking(move || delete_link(&bridge)).await;
        deleted.context("delete a bridge")?.context(format_args!("remove network {}", network.name))?;
        self.network_event("destroy", &network, "");
        Ok(())
    }

    async fn connect_container(&self, container: &Arc<Container>, network: &Arc<Network>, config: EndpointConfig) -> Result<()> {
        let _life = container.life.lock().await;
        let (name, known, interface_name) = {
            let state = container.state();
            let used: Vec<&str> = state
                .networks
                .values()
                .filter_map(|attachment| attachment.endpoint.as_ref())
                .map(|endpoint| endpoint.interface.as_str())
                .collect();
            let free = (0..).map(|number| format!("eth{number}")).find(|name| !used.contains(&name.as_str()));
            (state.name.clone(), state.networks.contains_key(&network.name), free.expect("there is always another number"))
        };
        if known {
            return Err(EngineError::forbidden(format!("endpoint with name {name} already exists in network {}", network.name)));
        }
        if network.driver != Driver::Bridge || container.host.network_mode == "host" {
            return Err(EngineError::invalid("container cannot be connected to host network or to none"));
        }
        let mut attachment = Attachment { config, network_id: network.id.clone(), endpoint: None };
        if container.is_running() {
            let endpoint = self.networks().connect(network, &container.id, &name, &attachment.config, interface_name)?;
            let first = container.state().networks.values().all(|other| other.endpoint.is_none());
            let (id, link) = (container.id.clone(), interface(&endpoint, first));
            if let Err(error) = self.sandbox().ask(move |spawner| spawner.connect(&id, &link)).await {
                self.networks().disconnect(&network.id, &container.id);
                return Err(error.into());
            }
            attachment.endpoint = Some(endpoint);
        }
        container.state().networks.insert(network.name.clone(), attachment);
        self.rewrite_files(container)?;
        self.network_event("connect", network, &container.id);
        Ok(())
    }

    async fn disconnect_container(&self, container: &Arc<Container>, network: &Arc<Network>) -> Result<()> {
        let _life = container.life.lock().await;
        let attachment = container.state().networks.get(&network.name).cloned();
        let not_connected = || {
            let message = format!("container {} is not connected to network {}", container.id, network.name);
            EngineError::new(ErrorKind::Forbidden, message)
        };
        let attachment = attachment.ok_or_else(not_connected)?;
        if let Some(endpoint) = attachment.endpoint {
            let id = container.id.clone();
            self.sandbox().ask(move |spawner| spawner.disconnect(&id, &endpoint.interface)).await?;
            self.networks().disconnect(&network.id, &container.id);
        }
        container.state().networks.remove(&network.name);
        self.rewrite_files(container)?;
        self.network_event("disconnect", network, &container.id);
        Ok(())
    }

    /// Writes a running container's files again after its addresses changed.
    fn rewrite_files(&self, container: &Container) -> Result<()> {
        if !container.is_running() {
            return Ok(());
        }
        let mut endpoints: Vec<_> = container.state().networks.values().filter_map(|attachment| attachment.endpoint.clone()).collect();
        endpoints.sort_by(|a, b| a.interface.cmp(&b.interface));
        self.write_files(container, &endpoints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_checked() {
        let message = |body: Value| parse(&body).unwrap_err().message;
        assert_eq!(message(json!({ "Name": "a b" })), "invalid network name: \"a b\"");
        assert!(message(json!({ "Name": "a", "Driver": "overlay" })).contains("plugin overlay"));
        let body = json!({ "name": "a", "IPAM": { "Config": [{ "Subnet": "10.1.0.0/24", "Gateway": "10.1.0.254" }] } });
        let request = parse(&body).unwrap();
        assert_eq!(request.subnet.unwrap().to_string(), "10.1.0.0/24");
        assert_eq!(request.gateway.unwrap().to_string(), "10.1.0.254");
    }
}
