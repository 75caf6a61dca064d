//! Flags of an instruction: which are known, said once, and of which kind.

use super::{
    super::{ParseError, parser::Node},
    suggest,
};

/// The flags of one instruction, checked against those it knows.
pub(super) struct Flags<'n> {
    node: &'n Node,
    values: Vec<(&'n str, Option<&'n str>)>,
}

impl<'n> Flags<'n> {
    /// `repeatable` flags may come several times.
    pub(super) fn read(node: &'n Node, known: &[&str], repeatable: &[&str]) -> Result<Self, ParseError> {
        let mut values: Vec<(&str, Option<&str>)> = Vec::new();
        for flag in &node.flags {
            let body = flag.strip_prefix("--").unwrap_or(flag);
            let (name, value) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
            if !known.contains(&name) {
                return Err(unknown_flag(node, name, known));
            }
            if values.iter().any(|(other, _)| *other == name) && !repeatable.contains(&name) {
                return Err(error(node, format!("duplicate flag specified: --{name}")).about(flag));
            }
            values.push((name, value));
        }
        Ok(Self { node, values })
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'n str>, ParseError> {
        match self.values.iter().find(|(other, _)| *other == name) {
            None => Ok(None),
            Some((_, Some(value))) => Ok(Some(value)),
            Some((_, None)) => {
                let help = format!("write `--{name}=<value>`");
                Err(error(self.node, format!("missing a value on flag: --{name}")).about(&format!("--{name}")).help(help))
            }
        }
    }

    pub(super) fn owned(&self, name: &str) -> Result<Option<String>, ParseError> {
        Ok(self.text(name)?.map(str::to_owned))
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'n str> {
        self.values.iter().filter(move |(other, _)| *other == name).filter_map(|(_, value)| *value)
    }

    /// `--name`, `--name=true` or `--name=false`.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, ParseError> {
        match self.values.iter().find(|(other, _)| *other == name) {
            None => Ok(None),
            Some((_, None | Some("true"))) => Ok(Some(true)),
            Some((_, Some("false"))) => Ok(Some(false)),
            Some((_, Some(value))) => {
                let message = format!("expecting boolean value for flag --{name}, not: {value}");
                Err(error(self.node, message).about(value).help(format!("write `--{name}`, `--{name}=true` or `--{name}=false`")))
            }
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(other, _)| *other == name)
    }
}

fn unknown_flag(node: &Node, name: &str, known: &[&str]) -> ParseError {
    let error = error(node, format!("unknown flag: --{name}")).about(&format!("--{name}"));
    let keyword = node.keyword.to_uppercase();
    match suggest::nearest(name, known.iter().copied()) {
        Some(nearest) => error.help(format!("did you mean `--{nearest}`?")),
        None if known.is_empty() => error.help(format!("{keyword} has no flags")),
        None => {
            let list: Vec<String> = known.iter().map(|flag| format!("`--{flag}`")).collect();
            error.help(format!("{keyword} knows {}", list.join(", ")))
        }
    }
}

pub(super) fn error(node: &Node, message: impl Into<String>) -> ParseError {
    ParseError::at_line(*node.lines.start(), message)
}
