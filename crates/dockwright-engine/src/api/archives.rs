//! Images as archives: `docker save`, `load` and `import`.

use std::{fs::File, io};

use dockwright_build::dockerfile::change;
use dockwright_store::{
    ImageConfig, ImageRef,
    config::{History, RunConfig},
    manifest::Platform,
};
use http::StatusCode;
use hyper::body::Incoming;
use serde_json::json;

use crate::{
    api::{
        Request, Response, progress,
        router::{Route, route},
        stream::{self, BlockingWriter},
    },
    body::BlockingBody,
    broker::Progress,
    error::{Context as _, EngineError, Result},
    image::{
        Images,
        load::Loaded,
        save::{self, Chosen},
        spool::Spool,
    },
};

pub(super) const ROUTES: &[Route] =
    &[route!(GET "/images/get" => save_many), route!(GET "/images/{name*}/get" => save_one), route!(POST "/images/load" => load)];

async fn save_one(request: Request) -> Result<Response> {
    let names = [request.param("name").to_owned()];
    save(&request, &names)
}

async fn save_many(request: Request) -> Result<Response> {
    let names: Vec<String> = request.query.all("names").flat_map(|names| names.split(',')).map(str::to_owned).collect();
    save(&request, &names)
}

fn save(request: &Request, names: &[String]) -> Result<Response> {
    let images = request.engine.images();
    let chosen: Vec<Chosen> = images.choose(names)?;
    for one in &chosen {
        images.emit_about("save", one.image.id().to_string(), one.image.id().to_string());
    }
    let (broker, scratch) = (images.broker().clone(), images.scratch().to_owned());
    let (sender, response) = stream::channel("application/x-tar");
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let writer = BlockingWriter::new(sender.clone());
        if let Err(error) = save::write_archive(&chosen, &broker, &runtime, scratch, writer) {
            tracing::warn!(%error, "save images");
            sender.blocking_fail(io::Error::other(error));
        }
    });
    Ok(response)
}

async fn load(request: Request) -> Result<Response> {
    let quiet = request.query.bool("quiet");
    let engine = request.engine.clone();
    let file = spool(request.into_body(), engine.images()).await?;
    let operation = move |told: tokio::sync::mpsc::Sender<Progress>| async move {
        let told = if quiet { crate::broker::progress_channel().0 } else { told };
        engine.images().load(file, told).await
    };
    progress::answer(operation, |loaded| loaded.iter().flat_map(loaded_lines).collect()).await
}

fn loaded_lines(loaded: &Loaded) -> Vec<serde_json::Value> {
    if loaded.names.is_empty() {
        return vec![json!({"stream": format!("Loaded image ID: {}\n", loaded.id)})];
    }
    loaded.names.iter().map(|name| json!({"stream": format!("Loaded image: {}\n", name.familiar())})).collect()
}

/// Reads a body into a nameless file, uncompressed.
pub(super) async fn spool(body: Incoming, images: &Images) -> Result<File> {
    let scratch = images.scratch().to_owned();
    let mut body = BlockingBody::new(body);
    let written = tokio::task::spawn_blocking(move || {
        let mut spool = Spool::new(&scratch)?;
        io::copy(&mut body, &mut spool)?;
        spool.finish()
    });
    let file = written.await.context("store the request body")?;
    file.map_err(|error| match error.kind() {
        io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            EngineError::invalid(format!("invalid archive: {error}"))
        }
        _ => EngineError::internal("store the request body", &error),
    })
}

/// `POST /images/create?fromSrc=-`: one tar archive becomes an image of one layer.
pub(super) async fn import(request: Request) -> Result<Response> {
    let source = request.query.non_empty("fromSrc").unwrap_or("-").to_owned();
    if source != "-" {
        return Err(EngineError::not_implemented("importing an image from a URL"));
    }
    let mut run = RunConfig::default();
    for change in request.query.all("changes").filter(|change| !change.is_empty()) {
        change::apply(&mut run, change).map_err(|error| EngineError::invalid(crate::error::chain(&error)))?;
    }
    let message = request.query.non_empty("message").map_or_else(|| format!("Imported from {source}"), str::to_owned);
    let name = match request.query.non_empty("repo") {
        Some(repository) => Some(
            ImageRef::with_name_and_tag(repository, request.query.non_empty("tag"))
                .map_err(|error| EngineError::invalid(error.to_string()))?,
        ),
        None => None,
    };
    let platform = request.query.non_empty("platform").map(str::to_owned);
    let engine = request.engine.clone();
    let file = spool(request.into_body(), engine.images()).await?;
    let images = engine.images();
    let layer = images.commit_stream(Box::new(file)).await?;
    let config = ImageConfig { config: run, ..imported_config(layer.diff_id, message, platform.as_deref()) };
    let text = String::from_utf8(config.encode()).expect("JSON is UTF-8");
    let record = images.broker().put_image(text).await?;
    let image = images.table().insert(record)?;
    if let Some(name) = name {
        images.tag_image(image.id(), &name);
    }
    images.emit_about("import", image.id().to_string(), image.id().to_string());
    let line = json!({"status": image.id()}).to_string();
    Ok(stream::full(StatusCode::OK, "application/json", line + "\r\n"))
}

fn imported_config(layer: dockwright_store::DiffId, message: String, platform: Option<&str>) -> ImageConfig {
    let host = Platform::host();
    let mut parts = platform.unwrap_or_default().split('/').filter(|part| !part.is_empty());
    let created = Some(jiff::Timestamp::now().to_string());
    let mut config = ImageConfig {
        os: parts.next().map_or(host.os, str::to_owned),
        architecture: parts.next().map_or(host.architecture, str::to_owned),
        variant: parts.next().map(str::to_owned),
        created: created.clone(),
        history: vec![History { created, comment: Some(message), ..History::default() }],
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids.push(layer);
    config
}

#[cfg(test)]
mod tests {
    use dockwright_store::{DiffId, Digest};

    use super::*;

    #[test]
    fn an_imported_image_has_one_layer_and_one_step() {
        let layer = DiffId(Digest::of(b"layer"));
        let config = imported_config(layer, "Imported from -".to_owned(), Some("linux/arm/v7"));
        assert_eq!(config.rootfs.diff_ids, [layer]);
        assert_eq!((config.architecture.as_str(), config.variant.as_deref()), ("arm", Some("v7")));
        assert_eq!(config.history.len(), 1);
        assert_eq!(imported_config(layer, String::new(), None).architecture, Platform::host().architecture);
    }
}
