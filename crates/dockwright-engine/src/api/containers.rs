//! Endpoints of containers, except those that carry streams ([`super::attach`], [`super::logs`]) and files ([`super::files`]).

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    api::{
        Request, Response,
        router::{Filters, Route, route},
        stream,
    },
    container::{
        Container, Fields, ListItem, Status, WaitCondition,
        config::{CreateRequest, PortKey},
        list_item, parse_signal,
    },
    error::{EngineError, ErrorKind, Result},
    event::EventType,
};

pub(super) const ROUTES: &[Route] = &[
    route!(GET "/containers/json" => list),
    route!(POST "/containers/create" => create),
    route!(POST "/containers/prune" => prune),
    route!(GET "/containers/{id}/json" => inspect),
    route!(POST "/containers/{id}/start" => start),
    route!(POST "/containers/{id}/stop" => stop),
    route!(POST "/containers/{id}/restart" => restart),
    route!(POST "/containers/{id}/kill" => kill),
    route!(POST "/containers/{id}/pause" => pause),
    route!(POST "/containers/{id}/unpause" => unpause),
    route!(POST "/containers/{id}/rename" => rename),
    route!(POST "/containers/{id}/update" => update),
    route!(POST "/containers/{id}/wait" => wait),
    route!(GET "/containers/{id}/top" => top),
    route!(GET "/containers/{id}/stats" => super::stats::stats),
    route!(DELETE "/containers/{id}" => remove),
];

fn container(request: &Request) -> Result<Arc<Container>> {
    request.engine.containers().find(request.param("id"))
}

async fn create(mut request: Request) -> Result<Response> {
    let body: Value = request.json().await?;
    let mut parsed = CreateRequest::parse(&body)?;
    parsed.platform = request.query.non_empty("platform").map(str::to_owned);
    let name = request.query.non_empty("name").map(str::to_owned);
    let created = request.engine.create_container(name.as_deref(), parsed, request.caller).await?;
    Ok(stream::json(StatusCode::CREATED, &json!({ "Id": created.id, "Warnings": created.warnings })))
}

async fn inspect(request: Request) -> Result<Response> {
    let container = container(&request)?;
    let mut shown = container.shown(request.version, &request.engine.storage_driver());
    if request.query.bool("size") {
        let (written, total) = sizes(&request, &container).await;
        shown["SizeRw"] = json!(written);
        shown["SizeRootFs"] = json!(total);
    }
    Ok(stream::ok(&shown))
}

/// Returns the bytes that a container has written, and those with its image's.
async fn sizes(request: &Request, container: &Container) -> (u64, u64) {
    let upper = container.dir.join("upper");
    let written = tokio::task::spawn_blocking(move || crate::volume::disk_usage(&upper)).await.unwrap_or_default();
    let image = request.engine.images().table().find(&container.image.to_string()).map_or(0, |image| image.size_bytes());
    (written, written + image)
}

const LIST_FILTERS: [&str; 16] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

async fn list(request: Request) -> Result<Response> {
    let filters = request.query.filters()?;
    filters.check(&LIST_FILTERS)?;
    let limit = request.query.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    // Some filters ask about containers that do not run, so they imply all.
    let asks_for_stopped = ["status", "exited"].iter().any(|name| !filters.values(name).is_empty());
    let all = request.query.bool("all") || limit.is_some() || asks_for_stopped;
    let range = Range::of(&request, &filters)?;
    let mut shown = Vec::new();
    for container in request.engine.containers().list() {
        let item = list_item(&container);
        let listed = all || matches!(item.status, Status::Running | Status::Paused | Status::Restarting);
        if !listed || !request.sees(&container.id) || !range.holds(&container) || !matches(&request, &container, &item, &filters)? {
            continue;
        }
        let mut one = item.shown;
        if request.query.bool("size") {
            let (written, total) = sizes(&request, &container).await;
            one["SizeRw"] = json!(written);
            one["SizeRootFs"] = json!(total);
        }
        shown.push(one);
        if limit == Some(shown.len()) {
            break;
        }
    }
    Ok(stream::ok(&shown))
}

/// The `before` and `since` filters.
struct Range {
    before: Option<jiff::Timestamp>,
    since: Option<jiff::Timestamp>,
}

impl Range {
    fn of(request: &Request, filters: &Filters) -> Result<Self> {
        let created = |name: &str| -> Result<_> {
            filters.values(name).first().map(|other| request.engine.containers().find(other).map(|other| other.created)).transpose()
        };
        Ok(Self { before: created("before")?, since: created("since")? })
    }

    fn holds(&self, container: &Container) -> bool {
        self.before.is_none_or(|before| container.created < before) && self.since.is_none_or(|since| container.created > since)
    }
}

fn matches(request: &Request, container: &Container, item: &ListItem, filters: &Filters) -> Result<bool> {
    for status in filters.values("status") {
        const KNOWN: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
        if !KNOWN.contains(&status.as_str()) {
            return Err(EngineError::invalid(format!("invalid filter 'status={status}'")));
        }
    }
    let name_holds = |wanted: &String| {
        let plain = wanted.trim_start_matches('/');
        match (plain.strip_prefix('^'), plain.strip_suffix('$')) {
            (Some(_), Some(_)) => item.name == plain.trim_start_matches('^').trim_start_matches('/').trim_end_matches('$'),
            (Some(prefix), None) => item.name.starts_with(prefix.trim_start_matches('/')),
            (None, Some(suffix)) => item.name.ends_with(suffix),
            (None, None) => item.name.contains(plain),
        }
    };
    let port_holds =
        |wanted: &String, ports: &[PortKey]| PortKey::parse_range(wanted).is_ok_and(|keys| keys.iter().any(|key| ports.contains(key)));
    let published: Vec<PortKey> = container.host.port_bindings.keys().copied().collect();
    let volume_holds = |wanted: &String| container.mounts.iter().any(|mount| mount.volume() == Some(wanted) || mount.target == *wanted);
    let ancestor_holds = |wanted: &String| {
        container.config.image == *wanted || request.engine.images().table().find(wanted).is_ok_and(|image| image.id() == container.image)
    };
    let exited = |wanted: &String| item.status == Status::Exited && wanted.parse() == Ok(item.exit_code);
    Ok(filters.labels_match(|key| container.config.labels.get(key).map(String::as_str))
        && filters.any("id", |wanted| container.id.starts_with(wanted.as_str()))
        && filters.any("name", name_holds)
        && filters.any("status", |wanted| item.status.name() == wanted)
        && filters.any("exited", exited)
        && filters.any("health", |wanted| item.health == wanted)
        && filters.any("network", |wanted| item.networks.contains(wanted))
        && filters.any("volume", volume_holds)
        && filters.any("ancestor", ancestor_holds)
        && filters.any("publish", |wanted| port_holds(wanted, &published))
        && filters.any("expose", |wanted| port_holds(wanted, &container.config.exposed_ports))
        && filters.any("is-task", |wanted| wanted != "true"))
}

async fn start(request: Request) -> Result<Response> {
    request.engine.start_container(&container(&request)?).await?;
    Ok(stream::no_content())
}

fn timeout(request: &Request) -> Result<Option<i64>> {
    request.query.number("t")
}

fn signal(request: &Request) -> Result<Option<i32>> {
    request.query.non_empty("signal").map(parse_signal).transpose()
}

async fn stop(request: Request) -> Result<Response> {
    request.engine.stop_container(&container(&request)?, timeout(&request)?, signal(&request)?).await?;
    Ok(stream::no_content())
}

async fn restart(request: Request) -> Result<Response> {
    request.engine.restart_container(&container(&request)?, timeout(&request)?, signal(&request)?).await?;
    Ok(stream::no_content())
}

async fn kill(request: Request) -> Result<Response> {
    const SIGKILL: i32 = 9;
    request.engine.kill_container(&container(&request)?, signal(&request)?.unwrap_or(SIGKILL)).await?;
    Ok(stream::no_content())
}

async fn pause(request: Request) -> Result<Response> {
    request.engine.pause_container(&container(&request)?).await?;
    Ok(stream::no_content())
}

async fn unpause(request: Request) -> Result<Response> {
    request.engine.unpause_container(&container(&request)?).await?;
    Ok(stream::no_content())
}

async fn rename(request: Request) -> Result<Response> {
    let container = container(&request)?;
    let name = request.query.non_empty("name").ok_or_else(|| EngineError::invalid("Neither old nor new names may be empty"))?;
    let name = crate::container::name::check(name)?;
    let old = container.name();
    if old == name {
        return Err(EngineError::invalid("Renaming a container with the same name as its current name"));
    }
    request.engine.containers().rename(&container, name)?;
    request.engine.networks().rename(&container.id, name);
    let mut attributes = container.event_attributes();
    attributes.insert("oldName".to_owned(), format!("/{old}"));
    request.engine.events().emit(EventType::Container, "rename", &container.id, attributes);
    Ok(stream::no_content())
}

async fn update(mut request: Request) -> Result<Response> {
    let container = container(&request)?;
    let body: Value = request.json().await?;
    let host = crate::container::config::HostConfig::parse(&body)?;
    if !container.is_running() {
        return Err(container.not_running());
    }
    let limits = crate::container::limits(&host);
    let id = container.id.clone();
    request.engine.sandbox().ask(move |spawner| spawner.update(&id, &limits)).await?;
    request.engine.events().emit(EventType::Container, "update", &container.id, container.event_attributes());
    Ok(stream::ok(&json!({ "Warnings": [] })))
}

async fn wait(request: Request) -> Result<Response> {
    let container = container(&request)?;
    let condition = match request.query.get("condition").unwrap_or_default() {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(EngineError::invalid(format!("invalid condition: \"{other}\""))),
    };
    let waited = container.wait(condition);
    // The client starts the container once it has the headers, so they must not wait for the exit.
    let (sender, response) = stream::channel("application/json");
    tokio::spawn(async move {
        tokio::select! {
            waited = waited => drop(sender.send_json(&json!({ "StatusCode": waited.exit_code })).await),
            () = sender.closed() => {}
        }
    });
    Ok(response)
}

async fn remove(request: Request) -> Result<Response> {
    let container = container(&request)?;
    if request.query.bool("link") {
        return Err(EngineError::not_implemented("container link remove"));
    }
    request.engine.remove_container(&container, request.query.bool("force"), request.query.bool("v")).await?;
    Ok(stream::no_content())
}

async fn top(request: Request) -> Result<Response> {
    let container = container(&request)?;
    if !container.is_running() {
        return Err(container.not_running());
    }
    let arguments = request.query.non_empty("ps_args").unwrap_or("-ef");
    if !["-ef", "ef", "aux", "-aux"].contains(&arguments) {
        return Err(EngineError::not_implemented(format!("container top with {arguments:?}")));
    }
    let id = container.id.clone();
    let processes = request.engine.sandbox().ask(move |spawner| spawner.processes(&id)).await?;
    let row = |process: &dockwright_container::spawner::ProcessInfo| {
        let seconds = process.cpu_ticks / 100;
        let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let user = if process.uid == 0 { "root".to_owned() } else { process.uid.to_string() };
        [
            user,
            process.pid.to_string(),
            process.parent.to_string(),
            "0".to_owned(),
            "-".to_owned(),
            "?".to_owned(),
            time,
            process.command.clone(),
        ]
    };
    let rows: Vec<_> = processes.iter().map(row).collect();
    Ok(stream::ok(&json!({ "Titles": ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"], "Processes": rows })))
}

async fn prune(request: Request) -> Result<Response> {
    let filters = request.query.filters()?;
    filters.check(&["until", "label", "label!"])?;
    let until = filters.values("until").first().map(|text| crate::time::parse(text)).transpose()?;
    let mut deleted = Vec::new();
    let mut freed = 0;
    for container in request.engine.containers().list() {
        let unused = matches!(container.state().status, Status::Created | Status::Exited);
        let old = until.is_none_or(|until| container.created < until);
        if !request.sees(&container.id)
            || !unused
            || !old
            || !filters.labels_match(|key| container.config.labels.get(key).map(String::as_str))
        {
            continue;
        }
        let (written, _) = sizes(&request, &container).await;
        match request.engine.remove_container(&container, false, false).await {
            Ok(()) => {
                deleted.push(container.id.clone());
                freed += written;
            }
            // It was started or removed by somebody else meanwhile.
            Err(error) if error.kind == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Ok(stream::ok(&json!({ "ContainersDeleted": deleted, "SpaceReclaimed": freed })))
}

/// Reads the size of a terminal from the query.
pub(super) fn size(request: &Request) -> Result<dockwright_container::process::TerminalSize> {
    let number = |name: &str| -> Result<u16> {
        request.query.number(name)?.ok_or_else(|| EngineError::invalid(format!("invalid resize {name}: it is missing")))
    };
    Ok(dockwright_container::process::TerminalSize { rows: number("h")?, columns: number("w")? })
}

/// Reads an object from a body that may be empty.
pub(super) async fn object(request: &mut Request) -> Result<Value> {
    let body: Value = request.json().await?;
    Fields::of(&body, "the request")?;
    Ok(body)
}
