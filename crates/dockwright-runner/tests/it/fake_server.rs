//! A coordinator that follows a script: it hands out payloads, keeps what comes back, and misbehaves when told to.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dockwright_job::{JobId, JobPayload};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, task::AbortHandle};

/// The runner's token here.
pub(crate) const TOKEN: &str = "glrt-Runner_Token_1234567";

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Another answer, without looking at the request.
    Answer(u16, Vec<(&'static str, String)>),
    /// The connection ends before anything was done.
    Reset,
    /// The connection ends while the request's body is under way.
    ResetDuringBody,
    /// The request is carried out, and its answer is lost.
    LoseAnswer,
    /// The answer does not come.
    Hang,
    /// The answer is as usual, with more headers.
    Add(Vec<(&'static str, String)>),
    /// The server forgets all of the job's trace but so many bytes, then goes on.
    Forget(usize),
}

/// A fault that waits for its request.
struct Planned {
    method: Method,
    path: &'static str,
    times: u32,
    fault: Fault,
}

/// What the server knows of a job.
#[derive(Default)]
pub(crate) struct ServedJob {
    pub(crate) token: String,
    pub(crate) trace: Vec<u8>,
    /// Bodies of `PUT /jobs/:id`.
    pub(crate) updates: Vec<Value>,
    /// Query and body of each upload that was taken whole.
    pub(crate) uploads: Vec<(String, Vec<u8>)>,
    /// The final state, as far as it was accepted.
    pub(crate) state: Option<String>,
    /// The state that somebody else gave it, after which the server takes nothing more.
    closed: Option<&'static str>,
}

#[derive(Default)]
pub(crate) struct State {
    queue: VecDeque<JobPayload>,
    jobs: HashMap<JobId, ServedJob>,
    faults: Vec<Planned>,
    /// One line per request: method, path, what matters of it, status.
    pub(crate) log: Vec<String>,
    pub(crate) headers: Vec<HeaderMap>,
    pub(crate) bodies: Vec<Value>,
    artifacts: Vec<u8>,
}

/// A server on a port of its own.
pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeServer {
    pub(crate) async fn start(payloads: impl IntoIterator<Item = JobPayload>) -> Self {
        let state = Arc::new(Mutex::new(State { queue: payloads.into_iter().collect(), ..State::default() }));
        let listener = TcpListener::bind((own_address(), 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        Self { address, task: serve(listener, &state), state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Goes away: nobody listens any more, and open connections break.
    pub(crate) fn disappear(&self) {
        self.task.abort();
    }

    /// Comes back at the same address.
    pub(crate) async fn come_back(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(self.address).expect("the address is still ours");
        self.task = serve(socket.listen(16).expect("it listens"), &self.state);
    }

    /// Plans a fault for the next requests to a path (`jobs/request`, or the part after `jobs/<id>`).
    pub(crate) fn plan(&self, method: Method, path: &'static str, times: u32, fault: Fault) {
        self.state().faults.push(Planned { method, path, times, fault });
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    pub(crate) fn job<T>(&self, id: u64, look: impl FnOnce(&ServedJob) -> T) -> T {
        look(self.state().jobs.get(&JobId(id)).expect("the job was handed out"))
    }

    /// Somebody closed the job: `canceled`, `failed`.
    pub(crate) fn close(&self, id: u64, state: &'static str) {
        self.state().jobs.get_mut(&JobId(id)).expect("the job was handed out").closed = Some(state);
    }

    /// The server was set back to a time before the job.
    pub(crate) fn forget(&self, id: u64) {
        self.state().jobs.remove(&JobId(id));
    }

    /// The job has another token by now: it was given to somebody else.
    pub(crate) fn give_away(&self, id: u64) {
        self.state().jobs.get_mut(&JobId(id)).expect("the job was handed out").token = "of-somebody-else".to_owned();
    }

    /// Another job waits.
    pub(crate) fn queue(&self, payload: JobPayload) {
        self.state().queue.push_back(payload);
    }

    pub(crate) fn log(&self) -> String {
        self.state().log.iter().map(|line| format!("{line}\n")).collect()
    }

    pub(crate) fn serve_artifacts(&self, content: &[u8]) {
        self.state().artifacts = content.to_vec();
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        for _ in 0..1500 {
            if is_so(&self.state()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what} did not happen; the requests were\n{}", self.log());
    }

    pub(crate) async fn until_ended(&self, id: u64) {
        self.until(&format!("the end of job {id}"), |state| state.jobs.get(&JobId(id)).is_some_and(|job| job.state.is_some())).await;
    }
}

impl State {
    pub(crate) fn trace(&self, id: u64) -> &[u8] {
        self.jobs.get(&JobId(id)).map_or(&[], |job| &job.trace)
    }

    pub(crate) fn knows(&self, id: u64) -> bool {
        self.jobs.contains_key(&JobId(id))
    }

    /// Whether all planned faults have happened.
    pub(crate) fn is_through(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, method: &Method, path: &str) -> Option<Fault> {
        let index = self.faults.iter().position(|planned| planned.method == *method && planned.path == path)?;
        self.faults[index].times -= 1;
        let fault = self.faults[index].fault.clone();
        if self.faults[index].times == 0 {
            self.faults.remove(index);
        }
        Some(fault)
    }
}

/// A loopback address that nobody else has: on 127.0.0.1 a connection of another test could be given the port of a server that is away.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = std::process::id() % 200;
    Ipv4Addr::new(127, 10 + u8::try_from(process).expect("it is small"), high, low)
}

fn serve(listener: TcpListener, state: &Arc<Mutex<State>>) -> AbortHandle {
    let state = Arc::clone(state);
    let accept = async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let state = Arc::clone(&state);
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            // Its end by an error is what some faults are.
            connections
                .spawn(async move { hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await });
        }
    };
    tokio::spawn(accept).abort_handle()
}

type Reply = Response<Full<Bytes>>;

fn reply(status: u16, body: &str) -> Reply {
    let mut response = Response::new(Full::new(Bytes::from(body.to_owned())));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    if !body.is_empty() {
        response.headers_mut().insert("content-type", "application/json; charset=utf-8".parse().expect("a value"));
    }
    response
}

fn with_headers(mut response: Reply, headers: &[(&'static str, String)]) -> Reply {
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    response
}

async fn answer(state: Arc<Mutex<State>>, mut request: Request<Incoming>) -> Result<Reply, io::Error> {
    let method = request.method().clone();
    let path = request.uri().path().strip_prefix("/api/v4/").unwrap_or("?").to_owned();
    let (id, kind) = split(&path);
    let fault = state.lock().expect("not poisoned").fault(&method, &kind);
    if matches!(fault, Some(Fault::ResetDuringBody)) {
        let _ = request.body_mut().frame().await;
        state.lock().expect("not poisoned").log.push(format!("{method} {kind} reset"));
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let note = |text: String| state.lock().expect("not poisoned").log.push(text);
    match fault {
        Some(Fault::Answer(status, headers)) => {
            note(format!("{method} {kind} {status}"));
            return Ok(with_headers(reply(status, r#"{"message":"as planned"}"#), &headers));
        }
        Some(Fault::Reset) => {
            note(format!("{method} {kind} reset"));
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Some(Fault::Hang) => {
            note(format!("{method} {kind} hangs"));
            std::future::pending::<Infallible>().await;
        }
        Some(Fault::Forget(bytes)) => {
            state.lock().expect("not poisoned").jobs.get_mut(&JobId(id)).expect("a job").trace.truncate(bytes);
        }
        _ => {}
    }
    let response = {
        let mut state = state.lock().expect("not poisoned");
        state.headers.push(head.headers.clone());
        carry_out(&mut state, &method, id, &kind, &head.headers, &query, &body)
    };
    let detail = detail(&head.headers, &body);
    note(format!("{method} {kind}{detail} {}", response.status().as_u16()));
    match fault {
        Some(Fault::LoseAnswer) => Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::Add(headers)) => Ok(with_headers(response, &headers)),
        _ => Ok(response),
    }
}

/// `jobs/7/trace` is the `trace` of job 7; `jobs/7` is its `update`.
fn split(path: &str) -> (u64, String) {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["jobs", id] if id.parse::<u64>().is_ok() => (id.parse().expect("checked"), "update".to_owned()),
        ["jobs", id, what] => (id.parse().unwrap_or_default(), (*what).to_owned()),
        _ => (0, path.to_owned()),
    }
}

fn detail(headers: &HeaderMap, body: &[u8]) -> String {
    if headers.contains_key("content-range") {
        return " range".to_owned();
    }
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    value["state"].as_str().map(|state| format!(" {state}")).unwrap_or_default()
}

fn carry_out(state: &mut State, method: &Method, id: u64, kind: &str, headers: &HeaderMap, query: &str, body: &Bytes) -> Reply {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    state.bodies.push(value.clone());
    if kind == "jobs/request" {
        return hand_out(state, &value);
    }
    if kind.starts_with("runners") {
        return manage(method, kind, headers, &value);
    }
    let Some(job) = state.jobs.get_mut(&JobId(id)) else { return reply(404, r#"{"message":"404 Not Found"}"#) };
    if headers.get("job-token").and_then(|token| token.to_str().ok()) != Some(job.token.as_str()) {
        return reply(403, r#"{"message":"403 Forbidden"}"#);
    }
    if let Some(state) = job.closed {
        return with_headers(reply(403, r#"{"message":"403 Forbidden  - Job is not running"}"#), &[("job-status", state.to_owned())]);
    }
    match (method.as_str(), kind) {
        ("PUT", "update") => update(job, value),
        ("PATCH", "trace") => append(job, headers, body),
        ("POST", "artifacts") => {
            job.uploads.push((query.to_owned(), body.to_vec()));
            reply(201, r#"{"id":1}"#)
        }
        ("GET", "artifacts") => Response::new(Full::new(Bytes::from(state.artifacts.clone()))),
        _ => reply(405, ""),
    }
}

fn hand_out(state: &mut State, body: &Value) -> Reply {
    if body["token"] != TOKEN {
        return reply(403, r#"{"message":"403 Forbidden"}"#);
    }
    let Some(payload) = state.queue.pop_front() else { return with_headers(reply(204, ""), &[("x-gitlab-last-update", "q1".to_owned())]) };
    let served = ServedJob { token: payload.token.expose().to_owned(), ..ServedJob::default() };
    state.jobs.insert(payload.id, served);
    reply(201, &serde_json::to_string(&payload).expect("plain data"))
}

fn manage(method: &Method, kind: &str, headers: &HeaderMap, body: &Value) -> Reply {
    let token = headers.get("runner-token").or_else(|| headers.get("private-token")).and_then(|token| token.to_str().ok());
    if token.is_none_or(|token| token.contains("wrong")) {
        let echo = format!(r#"{{"message":"403 Forbidden: {} is not known"}}"#, token.unwrap_or_default());
        return reply(403, &echo);
    }
    match (method.as_str(), kind) {
        ("POST", "runners") => reply(201, r#"{"id":7,"token":"glrtr-new","token_expires_at":null}"#),
        ("POST", "runners/verify") if body["token"] == "old-server" => Response::new(Full::new(Bytes::from("200"))),
        ("POST", "runners/verify") => reply(200, r#"{"id":7,"token":"glrt-same","token_expires_at":"2026-12-01T00:00:00.000Z"}"#),
        ("DELETE", _) => reply(204, ""),
        ("POST", _) => reply(201, r#"{"token":"glrt-reset","token_expires_at":null}"#),
        _ => reply(405, ""),
    }
}

fn update(job: &mut ServedJob, body: Value) -> Reply {
    let state = body["state"].as_str().unwrap_or_default().to_owned();
    let (length, checksum) = (body["output"]["bytesize"].as_u64(), body["output"]["checksum"].as_str().map(str::to_owned));
    job.updates.push(body);
    if state == "running" {
        return reply(200, "true");
    }
    let stored = format!("crc32:{:08x}", crc32fast::hash(&job.trace));
    if length.is_some_and(|length| length != job.trace.len() as u64) || checksum.is_some_and(|checksum| checksum != stored) {
        return reply(412, r#"{"message":"the trace differs"}"#);
    }
    job.state = Some(state);
    reply(200, "true")
}

fn append(job: &mut ServedJob, headers: &HeaderMap, body: &Bytes) -> Reply {
    let range = headers["content-range"].to_str().expect("text");
    let start: usize = range.split('-').next().and_then(|start| start.parse().ok()).expect("a range");
    let stored = job.trace.len();
    let with_range = |status, length: usize| with_headers(reply(status, ""), &[("range", format!("0-{length}"))]);
    // A coordinator that was sent everything anew takes it anew.
    if start == 0 {
        job.trace.clear();
    } else if start != stored {
        return with_range(416, stored);
    }
    job.trace.extend_from_slice(body);
    with_range(202, job.trace.len())
}
