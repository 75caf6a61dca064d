//! Classes in brackets. The `regex` crate has nested classes and set operators in them; RE2 reads these as characters.

use std::fmt::Write as _;

use super::escape::{self, Escape};

const POSIX: &[&str] =
    &["alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word", "xdigit"];

/// Rewrites the class that a text begins with. Returns it and what follows.
pub(super) fn translate(text: &str) -> Result<(String, &str), String> {
    let mut rest = &text[1..];
    let mut output = String::from("[");
    if let Some(negated) = rest.strip_prefix('^') {
        output.push('^');
        rest = negated;
    }
    let mut is_first = true;
    loop {
        if rest.is_empty() {
            return Err(format!("missing ]: {text}"));
        }
        // A bracket that comes first is a character.
        if let Some(after) = rest.strip_prefix(']').filter(|_| !is_first) {
            output.push(']');
            return Ok((output, after));
        }
        is_first = false;
        if let Some((class, length)) = posix(rest)? {
            output.push_str(&class);
            rest = &rest[length..];
        } else {
            rest = range(rest, &mut output)?;
        }
    }
}

/// `[:alpha:]` or `[:^alpha:]`.
fn posix(text: &str) -> Result<Option<(String, usize)>, String> {
    let Some(end) = text.strip_prefix("[:").and_then(|inner| inner.find(":]")) else { return Ok(None) };
    let length = "[::]".len() + end;
    let name = &text["[:".len()..][..end];
    if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
        return Err(format!("invalid character class range: {}", &text[..length]));
    }
    Ok(Some((format!("[:{name}:]"), length)))
}

/// Rewrites a class in the class, a character, or two of them with a dash between.
fn range<'t>(text: &'t str, output: &mut String) -> Result<&'t str, String> {
    if text.starts_with('\\')
        && let (Escape::Class(class), length) = escape::in_class(text)?
    {
        output.push_str(&class);
        return Ok(&text[length..]);
    }
    let (low, length) = character(text)?;
    let rest = &text[length..];
    let to = rest.strip_prefix('-').filter(|to| !to.is_empty() && !to.starts_with(']'));
    let Some(to) = to else {
        push(output, low);
        return Ok(rest);
    };
    let (high, high_length) = character(to)?;
    if high < low {
        return Err(format!("invalid character class range: {}", &text[..length + 1 + high_length]));
    }
    push(output, low);
    output.push('-');
    push(output, high);
    Ok(&to[high_length..])
}

fn character(text: &str) -> Result<(char, usize), String> {
    if text.starts_with('\\') {
        return match escape::in_class(text)? {
            (Escape::Literal(character), length) => Ok((character, length)),
            (_, length) => Err(format!("invalid escape sequence: {}", &text[..length])),
        };
    }
    let character = text.chars().next().ok_or_else(|| "missing ]".to_owned())?;
    Ok((character, character.len_utf8()))
}

/// By number, so that it is no operator of the `regex` crate.
fn push(output: &mut String, character: char) {
    if character.is_alphanumeric() {
        output.push(character);
    } else {
        write!(output, "\\x{{{:X}}}", u32::from(character)).expect("writing to a string");
    }
}
