//! Jobs with an image: containers on a Docker engine, reached only through the Docker Engine API.
//!
//! ```text
//! prepare:  engine ─► network ─► volumes ─► helper image ─► services ─► readiness ─► job image
//! phases:   helper container (sources, cache, artifacts)      job container (scripts)
//! clean up: containers ─► volumes ─► network, or simply the engine where it was the job's own
//! ```
//!
//! One job container and one helper container serve all phases: each phase starts its container again, with the phase's script or
//! request as input. What a script leaves outside of volumes is therefore still there in `after_script`.

mod allowed;
mod auth;
mod helper_image;
mod host_config;
mod image;
pub(crate) mod image_name;
mod network;
mod process;
mod services;
mod volumes;

use std::{
    collections::HashMap,
    io::{BufWriter, Cursor, Write as _},
    path::Path,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::{ContainerCreateBody, HostConfig, VolumeCreateRequest},
    query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder},
};
use dockwright_job::Image;
use futures_util::future::join_all;
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt as _},
    net::unix::pipe,
};
use tokio_util::sync::CancellationToken;

use self::{
    auth::Keyring,
    image::ImageSource,
    network::JobNetwork,
    process::{Output, Run},
    volumes::Volumes,
};
use super::{ExecuteError, ExecutorContext, HelperFiles};
use crate::{
    EngineLease,
    helper::HelperRequest,
    sources::{Checkout, Strategy},
};

/// For requests that answer only when something has been done, such as stopping a container.
const REQUEST_TIMEOUT_SECS: u64 = 600;
/// What a pipe holds.
const PIPE_BYTES: usize = 64 * 1024;
const LABEL_PREFIX: &str = "com.gitlab.gitlab-runner.";
/// Names longer than a DNS label are cut.
const NAME_LIMIT: usize = 63;

/// Runs the first shell of an image that there is, as the last arguments of the image's entry point.
const SHELL_FINDER: &str = "for shell in /usr/local/bin/bash /usr/bin/bash /bin/bash /usr/local/bin/sh /usr/bin/sh /bin/sh /busybox/sh; do
if [ -x \"$shell\" ]; then exec \"$shell\"; fi
done
echo shell not found
exit 1";

#[derive(Default)]
pub(crate) struct DockerExecutor {
    lease: Option<EngineLease>,
    ready: Option<Ready>,
}

/// What there is once the engine answers; it grows while a job is prepared.
struct Ready {
    docker: Docker,
    job_scoped: bool,
    /// Where the engine has this program itself, if the helper container needs it from there.
    program: Option<String>,
    created: Created,
    network: JobNetwork,
    /// Lines of the `/etc/hosts` of the job's container, where the network has no names for services.
    service_hosts: Vec<String>,
    volumes: Volumes,
    helper: Option<String>,
    helper_image: String,
    /// The job's image, known by its id once it is there.
    image: String,
    build: Option<String>,
}

/// What the clean-up removes.
#[derive(Default)]
struct Created {
    containers: Vec<String>,
    volumes: Vec<String>,
    network: Option<String>,
}

impl DockerExecutor {
    pub(super) async fn prepare(&mut self, context: &ExecutorContext, stop: &CancellationToken) -> Result<(), ExecuteError> {
        let job_image = job_image(context).ok_or(ExecuteError::NoImage)?;
        let image_name = context.variables.expand(&job_image.name);
        if image_name.is_empty() {
            return Err(ExecuteError::NoImage);
        }
        allowed::check(context).await?;
        context.trace.line(format!("Using Docker executor with image {image_name} ...")).await;
        let lease = context.engines.acquire(context.engine_request(Vec::new()));
        let lease = unless_stopped(stop, async { lease.await.map_err(ExecuteError::AcquireEngine) }).await?;
        if let Some(warning) = &lease.warning {
            context.trace.warning(warning).await;
        }
        let lease = self.lease.insert(lease);
        let ready = self.ready.insert(connect(context, lease).await?);
        ready.prepare_network(context).await?;
        ready.create_volumes(context).await?;
        ready.prepare_helper(context).await?;
        ready.open_directories(context, stop).await?;

        let keyring = keyring(context).await?;
        let docker = ready.docker.clone();
        let images = ImageSource {
            docker: &docker,
            keyring: &keyring,
            default_policies: &context.config.docker.pull_policies,
            allowed_policies: &context.config.docker.restrictions.pull_policies,
            trace: &context.trace,
        };
        ready.start_services(context, &images, stop).await?;
        let found = unless_stopped(stop, images.provide(&image_name, &job_image)).await?;
        ready.image = found.id.unwrap_or(image_name);
        Ok(())
    }

    pub(super) fn binds_socket(&self) -> bool {
        self.ready.as_ref().is_some_and(|ready| ready.volumes.socket)
    }

    pub(super) async fn get_sources(
        &mut self,
        context: &ExecutorContext,
        mut checkout: Checkout<'_>,
        stop: &CancellationToken,
    ) -> Result<(), ExecuteError> {
        // The job's volume is new, so there is never anything to fetch into.
        if checkout.strategy == Strategy::None {
            checkout.strategy = Strategy::Empty;
        }
        let scratch = context.config.scratch_dir.clone();
        let root = tempfile::tempdir_in(&scratch).map_err(ExecuteError::file("create a directory in", scratch))?;
        let directory = root.path().join("checkout");
        Checkout { directory: &directory, ..checkout }.run().await?;
        let request = HelperRequest::ExtractTar { directory: context.directories.project.clone().into() };
        let pipe = std::io::pipe().and_then(|(reader, writer)| Ok((pipe::Receiver::from_owned_fd(reader.into())?, writer)));
        let (reader, writer) = pipe.map_err(ExecuteError::file("create", "a pipe"))?;
        let pack = tokio::task::spawn_blocking(move || pack(&directory, writer));
        let run = self.helper_run(context, &request, reader, Output::Trace, stop);
        let (packed, extracted) = tokio::join!(pack, run);
        extracted?;
        packed
            .map_err(|error| ExecuteError::Helper { reason: error.to_string() })?
            .map_err(ExecuteError::file("pack the sources of", &context.directories.project))
    }

    pub(super) async fn run_helper(
        &mut self,
        context: &ExecutorContext,
        request: &HelperRequest,
        files: HelperFiles,
        stop: &CancellationToken,
    ) -> Result<(), ExecuteError> {
        let input: Box<dyn AsyncRead + Send + Unpin> = match &files.input {
            Some(path) => Box::new(File::open(path).await.map_err(ExecuteError::file("open", path))?),
            None => Box::new(tokio::io::empty()),
        };
        match &files.output {
            Some(path) => {
                let mut file = File::create(path).await.map_err(ExecuteError::file("create", path))?;
                self.helper_run(context, request, input, Output::File(&mut file), stop).await
            }
            None => self.helper_run(context, request, input, Output::Trace, stop).await,
        }
    }

    async fn helper_run(
        &mut self,
        context: &ExecutorContext,
        request: &HelperRequest,
        input: impl AsyncRead + Send + Unpin,
        output: Output<'_>,
        stop: &CancellationToken,
    ) -> Result<(), ExecuteError> {
        let ready = self.ready.as_mut().expect("a job is prepared before its phases run");
        ready.helper_run(context, request, input, output, stop).await
    }

    pub(super) async fn run_script(
        &mut self,
        context: &ExecutorContext,
        script: String,
        stop: &CancellationToken,
    ) -> Result<(), ExecuteError> {
        let ready = self.ready.as_mut().expect("a job is prepared before its phases run");
        let container = match &ready.build {
            Some(container) => container.clone(),
            None => ready.create_build_container(context).await?,
        };
        let run = ready.run(context, &container, "the job's container", stop);
        match run.execute(Cursor::new(script.into_bytes()), Output::Trace).await? {
            0 => Ok(()),
            code => Err(exit_code(code)),
        }
    }

    pub(super) async fn clean_up(self, context: &ExecutorContext) {
        let Some(lease) = self.lease else { return };
        if let Some(ready) = self.ready.filter(|_| !lease.job_scoped) {
            ready.remove_all(context).await;
        }
        // An engine of the job's own takes everything with it.
        lease.release().await;
    }
}

/// Returns the image that the job names, or the runner's default.
pub(crate) fn job_image(context: &ExecutorContext) -> Option<Image> {
    let default = || context.config.docker.default_image.clone().map(|name| Image { name, ..Image::default() });
    context.payload.image.clone().or_else(default)
}

/// Returns the services of a job: the runner's own, then those that the job names.
pub(crate) fn job_services(context: &ExecutorContext) -> impl Iterator<Item = &Image> {
    context.config.docker.services.iter().chain(&context.payload.services)
}

/// Name of a job's containers and their host: `runner-<token>-project-<pid>-concurrent-<n>`, a valid DNS label.
pub(crate) fn unique_name(context: &ExecutorContext) -> String {
    let name = format!("runner-{}-project-{}-concurrent-{}", context.config.short_token, context.payload.job_info.project_id, context.slot);
    let lower = name.to_ascii_lowercase();
    lower.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(NAME_LIMIT).collect()
}

/// Credentials that cannot be had are a warning, since the images may be for everybody.
async fn keyring(context: &ExecutorContext) -> Result<Keyring, ExecuteError> {
    let variable = context.variables.text("DOCKER_AUTH_CONFIG");
    let (keyring, problems) = Keyring::new(variable, &context.config.docker.logins, &context.payload.credentials).await;
    for problem in problems {
        if problem.is_hostile() {
            return Err(ExecuteError::Credentials { reason: problem.to_string() });
        }
        context.trace.warning(problem.to_string()).await;
    }
    Ok(keyring)
}

fn exit_code(code: i64) -> ExecuteError {
    let code = i32::try_from(code).unwrap_or(-1);
    ExecuteError::Exit { code, text: format!("exit code {code}") }
}

/// Writes a directory as a tar archive; the pipe is closed at the end.
fn pack(directory: &Path, output: std::io::PipeWriter) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(BufWriter::with_capacity(PIPE_BYTES, output));
    archive.follow_symlinks(false);
    archive.append_dir_all("", directory)?;
    archive.into_inner()?.flush()
}

/// Gives up something long that leaves nothing behind. What creates things is never given up half-way.
async fn unless_stopped<T>(stop: &CancellationToken, work: impl Future<Output = Result<T, ExecuteError>>) -> Result<T, ExecuteError> {
    tokio::select! {
        result = work => result,
        () = stop.cancelled() => Err(ExecuteError::Stopped),
    }
}

async fn connect(context: &ExecutorContext, lease: &EngineLease) -> Result<Ready, ExecuteError> {
    let endpoint = lease.endpoint.as_str();
    let is_tcp = ["tcp://", "http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme));
    let client = match &lease.certificates {
        _ if endpoint.starts_with("unix://") => Docker::connect_with_unix(endpoint, REQUEST_TIMEOUT_SECS, API_DEFAULT_VERSION),
        Some(directory) if is_tcp => {
            let [key, certificate, authority] = ["key.pem", "cert.pem", "ca.pem"].map(|name| directory.join(name));
            Docker::connect_with_ssl(endpoint, &key, &certificate, &authority, REQUEST_TIMEOUT_SECS, API_DEFAULT_VERSION)
        }
        None if is_tcp => Docker::connect_with_http(endpoint, REQUEST_TIMEOUT_SECS, API_DEFAULT_VERSION),
        _ => return Err(ExecuteError::Endpoint { endpoint: endpoint.to_owned() }),
    };
    let action = format!("connect to the Docker engine at {endpoint}");
    let docker = client.map_err(ExecuteError::engine(&action))?;
    let docker = docker.negotiate_version().await.map_err(ExecuteError::engine(&action))?;
    // Others may run a job of the same number on the same engine.
    let nonce = random();
    let volumes = volumes::plan(context, &format!("{}-{nonce:016x}", unique_name(context)), lease.job_scoped)?;
    let (payload, token) = (&context.payload, &context.config.short_token);
    let network = format!("runner-{token}-{}-{}-{}-{nonce:016x}", payload.job_info.project_id, context.slot, payload.id).to_lowercase();
    let network = JobNetwork::decide(context, lease.job_scoped, network);
    Ok(Ready {
        docker,
        job_scoped: lease.job_scoped,
        program: lease.program.clone(),
        created: Created::default(),
        network,
        service_hosts: Vec::new(),
        volumes,
        helper: None,
        helper_image: String::new(),
        image: String::new(),
        build: None,
    })
}

impl Ready {
    fn run<'a>(&'a self, context: &'a ExecutorContext, container: &'a str, what: &'static str, stop: &'a CancellationToken) -> Run<'a> {
        Run {
            docker: &self.docker,
            container,
            what,
            trace: &context.trace,
            stop,
            grace: context.config.grace_period,
            sees_others: !context.config.docker.containers.pid_mode.is_empty(),
        }
    }

    async fn create_volumes(&mut self, context: &ExecutorContext) -> Result<(), ExecuteError> {
        let settings = &context.config.docker.volume_settings;
        let driver = Some(settings.driver.clone()).filter(|driver| !driver.is_empty() && !self.job_scoped);
        let options = Some(settings.driver_options.clone()).filter(|options| !options.is_empty() && !self.job_scoped);
        for volume in &self.volumes.named {
            let request = VolumeCreateRequest {
                name: Some(volume.name.clone()),
                driver: driver.clone(),
                driver_opts: options.clone(),
                labels: Some(labels(context, "cache")),
                ..VolumeCreateRequest::default()
            };
            self.docker
                .create_volume(request)
                .await
                .map_err(ExecuteError::engine(format!("create the volume for {}", volume.destination)))?;
            if !volume.reusable {
                self.created.volumes.push(volume.name.clone());
            }
        }
        Ok(())
    }

    async fn prepare_helper(&mut self, context: &ExecutorContext) -> Result<(), ExecuteError> {
        let own = if self.job_scoped { helper_image::find_own(&self.docker).await? } else { None };
        self.helper_image = match own {
            Some(image) => {
                self.program = None;
                image
            }
            None => {
                let binary = self.program.is_none().then_some(context.config.docker.helper_binary.as_path());
                helper_image::ensure(&self.docker, binary).await?
            }
        };
        let body = self.helper_body(context, vec!["stdin".to_owned()], Vec::new());
        let container = self.create_container(context, "predefined", "helper", body).await?;
        self.helper = Some(container);
        Ok(())
    }

    /// A container of the helper image, with the job's volumes and network.
    fn helper_body(&self, context: &ExecutorContext, arguments: Vec<String>, env: Vec<String>) -> ContainerCreateBody {
        let mut binds = self.volumes.binds.clone();
        binds.extend(self.program.as_ref().map(|program| format!("{program}:{}:ro", helper_image::PROGRAM)));
        let command = [helper_image::PROGRAM, "internal", "helper"].map(str::to_owned).to_vec();
        ContainerCreateBody {
            image: Some(self.helper_image.clone()),
            entrypoint: Some(command),
            cmd: Some(arguments),
            env: Some(env),
            user: Some("0:0".to_owned()),
            host_config: Some(self.host_config(host_config::of_job(&context.config.docker, &self.helper_image), binds)),
            networking_config: Some(self.network.endpoint(Vec::new(), "")),
            ..interactive(context)
        }
    }

    /// Adds what is the job's own.
    fn host_config(&self, settings: HostConfig, binds: Vec<String>) -> HostConfig {
        HostConfig { binds: Some(binds), network_mode: Some(self.network.mode().to_owned()), ..settings }
    }

    /// The volumes' roots belong to root; whoever a job runs as may write there.
    async fn open_directories(&mut self, context: &ExecutorContext, stop: &CancellationToken) -> Result<(), ExecuteError> {
        let mut directories: Vec<_> = self.volumes.opened.iter().map(Into::into).collect();
        directories.push(context.directories.project.clone().into());
        let request = HelperRequest::Prepare { directories };
        self.helper_run(context, &request, tokio::io::empty(), Output::Trace, stop).await
    }

    async fn helper_run(
        &mut self,
        context: &ExecutorContext,
        request: &HelperRequest,
        input: impl AsyncRead + Send + Unpin,
        output: Output<'_>,
        stop: &CancellationToken,
    ) -> Result<(), ExecuteError> {
        let mut line = serde_json::to_vec(request).expect("requests are plain data");
        line.push(b'\n');
        let container = self.helper.as_deref().expect("the helper is the first container of a job");
        let run = self.run(context, container, "the helper container", stop);
        match run.execute(Cursor::new(line).chain(input), output).await? {
            0 => Ok(()),
            code => Err(ExecuteError::Helper { reason: format!("the helper container ended with exit code {code}") }),
        }
    }

    async fn create_build_container(&mut self, context: &ExecutorContext) -> Result<String, ExecuteError> {
        let image = job_image(context).ok_or(ExecuteError::NoImage)?;
        let mut settings = host_config::of_build(&context.config.docker, &context.variables.expand(&image.name));
        let extra_hosts = settings.extra_hosts.get_or_insert_default();
        extra_hosts.extend(self.service_hosts.iter().cloned());
        extra_hosts.extend(self.linked_hosts(context).await?);
        let mut env = context.variables.environment(|key| context.file_variable_path(key), false);
        env.extend(self.network.variable());
        let finder = ["sh", "-c", SHELL_FINDER].map(str::to_owned).to_vec();
        let body = ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint: allowed::entrypoint(context, &image).await,
            cmd: Some(finder),
            env: Some(env),
            user: allowed::build_user(context, &image),
            host_config: Some(self.host_config(settings, self.volumes.binds.clone())),
            networking_config: Some(self.network.endpoint(vec!["build".to_owned()], &context.config.docker.containers.mac_address)),
            ..interactive(context)
        };
        let container = self.create_container(context, "build", "build", body).await?;
        self.build = Some(container.clone());
        Ok(container)
    }

    async fn create_container(
        &mut self,
        context: &ExecutorContext,
        suffix: &str,
        kind: &str,
        mut body: ContainerCreateBody,
    ) -> Result<String, ExecuteError> {
        let name = format!("{}-{:016x}-{suffix}", unique_name(context), random());
        body.labels.get_or_insert_default().extend(labels(context, kind));
        let mut options = CreateContainerOptionsBuilder::new().name(&name);
        let platform = context.payload.image.as_ref().and_then(|image| image.executor_opts.docker.platform.as_deref());
        if let (Some(platform), "build") = (platform, kind) {
            options = options.platform(platform);
        }
        let action = format!("create the {kind} container");
        match self.docker.create_container(Some(options.build()), body).await {
            Ok(response) => {
                self.created.containers.push(response.id.clone());
                Ok(response.id)
            }
            Err(Error::DockerResponseServerError { status_code: 400, message }) => {
                Err(ExecuteError::InvalidContainer { action, reason: message })
            }
            Err(error) => Err(ExecuteError::engine(action)(error)),
        }
    }

    /// Removes what was created. A job has ended well even if something cannot be removed; it is named in the trace.
    async fn remove_all(&self, context: &ExecutorContext) {
        let keep_volumes = context.config.docker.volume_settings.keep_anonymous;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(!keep_volumes).build();
        let removals = self.created.containers.iter().map(|id| self.docker.remove_container(id, Some(options.clone())));
        let mut problems: Vec<Error> = join_all(removals).await.into_iter().filter_map(Result::err).collect();
        for name in &self.created.volumes {
            let options = RemoveVolumeOptionsBuilder::new().force(true).build();
            problems.extend(self.docker.remove_volume(name, Some(options)).await.err());
        }
        if let Some(network) = &self.created.network {
            problems.extend(self.docker.remove_network(network).await.err());
        }
        for problem in problems.iter().filter(|problem| !is_not_found(problem)) {
            context.trace.warning(format!("clean-up: {}", crate::outcome::chain(problem))).await;
        }
    }
}

fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// A container that reads its standard input once and has no terminal.
fn interactive(context: &ExecutorContext) -> ContainerCreateBody {
    ContainerCreateBody {
        hostname: Some(context.config.docker.containers.hostname.clone().unwrap_or_else(|| unique_name(context))),
        tty: Some(false),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        ..ContainerCreateBody::default()
    }
}

fn labels(context: &ExecutorContext, kind: &str) -> HashMap<String, String> {
    let payload = &context.payload;
    let entries = [
        ("managed", "true".to_owned()),
        ("type", kind.to_owned()),
        ("job.id", payload.id.to_string()),
        ("job.url", context.variables.text("CI_JOB_URL").to_owned()),
        ("job.sha", payload.git_info.sha.clone()),
        ("job.before_sha", payload.git_info.before_sha.clone()),
        ("job.ref", payload.git_info.ref_name.clone()),
        ("job.timeout", payload.runner_info.timeout.to_string()),
        ("project.id", payload.job_info.project_id.to_string()),
        ("project.runner_id", context.slot.to_string()),
        ("pipeline.id", payload.job_info.pipeline_id.to_string()),
        ("runner.id", context.config.short_token.clone()),
        ("runner.local_id", context.slot.to_string()),
        ("runner.system_id", context.config.system_id.clone()),
    ];
    let configured = context.config.docker.labels.iter().map(|(key, value)| (key.clone(), context.variables.expand(value)));
    configured.chain(entries.into_iter().map(|(key, value)| (format!("{LABEL_PREFIX}{key}"), value))).collect()
}

fn random() -> u64 {
    getrandom::u64().expect("the kernel gives random numbers")
}
