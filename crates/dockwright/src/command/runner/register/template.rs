//! `--template-config`: values for what flags leave open.

use std::path::Path;

use dockwright_runner::config::file::LoadedConfig;

use crate::{
    command::runner::config_file::print_problems,
    error::{CommandError, ErrorKind, Explain as _},
};

/// Fills what is empty in `values` from the one entry of a template. Its token is not taken.
pub(super) fn merge(values: &mut toml::Table, path: &Path) -> Result<(), CommandError> {
    let text = std::fs::read_to_string(path).explain(ErrorKind::Configuration, || format!("read the template `{}`", path.display()))?;
    let loaded = LoadedConfig::read(&text, |_| None);
    print_problems(&loaded.problems, path, &text);
    if !loaded.is_valid() {
        return Err(CommandError::configuration(format!("template `{}` is not valid", path.display())));
    }
    let [entry] = loaded.entries.as_slice() else {
        let message = format!("template `{}` must have one `[[runners]]`, and has {}", path.display(), loaded.entries.len());
        return Err(CommandError::configuration(message));
    };
    let mut entry = entry.clone();
    entry.remove("token");
    fill(values, entry);
    Ok(())
}

fn fill(values: &mut toml::Table, template: toml::Table) {
    for (key, value) in template {
        match (values.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(template)) => fill(inner, template),
            (Some(known), value) if is_empty(known) => *known = value,
            (None, value) => {
                values.insert(key, value);
            }
            _ => {}
        }
    }
}

/// Go's merge takes a zero for a value that was not given.
fn is_empty(value: &toml::Value) -> bool {
    match value {
        toml::Value::String(text) => text.is_empty(),
        toml::Value::Integer(number) => *number == 0,
        toml::Value::Boolean(value) => !value,
        toml::Value::Array(list) => list.is_empty(),
        _ => false,
    }
}
