//! `GET /containers/{id}/logs`.

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    api::{
        Request, Response,
        hijack::{self, frame},
        router::{Route, route},
        stream::{self, Disconnected},
    },
    container::log::{Entry, Reader},
    error::{Context as _, EngineError, ErrorKind, Result},
    time,
};

pub(super) const ROUTES: &[Route] = &[route!(GET "/containers/{id}/logs" => logs)];

/// Which entries are sent, and how.
struct Selection {
    tty: bool,
    stdout: bool,
    stderr: bool,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    timestamps: bool,
    follow: bool,
}

impl Selection {
    fn of(request: &Request, tty: bool) -> Result<Self> {
        let query = &request.query;
        let (stdout, stderr) = (query.bool("stdout"), query.bool("stderr"));
        if !stdout && !stderr {
            return Err(EngineError::invalid("Bad parameters: you must choose at least one stream"));
        }
        // Zero is how some clients say "not given".
        let at = |name: &str| query.non_empty(name).filter(|text| *text != "0").map(time::parse).transpose();
        Ok(Self {
            tty,
            stdout,
            stderr,
            since: at("since")?,
            until: at("until")?,
            timestamps: query.bool("timestamps"),
            follow: query.bool("follow"),
        })
    }

    /// Renders an entry, or nothing if it was not asked for.
    fn render(&self, entry: &Entry) -> Option<Bytes> {
        let wanted = match entry.stream {
            hijack::Stream::Stdout => self.stdout,
            hijack::Stream::Stderr => self.stderr,
        };
        let in_time = self.since.is_none_or(|since| entry.time >= since) && self.until.is_none_or(|until| entry.time <= until);
        if !wanted || !in_time {
            return None;
        }
        let text = if self.timestamps { format!("{} {}", time::nanoseconds(entry.time), entry.text) } else { entry.text.clone() };
        Some(if self.tty { Bytes::from(text) } else { frame(entry.stream, text.as_bytes()) })
    }

    async fn send(&self, mut reader: Reader, sender: &stream::Sender) -> Result<(), Disconnected> {
        loop {
            loop {
                match reader.next() {
                    Ok(Some(entry)) => {
                        if let Some(bytes) = self.render(&entry) {
                            sender.send(bytes).await?;
                        }
                        if self.until.is_some_and(|until| entry.time > until) {
                            return Ok(());
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        sender.fail(error).await;
                        return Ok(());
                    }
                }
            }
            let more = self.follow
                && tokio::select! {
                    more = reader.more() => more,
                    () = sender.closed() => false,
                    () = until_reached(self.until) => false,
                };
            if !more {
                return Ok(());
            }
        }
    }
}

async fn until_reached(until: Option<Timestamp>) {
    let Some(until) = until else { return std::future::pending().await };
    let left = until.duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
}

async fn logs(request: Request) -> Result<Response> {
    let container = request.engine.containers().find(request.param("id"))?;
    let selection = Selection::of(&request, container.config.tty)?;
    let no_reading = || EngineError::new(ErrorKind::NotImplemented, "configured logging driver does not support reading");
    let log = container.output.log().ok_or_else(no_reading)?;
    // As in Docker, what is no number means everything.
    let tail = request.query.get("tail").and_then(|tail| tail.parse().ok());
    let reader = log.read(tail).context("open the log")?;
    let (sender, response) = stream::channel(hijack::content_type(selection.tty, request.version));
    // A client that goes away needs no more of it.
    tokio::spawn(async move { drop(selection.send(reader, &sender).await) });
    Ok(response)
}
