//! Enough of GitLab to register runners at, and to give them jobs.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Tokens of this content are not known.
const UNKNOWN: &str = "BAD";

pub(super) struct FakeGitlab {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Requests with their bodies.
    log: Vec<(String, Value)>,
    /// What is special in the job that waits for the runner with this token.
    queue: BTreeMap<String, Value>,
    jobs: u64,
    /// By the path of the request.
    traces: BTreeMap<String, Vec<u8>>,
}

/// The end of paths whose requests are never answered: artifacts, up and down.
pub(super) const NO_ANSWER: &str = "/artifacts";

impl FakeGitlab {
    /// Serves until the process ends.
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<Mutex<State>>::default();
        let kept = Arc::clone(&state);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                // A runner that was told to end leaves requests behind.
                thread::spawn(move || serve(&connection, &kept));
            }
        });
        Self { address, state }
    }

    /// Gives a job to the runner with this token.
    pub(super) fn give(&self, token: &str, script: &str) {
        self.give_with(token, json!({"steps": [step("script", script)]}));
    }

    /// Gives a job with some fields of its own.
    pub(super) fn give_with(&self, token: &str, fields: Value) {
        self.state.lock().expect("the state").queue.insert(token.to_owned(), fields);
    }

    /// Returns what has come of a job's trace.
    pub(super) fn trace(&self, job: u64) -> String {
        let state = self.state.lock().expect("the state");
        let trace = state.traces.get(&format!("PATCH /api/v4/jobs/{job}/trace"));
        trace.map(|trace| String::from_utf8_lossy(trace).into_owned()).unwrap_or_default()
    }

    /// Waits until a job has printed something.
    pub(super) fn until_printed(&self, job: u64, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.trace(job).contains(text) {
            assert!(Instant::now() < deadline, "no `{text}` in\n{}", self.trace(job));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until so many jobs have ended, and returns the bodies of their last reports.
    pub(super) fn ended(&self, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let is_end = |(request, body): &&(String, Value)| request.starts_with("PUT ") && body["state"] != "running";
            let ends: Vec<Value> = self.state.lock().expect("the state").log.iter().filter(is_end).map(|(_, body)| body.clone()).collect();
            if ends.len() >= count {
                return ends;
            }
            assert!(Instant::now() < deadline, "{} of {count} jobs have ended", ends.len());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a job runs.
    pub(super) fn until_requested(&self, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.state.lock().expect("the state").log.iter().any(|(request, _)| request.contains(what)) {
            assert!(Instant::now() < deadline, "no request {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// What was asked for, a request a line, without what is the same in all.
    pub(super) fn requests(&self) -> String {
        let host = super::host_name();
        let state = self.state.lock().expect("the state");
        let lines = state.log.iter().map(|(request, body)| {
            let fields = body.as_object().into_iter().flatten().filter(|(key, _)| *key != "info");
            let fields: String = fields.map(|(key, value)| format!(" {key}={value}")).collect();
            format!("{request}{}\n", fields.replace(&format!("{host:?}"), "\"[host]\""))
        });
        lines.collect()
    }
}

fn serve(mut connection: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let request = line.rsplit_once(' ').map_or("", |(request, _)| request).to_owned();
    let mut length = 0;
    let mut range = String::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.split_once(':') {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().expect("a length"),
            Some((name, value)) if name.eq_ignore_ascii_case("content-range") => value.trim().clone_into(&mut range),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let content = body;
    let body: Value = serde_json::from_slice(&content).unwrap_or_default();
    let mut state = state.lock().expect("the state");
    if request.split('?').next().is_some_and(|path| path.ends_with(NO_ANSWER)) {
        state.log.push((request, body));
        drop(state);
        // Until the runner ends the connection.
        return reader.read(&mut [0]).map(|_| ());
    }
    let (mut status, answer) = answer(&request, &body, &mut state);
    let mut end = 0;
    if let Some((start, _)) = range.split_once('-') {
        let trace = state.traces.entry(request.split('?').next().unwrap_or_default().to_owned()).or_default();
        if start.parse() == Ok(trace.len()) {
            trace.extend_from_slice(&content);
        } else {
            status = "416 Range Not Satisfiable";
        }
        end = trace.len();
    }
    state.log.push((request, body));
    let answer = if answer.is_null() { String::new() } else { answer.to_string() };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nrange: 0-{end}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    connection.write_all((head + &answer).as_bytes())
}

fn answer(request: &str, body: &Value, state: &mut State) -> (&'static str, Value) {
    let count = state.log.iter().filter(|(seen, _)| seen == request).count() + 1;
    if body["token"] == UNKNOWN {
        return ("403 Forbidden", json!({"message": "403 Forbidden"}));
    }
    match request {
        "POST /api/v4/runners" => ("201 Created", json!({"id": count, "token": format!("SECRET-{count}"), "token_expires_at": null})),
        "POST /api/v4/runners/verify" => ("200 OK", json!({"id": 77, "token": body["token"], "token_expires_at": null})),
        "POST /api/v4/runners/reset_authentication_token" => {
            ("201 Created", json!({"id": 77, "token": "NEW", "token_expires_at": "2027-01-01T00:00:00.000Z"}))
        }
        "DELETE /api/v4/runners" | "DELETE /api/v4/runners/managers" => ("204 No Content", Value::Null),
        "POST /api/v4/jobs/request" => match state.queue.remove(body["token"].as_str().unwrap_or_default()) {
            Some(fields) => {
                state.jobs += 1;
                ("201 Created", job(state.jobs, &fields))
            }
            None => ("204 No Content", Value::Null),
        },
        _ if request.starts_with("PUT /api/v4/jobs/") => ("200 OK", Value::Null),
        _ if request.starts_with("PATCH /api/v4/jobs/") => ("202 Accepted", Value::Null),
        _ => ("404 Not Found", json!({})),
    }
}

/// One entry of `steps`.
pub(super) fn step(name: &str, script: &str) -> Value {
    json!({"name": name, "script": [script], "timeout": 600, "when": "on_success", "allow_failure": false})
}

fn job(id: u64, fields: &Value) -> Value {
    let mut job = json!({
        "id": id,
        "token": format!("job-token-{id}"),
        "job_info": {"name": "test", "stage": "test", "project_id": 1, "project_name": "p", "project_full_path": "g/p"},
        "git_info": {"repo_url": "https://gitlab.invalid/g/p.git", "ref": "main", "sha": "0", "before_sha": "0", "ref_type": "branch"},
        "runner_info": {"timeout": 600},
        "features": {"failure_reasons": ["runner_interrupted"]},
        "variables": [{"key": "GIT_STRATEGY", "value": "none", "public": true}],
        "steps": [],
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        job[name] = value.clone();
    }
    job
}
