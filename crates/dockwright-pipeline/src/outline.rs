//! The keys and items of a text, found line by line: for editors, where the YAML is half typed more often than not.
//!
//! It never refuses anything. What is between the cursor and a mistake further up is still found, because indentation alone decides what
//! belongs to what. Texts of several lines are skipped; anchors and tags are stepped over.

mod flow;

use std::ops::Range;

use flow::Bracket;

use crate::keyword::shape::Step;

/// All keys and items of a text, each after the one that it belongs to.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    marks: Vec<Mark>,
}

/// A key, or an item of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Index of what it belongs to; absent: the root.
    pub parent: Option<usize>,
    pub step: Step,
    /// Bytes of the key without quotes, or where the item begins.
    pub name: Range<usize>,
    /// Bytes of its value without quotes, when that is a text on the same line.
    pub value: Option<Range<usize>>,
}

/// What is being typed at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// From the root to the value that the cursor is in.
    pub path: Vec<Step>,
    /// Where the innermost key of the path begins; absent at the root.
    pub owner: Option<usize>,
    /// What of the word is typed already, as bytes.
    pub prefix: Range<usize>,
    /// A key and its colon are before the cursor on the same line, so a block of keys cannot begin here.
    pub is_after_key: bool,
    /// It is inside of brackets or braces.
    pub is_flow: bool,
    /// It is in a text of several lines.
    pub is_text: bool,
}

impl Outline {
    /// Reads a text.
    pub fn read(text: &str) -> Self {
        Self { marks: Scanner::scan(text).marks }
    }

    /// Returns all keys and items in the order of the text.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Returns the path from the root to a mark, with its own step.
    pub fn path(&self, index: usize) -> Vec<Step> {
        path(&self.marks, Some(index))
    }

    /// Returns the indices of what belongs to a mark, or to the root.
    pub fn children(&self, parent: Option<usize>) -> impl Iterator<Item = usize> {
        self.marks.iter().enumerate().filter(move |(_, mark)| mark.parent == parent).map(|(index, _)| index)
    }

    /// Returns the last key of a name that belongs to a mark or to the root: the last definition counts.
    pub fn child(&self, parent: Option<usize>, name: &str) -> Option<usize> {
        self.children(parent).filter(|index| matches!(&self.marks[*index].step, Step::Key(key) if key == name)).last()
    }

    /// Returns the mark whose name or value is at a byte.
    pub fn at(&self, offset: usize) -> Option<usize> {
        let holds = |range: &Range<usize>| range.start <= offset && offset <= range.end;
        self.marks.iter().rposition(|mark| holds(&mark.name) || mark.value.as_ref().is_some_and(holds))
    }
}

impl Cursor {
    /// Says what is being typed at a byte of a text; nothing in a comment.
    pub fn at(text: &str, offset: usize) -> Option<Self> {
        let before = text.get(..offset)?;
        let scanner = Scanner::scan(before);
        if scanner.is_comment {
            return None;
        }
        let (owner, is_item) = scanner.open_mark();
        let mut path = path(&scanner.marks, owner);
        if is_item {
            path.push(Step::Item);
        }
        Some(Self {
            path,
            owner: owner.map(|index| scanner.marks[index].name.start),
            prefix: scanner.word.unwrap_or(offset)..offset,
            is_after_key: scanner.is_after_key,
            is_flow: !scanner.brackets.is_empty(),
            is_text: scanner.text_column.is_some(),
        })
    }
}

fn path(marks: &[Mark], index: Option<usize>) -> Vec<Step> {
    let chain = std::iter::successors(index, |index| marks[*index].parent);
    let mut path: Vec<Step> = chain.map(|index| marks[index].step.clone()).collect();
    path.reverse();
    path
}

/// A block collection that is open: its column, and the mark that the next deeper lines belong to.
#[derive(Debug, Clone, Copy)]
struct Frame {
    column: usize,
    mark: usize,
}

/// Reads lines; what is left at the end says where the end is.
struct Scanner<'t> {
    text: &'t str,
    marks: Vec<Mark>,
    frames: Vec<Frame>,
    brackets: Vec<Bracket>,
    /// Column of the key that the outermost bracket belongs to.
    bracket_column: usize,
    /// A text of several lines is open: lines deeper than this belong to it.
    text_column: Option<usize>,
    /// Where the word begins that ends at the end.
    word: Option<usize>,
    is_after_key: bool,
    is_comment: bool,
}

impl<'t> Scanner<'t> {
    fn scan(text: &'t str) -> Self {
        let mut scanner = Self {
            text,
            marks: Vec::new(),
            frames: Vec::new(),
            brackets: Vec::new(),
            bracket_column: 0,
            text_column: None,
            word: None,
            is_after_key: false,
            is_comment: false,
        };
        let mut start = 0;
        for line in text.split('\n') {
            scanner.line(start, start + line.trim_end_matches('\r').len());
            start += line.len() + 1;
        }
        scanner
    }

    /// Returns what the end of the text belongs to, and whether it is an item of it.
    fn open_mark(&self) -> (Option<usize>, bool) {
        match self.brackets.last() {
            Some(bracket) if bracket.is_map => (if bracket.is_after_colon { bracket.current } else { bracket.owner }, false),
            Some(bracket) => (bracket.owner, true),
            None => (self.frames.last().map(|frame| frame.mark), false),
        }
    }

    fn line(&mut self, start: usize, end: usize) {
        (self.word, self.is_after_key, self.is_comment) = (None, false, false);
        let line = &self.text[start..end];
        let column = line.len() - line.trim_start_matches([' ', '\t']).len();
        let content = &line[column..];
        if let Some(limit) = self.text_column {
            if content.is_empty() && end < self.text.len() || column > limit {
                return;
            }
            self.text_column = None;
        }
        if !self.brackets.is_empty() {
            // A line that is not deeper than the key begins something else: the bracket was never closed.
            if content.is_empty() || column > self.bracket_column || content.starts_with([']', '}']) {
                return self.flow(start + column, end, None);
            }
            self.brackets.clear();
        }
        if content.is_empty() {
            self.leave(column);
        } else if content.starts_with('#') {
            self.is_comment = true;
        } else if content.starts_with("---") {
            self.frames.clear();
        } else {
            self.block(start + column, end, column);
        }
    }

    /// Leaves what is not less deep than a column.
    fn leave(&mut self, column: usize) {
        while self.frames.last().is_some_and(|frame| frame.column >= column) {
            self.frames.pop();
        }
    }

    /// Leaves what an item at a column does not belong to: lists may stand in the column of their key.
    fn leave_for_item(&mut self, column: usize) {
        let is_over =
            |frame: &Frame, marks: &[Mark]| frame.column > column || (frame.column == column && marks[frame.mark].step == Step::Item);
        while self.frames.last().is_some_and(|frame| is_over(frame, &self.marks)) {
            self.frames.pop();
        }
    }

    fn block(&mut self, mut at: usize, end: usize, mut column: usize) {
        while is_dash(&self.text[at..end]) {
            self.leave_for_item(column);
            let mark = self.mark(Step::Item, at..at + 1, self.frames.last().map(|frame| frame.mark));
            self.frames.push(Frame { column, mark });
            let skipped = end - at - self.text[at + 1..end].trim_start().len();
            (at, column) = (at + skipped, column + skipped);
        }
        let rest = &self.text[at..end];
        match key(rest) {
            Some((name, after)) => {
                self.leave(column);
                let name = at + name.start..at + name.end;
                let step = Step::Key(self.text[name.clone()].to_owned());
                let mark = self.mark(step, name, self.frames.last().map(|frame| frame.mark));
                self.frames.push(Frame { column, mark });
                self.is_after_key = true;
                self.value(at + after, end, Some(mark), column);
            }
            None if rest.is_empty() => {}
            None => {
                self.leave(column);
                let item = self.frames.last().copied().filter(|frame| self.marks[frame.mark].step == Step::Item);
                self.value(at, end, item.map(|frame| frame.mark), item.map_or(column, |frame| frame.column));
            }
        }
    }

    /// Reads the value of a mark whose column is given.
    fn value(&mut self, at: usize, end: usize, mark: Option<usize>, column: usize) {
        let at = self.skip_properties(at, end);
        let rest = &self.text[at..end];
        match rest.chars().next() {
            None => {}
            Some('#') => self.is_comment = true,
            Some('|' | '>') => self.text_column = Some(column),
            Some('{' | '[') => {
                self.bracket_column = column;
                self.flow(at, end, mark);
            }
            Some(quote @ ('"' | '\'')) => {
                let inner = at + 1;
                let close = self.text[inner..end].find(quote).map(|length| inner + length);
                if close.is_none() {
                    self.text_column = Some(column).filter(|_| end < self.text.len());
                }
                self.scalar(inner..close.unwrap_or(end), mark);
            }
            Some(_) => {
                let comment = rest.find(" #");
                self.is_comment = comment.is_some();
                let length = comment.map_or(rest, |comment| &rest[..comment]).trim_end().len();
                self.scalar(at..at + length, mark);
            }
        }
    }

    /// Steps over blanks, anchors and tags.
    fn skip_properties(&self, mut at: usize, end: usize) -> usize {
        loop {
            at = end - self.text[at..end].trim_start().len();
            let rest = &self.text[at..end];
            match rest.find(' ').filter(|_| rest.starts_with(['&', '!'])) {
                Some(length) => at += length,
                None => return at,
            }
        }
    }

    fn scalar(&mut self, range: Range<usize>, mark: Option<usize>) {
        if range.end == self.text.len() {
            self.word = Some(range.start);
        }
        if let Some(mark) = mark {
            self.marks[mark].value = Some(range);
        }
    }

    fn mark(&mut self, step: Step, name: Range<usize>, parent: Option<usize>) -> usize {
        self.marks.push(Mark { parent, step, name, value: None });
        self.marks.len() - 1
    }
}

fn is_dash(rest: &str) -> bool {
    rest == "-" || rest.starts_with("- ")
}

/// Finds a key at the beginning of a line: the bytes of its name, and where its value begins.
fn key(rest: &str) -> Option<(Range<usize>, usize)> {
    let quote = rest.chars().next().filter(|first| ['"', '\''].contains(first));
    let (name, colon) = match quote {
        Some(quote) => {
            let close = 1 + rest[1..].find(quote)?;
            let colon = close + 1 + rest[close + 1..].len() - rest[close + 1..].trim_start().len();
            (1..close, colon)
        }
        None if rest.starts_with(['{', '[', '#', '&', '!', '|', '>']) => return None,
        None => {
            let colon = rest
                .match_indices(':')
                .map(|(at, _)| at)
                .find(|at| rest[at + 1..].is_empty() || rest[at + 1..].starts_with([' ', '\t']))?;
            (0..rest[..colon].trim_end().len(), colon)
        }
    };
    let is_key = rest[colon..].starts_with(':') && !rest[..colon].contains(" #");
    is_key.then_some((name, colon + 1))
}

#[cfg(test)]
mod tests;
