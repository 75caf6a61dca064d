//! What a text is that is not TOML.

use toml_edit::TomlError;

use crate::config::problem::Problem;

/// Says what is wrong with the text, in the user's terms where the reason is a common one.
pub(super) fn explain(error: &TomlError, text: &str) -> Problem {
    let place = error.span().map_or(0, |span| span.start.min(text.len()));
    if let Some(problem) = unquoted_value(text, place) {
        return problem;
    }
    let message = error.message().lines().next().unwrap_or_default().to_owned();
    Problem::error("invalid-toml", message).at(error.span())
}

/// A placeholder copied from a document: `token = TOKEN`.
fn unquoted_value(text: &str, place: usize) -> Option<Problem> {
    let start = text.get(..place)?.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(start..)?.lines().next()?;
    let (key, value) = line.split_once('=')?;
    let value_start = start + key.len() + 1 + (value.len() - value.trim_start().len());
    let value = value.split('#').next().unwrap_or_default().trim();
    let is_word = value.starts_with(|first: char| first.is_ascii_alphabetic() || "_$<".contains(first))
        && value.chars().all(|next| !next.is_whitespace() && !"\"'[]{},".contains(next))
        && !matches!(value, "true" | "false" | "inf" | "nan");
    let key = key.trim();
    is_word.then(|| {
        Problem::error("unquoted-text", format!("the value of `{key}` needs quotes"))
            .at(Some(value_start..value_start + value.len()))
            .help(format!("write `{key} = \"{value}\"`"))
    })
}
