//! `dockwright image pull`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use dockwright_registry::{
    Client, ClientError, ClientOptions, Credentials,
    client::{ErrorKind as ClientErrorKind, OnProgress, Progress, Pulled},
};
use dockwright_store::{ImageRef, Store};

use crate::{
    cli::ImagePullArgs,
    docker_config::DockerConfig,
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    report::Streams,
    wire::host_setup,
};

pub(super) fn run(arguments: &ImagePullArgs, store: &Store, streams: Streams) -> Result<ExitCode, CommandError> {
    let names: Vec<ImageRef> = arguments
        .names
        .iter()
        .map(|name| name.parse().explain(ErrorKind::Usage, || format!("understand the image name `{name}`")))
        .collect::<Result<_, _>>()?;
    let config = DockerConfig::read().explain(ErrorKind::Configuration, || "find credentials".to_owned())?;
    let runtime = host_setup::runtime().explain(ErrorKind::Environment, || "start the async runtime".to_owned())?;
    let client = Client::new(ClientOptions::default()).explain(ErrorKind::Environment, || "make a registry client".to_owned())?;
    for name in &names {
        let login =
            config.login(name.registry()).explain(ErrorKind::Configuration, || format!("find credentials for `{}`", name.registry()))?;
        let credentials = login.map(|login| Credentials::basic(&login.username, &login.password));
        let progress = if arguments.quiet { Arc::new(|_| {}) } else { narrator(streams) };
        let pulled = runtime.block_on(client.pull(store, name, None, credentials.as_ref(), &progress));
        let pulled = pulled.map_err(|error| explain(error, name, credentials.is_some()))?;
        store.set_name(name, &pulled.image).explain(ErrorKind::Environment, || format!("name the image `{}`", name.familiar()))?;
        say(&pulled, name, arguments.quiet, streams);
    }
    Ok(ExitCode::Success)
}

fn say(pulled: &Pulled, name: &ImageRef, quiet: bool, streams: Streams) {
    match quiet {
        true => streams.data(pulled.digest.to_string()),
        false => streams.data(format!("pulled {} {}", name.familiar(), pulled.digest)),
    }
}

/// Says each change of what is done with a layer, and not each chunk of it.
fn narrator(streams: Streams) -> OnProgress {
    let said: Mutex<HashMap<String, String>> = Mutex::default();
    Arc::new(move |Progress { id, status, .. }| {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let before = said.insert(id.clone(), status.clone());
        if before.as_ref() != Some(&status) && !id.is_empty() {
            streams.say(format!("{id}: {status}"));
        }
    })
}

fn explain(error: ClientError, name: &ImageRef, logged_in: bool) -> CommandError {
    let kind = error.kind();
    let error = CommandError::new(ErrorKind::Environment, anyhow::Error::new(error).context(format!("pull `{}`", name.familiar())));
    let registry = name.registry();
    match kind {
        ClientErrorKind::Unauthorized if logged_in => {
            error.hint(format!("the login for `{registry}` was refused: `docker login {registry}` renews it"))
        }
        ClientErrorKind::Unauthorized => {
            error.hint(format!("the image may need a login: `docker login {registry}`, or there is no such image"))
        }
        ClientErrorKind::NotFound => error.hint("check name and tag"),
        ClientErrorKind::Unavailable => error.hint("without a network, `dockwright image import` takes images from files"),
        _ => error,
    }
}
