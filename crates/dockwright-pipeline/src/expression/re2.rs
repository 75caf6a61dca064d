//! From a pattern in RE2's syntax to one that the `regex` crate reads alike.
//!
//! Both have the same heritage, so most of a pattern is passed on. What one of them refuses or reads differently is decided here, after
//! RE2's syntax page (<https://github.com/google/re2/wiki/Syntax>) and what its parser does: classes are ASCII only, `{` is a character
//! unless it begins a count, a count goes to 1000 also when counts are nested, and one thing is repeated once. Groups, alternatives and
//! ranges are left to the crate to check.

mod class;
mod escape;

use escape::Escape;

/// Largest count of a repetition, and largest product of counts that are nested.
const MAX_REPEAT: u32 = 1000;

/// Reads a pattern from left to right.
struct Translation<'p> {
    rest: &'p str,
    output: String,
    /// One for each open group, the whole pattern first.
    groups: Vec<Group>,
    /// What a repetition would repeat.
    last: Last,
}

/// A group, or what was read of it.
#[derive(Default)]
struct Group {
    /// Largest product of nested counts in it.
    largest: u32,
}

/// What stands before the place that is read.
enum Last {
    /// Nothing that can be repeated; the `regex` crate says so.
    Nothing,
    /// Something that repeats what is in it at most so often.
    Item(u32),
    /// Something with its repetition.
    Repeated,
}

/// Rewrites a pattern. Errors are in RE2's words.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut translation =
        Translation { rest: pattern, output: String::with_capacity(pattern.len()), groups: vec![Group::default()], last: Last::Nothing };
    while let Some(next) = translation.rest.chars().next() {
        translation.step(next)?;
    }
    Ok(translation.output)
}

impl Translation<'_> {
    fn step(&mut self, next: char) -> Result<(), String> {
        match next {
            '\\' => self.escaped()?,
            '[' => {
                let (class, rest) = class::translate(self.rest)?;
                self.output.push_str(&class);
                self.rest = rest;
                self.item(1);
            }
            '(' => self.open()?,
            ')' => {
                self.take(1);
                let group = if self.groups.len() > 1 { self.groups.pop() } else { None };
                self.item(group.map_or(1, |group| group.largest.max(1)));
            }
            '|' => {
                self.take(1);
                self.last = Last::Nothing;
            }
            '*' | '+' | '?' => self.repeat(1, 1)?,
            '{' => match count(self.rest) {
                Some(count) => self.repeat(count.length, count.largest)?,
                None => self.literal('{', 1),
            },
            next => {
                let length = next.len_utf8();
                self.take(length);
                self.item(1);
            }
        }
        Ok(())
    }

    /// Passes some bytes on.
    fn take(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at(length);
        self.output.push_str(taken);
        self.rest = rest;
    }

    /// Writes a character that took so many bytes of the pattern.
    fn literal(&mut self, character: char, length: usize) {
        self.output.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])));
        self.rest = &self.rest[length..];
        self.item(1);
    }

    fn item(&mut self, largest: u32) {
        let group = self.groups.last_mut().expect("the whole pattern is a group");
        group.largest = group.largest.max(largest);
        self.last = Last::Item(largest);
    }

    fn escaped(&mut self) -> Result<(), String> {
        if let Some(quoted) = self.rest.strip_prefix("\\Q") {
            let (text, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            self.rest = rest;
            self.output.push_str(&regex::escape(text));
            if !text.is_empty() {
                self.item(1);
            }
            return Ok(());
        }
        let (escape, length) = escape::read(self.rest)?;
        match escape {
            Escape::Literal(character) => self.literal(character, length),
            Escape::Class(class) => {
                self.output.push_str(&class);
                self.rest = &self.rest[length..];
                self.item(1);
            }
            Escape::Assertion(assertion) => {
                self.output.push_str(assertion);
                self.rest = &self.rest[length..];
                self.item(1);
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), String> {
        let length = match self.rest.strip_prefix("(?") {
            Some(special) if special.starts_with('<') || special.starts_with("P<") => {
                self.rest.find('>').map_or(self.rest.len(), |end| end + 1)
            }
            Some(special) => {
                let end = special.find([':', ')']).ok_or_else(|| format!("missing ): {}", self.rest))?;
                let flags = &special[..end];
                if !flags.chars().all(|flag| "imsU-".contains(flag)) {
                    return Err(format!("invalid perl operator: (?{flags}"));
                }
                // Flags for the rest of the group that they stand in are no group themselves.
                if special[end..].starts_with(')') {
                    self.take("(?".len() + end + 1);
                    self.last = Last::Nothing;
                    return Ok(());
                }
                "(?".len() + end + 1
            }
            None => 1,
        };
        self.take(length);
        self.groups.push(Group::default());
        self.last = Last::Nothing;
        Ok(())
    }

    /// Passes a repetition of so many bytes on, and a `?` after it.
    fn repeat(&mut self, length: usize, count: u32) -> Result<(), String> {
        let written = &self.rest[..length];
        let inner = match self.last {
            Last::Repeated => return Err(format!("bad repetition operator: {written}")),
            Last::Nothing => 1,
            Last::Item(largest) => largest,
        };
        let largest = inner.saturating_mul(count.max(1));
        if count > MAX_REPEAT || largest > MAX_REPEAT {
            return Err(format!("invalid repetition size: {written}"));
        }
        let is_lazy = self.rest[length..].starts_with('?');
        self.take(length + usize::from(is_lazy));
        self.item(largest);
        self.last = Last::Repeated;
        Ok(())
    }
}

/// `{n}`, `{n,}` or `{n,m}`.
struct Count {
    length: usize,
    largest: u32,
}

/// Reads a count; anything else in braces is text.
fn count(text: &str) -> Option<Count> {
    let end = text.find('}')?;
    let (least, most) = text[1..end].split_once(',').unwrap_or((&text[1..end], ""));
    let is_number = |digits: &str| digits.chars().all(|digit| digit.is_ascii_digit());
    if least.is_empty() || !is_number(least) || !is_number(most) {
        return None;
    }
    // What does not fit is too large in any case.
    let number = |digits: &str| digits.parse().unwrap_or(u32::MAX);
    let largest = if most.is_empty() { number(least) } else { number(least).max(number(most)) };
    Some(Count { length: end + 1, largest })
}

#[cfg(test)]
mod tests;
