//! A Docker API client as small as a bench needs: one connection a request, whole answers.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// A Docker daemon behind a unix socket.
pub(crate) struct Docker {
    socket: PathBuf,
}

impl Docker {
    pub(crate) fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Sends a request and returns the answer's status and body.
    pub(crate) fn request(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        let head = format!(
            "{method} /v1.41{path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // dockerd leaves the padding of a build's archive unread and closes, which resets the connection after the whole answer.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => {}
            read => drop(read?),
        }
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok((status, answer.split_off(end + 4)))
    }

    fn expect(&self, method: &str, path: &str, body: &Value, expected: u16) -> Vec<u8> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (status, answer) = self.request(method, path, "application/json", &body).expect("the daemon answers");
        assert_eq!(status, expected, "{method} {path}: {}", String::from_utf8_lossy(&answer));
        answer
    }

    /// Answers `GET /info`, as `docker info` asks it.
    pub(crate) fn info(&self) -> io::Result<u16> {
        self.request("GET", "/info", "application/json", b"").map(|(status, _)| status)
    }

    /// Makes an image available that the daemon's host or registry has.
    pub(crate) fn pull(&self, name: &str) {
        let answer = self.expect("POST", &format!("/images/create?fromImage={name}&tag=latest"), &Value::Null, 200);
        assert!(!String::from_utf8_lossy(&answer).contains("\"error\""), "{}", String::from_utf8_lossy(&answer));
    }

    /// Imports a root file system as an image.
    pub(crate) fn import(&self, archive: &Path, name: &str) {
        let bytes = std::fs::read(archive).expect("archive");
        let path = format!("/images/create?fromSrc=-&repo={name}&tag=latest");
        let (status, answer) = self.request("POST", &path, "application/x-tar", &bytes).expect("the daemon answers");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    }

    /// Creates, starts, awaits and removes a container that runs `true`, and returns how long that took.
    pub(crate) fn run_true(&self) -> Duration {
        let begin = Instant::now();
        let created = self.expect("POST", "/containers/create", &json!({"Image": "busybox", "Cmd": ["true"]}), 201);
        let start = created.iter().position(|byte| *byte == b'{').expect("JSON object");
        let end = created.iter().rposition(|byte| *byte == b'}').expect("JSON object");
        let created: Value = serde_json::from_slice(&created[start..=end]).expect("JSON");
        let id = created["Id"].as_str().expect("id");
        self.expect("POST", &format!("/containers/{id}/start"), &Value::Null, 204);
        self.expect("POST", &format!("/containers/{id}/wait"), &Value::Null, 200);
        self.expect("DELETE", &format!("/containers/{id}"), &Value::Null, 204);
        begin.elapsed()
    }

    /// Builds a context with the classic builder and returns how long that took and what was printed.
    pub(crate) fn build(&self, context: &[u8]) -> (Duration, String) {
        let begin = Instant::now();
        let (status, answer) = self.request("POST", "/build?t=bench&rm=1", "application/x-tar", context).expect("the daemon answers");
        let took = begin.elapsed();
        let printed = String::from_utf8_lossy(&answer).into_owned();
        assert!(status == 200 && printed.contains("Successfully built"), "{status}: {printed}");
        (took, printed)
    }
}
