//! The functions of a block: `expand_vars`, `truncate(0,8)`, `posix_escape`, `split(',')`.

use std::sync::{Arc, LazyLock};

use indexmap::IndexMap;
use regex::Regex;

use crate::{
    diagnostic::Diagnostic,
    suggestion::did_you_mean,
    variables::expand_existing,
    yaml::{Node, Value},
};

// The closing bracket of `truncate` may be missing, as in GitLab.
static TRUNCATE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^truncate\(\s*([0-9]+)\s*,\s*([0-9]+)\s*\)?$").expect("constant"));
static SPLIT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^split\('([^']*)'\)$").expect("constant"));

const NAMES: [&str; 4] = ["truncate", "expand_vars", "posix_escape", "split"];

/// One function with its arguments.
#[derive(Debug)]
enum Function {
    ExpandVars,
    PosixEscape,
    Truncate { offset: usize, length: usize },
    Split { separator: String },
}

/// Applies functions one after the other.
pub(super) fn apply(functions: &[&str], value: Arc<Node>, variables: &IndexMap<String, String>) -> Result<Arc<Node>, Diagnostic> {
    let parsed: Vec<Function> = functions.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
    let (_, before_last) = parsed.split_last().map_or((None, &[][..]), |(last, others)| (Some(last), others));
    if before_last.iter().any(|function| matches!(function, Function::Split { .. })) {
        let message = "split() must be the last function in a chain (it returns an array, not a string)";
        return Err(Diagnostic::error("interpolation-function", message));
    }
    parsed.iter().try_fold(value, |value, function| call(function, &value, variables).map(Arc::new))
}

fn parse(text: &str) -> Result<Function, Diagnostic> {
    // A number too large for the machine is past the end of any text.
    let number = |text: &str| text.parse().unwrap_or(usize::MAX);
    if let Some(found) = TRUNCATE.captures(text) {
        return Ok(Function::Truncate { offset: number(&found[1]), length: number(&found[2]) });
    }
    if let Some(found) = SPLIT.captures(text) {
        return Ok(Function::Split { separator: found[1].to_owned() });
    }
    match text {
        "expand_vars" => Ok(Function::ExpandVars),
        "posix_escape" => Ok(Function::PosixEscape),
        _ => Err(unknown(text)),
    }
}

fn unknown(text: &str) -> Diagnostic {
    let message = format!("no function matching `{text}`: check that the function name, arguments, and types are correct");
    let name = text.split('(').next().unwrap_or_default();
    let help = match name {
        "truncate" => "write `truncate(offset,length)` with two whole numbers".to_owned(),
        "split" => "write `split(',')` with single quotes".to_owned(),
        "expand_vars" | "posix_escape" => format!("`{name}` takes no arguments"),
        _ => did_you_mean(name, NAMES).unwrap_or_else(|| format!("functions are `{}`", NAMES.join("`, `"))),
    };
    Diagnostic::error("interpolation-function", message).help(help)
}

fn call(function: &Function, value: &Node, variables: &IndexMap<String, String>) -> Result<Node, Diagnostic> {
    let name = match function {
        Function::ExpandVars => "expand_vars",
        Function::PosixEscape => "posix_escape",
        Function::Truncate { .. } => "truncate",
        Function::Split { .. } => "split",
    };
    let fail = |message: String| Diagnostic::error("interpolation-function", format!("error in `{name}` function: {message}"));
    let Value::Text(text) = &value.value else {
        let problem = fail(format!("invalid input type: {name} can only be used with string inputs"));
        return Err(problem.help(format!("the value is {}", value.kind())));
    };
    let result = match function {
        Function::ExpandVars => Value::Text(expand_existing(text, variables)),
        Function::PosixEscape => Value::Text(posix_escape(text)),
        Function::Truncate { offset, length } => Value::Text(text.chars().skip(*offset).take(*length).collect()),
        Function::Split { separator } if separator.is_empty() => {
            return Err(fail("invalid argument: separator cannot be empty".to_owned()));
        }
        Function::Split { separator } => Value::List(split(text, separator, value)),
    };
    Ok(Node::new(result, value.span))
}

fn split(text: &str, separator: &str, value: &Node) -> Vec<Arc<Node>> {
    let item = |piece: &str| Arc::new(Node::new(Value::Text(piece.to_owned()), value.span));
    // Ruby splits at any white space when asked for a blank.
    if separator == " " {
        return text.split_whitespace().map(item).collect();
    }
    text.split(separator).map(str::trim).filter(|piece| !piece.is_empty()).map(item).collect()
}

/// Escapes a text for a POSIX shell as Ruby's Shellwords do.
fn posix_escape(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let mut output = String::with_capacity(text.len());
    for next in text.chars() {
        match next {
            '\n' => output.push_str("'\n'"),
            '_' | '-' | '.' | ',' | ':' | '+' | '/' | '@' => output.push(next),
            _ if next.is_ascii_alphanumeric() => output.push(next),
            _ => {
                output.push('\\');
                output.push(next);
            }
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::posix_escape;

    #[test]
    fn texts_are_escaped_for_a_shell() {
        assert_eq!(posix_escape(""), "''");
        assert_eq!(posix_escape("a b'c\n$d/e@f"), "a\\ b\\'c'\n'\\$d/e@f");
        assert_eq!(posix_escape("é"), "\\é");
    }
}
