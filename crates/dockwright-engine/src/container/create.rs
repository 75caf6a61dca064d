//! Making a container: names, the image, its root directory, its mounts.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use dockwright_container::process::OverlaySpec;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Attachment, Container, Phase, State, Status,
    config::{Config, CreateRequest, EndpointConfig, HostConfig, LogDriver},
    log::Log,
    mount::{MountPlan, MountPoint},
    name,
    stdio::{Input, Output},
};
use crate::{
    Engine,
    api::Caller,
    error::{Context as _, EngineError, Result},
    event::EventType,
    id,
    image::Image,
    network::Driver,
};

/// A container that was made.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) id: String,
    pub(crate) warnings: Vec<String>,
}

/// How many random names are tried.
const NAME_ATTEMPTS: usize = 10;

impl Engine {
    /// Makes a container.
    pub(crate) async fn create_container(&self, wanted_name: Option<&str>, request: CreateRequest, caller: Caller) -> Result<Created> {
        let CreateRequest { mut config, host, endpoints, platform } = request;
        let image = self.images().table().find(&config.image)?;
        check_platform(platform.as_deref().unwrap_or_default(), &image, &config.image)?;
        config.merge_image(&image.config().config)?;
        check(&config, &host, &image)?;
        let networks = self.attachments(&host, &config, endpoints)?;
        let id = id::random();
        if config.hostname.is_empty() && host.network_mode != "host" {
            id::short(&id).clone_into(&mut config.hostname);
        }
        let name = self.reserve_name(wanted_name, &id)?;
        let made = self.make(Parts { id: &id, name: &name, config, host, image: &image, networks, caller }).await;
        match made {
            Ok(container) => {
                self.owners().made(&container.id, caller);
                self.containers().insert(Arc::clone(&container));
                self.events().emit(EventType::Container, "create", &container.id, container.event_attributes());
                Ok(Created { id, warnings: Vec::new() })
            }
            Err(error) => {
                self.containers().release(&name);
                Err(error)
            }
        }
    }

    fn reserve_name(&self, wanted: Option<&str>, id: &str) -> Result<String> {
        if let Some(wanted) = wanted {
            let name = name::check(wanted)?;
            self.containers().reserve(name, id)?;
            return Ok(name.to_owned());
        }
        for attempt in 0..NAME_ATTEMPTS {
            let name = name::random(attempt);
            if self.containers().reserve(&name, id).is_ok() {
                return Ok(name);
            }
        }
        self.containers().reserve(id, id)?;
        Ok(id.to_owned())
    }

    async fn make(&self, parts: Parts<'_>) -> Result<Arc<Container>> {
        let dir = self.settings().data_dir.join("containers").join(parts.id);
        std::fs::create_dir_all(&dir).context("make the container's directory")?;
        let mut mounts = Vec::new();
        let prepared = self.prepare(&parts, &dir, &mut mounts).await;
        if let Err(error) = prepared {
            self.release_mounts(&mounts, true).await;
            self.discard_root(parts.id.to_owned(), dir).await;
            return Err(error);
        }
        Ok(Arc::new(parts.into_container(dir, mounts)))
    }

    async fn prepare(&self, parts: &Parts<'_>, dir: &std::path::Path, mounts: &mut Vec<MountPoint>) -> Result<()> {
        let layers = self.sandbox().attach_layers(self.images().broker(), &parts.image.diff_ids()).await?;
        let overlay = OverlaySpec { name: parts.id.to_owned(), layers, upper: dir.join("upper"), work: dir.join("work") };
        self.sandbox().ask(move |spawner| spawner.mount_rootfs(&overlay)).await?;
        let plan = MountPlan { engine: self, caller: parts.caller, container: parts.id, config: &parts.config, host: &parts.host };
        plan.resolve(mounts).await
    }

    /// Unmounts a container's root directory and removes its files.
    pub(super) async fn discard_root(&self, id: String, dir: PathBuf) {
        let discarded = self.sandbox().ask(move |spawner| {
            let unmounted = spawner.unmount_rootfs(&id);
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                tracing::warn!(%error, dir = %dir.display(), "remove a container's directory");
            }
            unmounted
        });
        if let Err(error) = discarded.await {
            tracing::debug!(%error, "unmount a container's root directory");
        }
    }

    /// Decides which networks a container will be on.
    fn attachments(
        &self,
        host: &HostConfig,
        config: &Config,
        mut endpoints: BTreeMap<String, EndpointConfig>,
    ) -> Result<BTreeMap<String, Attachment>> {
        let mode = match host.network_mode.as_str() {
            "" | "default" => "bridge",
            other => other,
        };
        if mode.starts_with("container:") {
            return Ok(BTreeMap::new());
        }
        let mode = if config.network_disabled { "none" } else { mode };
        // The legacy `MacAddress` of the container itself belongs to its first network.
        let mac = super::config::parse_mac(&config.mac_address)?;
        let mut attachments = BTreeMap::new();
        let mut attach = |name: &str, mut config: EndpointConfig| -> Result<()> {
            let network = self.networks().find(name)?;
            if config.mac.is_none() && name == mode {
                config.mac = mac;
            }
            if config.ipv4.is_some() && network.predefined {
                return Err(EngineError::invalid("user specified IP address is supported on user defined networks only"));
            }
            if !config.aliases.is_empty() && network.predefined && network.driver == Driver::Bridge {
                return Err(EngineError::invalid("network-scoped alias is supported only for containers in user defined networks"));
            }
            attachments.insert(network.name.clone(), Attachment { config, network_id: network.id.clone(), endpoint: None });
            Ok(())
        };
        let default = endpoints.remove("default");
        let primary = endpoints.remove(mode).or(default).unwrap_or_default();
        attach(mode, primary)?;
        for (name, config) in endpoints {
            attach(&name, config)?;
        }
        Ok(attachments)
    }
}

fn check(config: &Config, host: &HostConfig, image: &Image) -> Result<()> {
    if config.args().is_empty() && !image.is_stand_in() {
        return Err(EngineError::invalid("no command specified"));
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(EngineError::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    for entry in &host.extra_hosts {
        crate::network::files::parse_extra_host(entry)?;
    }
    if let Some(signal) = &config.stop_signal {
        super::parse_signal(signal)?;
    }
    const SMALLEST_MEMORY_BYTES: u64 = 6 << 20;
    if host.memory > 0 && host.memory < SMALLEST_MEMORY_BYTES {
        return Err(EngineError::invalid("Minimum memory limit allowed is 6MB"));
    }
    Ok(())
}

/// An image for another platform is as one that is not there, so that clients pull the one they want. A part of a platform that is
/// not given may be anything.
fn check_platform(wanted: &str, image: &Image, name: &str) -> Result<()> {
    let config = image.config();
    let mut parts = wanted.split('/');
    let matches = |part: Option<&str>, actual: &str| part.is_none_or(|part| part.is_empty() || actual.is_empty() || part == actual);
    let is_wanted = matches(parts.next(), &config.os)
        && matches(parts.next(), &config.architecture)
        && config.variant.as_deref().is_none_or(|variant| matches(parts.next(), variant));
    if is_wanted {
        return Ok(());
    }
    let actual = format!("{}/{}", config.os, config.architecture);
    Err(EngineError::not_found(format!(
        "image with reference {name} was found but does not match the specified platform: wanted {wanted}, actual: {actual}"
    )))
}

/// What a new container is made of.
struct Parts<'a> {
    id: &'a str,
    name: &'a str,
    config: Config,
    host: HostConfig,
    image: &'a Image,
    networks: BTreeMap<String, Attachment>,
    caller: Caller,
}

impl Parts<'_> {
    fn into_container(self, dir: PathBuf, mounts: Vec<MountPoint>) -> Container {
        let log = (self.host.log_driver == LogDriver::JsonFile).then(|| Log::new(dir.join(format!("{}-json.log", self.id))));
        let state = State {
            name: self.name.to_owned(),
            status: Status::Created,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started: None,
            finished: None,
            restart_count: 0,
            stop_requested: false,
            networks: self.networks,
            published: Vec::new(),
            health: None,
            execs: Vec::new(),
            run: None,
        };
        Container {
            id: self.id.to_owned(),
            created: Timestamp::now(),
            image: self.image.id(),
            is_stand_in: self.image.is_stand_in(),
            config: self.config,
            host: self.host,
            mounts,
            dir,
            output: Arc::new(Output::new(log)),
            input: Input::default(),
            life: tokio::sync::Mutex::new(()),
            phase: watch::Sender::new(Phase::default()),
            state: Mutex::new(state),
        }
    }
}
