//! What is wrong, or suspicious, in a configuration.

use crate::source::Span;

/// How bad a problem is. An error keeps the pipeline from running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Warning,
    Error,
}

/// A place that adds to a problem, with a few words about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub span: Span,
    pub text: String,
}

/// One problem: a message of one line that stands alone, the narrowest place, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable name in kebab case.
    pub code: &'static str,
    pub severity: Severity,
    pub message: String,
    /// Absent when the problem belongs to no place, such as a file that does not exist.
    pub span: Option<Span>,
    pub notes: Vec<Note>,
    pub help: Vec<String>,
}

impl Diagnostic {
    /// Makes a problem that keeps the pipeline from running.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message.into())
    }

    /// Makes a problem that is worth a look.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message.into())
    }

    fn new(code: &'static str, severity: Severity, message: String) -> Self {
        Self { code, severity, message, span: None, notes: Vec::new(), help: Vec::new() }
    }

    /// Sets the place to underline.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.notes.push(Note { span, text: text.into() });
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds advice when there is some.
    #[must_use]
    pub fn help_if(mut self, text: Option<String>) -> Self {
        self.help.extend(text);
        self
    }

    /// Tells whether the pipeline cannot run because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Tells whether any problem keeps the pipeline from running.
pub fn has_errors(problems: &[Diagnostic]) -> bool {
    problems.iter().any(Diagnostic::is_error)
}
