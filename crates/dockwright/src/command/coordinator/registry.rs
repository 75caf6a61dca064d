//! The registry beside a coordinator: images of its projects, for the tokens of its jobs.

use std::{path::Path, sync::Arc};

use dockwright_coordinator::{RegistryFacts, server::Server};
use dockwright_registry::{
    Registry,
    server::{self, Action, Authority, Identity},
};
use dockwright_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    error::{CommandError, ErrorKind, Explain as _},
    report::print_warning,
};

/// Who has the personal token. No path of a project looks like this.
const OWNER: &str = "/";

/// A registry that has its address and does not answer yet.
pub(super) struct Listening {
    listener: TcpListener,
    /// What jobs are told.
    pub(super) host: String,
}

impl Listening {
    pub(super) async fn bind(listen: &str, host: Option<&str>) -> Result<Self, CommandError> {
        let listener = TcpListener::bind(listen)
            .await
            .explain(ErrorKind::Environment, || format!("listen on `{listen}` with the registry"))
            .map_err(|error| error.hint("another program may listen there; `--registry 127.0.0.1:0` takes a free port"))?;
        let address = listener.local_addr().explain(ErrorKind::Environment, || "find out the port".to_owned())?;
        if host.is_none() && address.ip().is_unspecified() {
            print_warning("jobs are told an address of the registry that leads nowhere", Some("--registry-host says how they reach it"));
        }
        let host = host.map_or_else(|| address.to_string(), str::to_owned);
        Ok(Self { listener, host })
    }

    /// Answers until `stop` is cancelled, from a store of its own below the coordinator's directory.
    pub(super) async fn serve(self, directory: &Path, server: Arc<Server>, stop: CancellationToken) -> Result<(), CommandError> {
        let directory = directory.join("registry");
        let opened = directory.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(&opened)).await.expect("opening does not panic");
        let store = store.explain(ErrorKind::Environment, || format!("open the store `{}`", directory.display()))?;
        let registry = Registry::new(store, Arc::new(Tokens { server }));
        let registry = Arc::new(registry.explain(ErrorKind::Environment, || "make the registry".to_owned())?);
        tokio::spawn(async move {
            if let Err(error) = server::serve(self.listener, registry, stop.cancelled_owned()).await {
                tracing::error!(%error, "serve the registry");
            }
        });
        Ok(())
    }
}

/// GitLab's rules: the token of a running job is for the images of its project, the personal token for all.
struct Tokens {
    server: Arc<Server>,
}

impl Authority for Tokens {
    fn authenticate(&self, user: &str, password: &str) -> Option<Identity> {
        if self.server.is_personal_token(password) {
            return Some(Identity { name: OWNER.to_owned() });
        }
        if user != RegistryFacts::USER {
            return None;
        }
        let project = self.server.project_of_job_token(password).unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "look up a job's token");
            None
        });
        project.map(|project| Identity { name: project.path })
    }

    fn access(&self, identity: &Identity, repository: &str, _action: Action) -> bool {
        if identity.name == OWNER {
            return true;
        }
        let project = self.server.project_of_images(repository).unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "look up the project of a repository");
            None
        });
        project.is_some_and(|project| project.path == identity.name)
    }
}
