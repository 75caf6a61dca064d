//! `GET /events`.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    api::{
        Request, Response,
        router::{Filters, Route, route},
        stream,
    },
    error::Result,
    event::{Event, EventType},
    time,
};

pub(super) const ROUTES: &[Route] = &[route!(GET "/events" => events)];

async fn events(request: Request) -> Result<Response> {
    let filters = request.query.filters()?;
    let at = |name: &str| request.query.non_empty(name).map(time::parse).transpose();
    let (since, until) = (at("since")?, at("until")?);
    let (past, mut present) = request.engine.events().listen();
    let (engine, caller) = (request.engine, request.caller);
    let (sender, response) = stream::channel("application/json");
    tokio::spawn(async move {
        let seen = |event: &Event| !engine.owners().are_hidden(&event.actor, caller);
        let wanted = |event: &Event| seen(event) && matches(event, &filters) && until.is_none_or(|until| event.time <= until);
        let past = past.into_iter().filter(|event| since.is_some_and(|since| event.time >= since));
        for event in past.filter(|event| wanted(event)) {
            if sender.send_json(&shown(&event)).await.is_err() {
                return;
            }
        }
        loop {
            let event: Arc<Event> = tokio::select! {
                event = present.recv() => match event {
                    Ok(event) => event,
                    // This listener was too slow; it goes on with what comes next.
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return,
                },
                () = sleep_until(until) => return,
                () = sender.closed() => return,
            };
            if wanted(&event) && sender.send_json(&shown(&event)).await.is_err() {
                return;
            }
        }
    });
    Ok(response)
}

async fn sleep_until(until: Option<Timestamp>) {
    let Some(until) = until else { return std::future::pending().await };
    let left = until.duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
}

fn matches(event: &Event, filters: &Filters) -> bool {
    let attribute = |name: &str| event.attributes.get(name).map(String::as_str);
    // `exec_start: sh -c true` is meant by `exec_start`, too.
    let is_action = |wanted: &String| event.action == *wanted || event.action.split(':').next() == Some(wanted);
    let is_actor = |kind: EventType| {
        move |wanted: &String| {
            event.kind == kind
                && (event.actor.starts_with(wanted.as_str()) || attribute("name") == Some(wanted) || attribute("image") == Some(wanted))
        }
    };
    let image_is = |wanted: &String| {
        let named = |text: Option<&str>| text.is_some_and(|text| text == wanted || text.split(':').next() == Some(wanted));
        named(attribute("image")) || (event.kind == EventType::Image && (named(attribute("name")) || event.actor == *wanted))
    };
    filters.any("type", |wanted| event.kind.name() == wanted)
        && filters.any("event", is_action)
        && filters.any("container", is_actor(EventType::Container))
        && filters.any("network", is_actor(EventType::Network))
        && filters.any("volume", is_actor(EventType::Volume))
        && filters.any("image", image_is)
        && filters.labels_match(attribute)
}

fn shown(event: &Event) -> Value {
    let mut shown = json!({
        "Type": event.kind.name(),
        "Action": event.action,
        "Actor": { "ID": event.actor, "Attributes": event.attributes },
        "scope": "local",
        "time": event.time.as_second(),
        "timeNano": i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX),
    });
    // What clients before 1.22 read; later ones still print it.
    if matches!(event.kind, EventType::Container | EventType::Image) {
        shown["status"] = json!(event.action);
        shown["id"] = json!(event.actor);
        if let Some(image) = event.attributes.get("image") {
            shown["from"] = json!(image);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn event(action: &str) -> Event {
        let attributes = [("name", "web"), ("image", "nginx:1"), ("tier", "front")];
        Event {
            kind: EventType::Container,
            action: action.to_owned(),
            actor: "abcdef".to_owned(),
            attributes: attributes.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
            time: Timestamp::UNIX_EPOCH,
        }
    }

    fn check(filters: &str, action: &str) -> bool {
        matches(&event(action), &Filters::parse(filters).unwrap())
    }

    #[test]
    fn filters_select_events() {
        assert!(check(r#"{"type":["container"],"event":["exec_start"]}"#, "exec_start: sh"));
        assert!(check(r#"{"container":["web"],"label":["tier=front"],"image":["nginx"]}"#, "start"));
        assert!(!check(r#"{"container":["other"]}"#, "start"));
        assert!(!check(r#"{"network":["web"]}"#, "start"));
    }
}
