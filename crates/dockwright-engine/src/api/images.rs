//! Endpoints about images: `docker images`, `pull`, `push`, `tag`, `rmi`, `history`, `inspect`.
//! Archives (`save`, `load`, `import`) are in [`super::archives`].

use std::collections::BTreeMap;

use dockwright_store::{Digest, ImageRef};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    api::{
        Request, Response, archives, auth, progress,
        router::{Filters, Route, route},
        stream,
        version::ApiVersion,
    },
    error::{EngineError, Result},
    image::{Listed, Pulled, parse_reference},
};

pub(super) const ROUTES: &[Route] = &[
    route!(GET "/images/json" => list),
    route!(POST "/images/create" => create),
    route!(POST "/images/prune" => prune),
    route!(GET "/images/{name*}/json" => inspect),
    route!(GET "/images/{name*}/history" => history),
    route!(POST "/images/{name*}/push" => push),
    route!(POST "/images/{name*}/tag" => tag),
    route!(DELETE "/images/{name*}" => remove),
    route!(GET "/distribution/{name*}/json" => distribution),
];

/// A line of `docker images`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    id: String,
    parent_id: &'static str,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    created: i64,
    size: u64,
    /// Not computed.
    shared_size: i64,
    /// The size again; left out from version 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<u64>,
    labels: BTreeMap<String, String>,
    /// Not computed.
    containers: i64,
}

async fn list(request: Request) -> Result<Response> {
    let filters = request.query.filters()?;
    filters.check(&["reference", "dangling", "label", "label!", "before", "since", "until"])?;
    let all = request.query.bool("all");
    let images = request.engine.images().table();
    let limits = Limits::read(&filters, |name| images.find(name).map(|image| image.created()))?;
    let dangling = filters.bool("dangling")?;
    let shown = images.list().into_iter().filter(|listed| {
        (all || !listed.intermediate)
            && dangling.is_none_or(|wanted| listed.is_dangling() == wanted)
            && limits.contain(listed.image.created())
            && filters.labels_match(|key| label(listed, key))
            && filters.any("reference", |pattern| matches_reference(listed, pattern))
    });
    let version = request.version;
    let summaries: Vec<Summary> = shown.map(|listed| summary(&listed, filters.values("reference"), version)).collect();
    Ok(stream::ok(&summaries))
}

fn label<'a>(listed: &'a Listed, key: &str) -> Option<&'a str> {
    listed.image.config().config.labels.get(key).map(String::as_str)
}

fn summary(listed: &Listed, patterns: &[String], version: ApiVersion) -> Summary {
    let image = &listed.image;
    let asked_for = |name: &&String| patterns.is_empty() || patterns.iter().any(|pattern| reference_matches(name, pattern));
    let mut repo_tags: Vec<String> = listed.tags.iter().filter(asked_for).cloned().collect();
    let mut repo_digests: Vec<String> = listed.digests.iter().filter(asked_for).cloned().collect();
    // Clients before 1.43 expect a name for everything.
    if !version.at_least(43) && repo_tags.is_empty() && repo_digests.is_empty() {
        repo_tags.push("<none>:<none>".to_owned());
        repo_digests.push("<none>@<none>".to_owned());
    }
    Summary {
        id: image.id().to_string(),
        parent_id: "",
        repo_tags,
        repo_digests,
        created: image.created().as_second(),
        size: image.size_bytes(),
        shared_size: -1,
        virtual_size: (!version.at_least(44)).then(|| image.size_bytes()),
        labels: image.config().config.labels.clone(),
        containers: -1,
    }
}

/// Bounds on the time of creation: the filters `before`, `since` (an image) and `until` (a time).
struct Limits {
    before: Vec<jiff::Timestamp>,
    since: Vec<jiff::Timestamp>,
}

impl Limits {
    fn read(filters: &Filters, created: impl Fn(&str) -> Result<jiff::Timestamp>) -> Result<Self> {
        let images = |name| filters.values(name).iter().map(|image| created(image)).collect::<Result<Vec<_>>>();
        let mut before = images("before")?;
        for text in filters.values("until") {
            before.push(point_in_time(text)?);
        }
        Ok(Self { before, since: images("since")? })
    }

    fn contain(&self, created: jiff::Timestamp) -> bool {
        self.before.iter().all(|limit| created < *limit) && self.since.iter().all(|limit| created > *limit)
    }
}

/// Reads a time as Docker's filters have it: seconds since 1970, a date and time, or a span back from now such as `24h`.
pub(super) fn point_in_time(text: &str) -> Result<jiff::Timestamp> {
    let invalid =
        || EngineError::invalid(format!("failed to parse value {text:?} as a time: expected seconds, RFC 3339 or a duration such as 24h"));
    if let Ok(seconds) = text.parse::<f64>() {
        return jiff::Timestamp::from_millisecond((seconds * 1000.0) as i64).map_err(|_| invalid());
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time);
    }
    let span = text.parse::<jiff::SignedDuration>().map_err(|_| invalid())?;
    jiff::Timestamp::now().checked_sub(span).map_err(|_| invalid())
}

fn matches_reference(listed: &Listed, pattern: &str) -> bool {
    listed.tags.iter().chain(&listed.digests).any(|name| reference_matches(name, pattern))
}

/// A pattern may leave out the tag and the default host; `*`, `?` and `[…]` do not cross slashes.
fn reference_matches(name: &str, pattern: &str) -> bool {
    let Ok(reference) = name.parse::<ImageRef>() else { return false };
    let candidates = [name.to_owned(), reference.familiar_name(), reference.to_string(), reference.name()];
    candidates.iter().any(|candidate| glob_matches(candidate.as_bytes(), pattern.as_bytes()))
}

/// Go's `path.Match`, without escapes.
fn glob_matches(text: &[u8], pattern: &[u8]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else { return text.is_empty() };
    match first {
        b'*' => {
            let segment = text.iter().position(|&byte| byte == b'/').unwrap_or(text.len());
            (0..=segment).any(|skipped| glob_matches(&text[skipped..], rest))
        }
        b'?' => text.split_first().is_some_and(|(&byte, text)| byte != b'/' && glob_matches(text, rest)),
        b'[' => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else { return false };
            text.split_first().is_some_and(|(&byte, text)| class_contains(&rest[..end], byte) && glob_matches(text, &rest[end + 1..]))
        }
        literal => text.split_first().is_some_and(|(&byte, text)| byte == literal && glob_matches(text, rest)),
    }
}

fn class_contains(class: &[u8], byte: u8) -> bool {
    let (negated, class) = match class.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, class),
    };
    let mut at = 0;
    let mut found = false;
    while at < class.len() {
        if let [low, b'-', high, ..] = class[at..] {
            found |= (low..=high).contains(&byte);
            at += 3;
        } else {
            found |= class[at] == byte;
            at += 1;
        }
    }
    found != negated
}

/// `docker pull` and `docker import`.
async fn create(request: Request) -> Result<Response> {
    if let Some(platform) = request.query.non_empty("platform") {
        check_platform(platform)?;
    }
    match (request.query.non_empty("fromImage"), request.query.non_empty("fromSrc")) {
        (Some(name), _) => {
            let name = name.to_owned();
            pull(request, &name).await
        }
        (None, Some(_)) => archives::import(request).await,
        (None, None) => Err(EngineError::invalid("invalid reference format: neither fromImage nor fromSrc is given")),
    }
}

fn check_platform(platform: &str) -> Result<()> {
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if platform.split('/').count() <= 3 && platform.split('/').all(plain) {
        return Ok(());
    }
    Err(EngineError::invalid(format!(
        "{platform:?} is an invalid OS component of {platform:?}: platform specifier must be os[/arch[/variant]]"
    )))
}

async fn pull(request: Request, name: &str) -> Result<Response> {
    let name = pulled_name(name, request.query.non_empty("tag"))?;
    let credentials = auth::registry_auth(&request.headers);
    let platform = request.query.non_empty("platform").map(str::to_owned);
    let engine = request.engine;
    let shown = name.familiar();
    let operation = move |told| async move { engine.images().pull(&name, credentials, platform, told).await };
    progress::answer(operation, move |pulled| pull_conclusion(&pulled, &shown)).await
}

/// The tag is a parameter of its own, and may be a digest.
fn pulled_name(name: &str, tag: Option<&str>) -> Result<ImageRef> {
    match tag {
        Some(tag) if tag.contains(':') => {
            let digest: Digest = tag.parse().map_err(|error| EngineError::invalid(format!("invalid reference format: {error}")))?;
            Ok(parse_reference(name)?.with_digest(digest))
        }
        Some(tag) => ImageRef::with_name_and_tag(name, Some(tag)).map_err(|error| EngineError::invalid(error.to_string())),
        None => parse_reference(name),
    }
}

fn pull_conclusion(pulled: &Pulled, name: &str) -> Vec<Value> {
    let status = if pulled.is_new { "Downloaded newer image for" } else { "Image is up to date for" };
    let digest = pulled.manifest.map(|digest| json!({"status": format!("Digest: {digest}")}));
    digest.into_iter().chain([json!({"status": format!("Status: {status} {name}")})]).collect()
}

async fn push(request: Request) -> Result<Response> {
    let text = request.param("name").to_owned();
    let name =
        ImageRef::with_name_and_tag(&text, request.query.non_empty("tag")).map_err(|error| EngineError::invalid(error.to_string()))?;
    if name.digest().is_some() {
        return Err(EngineError::invalid("cannot push a digest reference"));
    }
    let credentials = auth::registry_auth(&request.headers);
    let engine = request.engine;
    let tag = name.tag().unwrap_or("latest").to_owned();
    let operation = move |told: tokio::sync::mpsc::Sender<_>| async move {
        let status = format!("The push refers to repository [{}]", name.name());
        let _ = told.try_send(crate::broker::Progress { id: String::new(), status, amount: None });
        engine.images().push(&name, credentials, told).await
    };
    progress::answer(operation, move |pushed| {
        let size = pushed.manifest_size_bytes;
        vec![
            json!({"status": format!("{tag}: digest: {} size: {size}", pushed.digest)}),
            json!({"progressDetail": {}, "aux": {"Tag": tag, "Digest": pushed.digest, "Size": size}}),
        ]
    })
    .await
}

async fn tag(request: Request) -> Result<Response> {
    let repository = request.query.get("repo").unwrap_or_default();
    let name =
        ImageRef::with_name_and_tag(repository, request.query.non_empty("tag")).map_err(|error| EngineError::invalid(error.to_string()))?;
    if name.digest().is_some() {
        return Err(EngineError::invalid("refusing to create a tag with a digest reference"));
    }
    request.engine.images().tag(request.param("name"), &name)?;
    Ok(stream::empty(StatusCode::CREATED))
}

async fn remove(request: Request) -> Result<Response> {
    let users = request.engine.image_users();
    let removed = request.engine.images().remove(request.param("name"), request.query.bool("force"), &users)?;
    Ok(stream::ok(&removed))
}

async fn prune(request: Request) -> Result<Response> {
    let filters = request.query.filters()?;
    filters.check(&["dangling", "until", "label", "label!"])?;
    let only_dangling = filters.bool("dangling")?.unwrap_or(true);
    let until = filters.values("until").iter().map(|text| point_in_time(text)).collect::<Result<Vec<_>>>()?;
    let unwanted = |listed: &Listed| {
        (listed.is_dangling() || !only_dangling)
            && until.iter().all(|limit| listed.image.created() < *limit)
            && filters.labels_match(|key| label(listed, key))
    };
    let (removed, freed_bytes) = request.engine.images().prune(&request.engine.image_users(), unwanted);
    let removed = (!removed.is_empty()).then_some(removed);
    Ok(stream::ok(&json!({"ImagesDeleted": removed, "SpaceReclaimed": freed_bytes})))
}

async fn inspect(request: Request) -> Result<Response> {
    let listed = request.engine.images().table().describe(request.param("name"))?;
    Ok(stream::ok(&inspected(&listed, request.version)))
}

fn inspected(listed: &Listed, version: ApiVersion) -> Value {
    let image = &listed.image;
    let raw = image.raw_config();
    let text = |key: &str| raw.get(key).and_then(Value::as_str).unwrap_or_default();
    let tagged = listed.tagged.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string());
    let comment = image.config().history.last().and_then(|last| last.comment.as_deref()).unwrap_or_default();
    let mut answer = json!({
        "Id": image.id(),
        "RepoTags": listed.tags,
        "RepoDigests": listed.digests,
        "Parent": "",
        "Comment": comment,
        "Created": image.config().created.as_deref().unwrap_or("0001-01-01T00:00:00Z"),
        "DockerVersion": text("docker_version"),
        "Author": text("author"),
        "Config": run_config(raw),
        "Architecture": text("architecture"),
        "Os": text("os"),
        "Size": image.size_bytes(),
        "GraphDriver": {"Name": "overlay2", "Data": null},
        "RootFS": {"Type": "layers", "Layers": image.diff_ids()},
        "Metadata": {"LastTagTime": tagged},
    });
    if !text("variant").is_empty() {
        answer["Variant"] = json!(text("variant"));
    }
    if !version.at_least(44) {
        answer["VirtualSize"] = json!(image.size_bytes());
    }
    if !version.at_least(45) {
        answer["Container"] = json!(text("container"));
        answer["ContainerConfig"] = raw.get("container_config").cloned().unwrap_or_else(|| run_config(raw));
    }
    answer
}

/// The image's `config`, with the fields that clients' templates expect to be there.
fn run_config(raw: &Value) -> Value {
    let mut config = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false, "AttachStderr": false, "Tty": false,
        "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null, "Image": "", "Volumes": null, "WorkingDir": "",
        "Entrypoint": null, "OnBuild": null, "Labels": null,
    });
    if let (Some(known), Some(found)) = (config.as_object_mut(), raw.get("config").and_then(Value::as_object)) {
        known.extend(found.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    config
}

/// A line of `docker history`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HistoryItem {
    id: String,
    created: i64,
    created_by: String,
    tags: Option<Vec<String>>,
    size: u64,
    comment: String,
}

async fn history(request: Request) -> Result<Response> {
    let listed = request.engine.images().table().describe(request.param("name"))?;
    let mut layers = listed.image.layers().iter();
    let mut items: Vec<HistoryItem> = Vec::new();
    for entry in &listed.image.config().history {
        let layer = if entry.empty_layer { None } else { layers.next() };
        let created = entry.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        items.push(HistoryItem {
            id: "<missing>".to_owned(),
            created: created.map_or(0, jiff::Timestamp::as_second),
            created_by: entry.created_by.clone().unwrap_or_default(),
            tags: None,
            size: layer.map_or(0, |layer| layer.size_bytes),
            comment: entry.comment.clone().unwrap_or_default(),
        });
    }
    items.reverse();
    if let Some(top) = items.first_mut() {
        top.id = listed.image.id().to_string();
        top.tags = (!listed.tags.is_empty()).then(|| listed.tags.clone());
    }
    Ok(stream::ok(&items))
}

async fn distribution(request: Request) -> Result<Response> {
    let name = parse_reference(request.param("name"))?;
    let credentials = auth::registry_auth(&request.headers);
    let record = request.engine.images().broker().inspect(&name.to_string(), credentials).await?;
    let platforms: Vec<Value> = record
        .platforms
        .iter()
        .map(|platform| {
            let mut value = json!({"architecture": platform.architecture, "os": platform.os});
            if !platform.variant.is_empty() {
                value["variant"] = json!(platform.variant);
            }
            value
        })
        .collect();
    let descriptor = json!({"mediaType": record.media_type, "digest": record.digest, "size": record.size_bytes});
    Ok(stream::ok(&json!({"Descriptor": descriptor, "Platforms": platforms})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_match_with_and_without_tag() {
        for (name, pattern, expected) in [
            ("busybox:latest", "busybox", true),
            ("busybox:latest", "busybox:latest", true),
            ("busybox:latest", "busy*", true),
            ("busybox:latest", "busybox:1", false),
            ("registry:5000/group/app:1", "registry:5000/group/*", true),
            ("registry:5000/group/app:1", "*", false),
            ("busybox:latest", "busybo[v-x]", true),
            ("busybox:latest", "busybo[^x]", false),
            ("busybox:latest", "busybo?:latest", true),
        ] {
            assert_eq!(reference_matches(name, pattern), expected, "{name} {pattern}");
        }
    }

    #[test]
    fn the_tag_of_a_pull_may_be_a_digest() {
        let digest = Digest::of(b"");
        assert_eq!(pulled_name("busybox", None).expect("a name").familiar(), "busybox:latest");
        assert_eq!(pulled_name("r:5000/a", Some("1")).expect("a name").familiar(), "r:5000/a:1");
        assert_eq!(pulled_name("busybox", Some(&digest.to_string())).expect("a name").familiar(), format!("busybox@{digest}"));
        assert!(pulled_name("Busybox", None).is_err());
    }

    #[test]
    fn times_come_in_three_forms() {
        assert_eq!(point_in_time("1000").expect("seconds").as_second(), 1000);
        assert_eq!(point_in_time("1970-01-01T00:16:40Z").expect("a date").as_second(), 1000);
        assert!(point_in_time("24h").expect("a span") < jiff::Timestamp::now());
        assert!(point_in_time("yesterday").is_err());
    }

    #[test]
    fn platforms_are_checked_in_form() {
        for good in ["linux", "linux/amd64", "linux/arm/v7"] {
            assert!(check_platform(good).is_ok(), "{good}");
        }
        for bad in ["linux/", "a/b/c/d", "linux amd64"] {
            assert!(check_platform(bad).is_err(), "{bad}");
        }
    }
}
