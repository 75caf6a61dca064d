//! Values: their types, and what a type does not say.

use toml_edit::{Item, TableLike, Value};

use super::nearest;
use crate::config::{
    PullPolicy,
    duration::GoDuration,
    problem::Problem,
    schema::{EXECUTORS, ExecutorName, Kind},
};

/// Returns the value without its form, or `None` for what is no value.
pub(super) fn convert(item: &Item) -> Option<toml::Value> {
    match item {
        Item::None => None,
        Item::Value(value) => convert_value(value),
        Item::Table(table) => Some(toml::Value::Table(convert_table(table))),
        Item::ArrayOfTables(tables) => {
            Some(toml::Value::Array(tables.iter().map(|table| toml::Value::Table(convert_table(table))).collect()))
        }
    }
}

fn convert_value(value: &Value) -> Option<toml::Value> {
    Some(match value {
        Value::String(text) => toml::Value::String(text.value().clone()),
        Value::Integer(number) => toml::Value::Integer(*number.value()),
        Value::Float(number) => toml::Value::Float(*number.value()),
        Value::Boolean(value) => toml::Value::Boolean(*value.value()),
        Value::Datetime(time) => toml::Value::Datetime(*time.value()),
        Value::Array(array) => toml::Value::Array(array.iter().map(convert_value).collect::<Option<_>>()?),
        Value::InlineTable(table) => toml::Value::Table(convert_table(table)),
    })
}

fn convert_table(table: &dyn TableLike) -> toml::Table {
    table.iter().filter_map(|(name, item)| Some((name.to_owned(), convert(item)?))).collect()
}

/// Tells whether a value has the type of its key.
pub(super) fn fits(value: &toml::Value, kind: Kind) -> bool {
    let each = |of: fn(&toml::Value) -> bool| value.as_array().is_some_and(|list| list.iter().all(of));
    let map = |of: fn(&toml::Value) -> bool| value.as_table().is_some_and(|table| table.values().all(of));
    match kind {
        Kind::Text => value.is_str(),
        Kind::Boolean => value.is_bool(),
        Kind::Integer => value.is_integer(),
        Kind::Number => is_number(value),
        Kind::Duration => value.is_integer() || value.as_str().is_some_and(|text| GoDuration::parse(text).is_some()),
        Kind::Time => value.is_datetime(),
        Kind::Texts => each(toml::Value::is_str),
        Kind::TextOrTexts => value.is_str() || each(toml::Value::is_str),
        Kind::Numbers => each(is_number),
        Kind::TextMap => map(toml::Value::is_str),
        Kind::BooleanMap => map(toml::Value::is_bool),
        Kind::TextsMap => map(is_texts),
        Kind::Table(_) | Kind::Tables(_) => false,
        Kind::Anything => true,
    }
}

fn is_number(value: &toml::Value) -> bool {
    value.is_integer() || value.is_float()
}

fn is_texts(value: &toml::Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(toml::Value::is_str))
}

/// Tells whether a value is Go's zero value, which in most places means that nothing was set.
pub(super) fn is_zero(value: &toml::Value) -> bool {
    match value {
        toml::Value::String(text) => text.is_empty(),
        toml::Value::Integer(number) => *number == 0,
        toml::Value::Float(number) => *number == 0.0,
        toml::Value::Boolean(value) => !value,
        toml::Value::Datetime(time) => time.to_string().starts_with("0001-01-01"),
        toml::Value::Array(list) => list.is_empty(),
        toml::Value::Table(table) => table.is_empty(),
    }
}

/// Returns the words for what a value is.
pub(super) fn describe(item: &Item) -> String {
    match item {
        Item::Value(Value::String(text)) => format!("\"{}\"", text.value()),
        Item::Value(Value::Integer(number)) => number.value().to_string(),
        Item::Value(Value::Float(number)) => number.value().to_string(),
        Item::Value(Value::Boolean(value)) => value.value().to_string(),
        Item::Value(Value::Datetime(_)) => "a time".to_owned(),
        Item::Value(Value::Array(_)) => "a list".to_owned(),
        Item::Value(Value::InlineTable(_)) | Item::Table(_) => "a table".to_owned(),
        Item::ArrayOfTables(_) => "an array of tables".to_owned(),
        Item::None => "nothing".to_owned(),
    }
}

/// Finds what is wrong with a value of the right type.
pub(super) fn check(path: &str, value: &toml::Value) -> Option<Problem> {
    match path {
        "concurrent" => value.as_integer().filter(|number| *number < 1).map(|number| {
            Problem::error("too-few-jobs", format!("`concurrent` is {number}, so no job would ever run")).help("set it to 1 or more")
        }),
        "runners.executor" => value.as_str().filter(|name| !name.is_empty()).and_then(check_executor),
        "runners.environment" => texts(value)
            .find(|pair| !pair.contains('='))
            .map(|pair| Problem::error("no-assignment", format!("`{pair}` in `{path}` is no `KEY=VALUE`"))),
        "runners.docker.pull_policy" | "runners.docker.allowed_pull_policies" => {
            texts(value).find(|policy| PullPolicy::parse(policy).is_none()).map(|policy| {
                Problem::error("unknown-pull-policy", format!("`{policy}` is no pull policy"))
                    .help("one of `always`, `if-not-present`, `never`")
            })
        }
        "session_server.advertise_address" => value
            .as_str()
            .filter(|address| address.contains("://"))
            .map(|_| Problem::error("address-with-scheme", format!("`{path}` must be `host:port` without a scheme"))),
        "log_level" => check_word(value, path, &["debug", "info", "warn", "warning", "error", "fatal", "panic"]),
        "log_format" => check_word(value, path, &["runner", "text", "json"]),
        _ => None,
    }
}

fn texts(value: &toml::Value) -> impl Iterator<Item = &str> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    value.as_str().into_iter().chain(list.iter().filter_map(toml::Value::as_str))
}

fn check_word(value: &toml::Value, path: &str, words: &[&str]) -> Option<Problem> {
    let word = value.as_str().filter(|word| !word.is_empty() && !words.contains(word))?;
    let problem = Problem::error("unknown-value", format!("`{word}` is no value of `{path}`"));
    Some(problem.help(format!("one of {}", words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "))))
}

fn check_executor(name: &str) -> Option<Problem> {
    let Some(executor) = ExecutorName::find(name) else {
        let problem = Problem::error("unknown-executor", format!("there is no executor `{name}`"));
        return Some(match nearest(name, EXECUTORS.iter().map(|executor| executor.name)) {
            Some(nearest) => problem.help(format!("did you mean `{nearest}`?")),
            None => problem,
        });
    };
    (!executor.runs).then(|| {
        Problem::warning("no-executor", format!("this version runs no jobs with the executor `{name}`"))
            .help("entries of this executor ask for no jobs; `shell`, `docker` and `custom` do")
    })
}
