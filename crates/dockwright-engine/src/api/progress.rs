//! Progress lines as Docker clients draw them, and answers that begin with the first of them.
//!
//! As long as nothing was sent, an error is an HTTP error; afterwards it is a line of the stream, with status 200.

use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    api::{
        Response,
        stream::{self, Disconnected, Sender},
    },
    broker::{Amount, Progress, progress_channel},
    error::{EngineError, Result},
};

/// Width of the bar in the ready-made text.
const BAR_CHARACTERS: u64 = 50;

/// A line of a stream of progress.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    status: &'a str,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    detail: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
}

/// Shapes a line. Lines about a layer have `progressDetail`, if only an empty one, as Docker's have.
pub(super) fn line(progress: &Progress) -> Line<'_> {
    let (detail, bar) = match progress.amount {
        Some(Amount { current_bytes, total_bytes }) => {
            let total = total_bytes.unwrap_or(0);
            let detail = if total > 0 { json!({"current": current_bytes, "total": total}) } else { json!({"current": current_bytes}) };
            (Some(detail), Some(bar(current_bytes, total)))
        }
        None => ((!progress.id.is_empty()).then(|| json!({})), None),
    };
    Line { status: &progress.status, detail, progress: bar, id: &progress.id }
}

/// The text that simple clients print: `[=====>      ]  1.2MB/3.4MB`.
fn bar(current: u64, total: u64) -> String {
    if total == 0 {
        return human_size(current);
    }
    let filled = (current.min(total) * BAR_CHARACTERS / total) as usize;
    let width = BAR_CHARACTERS as usize;
    let head = if filled < width { ">" } else { "" };
    let empty = width.saturating_sub(filled + head.len());
    let amounts = if current == total { human_size(total) } else { format!("{}/{}", human_size(current), human_size(total)) };
    format!("[{}{head}{}]  {amounts}", "=".repeat(filled), " ".repeat(empty))
}

/// Bytes in decimal units with four digits, as Docker writes them.
pub(super) fn human_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1000.0 {
        let Some(next) = units.next() else { break };
        value /= 1000.0;
        unit = next;
    }
    let digits = if value >= 1000.0 {
        0
    } else if value >= 100.0 {
        1
    } else if value >= 10.0 {
        2
    } else {
        3
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Sends an error into a stream that has begun.
pub(super) async fn send_error(sender: &Sender, error: &EngineError) -> Result<(), Disconnected> {
    sender.send_json(&json!({"errorDetail": {"message": error.message}, "error": error.message})).await
}

/// Runs an operation that tells its progress and answers with a stream: its progress, then what `conclude` makes of its result. An
/// operation that fails before it told anything fails as a whole. It ends when the client goes.
pub(super) async fn answer<T, F>(
    operation: impl FnOnce(mpsc::Sender<Progress>) -> F,
    conclude: impl FnOnce(T) -> Vec<serde_json::Value> + Send + 'static,
) -> Result<Response>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let (told, mut lines) = progress_channel();
    let mut running = tokio::spawn(operation(told));
    let abort = AbortOnDrop(running.abort_handle());
    // The channel closes with the operation.
    let first = lines.recv().await;
    if first.is_none() {
        let value = joined(running.await)?;
        return Ok(whole(conclude(value)));
    }
    let (sender, response) = stream::channel("application/json");
    tokio::spawn(async move {
        let _abort = abort;
        let forward = async {
            let mut next = first;
            while let Some(progress) = next {
                sender.send_json(&line(&progress)).await?;
                next = lines.recv().await;
            }
            match joined((&mut running).await) {
                Ok(value) => {
                    for last in conclude(value) {
                        sender.send_json(&last).await?;
                    }
                    Ok(())
                }
                Err(error) => send_error(&sender, &error).await,
            }
        };
        tokio::select! {
            _ = forward => {}
            () = sender.closed() => {}
        }
    });
    Ok(response)
}

fn joined<T>(outcome: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    outcome.unwrap_or_else(|error| Err(EngineError::internal("the operation ended early", &error)))
}

fn whole(lines: Vec<serde_json::Value>) -> Response {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.to_string());
        text.push_str("\r\n");
    }
    stream::full(http::StatusCode::OK, "application/json", text)
}

/// Ends a task that nobody waits for any more.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, expected) in
            [(0, "0B"), (999, "999B"), (1_000, "1kB"), (1_234_567, "1.235MB"), (65_536, "65.54kB"), (2_000_000_000, "2GB")]
        {
            assert_eq!(human_size(bytes), expected);
        }
    }

    #[test]
    fn a_line_about_a_layer_has_details() {
        let line_of = |amount| {
            let progress = Progress { id: "abc".into(), status: "Downloading".into(), amount };
            serde_json::to_string(&line(&progress)).expect("JSON")
        };
        assert_eq!(line_of(None), r#"{"status":"Downloading","progressDetail":{},"id":"abc"}"#);
        let half = line_of(Some(Amount { current_bytes: 500, total_bytes: Some(1000) }));
        assert!(half.contains(r#""progressDetail":{"current":500,"total":1000}"#), "{half}");
        assert!(half.contains("[=========================>                        ]  500B/1kB"), "{half}");
        let plain = Progress { id: String::new(), status: "Digest: x".into(), amount: None };
        assert_eq!(serde_json::to_string(&line(&plain)).expect("JSON"), r#"{"status":"Digest: x"}"#);
    }
}
