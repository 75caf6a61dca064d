//! `dockwright coordinator serve`: pipelines of local repositories, for runners that register here.

mod registry;

use std::{sync::Arc, time::Duration};

use dockwright_coordinator::{
    RegistryFacts, api,
    server::{Server, ServerError, ServerOptions},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{CoordinatorCommand, CoordinatorServeArgs},
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    report::{Streams, print_warning},
    settings::GlobalSettings,
    wire::{Stop, host_setup},
};

pub(super) fn run(command: CoordinatorCommand, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    let CoordinatorCommand::Serve(arguments) = command;
    let runtime = host_setup::runtime().explain(ErrorKind::Environment, || "start the async runtime".to_owned())?;
    runtime.block_on(serve(arguments, settings, streams))
}

async fn serve(arguments: CoordinatorServeArgs, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    let mut signals = Stop::listen().explain(ErrorKind::Environment, || "wait for signals".to_owned())?;
    let listener = TcpListener::bind(&arguments.listen)
        .await
        .explain(ErrorKind::Environment, || format!("listen on `{}`", arguments.listen))
        .map_err(|error| error.hint("another program may listen there; `--listen 127.0.0.1:0` takes a free port"))?;
    let address = listener.local_addr().explain(ErrorKind::Environment, || "find out the port".to_owned())?;
    if arguments.url.is_none() && address.ip().is_unspecified() {
        print_warning("jobs are told an address that leads nowhere", Some("--url says how runners reach this coordinator"));
    }
    let images = match &arguments.registry {
        Some(listen) => Some(registry::Listening::bind(listen, arguments.registry_host.as_deref()).await?),
        None => None,
    };
    let options = ServerOptions {
        directory: arguments.data.clone().unwrap_or_else(|| settings.paths.home.join("coordinator")),
        url: arguments.url.clone().unwrap_or_else(|| format!("http://{address}")),
        registry: images.as_ref().map(|images| RegistryFacts { host: images.host.clone() }),
    };
    let url = options.url.clone();
    let directory = options.directory.clone();
    let opened = tokio::task::spawn_blocking(move || open(options, &arguments)).await.expect("opening does not panic");
    let (server, watch) =
        opened.explain(ErrorKind::Environment, || format!("open the coordinator's directory `{}`", directory.display()))?;
    streams.data(format!("COORDINATOR={url}"));
    streams.data(format!("REGISTRATION_TOKEN_FILE={}", server.registration_token_file().display()));
    streams.data(format!("PERSONAL_TOKEN_FILE={}", server.personal_token_file().display()));
    let server = Arc::new(server);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    if let Some(images) = images {
        streams.data(format!("REGISTRY={}", images.host));
        images.serve(&directory, Arc::clone(&server), stop.clone()).await?;
    }
    let serving = tokio::spawn(api::serve(listener, server, watch, stop));
    signals.wait().await;
    streams.say("stopping: requests under way are finished; pipelines go on at the next start");
    stopped.cancel();
    let served = serving.await.explain(ErrorKind::Internal, || "serve the coordinator".to_owned())?;
    served.explain(ErrorKind::Environment, || "serve the coordinator".to_owned()).map(|()| ExitCode::Success)
}

fn open(options: ServerOptions, arguments: &CoordinatorServeArgs) -> Result<(Server, Option<Duration>), ServerError> {
    let server = Server::open(options)?;
    for argument in &arguments.projects {
        server.add_project(&argument.project, &argument.repository)?;
    }
    Ok((server, arguments.watch.map(Duration::from_secs)))
}
