//! Networks: bridges of the sandbox, the addresses on them, and who is connected.
//!
//! [`Networks`] is a table without I/O: it decides names and addresses. Bridges are made by the caller over netlink, interfaces of
//! containers by PID 1 of the sandbox, names are answered by [`dns`], and published ports are served by [`ports`].

pub(crate) mod dns;
pub(crate) mod files;
pub(crate) mod ipam;
pub(crate) mod ports;
mod registry;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::ipam::{AddressPool, Subnet};
use crate::{
    container::config::EndpointConfig,
    error::{EngineError, Result},
    id,
};

/// How a network works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    /// A bridge of the sandbox.
    Bridge,
    /// The sandbox's own network.
    Host,
    /// Loopback only.
    None,
}

impl Driver {
    fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "null",
        }
    }
}

/// A network.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) driver: Driver,
    pub(crate) created: Timestamp,
    /// One of `bridge`, `host` and `none`, which cannot be removed.
    pub(crate) predefined: bool,
    pub(crate) internal: bool,
    pub(crate) attachable: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
    /// The addresses of a bridge.
    pub(crate) range: Option<AddressRange>,
}

/// The addresses of a bridge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddressRange {
    pub(crate) subnet: Subnet,
    pub(crate) gateway: Ipv4Addr,
    /// Addresses are given out of this part.
    pub(crate) allocated_from: Option<Subnet>,
}

impl Network {
    /// Returns the bridge's interface name.
    pub(crate) fn bridge(&self) -> String {
        if self.predefined { "docker0".to_owned() } else { format!("br-{}", id::short(&self.id)) }
    }

    /// Whether names are resolved by the embedded DNS server: on networks that users made.
    pub(crate) fn resolves_names(&self) -> bool {
        self.driver == Driver::Bridge && !self.predefined
    }
}

/// A running container on a network.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) id: String,
    pub(crate) container: String,
    pub(crate) container_name: String,
    pub(crate) network: Arc<Network>,
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: [u8; 6],
    pub(crate) aliases: Vec<String>,
    /// Interface name in the container.
    pub(crate) interface: String,
}

impl Endpoint {
    /// Returns the prefix length and the gateway. Endpoints exist on bridges only.
    pub(crate) fn range(&self) -> AddressRange {
        self.network.range.expect("endpoints exist on bridges only")
    }

    /// Returns the name of the bridge's port.
    pub(crate) fn port(&self) -> String {
        format!("veth{}", &self.id[..7])
    }

    /// Whether a DNS name means this container.
    fn is_called(&self, name: &str) -> bool {
        let plain = name.strip_suffix(&format!(".{}", self.network.name)).unwrap_or(name);
        let names = [self.container_name.as_str(), id::short(&self.container)];
        names.into_iter().chain(self.aliases.iter().map(String::as_str)).any(|own| own.eq_ignore_ascii_case(plain))
    }
}

/// Renders a hardware address.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// What `POST /networks/create` asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct NetworkRequest {
    pub(crate) name: String,
    pub(crate) internal: bool,
    pub(crate) attachable: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) subnet: Option<Subnet>,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) allocated_from: Option<Subnet>,
}

/// The networks of one engine.
#[derive(Debug)]
pub(crate) struct Networks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    networks: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    network: Arc<Network>,
    pool: Option<AddressPool>,
    /// By container.
    endpoints: BTreeMap<String, Endpoint>,
}

impl Default for Networks {
    /// Makes the table with Docker's three predefined networks.
    fn default() -> Self {
        let subnet = ipam::DEFAULT_SUBNET;
        let range = AddressRange { subnet, gateway: subnet.address(1), allocated_from: None };
        let mut state = State::default();
        for (name, driver, range) in [("bridge", Driver::Bridge, Some(range)), ("host", Driver::Host, None), ("none", Driver::None, None)] {
            state.insert(Network {
                id: id::random(),
                name: name.to_owned(),
                driver,
                created: Timestamp::now(),
                predefined: true,
                internal: false,
                attachable: false,
                labels: BTreeMap::new(),
                options: if driver == Driver::Bridge { default_bridge_options() } else { BTreeMap::new() },
                range,
            });
        }
        Self { state: Mutex::new(state) }
    }
}

fn default_bridge_options() -> BTreeMap<String, String> {
    let options = [
        ("default_bridge", "true"),
        ("enable_icc", "true"),
        ("enable_ip_masquerade", "true"),
        ("host_binding_ipv4", "0.0.0.0"),
        ("name", "docker0"),
    ];
    let mut named: BTreeMap<_, _> =
        options.into_iter().map(|(key, value)| (format!("com.docker.network.bridge.{key}"), value.to_owned())).collect();
    named.insert("com.docker.network.driver.mtu".to_owned(), "1500".to_owned());
    named
}

impl State {
    fn insert(&mut self, network: Network) -> Arc<Network> {
        let pool = network.range.map(|range| AddressPool::new(range.subnet, range.allocated_from, range.gateway));
        let network = Arc::new(network);
        self.networks.insert(network.id.clone(), Entry { network: Arc::clone(&network), pool, endpoints: BTreeMap::new() });
        network
    }

    /// Finds by full id, then name, then unique prefix of an id.
    fn find(&self, name: &str) -> Result<&Entry> {
        if let Some(entry) = self.networks.get(name).or_else(|| self.networks.values().find(|entry| entry.network.name == name)) {
            return Ok(entry);
        }
        let mut matching = self.networks.iter().filter(|(id, _)| !name.is_empty() && id.starts_with(name));
        match (matching.next(), matching.next()) {
            (Some((_, entry)), None) => Ok(entry),
            (Some(_), Some(_)) => {
                Err(EngineError::invalid(format!("network {name} is ambiguous (multiple matches found based on ID prefix)")))
            }
            _ => Err(EngineError::not_found(format!("network {name} not found"))),
        }
    }
}

impl Networks {
    /// Adds a bridge network. The caller makes the bridge, and removes the network again if that fails.
    pub(crate) fn create(&self, request: NetworkRequest) -> Result<Arc<Network>> {
        let mut state = self.lock();
        if state.networks.values().any(|entry| entry.network.name == request.name) {
            return Err(EngineError::conflict(format!("network with name {} already exists", request.name)));
        }
        let taken: Vec<Subnet> = state.networks.values().filter_map(|entry| entry.network.range).map(|range| range.subnet).collect();
        let subnet = match request.subnet {
            Some(subnet) if taken.iter().any(|other| other.overlaps(subnet)) => {
                return Err(EngineError::forbidden("invalid pool request: Pool overlaps with other one on this address space"));
            }
            Some(subnet) => subnet,
            None => ipam::free_subnet(&taken)?,
        };
        let gateway = request.gateway.unwrap_or_else(|| subnet.address(1));
        if !subnet.contains(gateway) {
            return Err(EngineError::invalid(format!("invalid network config: invalid gateway {gateway}: parent subnet is {subnet}")));
        }
        Ok(state.insert(Network {
            id: id::random(),
            name: request.name,
            driver: Driver::Bridge,
            created: Timestamp::now(),
            predefined: false,
            internal: request.internal,
            attachable: request.attachable,
            labels: request.labels,
            options: request.options,
            range: Some(AddressRange { subnet, gateway, allocated_from: request.allocated_from }),
        }))
    }

    /// Removes a network that nobody uses.
    pub(crate) fn remove(&self, name: &str) -> Result<Arc<Network>> {
        let mut state = self.lock();
        let entry = state.find(name)?;
        let network = Arc::clone(&entry.network);
        if network.predefined {
            return Err(EngineError::forbidden(format!("{} is a pre-defined network and cannot be removed", network.name)));
        }
        if let Some(endpoint) = entry.endpoints.values().next() {
            return Err(EngineError::forbidden(format!(
                "error while removing network: network {} has active endpoints (name:\"{}\" id:\"{}\")",
                network.name,
                endpoint.container_name,
                id::short(&endpoint.id)
            )));
        }
        state.networks.remove(&network.id);
        Ok(network)
    }

    /// Finds a network by name, id or prefix of its id.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Network>> {
        Ok(Arc::clone(&self.lock().find(name)?.network))
    }

    /// Returns all networks.
    pub(crate) fn list(&self) -> Vec<Arc<Network>> {
        self.lock().networks.values().map(|entry| Arc::clone(&entry.network)).collect()
    }

    /// Takes an address for a container on a bridge network.
    pub(crate) fn connect(
        &self,
        network: &Network,
        container: &str,
        name: &str,
        config: &EndpointConfig,
        interface: String,
    ) -> Result<Endpoint> {
        let mut state = self.lock();
        let gone = || EngineError::not_found(format!("network {} not found", network.name));
        let entry = state.networks.get_mut(&network.id).ok_or_else(gone)?;
        if entry.endpoints.contains_key(container) {
            let message = format!("endpoint with name {name} already exists in network {}", network.name);
            return Err(EngineError::forbidden(message));
        }
        let pool = entry.pool.as_mut().expect("only bridges are connected to");
        let address = pool.take(config.ipv4)?;
        let [a, b, c, d] = address.octets();
        let endpoint = Endpoint {
            id: id::random(),
            container: container.to_owned(),
            container_name: name.to_owned(),
            network: Arc::clone(&entry.network),
            address,
            mac: config.mac.unwrap_or([2, 0x42, a, b, c, d]),
            aliases: config.aliases.clone(),
            interface,
        };
        entry.endpoints.insert(container.to_owned(), endpoint.clone());
        Ok(endpoint)
    }

    /// Gives an endpoint's address back.
    pub(crate) fn disconnect(&self, network_id: &str, container: &str) {
        let mut state = self.lock();
        let Some(entry) = state.networks.get_mut(network_id) else { return };
        if let (Some(endpoint), Some(pool)) = (entry.endpoints.remove(container), entry.pool.as_mut()) {
            pool.release(endpoint.address);
        }
    }

    /// Tells all networks a container's new name.
    pub(crate) fn rename(&self, container: &str, name: &str) {
        for entry in self.lock().networks.values_mut() {
            if let Some(endpoint) = entry.endpoints.get_mut(container) {
                name.clone_into(&mut endpoint.container_name);
            }
        }
    }

    /// Returns the endpoints of a network.
    pub(crate) fn endpoints(&self, network_id: &str) -> Vec<Endpoint> {
        self.lock().networks.get(network_id).map(|entry| entry.endpoints.values().cloned().collect()).unwrap_or_default()
    }

    /// Returns the container that has an address on one of the networks.
    pub(crate) fn container_at(&self, address: Ipv4Addr) -> Option<String> {
        let state = self.lock();
        let mut endpoints = state.networks.values().flat_map(|entry| entry.endpoints.values());
        endpoints.find(|endpoint| endpoint.address == address).map(|endpoint| endpoint.container.clone())
    }

    /// Returns the addresses that a name has for a container: those of its neighbours on networks with names. `None` when the name
    /// is nobody's.
    pub(crate) fn resolve(&self, asking: &str, name: &str) -> Option<Vec<Ipv4Addr>> {
        let state = self.lock();
        let shared = state.networks.values().filter(|entry| entry.network.resolves_names() && entry.endpoints.contains_key(asking));
        let named = shared.flat_map(|entry| entry.endpoints.values()).filter(|endpoint| endpoint.is_called(name));
        let addresses: Vec<Ipv4Addr> = named.map(|endpoint| endpoint.address).collect();
        if addresses.is_empty() { None } else { Some(addresses) }
    }

    /// Returns the name of the neighbour at an address, as a PTR query wants it.
    pub(crate) fn reverse(&self, asking: &str, address: Ipv4Addr) -> Option<String> {
        let state = self.lock();
        let mut shared = state.networks.values().filter(|entry| entry.endpoints.contains_key(asking));
        shared.find_map(|entry| {
            let endpoint = entry.endpoints.values().find(|endpoint| endpoint.address == address)?;
            Some(format!("{}.{}", endpoint.container_name, endpoint.network.name))
        })
    }

    /// Returns what `docker network inspect` shows.
    pub(crate) fn shown(&self, network: &Network, with_containers: bool) -> Value {
        let containers: Map<String, Value> = if with_containers {
            self.endpoints(&network.id).iter().map(|endpoint| (endpoint.container.clone(), shown_endpoint(endpoint))).collect()
        } else {
            Map::new()
        };
        let config: Vec<Value> = network.range.iter().map(shown_range).collect();
        json!({
            "Name": network.name,
            "Id": network.id,
            "Created": crate::time::nanoseconds(network.created),
            "Scope": "local",
            "Driver": network.driver.name(),
            "EnableIPv4": true,
            "EnableIPv6": false,
            "IPAM": { "Driver": "default", "Options": null, "Config": config },
            "Internal": network.internal,
            "Attachable": network.attachable,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Containers": containers,
            "Options": network.options,
            "Labels": network.labels,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown_range(range: &AddressRange) -> Value {
    let mut shown = json!({ "Subnet": range.subnet.to_string(), "Gateway": range.gateway });
    if let Some(part) = range.allocated_from {
        shown["IPRange"] = json!(part.to_string());
    }
    shown
}

fn shown_endpoint(endpoint: &Endpoint) -> Value {
    json!({
        "Name": endpoint.container_name,
        "EndpointID": endpoint.id,
        "MacAddress": mac_text(endpoint.mac),
        "IPv4Address": format!("{}/{}", endpoint.address, endpoint.range().subnet.prefix()),
        "IPv6Address": "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(networks: &Networks, network: &Network, container: &str, name: &str, aliases: &[&str]) -> Endpoint {
        let config = EndpointConfig { aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(), ..EndpointConfig::default() };
        networks.connect(network, container, name, &config, "eth0".into()).unwrap()
    }

    #[test]
    fn names_are_those_of_neighbours() {
        let networks = Networks::default();
        let request = |name: &str| NetworkRequest { name: name.into(), ..NetworkRequest::default() };
        let (a, b) = (networks.create(request("a")).unwrap(), networks.create(request("b")).unwrap());
        let db = connect(&networks, &a, "1111111111112222", "db", &["postgres"]);
        connect(&networks, &a, "2222222222223333", "web", &[]);
        connect(&networks, &b, "3333333333334444", "other", &["postgres"]);
        for name in ["db", "DB", "postgres", "111111111111", "db.a"] {
            assert_eq!(networks.resolve("2222222222223333", name), Some(vec![db.address]), "{name}");
        }
        assert_eq!(networks.resolve("2222222222223333", "other"), None);
        assert_eq!(networks.resolve("2222222222223333", "db.b"), None);
        assert_eq!(networks.reverse("2222222222223333", db.address).as_deref(), Some("db.a"));
        networks.rename("1111111111112222", "renamed");
        assert!(networks.resolve("2222222222223333", "renamed").is_some());
    }

    #[test]
    fn the_default_bridge_has_no_names() {
        let networks = Networks::default();
        let bridge = networks.find("bridge").unwrap();
        let first = connect(&networks, &bridge, "1", "first", &[]);
        connect(&networks, &bridge, "2", "second", &[]);
        assert_eq!(first.address, Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(networks.resolve("2", "first"), None);
        assert_eq!(networks.container_at(first.address).as_deref(), Some("1"));
    }

    #[test]
    fn a_network_in_use_cannot_be_removed() {
        let networks = Networks::default();
        let network = networks.create(NetworkRequest { name: "n".into(), ..NetworkRequest::default() }).unwrap();
        connect(&networks, &network, "1", "c", &[]);
        assert!(networks.remove("n").unwrap_err().message.contains("has active endpoints"));
        networks.disconnect(&network.id, "1");
        networks.remove(&network.id[..5]).unwrap();
        assert_eq!(networks.find("n").unwrap_err().message, "network n not found");
        assert!(networks.remove("bridge").is_err());
    }
}
