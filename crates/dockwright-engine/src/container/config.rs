//! What a client asks of a new container: Docker's `ContainerConfig` and `HostConfig`.
//!
//! Only what the engine acts on is read into fields. The rest of `HostConfig` is kept as it came, because `docker inspect` and
//! docker-compose expect to find it again.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use dockwright_store::config::{Healthcheck, RunConfig};
use serde_json::{Map, Value, json};

use super::fields::Fields;
use crate::error::{EngineError, Result};

/// Everything in the body of `POST /containers/create`.
#[derive(Debug, Clone)]
pub(crate) struct CreateRequest {
    pub(crate) config: Config,
    pub(crate) host: HostConfig,
    /// Networks by name or id, as far as the request says more than `NetworkMode`.
    pub(crate) endpoints: BTreeMap<String, EndpointConfig>,
    /// `os/architecture[/variant]` that the image must be for. It is not in the body of a request.
    pub(crate) platform: Option<String>,
}

/// The part of a container that does not depend on where it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    pub(crate) hostname: String,
    pub(crate) domainname: String,
    pub(crate) user: String,
    pub(crate) attach_stdin: bool,
    pub(crate) attach_stdout: bool,
    pub(crate) attach_stderr: bool,
    pub(crate) exposed_ports: Vec<PortKey>,
    pub(crate) tty: bool,
    pub(crate) open_stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) env: Vec<String>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) health: Option<HealthCheck>,
    pub(crate) image: String,
    pub(crate) volumes: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) network_disabled: bool,
    pub(crate) mac_address: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) stop_signal: Option<String>,
    pub(crate) stop_timeout: Option<i64>,
    pub(crate) shell: Option<Vec<String>>,
}

/// A health check; durations of zero stand for Docker's defaults.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HealthCheck {
    pub(crate) test: Vec<String>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) start_period: Duration,
    pub(crate) start_interval: Duration,
    pub(crate) retries: u32,
}

/// A port of a container: `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortKey {
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// Where a port of a container is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortBinding {
    /// `None` for all addresses.
    pub(crate) host_ip: Option<IpAddr>,
    /// First and last port to try; both zero for any free port.
    pub(crate) host_ports: (u16, u16),
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    #[default]
    No,
    Always,
    UnlessStopped,
    /// With the most restarts, zero for any number.
    OnFailure(u32),
}

/// How a container's output is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum LogDriver {
    /// One JSON object per line, on disk.
    #[default]
    JsonFile,
    /// Not at all.
    None,
}

/// A mount that a request asks for, before names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountRequest {
    pub(crate) target: String,
    pub(crate) source: MountRequestSource,
    pub(crate) read_only: bool,
    /// The mode as written in `-v source:target:mode`.
    pub(crate) mode: String,
    /// Do not fill an empty volume from the image.
    pub(crate) no_copy: bool,
}

/// What a request wants mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountRequestSource {
    /// A path in the caller's root; missing ones are made unless `must_exist`.
    Bind { path: String, must_exist: bool },
    /// A volume by name; `None` for an anonymous one.
    Volume { name: Option<String>, driver_options: BTreeMap<String, String>, labels: BTreeMap<String, String> },
    /// A new tmpfs with mount options.
    Tmpfs { options: String },
}

/// A device to be shown in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceRequest {
    pub(crate) host: String,
    pub(crate) container: String,
}

/// The part of a container that depends on where it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostConfig {
    pub(crate) mounts: Vec<MountRequest>,
    pub(crate) volumes_from: Vec<String>,
    pub(crate) network_mode: String,
    pub(crate) port_bindings: BTreeMap<PortKey, Vec<PortBinding>>,
    pub(crate) publish_all_ports: bool,
    pub(crate) restart: RestartPolicy,
    pub(crate) auto_remove: bool,
    pub(crate) cap_add: Vec<String>,
    pub(crate) cap_drop: Vec<String>,
    pub(crate) privileged: bool,
    pub(crate) dns: Vec<IpAddr>,
    pub(crate) dns_options: Vec<String>,
    pub(crate) dns_search: Vec<String>,
    pub(crate) extra_hosts: Vec<String>,
    pub(crate) group_add: Vec<String>,
    pub(crate) ipc_mode: String,
    pub(crate) pid_mode: String,
    pub(crate) uts_mode: String,
    pub(crate) links: Vec<String>,
    pub(crate) read_only_rootfs: bool,
    pub(crate) security: SecurityOptions,
    pub(crate) shm_size: Option<u64>,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) init: bool,
    pub(crate) ulimits: Vec<(String, i64, i64)>,
    pub(crate) memory: u64,
    pub(crate) memory_swap: i64,
    pub(crate) nano_cpus: u64,
    pub(crate) cpu_shares: u64,
    pub(crate) cpuset_cpus: String,
    pub(crate) pids_limit: i64,
    pub(crate) oom_score_adj: i32,
    pub(crate) devices: Vec<DeviceRequest>,
    pub(crate) log_driver: LogDriver,
    pub(crate) masked_paths: Option<Vec<String>>,
    pub(crate) readonly_paths: Option<Vec<String>>,
    /// What `docker inspect` shows: the request over Docker's defaults.
    pub(crate) shown: Map<String, Value>,
}

/// `SecurityOpt`, as far as it changes anything here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SecurityOptions {
    pub(crate) seccomp_unconfined: bool,
    pub(crate) no_new_privileges: bool,
    pub(crate) system_paths_unconfined: bool,
}

/// How a container takes part in one network.
#[derive(Debug, Clone, Default)]
pub(crate) struct EndpointConfig {
    pub(crate) aliases: Vec<String>,
    pub(crate) links: Vec<String>,
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) mac: Option<[u8; 6]>,
}

impl CreateRequest {
    /// Reads the body of a request.
    pub(crate) fn parse(body: &Value) -> Result<Self> {
        if body.is_null() {
            return Err(EngineError::invalid("config cannot be empty in order to create a container"));
        }
        let fields = Fields::of(body, "the request")?;
        let host_value = fields.get("HostConfig").unwrap_or(&Value::Null);
        let mut endpoints = BTreeMap::new();
        for (name, value) in fields.object("NetworkingConfig")?.entries("EndpointsConfig")? {
            endpoints.insert(name.to_owned(), EndpointConfig::parse(value)?);
        }
        Ok(Self { config: Config::parse(fields)?, host: HostConfig::parse(host_value)?, endpoints, platform: None })
    }
}

impl Config {
    fn parse(fields: Fields<'_>) -> Result<Self> {
        let exposed = fields.keys("ExposedPorts")?;
        let mut exposed_ports = Vec::new();
        for text in &exposed {
            exposed_ports.extend(PortKey::parse_range(text)?);
        }
        Ok(Self {
            hostname: fields.string("Hostname")?,
            domainname: fields.string("Domainname")?,
            user: fields.string("User")?,
            attach_stdin: fields.bool("AttachStdin")?,
            attach_stdout: fields.bool("AttachStdout")?,
            attach_stderr: fields.bool("AttachStderr")?,
            exposed_ports,
            tty: fields.bool("Tty")?,
            open_stdin: fields.bool("OpenStdin")?,
            stdin_once: fields.bool("StdinOnce")?,
            env: fields.strings("Env")?,
            cmd: fields.optional_strings("Cmd")?,
            entrypoint: fields.optional_strings("Entrypoint")?,
            health: parse_health(fields.object("Healthcheck")?)?,
            image: fields.string("Image")?,
            volumes: fields.keys("Volumes")?,
            working_dir: fields.string("WorkingDir")?,
            network_disabled: fields.bool("NetworkDisabled")?,
            mac_address: fields.string("MacAddress")?,
            labels: fields.string_map("Labels")?,
            stop_signal: fields.optional_string("StopSignal")?,
            stop_timeout: fields.optional_number("StopTimeout")?,
            shell: fields.optional_strings("Shell")?,
        })
    }

    /// Fills in what the image says and the request does not.
    pub(crate) fn merge_image(&mut self, image: &RunConfig) -> Result<()> {
        fill_string(&mut self.user, &image.user);
        fill_string(&mut self.working_dir, &image.working_dir);
        let entrypoint_given = self.entrypoint.is_some();
        if !entrypoint_given {
            self.entrypoint.clone_from(&image.entrypoint);
        }
        // An entrypoint of one's own makes the image's command meaningless; so does a command of one's own.
        let command_given = self.cmd.as_ref().is_some_and(|cmd| !cmd.is_empty());
        if !command_given && !entrypoint_given {
            self.cmd.clone_from(&image.cmd);
        }
        for entry in &image.env {
            let name = env_name(entry);
            if !self.env.iter().any(|own| env_name(own) == name) {
                self.env.push(entry.to_owned());
            }
        }
        for (key, value) in &image.labels {
            self.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for port in image.exposed_ports.keys() {
            self.exposed_ports.extend(PortKey::parse_range(port)?);
        }
        self.exposed_ports.sort_unstable();
        self.exposed_ports.dedup();
        for volume in image.volumes.keys() {
            if !self.volumes.contains(volume) {
                self.volumes.push(volume.clone());
            }
        }
        self.stop_signal = self.stop_signal.take().filter(|signal| !signal.is_empty()).or_else(|| image.stop_signal.clone());
        self.stop_timeout = self.stop_timeout.or(image.stop_timeout);
        if self.shell.is_none() {
            self.shell.clone_from(&image.shell);
        }
        let from_image = image.healthcheck.as_ref().map(health_of_image);
        self.health = merge_health(self.health.take(), from_image);
        Ok(())
    }

    /// The process to run: entrypoint and command.
    pub(crate) fn args(&self) -> Vec<String> {
        let entrypoint = self.entrypoint.iter().flatten().filter(|word| !word.is_empty() || self.entrypoint.iter().flatten().count() > 1);
        entrypoint.chain(self.cmd.iter().flatten()).cloned().collect()
    }

    /// The object that `docker inspect` shows as `Config`.
    pub(crate) fn shown(&self) -> Value {
        let set = |keys: Vec<String>| keys.into_iter().map(|key| (key, json!({}))).collect::<Map<_, _>>();
        let volumes = set(self.volumes.clone());
        let mut shown = json!({
            "Hostname": self.hostname,
            "Domainname": self.domainname,
            "User": self.user,
            "AttachStdin": self.attach_stdin,
            "AttachStdout": self.attach_stdout,
            "AttachStderr": self.attach_stderr,
            "Tty": self.tty,
            "OpenStdin": self.open_stdin,
            "StdinOnce": self.stdin_once,
            "Env": self.env,
            "Cmd": self.cmd,
            "Image": self.image,
            "Volumes": if volumes.is_empty() { Value::Null } else { volumes.into() },
            "WorkingDir": self.working_dir,
            "Entrypoint": self.entrypoint,
            "OnBuild": null,
            "Labels": self.labels,
        });
        let object = shown.as_object_mut().expect("written as an object above");
        if !self.exposed_ports.is_empty() {
            object.insert("ExposedPorts".into(), set(self.exposed_ports.iter().map(ToString::to_string).collect()).into());
        }
        if let Some(health) = &self.health {
            object.insert("Healthcheck".into(), health.shown());
        }
        let optional = [
            ("StopSignal", self.stop_signal.as_ref().map(|signal| json!(signal))),
            ("StopTimeout", self.stop_timeout.map(|secs| json!(secs))),
            ("Shell", self.shell.as_ref().map(|shell| json!(shell))),
            ("MacAddress", Some(json!(self.mac_address)).filter(|_| !self.mac_address.is_empty())),
            ("NetworkDisabled", Some(json!(true)).filter(|_| self.network_disabled)),
        ];
        object.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        shown
    }
}

fn fill_string(own: &mut String, from_image: &str) {
    if own.is_empty() {
        from_image.clone_into(own);
    }
}

/// Returns the name in `NAME=value`.
pub(crate) fn env_name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

fn nanoseconds(fields: Fields<'_>, name: &str) -> Result<Duration> {
    let value = fields.number(name)?;
    u64::try_from(value).map(Duration::from_nanos).map_err(|_| EngineError::invalid(format!("{name} in Healthcheck cannot be negative")))
}

fn parse_health(fields: Fields<'_>) -> Result<Option<HealthCheck>> {
    let retries = fields.number("Retries")?;
    let check = HealthCheck {
        test: fields.strings("Test")?,
        interval: nanoseconds(fields, "Interval")?,
        timeout: nanoseconds(fields, "Timeout")?,
        start_period: nanoseconds(fields, "StartPeriod")?,
        start_interval: nanoseconds(fields, "StartInterval")?,
        retries: u32::try_from(retries).map_err(|_| EngineError::invalid("Retries in Healthcheck cannot be negative"))?,
    };
    Ok(Some(check).filter(|check| *check != HealthCheck::default()))
}

fn health_of_image(image: &Healthcheck) -> HealthCheck {
    let duration = |nanoseconds: Option<i64>| Duration::from_nanos(nanoseconds.and_then(|n| u64::try_from(n).ok()).unwrap_or_default());
    HealthCheck {
        test: image.test.clone(),
        interval: duration(image.interval),
        timeout: duration(image.timeout),
        start_period: duration(image.start_period),
        start_interval: duration(image.start_interval),
        retries: image.retries.and_then(|retries| u32::try_from(retries).ok()).unwrap_or_default(),
    }
}

fn merge_health(own: Option<HealthCheck>, image: Option<HealthCheck>) -> Option<HealthCheck> {
    let (Some(own), Some(image)) = (&own, &image) else { return own.or(image) };
    let duration = |own: Duration, image: Duration| if own.is_zero() { image } else { own };
    Some(HealthCheck {
        test: if own.test.is_empty() { image.test.clone() } else { own.test.clone() },
        interval: duration(own.interval, image.interval),
        timeout: duration(own.timeout, image.timeout),
        start_period: duration(own.start_period, image.start_period),
        start_interval: duration(own.start_interval, image.start_interval),
        retries: if own.retries == 0 { image.retries } else { own.retries },
    })
}

impl HealthCheck {
    fn shown(&self) -> Value {
        let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let mut shown = Map::new();
        if !self.test.is_empty() {
            shown.insert("Test".into(), json!(self.test));
        }
        let durations = [
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
        ];
        for (key, duration) in durations.into_iter().filter(|(_, duration)| !duration.is_zero()) {
            shown.insert(key.into(), json!(nanoseconds(duration)));
        }
        if self.retries > 0 {
            shown.insert("Retries".into(), json!(self.retries));
        }
        shown.into()
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl std::fmt::Display for PortKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

fn parse_port_range(text: &str) -> Result<(u16, u16)> {
    let invalid = || EngineError::invalid(format!("invalid port specification: \"{text}\""));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range: (u16, u16) = (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
    if range.0 > range.1 { Err(invalid()) } else { Ok(range) }
}

impl PortKey {
    /// Reads `80`, `80/udp` or `8000-8010/tcp`.
    pub(crate) fn parse_range(text: &str) -> Result<Vec<Self>> {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => {
                return Err(EngineError::invalid(format!("invalid port specification: \"{text}\": protocol {other} is not supported")));
            }
        };
        let (first, last) = parse_port_range(range)?;
        Ok((first..=last).map(|port| Self { port, protocol }).collect())
    }
}

impl PortBinding {
    fn parse(fields: Fields<'_>) -> Result<Self> {
        let ip = fields.string("HostIp")?;
        let host_ip = match ip.as_str() {
            "" | "0.0.0.0" => None,
            text => Some(text.parse().map_err(|_| EngineError::invalid(format!("invalid IP address: {text}")))?),
        };
        let port = match fields.get("HostPort") {
            Some(Value::Number(number)) => number.to_string(),
            _ => fields.string("HostPort")?,
        };
        let host_ports = if port.is_empty() { (0, 0) } else { parse_port_range(&port)? };
        Ok(Self { host_ip, host_ports })
    }
}

impl EndpointConfig {
    /// Reads one value of `EndpointsConfig`.
    pub(crate) fn parse(value: &Value) -> Result<Self> {
        let fields = Fields::of(value, "EndpointConfig")?;
        let address = fields.object("IPAMConfig")?.string("IPv4Address")?;
        let invalid = || EngineError::invalid(format!("invalid IPv4 address: {address}"));
        let ipv4 = if address.is_empty() { None } else { Some(address.parse().map_err(|_| invalid())?) };
        let mac = fields.string("MacAddress")?;
        Ok(Self { aliases: fields.strings("Aliases")?, links: fields.strings("Links")?, ipv4, mac: parse_mac(&mac)? })
    }
}

/// Reads `02:42:ac:11:00:02`; nothing for an empty string.
pub(crate) fn parse_mac(text: &str) -> Result<Option<[u8; 6]>> {
    if text.is_empty() {
        return Ok(None);
    }
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(|part| u8::from_str_radix(part, 16).ok()).collect();
    let mac = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
    mac.map(Some).ok_or_else(|| EngineError::invalid(format!("invalid MAC address: {text}")))
}

impl HostConfig {
    /// Reads a `HostConfig`.
    pub(crate) fn parse(value: &Value) -> Result<Self> {
        let fields = Fields::of(value, "HostConfig")?;
        let mut mounts = Vec::new();
        for bind in fields.strings("Binds")? {
            mounts.push(MountRequest::parse_bind(&bind)?);
        }
        for mount in fields.objects("Mounts")? {
            mounts.push(MountRequest::parse(mount)?);
        }
        for (target, options) in fields.string_map("Tmpfs")? {
            let source = MountRequestSource::Tmpfs { options };
            mounts.push(MountRequest { target: absolute(&target)?, source, read_only: false, mode: String::new(), no_copy: true });
        }
        check_targets(&mounts)?;
        let mut port_bindings = BTreeMap::new();
        for (key, bindings) in fields.entries("PortBindings")? {
            let bindings = bindings.as_array().map_or(&[][..], Vec::as_slice);
            let parsed: Vec<_> = bindings.iter().map(|one| PortBinding::parse(Fields::of(one, key)?)).collect::<Result<_>>()?;
            for key in PortKey::parse_range(key)? {
                port_bindings.insert(key, parsed.clone());
            }
        }
        let positive = |name: &str| fields.number(name).map(|value| u64::try_from(value).unwrap_or_default());
        let mut dns = Vec::new();
        for server in fields.strings("Dns")? {
            dns.push(server.parse().map_err(|_| EngineError::invalid(format!("invalid DNS server address: {server}")))?);
        }
        let auto_remove = fields.bool("AutoRemove")?;
        let restart = RestartPolicy::parse(fields.object("RestartPolicy")?)?;
        if auto_remove && restart != RestartPolicy::No {
            return Err(EngineError::invalid("can't create 'AutoRemove' container with restart policy"));
        }
        Ok(Self {
            mounts,
            volumes_from: fields.strings("VolumesFrom")?,
            network_mode: fields.string("NetworkMode")?,
            port_bindings,
            publish_all_ports: fields.bool("PublishAllPorts")?,
            restart,
            auto_remove,
            cap_add: fields.strings("CapAdd")?,
            cap_drop: fields.strings("CapDrop")?,
            privileged: fields.bool("Privileged")?,
            dns,
            dns_options: fields.strings("DnsOptions")?,
            dns_search: fields.strings("DnsSearch")?,
            extra_hosts: fields.strings("ExtraHosts")?,
            group_add: fields.strings("GroupAdd")?,
            ipc_mode: fields.string("IpcMode")?,
            pid_mode: fields.string("PidMode")?,
            uts_mode: fields.string("UTSMode")?,
            links: fields.strings("Links")?,
            read_only_rootfs: fields.bool("ReadonlyRootfs")?,
            security: SecurityOptions::parse(&fields.strings("SecurityOpt")?)?,
            shm_size: Some(positive("ShmSize")?).filter(|size| *size > 0),
            sysctls: fields.string_map("Sysctls")?,
            init: fields.bool("Init")?,
            ulimits: parse_ulimits(fields)?,
            memory: positive("Memory")?,
            memory_swap: fields.number("MemorySwap")?,
            nano_cpus: nano_cpus(fields)?,
            cpu_shares: positive("CpuShares")?,
            cpuset_cpus: fields.string("CpusetCpus")?,
            pids_limit: fields.number("PidsLimit")?,
            oom_score_adj: i32::try_from(fields.number("OomScoreAdj")?)
                .map_err(|_| EngineError::invalid("Invalid value for OomScoreAdj"))?,
            devices: parse_devices(fields)?,
            log_driver: LogDriver::parse(&fields.object("LogConfig")?.string("Type")?)?,
            masked_paths: fields.optional_strings("MaskedPaths")?,
            readonly_paths: fields.optional_strings("ReadonlyPaths")?,
            shown: shown_host_config(value),
        })
    }
}

fn check_targets(mounts: &[MountRequest]) -> Result<()> {
    let mut targets: Vec<&str> = mounts.iter().map(|mount| mount.target.as_str()).collect();
    targets.sort_unstable();
    match targets.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(EngineError::invalid(format!("Duplicate mount point: {}", pair[0]))),
        None => Ok(()),
    }
}

fn nano_cpus(fields: Fields<'_>) -> Result<u64> {
    let whole = u64::try_from(fields.number("NanoCpus")?).unwrap_or_default();
    let (quota, period) = (fields.number("CpuQuota")?, fields.number("CpuPeriod")?);
    let period = if period > 0 { period } else { 100_000 };
    let from_quota = if quota > 0 { quota.saturating_mul(1_000_000_000) / period } else { 0 };
    Ok(if whole > 0 { whole } else { u64::try_from(from_quota).unwrap_or_default() })
}

fn parse_ulimits(fields: Fields<'_>) -> Result<Vec<(String, i64, i64)>> {
    fields.objects("Ulimits")?.into_iter().map(|one| Ok((one.string("Name")?, one.number("Soft")?, one.number("Hard")?))).collect()
}

fn parse_devices(fields: Fields<'_>) -> Result<Vec<DeviceRequest>> {
    let device = |one: Fields<'_>| {
        let host = one.string("PathOnHost")?;
        let container = one.string("PathInContainer")?;
        Ok(DeviceRequest { container: if container.is_empty() { host.clone() } else { container }, host })
    };
    fields.objects("Devices")?.into_iter().map(device).collect()
}

impl LogDriver {
    fn parse(name: &str) -> Result<Self> {
        match name {
            "" | "json-file" | "local" => Ok(Self::JsonFile),
            "none" => Ok(Self::None),
            other => Err(EngineError::invalid(format!("logger: no log driver named '{other}' is registered"))),
        }
    }
}

impl RestartPolicy {
    fn parse(fields: Fields<'_>) -> Result<Self> {
        let most = fields.number("MaximumRetryCount")?;
        let most =
            u32::try_from(most).map_err(|_| EngineError::invalid("invalid restart policy: maximum retry count cannot be negative"))?;
        match fields.string("Name")?.as_str() {
            "" | "no" => Ok(Self::No),
            "always" => Ok(Self::Always),
            "unless-stopped" => Ok(Self::UnlessStopped),
            "on-failure" => Ok(Self::OnFailure(most)),
            other => Err(EngineError::invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ))),
        }
    }
}

impl SecurityOptions {
    fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (name, value) {
                ("seccomp", "unconfined") => parsed.seccomp_unconfined = true,
                ("no-new-privileges", "" | "true") => parsed.no_new_privileges = true,
                ("systempaths", "unconfined") => parsed.system_paths_unconfined = true,
                // There is no AppArmor or SELinux in a sandbox that these could switch off, and the default profile stands for `builtin`.
                ("apparmor" | "label", _) | ("no-new-privileges", "false") | ("seccomp", "builtin") => {}
                ("seccomp", _) => {
                    return Err(EngineError::invalid("seccomp profiles other than `unconfined` are not implemented by Dockwright"));
                }
                _ => return Err(EngineError::invalid(format!("invalid --security-opt 2: {option:?}"))),
            }
        }
        Ok(parsed)
    }
}

/// Checks the target of a mount.
fn absolute(target: &str) -> Result<String> {
    if !target.starts_with('/') {
        return Err(EngineError::invalid(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    let cleaned = clean_path(target);
    if cleaned == "/" {
        return Err(EngineError::invalid("invalid specification: destination can't be '/'"));
    }
    Ok(cleaned)
}

/// Removes `.`, `..` and doubled slashes from an absolute path, as text.
pub(crate) fn clean_path(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

impl MountRequest {
    /// Reads `source:target[:mode]`, `volume:target[:mode]` or `target`.
    fn parse_bind(text: &str) -> Result<Self> {
        let invalid = || EngineError::invalid(format!("invalid volume specification: '{text}'"));
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, mode) = match parts[..] {
            [target] => (None, target, ""),
            [source, target] => (Some(source), target, ""),
            [source, target, mode] => (Some(source), target, mode),
            _ => return Err(invalid()),
        };
        let mut request = Self {
            target: absolute(target)?,
            source: MountRequestSource::Volume { name: None, driver_options: BTreeMap::new(), labels: BTreeMap::new() },
            read_only: false,
            mode: mode.to_owned(),
            no_copy: false,
        };
        match source {
            None => {}
            Some("") => return Err(invalid()),
            Some(path) if path.starts_with('/') => request.source = MountRequestSource::Bind { path: clean_path(path), must_exist: false },
            Some(name) => {
                crate::volume::check_name(name)?;
                let name = Some(name.to_owned());
                request.source = MountRequestSource::Volume { name, driver_options: BTreeMap::new(), labels: BTreeMap::new() };
            }
        }
        for option in mode.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => request.read_only = true,
                "nocopy" => request.no_copy = true,
                // Nothing to do: writable is the default, labels and consistency mean nothing here, and propagation into a sandbox
                // without mounts of its own is the same in every mode.
                "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "private" | "rprivate" | "slave" | "rslave" | "shared"
                | "rshared" => {}
                _ => return Err(EngineError::invalid(format!("invalid mode: {mode}"))),
            }
        }
        Ok(request)
    }

    /// Reads one entry of `Mounts`.
    fn parse(fields: Fields<'_>) -> Result<Self> {
        let target = absolute(&fields.string("Target")?)?;
        let source = fields.string("Source")?;
        let volume = fields.object("VolumeOptions")?;
        let kind = fields.string("Type")?;
        let source = match kind.as_str() {
            "bind" if !source.starts_with('/') => {
                return Err(EngineError::invalid(format!(
                    "invalid mount config for type \"bind\": invalid mount path: '{source}' mount path must be absolute"
                )));
            }
            "bind" => {
                let must_exist = !fields.object("BindOptions")?.bool("CreateMountpoint")?;
                MountRequestSource::Bind { path: clean_path(&source), must_exist }
            }
            "volume" => {
                if !source.is_empty() {
                    crate::volume::check_name(&source)?;
                }
                MountRequestSource::Volume {
                    name: Some(source).filter(|name| !name.is_empty()),
                    driver_options: volume.object("DriverConfig")?.string_map("Options")?,
                    labels: volume.string_map("Labels")?,
                }
            }
            "tmpfs" => MountRequestSource::Tmpfs { options: tmpfs_options(fields.object("TmpfsOptions")?)? },
            other => return Err(EngineError::invalid(format!("mount type {other:?} is not implemented by Dockwright"))),
        };
        Ok(Self { target, source, read_only: fields.bool("ReadOnly")?, mode: String::new(), no_copy: volume.bool("NoCopy")? })
    }
}

fn tmpfs_options(fields: Fields<'_>) -> Result<String> {
    let mut options = Vec::new();
    if let Some(size) = fields.optional_number("SizeBytes")?.filter(|size| *size > 0) {
        options.push(format!("size={size}"));
    }
    if let Some(mode) = fields.optional_number("Mode")?.filter(|mode| *mode > 0) {
        options.push(format!("mode={mode:o}"));
    }
    Ok(options.join(","))
}

/// Returns the request's `HostConfig` over Docker's defaults, keys in Docker's spelling.
fn shown_host_config(asked: &Value) -> Map<String, Value> {
    let mut shown = default_host_config();
    let fields = Fields::of(asked, "HostConfig").expect("checked by the caller");
    for (key, value) in &mut shown {
        if let Some(given) = fields.get(key) {
            *value = given.clone();
        }
    }
    for key in ["Mounts", "Tmpfs", "Sysctls", "StorageOpt", "Init", "Annotations"] {
        if let Some(given) = fields.get(key) {
            shown.insert(key.to_owned(), given.clone());
        }
    }
    let unset = |value: &Value| *value == json!("") || *value == json!({ "Name": "" });
    for (key, default) in [("IpcMode", json!("private")), ("CgroupnsMode", json!("private")), ("Runtime", json!("runc"))] {
        if shown.get(key).is_none_or(unset) {
            shown.insert(key.to_owned(), default);
        }
    }
    if shown["ShmSize"] == json!(0) {
        shown.insert("ShmSize".into(), json!(64 << 20));
    }
    if shown["LogConfig"]["Type"] == json!("") {
        shown.insert("LogConfig".into(), json!({ "Type": "json-file", "Config": {} }));
    }
    shown
}

fn default_host_config() -> Map<String, Value> {
    serde_json::from_str(include_str!("host_config.json")).expect("the file is a JSON object")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<CreateRequest> {
        CreateRequest::parse(&body)
    }

    #[test]
    fn binds_volumes_and_modes() {
        let request = parse(json!({ "HostConfig": { "Binds": ["/a/../b:/x:ro", "data:/y", "/z"] } })).unwrap();
        let [bind, volume, anonymous] = &request.host.mounts[..] else { panic!("three mounts") };
        assert_eq!(bind.source, MountRequestSource::Bind { path: "/b".into(), must_exist: false });
        assert!(bind.read_only);
        assert!(matches!(&volume.source, MountRequestSource::Volume { name: Some(name), .. } if name == "data"));
        assert!(matches!(&anonymous.source, MountRequestSource::Volume { name: None, .. }));
    }

    #[test]
    fn what_cannot_be_mounted_is_refused() {
        let message = |bind: &str| parse(json!({ "HostConfig": { "Binds": [bind] } })).unwrap_err().message;
        assert_eq!(message("/a:b"), "invalid mount path: 'b' mount path must be absolute");
        assert_eq!(message("/a:/"), "invalid specification: destination can't be '/'");
        assert_eq!(message("/a:/b:wrong"), "invalid mode: wrong");
        let twice = parse(json!({ "HostConfig": { "Binds": ["/a:/x", "/b:/x/"] } })).unwrap_err();
        assert_eq!(twice.message, "Duplicate mount point: /x");
    }

    #[test]
    fn ports_are_read_with_ranges() {
        let body =
            json!({ "HostConfig": { "PortBindings": { "80/tcp": [{ "HostPort": "8080" }], "53/udp": [{ "HostIp": "127.0.0.1" }] } } });
        let ports = parse(body).unwrap().host.port_bindings;
        let tcp = &ports[&PortKey { port: 80, protocol: Protocol::Tcp }][0];
        assert_eq!((tcp.host_ip, tcp.host_ports), (None, (8080, 8080)));
        let udp = &ports[&PortKey { port: 53, protocol: Protocol::Udp }][0];
        assert_eq!((udp.host_ip, udp.host_ports), (Some(Ipv4Addr::LOCALHOST.into()), (0, 0)));
    }

    #[test]
    fn the_images_command_goes_with_the_images_entrypoint() {
        let image = RunConfig { entrypoint: Some(vec!["/e".into()]), cmd: Some(vec!["c".into()]), ..RunConfig::default() };
        let merged = |body: Value| {
            let mut config = parse(body).unwrap().config;
            config.merge_image(&image).unwrap();
            config.args()
        };
        assert_eq!(merged(json!({})), ["/e", "c"]);
        assert_eq!(merged(json!({ "Cmd": ["x"] })), ["/e", "x"]);
        assert_eq!(merged(json!({ "Entrypoint": "/own" })), ["/own"]);
        assert_eq!(merged(json!({ "Entrypoint": [""], "Cmd": ["x"] })), ["x"]);
    }

    #[test]
    fn own_variables_win_over_the_images() {
        let image = RunConfig { env: vec!["A=image".into(), "B=image".into()], ..RunConfig::default() };
        let mut config = parse(json!({ "Env": ["A=own"] })).unwrap().config;
        config.merge_image(&image).unwrap();
        assert_eq!(config.env, ["A=own", "B=image"]);
    }

    #[test]
    fn inspect_shows_the_request_over_defaults() {
        let host = parse(json!({ "HostConfig": { "memory": 5, "NetworkMode": "host" } })).unwrap().host.shown;
        assert_eq!(host["Memory"], json!(5));
        assert_eq!(host["NetworkMode"], json!("host"));
        assert_eq!(host["ShmSize"], json!(67_108_864));
        assert_eq!(host["RestartPolicy"]["Name"], json!("no"));
    }
}
