//! Enough of GitLab to register runners at.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

/// Tokens of this content are not known.
const UNKNOWN: &str = "BAD";

pub(super) struct FakeGitlab {
    address: SocketAddr,
    log: Arc<Mutex<Vec<(String, Value)>>>,
}

impl FakeGitlab {
    /// Serves until the process ends.
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                serve(&connection, &kept);
            }
        });
        Self { address, log }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// What was asked for, a request a line, without what is the same in all.
    pub(super) fn requests(&self) -> String {
        let host = super::host_name();
        let log = self.log.lock().expect("the log");
        let lines = log.iter().map(|(request, body)| {
            let fields = body.as_object().into_iter().flatten().filter(|(key, _)| *key != "info");
            let fields: String = fields.map(|(key, value)| format!(" {key}={value}")).collect();
            format!("{request}{}\n", fields.replace(&format!("{host:?}"), "\"[host]\""))
        });
        lines.collect()
    }
}

fn serve(mut connection: &TcpStream, log: &Mutex<Vec<(String, Value)>>) {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a request");
    let request = line.rsplit_once(' ').map_or("", |(request, _)| request).to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header");
        if header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            length = value.trim().parse().unwrap_or_else(|_| panic!("{name}"));
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (status, answer) = answer(&request, &body, log.lock().expect("the log").iter().filter(|(seen, _)| *seen == request).count() + 1);
    log.lock().expect("the log").push((request, body));
    let answer = if answer.is_null() { String::new() } else { answer.to_string() };
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    let _ = connection.write_all((head + &answer).as_bytes());
}

fn answer(request: &str, body: &Value, count: usize) -> (&'static str, Value) {
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
        _ => ("404 Not Found", json!({})),
    }
}
