//! `dockwright registry serve`: the embedded registry in the foreground.

use std::{fs, sync::Arc};

use dockwright_registry::{
    Registry,
    server::{self, Action, Authority, Identity},
};
use dockwright_store::Store;
use tokio::net::TcpListener;

use crate::{
    cli::{RegistryCommand, RegistryServeArgs},
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    report::{Streams, print_warning},
    settings::GlobalSettings,
    wire::{Stop, host_namespace, host_setup},
};

pub(super) fn run(command: RegistryCommand, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    let RegistryCommand::Serve(arguments) = command;
    let authority = authority(&arguments)?;
    host_namespace::enter()?;
    let directory = settings.paths.store();
    let store = Store::open(&directory).explain(ErrorKind::Environment, || format!("open the store `{}`", directory.display()))?;
    let registry = Registry::new(store, authority).explain(ErrorKind::Environment, || "make the registry".to_owned())?;
    let runtime = host_setup::runtime().explain(ErrorKind::Environment, || "start the async runtime".to_owned())?;
    runtime.block_on(serve(&arguments, registry, streams))
}

async fn serve(arguments: &RegistryServeArgs, registry: Registry, streams: Streams) -> Result<ExitCode, CommandError> {
    let mut stop = Stop::listen().explain(ErrorKind::Environment, || "wait for signals".to_owned())?;
    let listener = TcpListener::bind(&arguments.listen)
        .await
        .explain(ErrorKind::Environment, || format!("listen on `{}`", arguments.listen))
        .map_err(|error| error.hint("another program may listen there; `--listen 127.0.0.1:0` takes a free port"))?;
    let address = listener.local_addr().explain(ErrorKind::Environment, || "find out the port".to_owned())?;
    if arguments.user.is_none() && !address.ip().is_loopback() {
        print_warning("everybody who reaches this address may pull and push", Some("--user and --password-file ask for a password"));
    }
    streams.data(format!("REGISTRY={address}"));
    let stopped = async {
        stop.wait().await;
        streams.say("stopping: requests under way are finished, images stay");
    };
    let served = server::serve(listener, Arc::new(registry), stopped).await;
    served.explain(ErrorKind::Environment, || "serve the registry".to_owned()).map(|()| ExitCode::Success)
}

fn authority(arguments: &RegistryServeArgs) -> Result<Arc<dyn Authority>, CommandError> {
    let (Some(user), Some(file)) = (&arguments.user, &arguments.password_file) else { return Ok(Arc::new(Everybody)) };
    let text = fs::read_to_string(file).explain(ErrorKind::Usage, || format!("read the password file `{}`", file.display()))?;
    let password = text.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(CommandError::usage(format!("the password file `{}` is empty", file.display())));
    }
    Ok(Arc::new(OneUser { user: user.clone(), password }))
}

/// Anybody may do anything.
struct Everybody;

impl Authority for Everybody {
    fn authenticate(&self, user: &str, _password: &str) -> Option<Identity> {
        Some(Identity { name: user.to_owned() })
    }

    fn access(&self, _identity: &Identity, _repository: &str, _action: Action) -> bool {
        true
    }
}

/// One user may do anything, others nothing.
struct OneUser {
    user: String,
    password: String,
}

impl Authority for OneUser {
    fn authenticate(&self, user: &str, password: &str) -> Option<Identity> {
        let is_user = user == self.user && same_bytes(password.as_bytes(), self.password.as_bytes());
        is_user.then(|| Identity { name: user.to_owned() })
    }

    fn access(&self, identity: &Identity, _repository: &str, _action: Action) -> bool {
        identity.name == self.user
    }
}

/// Takes the same time wherever the difference is.
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_user_with_the_password_gets_in() {
        let authority = OneUser { user: "ci".to_owned(), password: "secret".to_owned() };
        let identity = authority.authenticate("ci", "secret").expect("the right password");
        assert!(authority.access(&identity, "a/b", Action::Push));
        assert!(!authority.access(&Identity::anonymous(), "a/b", Action::Pull));
        for (user, password) in [("ci", "Secret"), ("ci", ""), ("other", "secret")] {
            assert_eq!(authority.authenticate(user, password), None, "{user} {password}");
        }
    }
}
