//! The coordinator over HTTP: GitLab's runner API, the part of its REST API that concerns pipelines and jobs, and Git for the sources.
//!
//! ```text
//! connection ─► route ─┬─ /api/v4/runners, /api/v4/jobs ─► runner   (runner and job tokens)
//!                      ├─ /api/v4/projects, …            ─► rest     (personal token)
//!                      └─ /<group>/<project>.git/…       ─► git      (job token)
//! ```

mod git;
mod multipart;
mod query;
mod respond;
mod rest;
mod runner;
mod show;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http::{Method, Request, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::server::{Server, ServerError};
use respond::{Failure, Response};

/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const TIDY_INTERVAL: Duration = Duration::from_secs(5);

/// What answers requests.
#[derive(Clone)]
struct Api {
    server: Arc<Server>,
    /// Cancelled when the coordinator ends: whoever waits for a job gets an answer.
    stop: CancellationToken,
}

/// Serves a coordinator until `stop` is cancelled; requests that are being answered then are finished. With `watch`, the refs of all
/// projects are looked at in this interval, and what was pushed gets a pipeline.
pub async fn serve(listener: TcpListener, server: Arc<Server>, watch: Option<Duration>, stop: CancellationToken) -> io::Result<()> {
    let api = Api { server, stop: stop.clone() };
    let graceful = GracefulShutdown::new();
    let http = auto::Builder::new(TokioExecutor::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(tidy(api.clone()));
    if let Some(interval) = watch {
        tasks.spawn(look_for_pushes(api.clone(), interval));
    }
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // The peer has gone already, or descriptors are short: neither ends the coordinator.
                Err(error) => {
                    tracing::warn!(%error, "accept a connection to the coordinator");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            Some(_) = tasks.join_next() => continue,
            () = stop.cancelled() => break,
        };
        // Answers are small; waiting for more of them would only delay a job.
        let _ = stream.set_nodelay(true);
        let api = api.clone();
        let service = service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service).into_owned());
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "a connection to the coordinator broke off");
            }
        });
    }
    graceful.shutdown().await;
    Ok(())
}

async fn tidy(api: Api) {
    while api.stop.run_until_cancelled(tokio::time::sleep(TIDY_INTERVAL)).await.is_some() {
        if let Err(error) = api.blocking(Server::tidy).await {
            tracing::error!(%error, "tidy up the queue");
        }
    }
}

async fn look_for_pushes(api: Api, interval: Duration) {
    loop {
        if let Err(error) = api.blocking(look_once).await {
            tracing::error!(%error, "look for pushes");
        }
        if api.stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_none() {
            return;
        }
    }
}

fn look_once(server: &Server) -> Result<(), ServerError> {
    for project in server.projects()? {
        for push in server.look_for_pushes(&project)? {
            match server.push(&project, &push) {
                Ok(_) => {}
                Err(error) => tracing::warn!(project = project.path, full_ref = push.full_ref, %error, "a push got no pipeline"),
            }
        }
    }
    Ok(())
}

impl Api {
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let outcome = match path.strip_prefix("/api/v4/") {
            Some(rest) => {
                let parts: Option<Vec<String>> = rest.trim_end_matches('/').split('/').map(decoded).collect();
                match parts {
                    Some(parts) => self.api(&parts.iter().map(String::as_str).collect::<Vec<_>>(), request).await,
                    None => Err(Failure::bad_request("the path is not valid")),
                }
            }
            None => self.git(&path, request).await,
        };
        let response = outcome.unwrap_or_else(Failure::into_response);
        tracing::debug!(%method, path, status = response.status().as_u16(), "request");
        response
    }

    async fn api(&self, parts: &[&str], request: Request<Incoming>) -> Result<Response, Failure> {
        match (request.method(), parts) {
            (&Method::POST, ["runners", ..]) => self.runner(parts, request).await,
            (_, ["jobs", ..]) => self.runner(parts, request).await,
            (&Method::DELETE, ["runners"] | ["runners", "managers"]) => self.runner(parts, request).await,
            _ => self.rest(parts, request).await,
        }
    }

    /// Runs work that blocks.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Server) -> Result<T, ServerError> + Send + 'static,
    ) -> Result<T, ServerError> {
        let server = Arc::clone(&self.server);
        tokio::task::spawn_blocking(move || work(&server)).await.expect("work on the coordinator does not panic")
    }
}

/// Returns a header's text; empty when it is missing.
fn header_text<'a>(headers: &'a http::HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Returns the personal token of a request.
fn personal_token(headers: &http::HeaderMap) -> &str {
    match header_text(headers, "private-token") {
        "" => header_text(headers, header::AUTHORIZATION.as_str()).strip_prefix("Bearer ").unwrap_or_default(),
        token => token,
    }
}

/// Undoes percent-encoding; `None` when it is broken.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn paths_are_decoded() {
        assert_eq!(decoded("group%2Fname").as_deref(), Some("group/name"));
        assert_eq!(decoded("plain").as_deref(), Some("plain"));
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decoded(broken), None, "{broken}");
        }
    }
}
