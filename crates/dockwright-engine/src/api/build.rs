//! `docker build` as clients without BuildKit send it: a tar archive in, a stream of lines out.
//!
//! The archive is read while the answer may already be on its way. As long as nothing was told, an error is an HTTP error; afterwards it
//! is a line of the stream. A client that goes away cancels the build.

mod lines;

use std::{collections::BTreeMap, io, sync::Arc};

use dockwright_build::{
    backend::{Cancel, PullPolicy, RunLimits},
    context::Context,
    progress::BuildEvent,
    request::BuildOptions,
    solver::{self, BuildError},
};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use self::lines::Lines;
use crate::{
    Engine,
    api::{
        Query, Request, Response, auth,
        router::{Route, route},
        stream::{self, Sender},
    },
    body::BlockingBody,
    build_backend::EngineBackend,
    error::{Context as _, EngineError, Result, chain},
    image::parse_reference,
};

pub(super) const ROUTES: &[Route] =
    &[route!(POST "/build" => build), route!(POST "/build/prune" => prune), route!(POST "/build/cancel" => cancel)];

/// Events that wait for a slow client before the build is held back.
const EVENT_QUEUE_LENGTH: usize = 64;

async fn build(request: Request) -> Result<Response> {
    let options = options(&request.query)?;
    let lines = Lines::new(request.query.bool("q"));
    let credentials = auth::registry_config(&request.headers)?;
    let engine = request.engine.clone();
    let job = Job {
        backend: EngineBackend::new(engine.clone(), credentials),
        scratch: engine.images().scratch().to_owned(),
        options,
        cancel: Arc::default(),
    };
    run(engine, job, lines, request.into_body()).await
}

/// One build, before it begins.
struct Job {
    backend: EngineBackend,
    scratch: std::path::PathBuf,
    options: BuildOptions,
    cancel: Arc<Cancel>,
}

type Outcome = std::result::Result<dockwright_store::ImageId, BuildError>;

impl Job {
    /// Builds on a thread of its own.
    fn start(self, body: Incoming) -> io::Result<Running> {
        let (told, events) = mpsc::channel(EVENT_QUEUE_LENGTH);
        let (finish, outcome) = tokio::sync::oneshot::channel();
        let cancel = Arc::clone(&self.cancel);
        let mut archive = BlockingBody::new(body);
        let work = move || {
            let outcome = self.build(&mut archive, &mut |event| {
                // The client has gone, and the build is being cancelled.
                let _ = told.blocking_send(event);
            });
            // Before the channel of events closes, so that whoever sees its end finds the outcome.
            let _ = finish.send(outcome);
        };
        std::thread::Builder::new().name("build".to_owned()).spawn(work)?;
        Ok(Running { events, outcome, cancel: CancelOnDrop(cancel) })
    }

    fn build(&self, archive: &mut BlockingBody, events: &mut dyn FnMut(BuildEvent)) -> Outcome {
        std::fs::create_dir_all(&self.scratch)
            .map_err(|source| BuildError::Backend { action: "make a directory for the build context", source: source.into() })?;
        let context = Context::read(archive, &self.scratch)?;
        solver::build(&self.backend, context, &self.options, &self.cancel, events)
    }
}

/// A build under way; dropped, it is cancelled.
struct Running {
    events: mpsc::Receiver<BuildEvent>,
    outcome: tokio::sync::oneshot::Receiver<Outcome>,
    cancel: CancelOnDrop,
}

struct CancelOnDrop(Arc<Cancel>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

async fn run(engine: Engine, job: Job, mut lines: Lines, body: Incoming) -> Result<Response> {
    let mut running = job.start(body).context("start the build")?;
    let first = running.events.recv().await;
    if first.is_none() {
        // It ended without a word.
        let failed = match running.outcome.await.context("wait for the build")? {
            Ok(image) => return Ok(stream::ok(&json!({"stream": format!("{image}\n")}))),
            Err(error) => error,
        };
        let message = message(&failed);
        return Err(if failed.is_invalid_request() {
            EngineError::invalid(message)
        } else {
            EngineError::new(crate::ErrorKind::Internal, message)
        });
    }
    let (sender, response) = stream::channel("application/json");
    tokio::spawn(async move {
        tokio::select! {
            _ = tell(&engine, running, first, &mut lines, &sender) => {}
            () = sender.closed() => {}
        }
    });
    Ok(response)
}

async fn tell(
    engine: &Engine,
    mut running: Running,
    first: Option<BuildEvent>,
    lines: &mut Lines,
    sender: &Sender,
) -> std::result::Result<(), stream::Disconnected> {
    let mut next = first;
    while let Some(event) = next {
        if let BuildEvent::Built { image } = &event {
            engine.images().table().keep(*image);
        }
        for line in lines.of(event) {
            sender.send_json(&line).await?;
        }
        next = running.events.recv().await;
    }
    let last = match running.outcome.await {
        Ok(Ok(image)) => lines.end(image),
        Ok(Err(error)) => vec![error_line(&error)],
        Err(_) => vec![json!({"errorDetail": {"message": "the build ended early"}, "error": "the build ended early"})],
    };
    for line in last {
        sender.send_json(&line).await?;
    }
    drop(running.cancel);
    Ok(())
}

fn error_line(error: &BuildError) -> serde_json::Value {
    let message = message(error);
    match error.exit_code() {
        Some(code) => json!({"errorDetail": {"code": code, "message": message}, "error": message}),
        None => json!({"errorDetail": {"message": message}, "error": message}),
    }
}

/// Docker's words first, then what to do.
fn message(error: &BuildError) -> String {
    let message = chain(error);
    error.remedy().map_or_else(|| message.clone(), |remedy| format!("{message}\nhint: {remedy}"))
}

/// A limit as `--ulimit` sends it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ulimit {
    name: String,
    soft: i64,
    hard: i64,
}

fn options(query: &Query) -> Result<BuildOptions> {
    refuse_unsupported(query)?;
    let tags = query.all("t").filter(|tag| !tag.is_empty()).map(|tag| Ok(parse_tag(tag)?.familiar())).collect::<Result<_>>()?;
    Ok(BuildOptions {
        dockerfile: query.non_empty("dockerfile").unwrap_or("Dockerfile").to_owned(),
        tags,
        target: query.non_empty("target").map(str::to_owned),
        build_args: query.json::<Option<BTreeMap<String, Option<String>>>>("buildargs")?.flatten().unwrap_or_default(),
        labels: query.json::<Option<BTreeMap<String, String>>>("labels")?.flatten().unwrap_or_default(),
        no_cache: query.bool("nocache"),
        pull: if query.bool("pull") { PullPolicy::Always } else { PullPolicy::IfMissing },
        cache_from: query.json::<Option<Vec<String>>>("cachefrom")?.flatten().unwrap_or_default(),
        platform: query.non_empty("platform").map(str::to_owned),
        limits: limits(query)?,
        remove_containers: query.bool_or("rm", true),
        now: jiff::Timestamp::now,
    })
}

fn refuse_unsupported(query: &Query) -> Result<()> {
    if query.get("version") == Some("2") {
        return Err(EngineError::not_implemented("POST /build with version=2 (BuildKit; set DOCKER_BUILDKIT=0)"));
    }
    if let Some(remote) = query.non_empty("remote") {
        return Err(EngineError::not_implemented(format_args!("POST /build from the remote context {remote}")));
    }
    if query.bool("squash") {
        return Err(EngineError::not_implemented("POST /build with squash"));
    }
    if query.non_empty("outputs").is_some_and(|outputs| outputs != "[]" && outputs != "null") {
        return Err(EngineError::not_implemented("POST /build with outputs"));
    }
    Ok(())
}

fn parse_tag(tag: &str) -> Result<dockwright_store::ImageRef> {
    let name =
        parse_reference(tag).map_err(|error| EngineError::invalid(format!("invalid argument {tag:?} for \"-t, --tag\" flag: {error}")))?;
    if name.digest().is_some() {
        return Err(EngineError::invalid("build tag cannot contain a digest"));
    }
    Ok(name)
}

fn limits(query: &Query) -> Result<RunLimits> {
    let nonzero = |name| query.number::<i64>(name).map(|value| value.filter(|value| *value != 0));
    let ulimits = query.json::<Option<Vec<Ulimit>>>("ulimits")?.flatten().unwrap_or_default();
    Ok(RunLimits {
        // Clients say the same in two ways, and it is part of cache keys.
        network: query.non_empty("networkmode").unwrap_or("default").to_owned(),
        extra_hosts: query.all("extrahosts").filter(|host| !host.is_empty()).map(str::to_owned).collect(),
        shm_size: query.number("shmsize")?.filter(|size| *size > 0),
        memory: nonzero("memory")?,
        memory_swap: nonzero("memswap")?,
        cpu_shares: nonzero("cpushares")?,
        cpu_period: nonzero("cpuperiod")?,
        cpu_quota: nonzero("cpuquota")?,
        cpuset_cpus: query.get("cpusetcpus").unwrap_or_default().to_owned(),
        cpuset_mems: query.get("cpusetmems").unwrap_or_default().to_owned(),
        ulimits: ulimits.into_iter().map(|limit| (limit.name, limit.soft, limit.hard)).collect(),
        security_opt: query.all("securityopt").filter(|option| !option.is_empty()).map(str::to_owned).collect(),
        cgroup_parent: query.get("cgroupparent").unwrap_or_default().to_owned(),
    })
}

async fn prune(request: Request) -> Result<Response> {
    let pruned = request.engine.images().broker().cache_prune().await?;
    tracing::debug!(records = pruned.records, "pruned the build cache");
    // What the records held is collected by the host when nothing else needs it.
    Ok(stream::ok(&json!({"CachesDeleted": null, "SpaceReclaimed": 0})))
}

async fn cancel(_request: Request) -> Result<Response> {
    Err(EngineError::not_implemented("POST /build/cancel"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_the_query() {
        let query = Query::parse(
            "t=app&t=registry:5000/group/app:1&dockerfile=ci/Dockerfile&nocache=1&pull=true&target=test&q=0\
             &buildargs=%7B%22A%22%3A%221%22%2C%22B%22%3Anull%7D&labels=%7B%22l%22%3A%22v%22%7D&cachefrom=%5B%22app%3Acache%22%5D\
             &memory=1000000&ulimits=%5B%7B%22Name%22%3A%22nofile%22%2C%22Soft%22%3A1%2C%22Hard%22%3A2%7D%5D&networkmode=none",
        );
        let options = options(&query).expect("options");
        assert_eq!(options.tags, ["app:latest", "registry:5000/group/app:1"]);
        assert_eq!((options.dockerfile.as_str(), options.target.as_deref()), ("ci/Dockerfile", Some("test")));
        assert!(options.no_cache && options.pull == PullPolicy::Always && options.remove_containers);
        assert_eq!(options.build_args, BTreeMap::from([("A".to_owned(), Some("1".to_owned())), ("B".to_owned(), None)]));
        assert_eq!(options.cache_from, ["app:cache"]);
        assert_eq!((options.limits.memory, options.limits.network.as_str()), (Some(1_000_000), "none"));
        assert_eq!(options.limits.ulimits, [("nofile".to_owned(), 1, 2)]);
    }

    #[test]
    fn null_stands_for_nothing() {
        let options = options(&Query::parse("buildargs=null&labels=null&cachefrom=null&ulimits=null&shmsize=0")).expect("options");
        assert!(options.build_args.is_empty() && options.cache_from.is_empty() && options.limits.shm_size.is_none());
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (query, expected) in [
            ("version=2", "BuildKit"),
            ("remote=https://example.com/x.git", "https://example.com/x.git"),
            ("squash=1", "squash"),
            ("outputs=[{}]", "outputs"),
        ] {
            let error = options(&Query::parse(query)).expect_err(query);
            assert!(error.kind == crate::ErrorKind::NotImplemented && error.message.contains(expected), "{error}");
        }
        assert!(options(&Query::parse("t=A:B:C")).is_err());
    }
}
