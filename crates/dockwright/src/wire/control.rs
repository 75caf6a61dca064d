//! What `dockwright run` and its engine host say to each other.
//!
//! JSON, one message a line, over the socket that is the engine host's standard input. The host's first line is [`FromHost::Ready`] or
//! [`FromHost::CannotStart`]; then each [`Call`] gets one [`FromHost::Answer`] of the same number, in any order, and events come in
//! between. The end of the stream is the order to stop: also when `dockwright run` was killed, nothing stays.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Longest line; an answer holds an address or an error.
pub(crate) const MAX_LINE_BYTES: usize = 256 * 1024;

/// The first line to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    /// Where the store and the engines' directories are.
    pub(crate) home: PathBuf,
}

/// A numbered request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) request: Request,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Start an engine. Answered when it listens.
    Acquire(EngineOrder),
    /// End an engine, or give up its start. Answered when nothing of it runs.
    Release { engine: String },
    /// Let somebody use the embedded registry who has no engine.
    Allow(RegistryGrant),
    /// Listen with the embedded registry on a port of this machine, for a Docker that somebody else runs.
    ListenRegistry,
}

/// An engine for a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EngineOrder {
    /// Names the engine in file names: letters, digits, dashes.
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) protected: bool,
    pub(crate) credentials: Vec<Login>,
    pub(crate) shared_paths: Vec<PathBuf>,
    /// What the job may do at the embedded registry.
    pub(crate) registry: Option<RegistryGrant>,
}

/// Access to a registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) host: String,
    pub(crate) username: String,
    pub(crate) password: String,
}

/// The password does not print.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.username, self.host)
    }
}

/// Whoever has this password may pull and push the repositories of one project.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegistryGrant {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) project: String,
}

/// The password does not print.
impl std::fmt::Debug for RegistryGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} for {}", self.username, self.project)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromHost {
    Ready,
    /// This machine cannot be an engine host.
    CannotStart(Problem),
    Answer {
        number: u64,
        answer: Answer,
    },
    /// An engine pushed to the embedded registry.
    ImagePushed {
        reference: String,
        digest: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// An engine listens at `endpoint`, `unix:///path`.
    Engine {
        engine: String,
        endpoint: String,
        /// Why its containers have no way out of this machine, if they have none.
        no_network: Option<Problem>,
    },
    /// The registry listens at `host:port`.
    Registry {
        address: String,
    },
    Done,
    Failed(Problem),
}

/// An error that crossed the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.text())]
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) causes: Vec<String>,
    pub(crate) remedy: Option<String>,
}

impl Problem {
    /// Takes an error with its chain of causes.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string).collect();
        Self { message: error.to_string(), causes, remedy: None }
    }

    /// Returns it in one line, with what to do about it.
    pub(crate) fn with_remedy(&self) -> String {
        let remedy = self.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        format!("{self}{remedy}")
    }

    fn text(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect::<Vec<_>>().join(": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_crosses_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("open the store")]
        struct Outer(#[source] std::io::Error);
        let problem = Problem::of(&Outer(std::io::Error::other("disk on fire")));
        let line = serde_json::to_string(&FromHost::CannotStart(problem)).expect("serializes");
        let Ok(FromHost::CannotStart(back)) = serde_json::from_str(&line) else { panic!("{line}") };
        assert_eq!(back.to_string(), "open the store: disk on fire");
    }

    #[test]
    fn passwords_do_not_print() {
        let secret = || "rosebud".to_owned();
        let order = EngineOrder {
            name: "j1".into(),
            project: "p".into(),
            protected: false,
            credentials: vec![Login { host: "h".into(), username: "u".into(), password: secret() }],
            shared_paths: Vec::new(),
            registry: Some(RegistryGrant { username: "u".into(), password: secret(), project: "p".into() }),
        };
        assert!(!format!("{order:?}").contains(&secret()));
    }
}
