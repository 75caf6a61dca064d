//! Questions to whoever registers a runner.

use std::io::{self, BufRead as _, Write as _};

use crate::{error::CommandError, report::Streams};

/// Asks for what was not given, or does not.
pub(super) struct Prompt {
    asks: bool,
    streams: Streams,
}

impl Prompt {
    pub(super) fn new(asks: bool, streams: Streams) -> Self {
        Self { asks, streams }
    }

    /// Tells whether somebody answers.
    pub(super) fn asks(&self) -> bool {
        self.asks
    }

    /// Returns a value. What is known already is shown, and taken when the answer is empty.
    pub(super) fn text(&mut self, flag: &str, question: &str, known: String, may_be_empty: bool) -> Result<String, CommandError> {
        if !self.asks {
            if known.is_empty() && !may_be_empty {
                return Err(CommandError::usage(format!("The {flag} needs to be entered")).hint(format!("give it with --{flag}")));
            }
            return Ok(known);
        }
        loop {
            self.streams.raw_data(format!("{question}:\n[{known}]: ").as_bytes());
            let answer = read_line()?;
            let answer = if answer.is_empty() { known.clone() } else { answer };
            if !answer.is_empty() || may_be_empty {
                return Ok(answer);
            }
        }
    }
}

fn read_line() -> Result<String, CommandError> {
    let mut line = String::new();
    let _ = io::stdout().flush();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) | Err(_) => Err(CommandError::usage("nobody answers: standard input has ended").hint("--non-interactive asks nothing")),
        Ok(_) => Ok(line.trim().to_owned()),
    }
}
