//! The shell-like expansion of Dockerfile words: variables, quotes, escapes.
//!
//! This is not a shell: there is no command substitution, no arithmetic, no globbing of files, and a backslash before a newline was
//! already handled by the parser. Expansion happens when an instruction runs, with the environment as it was *before* it.
//!
//! The work is linear in the text. Nested `${a:-${b:-…}}` recurses, up to [`MAX_NESTING`] levels.

mod pattern;

use std::iter::Peekable;
use std::str::Chars;

/// Levels of `${…${…}…}` that an honest file does not reach.
const MAX_NESTING: usize = 64;
/// Above the kernel's limit for one variable; `ENV A=$A$A` must not grow for ever.
const MAX_VALUE_BYTES: usize = 1 << 20;

/// Why a word could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LexError {
    #[error("unexpected end of statement while looking for matching {0}")]
    Unclosed(&'static str),
    #[error("syntax error: missing '{0}'")]
    Missing(char),
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    #[error("invalid escape '\\{0}' in pattern")]
    InvalidPattern(char),
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("pattern is too long")]
    PatternTooLong,
    #[error("value is longer than {MAX_VALUE_BYTES} bytes")]
    TooLong,
    #[error("substitutions are nested more than {MAX_NESTING} deep")]
    TooDeep,
}

/// Looks a variable up; `None` is unset.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands words with one escape character and one environment.
#[derive(Clone, Copy)]
pub struct Lexer<'a> {
    escape: char,
    lookup: Lookup<'a>,
    quotes: Quotes,
}

/// What happens to quote characters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// They group and disappear.
    Resolve,
    /// They are ordinary characters (bodies of here-documents).
    Keep,
}

impl<'a> Lexer<'a> {
    pub fn new(escape: char, lookup: Lookup<'a>) -> Self {
        Self { escape, lookup, quotes: Quotes::Resolve }
    }

    /// Replaces variables and leaves quotes alone, as in the body of a here-document, whose escape character is always `\`.
    pub fn body(&self, text: &str) -> Result<String, LexError> {
        Self { escape: '\\', quotes: Quotes::Keep, ..*self }.word(text)
    }

    /// Expands the text into one word; blanks stay.
    pub fn word(&self, text: &str) -> Result<String, LexError> {
        let mut run = Run::new(self, text);
        run.until(None, false)
    }

    /// Expands the text and splits it at blanks, also at those that came out of variables.
    pub fn words(&self, text: &str) -> Result<Vec<String>, LexError> {
        let mut run = Run::new(self, text);
        run.until(None, false)?;
        Ok(run.words.finish())
    }
}

/// One pass over one text.
struct Run<'l, 'a> {
    lexer: &'l Lexer<'a>,
    chars: Peekable<Chars<'l>>,
    words: Words,
    depth: usize,
}

impl<'l, 'a> Run<'l, 'a> {
    fn new(lexer: &'l Lexer<'a>, text: &'l str) -> Self {
        Self { lexer, chars: text.chars().peekable(), words: Words::default(), depth: 0 }
    }

    /// Reads to `stop`, or to the end without one. `raw_escapes` keeps the escape character before what it protects.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<String, LexError> {
        let mut result = String::new();
        while let Some(&next) = self.chars.peek() {
            if Some(next) == stop {
                self.chars.next();
                return Ok(result);
            }
            match next {
                '\'' if self.resolves_quotes() => {
                    let text = self.single_quoted()?;
                    self.words.push_whole(&text);
                    result.push_str(&text);
                }
                '"' if self.resolves_quotes() => {
                    let text = self.double_quoted()?;
                    self.words.push_whole(&text);
                    result.push_str(&text);
                }
                '$' => {
                    let text = self.dollar()?;
                    self.words.push_split(&text);
                    result.push_str(&text);
                    check_length(&result)?;
                }
                _ => self.plain(raw_escapes, &mut result),
            }
        }
        match stop {
            Some(stop) => Err(LexError::Missing(stop)),
            None => Ok(result),
        }
    }

    fn resolves_quotes(&self) -> bool {
        self.lexer.quotes == Quotes::Resolve
    }

    fn plain(&mut self, raw_escapes: bool, result: &mut String) {
        let Some(character) = self.chars.next() else { return };
        if character != self.lexer.escape {
            self.words.push(character);
            result.push(character);
            return;
        }
        if raw_escapes {
            self.words.push_literal(character);
            result.push(character);
        }
        if let Some(protected) = self.chars.next() {
            self.words.push_literal(protected);
            result.push(protected);
        }
    }

    fn single_quoted(&mut self) -> Result<String, LexError> {
        self.chars.next();
        let mut result = String::new();
        for character in self.chars.by_ref() {
            if character == '\'' {
                return Ok(result);
            }
            result.push(character);
        }
        Err(LexError::Unclosed("single-quote"))
    }

    fn double_quoted(&mut self) -> Result<String, LexError> {
        self.chars.next();
        let mut result = String::new();
        loop {
            match self.chars.peek() {
                None => return Err(LexError::Unclosed("double-quote")),
                Some('"') => {
                    self.chars.next();
                    return Ok(result);
                }
                Some('$') => {
                    let text = self.dollar()?;
                    result.push_str(&text);
                    check_length(&result)?;
                }
                Some(&character) => {
                    self.chars.next();
                    let protected = self.chars.peek().copied().filter(|next| matches!(next, '"' | '$') || *next == self.lexer.escape);
                    match protected {
                        Some(next) if character == self.lexer.escape => {
                            self.chars.next();
                            result.push(next);
                        }
                        _ => result.push(character),
                    }
                }
            }
        }
    }

    fn dollar(&mut self) -> Result<String, LexError> {
        self.chars.next();
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        self.chars.next();
        if self.depth == MAX_NESTING {
            return Err(LexError::TooDeep);
        }
        self.depth += 1;
        // What is inside braces never ends a word by itself: the whole value is split by the caller.
        let outer = std::mem::take(&mut self.words);
        let result = self.braced();
        self.words = outer;
        self.depth -= 1;
        result
    }

    /// After `${`.
    fn braced(&mut self) -> Result<String, LexError> {
        match self.chars.peek() {
            None => return Err(LexError::Missing('}')),
            Some('{' | '}' | ':') => return Err(LexError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            None => Err(LexError::Missing('}')),
            Some('}') => Ok(self.value(&name).unwrap_or_default()),
            Some(':') => match self.chars.next() {
                None => Err(LexError::Missing('}')),
                Some(operator @ ('-' | '+' | '?')) => self.default_or_alternative(&name, operator, true),
                Some(other) => Err(LexError::UnsupportedModifier(format!(":{other}"))),
            },
            Some(operator @ ('-' | '+' | '?')) => self.default_or_alternative(&name, operator, false),
            Some(operator @ ('#' | '%')) => self.trimmed(&name, operator),
            Some('/') => self.replaced(&name),
            Some(other) => Err(LexError::UnsupportedModifier(other.to_string())),
        }
    }

    fn default_or_alternative(&mut self, name: &str, operator: char, empty_is_unset: bool) -> Result<String, LexError> {
        let word = self.until(Some('}'), false)?;
        let value = self.value(name);
        let usable = value.as_ref().is_some_and(|value| !(empty_is_unset && value.is_empty()));
        match operator {
            '-' if usable => Ok(value.unwrap_or_default()),
            '-' => Ok(word),
            '+' if usable => Ok(word),
            '+' => Ok(String::new()),
            _ if usable => Ok(value.unwrap_or_default()),
            _ => {
                let reason = if value.is_none() { "is not allowed to be unset" } else { "is not allowed to be empty" };
                let message = if word.is_empty() { reason.to_owned() } else { word };
                Err(LexError::Required { name: name.to_owned(), message })
            }
        }
    }

    fn trimmed(&mut self, name: &str, operator: char) -> Result<String, LexError> {
        let longest = self.chars.next_if_eq(&operator).is_some();
        let pattern = pattern::parse(&self.until(Some('}'), true)?)?;
        let value = self.value(name).unwrap_or_default();
        Ok(match operator {
            '#' => pattern::without_prefix(&value, &pattern, longest),
            _ => pattern::without_suffix(&value, &pattern, longest),
        })
    }

    fn replaced(&mut self, name: &str) -> Result<String, LexError> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let pattern = pattern::parse(&self.until(Some('/'), true)?)?;
        let replacement = self.until(Some('}'), false)?;
        let value = self.value(name).unwrap_or_default();
        pattern::replace(&value, &pattern, &replacement, all)
    }

    /// A variable's name: letters, digits and `_`; or only digits; or one special character.
    fn name(&mut self) -> String {
        let Some(&first) = self.chars.peek() else { return String::new() };
        let mut name = String::new();
        if first.is_ascii_digit() {
            while let Some(digit) = self.chars.next_if(char::is_ascii_digit) {
                name.push(digit);
            }
        } else if matches!(first, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
            name.extend(self.chars.next());
        } else {
            while let Some(character) = self.chars.next_if(|next| next.is_alphanumeric() || *next == '_') {
                name.push(character);
            }
        }
        name
    }

    fn value(&self, name: &str) -> Option<String> {
        (self.lexer.lookup)(name)
    }
}

fn check_length(result: &str) -> Result<(), LexError> {
    if result.len() > MAX_VALUE_BYTES { Err(LexError::TooLong) } else { Ok(()) }
}

/// Collects words while text goes by.
#[derive(Default)]
struct Words {
    finished: Vec<String>,
    current: Option<String>,
}

impl Words {
    /// A character outside quotes: a blank ends the word.
    fn push(&mut self, character: char) {
        if character.is_whitespace() {
            self.finished.extend(self.current.take());
        } else {
            self.push_literal(character);
        }
    }

    fn push_literal(&mut self, character: char) {
        self.current.get_or_insert_default().push(character);
    }

    fn push_whole(&mut self, text: &str) {
        self.current.get_or_insert_default().push_str(text);
    }

    fn push_split(&mut self, text: &str) {
        text.chars().for_each(|character| self.push(character));
    }

    fn finish(mut self) -> Vec<String> {
        self.finished.extend(self.current);
        self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "EMPTY" => Some(String::new()),
            "NAME" => Some("value".to_owned()),
            "TWO" => Some("80 443".to_owned()),
            "FILE" => Some("dir/archive.tar.gz".to_owned()),
            _ => None,
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(Lexer::new('\\', &lookup).word(text).as_deref(), Ok(expected), "{text}");
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let error = Lexer::new('\\', &lookup).word(text).expect_err(text);
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn quotes_and_escapes() {
        check(r"a\ b", "a b");
        check("'$NAME'", "$NAME");
        check(r#""$NAME \$NAME \n \"""#, r#"value $NAME \n ""#);
        check(r"\$NAME", "$NAME");
        check("$", "$");
        check("$$x", "x");
        check("a$ b", "a$ b");
        check("$NAME_x", "");
        check("a'b'\"c\"", "abc");
    }

    #[test]
    fn another_escape_character() {
        assert_eq!(Lexer::new('`', &lookup).word("c:\\x`$NAME$NAME").as_deref(), Ok("c:\\x$NAMEvalue"));
    }

    #[test]
    fn defaults_and_alternatives() {
        check("${NAME:-x}${EMPTY:-x}${EMPTY-x}${NONE:-x}${NONE-x}", "valuexxx");
        check("${NAME:+x}|${EMPTY:+x}|${EMPTY+x}|${NONE+x}", "x||x|");
        check("${NONE:-${NAME}/b}", "value/b");
        check("${NAME?m}", "value");
        check_error("${NONE?}", "NONE: is not allowed to be unset");
        check_error("${EMPTY:?}", "EMPTY: is not allowed to be empty");
        check_error("${NONE:?say so}", "NONE: say so");
    }

    #[test]
    fn patterns() {
        check("${FILE#*/}", "archive.tar.gz");
        check("${FILE##*.}", "gz");
        check("${FILE%.*}", "dir/archive.tar");
        check("${FILE%%.*}", "dir/archive");
        check("${FILE/ar/X}", "dir/Xchive.tar.gz");
        check("${FILE//ar/X}", "dir/Xchive.tX.gz");
        check("${FILE/a*./Y}", "dir/Ygz");
        check(r"${FILE//\//-}", "dir-archive.tar.gz");
        check("${FILE/x/y}${FILE/*/z}", "dir/archive.tar.gzz");
        check("${FILE#x}", "dir/archive.tar.gz");
    }

    #[test]
    fn malformed() {
        check_error("${", "syntax error: missing '}'");
        check_error("${NAME", "syntax error: missing '}'");
        check_error("${}", "syntax error: bad substitution");
        check_error("${NAME:#x}", "unsupported modifier (:#) in substitution");
        check_error("${NAME^}", "unsupported modifier (^) in substitution");
        check_error("'a", "unexpected end of statement while looking for matching single-quote");
        check_error("\"a", "unexpected end of statement while looking for matching double-quote");
        check_error(&"${x:-".repeat(5000), "substitutions are nested more than 64 deep");
    }

    #[test]
    fn words_split_outside_quotes_only() {
        let lexer = Lexer::new('\\', &lookup);
        assert_eq!(lexer.words("$TWO 'a b' c\\ d \"$TWO\"").unwrap(), ["80", "443", "a b", "c d", "80 443"]);
        assert_eq!(lexer.words("${NONE:-1 2}").unwrap(), ["1", "2"]);
        assert_eq!(lexer.words("'' x").unwrap(), ["", "x"]);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[a$\\{}:\\-+?#%/*'\"\\\\ é]{0,40}") {
            let lexer = Lexer::new('\\', &lookup);
            let _ = (lexer.word(&text), lexer.words(&text), lexer.body(&text));
        }

        /// What quotes protect comes out as it went in.
        #[test]
        fn single_quotes_protect_everything(text in "[a$\\{}\"\\\\ é]{0,20}") {
            proptest::prop_assert_eq!(Lexer::new('\\', &lookup).word(&format!("'{text}'")), Ok(text));
        }
    }

    #[test]
    fn bodies_keep_quotes() {
        assert_eq!(Lexer::new('`', &lookup).body("it's \"$NAME\" \\$NAME").unwrap(), "it's \"value\" $NAME");
    }
}
