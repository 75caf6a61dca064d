//! Caches in a bucket, with whole jobs of two machines: a bucket of our own that checks signatures, and real servers where they are
//! installed.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::Engine as _;
use dockwright_job::{Cache, CachePolicy, JobPayload};
use dockwright_runner::{
    FixedEndpoint, RunnerConfig,
    cache::{AzureSettings, CacheLocation, CacheSettings, Encryption, GcsSettings, RemoteCache, S3Settings},
    config::Secret,
};
use dockwright_testing::requires;
use tokio_util::sync::CancellationToken;

use crate::{
    s3_server::{ACCESS_KEY, S3Server, SECRET_KEY, hmac},
    support::{Place, Recorder, run, variable},
};

/// Stored in three parts.
const LARGE: u64 = 40_000_000;

fn s3(server: &S3Server) -> S3Settings {
    S3Settings {
        server_address: server.address.to_string(),
        access_key: Secret::new(ACCESS_KEY),
        secret_key: Secret::new(SECRET_KEY),
        bucket: "bucket".to_owned(),
        is_insecure: true,
        ..S3Settings::default()
    }
}

fn settings(location: CacheLocation) -> CacheSettings {
    CacheSettings { location, ..CacheSettings::default() }
}

/// A machine of its own: nothing but the bucket is shared.
fn machine(place: &Place, name: &str, cache: CacheSettings) -> RunnerConfig {
    let remote_cache = Some(Arc::new(RemoteCache::new(cache).expect("the settings are complete")));
    let builds = place.root.path().join(name).join("builds");
    RunnerConfig {
        remote_cache,
        scratch_dir: builds.join("scratch"),
        builds_dir: builds,
        cache_dir: place.root.path().join(name).join("cache"),
        ..place.config()
    }
}

fn with_cache(mut payload: JobPayload, key: &str) -> JobPayload {
    payload.cache = vec![Cache { key: key.to_owned(), paths: vec!["kept".to_owned()], ..Cache::default() }];
    payload
}

/// Runs one job and returns its trace.
async fn trace_of(config: RunnerConfig, payload: JobPayload) -> String {
    let id = payload.id.0;
    let recorder = Recorder::with([payload]);
    run(&recorder, FixedEndpoint::new("unix:///nowhere"), config, 1, &CancellationToken::new()).await;
    recorder.trace(id)
}

/// What every bucket has to do: a job on one machine leaves a cache, a job on another finds it.
async fn check_bucket(cache: &CacheSettings, bytes: u64) {
    let place = Place::new(&[]);
    let script = format!("mkdir kept; echo one > kept/a; head -c {bytes} /dev/urandom > kept/b; touch -d '1 hour ago' kept/*");
    let fill = with_cache(place.payload(1, &[&script]), "branch/main #1");
    let first = trace_of(machine(&place, "one", cache.clone()), fill).await;
    assert!(first.contains("Checking cache for branch/main #1...\nWARNING: Cache file does not exist\n"), "{first}");
    assert!(first.contains("\nCreated cache\n"), "{first}");
    let read = with_cache(place.payload(2, &["cat kept/a; wc -c < kept/b"]), "branch/main #1");
    let second = trace_of(machine(&place, "two", cache.clone()), read.clone()).await;
    assert!(second.contains("Downloading cache from ") && second.contains(&format!("\none\n{bytes}\n")), "{second}");
    let third = trace_of(machine(&place, "two", cache.clone()), read).await;
    assert!(third.contains("Cache on this machine is that of "), "{third}");
    assert!(third.contains("Archive is up to date!\nCreated cache\n") && !third.contains("Uploading"), "{third}");
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_share_a_cache_through_s3() {
    let server = S3Server::start().await;
    let cache = CacheSettings { path: "/ci/".to_owned(), ..settings(CacheLocation::S3(s3(&server))) };
    check_bucket(&cache, LARGE).await;
    let bucket = server.bucket();
    let names: Vec<&String> = bucket.objects.keys().collect();
    assert_eq!(names, ["/bucket/ci/runner/local/project/1/branch/main%20%231"]);
    let refused: Vec<&String> = bucket.log.iter().filter(|line| line.ends_with(" 403")).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert!(bucket.log.iter().any(|line| line.contains("partNumber=3")), "large archives go in parts: {:?}", bucket.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_headers_are_as_configured() {
    let server = S3Server::start().await;
    let encrypted = S3Settings { encryption: Some(Encryption::Kms), encryption_key_id: "arn:aws:kms:key/1".to_owned(), ..s3(&server) };
    let cache = CacheSettings { is_shared: true, ..settings(CacheLocation::S3(encrypted)) };
    let place = Place::new(&[]);
    let trace = trace_of(machine(&place, "one", cache), with_cache(place.payload(1, &["mkdir kept"]), "k")).await;
    assert!(trace.contains("Uploading cache.zip to s3://bucket/project/1/k\n"), "{trace}");
    let bucket = server.bucket();
    assert_eq!(bucket.objects.keys().collect::<Vec<_>>(), ["/bucket/project/1/k"]);
    let headers = bucket.headers.last().expect("something was stored");
    assert_eq!(headers["x-amz-server-side-encryption"], "aws:kms");
    assert_eq!(headers["x-amz-server-side-encryption-aws-kms-key-id"], "arn:aws:kms:key/1");
    assert_eq!(headers["content-type"], "application/octet-stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn fallback_keys_are_asked_for_in_order() {
    let server = S3Server::start().await;
    let cache = settings(CacheLocation::S3(s3(&server)));
    let place = Place::new(&[]);
    trace_of(machine(&place, "one", cache.clone()), with_cache(place.payload(1, &["mkdir kept; echo main > kept/a"]), "main")).await;
    let mut payload = with_cache(place.payload(2, &["cat kept/a"]), "branch");
    payload.cache[0].fallback_keys = vec!["other".to_owned()];
    payload.cache[0].policy = CachePolicy::Pull;
    payload.variables = vec![variable("CACHE_FALLBACK_KEY", "main")];
    let trace = trace_of(machine(&place, "two", cache), payload).await;
    let asked: Vec<&str> = trace.lines().filter_map(|line| line.strip_prefix("Checking cache for ")).collect();
    assert_eq!(asked, ["branch...", "other...", "main..."]);
    assert!(trace.contains("\nmain\n"), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_cannot_be_stored_fails_no_job_and_shows_no_secret() {
    let server = S3Server::start().await;
    let place = Place::new(&[]);
    let wrong = S3Settings { secret_key: Secret::new("not-the-key"), ..s3(&server) };
    let payload = with_cache(place.payload(1, &["mkdir kept; head -c 5000 /dev/urandom > kept/a; env"]), "k");
    let trace = trace_of(machine(&place, "one", settings(CacheLocation::S3(wrong))), payload.clone()).await;
    assert!(trace.contains("WARNING: upload s3://bucket/runner/local/project/1/k: "), "{trace}");
    assert!(trace.contains("\nWARNING: Failed to create cache\n") && trace.ends_with("Job succeeded\n"), "{trace}");
    assert!(!trace.contains("not-the-key") && !trace.contains(ACCESS_KEY), "{trace}");

    let limited = CacheSettings { max_archive_bytes: Some(1000), ..settings(CacheLocation::S3(s3(&server))) };
    let trace = trace_of(machine(&place, "two", limited), payload).await;
    assert!(trace.contains("exceeds MaxUploadedArchiveSize (1000 bytes); it is not uploaded\n"), "{trace}");
    assert!(server.bucket().objects.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_busy_is_asked_again() {
    let server = S3Server::start().await;
    let place = Place::new(&[]);
    server.bucket().failures = 2;
    let payload = with_cache(place.payload(1, &["mkdir kept"]), "k");
    let trace = trace_of(machine(&place, "one", settings(CacheLocation::S3(s3(&server)))), payload).await;
    assert!(trace.contains("WARNING: Cache file does not exist\n") && trace.contains("\nCreated cache\n"), "{trace}");
    assert_eq!(server.bucket().objects.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tar_with_zstd_comes_back_and_is_noticed_unchanged() {
    let server = S3Server::start().await;
    let cache = settings(CacheLocation::S3(s3(&server)));
    let place = Place::new(&[]);
    let zstd = |id, script: &str| {
        let mut payload = with_cache(place.payload(id, &[script]), "k");
        payload.variables = vec![variable("CACHE_COMPRESSION_FORMAT", "tarzstd"), variable("CACHE_COMPRESSION_LEVEL", "fast")];
        payload
    };
    // Old enough for a fingerprint.
    let fill = "mkdir -p kept/sub; echo x > kept/sub/a; ln -s sub/a kept/link; chmod 750 kept/sub; touch -d '1 hour ago' kept/sub/a";
    trace_of(machine(&place, "one", cache.clone()), zstd(1, fill)).await;
    let stored = server.bucket().objects.values().next().expect("an object").clone();
    assert_eq!(stored[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    let trace = trace_of(machine(&place, "two", cache.clone()), zstd(2, "cat kept/link; stat -c %a kept/sub; readlink kept/link")).await;
    assert!(trace.contains("\nx\n750\nsub/a\n"), "{trace}");
    assert!(trace.contains("Archive is up to date!\n"), "{trace}");
    let trace = trace_of(machine(&place, "two", cache), zstd(3, "rm kept/link")).await;
    assert!(trace.contains("\nUploading cache.zip to "), "what is deleted is noticed: {trace}");
}

/// A server of somebody else, ended with the test.
struct Peer {
    child: Child,
    port: u16,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Starts a program that listens on a port; `{port}` in its arguments is that.
    fn start(program: &str, arguments: &[&str], directory: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let arguments = arguments.iter().map(|argument| argument.replace("{port}", &port.to_string()));
        let mut command = Command::new(program);
        command.args(arguments).current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let peer = Self { child: command.spawn().expect("the program starts"), port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        peer
    }

    async fn put(&self, path: &str, headers: &[(&str, String)]) {
        let client = reqwest_client();
        let mut request = client.put(format!("http://127.0.0.1:{}{path}", self.port)).body("");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = request.send().await.expect("the server answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }
}

fn reqwest_client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::new()
}

/// moto: `pip install 'moto[server]'`.
#[tokio::test(flavor = "multi_thread")]
async fn moto_takes_our_caches() {
    requires!(Command("moto_server"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let peer = Peer::start("moto_server", &["-H", "127.0.0.1", "-p", "{port}"], directory.path());
    peer.put("/bucket", &[]).await;
    check_bucket(
        &settings(CacheLocation::S3(S3Settings {
            server_address: format!("127.0.0.1:{}", peer.port),
            access_key: Secret::new(ACCESS_KEY),
            secret_key: Secret::new(SECRET_KEY),
            bucket: "bucket".to_owned(),
            is_insecure: true,
            encryption: Some(Encryption::S3),
            ..S3Settings::default()
        })),
        LARGE,
    )
    .await;
}

/// The objects of Google's XML interface are those of S3; a service account's token is left out, as its file may say.
#[tokio::test(flavor = "multi_thread")]
async fn gcs_takes_our_caches() {
    let server = S3Server::start_without_signatures().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let credentials = directory.path().join("credentials.json");
    let account = serde_json::json!({
        "gcs_base_url": format!("http://{}", server.address),
        "disable_oauth": true,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    });
    fs::write(&credentials, account.to_string()).expect("a file");
    let gcs = GcsSettings { credentials_file: credentials.display().to_string(), bucket: "bucket".to_owned(), ..GcsSettings::default() };
    check_bucket(&settings(CacheLocation::Gcs(gcs)), LARGE).await;
    assert_eq!(server.bucket().objects.len(), 1);
}

/// Azurite: `npm install azurite`.
#[tokio::test(flavor = "multi_thread")]
async fn azurite_takes_our_caches() {
    requires!(Command("azurite-blob"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let arguments = ["--blobHost", "127.0.0.1", "--blobPort", "{port}", "--silent", "--inMemoryPersistence", "--skipApiVersionCheck"];
    let peer = Peer::start("azurite-blob", &arguments, directory.path());
    // The account that every Azurite has.
    let key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    let azure = AzureSettings {
        account_name: "devstoreaccount1".to_owned(),
        account_key: Secret::new(key),
        container: "container".to_owned(),
        storage_domain: format!("http://127.0.0.1:{}", peer.port),
    };
    create_container(&peer, key).await;
    check_bucket(&settings(CacheLocation::Azure(azure)), LARGE).await;
}

/// Makes a container, which takes a signature of the kind "Shared Key".
async fn create_container(peer: &Peer, key: &str) {
    let engine = base64::engine::general_purpose::STANDARD;
    let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let version = "2021-08-06";
    let headers = format!("x-ms-date:{date}\nx-ms-version:{version}\n");
    let to_sign = format!("PUT{}{headers}/devstoreaccount1/devstoreaccount1/container\nrestype:container", "\n".repeat(12));
    let key = engine.decode(key).expect("the key is in base64");
    let signature = engine.encode(hmac(&key, to_sign.as_bytes()));
    let authorization = format!("SharedKey devstoreaccount1:{signature}");
    let headers = [("x-ms-date", date), ("x-ms-version", version.to_owned()), ("authorization", authorization)];
    peer.put("/devstoreaccount1/container?restype=container", &headers).await;
}
