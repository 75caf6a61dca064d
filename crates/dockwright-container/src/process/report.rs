//! What a clone of PID 1 tells it before it becomes something else.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use serde::{Deserialize, Serialize};

use crate::{
    socket::{SocketError, send_with_fds},
    spawner::{ErrorKind, Failure},
};

/// Why something cannot be done, with the text that the Docker API shows.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub kind: ErrorKind,
    pub message: String,
}

impl Refusal {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::NotFound, message: message.into() }
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Conflict, message: message.into() }
    }

    pub(crate) fn exec(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Exec, message: message.into() }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { kind: refusal.kind, message: refusal.message }
    }
}

/// Says what was being done when a system call failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Refusal>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Refusal> {
        self.map_err(|error| Refusal { kind: ErrorKind::System, message: format!("{}: {}", what(), describe(&error.into())) })
    }
}

/// Returns an error's text in the words of C libraries, which is what users of Docker search for.
pub(crate) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = plain.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// A message of a clone.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Descriptors for the engine: the terminal first, if there is one, then sockets or a tree.
    Opened { terminal: bool },
    /// It failed and ends.
    Failed(Failure),
}

/// A clone's end of its socket. It closes on exec, which is how PID 1 learns of that.
pub(crate) struct Reporter {
    socket: OwnedFd,
}

impl Reporter {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    pub(crate) fn opened(&self, terminal: bool, descriptors: &[BorrowedFd<'_>]) -> Result<(), Refusal> {
        self.send(&Report::Opened { terminal }, descriptors).map_err(io::Error::other).doing(|| "report to the sandbox".to_owned())
    }

    /// Reports the outcome of a clone that executes nothing.
    pub(crate) fn finish(self, outcome: Result<Vec<OwnedFd>, Refusal>) {
        match outcome {
            Ok(descriptors) => {
                let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
                // If PID 1 is gone, so is this process in a moment.
                let _ = self.send(&Report::Opened { terminal: false }, &descriptors);
            }
            Err(refusal) => self.failed(refusal),
        }
    }

    pub(crate) fn failed(self, refusal: Refusal) {
        // As above.
        let _ = self.send(&Report::Failed(refusal.into()), &[]);
    }

    fn send(&self, report: &Report, descriptors: &[BorrowedFd<'_>]) -> Result<(), SocketError> {
        let body = serde_json::to_vec(report).expect("reports hold only what JSON can say");
        send_with_fds(&self.socket, &body, descriptors)
    }
}
