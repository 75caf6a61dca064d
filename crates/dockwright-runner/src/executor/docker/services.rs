//! The services of a job: containers beside it, found by name in the job's network.

use std::{collections::HashMap, time::Duration};

use bollard::{
    container::LogOutput,
    models::{ContainerCreateBody, ContainerInspectResponse},
    query_parameters::{LogsOptionsBuilder, WaitContainerOptionsBuilder},
};
use dockwright_job::Image;
use futures_util::{StreamExt as _, future::join_all};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    LABEL_PREFIX, Ready, allowed, host_config,
    image::ImageSource,
    image_name::ServiceName,
    job_services,
    network::{JobNetwork, hosts},
    unless_stopped,
};
use crate::{
    executor::{ExecuteError, ExecutorContext},
    trace::{Stream, Trace},
    variables::JobVariables,
};

/// Ports that are tried, of a service that exposes many.
const PORTS_LIMIT: usize = 20;
/// Shown of the log of a service that did not start.
const LOG_LIMIT_BYTES: usize = 64 * 1024;
/// Characters of an id that Docker uses as a name.
const SHORT_ID: usize = 12;
const LOG_TIMEOUT: Duration = Duration::from_secs(10);

/// A service that was started.
struct Service {
    name: String,
    container: String,
    /// Where it answers.
    address: String,
    ports: Vec<u16>,
}

impl Ready {
    /// Starts the job's services in order and waits until they answer.
    pub(super) async fn start_services(
        &mut self,
        context: &ExecutorContext,
        images: &ImageSource<'_>,
        stop: &CancellationToken,
    ) -> Result<(), ExecuteError> {
        let mut taken = Vec::new();
        let mut services = Vec::new();
        for (index, service) in job_services(context).enumerate() {
            services.extend(self.start_service(context, images, service, index, &mut taken, stop).await?);
        }
        let limit = context.config.docker.wait_for_services;
        if services.is_empty() || limit.is_zero() {
            return Ok(());
        }
        context.trace.line(format!("Waiting for services to be up and running (timeout {} seconds)...", limit.as_secs())).await;
        let mut checks = Vec::new();
        for service in &services {
            checks.push(self.prepare_check(context, service).await?);
        }
        let this = &*self;
        let waits = services.iter().zip(&checks).map(|(service, check)| this.wait_for_service(context, service, check, limit));
        tokio::select! {
            _ = join_all(waits) => Ok(()),
            () = stop.cancelled() => Err(ExecuteError::Stopped),
        }
    }

    async fn start_service(
        &mut self,
        context: &ExecutorContext,
        images: &ImageSource<'_>,
        service: &Image,
        index: usize,
        taken: &mut Vec<String>,
        stop: &CancellationToken,
    ) -> Result<Option<Service>, ExecuteError> {
        let image = context.variables.expand(&service.name);
        let alias = context.variables.expand(&service.alias);
        let name = ServiceName::parse(&image, &alias).ok_or_else(|| ExecuteError::ImageName { what: "service", name: image.clone() })?;
        let aliases: Vec<String> = name.aliases.iter().filter(|alias| !taken.contains(alias)).cloned().collect();
        for duplicate in name.aliases.iter().filter(|alias| taken.contains(alias)) {
            context.trace.warning(format!("Service {}: the alias {duplicate} belongs to another service", name.service)).await;
        }
        if aliases.is_empty() {
            context.trace.warning(format!("Service {} is not started: all its names are taken", name.service)).await;
            return Ok(None);
        }
        taken.extend(aliases.iter().cloned());
        context.trace.line(format!("Starting service {}:{}...", name.service, name.version)).await;
        let found = unless_stopped(stop, images.provide(&image, service)).await?;

        let settings = host_config::of_service(&context.config.docker, &image);
        let body = ContainerCreateBody {
            image: Some(found.id.unwrap_or_else(|| image.clone())),
            cmd: (!service.command.is_empty()).then(|| service.command.clone()),
            entrypoint: allowed::entrypoint(context, service).await,
            env: Some(service_environment(context, service, &self.network)),
            labels: Some(HashMap::from([
                (format!("{LABEL_PREFIX}service"), name.service.clone()),
                (format!("{LABEL_PREFIX}service.version"), name.version.clone()),
            ])),
            user: service.executor_opts.docker.user.clone(),
            host_config: Some(self.host_config(settings, self.volumes.binds.clone())),
            networking_config: Some(self.network.endpoint(aliases.clone(), "")),
            ..ContainerCreateBody::default()
        };
        let suffix = format!("{}-{index}", name.service.replace('/', "__"));
        let container = self.create_container(context, &suffix, "service", body).await?;
        self.docker.start_container(&container, None).await.map_err(ExecuteError::engine(format!("start the service {}", name.service)))?;
        if context.variables.is_true("CI_DEBUG_SERVICES") == Some(true) {
            self.follow_log(&container, &aliases.join("-"), &context.trace);
        }
        let inspected = self.docker.inspect_container(&container, None).await;
        let inspected = inspected.map_err(ExecuteError::engine(format!("inspect the service {}", name.service)))?;
        let addresses = self.network.addresses(&inspected);
        let short_id = container.chars().take(SHORT_ID).collect();
        if matches!(self.network, JobNetwork::Present(_)) {
            self.service_hosts.extend(hosts(aliases.iter().chain([&short_id]).map(String::as_str), &addresses));
        }
        // A service that has ended already has no address; its id then leads nowhere, and its log says why.
        let address = addresses.into_iter().next().unwrap_or(short_id);
        Ok(Some(Service { name: name.service, container, address, ports: service_ports(&inspected) }))
    }

    /// Shows a service's output in the trace until the service is removed.
    fn follow_log(&self, container: &str, alias: &str, trace: &Trace) {
        let (docker, container, prefix, trace) =
            (self.docker.clone(), container.to_owned(), format!("\x1b[90m[service:{alias}] "), trace.clone());
        tokio::spawn(async move {
            let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).build();
            let mut log = docker.logs(&container, Some(options)).boxed();
            while let Some(Ok(piece)) = log.next().await {
                let text = String::from_utf8_lossy(&piece.into_bytes()).into_owned();
                for line in text.lines() {
                    trace.write(Stream::Stdout, format!("{prefix}{line}\x1b[0;m\n")).await;
                }
            }
        });
    }

    /// Creates the container that dials a service; `None` when the service has no ports to dial.
    async fn prepare_check(&mut self, context: &ExecutorContext, service: &Service) -> Result<Option<String>, ExecuteError> {
        if service.ports.is_empty() {
            return Ok(None);
        }
        let mut env = vec![format!("WAIT_FOR_SERVICE_TCP_ADDR={}", service.address)];
        env.extend(service.ports.iter().map(|port| format!("WAIT_FOR_SERVICE_{port}_TCP_PORT={port}")));
        let mut body = self.helper_body(context, vec!["health-check".to_owned()], env);
        body.open_stdin = Some(false);
        body.stdin_once = Some(false);
        body.attach_stdin = Some(false);
        self.create_container(context, "wait-for-service", "wait", body).await.map(Some)
    }

    /// Waits for a service; that it does not answer is a warning, since the job may not need it.
    async fn wait_for_service(&self, context: &ExecutorContext, service: &Service, check: &Option<String>, limit: Duration) {
        let problem = match check {
            None => format!("service \"{}\" has no exposed ports", service.name),
            Some(check) => match timeout(limit, self.run_check(check)).await {
                Ok(Ok(())) => return,
                Ok(Err(problem)) => problem,
                Err(_) => format!("service \"{}\" did not answer within {} seconds", service.name, limit.as_secs()),
            },
        };
        let log = self.service_log(service).await;
        let text = format!(
            "\n\x1b[0;33m*** WARNING: Service {} probably didn't start properly.\x1b[0;m\n\nHealth check error:\n{problem}\n\n\
             Service container logs:\n{log}\n\n\x1b[0;33m*********\x1b[0;m\n\n",
            service.name
        );
        context.trace.write(Stream::Runner, text).await;
    }

    async fn run_check(&self, check: &str) -> Result<(), String> {
        self.docker.start_container(check, None).await.map_err(|error| crate::outcome::chain(&error))?;
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let mut answers = self.docker.wait_container(check, Some(options)).boxed();
        match answers.next().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(crate::outcome::chain(&error)),
            None => Err("the engine ended the wait".to_owned()),
        }
    }

    async fn service_log(&self, service: &Service) -> String {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let mut pieces = self.docker.logs(&service.container, Some(options)).boxed();
        let mut log = Vec::new();
        let read = async {
            while let Some(Ok(piece)) = pieces.next().await {
                log.extend_from_slice(&LogOutput::into_bytes(piece));
                if log.len() >= LOG_LIMIT_BYTES {
                    log.truncate(LOG_LIMIT_BYTES);
                    break;
                }
            }
        };
        // A log that cannot be read in time is shown as far as it came.
        let _ = timeout(LOG_TIMEOUT, read).await;
        String::from_utf8_lossy(&log).into_owned()
    }
}

/// Public variables of the job, then the service's own.
fn service_environment(context: &ExecutorContext, service: &Image, network: &JobNetwork) -> Vec<String> {
    let mut env = context.variables.environment(|key| context.file_variable_path(key), true);
    env.extend(network.variable());
    let own = service.variables.iter().map(|variable| {
        let mut variable = variable.clone();
        if !variable.raw {
            variable.value = context.variables.expand(&variable.value);
        }
        variable
    });
    let own = JobVariables::new(own.collect());
    let overridden: Vec<String> = own.iter().map(|variable| format!("{}=", variable.key)).collect();
    env.retain(|entry| !overridden.iter().any(|prefix| entry.starts_with(prefix.as_str())));
    env.extend(own.environment(|key| context.file_variable_path(key), false));
    env
}

/// `HEALTHCHECK_TCP_PORT`, else the exposed TCP ports in order.
fn service_ports(inspected: &ContainerInspectResponse) -> Vec<u16> {
    let Some(config) = &inspected.config else { return Vec::new() };
    let from_env = config.env.iter().flatten().find_map(|entry| entry.strip_prefix("HEALTHCHECK_TCP_PORT=")?.parse().ok());
    if let Some(port) = from_env {
        return vec![port];
    }
    let exposed = config.exposed_ports.iter().flatten();
    let mut ports: Vec<u16> = exposed.filter_map(|port| port.strip_suffix("/tcp").unwrap_or(port).parse().ok()).collect();
    ports.sort_unstable();
    ports.truncate(PORTS_LIMIT);
    ports
}
