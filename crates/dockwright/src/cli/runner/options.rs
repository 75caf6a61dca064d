//! The flags that fill a `[[runners]]` entry: one for every key of the table of all keys that has one.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};
use dockwright_runner::config::{
    GoDuration,
    schema::{EXECUTORS, Entry, Kind, RUNNER, Support, entries},
};

use super::go_bool;

const HEADING: &str = "Options of the runner, as in config.toml";

/// What flags and variables give of a `[[runners]]` entry, under the keys of config.toml.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RunnerOptionArgs {
    pub(crate) values: toml::Table,
}

impl Args for RunnerOptionArgs {
    fn augment_args(command: Command) -> Command {
        command.args(flags().map(|(entry, name)| arg(&entry, name)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RunnerOptionArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut options = Self::default();
        options.update_from_arg_matches(matches)?;
        Ok(options)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (entry, name) in flags() {
            let Some(texts) = matches.get_many::<String>(&name) else { continue };
            let texts: Vec<&str> = texts.map(String::as_str).collect();
            match value(&entry, &texts) {
                Ok(Some(value)) => insert(&mut self.values, &entry.path, value),
                Ok(None) => {}
                Err(expected) => {
                    let message = format!("--{name} takes {expected}, not `{}`\n", texts.join(" "));
                    return Err(clap::Error::raw(ErrorKind::InvalidValue, message));
                }
            }
        }
        Ok(())
    }
}

/// Every key with a flag, and the flag's name.
fn flags() -> impl Iterator<Item = (Entry, String)> {
    entries(&RUNNER, "").into_iter().filter_map(|entry| {
        let name = entry.key.flag_name(entry.table)?;
        Some((entry, name))
    })
}

fn arg(entry: &Entry, name: String) -> Arg {
    let arg = Arg::new(name.clone()).long(name.clone()).help(help(entry)).help_heading(HEADING).hide_env_values(true).hide_short_help(true);
    // They are taken, so that scripts run, and would only hide the others.
    let arg = arg.hide(is_of_absent_executor(entry));
    let arg = match entry.key.variable_name(entry.table) {
        Some(variable) => arg.env(variable),
        None => arg,
    };
    let arg = match name.as_str() {
        "url" => arg.short('u').hide_short_help(false),
        "token" => arg.short('t').hide_short_help(false),
        "executor" | "docker-image" | "docker-volumes" | "docker-privileged" => arg.hide_short_help(false),
        "description" => arg.visible_alias("name").hide_short_help(false),
        _ => arg,
    };
    match entry.key.kind {
        Kind::Boolean => arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL"),
        Kind::Texts | Kind::TextOrTexts => arg.action(ArgAction::Append).value_name("TEXT").allow_hyphen_values(true),
        Kind::TextMap | Kind::BooleanMap | Kind::TextsMap => arg.action(ArgAction::Append).value_name("KEY:VALUE"),
        Kind::Integer | Kind::Number => arg.action(ArgAction::Set).value_name("NUMBER").allow_hyphen_values(true),
        Kind::Duration => arg.action(ArgAction::Set).value_name("DURATION").allow_hyphen_values(true),
        _ => arg.action(ArgAction::Set).value_name("TEXT").allow_hyphen_values(true),
    }
}

/// Tells whether a key belongs to executors that this version does not have.
fn is_of_absent_executor(entry: &Entry) -> bool {
    let Some((table, _)) = entry.path.split_once('.') else { return false };
    let mut owners = EXECUTORS.iter().filter(|executor| executor.tables.contains(&table)).peekable();
    owners.peek().is_some() && owners.all(|executor| !executor.runs)
}

fn help(entry: &Entry) -> String {
    let place = match entry.path.rsplit_once('.') {
        Some((table, key)) => format!("`{key}` in `[runners.{table}]`"),
        None => format!("`{}` of the entry", entry.path),
    };
    match entry.support {
        Support::Honoured => place,
        Support::Approximated(how) => format!("{place}; {how}"),
        Support::Ignored(why) => format!("{place}; without effect: {why}"),
    }
}

/// Returns the value of a flag, `None` for an empty number or boolean, or the words for what it takes.
fn value(entry: &Entry, texts: &[&str]) -> Result<Option<toml::Value>, &'static str> {
    let last = texts.last().copied().unwrap_or_default();
    let expected = entry.key.kind.describe();
    let strings = |texts: Vec<&str>| toml::Value::Array(texts.into_iter().map(|text| toml::Value::String(text.to_owned())).collect());
    let value = match entry.key.kind {
        Kind::Boolean => toml::Value::Boolean(go_bool(last).map_err(|_| expected)?),
        Kind::Integer | Kind::Number | Kind::Duration if last.is_empty() => return Ok(None),
        Kind::Integer => toml::Value::Integer(last.parse().map_err(|_| expected)?),
        Kind::Number => toml::Value::Float(last.parse().map_err(|_| expected)?),
        Kind::Duration => toml::Value::String(GoDuration::parse(last).ok_or(expected)?.to_string()),
        Kind::Texts => strings(texts.to_vec()),
        // The one list that GitLab Runner splits.
        Kind::TextOrTexts => {
            strings(texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty()).collect())
        }
        Kind::TextMap => map(texts, |text| Some(toml::Value::String(text.to_owned()))).ok_or("`key:value`")?,
        Kind::BooleanMap => map(texts, |text| go_bool(text).ok().map(toml::Value::Boolean)).ok_or("`key:true` or `key:false`")?,
        Kind::TextsMap => map(texts, |text| Some(strings(text.split(',').collect()))).ok_or("`key:value`")?,
        _ => toml::Value::String(last.to_owned()),
    };
    Ok(Some(value))
}

fn map(texts: &[&str], value: impl Fn(&str) -> Option<toml::Value>) -> Option<toml::Value> {
    let pairs = texts.iter().filter(|text| !text.is_empty()).map(|text| {
        let (key, text) = text.split_once(':')?;
        Some((key.to_owned(), value(text)?))
    });
    pairs.collect::<Option<toml::Table>>().map(toml::Value::Table)
}

fn insert(values: &mut toml::Table, path: &str, value: toml::Value) {
    match path.split_once('.') {
        None => {
            values.insert(path.to_owned(), value);
        }
        Some((table, rest)) => {
            let inner = values.entry(table).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(args_override_self = true)]
    struct Typed {
        #[command(flatten)]
        options: RunnerOptionArgs,
    }

    fn check(arguments: &[&str], expected: &str) {
        let typed = Typed::try_parse_from(["x"].iter().chain(arguments)).expect("the command line parses");
        assert_eq!(typed.options.values, expected.parse::<toml::Table>().expect("TOML"), "{arguments:?}");
    }

    #[test]
    fn flags_of_every_type_fill_the_entry() {
        check(
            &["--url", "u", "--name", "a", "--description", "b", "--limit", "3", "--unhealthy-interval", "90m"],
            "url = 'u'\nname = 'b'\nlimit = 3\nunhealthy_interval = '1h30m0s'",
        );
        check(
            &["--docker-privileged", "--docker-tlsverify=false", "--docker-pull-policy", "always,never", "--env", "A=1,2", "--env", "B=-"],
            "environment = ['A=1,2', 'B=-']\ndocker = { privileged = true, tls_verify = false, pull_policy = ['always', 'never'] }",
        );
        check(
            &["--feature-flags", "FF_X:true", "--docker-sysctls", "a.b:1:2", "--cache-s3-bucket-name", "b"],
            "feature_flags = { FF_X = true }\ndocker = { sysctls = { 'a.b' = '1:2' } }\ncache = { s3 = { BucketName = 'b' } }",
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_names_its_flag() {
        let error = Typed::try_parse_from(["x", "--limit", "many"]).expect_err("no number").to_string();
        assert!(error.contains("--limit takes a whole number, not `many`"), "{error}");
    }
}
