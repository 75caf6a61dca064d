//! Changes of a `config.toml` that leave everything else in it as it is: comments, order, and what this version does not know.

use std::{collections::BTreeSet, ops::Range};

use toml_edit::{Document, DocumentMut, Item, TableLike};

use super::encode::{SKELETON, encode_runner, encode_value};

/// Added by GitLab Runner whenever it writes a file that it has read before.
const CONNECTION_MAX_AGE: &str = "connection_max_age = \"15m0s\"\n";
/// New keys of an entry are written behind this one.
const ANCHOR: &str = "token";

/// A file that cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum EditConfigError {
    #[error("the file is not valid TOML")]
    Syntax(#[source] Box<toml_edit::TomlError>),
    #[error("the file has no entry {index} of `[[runners]]` with a token")]
    NoEntry { index: usize },
    /// As in `runners = [{ … }]`.
    #[error("`runners` of the file is written as a list")]
    NotTables,
}

/// Returns the text with one more entry at its end. `None` makes a new file.
pub fn append_runner(text: Option<&str>, values: &toml::Table) -> Result<String, EditConfigError> {
    let mut new = match text {
        Some(text) if !text.trim().is_empty() => with_default_age(text)?,
        Some(_) => SKELETON.replacen("shutdown_timeout", &format!("{CONNECTION_MAX_AGE}shutdown_timeout"), 1),
        None => SKELETON.to_owned(),
    };
    new.truncate(new.trim_end().len());
    new.push_str("\n\n");
    new.push_str(&encode_runner(values));
    match parse(&new) {
        Ok(_) => Ok(new),
        Err(_) => Err(EditConfigError::NotTables),
    }
}

/// Writes down the default that GitLab Runner writes, in a file that looks like one of its own.
fn with_default_age(text: &str) -> Result<String, EditConfigError> {
    let document = parse(text)?;
    let top = document.as_table();
    let place = match (top.get("connection_max_age"), top.get("check_interval"), top.get("shutdown_timeout")) {
        (None, Some(_), Some(_)) => top.get_key_value("shutdown_timeout").and_then(|(key, _)| key.span()),
        _ => None,
    };
    Ok(match place {
        Some(span) => splice(text, span.start..span.start, CONNECTION_MAX_AGE),
        None => text.to_owned(),
    })
}

/// Returns the text without some entries, counted from 0.
pub fn remove_runners(text: &str, entries: &BTreeSet<usize>) -> Result<String, EditConfigError> {
    let mut document: DocumentMut = text.parse().map_err(|error| EditConfigError::Syntax(Box::new(error)))?;
    for index in entries.iter().rev() {
        match document.get_mut("runners") {
            Some(Item::ArrayOfTables(tables)) if *index < tables.len() => {
                tables.remove(*index);
            }
            Some(Item::Value(toml_edit::Value::Array(array))) if *index < array.len() => {
                array.remove(*index);
            }
            _ => return Err(EditConfigError::NoEntry { index: *index }),
        }
    }
    Ok(document.to_string())
}

/// Returns the text with values of one entry replaced, or added behind its token.
pub fn set_runner_values(text: &str, index: usize, values: &[(&str, toml::Value)]) -> Result<String, EditConfigError> {
    let mut new = text.to_owned();
    let mut anchor = ANCHOR;
    for (key, value) in values {
        new = set_value(&new, index, anchor, key, &encode_value(value))?;
        anchor = key;
    }
    Ok(new)
}

fn set_value(text: &str, index: usize, anchor: &str, key: &str, value: &str) -> Result<String, EditConfigError> {
    let document = parse(text)?;
    let no_entry = || EditConfigError::NoEntry { index };
    let entry = entry(document.as_table().get("runners"), index).ok_or_else(no_entry)?;
    if let Some(span) = entry.get(key).and_then(Item::span) {
        return Ok(splice(text, span, value));
    }
    let (anchor, item) = entry.get_key_value(anchor).ok_or_else(no_entry)?;
    let (Some(key_span), Some(value_span)) = (anchor.span(), item.span()) else { return Err(no_entry()) };
    if entry.is_inline {
        return Ok(splice(text, value_span.end..value_span.end, &format!(", {key} = {value}")));
    }
    let line_start = text[..key_span.start].rfind('\n').map_or(0, |newline| newline + 1);
    let indent = &text[line_start..key_span.start];
    let line_end = text[value_span.end..].find('\n').map_or(text.len(), |newline| value_span.end + newline);
    Ok(splice(text, line_end..line_end, &format!("\n{indent}{key} = {value}")))
}

struct EntryTable<'doc> {
    table: &'doc dyn TableLike,
    is_inline: bool,
}

impl<'doc> std::ops::Deref for EntryTable<'doc> {
    type Target = dyn TableLike + 'doc;

    fn deref(&self) -> &Self::Target {
        self.table
    }
}

fn entry(runners: Option<&Item>, index: usize) -> Option<EntryTable<'_>> {
    match runners? {
        Item::ArrayOfTables(tables) => Some(EntryTable { table: tables.get(index)?, is_inline: false }),
        Item::Value(toml_edit::Value::Array(array)) => Some(EntryTable { table: array.get(index)?.as_inline_table()?, is_inline: true }),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Document<&str>, EditConfigError> {
    Document::parse(text).map_err(|error| EditConfigError::Syntax(Box::new(error)))
}

fn splice(text: &str, range: Range<usize>, new: &str) -> String {
    format!("{}{new}{}", &text[..range.start], &text[range.end..])
}
