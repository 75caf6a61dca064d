//! Reads the text of a `config.toml` against the table of all keys.
//!
//! GitLab Runner ignores what it does not know, so that a misspelt `privileged` shows itself only when a job fails. Here an unknown key
//! is an error with its place. What is known but has no effect in this version is listed, for `lint` and for the log of `run`.

mod syntax;
mod value;

use std::ops::Range;

use toml_edit::{Document, Item, TableLike};

use super::{
    problem::Problem,
    schema::{GLOBAL, Kind, RUNNER, Support, Table, Unset},
};

/// What a text says, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Known keys with values of the right type, under their proper names.
    pub(super) table: toml::Table,
    pub(super) problems: Vec<Problem>,
    /// Every known key that is set to something, in the order of the text. What `register` writes for a value that was not given,
    /// such as `shm_size = 0` or `session_timeout = 1800`, is not.
    pub(super) used: Vec<UsedKey>,
}

/// A key that a file sets.
#[derive(Debug, Clone)]
pub struct UsedKey {
    /// `runners.docker.image`.
    pub path: String,
    pub span: Option<Range<usize>>,
    pub support: Support,
}

/// Reads a text. Whatever can be understood is in the result, beside the problems.
pub(super) fn read(text: &str) -> Reading {
    let mut reader = Reader { reading: Reading::default() };
    match Document::parse(text) {
        Ok(document) => {
            reader.reading.table = reader.table(document.as_table(), &GLOBAL, "", Support::Honoured);
            reader.reading.used.sort_by_key(|key| key.span.as_ref().map(|span| span.start));
        }
        Err(error) => reader.reading.problems.push(syntax::explain(&error, text)),
    }
    reader.reading
}

struct Reader {
    reading: Reading,
}

impl Reader {
    fn table(&mut self, items: &dyn TableLike, table: &'static Table, path: &str, inherited: Support) -> toml::Table {
        let mut read = toml::Table::new();
        for (name, item) in items.iter() {
            let span = items.get_key_value(name).and_then(|(key, _)| key.span());
            let Some(key) = table.find(name) else {
                self.reading.problems.push(unknown(name, table, path).at(span));
                continue;
            };
            let path = join(path, key.name);
            let support = key.support.unwrap_or(inherited);
            if let Some(value) = self.item(item, key.kind, &path, support) {
                let is_table = matches!(key.kind, Kind::Table(_) | Kind::Tables(_));
                let is_from_nobody = key.written_by_itself.is_some() && key.written_by_itself == value.as_integer();
                if !is_table && !is_from_nobody && (key.unset == Unset::Distinct || !value::is_zero(&value)) {
                    self.reading.used.push(UsedKey { path, span, support });
                }
                read.insert(key.name.to_owned(), value);
            }
        }
        read
    }

    fn item(&mut self, item: &Item, kind: Kind, path: &str, support: Support) -> Option<toml::Value> {
        match kind {
            Kind::Table(inner) => {
                let Some(items) = item.as_table_like() else { return self.mismatch(item, kind, path) };
                Some(toml::Value::Table(self.table(items, inner, path, support)))
            }
            Kind::Tables(inner) => self.tables(item, inner, path, support),
            _ => match value::convert(item).filter(|value| value::fits(value, kind)) {
                Some(value) => {
                    self.check_value(item, &value, path);
                    Some(value)
                }
                None => self.mismatch(item, kind, path),
            },
        }
    }

    fn tables(&mut self, item: &Item, inner: &'static Table, path: &str, support: Support) -> Option<toml::Value> {
        let entries: Option<Vec<&dyn TableLike>> = match item {
            Item::ArrayOfTables(tables) => Some(tables.iter().map(|table| table as &dyn TableLike).collect()),
            Item::Value(toml_edit::Value::Array(array)) => {
                array.iter().map(|entry| entry.as_inline_table().map(|table| table as &dyn TableLike)).collect()
            }
            _ => None,
        };
        let Some(entries) = entries else { return self.mismatch(item, Kind::Tables(inner), path) };
        let read = entries.into_iter().map(|entry| toml::Value::Table(self.table(entry, inner, path, support))).collect();
        Some(toml::Value::Array(read))
    }

    fn mismatch(&mut self, item: &Item, kind: Kind, path: &str) -> Option<toml::Value> {
        let problem = Problem::error("wrong-type", format!("`{path}` must be {}, not {}", kind.describe(), value::describe(item)));
        let double_brackets = format!("write `[[{path}]]` with two brackets on either side");
        let problem = match (kind, item) {
            (Kind::Tables(_), Item::Table(_)) => problem.help(double_brackets),
            (Kind::Boolean, Item::Value(toml_edit::Value::String(text))) if matches!(text.value().as_str(), "true" | "false") => {
                problem.help("leave the quotes away")
            }
            (Kind::Integer, Item::Value(toml_edit::Value::String(text))) if text.value().parse::<i64>().is_ok() => {
                problem.help("leave the quotes away")
            }
            _ => problem,
        };
        self.reading.problems.push(problem.at(item.span()));
        None
    }

    /// Looks at values whose type says too little.
    fn check_value(&mut self, item: &Item, value: &toml::Value, path: &str) {
        if let Some(problem) = value::check(path, value) {
            self.reading.problems.push(problem.at(item.span()));
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn unknown(name: &str, table: &'static Table, path: &str) -> Problem {
    let place = if path.is_empty() { "at the top of the file".to_owned() } else { format!("in `{path}`") };
    let problem = Problem::error("unknown-key", format!("unknown key `{name}` {place}"));
    if path.is_empty() && RUNNER.find(name).is_some() {
        return problem.help(format!("`{name}` belongs below a line `[[runners]]`"));
    }
    match nearest(name, table.keys.iter().map(|key| key.name)) {
        Some(nearest) => problem.help(format!("did you mean `{nearest}`?")),
        None => match elsewhere(name) {
            Some(place) => problem.help(format!("`{name}` belongs in `{place}`")),
            None => problem,
        },
    }
}

/// Returns the one table that has a key of this name.
fn elsewhere(name: &str) -> Option<String> {
    let entries = super::schema::entries(&GLOBAL, "");
    let mut places = entries.iter().filter(|entry| entry.key.name == name).filter_map(|entry| entry.path.rsplit_once('.'));
    let (place, _) = places.next()?;
    places.next().is_none().then(|| place.to_owned())
}

/// Returns the candidate that differs least from `name`, if it is near enough to be a slip.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&plain(name), &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
