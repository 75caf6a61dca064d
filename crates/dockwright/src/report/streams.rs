//! The two standard streams, and what may be written to them.
//!
//! Colour is decided per stream by `--color`, then NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM; `anstream` strips escape sequences,
//! those of jobs included, from a stream that has none. A reader that went away (`dockwright list | head`) is not an error.

use std::io::{self, IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use dockwright_pipeline::{Diagnostic, Sources, render};

use crate::{cli::ColorChoice, environment, error::ErrorParts};

pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const HINT: Style = AnsiColor::Cyan.on_default().bold();
pub(crate) const SUCCESS: Style = AnsiColor::Green.on_default();
pub(crate) const FAILURE: Style = AnsiColor::Red.on_default();
pub(crate) const FAINT: Style = Style::new().dimmed();

/// What the standard streams are connected to, asked once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Streams {
    output_is_terminal: bool,
    errors_are_terminal: bool,
    /// False in CI and on terminals that cannot move the cursor.
    redraw: bool,
}

impl Streams {
    /// Looks at the process's streams and sets the colour choice for both.
    pub(crate) fn open(color: ColorChoice) -> Self {
        match color {
            ColorChoice::Auto => anstream::ColorChoice::Auto,
            ColorChoice::Always => anstream::ColorChoice::Always,
            ColorChoice::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        let dumb = environment::read("TERM").is_none_or(|term| term == "dumb");
        Self {
            output_is_terminal: io::stdout().is_terminal(),
            errors_are_terminal: io::stderr().is_terminal(),
            redraw: !dumb && !environment::in_ci(),
        }
    }

    /// Streams of a program in a pipe.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { output_is_terminal: false, errors_are_terminal: false, redraw: false }
    }

    pub(crate) fn can_redraw(&self) -> bool {
        self.output_is_terminal && self.errors_are_terminal && self.redraw
    }

    /// Writes one line of data.
    pub(crate) fn data(&self, line: impl AsRef<str>) {
        let _ = writeln!(anstream::stdout().lock(), "{}", line.as_ref());
    }

    /// Writes one JSON document.
    pub(crate) fn json(&self, document: &impl serde::Serialize) {
        let mut text = serde_json::to_vec_pretty(document).expect("documents hold only strings, numbers and lists");
        text.push(b'\n');
        self.raw_data(&text);
    }

    /// Writes data as it is, flushed.
    pub(crate) fn raw_data(&self, bytes: &[u8]) {
        let mut output = io::stdout().lock();
        let _ = output.write_all(bytes).and_then(|()| output.flush());
    }

    /// Writes one line for the person who watches.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        let _ = writeln!(anstream::stderr().lock(), "{}", line.as_ref());
    }
}

/// Prints an error with its causes and its hint.
pub(crate) fn print_error(error: &ErrorParts) {
    let mut stderr = anstream::stderr().lock();
    let _ = writeln!(stderr, "{ERROR}error:{ERROR:#} {}", indent_continuation(&error.message, "       "));
    for cause in &error.causes {
        let _ = writeln!(stderr, "  caused by: {}", indent_continuation(cause, "    "));
    }
    if let Some(hint) = &error.hint {
        let _ = writeln!(stderr, "{HINT}hint:{HINT:#} {}", indent_continuation(hint, "      "));
    }
}

/// Prints a remark that does not end the command.
pub(crate) fn print_warning(message: &str, hint: Option<&str>) {
    let mut stderr = anstream::stderr().lock();
    let _ = writeln!(stderr, "{WARNING}warning:{WARNING:#} {}", indent_continuation(message, "         "));
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "{HINT}hint:{HINT:#} {}", indent_continuation(hint, "      "));
    }
}

/// Prints a problem of a configuration with the line it is about.
pub(crate) fn print_problem(problem: &Diagnostic, sources: &Sources) {
    let coloured = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let style = if coloured { dockwright_pipeline::Style::Coloured } else { dockwright_pipeline::Style::Plain };
    let _ = writeln!(anstream::stderr().lock(), "{}\n", render(problem, sources, style));
}

fn indent_continuation(text: &str, indent: &str) -> String {
    text.trim_end().replace('\n', &format!("\n{indent}"))
}
