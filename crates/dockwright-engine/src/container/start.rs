//! Starting a container: addresses, generated files, the specification, the process, and what goes with it while it runs.

use std::{collections::BTreeMap, net::IpAddr, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use dockwright_container::{
    process::{
        Capabilities, ContainerSpec, Device, Interface, Limits, Mount, MountSource, NamespaceMode, NetworkMode, ProcessSpec, Rlimit,
        Rootfs, Seccomp, SocketProtocol, SocketSpec, TerminalSize,
    },
    spawner::{ErrorKind as SpawnerErrorKind, SpawnerError, Started},
};
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::{
    Container, Run, Status,
    config::{HostConfig, PortBinding, env_name},
    stdio::{self, Pipes},
};
use crate::{
    Engine,
    error::{Context as _, EngineError, ErrorKind, Result},
    event::EventType,
    network::{
        Driver, Endpoint, dns,
        files::{Hosts, Resolver},
        ports::{self, Published, Socket},
    },
    stand_in::StandIn,
};

/// Search path of a process whose image and request name none.
pub(crate) const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Engine {
    /// Starts a container that does not run.
    pub(crate) async fn start_container(&self, container: &Arc<Container>) -> Result<()> {
        let _life = container.life.lock().await;
        self.start_alive(container).await
    }

    /// As [`Engine::start_container`], for a caller that holds the container's life.
    pub(super) async fn start_alive(&self, container: &Arc<Container>) -> Result<()> {
        match container.state().status {
            Status::Running => return Err(EngineError::not_modified()),
            Status::Paused => return Err(EngineError::conflict("cannot start a paused container, try unpause instead")),
            Status::Removing => return Err(EngineError::conflict("container is marked for removal and cannot be started")),
            Status::Created | Status::Exited | Status::Restarting => {}
        }
        let result = self.try_start(container).await;
        if let Err(error) = &result {
            self.start_failed(container, error);
            if container.host.auto_remove {
                self.remove_alive(container, true).await;
            }
        }
        result
    }

    fn start_failed(&self, container: &Container, error: &EngineError) {
        self.leave_networks(container);
        container.output.close();
        container.input.close();
        let exit_code = failed_start_code(&error.message);
        {
            let mut state = container.state();
            state.status = if state.started.is_some() { Status::Exited } else { Status::Created };
            state.exit_code = exit_code;
            error.message.clone_into(&mut state.error);
            state.run = None;
            state.published.clear();
        }
        container.phase.send_modify(|phase| {
            phase.running = false;
            phase.exits += 1;
            phase.exit_code = exit_code;
        });
    }

    async fn try_start(&self, container: &Arc<Container>) -> Result<()> {
        self.network_up().await?;
        let stand_in = container.is_stand_in.then(|| StandIn::plan(container)).transpose()?;
        let endpoints = self.join_networks(container)?;
        self.write_files(container, &endpoints)?;
        let certificates = match &stand_in {
            Some(stand_in) => stand_in.write_certificates(self, container, &endpoints).await?,
            None => None,
        };
        let (published, sockets) = self.open_ports(container, &endpoints).await?;
        let mut spec = self.spec(container, &endpoints)?;
        let resolves = endpoints.iter().any(|endpoint| endpoint.network.resolves_names());
        if resolves {
            spec.sockets.extend([dns_socket(SocketProtocol::Udp), dns_socket(SocketProtocol::TcpListener)]);
        }
        if let Some(stand_in) = &stand_in {
            stand_in.amend(&mut spec);
        }
        let (started, exit, pipes) = self.spawn(container, spec).await?;
        let mut run = Run::default();
        let mut opened = started.sockets.into_iter();
        if resolves {
            self.serve_names(container, &mut opened, &mut run.services)?;
        }
        if let Some(stand_in) = stand_in {
            stand_in.serve(self, opened, certificates, &mut run.services)?;
        }
        self.serve_ports(&endpoints, &published, sockets, &mut run.services).await;
        let carrying = match (started.terminal, pipes) {
            (Some(terminal), _) => {
                let input = container.config.open_stdin.then_some(&container.input);
                let (terminal, carrying) = stdio::carry_terminal(terminal, input, &container.output).context("use the terminal")?;
                run.terminal = Some(terminal);
                carrying
            }
            (None, Some(pipes)) => pipes.carry(&container.input, &container.output).context("use the pipes")?,
            (None, None) => JoinSet::new(),
        };
        self.watch_health(container, &mut run.services);
        self.started(container, started.pid, run, published);
        tokio::spawn(self.clone().supervise(Arc::clone(container), exit, carrying));
        Ok(())
    }

    fn started(&self, container: &Container, pid: u32, run: Run, published: Vec<Published>) {
        {
            let mut state = container.state();
            state.status = Status::Running;
            state.pid = pid;
            state.exit_code = 0;
            state.error.clear();
            state.oom_killed = false;
            state.stop_requested = false;
            state.started = Some(Timestamp::now());
            state.run = Some(run);
            state.published = published;
        }
        container.phase.send_modify(|phase| phase.running = true);
        self.events().emit(EventType::Container, "start", &container.id, container.event_attributes());
    }

    async fn spawn(
        &self,
        container: &Container,
        spec: ContainerSpec,
    ) -> Result<(Started, tokio::sync::oneshot::Receiver<dockwright_container::spawner::ExitEvent>, Option<Pipes>)> {
        container.output.open();
        let (pipes, ends) = if container.config.tty {
            (None, None)
        } else {
            let (pipes, ends) = Pipes::new(container.config.open_stdin).context("make the pipes of a process")?;
            (Some(pipes), Some(ends))
        };
        let exit = self.sandbox().expect_exit(&container.id);
        let started = self.sandbox().ask(move |spawner| spawner.start(&spec, ends.as_ref().map(stdio::ProcessEnds::stdio), &[])).await;
        match started {
            Ok(started) => Ok((started, exit, pipes)),
            Err(error) => {
                self.sandbox().forget_exit(&container.id);
                Err(start_error(&error))
            }
        }
    }

    /// Takes addresses on all networks of a container.
    fn join_networks(&self, container: &Container) -> Result<Vec<Endpoint>> {
        let mut state = container.state();
        let name = state.name.clone();
        let mut endpoints = Vec::new();
        // The network of `NetworkMode` comes first: it has the default route.
        let primary = container.host.network_mode.clone();
        let mut names: Vec<String> = state.networks.keys().cloned().collect();
        names.sort_by_key(|network| (*network != primary, network.clone()));
        for network_name in names {
            let attachment = state.networks.get_mut(&network_name).expect("the key was listed above");
            let network = self.networks().find(&attachment.network_id)?;
            if network.driver != Driver::Bridge {
                continue;
            }
            let interface = format!("eth{}", endpoints.len());
            let endpoint = self.networks().connect(&network, &container.id, &name, &attachment.config, interface)?;
            attachment.endpoint = Some(endpoint.clone());
            endpoints.push(endpoint);
        }
        drop(state);
        for endpoint in &endpoints {
            self.network_event("connect", &endpoint.network, &container.id);
        }
        Ok(endpoints)
    }

    /// Gives the addresses of a container back.
    pub(super) fn leave_networks(&self, container: &Container) {
        let endpoints: Vec<Endpoint> = {
            let mut state = container.state();
            state.networks.values_mut().filter_map(|attachment| attachment.endpoint.take()).collect()
        };
        for endpoint in endpoints {
            self.networks().disconnect(&endpoint.network.id, &container.id);
            self.network_event("disconnect", &endpoint.network, &container.id);
        }
    }

    /// Records an event about a network.
    pub(crate) fn network_event(&self, action: &str, network: &crate::network::Network, container: &str) {
        let kind = if network.driver == Driver::Bridge { "bridge" } else { network.name.as_str() };
        let mut attributes = BTreeMap::from([("name".to_owned(), network.name.clone()), ("type".to_owned(), kind.to_owned())]);
        if !container.is_empty() {
            attributes.insert("container".to_owned(), container.to_owned());
        }
        self.events().emit(EventType::Network, action, &network.id, attributes);
    }

    /// Writes `hosts`, `hostname` and `resolv.conf` into the container's directory.
    pub(crate) fn write_files(&self, container: &Container, endpoints: &[Endpoint]) -> Result<()> {
        let hosts = Hosts {
            extra: &container.host.extra_hosts,
            gateway: endpoints.first().map(|endpoint| endpoint.range().gateway.into()),
            links: self.linked(container, endpoints)?,
            own: endpoints.iter().map(|endpoint| endpoint.address.into()).collect(),
            hostname: &container.config.hostname,
            domainname: &container.config.domainname,
        };
        let resolves = endpoints.iter().any(|endpoint| endpoint.network.resolves_names());
        let files = [
            ("hosts", hosts.render()?),
            ("hostname", format!("{}\n", self.hostname(container))),
            ("resolv.conf", self.resolver(&container.host, resolves).render()),
        ];
        for (name, content) in files {
            std::fs::write(container.dir.join(name), content).context(format_args!("write {name} of the container"))?;
        }
        Ok(())
    }

    fn hostname(&self, container: &Container) -> String {
        if container.config.hostname.is_empty() { self.settings().name.clone() } else { container.config.hostname.clone() }
    }

    fn resolver(&self, host: &HostConfig, resolves: bool) -> Resolver {
        let outside = self.upstream_resolver();
        let given = |own: &[String], outside: Vec<String>| if own.is_empty() { outside } else { own.to_vec() };
        if resolves {
            let options = given(&host.dns_options, vec!["ndots:0".to_owned()]);
            return Resolver { servers: vec![dns::SERVER.into()], search: given(&host.dns_search, outside.search), options };
        }
        let servers = if host.dns.is_empty() { outside.servers } else { host.dns.clone() };
        Resolver { servers, search: given(&host.dns_search, outside.search), options: given(&host.dns_options, outside.options) }
    }

    /// Returns the resolver of the sandbox itself.
    pub(crate) fn upstream_resolver(&self) -> Resolver {
        Resolver::parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }

    /// Returns the addresses of linked containers with the names they get.
    fn linked(&self, container: &Container, endpoints: &[Endpoint]) -> Result<Vec<(IpAddr, Vec<String>)>> {
        let mut links: Vec<(IpAddr, Vec<String>)> = self.registry_host().into_iter().collect();
        let of_networks: Vec<String> = container.state().networks.values().flat_map(|attachment| attachment.config.links.clone()).collect();
        for link in container.host.links.iter().chain(&of_networks) {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            let other = self.containers().find(name)?;
            let state = other.state();
            let on_same = |endpoint: &&Endpoint| endpoints.iter().any(|own| own.network.id == endpoint.network.id);
            let endpoint = state.networks.values().filter_map(|attachment| attachment.endpoint.as_ref()).find(on_same);
            let alias = alias.rsplit('/').next().unwrap_or(alias);
            match endpoint {
                Some(endpoint) => {
                    let names = vec![alias.to_owned(), other.config.hostname.clone(), state.name.clone()];
                    links.push((endpoint.address.into(), names));
                }
                None if container.host.links.contains(link) => {
                    return Err(EngineError::invalid(format!(
                        "Cannot link to a non running container: /{} AS /{}/{alias}",
                        state.name,
                        container.name()
                    )));
                }
                None => {}
            }
        }
        Ok(links)
    }

    fn spec(&self, container: &Container, endpoints: &[Endpoint]) -> Result<ContainerSpec> {
        let (config, host) = (&container.config, &container.host);
        let terminal = config.tty.then(|| console_size(&host.shown));
        let process = ProcessSpec { terminal, ..self.process(container, config.args(), &[]) };
        let mut spec = ContainerSpec::new(&container.id, Rootfs::Mounted(container.id.clone()), process);
        spec.read_only_rootfs = host.read_only_rootfs;
        spec.hostname = self.hostname(container);
        spec.domainname.clone_from(&config.domainname);
        spec.mounts = self.mounts(container);
        spec.devices =
            host.devices.iter().map(|one| Device { source: PathBuf::from(&one.host), target: PathBuf::from(&one.container) }).collect();
        spec.sysctls.clone_from(&host.sysctls);
        spec.network = self.network_mode(container, endpoints)?;
        spec.pid = self.namespace("pid", &host.pid_mode)?;
        spec.ipc = self.namespace("ipc", &host.ipc_mode)?;
        spec.uts = self.namespace("uts", &host.uts_mode)?;
        spec.shm_bytes = host.shm_size.unwrap_or(spec.shm_bytes);
        let unconfined = host.security.system_paths_unconfined.then(Vec::new);
        spec.masked_paths = host.masked_paths.clone().or_else(|| unconfined.clone());
        spec.read_only_paths = host.readonly_paths.clone().or(unconfined);
        spec.init = host.init;
        spec.limits = limits(host);
        Ok(spec)
    }

    /// Returns what is common to a container's own process and those executed in it.
    pub(crate) fn process(&self, container: &Container, args: Vec<String>, env: &[String]) -> ProcessSpec {
        let (config, host) = (&container.config, &container.host);
        ProcessSpec {
            env: environment(container, &self.hostname(container), env),
            cwd: config.working_dir.clone(),
            user: config.user.clone(),
            additional_groups: host.group_add.clone(),
            capabilities: Capabilities { privileged: host.privileged, add: host.cap_add.clone(), drop: host.cap_drop.clone() },
            seccomp: if host.security.seccomp_unconfined { Seccomp::Unconfined } else { Seccomp::Default },
            no_new_privileges: host.security.no_new_privileges,
            rlimits: host.ulimits.iter().map(|(name, soft, hard)| Rlimit { name: name.clone(), soft: *soft, hard: *hard }).collect(),
            oom_score_adj: Some(host.oom_score_adj).filter(|adjustment| *adjustment != 0),
            ..ProcessSpec::new(args)
        }
    }

    fn mounts(&self, container: &Container) -> Vec<Mount> {
        let generated = [("/etc/resolv.conf", "resolv.conf"), ("/etc/hostname", "hostname"), ("/etc/hosts", "hosts")];
        let own = |target: &str| container.mounts.iter().any(|mount| mount.target == target);
        let mut mounts: Vec<Mount> = generated
            .into_iter()
            .filter(|(target, _)| !own(target))
            .map(|(target, name)| Mount { target: target.into(), source: MountSource::Path(container.dir.join(name)), read_only: false })
            .collect();
        mounts.extend(container.mounts.iter().map(super::mount::MountPoint::mount));
        mounts
    }

    fn network_mode(&self, container: &Container, endpoints: &[Endpoint]) -> Result<NetworkMode> {
        if let Some(name) = container.host.network_mode.strip_prefix("container:") {
            let other = self.containers().find(name)?;
            if !other.is_running() {
                return Err(EngineError::conflict(format!("cannot join network of a non running container: {}", other.id)));
            }
            return Ok(NetworkMode::Container(other.id.clone()));
        }
        if container.host.network_mode == "host" {
            return Ok(NetworkMode::Sandbox);
        }
        Ok(NetworkMode::Own {
            interfaces: endpoints.iter().enumerate().map(|(number, endpoint)| interface(endpoint, number == 0)).collect(),
        })
    }

    fn namespace(&self, kind: &str, mode: &str) -> Result<NamespaceMode> {
        match mode {
            "" | "private" | "shareable" | "none" => Ok(NamespaceMode::Private),
            "host" => Ok(NamespaceMode::Sandbox),
            other => {
                let name = other.strip_prefix("container:").ok_or_else(|| EngineError::invalid(format!("invalid {kind} mode: {other}")))?;
                let other = self.containers().find(name)?;
                if !other.is_running() {
                    return Err(EngineError::conflict(format!("cannot join {kind} namespace of a non running container: {}", other.id)));
                }
                Ok(NamespaceMode::Container(other.id.clone()))
            }
        }
    }

    /// Begins to answer a container's questions about names.
    fn serve_names(&self, container: &Container, opened: &mut impl Iterator<Item = OwnedFd>, services: &mut JoinSet<()>) -> Result<()> {
        let missing = || EngineError::new(ErrorKind::Internal, "the sandbox opened no sockets for names");
        let (udp, tcp) = (opened.next().ok_or_else(missing)?, opened.next().ok_or_else(missing)?);
        let upstream = if container.host.dns.is_empty() { self.upstream_resolver().servers } else { container.host.dns.clone() };
        let resolving = dns::Resolving { networks: Arc::clone(self.networks()), container: container.id.clone(), upstream };
        let mut serving = dns::serve(resolving, udp, tcp).context("serve names")?;
        services.spawn(async move { while serving.join_next().await.is_some() {} });
        Ok(())
    }

    /// Opens the ports that a container publishes.
    async fn open_ports(&self, container: &Container, endpoints: &[Endpoint]) -> Result<(Vec<Published>, Vec<Socket>)> {
        let Some(endpoint) = endpoints.first() else { return Ok((Vec::new(), Vec::new())) };
        let any = PortBinding { host_ip: None, host_ports: (0, 0) };
        let host = &container.host;
        let mut wanted: Vec<_> =
            host.port_bindings.iter().flat_map(|(key, list)| list.iter().map(move |one| (*key, one.clone()))).collect();
        // `-p 80` has a key without bindings.
        wanted.extend(host.port_bindings.iter().filter(|(_, list)| list.is_empty()).map(|(key, _)| (*key, any.clone())));
        if host.publish_all_ports {
            let exposed = container.config.exposed_ports.iter().filter(|key| !host.port_bindings.contains_key(key));
            wanted.extend(exposed.map(|key| (*key, any.clone())));
        }
        let (mut published, mut sockets) = (Vec::new(), Vec::new());
        for (key, binding) in wanted {
            let opened = ports::open(key, &binding).await.map_err(|error| {
                let message = format!(
                    "driver failed programming external connectivity on endpoint {} ({}): {}",
                    container.name(),
                    endpoint.id,
                    error.message
                );
                EngineError::new(error.kind, message)
            })?;
            published.push(opened.0);
            sockets.extend(opened.1);
        }
        Ok((published, sockets))
    }

    async fn serve_ports(&self, endpoints: &[Endpoint], published: &[Published], sockets: Vec<Socket>, services: &mut JoinSet<()>) {
        let Some(endpoint) = endpoints.first() else { return };
        // One socket for each address that is listened on.
        let keys: Vec<_> = published.iter().flat_map(|one| one.host_ips.iter().map(|_| one.key)).collect();
        for (socket, key) in sockets.into_iter().zip(keys) {
            services.spawn(ports::carry(socket, (endpoint.address, key.port).into()));
        }
        for one in published {
            for socket in self.stand_in_sockets(one).await {
                services.spawn(ports::carry(socket, (endpoint.address, one.key.port).into()));
            }
        }
    }
}

/// Returns the exit code for a container that could not be started, which `docker run` passes on.
fn failed_start_code(message: &str) -> i32 {
    let says = |part: &str| message.contains(part);
    if says("executable file not found") || says("no such file or directory") {
        127
    } else if says("permission denied") || says("is a directory") {
        126
    } else {
        128
    }
}

fn start_error(error: &SpawnerError) -> EngineError {
    let mut text = crate::error::chain(error);
    if text.ends_with("is a directory") {
        // What the kernel says to executing one, and what clients before 23 look for.
        text.push_str(": permission denied");
    }
    let message = format!("failed to create task for container: failed to create container process: {text}");
    let kind = if error.kind() == SpawnerErrorKind::Exec { ErrorKind::Invalid } else { ErrorKind::Internal };
    EngineError::new(kind, message)
}

fn dns_socket(protocol: SocketProtocol) -> SocketSpec {
    SocketSpec { protocol, address: dns::SERVER.into(), port: 53 }
}

/// Returns the interface of an endpoint; the first one of a container has the default route.
pub(crate) fn interface(endpoint: &Endpoint, default_route: bool) -> Interface {
    let range = endpoint.range();
    let routed = default_route && !endpoint.network.internal;
    Interface {
        bridge: endpoint.network.bridge(),
        name: endpoint.interface.clone(),
        port: endpoint.port(),
        addresses: vec![(endpoint.address.into(), range.subnet.prefix())],
        gateways: if routed { vec![range.gateway.into()] } else { Vec::new() },
        mac: Some(endpoint.mac),
        mtu: endpoint.network.options.get("com.docker.network.driver.mtu").and_then(|mtu| mtu.parse().ok()),
    }
}

fn environment(container: &Container, hostname: &str, extra: &[String]) -> Vec<String> {
    let mut environment = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if container.config.tty {
        environment.push("TERM=xterm".to_owned());
    }
    for entry in container.config.env.iter().chain(extra) {
        let name = env_name(entry);
        environment.retain(|known| env_name(known) != name);
        // A name without a value takes the variable away.
        if entry.contains('=') {
            environment.push(entry.clone());
        }
    }
    environment
}

fn console_size(shown: &serde_json::Map<String, serde_json::Value>) -> TerminalSize {
    let number = |at: usize| shown["ConsoleSize"][at].as_u64().and_then(|number| u16::try_from(number).ok()).unwrap_or_default();
    TerminalSize { rows: number(0), columns: number(1) }
}

/// Returns the limits of a container.
pub(crate) fn limits(host: &HostConfig) -> Limits {
    let positive = |value: u64| Some(value).filter(|value| *value > 0);
    let swap = u64::try_from(host.memory_swap).ok().filter(|bytes| *bytes > 0);
    Limits {
        memory_bytes: positive(host.memory),
        // Without a limit of its own Docker allows as much swap as memory.
        memory_and_swap_bytes: swap
            .or_else(|| positive(host.memory).filter(|_| host.memory_swap == 0).map(|bytes| bytes.saturating_mul(2))),
        nano_cpus: positive(host.nano_cpus),
        cpu_shares: positive(host.cpu_shares),
        cpuset_cpus: Some(host.cpuset_cpus.clone()).filter(|cpus| !cpus.is_empty()),
        pids: u64::try_from(host.pids_limit).ok().filter(|limit| *limit > 0),
    }
}
