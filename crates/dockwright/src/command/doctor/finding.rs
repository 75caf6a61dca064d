//! One thing that `doctor` looked at.

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Good,
    /// Something works less well than it could.
    Remark,
    /// Jobs cannot run, or not with containers.
    Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at, in kebab case; stable.
    pub(super) check: &'static str,
    pub(super) status: Status,
    pub(super) message: String,
    /// The command, or the words, that mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn good(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, status: Status::Good, message: message.into(), remedy: None }
    }

    pub(super) fn remark(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, status: Status::Remark, message: message.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn problem(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, status: Status::Problem, message: message.into(), remedy: Some(remedy.into()) }
    }
}
