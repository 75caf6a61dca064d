//! The proof: an engine is started, and a container of this program in it.
//!
//! That takes everything that a job takes (namespaces, id maps, overlay and idmapped mounts, a network), so what fails here says more than
//! any look at a switch.

use std::{io, path::Path, sync::Arc, time::Duration};

use dockwright_engine::host::helper_image_name;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
    time::{Instant, timeout},
};

use super::finding::Finding;
use crate::{
    settings::GlobalSettings,
    wire::{
        HostError, HostProcess, HostSettings,
        control::{Answer, EngineOrder, Problem, Request},
    },
};

const CHECK: &str = "container";
const TRIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Nobody listens.
const EVENT_QUEUE: usize = 1;

#[derive(Debug, thiserror::Error)]
enum TrialError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("find this program")]
    Program(#[source] io::Error),
    #[error("talk with the engine")]
    Talk(#[source] io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("the container ended with {0}")]
    Ended(i64),
    #[error("nothing happened for {} s", TRIAL_TIMEOUT.as_secs())]
    TimedOut,
}

/// What the trial found out.
struct Trial {
    took: Duration,
    /// Why containers have no way out of this machine, if they have none.
    no_network: Option<Problem>,
}

impl Trial {
    fn findings(self) -> Vec<Finding> {
        let started = Finding::good(CHECK, format!("an engine and a container in it started in {} ms", self.took.as_millis()));
        let network = self.no_network.map(|problem| Finding::remark("network", problem.to_string(), problem.remedy.unwrap_or_default()));
        std::iter::once(started).chain(network).collect()
    }
}

pub(super) fn check(settings: &GlobalSettings) -> Vec<Finding> {
    // One thread, because the checks that come later move this process to another namespace.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let tried = match runtime {
        Ok(runtime) => runtime.block_on(try_host(settings)),
        Err(error) => Err(TrialError::Program(error)),
    };
    match tried {
        Ok(trial) => trial.findings(),
        Err(error) => {
            let remedy = match &error {
                TrialError::Host(error) => error.remedy(),
                _ => None,
            };
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            let message = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
            vec![Finding::problem(CHECK, message, remedy.unwrap_or_else(|| "`dockwright --log debug doctor` says more".to_owned()))]
        }
    }
}

async fn try_host(settings: &GlobalSettings) -> Result<Trial, TrialError> {
    let program = std::env::current_exe().map_err(TrialError::Program)?;
    let host_settings = HostSettings { program, home: settings.paths.home.clone(), log: settings.log.clone() };
    let (events, received) = mpsc::channel(EVENT_QUEUE);
    // The finding says it all.
    drop(received);
    let host = Arc::new(HostProcess::new(host_settings, events));
    // The host makes the helper image when it runs for the first time, which is no part of a job's start.
    let ready = host.call(Request::Release { engine: String::new() }).await;
    let began = Instant::now();
    let tried = match ready {
        Ok(_) => timeout(TRIAL_TIMEOUT, try_engine(&host)).await.unwrap_or(Err(TrialError::TimedOut)),
        Err(error) => Err(error.into()),
    };
    host.stop().await;
    tried.map(|no_network| Trial { took: began.elapsed(), no_network })
}

async fn try_engine(host: &HostProcess) -> Result<Option<Problem>, TrialError> {
    let order = EngineOrder {
        name: format!("doctor-{}", std::process::id()),
        project: "local/doctor".to_owned(),
        protected: false,
        credentials: Vec::new(),
        shared_paths: Vec::new(),
        registry: None,
    };
    let Answer::Engine { endpoint, no_network, .. } = host.call(Request::Acquire(order)).await? else {
        return Err(TrialError::Refused("the engine host gave another answer than an engine".to_owned()));
    };
    let socket = Path::new(endpoint.trim_start_matches("unix://"));
    let create = serde_json::json!({ "Image": helper_image_name(), "Entrypoint": ["/usr/bin/dockwright"], "Cmd": ["--version"] });
    let created = ask(socket, "POST", "/containers/create", &create.to_string()).await?;
    let container = created["Id"].as_str().unwrap_or_default();
    ask(socket, "POST", &format!("/containers/{container}/start"), "").await?;
    let waited = ask(socket, "POST", &format!("/containers/{container}/wait"), "").await?;
    match waited["StatusCode"].as_i64() {
        Some(0) => Ok(no_network),
        code => Err(TrialError::Ended(code.unwrap_or(-1))),
    }
}

/// One request of the Docker API; the older protocol version makes the answer end with the connection.
async fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Result<Value, TrialError> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        let head =
            format!("{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = exchange.await.map_err(TrialError::Talk)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    let document: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let succeeded = head.split_whitespace().nth(1).is_some_and(|status| status.starts_with('2'));
    match succeeded {
        true => Ok(document),
        false => Err(TrialError::Refused(document["message"].as_str().unwrap_or(head).to_owned())),
    }
}
