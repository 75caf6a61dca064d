//! What `[runners.docker]` says about every container of a job: limits, names, kernel settings.
//!
//! Values are read the way the `docker` client reads them, once, so that a wrong one keeps the runner from starting rather than
//! failing its jobs.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::IpAddr,
};

use super::{decide::DecideError, file::DockerTable, gpus::GpuRequest};

/// Settings of containers, in the units of the Docker Engine API. Empty texts and lists and zeros are the engine's defaults.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerSettings {
    /// Of the job's container and the helper's; else a name made of the job's numbers.
    pub hostname: Option<String>,
    pub limits: Limits,
    pub service_limits: Limits,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    /// `name:address`.
    pub extra_hosts: Vec<String>,
    pub runtime: String,
    pub userns_mode: String,
    pub ipc_mode: String,
    pub shm_size_bytes: i64,
    /// For the log that the engine keeps: `env` and `labels`.
    pub log_options: HashMap<String, String>,
    /// Devices of services, by the pattern of an image.
    pub services_devices: BTreeMap<String, Vec<Device>>,
    pub service_gpus: Option<GpuRequest>,
    pub tmpfs: HashMap<String, String>,
    pub services_tmpfs: HashMap<String, String>,
    /// With profiles of seccomp in place of the paths of their files.
    pub security_opt: Vec<String>,
    pub services_security_opt: Vec<String>,
    // The rest is not for services.
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub group_add: Vec<String>,
    pub devices: Vec<Device>,
    pub device_cgroup_rules: Vec<String>,
    pub sysctls: HashMap<String, String>,
    pub ulimits: Vec<Ulimit>,
    pub oom_score_adjust: i64,
    pub oom_kill_disable: bool,
    pub volumes_from: Vec<String>,
    pub gpus: Option<GpuRequest>,
    /// Of the job's container alone, as the next.
    pub pid_mode: String,
    pub mac_address: String,
}

/// What a container may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory_bytes: i64,
    pub memory_swap_bytes: i64,
    pub memory_reservation_bytes: i64,
    pub nano_cpus: i64,
    pub cpu_shares: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub cgroup_parent: String,
}

/// A device of the machine in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub host: String,
    pub container: String,
    /// Letters of `rwm`.
    pub permissions: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

impl ContainerSettings {
    pub(super) fn decide(docker: &DockerTable) -> Result<Self, DecideError> {
        Ok(Self {
            hostname: Some(docker.hostname.clone()).filter(|name| !name.is_empty()),
            limits: Limits {
                memory_bytes: size("memory", &docker.memory)?,
                memory_swap_bytes: size("memory_swap", &docker.memory_swap)?,
                memory_reservation_bytes: size("memory_reservation", &docker.memory_reservation)?,
                nano_cpus: nano_cpus("cpus", &docker.cpus)?,
                cpu_shares: docker.cpu_shares,
                cpuset_cpus: docker.cpuset_cpus.clone(),
                cpuset_mems: docker.cpuset_mems.clone(),
                cgroup_parent: docker.cgroup_parent.clone(),
            },
            service_limits: Limits {
                memory_bytes: size("service_memory", &docker.service_memory)?,
                memory_swap_bytes: size("service_memory_swap", &docker.service_memory_swap)?,
                memory_reservation_bytes: size("service_memory_reservation", &docker.service_memory_reservation)?,
                nano_cpus: nano_cpus("service_cpus", &docker.service_cpus)?,
                cpu_shares: docker.service_cpu_shares,
                cpuset_cpus: docker.service_cpuset_cpus.clone(),
                cpuset_mems: String::new(),
                cgroup_parent: docker.service_cgroup_parent.clone(),
            },
            dns: addresses(&docker.dns)?,
            dns_search: docker.dns_search.clone(),
            extra_hosts: docker.extra_hosts.clone(),
            runtime: docker.runtime.clone(),
            userns_mode: docker.userns_mode.clone(),
            ipc_mode: docker.ipcmode.clone(),
            shm_size_bytes: docker.shm_size,
            log_options: log_options(&docker.log_options)?,
            services_devices: devices_by_image(&docker.services_devices)?,
            service_gpus: gpus("service_gpus", &docker.service_gpus)?,
            tmpfs: docker.tmpfs.clone(),
            services_tmpfs: docker.services_tmpfs.clone(),
            security_opt: security_options(&docker.security_opt)?,
            services_security_opt: security_options(&docker.services_security_opt)?,
            cap_add: docker.cap_add.clone(),
            cap_drop: docker.cap_drop.clone(),
            group_add: docker.group_add.clone(),
            devices: devices(&docker.devices)?,
            device_cgroup_rules: docker.device_cgroup_rules.clone(),
            sysctls: docker.sysctls.clone(),
            ulimits: ulimits(&docker.ulimit)?,
            oom_score_adjust: docker.oom_score_adjust,
            oom_kill_disable: docker.oom_kill_disable,
            volumes_from: docker.volumes_from.clone(),
            gpus: gpus("gpus", &docker.gpus)?,
            pid_mode: docker.pid_mode.clone(),
            mac_address: docker.mac_address.clone(),
        })
    }
}

fn wrong(key: &'static str, value: &str, expected: &'static str) -> DecideError {
    DecideError::Value { key, value: value.to_owned(), expected }
}

/// Reads `512m`, `1.5g`, `2GiB`: powers of 1024, as the `docker` client does.
fn size(key: &'static str, text: &str) -> Result<i64, DecideError> {
    if text.is_empty() {
        return Ok(0);
    }
    read_size(text).ok_or_else(|| wrong(key, text, "a size is a number with `b`, `k`, `m`, `g` or `t`, such as 512m"))
}

fn read_size(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = text[end..].trim_start().to_ascii_lowercase();
    let exponent = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return None,
    };
    whole(number * 1024_f64.powi(exponent))
}

/// Reads `0.5`, `2` or `1/3`.
fn nano_cpus(key: &'static str, text: &str) -> Result<i64, DecideError> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = |text: &str| text.parse::<f64>().ok();
    let cpus = match text.split_once('/') {
        Some((above, below)) => number(above).zip(number(below)).map(|(above, below)| above / below),
        None => number(text),
    };
    cpus.and_then(|cpus| whole(cpus * 1e9)).ok_or_else(|| wrong(key, text, "a number of CPUs is such as 2, 0.5 or 1/2"))
}

/// Cuts what is behind the point. `None` for numbers that are no amount.
fn whole(number: f64) -> Option<i64> {
    const BIGGEST: f64 = 9e18;
    // Past the check, the conversion only cuts.
    #[allow(clippy::cast_possible_truncation)]
    (0.0..BIGGEST).contains(&number).then_some(number as i64)
}

fn addresses(list: &[String]) -> Result<Vec<String>, DecideError> {
    match list.iter().find(|text| text.parse::<IpAddr>().is_err()) {
        Some(text) => Err(wrong("dns", text, "a DNS server is given by its IP address")),
        None => Ok(list.to_vec()),
    }
}

fn devices(list: &[String]) -> Result<Vec<Device>, DecideError> {
    list.iter().map(|text| device(text)).collect()
}

fn devices_by_image(table: &BTreeMap<String, Vec<String>>) -> Result<BTreeMap<String, Vec<Device>>, DecideError> {
    table.iter().map(|(pattern, list)| Ok((pattern.clone(), devices(list)?))).collect()
}

fn gpus(key: &'static str, text: &str) -> Result<Option<GpuRequest>, DecideError> {
    match text {
        "" => Ok(None),
        _ => GpuRequest::parse(text).map(Some).map_err(|expected| wrong(key, text, expected)),
    }
}

/// The log is read back for the trace, so its driver is not open to choice.
fn log_options(table: &HashMap<String, String>) -> Result<HashMap<String, String>, DecideError> {
    match table.keys().find(|key| !matches!(key.as_str(), "env" | "labels")) {
        Some(key) => Err(wrong("log_options", key, "only `env` and `labels` can be set")),
        None => Ok(table.clone()),
    }
}

/// Reads `host[:container[:permissions]]`.
fn device(text: &str) -> Result<Device, DecideError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, permissions] if is_permissions(permissions) => (*host, *host, *permissions),
        [host, container] => (*host, *container, "rwm"),
        [host, container, permissions] if is_permissions(permissions) => (*host, *container, *permissions),
        _ => return Err(wrong("devices", text, "a device is `host[:container[:rwm]]`")),
    };
    if !host.starts_with('/') || !container.starts_with('/') {
        return Err(wrong("devices", text, "the paths of a device are absolute"));
    }
    Ok(Device { host: host.to_owned(), container: container.to_owned(), permissions: permissions.to_owned() })
}

fn is_permissions(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c))
}

/// Reads `soft[:hard]`.
fn ulimits(table: &BTreeMap<String, String>) -> Result<Vec<Ulimit>, DecideError> {
    let read = |(name, text): (&String, &String)| {
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        match (soft.parse(), hard.parse()) {
            (Ok(soft), Ok(hard)) => Ok(Ulimit { name: name.clone(), soft, hard }),
            _ => Err(wrong("ulimit", text, "a limit is `soft[:hard]` in numbers")),
        }
    };
    table.iter().map(read).collect()
}

/// Puts the profile in the place of its file's path: the engine may be on another machine.
fn security_options(list: &[String]) -> Result<Vec<String>, DecideError> {
    let read = |option: &String| match option.strip_prefix("seccomp=") {
        Some(profile) if !profile.starts_with('{') && !matches!(profile, "unconfined" | "builtin") => {
            let content = fs::read_to_string(profile);
            let content = content.map_err(|error| DecideError::Seccomp { path: profile.to_owned(), reason: error.to_string() })?;
            Ok(format!("seccomp={content}"))
        }
        _ => Ok(option.clone()),
    };
    list.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_cpus() {
        for (text, expected) in [
            ("", Some(0)),
            ("4096", Some(4096)),
            ("512m", Some(512 << 20)),
            ("1.5G", Some(3 << 29)),
            ("2 GiB", Some(2 << 30)),
            ("10kb", Some(10 << 10)),
            ("m", None),
            ("-1", None),
            ("1x", None),
            ("99999999999t", None),
        ] {
            assert_eq!(size("memory", text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("", Some(0)),
            ("2", Some(2_000_000_000)),
            ("0.5", Some(500_000_000)),
            ("1/4", Some(250_000_000)),
            ("1/0", None),
            ("-1", None),
            ("NaN", None),
            ("two", None),
        ] {
            assert_eq!(nano_cpus("cpus", text).ok(), expected, "{text}");
        }
        assert_eq!(
            size("memory", "lots").expect_err("no size").to_string(),
            "memory cannot be \"lots\": a size is a number with `b`, `k`, `m`, `g` or `t`, such as 512m"
        );
    }

    #[test]
    fn devices_limits_and_addresses() {
        let parts = |text: &str| device(text).ok().map(|device| [device.host, device.container, device.permissions].join(" "));
        assert_eq!(parts("/dev/fuse").as_deref(), Some("/dev/fuse /dev/fuse rwm"));
        assert_eq!(parts("/dev/a:/dev/b").as_deref(), Some("/dev/a /dev/b rwm"));
        assert_eq!(parts("/dev/a:r").as_deref(), Some("/dev/a /dev/a r"));
        assert_eq!(parts("/dev/a:/dev/b:rw").as_deref(), Some("/dev/a /dev/b rw"));
        for bad in ["", "fuse", "/dev/a:/dev/b:x", "/dev/a:/dev/b:r:w"] {
            assert_eq!(parts(bad), None, "{bad}");
        }
        let limit = |text: &str| ulimits(&BTreeMap::from([("nofile".to_owned(), text.to_owned())]));
        assert_eq!(limit("10:20"), Ok(vec![Ulimit { name: "nofile".to_owned(), soft: 10, hard: 20 }]));
        assert_eq!(limit("10").map(|list| list[0].hard), Ok(10));
        assert!(limit("ten").is_err() && limit("10:").is_err());
        assert!(addresses(&["8.8.8.8".to_owned(), "::1".to_owned()]).is_ok());
        assert!(addresses(&["dns.example".to_owned()]).is_err());
    }

    #[test]
    fn profiles_of_seccomp_are_read() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}").expect("it can be written");
        let from = |text: String| security_options(&[text]);
        assert_eq!(
            from(format!("seccomp={}", file.path().display())),
            Ok(vec!["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}".to_owned()])
        );
        for kept in ["seccomp=unconfined", "seccomp={}", "no-new-privileges", "apparmor=docker-default"] {
            assert_eq!(from(kept.to_owned()), Ok(vec![kept.to_owned()]));
        }
        let error = from("seccomp=/nonexistent".to_owned()).expect_err("no profile");
        assert!(error.to_string().starts_with("read the seccomp profile `/nonexistent`: "), "{error}");
    }
}
