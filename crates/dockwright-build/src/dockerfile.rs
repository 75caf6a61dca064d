//! The Dockerfile language: text in, stages of typed instructions out. No I/O.
//!
//! Variables are not replaced here, because their values are known only when the instruction runs; see [`lexer`].

pub mod change;
pub mod instruction;
pub mod lexer;
pub mod parser;
mod suggest;

use std::fmt;

pub use instruction::{Dockerfile, Instruction, Stage, Step};

/// Why a file is not a Dockerfile. `Display` is the one-line message that Docker clients show; [`ParseError::render`] adds the place and
/// the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    line: Option<usize>,
    message: String,
    about: Option<String>,
    help: Option<String>,
}

impl ParseError {
    pub(crate) fn at_line(line: usize, message: impl Into<String>) -> Self {
        Self { line: Some(line), ..Self::whole_file(message) }
    }

    pub(crate) fn whole_file(message: impl Into<String>) -> Self {
        Self { line: None, message: message.into(), about: None, help: None }
    }

    /// Names the word that the message is about, to be underlined.
    pub(crate) fn about(mut self, word: &str) -> Self {
        self.about = Some(word.to_owned());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The number of the line, counted from 1.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Returns message, source line with the place underlined, and remedy.
    pub fn render(&self, file_name: &str, source: &str) -> String {
        let mut text = format!("error: {self}\n");
        let place = self.line.and_then(|line| self.locate(line, source));
        if let Some((number, line, column, length)) = place {
            let margin = " ".repeat(number.to_string().len());
            let indent: String = line.chars().take(column).map(|character| if character == '\t' { '\t' } else { ' ' }).collect();
            let carets = "^".repeat(length.max(1));
            text.extend([
                format!("{margin}--> {file_name}:{number}:{}\n", column + 1),
                format!("{margin} |\n{number} | {line}\n{margin} | {indent}{carets}\n"),
            ]);
        }
        text.extend(self.help.iter().map(|help| format!("hint: {help}\n")));
        text
    }

    /// Finds the word in the instruction's lines: number, text, and the place in characters.
    fn locate<'s>(&self, first: usize, source: &'s str) -> Option<(usize, &'s str, usize, usize)> {
        let lines = || source.lines().enumerate().skip(first - 1).map(|(index, line)| (index + 1, line));
        if let Some(word) = self.about.as_deref().filter(|word| !word.is_empty()) {
            // An instruction of more lines than this is underlined at its start.
            const LINES_SEARCHED: usize = 50;
            let found = lines().take(LINES_SEARCHED).find_map(|(number, line)| {
                let at = line.find(word)?;
                Some((number, line, line[..at].chars().count(), word.chars().count()))
            });
            if found.is_some() {
                return found;
            }
        }
        let (number, line) = lines().next()?;
        let column = line.chars().take_while(|character| character.is_whitespace()).count();
        Some((number, line, column, line.trim().chars().count()))
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "dockerfile parse error line {line}: {}", self.message),
            None => formatter.write_str(&self.message),
        }
    }
}

impl std::error::Error for ParseError {}
