//! From the text of a Dockerfile to its instructions' words: directives, comments, continuations, flags, here-documents.
//!
//! The parser knows which keywords take here-documents and nothing else about them; meaning is given by
//! [`instruction`](super::instruction). Each byte is looked at a bounded number of times.

mod words;

use std::ops::RangeInclusive;

pub use words::split_words;

use super::ParseError;

/// Longest line, in bytes. Docker has the same limit.
const MAX_LINE_BYTES: usize = 65_535;

/// A parsed file, not yet understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    pub directives: Directives,
    pub nodes: Vec<Node>,
    /// `[Warning]` texts about blank continuation lines.
    pub warnings: Vec<String>,
}

/// The `# name=value` lines at the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `\` or a backtick.
    pub escape: char,
    /// The frontend image of `# syntax=`.
    pub syntax: Option<String>,
    pub check: Option<String>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Lower case.
    pub keyword: String,
    /// `--name` and `--name=value` words, quotes removed.
    pub flags: Vec<String>,
    /// What follows keyword and flags, trimmed.
    pub text: String,
    /// The whole instruction on one line, as `Step 1/3 :` shows it.
    pub original: String,
    pub heredocs: Vec<Heredoc>,
    pub lines: RangeInclusive<usize>,
}

/// A here-document of a RUN, COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes; also the name of the file that COPY makes.
    pub name: String,
    /// The word as written, such as `3<<-"EOF"`.
    pub word: String,
    pub descriptor: u32,
    pub expand: bool,
    pub strip_tabs: bool,
    /// With line ends.
    pub body: String,
}

/// Splits a file into instructions.
pub fn parse(text: &str) -> Result<Syntax, ParseError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Lines::new(text);
    let directives = read_directives(&mut lines)?;
    let mut reader = Reader { lines, escape: directives.escape, warnings: Vec::new() };
    let mut nodes = Vec::new();
    while let Some(node) = reader.next_node()? {
        nodes.push(node);
    }
    if nodes.is_empty() {
        return Err(ParseError::whole_file("file with no instructions").help("a Dockerfile starts with `FROM <image>`"));
    }
    Ok(Syntax { directives, nodes, warnings: reader.warnings })
}

/// Reads one instruction from text of its own, as stored by ONBUILD.
pub fn parse_one(text: &str, escape: char) -> Result<Node, ParseError> {
    let mut reader = Reader { lines: Lines::new(text), escape, warnings: Vec::new() };
    reader.next_node()?.ok_or_else(|| ParseError::whole_file("ONBUILD requires at least one argument"))
}

/// Lines with their numbers, counted from 1, line ends included.
#[derive(Clone)]
struct Lines<'t> {
    rest: &'t str,
    number: usize,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        Self { rest: text, number: 0 }
    }

    fn next(&mut self) -> Result<Option<&'t str>, ParseError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.number += 1;
        if line.len() > MAX_LINE_BYTES {
            let help = "move long texts into a file of the build context";
            return Err(ParseError::at_line(self.number, format!("line is longer than {MAX_LINE_BYTES} bytes")).help(help));
        }
        Ok(Some(line))
    }
}

fn read_directives(lines: &mut Lines<'_>) -> Result<Directives, ParseError> {
    let mut directives = Directives { escape: '\\', syntax: None, check: None };
    let mut escape_seen = false;
    loop {
        let mut ahead = lines.clone();
        let Some(line) = ahead.next()? else { return Ok(directives) };
        let line = line.trim();
        if ahead.number == 1 && line.starts_with("#!") {
            *lines = ahead;
            continue;
        }
        let Some((name, value)) = directive(line) else { return Ok(directives) };
        let seen = match name.as_str() {
            "syntax" => directives.syntax.replace(value.to_owned()).is_some(),
            "check" => directives.check.replace(value.to_owned()).is_some(),
            "escape" => {
                directives.escape = escape_character(ahead.number, value)?;
                std::mem::replace(&mut escape_seen, true)
            }
            _ => return Ok(directives),
        };
        if seen {
            return Err(ParseError::at_line(ahead.number, format!("only one {name} parser directive can be used")));
        }
        *lines = ahead;
    }
}

fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let name = name.trim();
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric());
    valid.then(|| (name.to_ascii_lowercase(), value.trim()))
}

fn escape_character(line: usize, value: &str) -> Result<char, ParseError> {
    match value {
        "\\" => Ok('\\'),
        "`" => Ok('`'),
        _ => Err(ParseError::at_line(line, format!("invalid escape token '{value}' does not match ` or \\")).about(value)),
    }
}

struct Reader<'t> {
    lines: Lines<'t>,
    escape: char,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn next_node(&mut self) -> Result<Option<Node>, ParseError> {
        loop {
            let Some(line) = self.lines.next()? else { return Ok(None) };
            let line = line.trim_end_matches(['\r', '\n']).trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let first_line = self.lines.number;
            let text = self.join_continuations(line)?;
            if text.trim().is_empty() {
                continue;
            }
            return self.read_node(text, first_line).map(Some);
        }
    }

    /// Puts a continued instruction on one line.
    fn join_continuations(&mut self, first: &str) -> Result<String, ParseError> {
        let start = self.lines.number;
        let (kept, mut continues) = self.strip_continuation(first);
        let mut text = kept.to_owned();
        let mut blank_line_seen = false;
        while continues {
            let Some(line) = self.lines.next()? else { break };
            let line = line.trim_end_matches(['\r', '\n']);
            if line.trim_start().starts_with('#') {
                continue;
            }
            if line.trim().is_empty() {
                blank_line_seen = true;
                continue;
            }
            let (kept, more) = self.strip_continuation(line);
            text.push_str(kept);
            continues = more;
        }
        if blank_line_seen {
            self.warnings.push(format!("Empty continuation line in the instruction that starts in line {start}"));
        }
        Ok(text)
    }

    /// Returns the line without a final escape character, and whether it had one. Two of them are none.
    fn strip_continuation<'l>(&self, line: &'l str) -> (&'l str, bool) {
        match line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) {
            Some(kept) if !kept.ends_with(self.escape) => (kept, true),
            _ => (line, false),
        }
    }

    fn read_node(&mut self, original: String, first_line: usize) -> Result<Node, ParseError> {
        let blank = |character: char| matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ');
        let (keyword, rest) = original.split_once(blank).unwrap_or((&original, ""));
        let keyword = keyword.to_lowercase();
        let (flags, text) = words::take_flags(rest.trim(), self.escape);
        let text = text.trim().to_owned();
        let heredocs = if takes_heredocs(&keyword, &text) { self.read_heredocs(&text, first_line)? } else { Vec::new() };
        Ok(Node { keyword, flags, text, heredocs, lines: first_line..=self.lines.number, original })
    }

    fn read_heredocs(&mut self, text: &str, first_line: usize) -> Result<Vec<Heredoc>, ParseError> {
        let mut heredocs = Vec::new();
        for word in split_words(text, self.escape) {
            let Some(start) = words::heredoc_start(&word) else { continue };
            let body = self.read_body(&start, first_line)?;
            heredocs.push(Heredoc { body, ..start });
        }
        Ok(heredocs)
    }

    fn read_body(&mut self, start: &Heredoc, first_line: usize) -> Result<String, ParseError> {
        let mut body = String::new();
        while let Some(line) = self.lines.next()? {
            let line = if start.strip_tabs { line.trim_start_matches('\t') } else { line };
            if line.trim_end_matches(['\r', '\n']) == start.name {
                return Ok(body);
            }
            body.push_str(line);
        }
        let help = format!("end it with a line that is exactly `{}`", start.name);
        Err(ParseError::at_line(first_line, "unterminated heredoc").about(&start.word).help(help))
    }
}

/// Whether `<<` means something: in RUN, COPY and ADD, also as triggers, unless the arguments are JSON.
fn takes_heredocs(keyword: &str, text: &str) -> bool {
    match keyword {
        "run" | "copy" | "add" => json_strings(text).is_none(),
        "onbuild" => {
            let (trigger, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            !trigger.eq_ignore_ascii_case("onbuild") && takes_heredocs(&trigger.to_lowercase(), rest.trim())
        }
        _ => false,
    }
}

/// Reads a JSON array of strings; `None` when it is not a JSON array at all, an error when it holds something else.
pub fn json_strings(text: &str) -> Option<Result<Vec<String>, NotStrings>> {
    if !text.starts_with('[') {
        return None;
    }
    let values: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(NotStrings),
    });
    Some(strings.collect())
}

/// A JSON array that holds something other than strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotStrings;

#[cfg(test)]
mod tests;
