//! Raw connections to processes: `attach`, `exec`, and the size of their terminals.

use std::{io, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};

use crate::{
    api::{
        Request, Response, containers,
        hijack::{self, Connection, Stream, frame},
        router::{Route, route},
        stream,
    },
    container::{
        Fields, Status,
        log::Reader,
        stdio::{Chunk, Input},
    },
    error::{Context as _, EngineError, Result},
    event::EventType,
    exec::{ExecConfig, parse_size},
};

pub(super) const ROUTES: &[Route] = &[
    route!(POST "/containers/{id}/attach" => attach),
    route!(POST "/containers/{id}/resize" => resize),
    route!(POST "/containers/{id}/exec" => create_exec),
    route!(POST "/exec/{id}/start" => start_exec),
    route!(GET "/exec/{id}/json" => inspect_exec),
    route!(POST "/exec/{id}/resize" => resize_exec),
];

/// Bytes read from a client at a time.
const INPUT_BYTES: usize = 16 * 1024;
/// How long a client may take to see that the output has ended, and to close.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// One client's view of a process.
struct Session {
    tty: bool,
    stdout: bool,
    stderr: bool,
    /// What was in the log when the client came.
    backlog: Option<Reader>,
    /// What comes from then on; nothing if only the log was asked for.
    live: Option<mpsc::Receiver<Chunk>>,
    detach_keys: DetachKeys,
    /// Whether the end of the client's input is the end of the process's.
    closes_input: bool,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The process ended, or the client went away.
    Over,
    /// The client typed the keys that leave the process alone.
    Detached,
}

impl Session {
    /// Carries bytes in both directions until the process ends or the client leaves.
    async fn converse(mut self, connection: Connection, input: Option<&Input>) -> Ended {
        let (mut from_client, mut to_client) = tokio::io::split(connection);
        let mut keys = std::mem::take(&mut self.detach_keys);
        let closes_input = self.closes_input;
        let output = async {
            let _ = self.send_output(&mut to_client).await;
            let _ = to_client.shutdown().await;
        };
        let input = async {
            match input {
                Some(input) => read_input(&mut from_client, input, &mut keys, closes_input).await,
                None => Ended::Over,
            }
        };
        let ended = {
            tokio::pin!(output, input);
            tokio::select! {
                () = &mut output => Ended::Over,
                // The end of the client's input is not the end of the output.
                ended = &mut input => {
                    if ended == Ended::Over {
                        output.await;
                    }
                    ended
                }
            }
        };
        if ended == Ended::Over {
            let _ = timeout(DISCARD_TIMEOUT, discard(&mut from_client)).await;
        }
        ended
    }

    async fn send_output(&mut self, client: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if let Some(mut backlog) = self.backlog.take() {
            while let Some(entry) = backlog.next()? {
                self.send(client, entry.stream, entry.text.as_bytes()).await?;
            }
        }
        if let Some(mut live) = self.live.take() {
            while let Some(chunk) = live.recv().await {
                self.send(client, chunk.stream, &chunk.bytes).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, client: &mut (impl AsyncWrite + Unpin), source: Stream, bytes: &[u8]) -> io::Result<()> {
        let wanted = match source {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        if !wanted {
            return Ok(());
        }
        if self.tty {
            client.write_all(bytes).await?;
        } else {
            client.write_all(&frame(source, bytes)).await?;
        }
        client.flush().await
    }

    /// Sends the output as the body of an ordinary answer, for clients that did not ask for an upgrade.
    async fn send_as_body(mut self, sender: stream::Sender) {
        let (mut reading, mut writing) = tokio::io::simplex(INPUT_BYTES);
        let output = async {
            let _ = self.send_output(&mut writing).await;
            drop(writing);
        };
        let body = async {
            let mut buffer = vec![0; INPUT_BYTES];
            while let Ok(length @ 1..) = reading.read(&mut buffer).await {
                if sender.send(Bytes::copy_from_slice(&buffer[..length])).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(output, body) } => {}
            () = sender.closed() => {}
        }
    }
}

/// Reads what nobody wants any more. To close a connection with unread input is to reset it, and the client may lose the last output.
async fn discard(client: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = vec![0; INPUT_BYTES];
    while let Ok(1..) = client.read(&mut buffer).await {}
}

async fn read_input(client: &mut (impl AsyncRead + Unpin), input: &Input, keys: &mut DetachKeys, closes: bool) -> Ended {
    let Some(writer) = input.writer().await else { return Ended::Over };
    let mut buffer = vec![0; INPUT_BYTES];
    while let Ok(length @ 1..) = client.read(&mut buffer).await {
        let (bytes, detached) = keys.filter(&buffer[..length]);
        // A process that does not read any more still has output to give.
        if writer.write(&bytes).await.is_err() {
            return Ended::Over;
        }
        if detached {
            return Ended::Detached;
        }
    }
    if closes {
        writer.close().await;
    }
    Ended::Over
}

/// Watches input for the keys that detach a client.
#[derive(Debug, Default)]
struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q` or `a,b`; only terminals have such keys.
    fn parse(text: Option<&str>, tty: bool) -> Result<Self> {
        const DEFAULT: &str = "ctrl-p,ctrl-q";
        if !tty {
            return Ok(Self::default());
        }
        let text = text.filter(|text| !text.is_empty()).unwrap_or(DEFAULT);
        let key = |name: &str| -> Option<u8> {
            match (name.strip_prefix("ctrl-"), name.as_bytes()) {
                (Some(rest), _) => match rest.as_bytes() {
                    [letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(letter.to_ascii_uppercase() & 0x1f),
                    _ => None,
                },
                (None, [byte]) => Some(*byte),
                _ => None,
            }
        };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        let invalid = || EngineError::invalid(format!("Invalid detach keys ({text}) provided"));
        Ok(Self { keys: keys.ok_or_else(invalid)?, matched: 0 })
    }

    /// Returns what is to be passed on, and whether the keys were complete.
    fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (bytes.to_vec(), false);
        }
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (passed, true);
                }
                continue;
            }
            // What looked like the beginning of the keys was meant for the process.
            passed.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(*byte == self.keys[0] && self.keys.len() > 1);
            if self.matched == 0 {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

async fn attach(request: Request) -> Result<Response> {
    let container = request.engine.containers().find(request.param("id"))?;
    if container.state().status == Status::Paused {
        return Err(EngineError::conflict(format!("container {} is paused, unpause the container before attach", container.id)));
    }
    let query = &request.query;
    let tty = container.config.tty;
    let (backlog, live) =
        if query.bool("logs") { container.output.attach_with_log().context("open the log")? } else { (None, container.output.attach()) };
    let session = Session {
        tty,
        stdout: query.bool("stdout"),
        stderr: query.bool("stderr"),
        backlog,
        live: query.bool("stream").then_some(live),
        detach_keys: DetachKeys::parse(query.get("detachKeys"), tty)?,
        closes_input: container.config.stdin_once,
    };
    let with_input = query.bool("stdin") && query.bool("stream") && container.config.open_stdin;
    let (engine, content_type) = (request.engine.clone(), hijack::content_type(tty, request.version));
    engine.events().emit(EventType::Container, "attach", &container.id, container.event_attributes());
    let Some(upgrade) = request.into_upgrade() else {
        let (sender, response) = stream::channel(content_type);
        tokio::spawn(session.send_as_body(sender));
        return Ok(response);
    };
    Ok(hijack::upgrade(upgrade, content_type, move |connection| async move {
        let ended = session.converse(connection, with_input.then_some(&container.input)).await;
        if ended == Ended::Detached {
            engine.events().emit(EventType::Container, "detach", &container.id, container.event_attributes());
        }
    }))
}

async fn resize(request: Request) -> Result<Response> {
    let container = request.engine.containers().find(request.param("id"))?;
    let size = containers::size(&request)?;
    let run = container.state().run.as_ref().map(|run| run.terminal.clone());
    match run {
        None => return Err(container.not_running()),
        Some(Some(terminal)) => terminal.resize(size).context("resize the terminal")?,
        // Without a terminal there is nothing to resize, and clients do not mind.
        Some(None) => {}
    }
    let mut attributes = container.event_attributes();
    attributes.insert("height".to_owned(), size.rows.to_string());
    attributes.insert("width".to_owned(), size.columns.to_string());
    request.engine.events().emit(EventType::Container, "resize", &container.id, attributes);
    Ok(stream::empty(StatusCode::OK))
}

async fn create_exec(mut request: Request) -> Result<Response> {
    let container = request.engine.containers().find(request.param("id"))?;
    let body: Value = request.json().await?;
    let id = request.engine.create_exec(&container, ExecConfig::parse(&body)?)?;
    Ok(stream::json(StatusCode::CREATED, &json!({ "Id": id })))
}

async fn start_exec(mut request: Request) -> Result<Response> {
    let exec = request.engine.execs().find(request.param("id"))?;
    let body = containers::object(&mut request).await?;
    let (fields, size) = (Fields::of(&body, "the request")?, parse_size(&body)?);
    if fields.bool("Detach")? {
        request.engine.start_exec(&exec, size).await?;
        return Ok(stream::empty(StatusCode::OK));
    }
    let tty = exec.config.tty;
    let keys = exec.config.detach_keys.as_deref();
    let session = Session {
        tty,
        stdout: exec.config.attach_stdout,
        stderr: exec.config.attach_stderr,
        backlog: None,
        live: Some(exec.output.attach()),
        detach_keys: DetachKeys::parse(keys, tty)?,
        closes_input: true,
    };
    let engine = request.engine.clone();
    let content_type = hijack::content_type(tty, request.version);
    let Some(upgrade) = request.into_upgrade() else {
        engine.start_exec(&exec, size).await?;
        let (sender, response) = stream::channel(content_type);
        tokio::spawn(session.send_as_body(sender));
        return Ok(response);
    };
    // What cannot be started any more is an ordinary error; what fails to start is told on the stream, as Docker does.
    engine.check_exec(&exec)?;
    Ok(hijack::upgrade(upgrade, content_type, move |mut connection| async move {
        if let Err(error) = engine.start_exec(&exec, size).await {
            let text = format!("{}\r\n", error.message);
            let bytes = if tty { Bytes::from(text) } else { frame(Stream::Stderr, text.as_bytes()) };
            let _ = connection.write_all(&bytes).await;
            let _ = connection.shutdown().await;
            return;
        }
        let input = exec.config.attach_stdin.then_some(&exec.input);
        if session.converse(connection, input).await == Ended::Detached {
            let mut attributes = exec.container.event_attributes();
            attributes.insert("execID".to_owned(), exec.id.clone());
            engine.events().emit(EventType::Container, "exec_detach", &exec.container.id, attributes);
        }
    }))
}

async fn inspect_exec(request: Request) -> Result<Response> {
    let exec = request.engine.execs().find(request.param("id"))?;
    Ok(stream::ok(&exec.shown()))
}

async fn resize_exec(request: Request) -> Result<Response> {
    let exec = request.engine.execs().find(request.param("id"))?;
    exec.resize(containers::size(&request)?)?;
    Ok(stream::empty(StatusCode::OK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_chunks() {
        let mut keys = DetachKeys::parse(None, true).unwrap();
        assert_eq!(keys.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"\x11rest"), (Vec::new(), true));
    }

    #[test]
    fn an_incomplete_sequence_is_passed_on() {
        let mut keys = DetachKeys::parse(Some("ctrl-p,x"), true).unwrap();
        assert_eq!(keys.filter(b"\x10y"), (b"\x10y".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10x"), (b"\x10".to_vec(), true));
    }

    #[test]
    fn without_a_terminal_all_bytes_pass() {
        let mut keys = DetachKeys::parse(None, false).unwrap();
        assert_eq!(keys.filter(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
        assert!(DetachKeys::parse(Some("ctrl-!"), true).is_err());
    }
}
