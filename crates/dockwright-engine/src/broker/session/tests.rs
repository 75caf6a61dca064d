//! Client and server over a socket pair, with a store of their own.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use dockwright_store::{
    Descriptor, DiffId, Digest, Document, ImageConfig, Manifest, Store,
    manifest::{Family, media_type},
};

use super::{LayerMounts, Session};
use crate::{
    broker::{BrokerErrorKind, Client, Credentials, ImageRecord, LayerRecord, TarOrigin, progress_channel, serve},
    host::{EngineSpec, JobAuthority, PublishMode, RegistryUser, Shared, TrustScope},
};

/// Name of the host's own registry.
const REGISTRY: &str = "registry.test:5000";

/// Instead of mounting, opens.
struct OpenedLayers;

impl LayerMounts for OpenedLayers {
    fn mount(&self, directories: &[&Path]) -> Result<Vec<OwnedFd>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(directories.iter().map(|directory| std::fs::File::open(directory).map(Into::into)).collect::<Result<_, _>>()?)
    }
}

struct Host {
    shared: Arc<Shared>,
    _dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&dir.path().join("store")).expect("a store");
        let shared = Shared {
            store,
            authority: Arc::new(JobAuthority::default()),
            client: dockwright_registry::Client::new(dockwright_registry::ClientOptions::default()).expect("a client"),
            registry_name: Some(REGISTRY.to_owned()),
            served: None,
            pushes: Shared::push_channel(),
            helper_image: None,
        };
        Self { shared: Arc::new(shared), _dir: dir }
    }

    /// Returns the client of a new engine, whose user has the engine's id for a password.
    fn engine(&self, id: &str, project: &str, protected: bool) -> Client {
        let user = RegistryUser {
            name: "gitlab-ci-token".to_owned(),
            password: id.to_owned(),
            repository: project.to_owned(),
            readable: Vec::new(),
        };
        self.shared.authority.admit(id, user.clone());
        let scope = TrustScope { project: project.to_owned(), protected };
        let spec = EngineSpec { scope, registry_user: Some(user), ..spec_of(id) };
        let session = Arc::new(Session::new(Arc::clone(&self.shared), spec));
        session.set_mounts(Box::new(OpenedLayers));
        let (engine_end, host_end) = dockwright_container::socket::pair().expect("a socket pair");
        tokio::spawn(serve(host_end, session));
        Client::connect(engine_end).expect("a client")
    }
}

/// A tar with one file.
fn layer_tar(content: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder.append_data(&mut header, "file", content.as_bytes()).expect("a tar entry");
    builder.into_inner().expect("a tar")
}

async fn commit(client: &Client, content: &str) -> LayerRecord {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&layer_tar(content)).expect("written");
    drop(writer);
    client.commit_layer(reader.into(), TarOrigin::Archive).await.expect("a layer")
}

fn config(layers: &[DiffId]) -> String {
    let mut config = ImageConfig { os: "linux".to_owned(), architecture: "amd64".to_owned(), ..ImageConfig::default() };
    config.rootfs.diff_ids = layers.to_vec();
    String::from_utf8(config.encode()).expect("JSON is UTF-8")
}

async fn read_layer(client: &Client, layer: DiffId) -> Result<Vec<u8>, crate::broker::BrokerError> {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    client.read_layer(layer, writer.into()).await?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("read");
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_goes_in_and_comes_out() {
    let host = Host::new();
    let engine = host.engine("a", "group/app", false);
    let layer = commit(&engine, "hello").await;
    assert_eq!(layer.diff_id.0, Digest::of(&layer_tar("hello")));
    let mounts = engine.mount_layers(&[layer.diff_id]).await.expect("mounts");
    let path = format!("/proc/self/fd/{}/file", std::os::fd::AsRawFd::as_raw_fd(&mounts[0]));
    assert_eq!(std::fs::read_to_string(path).expect("the file"), "hello");
    assert_eq!(read_layer(&engine, layer.diff_id).await.expect("the tar"), layer_tar("hello"));
    let image = engine.put_image(config(&[layer.diff_id])).await.expect("an image");
    assert_eq!(image.layers, [layer]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guessed_layer_is_not_given() {
    let host = Host::new();
    let owner = host.engine("a", "group/app", false);
    let layer = commit(&owner, "secret").await.diff_id;
    let unknown = DiffId(Digest::of(b"nowhere"));

    let thief = host.engine("b", "group/app", false);
    for guessed in [layer, unknown] {
        let expected = format!("layer {guessed} does not exist");
        let errors = [
            thief.mount_layers(&[guessed]).await.map(drop).expect_err("mount"),
            read_layer(&thief, guessed).await.map(drop).expect_err("read"),
            thief.put_image(config(&[guessed])).await.map(drop).expect_err("image"),
            thief.cache_put(Digest::of(b"key"), String::new(), &[guessed]).await.expect_err("cache"),
        ];
        for error in errors {
            assert_eq!((error.kind, error.message.as_str()), (BrokerErrorKind::NotFound, expected.as_str()));
        }
    }
    let image = owner.put_image(config(&[layer])).await.expect("an image");
    let (progress, _lines) = progress_channel();
    let error = thief.push(image.id, "registry:5000/mine", None, progress).await.expect_err("push");
    assert_eq!(error.message, format!("No such image: {}", image.id));
    // Who sends the same content may have it: it holds nothing new then.
    commit(&thief, "secret").await;
    thief.mount_layers(&[layer]).await.expect("its own layer");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_is_shared_within_a_scope_only() {
    let host = Host::new();
    let writer = host.engine("a", "group/app", true);
    let layer = commit(&writer, "built").await.diff_id;
    let key = Digest::of(b"RUN make");
    writer.cache_put(key, "result".to_owned(), &[layer]).await.expect("kept");

    for (project, protected) in [("group/app", false), ("group/other", true)] {
        let stranger = host.engine("s", project, protected);
        assert_eq!(stranger.cache_get(key).await.expect("an answer"), None, "{project} {protected}");
        assert!(stranger.mount_layers(&[layer]).await.is_err());
    }
    let later = host.engine("b", "group/app", true);
    assert_eq!(later.cache_get(key).await.expect("an answer").as_deref(), Some("result"));
    later.mount_layers(&[layer]).await.expect("the cached layer");
    assert_eq!(later.cache_prune().await.expect("pruned").records, 1);
    assert_eq!(writer.cache_get(key).await.expect("an answer"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_the_host_is_pulled_without_network() {
    let host = Host::new();
    let owner = host.engine("a", "group/app", false);
    let layer = commit(&owner, "base").await.diff_id;
    let image = owner.put_image(config(&[layer])).await.expect("an image").id;
    host.shared.store.set_name(&"busybox".parse().expect("a name"), &image).expect("named");

    let engine = host.engine("b", "group/other", false);
    let (progress, mut lines) = progress_channel();
    let pulled: ImageRecord = engine.pull("docker.io/library/busybox:latest", None, None, progress).await.expect("pulled");
    assert_eq!(pulled.id, image);
    engine.mount_layers(&[layer]).await.expect("its layer");
    let mut told = Vec::new();
    while let Some(line) = lines.recv().await {
        told.push(format!("{}: {}", line.id, line.status));
    }
    assert_eq!(told, ["latest: Pulling from library/busybox".to_owned(), format!("{}: Already exists", layer.short())]);
}

fn own_name(repository: &str) -> String {
    format!("{REGISTRY}/{repository}:1")
}

fn job_token(token: &str) -> Credentials {
    Credentials {
        username: "gitlab-ci-token".to_owned(),
        password: token.to_owned(),
        server: REGISTRY.to_owned(),
        ..Credentials::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_registry_takes_and_gives_by_project() {
    let host = Host::new();
    let mut pushes = host.shared.pushes.subscribe();
    let app = host.engine("a", "group/app", false);
    let layer = commit(&app, "app").await.diff_id;
    let image = app.put_image(config(&[layer])).await.expect("an image").id;
    let name = own_name("group/app/image");
    let (progress, _lines) = progress_channel();
    let pushed = app.push(image, &name, None, progress).await.expect("pushed");
    let told = pushes.try_recv().expect("a push");
    assert_eq!((told.engine.as_str(), told.name.to_string(), told.digest), ("a", name.clone(), pushed.digest));

    // A later job of the project pulls it; a job of another project does not, whatever it sends.
    let later = host.engine("b", "group/app", false);
    let (progress, _lines) = progress_channel();
    let pulled = later.pull(&name, None, None, progress).await.expect("pulled");
    assert_eq!((pulled.id, pulled.manifest), (image, Some(pushed.digest)));
    later.mount_layers(&[layer]).await.expect("its layer");
    let stranger = host.engine("c", "group/other", false);
    for (credentials, kind) in [
        (None, BrokerErrorKind::Forbidden),
        (Some(job_token("c")), BrokerErrorKind::Forbidden),
        (Some(job_token("guess")), BrokerErrorKind::Unauthorized),
    ] {
        let (progress, _lines) = progress_channel();
        let error = stranger.pull(&name, credentials, None, progress).await.expect_err("refused");
        assert_eq!(error.kind, kind, "{error}");
    }
    let (progress, _lines) = progress_channel();
    let error = app.push(image, &own_name("group/other/image"), None, progress).await.expect_err("refused");
    assert_eq!(error.message, "denied: requested access to the resource is denied");
    let (progress, _lines) = progress_channel();
    let error = later.pull(&own_name("group/app/none"), None, None, progress).await.expect_err("missing");
    assert!(error.message.starts_with("manifest for registry.test:5000/group/app/none:1 not found"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_at_the_own_registry_is_checked() {
    let host = Host::new();
    let engine = host.engine("a", "group/app", false);
    engine.login(job_token("a")).await.expect("logged in");
    let error = engine.login(job_token("wrong")).await.expect_err("refused");
    assert_eq!(error.kind, BrokerErrorKind::Unauthorized);
    assert!(error.message.contains("unauthorized: HTTP Basic: Access denied"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_claims_a_foreign_layer_gives_nothing() {
    let host = Host::new();
    let owner = host.engine("a", "group/app", false);
    let secret = commit(&owner, "secret").await.diff_id;

    // An image of the thief's own repository: its configuration names the secret layer, its manifest a harmless one.
    let thief = host.engine("b", "group/other", false);
    let harmless = commit(&thief, "harmless").await.diff_id;
    let store = &host.shared.store;
    let blob = store.compressed_layer(&harmless).expect("a blob");
    let config = config(&[secret]);
    let config_digest = store.put_blob(config.as_bytes()).expect("a blob");
    let descriptor = Descriptor::new(media_type::DOCKER_CONFIG, config_digest, config.len() as u64);
    for digest in [config_digest, blob.digest] {
        assert!(store.link_blob("group/other", &digest).expect("linked"));
    }
    let manifest = Manifest::build(Family::Docker, descriptor, vec![blob]);
    store.put_manifest("group/other", &Document::Manifest(manifest), &["1".to_owned()]).expect("a manifest");

    let (progress, _lines) = progress_channel();
    thief.pull(&own_name("group/other"), None, None, progress).await.expect_err("a false claim");
    assert!(thief.mount_layers(&[secret]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pipes_are_written_to() {
    let host = Host::new();
    let engine = host.engine("a", "group/app", false);
    let layer = commit(&engine, "x").await.diff_id;
    let file = tempfile::tempfile().expect("a file");
    let error = engine.read_layer(layer, file.into()).await.expect_err("a file");
    assert_eq!(error.kind, BrokerErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_layer_is_refused() {
    let host = Host::new();
    let engine = host.engine("a", "group/app", false);
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[b'x'; 2000]).expect("written");
    drop(writer);
    let error = engine.commit_layer(reader.into(), TarOrigin::Archive).await.expect_err("no tar");
    assert_eq!(error.kind, BrokerErrorKind::Invalid);
    let error = engine.put_image("{".to_owned()).await.expect_err("no JSON");
    assert_eq!(error.kind, BrokerErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_are_answered_at_once() {
    let host = Host::new();
    let engine = host.engine("a", "group/app", false);
    let layer = commit(&engine, "x").await.diff_id;
    let tasks: Vec<_> = (0..500)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { engine.mount_layers(&[layer]).await.map(|mounts| mounts.len()) })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("a task").expect("mounts"), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_request_ends_at_the_host() {
    let host = Host::new();
    let engine = host.engine("a", "group/app", false);
    // A pipe that never ends keeps a request under way.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let waiting = tokio::spawn({
        let engine = engine.clone();
        async move { engine.commit_layer(reader.into(), TarOrigin::Archive).await.map(drop) }
    });
    // Answered after the request above was read.
    engine.facts().await.expect("facts");
    waiting.abort();
    assert!(waiting.await.is_err_and(|error| error.is_cancelled()));
    engine.facts().await.expect("facts");
    drop(writer);
}

/// Sends bytes as an engine gone wrong would. Returns the first answer or, after hanging up, all that comes back.
async fn send_raw(bytes: &[u8], hang_up: bool) -> Vec<u8> {
    let host = Host::new();
    let other = host.engine("other", "p", false);
    let (mut engine_end, host_end) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
    let session = Arc::new(Session::new(Arc::clone(&host.shared), spec_of("wrong")));
    let server = tokio::spawn(serve(host_end.into(), session));
    engine_end.write_all(bytes).expect("sent");
    if hang_up {
        engine_end.shutdown(std::net::Shutdown::Write).expect("half closed");
    }
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = Vec::new();
        if hang_up {
            // A host that hangs up on unread bytes resets the connection; either way there is no answer.
            let _ = engine_end.read_to_end(&mut answer);
        } else {
            let mut header = [0; 8];
            engine_end.read_exact(&mut header).expect("an answer");
            answer.resize(u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize, 0);
            engine_end.read_exact(&mut answer).expect("an answer");
        }
        answer
    });
    let answer = answer.await.expect("a thread");
    server.await.expect("the host survives");
    // Other engines are not disturbed.
    other.facts().await.expect("facts");
    answer
}

fn spec_of(id: &str) -> EngineSpec {
    EngineSpec {
        id: id.to_owned(),
        name: String::new(),
        scope: TrustScope { project: String::new(), protected: false },
        credentials: Vec::new(),
        registry_user: None,
        shared_paths: Vec::new(),
        shared_owner: 0,
        socket_dir: "/nowhere".into(),
        owner_apart: false,
        egress: false,
        publish: PublishMode::Sandbox,
    }
}

fn framed(payload: &[u8], descriptors: u32) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    [&length.to_be_bytes()[..], &descriptors.to_be_bytes()[..], payload].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_the_connection_and_nothing_else() {
    let too_long = [u32::MAX.to_be_bytes(), 0_u32.to_be_bytes()].concat();
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), too_long, framed(b"{}", 3), framed(b"[]", 0), framed(b"{\"id\":1", 0), vec![0, 0]] {
        assert_eq!(send_raw(&bytes, true).await, b"", "{bytes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_request_is_answered() {
    let requests = BTreeMap::from([
        (r#"{"id":7,"request":{"fly":{}}}"#, "unknown variant `fly`"),
        (r#"{"id":7,"request":{"mount":{"layers":["sha256:xyz"]}}}"#, "is not 64 lower-case hexadecimal digits"),
        (r#"{"id":7,"request":{"mount":{"layers":[],"more":1}}}"#, "unknown field `more`"),
        (r#"{"id":7,"request":{"commit_layer":{"origin":"build"}}}"#, "exactly one descriptor"),
    ]);
    for (request, expected) in requests {
        let answer = send_raw(&framed(request.as_bytes(), 0), false).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains(r#""id":7"#) && answer.contains(expected), "{request}: {answer}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_harm_the_host(payload in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), framed_properly: bool) {
        let bytes = if framed_properly { framed(&payload, 0) } else { payload };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.block_on(send_raw(&bytes, true));
    }
}
