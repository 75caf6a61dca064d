//! What `docker inspect` and `docker ps` show.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Attachment, Container, State, Status, health::HealthStatus};
use crate::{
    api::version::ApiVersion,
    network::{mac_text, ports::Published},
    time,
};

impl Container {
    /// Returns the object of `docker inspect`.
    pub(crate) fn shown(&self, version: ApiVersion, storage_driver: &str) -> Value {
        let state = self.state();
        let args = self.config.args();
        let file = |name: &str| self.dir.join(name);
        let log_path = self.output.log().map(|log| log.path().to_owned()).unwrap_or_default();
        let mut config = self.config.shown();
        if !version.at_least(44) {
            config["MacAddress"] = json!(self.config.mac_address);
        }
        let mut host = Value::Object(self.host.shown.clone());
        if host["NetworkMode"] == json!("default") && version.at_least(44) {
            host["NetworkMode"] = json!("bridge");
        }
        json!({
            "Id": self.id,
            "Created": time::nanoseconds(self.created),
            "Path": args.first().cloned().unwrap_or_default(),
            "Args": args.get(1..).unwrap_or_default(),
            "State": shown_state(&state),
            "Image": self.image,
            "ResolvConfPath": file("resolv.conf"),
            "HostnamePath": file("hostname"),
            "HostsPath": file("hosts"),
            "LogPath": log_path,
            "Name": format!("/{}", state.name),
            "RestartCount": state.restart_count,
            "Driver": storage_driver,
            "Platform": "linux",
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "ExecIDs": if state.execs.is_empty() { Value::Null } else { json!(state.execs) },
            "HostConfig": host,
            "GraphDriver": { "Name": storage_driver, "Data": { "UpperDir": file("upper"), "WorkDir": file("work") } },
            "Mounts": self.mounts.iter().map(super::mount::MountPoint::shown).collect::<Vec<_>>(),
            "Config": config,
            "NetworkSettings": self.shown_networks(&state),
        })
    }

    fn shown_networks(&self, state: &State) -> Value {
        let networks: Map<String, Value> =
            state.networks.iter().map(|(name, attachment)| (name.clone(), shown_attachment(self, name, attachment))).collect();
        let bridge = networks.get("bridge").cloned().unwrap_or_default();
        let of_bridge = |key: &str, absent: Value| bridge.get(key).cloned().unwrap_or(absent);
        json!({
            "Bridge": "",
            "SandboxID": if state.run.is_some() { self.id.as_str() } else { "" },
            "SandboxKey": "",
            "Ports": self.shown_ports(state),
            "HairpinMode": false,
            "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": null,
            "SecondaryIPv6Addresses": null,
            // The addresses on the default network, once more: scripts read them here.
            "EndpointID": of_bridge("EndpointID", json!("")),
            "Gateway": of_bridge("Gateway", json!("")),
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "IPAddress": of_bridge("IPAddress", json!("")),
            "IPPrefixLen": of_bridge("IPPrefixLen", json!(0)),
            "IPv6Gateway": "",
            "MacAddress": of_bridge("MacAddress", json!("")),
            "Networks": networks,
        })
    }

    fn shown_ports(&self, state: &State) -> Value {
        if state.run.is_none() {
            return json!({});
        }
        let mut ports: BTreeMap<String, Value> = self.config.exposed_ports.iter().map(|key| (key.to_string(), Value::Null)).collect();
        for one in &state.published {
            let entry = ports.entry(one.key.to_string()).or_default();
            let bindings = one.host_ips.iter().map(|ip| json!({ "HostIp": ip, "HostPort": one.host_port.to_string() }));
            let known = entry.as_array().cloned().unwrap_or_default();
            *entry = known.into_iter().chain(bindings).collect();
        }
        json!(ports)
    }
}

fn shown_state(state: &State) -> Value {
    let is = |status: Status| state.status == status;
    let mut shown = json!({
        "Status": state.status.name(),
        "Running": is(Status::Running) || is(Status::Paused) || is(Status::Restarting),
        "Paused": is(Status::Paused),
        "Restarting": is(Status::Restarting),
        "OOMKilled": state.oom_killed,
        "Dead": false,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": time::or_never(state.started),
        "FinishedAt": time::or_never(state.finished),
    });
    if let Some(health) = &state.health {
        shown["Health"] = health.shown();
    }
    shown
}

fn shown_attachment(container: &Container, network: &str, attachment: &Attachment) -> Value {
    let config = &attachment.config;
    let predefined = matches!(network, "bridge" | "host" | "none");
    let mut names = config.aliases.clone();
    names.extend([crate::id::short(&container.id).to_owned()]);
    let aliases = if predefined { Value::Null } else { json!(names) };
    let ipam = config.ipv4.map(|address| json!({ "IPv4Address": address }));
    let mut shown = json!({
        "IPAMConfig": ipam,
        "Links": if config.links.is_empty() { Value::Null } else { json!(config.links) },
        "Aliases": aliases,
        "DNSNames": aliases,
        "MacAddress": "",
        "NetworkID": attachment.network_id,
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DriverOpts": null,
    });
    if let Some(endpoint) = &attachment.endpoint {
        let range = endpoint.range();
        shown["MacAddress"] = json!(mac_text(endpoint.mac));
        shown["EndpointID"] = json!(endpoint.id);
        shown["Gateway"] = json!(range.gateway);
        shown["IPAddress"] = json!(endpoint.address);
        shown["IPPrefixLen"] = json!(range.subnet.prefix());
    }
    shown
}

/// One line of `docker ps`, together with what filters ask about.
#[derive(Debug)]
pub(crate) struct ListItem {
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) exit_code: i32,
    pub(crate) health: &'static str,
    /// Names and ids.
    pub(crate) networks: Vec<String>,
    pub(crate) shown: Value,
}

/// Describes a container for a list.
pub(crate) fn list_item(container: &Container) -> ListItem {
    let state = container.state();
    let networks = state.networks.iter().flat_map(|(name, attachment)| [name.clone(), attachment.network_id.clone()]).collect();
    let shown_networks: Map<String, Value> =
        state.networks.iter().map(|(name, attachment)| (name.clone(), shown_attachment(container, name, attachment))).collect();
    let shown = json!({
        "Id": container.id,
        "Names": [format!("/{}", state.name)],
        "Image": container.config.image,
        "ImageID": container.image,
        "Command": command_line(&container.config.args()),
        "Created": container.created.as_second(),
        "Ports": listed_ports(container, &state),
        "Labels": container.config.labels,
        "State": state.status.name(),
        "Status": status_text(&state, Timestamp::now()),
        "HostConfig": { "NetworkMode": container.host.shown["NetworkMode"] },
        "NetworkSettings": { "Networks": shown_networks },
        "Mounts": container.mounts.iter().map(super::mount::MountPoint::shown).collect::<Vec<_>>(),
    });
    ListItem {
        name: state.name.clone(),
        status: state.status,
        exit_code: state.exit_code,
        health: state.health.as_ref().map_or("none", |health| health.status.name()),
        networks,
        shown,
    }
}

fn command_line(args: &[String]) -> String {
    let quoted = |arg: &String| if arg.contains(' ') { format!("'{arg}'") } else { arg.clone() };
    args.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn listed_ports(container: &Container, state: &State) -> Vec<Value> {
    if state.run.is_none() {
        return Vec::new();
    }
    let of = |one: &Published| {
        let (private, public, kind) = (one.key.port, one.host_port, one.key.protocol.to_string());
        let listed = |ip: &std::net::IpAddr| json!({ "IP": ip, "PrivatePort": private, "PublicPort": public, "Type": kind });
        one.host_ips.iter().map(listed).collect::<Vec<_>>()
    };
    let mut ports: Vec<Value> = state.published.iter().flat_map(of).collect();
    let unpublished = container.config.exposed_ports.iter().filter(|key| state.published.iter().all(|one| one.key != **key));
    ports.extend(unpublished.map(|key| json!({ "PrivatePort": key.port, "Type": key.protocol.to_string() })));
    ports
}

/// Renders the `STATUS` column.
fn status_text(state: &State, now: Timestamp) -> String {
    let since = |time: Option<Timestamp>| time.map_or(0, |time| now.duration_since(time).as_secs().max(0));
    let up = time::human_duration(since(state.started));
    let ended = time::human_duration(since(state.finished));
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Paused => format!("Up {up} (Paused)"),
        Status::Restarting => format!("Restarting ({}) {ended} ago", state.exit_code),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Exited => format!("Exited ({}) {ended} ago", state.exit_code),
        Status::Running => match state.health.as_ref().map(|health| health.status) {
            None => format!("Up {up}"),
            Some(HealthStatus::Starting) => format!("Up {up} (health: starting)"),
            Some(health) => format!("Up {up} ({})", health.name()),
        },
    }
}
