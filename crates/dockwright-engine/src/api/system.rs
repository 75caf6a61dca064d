//! Endpoints about the engine as a whole.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::{
    api::{
        Request, Response,
        router::{Route, route},
        stream,
        version::ApiVersion,
    },
    container::Status,
    error::Result,
};

pub(super) const ROUTES: &[Route] =
    &[route!(GET "/_ping" => ping), route!(GET "/version" => version), route!(GET "/info" => info), route!(GET "/system/df" => disk_usage)];

/// Version of Docker that clients are told; scripts parse it, so it has to look like one that speaks [`ApiVersion::MAX`].
pub(crate) const DOCKER_VERSION: &str = "28.3.3";

async fn ping(_request: Request) -> Result<Response> {
    let mut response = stream::full(StatusCode::OK, "text/plain; charset=utf-8", "OK");
    let version = HeaderValue::from_str(&ApiVersion::MAX.to_string()).expect("a version is ASCII");
    let server = HeaderValue::from_str(&format!("Docker/{DOCKER_VERSION} (linux)")).expect("a version is ASCII");
    let headers = response.headers_mut();
    headers.insert("Api-Version", version);
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    // 1 is the classic builder: clients with buildx would otherwise speak gRPC.
    headers.insert("Builder-Version", HeaderValue::from_static("1"));
    headers.insert("Swarm", HeaderValue::from_static("inactive"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::SERVER, server);
    Ok(response)
}

/// Returns the machine's architecture in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

async fn version(_request: Request) -> Result<Response> {
    let (arch, kernel) = (architecture(), kernel());
    let (max, min) = (ApiVersion::MAX.to_string(), ApiVersion::MIN.to_string());
    let built = "2026-01-01T00:00:00.000000000+00:00";
    let revision = concat!("dockwright-", env!("CARGO_PKG_VERSION"));
    let details = json!({
        "ApiVersion": max, "Arch": arch, "BuildTime": built, "Experimental": "false", "GitCommit": revision, "GoVersion": "none",
        "KernelVersion": kernel, "MinAPIVersion": min, "Os": "linux",
    });
    Ok(stream::ok(&json!({
        "Platform": { "Name": format!("Dockwright {}", env!("CARGO_PKG_VERSION")) },
        "Components": [{ "Name": "Engine", "Version": DOCKER_VERSION, "Details": details }],
        "Version": DOCKER_VERSION,
        "ApiVersion": max,
        "MinAPIVersion": min,
        "GitCommit": revision,
        "GoVersion": "none",
        "Os": "linux",
        "Arch": arch,
        "KernelVersion": kernel,
        "BuildTime": built,
    })))
}

async fn info(request: Request) -> Result<Response> {
    let engine = &request.engine;
    let mut containers = engine.containers().list();
    containers.retain(|container| request.sees(&container.id));
    let count = |status: Status| containers.iter().filter(|container| container.state().status == status).count();
    let (running, paused) = (count(Status::Running), count(Status::Paused));
    let memory = rustix::system::sysinfo();
    let driver = engine.storage_driver();
    let runtime = json!({ "path": "dockwright" });
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = if engine.settings().name.is_empty() { host_name } else { engine.settings().name.clone() };
    let registry = engine.facts().registry.clone();
    let mut indexes = json!({ "docker.io": { "Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true } });
    if let Some(registry) = registry {
        indexes[registry.as_str()] = json!({ "Name": registry, "Mirrors": [], "Secure": false, "Official": false });
    }
    let counters = json!({
        "ID": engine.id(),
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": containers.len() - running - paused,
        "Images": engine.images().table().count(),
        "Driver": driver,
        "DriverStatus": [["Backing Filesystem", "overlayfs"], ["Supports d_type", "true"], ["userxattr", "true"]],
        "Plugins": { "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file", "local", "none"] },
        "SystemTime": crate::time::nanoseconds(jiff::Timestamp::now()),
        "LoggingDriver": "json-file",
        "NEventsListener": 0,
        "Debug": false,
        "NFd": 0,
        "NGoroutines": 0,
    });
    let machine = json!({
        "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true, "CPUSet": true,
        "PidsLimit": true, "IPv4Forwarding": true, "OomKillDisable": false,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").is_file() { "2" } else { "1" },
        "KernelVersion": kernel(),
        "OperatingSystem": format!("Dockwright {}", env!("CARGO_PKG_VERSION")),
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "MemTotal": memory.totalram.saturating_mul(u64::from(memory.mem_unit)),
        "Name": name,
    });
    let settings = json!({
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "AllowNondistributableArtifactsCIDRs": null, "AllowNondistributableArtifactsHostnames": null,
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"], "IndexConfigs": indexes, "Mirrors": null,
        },
        "GenericResources": null,
        "DockerRootDir": "/var/lib/docker",
        "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
        "Labels": ["dockwright"],
        "ExperimentalBuild": false,
        "ServerVersion": DOCKER_VERSION,
        "Runtimes": { "runc": runtime, "io.containerd.runc.v2": runtime },
        "DefaultRuntime": "runc",
        "Swarm": { "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null },
        "LiveRestoreEnabled": false,
        "Isolation": "",
        "InitBinary": "docker-init",
        "ContainerdCommit": { "ID": "", "Expected": "" },
        "RuncCommit": { "ID": "", "Expected": "" },
        "InitCommit": { "ID": "", "Expected": "" },
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"],
        "DefaultAddressPools": [{ "Base": "172.17.0.0/12", "Size": 16 }, { "Base": "192.168.0.0/16", "Size": 20 }],
        "Warnings": null,
    });
    let parts = [counters, machine, settings];
    let shown: Map<String, Value> = parts.into_iter().filter_map(|part| part.as_object().cloned()).flatten().collect();
    Ok(stream::ok(&shown))
}

async fn disk_usage(request: Request) -> Result<Response> {
    let measured = tokio::task::spawn_blocking(move || measure(&request)).await;
    Ok(stream::ok(&measured.unwrap_or_default()))
}

fn measure(request: &Request) -> Value {
    let engine = &request.engine;
    let containers = engine.containers().list();
    let mut layers = std::collections::BTreeMap::new();
    let listed = engine.images().table().list();
    let images: Vec<Value> = listed
        .iter()
        .map(|listed| {
            layers.extend(listed.image.layers().iter().map(|layer| (layer.diff_id, layer.size_bytes)));
            let users = containers.iter().filter(|container| container.image == listed.image.id()).count();
            json!({
                "Id": listed.image.id().to_string(), "ParentId": "", "RepoTags": listed.tags, "RepoDigests": listed.digests,
                "Created": listed.image.created().as_second(), "Size": listed.image.size_bytes(), "VirtualSize": listed.image.size_bytes(),
                "SharedSize": 0, "Labels": listed.image.config().config.labels, "Containers": users,
            })
        })
        .collect();
    let of_containers: Vec<Value> = containers
        .iter()
        .filter(|container| request.sees(&container.id))
        .map(|container| {
            let mut shown = crate::container::list_item(container).shown;
            shown["SizeRw"] = json!(crate::volume::disk_usage(&container.dir.join("upper")));
            shown
        })
        .collect();
    let volumes: Vec<Value> = engine
        .volumes()
        .list()
        .iter()
        .filter(|volume| request.sees(&volume.name))
        .map(|volume| {
            let mut shown = volume.shown();
            let users = engine.volume_users(&volume.name).len();
            shown["UsageData"] = json!({ "Size": crate::volume::disk_usage(&volume.path), "RefCount": users });
            shown
        })
        .collect();
    json!({
        "LayersSize": layers.values().sum::<u64>(),
        "Images": images,
        "Containers": of_containers,
        "Volumes": volumes,
        "BuildCache": [],
        "BuilderSize": 0,
    })
}
