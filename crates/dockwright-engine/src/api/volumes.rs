//! Endpoints of volumes.

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    api::{
        Request, Response,
        router::{Route, route},
        stream,
    },
    container::Fields,
    error::{EngineError, Result},
};

pub(super) const ROUTES: &[Route] = &[
    route!(GET "/volumes" => list),
    route!(POST "/volumes/create" => create),
    route!(POST "/volumes/prune" => prune),
    route!(GET "/volumes/{name}" => inspect),
    route!(DELETE "/volumes/{name}" => remove),
];

async fn list(request: Request) -> Result<Response> {
    let filters = request.query.filters()?;
    filters.check(&["dangling", "driver", "label", "label!", "name"])?;
    let dangling = filters.bool("dangling")?;
    let listed = request.engine.volumes().list().into_iter().filter(|volume| {
        request.sees(&volume.name)
            && filters.any("name", |wanted| volume.name.contains(wanted.as_str()))
            && filters.any("driver", |wanted| wanted == "local")
            && filters.labels_match(|key| volume.labels.get(key).map(String::as_str))
            && dangling.is_none_or(|dangling| request.engine.volume_users(&volume.name).is_empty() == dangling)
    });
    let shown: Vec<Value> = listed.map(|volume| volume.shown()).collect();
    Ok(stream::ok(&json!({ "Volumes": shown, "Warnings": null })))
}

async fn create(mut request: Request) -> Result<Response> {
    let body: Value = request.json().await?;
    let fields = Fields::of(&body, "the request")?;
    let driver = fields.string("Driver")?;
    if !matches!(driver.as_str(), "" | "local") {
        return Err(EngineError::not_found(format!("create: plugin \"{driver}\" not found")));
    }
    if !fields.entries("DriverOpts")?.is_empty() {
        return Err(EngineError::invalid("options of the `local` volume driver are not implemented by Dockwright"));
    }
    let name = fields.optional_string("Name")?.filter(|name| !name.is_empty());
    let created = request.engine.volumes().create(name.as_deref(), fields.string_map("Labels")?)?;
    if created.is_new {
        request.engine.owners().made(&created.volume.name, request.caller);
        request.engine.volume_event("create", &created.volume.name);
    }
    Ok(stream::json(StatusCode::CREATED, &created.volume.shown()))
}

async fn inspect(request: Request) -> Result<Response> {
    Ok(stream::ok(&request.engine.volumes().get(request.param("name"))?.shown()))
}

async fn remove(request: Request) -> Result<Response> {
    let name = request.param("name").to_owned();
    match request.engine.volumes().get(&name) {
        Err(_) if request.query.bool("force") => return Ok(stream::no_content()),
        other => drop(other?),
    }
    let users = request.engine.volume_users(&name);
    if !users.is_empty() {
        return Err(EngineError::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
    }
    request.engine.remove_volume(name).await?;
    Ok(stream::no_content())
}

async fn prune(request: Request) -> Result<Response> {
    let filters = request.query.filters()?;
    filters.check(&["all", "label", "label!"])?;
    // Since 1.42 only anonymous volumes go, unless all are asked for.
    let all = filters.bool("all")?.unwrap_or(!request.version.at_least(42));
    let (mut deleted, mut freed) = (Vec::new(), 0);
    for volume in request.engine.volumes().list() {
        let labelled = filters.labels_match(|key| volume.labels.get(key).map(String::as_str));
        let wanted = request.sees(&volume.name) && (all || volume.anonymous) && labelled;
        if !wanted || !request.engine.volume_users(&volume.name).is_empty() {
            continue;
        }
        let path = volume.path.clone();
        freed += tokio::task::spawn_blocking(move || crate::volume::disk_usage(&path)).await.unwrap_or_default();
        request.engine.remove_volume(volume.name.clone()).await?;
        deleted.push(volume.name);
    }
    Ok(stream::ok(&json!({ "VolumesDeleted": deleted, "SpaceReclaimed": freed })))
}
