//! What the runner's settings say about a container, apart from its volumes and network, which are the job's.

use bollard::models::{DeviceMapping, DeviceRequest, HostConfig, HostConfigLogConfig, ResourcesUlimits};

use crate::config::{
    DockerConfig, GpuRequest,
    container_settings::{Device, Limits, Ulimit},
    restrictions::allow,
};
use crate::helper::glob::Pattern;

/// Settings of the job's container and the helper's. `image` is the image's name with variables expanded.
pub(super) fn of_job(config: &DockerConfig, image: &str) -> HostConfig {
    let settings = &config.containers;
    HostConfig {
        privileged: Some(config.privileged && allow(&config.restrictions.privileged_images, image)),
        tmpfs: Some(settings.tmpfs.clone()),
        security_opt: Some(settings.security_opt.clone()),
        cap_add: Some(settings.cap_add.clone()),
        cap_drop: Some(settings.cap_drop.clone()),
        group_add: Some(settings.group_add.clone()),
        devices: Some(settings.devices.iter().map(device).collect()),
        device_cgroup_rules: Some(settings.device_cgroup_rules.clone()),
        sysctls: Some(settings.sysctls.clone()),
        ulimits: Some(settings.ulimits.iter().map(ulimit).collect()),
        oom_score_adj: not_zero(settings.oom_score_adjust),
        oom_kill_disable: settings.oom_kill_disable.then_some(true),
        ipc_mode: not_empty(&settings.ipc_mode),
        volumes_from: Some(settings.volumes_from.clone()),
        device_requests: settings.gpus.as_ref().map(|gpus| vec![device_request(gpus)]),
        ..of_any(config, &settings.limits)
    }
}

/// Settings of the job's container alone.
pub(super) fn of_build(config: &DockerConfig, image: &str) -> HostConfig {
    HostConfig { pid_mode: not_empty(&config.containers.pid_mode), ..of_job(config, image) }
}

/// Settings of a service's container.
pub(super) fn of_service(config: &DockerConfig, image: &str) -> HostConfig {
    let settings = &config.containers;
    let devices = settings.services_devices.iter().filter(|(pattern, _)| Pattern::new(pattern).matches(image));
    HostConfig {
        privileged: Some(config.services_privileged && allow(&config.restrictions.privileged_services, image)),
        tmpfs: Some(settings.services_tmpfs.clone()),
        security_opt: Some(settings.services_security_opt.clone()),
        devices: Some(devices.flat_map(|(_, devices)| devices).map(device).collect()),
        device_requests: settings.service_gpus.as_ref().map(|gpus| vec![device_request(gpus)]),
        ..of_any(config, &settings.service_limits)
    }
}

fn of_any(config: &DockerConfig, limits: &Limits) -> HostConfig {
    let settings = &config.containers;
    HostConfig {
        memory: not_zero(limits.memory_bytes),
        memory_swap: not_zero(limits.memory_swap_bytes),
        memory_reservation: not_zero(limits.memory_reservation_bytes),
        nano_cpus: not_zero(limits.nano_cpus),
        cpu_shares: not_zero(limits.cpu_shares),
        cpuset_cpus: not_empty(&limits.cpuset_cpus),
        cpuset_mems: not_empty(&limits.cpuset_mems),
        cgroup_parent: not_empty(&limits.cgroup_parent),
        dns: Some(settings.dns.clone()),
        dns_search: Some(settings.dns_search.clone()),
        extra_hosts: Some(settings.extra_hosts.clone()),
        runtime: not_empty(&settings.runtime),
        userns_mode: not_empty(&settings.userns_mode),
        shm_size: not_zero(settings.shm_size_bytes),
        // The trace shows logs of services, which not every driver gives back.
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(settings.log_options.clone()) }),
        ..HostConfig::default()
    }
}

fn device(device: &Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.host.clone()),
        path_in_container: Some(device.container.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    }
}

fn device_request(gpus: &GpuRequest) -> DeviceRequest {
    DeviceRequest {
        driver: Some(gpus.driver.clone()),
        count: Some(gpus.count),
        device_ids: Some(gpus.devices.clone()).filter(|devices| !devices.is_empty()),
        capabilities: Some(vec![gpus.capabilities.clone()]),
        options: Some(gpus.options.clone().into_iter().collect()),
    }
}

fn ulimit(limit: &Ulimit) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(limit.name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

fn not_zero(number: i64) -> Option<i64> {
    Some(number).filter(|number| *number != 0)
}

fn not_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}
