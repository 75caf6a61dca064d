//! Words within an instruction: flags, key-value words, starts of here-documents.

use super::Heredoc;

/// Splits at blanks outside quotes. Quotes and escapes stay in the words; the lexer resolves them later.
pub fn split_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut current = String::new();
    let mut quote = None;
    let mut in_word = false;
    let mut chars = text.chars();
    while let Some(character) = chars.next() {
        if quote.is_none() && character.is_whitespace() {
            if in_word {
                words.push(std::mem::take(&mut current));
                in_word = false;
            }
            continue;
        }
        in_word = true;
        if character == escape && quote != Some('\'') {
            // An escape character at the very end protects nothing and is dropped.
            if let Some(protected) = chars.next() {
                current.push(character);
                current.push(protected);
            }
            continue;
        }
        match quote {
            Some(open) if open == character => quote = None,
            None if matches!(character, '"' | '\'') => quote = Some(character),
            _ => {}
        }
        current.push(character);
    }
    if in_word && !current.is_empty() {
        words.push(current);
    }
    words
}

/// Takes the leading `--flag` words, quotes removed. A bare `--` ends them and disappears.
pub(super) fn take_flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text;
    while rest.starts_with("--") {
        let (word, after) = take_flag(rest, escape);
        rest = after.trim_start();
        if word == "--" {
            break;
        }
        flags.push(word);
    }
    (flags, rest)
}

fn take_flag(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, character)) = chars.next() {
        match quote {
            None if character.is_whitespace() => return (word, &text[at..]),
            None if matches!(character, '"' | '\'') => quote = Some(character),
            Some(open) if open == character => quote = None,
            _ if character == escape => word.extend(chars.next().map(|(_, protected)| protected)),
            _ => word.push(character),
        }
    }
    (word, "")
}

/// Recognises `[fd]<<[-]delimiter`; the body is empty as yet.
pub(super) fn heredoc_start(word: &str) -> Option<Heredoc> {
    let (descriptor, rest) = word.split_at(word.find(|c: char| !c.is_ascii_digit())?);
    let rest = rest.strip_prefix("<<")?;
    let (strip_tabs, delimiter) = match rest.strip_prefix('-') {
        Some(delimiter) => (true, delimiter),
        None => (false, rest),
    };
    let name = unquoted(delimiter)?;
    if name.is_empty() || delimiter.contains('<') {
        return None;
    }
    let descriptor = if descriptor.is_empty() { 0 } else { descriptor.parse().ok()? };
    Some(Heredoc { expand: name == delimiter, name, word: word.to_owned(), descriptor, strip_tabs, body: String::new() })
}

/// The delimiter without quotes and escapes; `None` when a quote is left open.
fn unquoted(delimiter: &str) -> Option<String> {
    let mut name = String::new();
    let mut quote = None;
    let mut chars = delimiter.chars();
    while let Some(character) = chars.next() {
        match quote {
            None if matches!(character, '"' | '\'') => quote = Some(character),
            Some(open) if open == character => quote = None,
            _ if character == '\\' && quote != Some('\'') => name.push(chars.next()?),
            _ => name.push(character),
        }
    }
    quote.is_none().then_some(name)
}
