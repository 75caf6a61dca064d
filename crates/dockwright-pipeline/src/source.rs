//! Configuration files and places in them.

use std::ops::Range;

/// One configuration file among [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

/// A range of bytes of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub source: SourceId,
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// Returns the range as indices into the file's text.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Line and column as people count them, from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// A configuration file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Path as the user writes it, relative to the repository's root.
    pub name: String,
    pub text: String,
    /// Where another file includes it; absent for the configuration itself.
    pub included_at: Option<Span>,
}

/// All files that took part in a configuration, in the order they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Adds a file.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        self.push(Source { name: name.into(), text: text.into(), included_at: None })
    }

    /// Adds a file that another one includes.
    pub fn add_included(&mut self, name: impl Into<String>, text: impl Into<String>, included_at: Span) -> SourceId {
        self.push(Source { name: name.into(), text: text.into(), included_at: Some(included_at) })
    }

    fn push(&mut self, source: Source) -> SourceId {
        let id = SourceId(u32::try_from(self.files.len()).expect("the include limit is far below 2^32"));
        self.files.push(source);
        id
    }

    /// Returns the places through which a file came in, the nearest first; none for the configuration itself.
    pub fn include_chain(&self, id: SourceId) -> Vec<Span> {
        std::iter::successors(self.get(id).included_at, |span| self.get(span.source).included_at).collect()
    }

    /// Returns the file that `id` names.
    pub fn get(&self, id: SourceId) -> &Source {
        &self.files[id.0 as usize]
    }

    /// Returns all files.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.files.iter()
    }

    /// Returns the text at a span.
    pub fn slice(&self, span: Span) -> &str {
        self.get(span.source).text.get(span.range()).unwrap_or_default()
    }

    /// Returns where a span starts.
    pub fn position(&self, span: Span) -> Position {
        self.position_of(span.source, span.start)
    }

    /// Returns the position after a span's last character.
    pub fn end_position(&self, span: Span) -> Position {
        self.position_of(span.source, span.end)
    }

    fn position_of(&self, source: SourceId, offset: u32) -> Position {
        let text = &self.get(source).text;
        let before = text.get(..offset as usize).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}
