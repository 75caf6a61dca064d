//! A registry on a port of its own, and images to put into it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dockwright_registry::{
    Client, ClientOptions, Registry,
    client::{OnProgress, Progress},
    server::{self, Action, Authority, Identity},
};
use dockwright_store::{ImageId, ImageRef, RootfsOptions, Store};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

/// `alice` may do everything below `alice/`, and anybody may pull below `public/`, where `alice` may push.
struct Names;

impl Authority for Names {
    fn authenticate(&self, user: &str, password: &str) -> Option<Identity> {
        let known = matches!((user, password), ("alice", "secret") | ("bob", "hunter2"));
        known.then(|| Identity { name: user.to_owned() })
    }

    fn access(&self, identity: &Identity, repository: &str, action: Action) -> bool {
        let (owner, _) = repository.split_once('/').unwrap_or((repository, ""));
        owner == identity.name || (owner == "public" && (action == Action::Pull || identity.name == "alice"))
    }
}

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    /// The registry's.
    pub(crate) store: Store,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("registry")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Arc::new(Registry::new(store.clone(), Arc::new(Names)).unwrap());
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(server::serve(listener, registry, async {
            let _ = stopped.await;
        }));
        Self { dir, store, address, stop: Some(stop), server }
    }

    /// Ends the server and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.server.await.unwrap().unwrap();
    }

    pub(crate) fn other_store(&self, name: &str) -> Store {
        Store::open(&self.dir.path().join(name)).unwrap()
    }

    /// A client that knows the registry as `registry.test`.
    pub(crate) fn client(&self) -> Client {
        let aliases = [("registry.test".to_owned(), self.address)].into();
        Client::new(ClientOptions { aliases, insecure: Vec::new() }).unwrap()
    }
}

pub(crate) fn reference(text: &str) -> ImageRef {
    text.parse().unwrap()
}

/// An image of one layer with one file.
pub(crate) fn image(store: &Store, content: &[u8]) -> ImageId {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    builder.append_data(&mut header, "file", content).unwrap();
    store.import_rootfs(builder.into_inner().unwrap().as_slice(), &RootfsOptions::default()).unwrap()
}

/// Keeps progress as `id status` lines, without those that differ by timing.
#[derive(Default, Clone)]
pub(crate) struct Lines(Arc<std::sync::Mutex<Vec<String>>>);

impl Lines {
    pub(crate) fn on_progress(&self) -> OnProgress {
        let lines = self.0.clone();
        Arc::new(move |progress: Progress| {
            if progress.amount.is_none() {
                lines.lock().unwrap().push(format!("{} {}", progress.id, progress.status));
            }
        })
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub(crate) fn silent() -> OnProgress {
    Arc::new(|_| {})
}

/// Passes connections on, but cuts the first few that carry more than a limit.
pub(crate) struct BreakingProxy {
    pub(crate) address: SocketAddr,
    broken: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// The client gives up after a few more.
const CUTS_MAX: usize = 3;

impl BreakingProxy {
    pub(crate) async fn start(target: SocketAddr, limit: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let broken = Arc::new(AtomicUsize::new(0));
        let count = broken.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(pass(client, target, limit, count.clone()));
            }
        });
        Self { address, broken, task }
    }

    /// How many connections were cut.
    pub(crate) fn broken(&self) -> usize {
        self.broken.load(Ordering::SeqCst)
    }
}

impl Drop for BreakingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, target: SocketAddr, limit: usize, broken: Arc<AtomicUsize>) {
    let server = TcpStream::connect(target).await.unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Whichever ends first ends both.
    tokio::select! {
        () = pump(from_client, to_server, limit, &broken) => {}
        () = pump(from_server, to_client, limit, &broken) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, limit: usize, broken: &AtomicUsize) {
    let mut passed = 0;
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        passed += read;
        if passed > limit && broken.load(Ordering::SeqCst) < CUTS_MAX {
            broken.fetch_add(1, Ordering::SeqCst);
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
