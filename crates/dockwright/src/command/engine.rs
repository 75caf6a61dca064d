//! `dockwright engine serve`: a Docker daemon in the foreground.
//!
//! One engine host with one engine. TCP listeners are here, in the machine's own network; each connection is passed on to the engine's
//! socket.

mod listen;

use std::{
    io,
    path::{Path, PathBuf},
};

use dockwright_engine::host::{EngineHost, EngineInfo, EngineSpec, PublishMode, TrustScope};
use tokio::net::TcpListener;

use self::listen::Tls;
use crate::{
    cli::{EngineCommand, EngineServeArgs},
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    paths::absolute,
    report::{Streams, print_warning},
    settings::GlobalSettings,
    wire::{Stop, host_namespace, host_setup},
};

const HOME_JOBS: &str = "jobs";

pub(super) fn run(command: EngineCommand, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    let EngineCommand::Serve(arguments) = command;
    host_namespace::enter()?;
    let runtime = host_setup::runtime().explain(ErrorKind::Environment, || "start the async runtime".to_owned())?;
    let host = {
        let _entered = runtime.enter();
        EngineHost::start(host_setup::config(settings.paths.home.clone()))
            .explain(ErrorKind::Environment, || "start the engine host".to_owned())?
    };
    let ended = runtime.block_on(serve(&arguments, &host, settings, streams));
    drop(host);
    ended
}

async fn serve(
    arguments: &EngineServeArgs,
    host: &EngineHost,
    settings: &GlobalSettings,
    streams: Streams,
) -> Result<ExitCode, CommandError> {
    let mut stop = Stop::listen().explain(ErrorKind::Environment, || "wait for signals".to_owned())?;
    let tls = arguments.tls.as_deref().map(|directory| Tls::prepare(&absolute(directory), &arguments.tls_names)).transpose()?;
    let tcp = match &arguments.tcp {
        Some(address) => Some(TcpListener::bind(address).await.explain(ErrorKind::Environment, || format!("listen on `{address}`"))?),
        None => None,
    };
    let spec = spec(arguments, settings);
    let id = spec.id.clone();
    let engine = host.create_engine(spec).await.explain(ErrorKind::Environment, || "start the engine".to_owned())?;
    for warning in &engine.warnings {
        print_warning(warning, None);
    }
    if let Some(reason) = &engine.no_network {
        print_warning(&reason.to_string(), Some(reason.remedy()));
    }
    let link = arguments.socket.as_deref().map(|path| SocketLink::make(&absolute(path), &engine)).transpose()?;
    let socket = link.as_ref().map_or(engine.socket.as_path(), SocketLink::path).to_owned();
    announce(&socket, tcp.as_ref(), tls.as_ref(), streams)?;
    let forwarding = async {
        match &tcp {
            Some(listener) => listen::forward(listener, &engine.socket, tls.as_ref()).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        _ = stop.wait() => Ok(ExitCode::Success),
        () = forwarding => Ok(ExitCode::Environment),
        () = host.engine_ended(&id) => Err(CommandError::environment("the engine ended by itself")
            .hint("run it again with `--log debug`; please report it if it ends again")),
    };
    streams.say("stopping: containers end, images stay");
    host.remove_engine(&id).await;
    drop(link);
    ended
}

fn spec(arguments: &EngineServeArgs, settings: &GlobalSettings) -> EngineSpec {
    let id = format!("serve-{}", std::process::id());
    EngineSpec {
        socket_dir: settings.paths.home.join(HOME_JOBS).join(&id).join("api"),
        id,
        name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        scope: TrustScope { project: "local/engine".to_owned(), protected: false },
        credentials: Vec::new(),
        registry_user: None,
        shared_paths: arguments.shares.iter().map(|path| absolute(path)).collect(),
        shared_owner: 0,
        owner_apart: false,
        egress: true,
        publish: PublishMode::Host,
    }
}

/// Prints where the engine is, as lines for `export`. When they appear, it answers.
fn announce(socket: &Path, tcp: Option<&TcpListener>, tls: Option<&Tls>, streams: Streams) -> Result<(), CommandError> {
    let Some(listener) = tcp else {
        streams.data(format!("DOCKER_HOST=unix://{}", socket.display()));
        return Ok(());
    };
    let address = listener.local_addr().explain(ErrorKind::Environment, || "find out the port".to_owned())?;
    streams.data(format!("DOCKER_HOST=tcp://{address}"));
    if let Some(tls) = tls {
        streams.data("DOCKER_TLS_VERIFY=1");
        streams.data(format!("DOCKER_CERT_PATH={}", tls.client_directory().display()));
    }
    streams.say(format!("also at unix://{}", socket.display()));
    Ok(())
}

/// The engine's socket under the name that the user chose; gone when dropped.
struct SocketLink {
    path: PathBuf,
}

impl SocketLink {
    fn make(path: &Path, engine: &EngineInfo) -> Result<Self, CommandError> {
        let doing = || format!("make the socket `{}`", path.display());
        match std::fs::symlink_metadata(path) {
            Ok(existing) if existing.is_symlink() => std::fs::remove_file(path).explain(ErrorKind::Environment, doing)?,
            Ok(_) => {
                return Err(CommandError::usage(format!("`{}` exists already", path.display()))
                    .hint("is another daemon running? choose another path, or remove it"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).explain(ErrorKind::Environment, doing),
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).explain(ErrorKind::Environment, doing)?;
        }
        std::os::unix::fs::symlink(&engine.socket, path).explain(ErrorKind::Environment, doing)?;
        Ok(Self { path: path.to_owned() })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketLink {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
