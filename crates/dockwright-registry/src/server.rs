//! The embedded registry.
//!
//! ```text
//! connection ─► route (path → Route) ─► access (who, may they) ─► blobs, uploads, manifests, tags ─► store
//!                    └─ /jwt/auth ─► token
//! ```
//!
//! Presence in the store is not permission: a blob is served only from a repository that has it and that the caller may pull, and is
//! mounted only from one that the caller may pull.

mod access;
mod blobs;
mod manifests;
mod respond;
mod route;
mod tags;
mod token;
mod uploads;

use std::{convert::Infallible, future::Future, io, sync::Arc};

use dockwright_store::Store;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::net::TcpListener;

pub use crate::protocol::Action;
pub use token::KeyError;

use respond::{Failure, Response};
use route::Route;
use token::TokenService;
use uploads::Parked;

/// Who may do what. Implemented by the engine host from the credentials it was given.
pub trait Authority: Send + Sync {
    /// Returns who has this name and secret.
    fn authenticate(&self, user: &str, password: &str) -> Option<Identity>;

    /// Tells whether somebody may do something in a repository.
    fn access(&self, identity: &Identity, repository: &str, action: Action) -> bool;
}

/// Somebody whom the authority knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Unique among the authority's identities; empty for anybody.
    pub name: String,
}

impl Identity {
    /// Returns the identity of whoever gives no name.
    pub fn anonymous() -> Self {
        Self { name: String::new() }
    }

    /// Tells whether nobody in particular is meant.
    pub fn is_anonymous(&self) -> bool {
        self.name.is_empty()
    }
}

/// A registry over a store.
pub struct Registry {
    store: Store,
    authority: Arc<dyn Authority>,
    tokens: TokenService,
    parked: Parked,
}

impl Registry {
    /// Makes a registry. Tokens it gave out end with it.
    pub fn new(store: Store, authority: Arc<dyn Authority>) -> Result<Self, KeyError> {
        Ok(Self { store, authority, tokens: TokenService::new()?, parked: Parked::default() })
    }

    /// Answers one request.
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let is_head = request.method() == http::Method::HEAD;
        let outcome = match Route::of(request.uri().path()) {
            Ok(route) => self.dispatch(route, request).await,
            Err(failure) => Err(failure),
        };
        let response = outcome.unwrap_or_else(Failure::into_response);
        if is_head { respond::without_body(response) } else { response }
    }

    async fn dispatch(&self, route: Route, request: Request<Incoming>) -> Result<Response, Failure> {
        let caller = match &route {
            Route::Token => return self.token(request).await,
            route => self.admit(route, &request)?,
        };
        match route {
            Route::Token => unreachable!("answered above"),
            Route::Ping => Ok(respond::json(http::StatusCode::OK, &serde_json::json!({}))),
            Route::Catalog => self.catalog(&caller, &request).await,
            Route::Tags { repository } => self.tags(&repository, &request).await,
            Route::Referrers { repository, digest } => self.referrers(&repository, &digest, &request).await,
            Route::Manifest { repository, reference } => self.manifest(&repository, &reference, request).await,
            Route::Blob { repository, digest } => self.blob(&repository, &digest, &request).await,
            Route::StartUpload { repository } => self.start_upload(&caller, &repository, request).await,
            Route::Upload { repository, id } => self.upload(&caller, &repository, &id, request).await,
        }
    }
}

/// Serves a registry until `shutdown` resolves; requests that are being answered then are finished.
pub async fn serve(listener: TcpListener, registry: Arc<Registry>, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let mut shutdown = std::pin::pin!(shutdown);
    let graceful = GracefulShutdown::new();
    let server = auto::Builder::new(TokioExecutor::new());
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // The peer has gone already, or descriptors are short: neither ends the registry.
                Err(error) => {
                    tracing::warn!(%error, "accept a connection to the registry");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            () = &mut shutdown => break,
        };
        let registry = registry.clone();
        let service = service_fn(move |request| {
            let registry = registry.clone();
            async move { Ok::<_, Infallible>(registry.answer(request).await) }
        });
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service).into_owned());
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "a connection to the registry broke off");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
    while connections.join_next().await.is_some() {}
    Ok(())
}

const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
