//! The instructions, typed and checked, grouped into stages.
//!
//! What needs no environment is decided here: flags, numbers of arguments, JSON or shell form. Texts that undergo expansion are kept as
//! written.

mod flags;
mod health;
mod reader;

use std::ops::RangeInclusive;

pub use health::Healthcheck;
pub(crate) use reader::is_url;

use super::{
    ParseError,
    parser::{self, Directives, Heredoc},
    suggest,
};

/// A checked file.
#[derive(Debug, Clone, PartialEq)]
pub struct Dockerfile {
    pub directives: Directives,
    /// `ARG`s before the first `FROM`.
    pub global_args: Vec<Step>,
    pub stages: Vec<Stage>,
    pub warnings: Vec<String>,
}

/// A `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Lower case.
    pub name: Option<String>,
    pub base: String,
    pub platform: Option<String>,
    /// The `FROM` line.
    pub original: String,
    pub line: usize,
    pub steps: Vec<Step>,
}

/// One instruction with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub instruction: Instruction,
    /// As `Step 2/3 :` shows it.
    pub original: String,
    pub lines: RangeInclusive<usize>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    Add(Copy),
    Arg(Vec<ArgDeclaration>),
    Cmd(Command),
    Copy(Copy),
    Entrypoint(Command),
    Env(Vec<(String, String)>),
    Expose(Vec<String>),
    Healthcheck(Healthcheck),
    Label(Vec<Label>),
    Maintainer(String),
    /// The trigger's text, here-documents included.
    OnBuild(String),
    Run(Run),
    Shell(Vec<String>),
    StopSignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

/// `name` or `name=default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDeclaration {
    pub name: String,
    pub default: Option<String>,
}

/// A command line in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `["a", "b"]`
    Exec(Vec<String>),
    /// The rest is for the shell.
    Shell(String),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub command: Command,
    /// `--network`: `default`, `none` or `host`.
    pub network: Option<String>,
    /// A single here-document that starts with `#!` and is the whole command: run as a file.
    pub script: Option<Heredoc>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub name: String,
    pub value: String,
    /// Labels of the request are taken literally.
    pub expand: bool,
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    pub sources: Vec<Source>,
    pub destination: String,
    /// `--from`: a stage's name or number, or an image.
    pub from: Option<String>,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    pub link: bool,
    pub exclude: Vec<String>,
    /// ADD only.
    pub checksum: Option<String>,
    /// ADD only: unpack archives; absent means local ones only.
    pub unpack: Option<bool>,
}

impl Copy {
    /// A copy without flags, sources and destination.
    pub fn plain() -> Self {
        Self {
            sources: Vec::new(),
            destination: String::new(),
            from: None,
            chown: None,
            chmod: None,
            link: false,
            exclude: Vec::new(),
            checksum: None,
            unpack: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Path(String),
    Heredoc(Heredoc),
}

impl Dockerfile {
    /// Parses and checks a file.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let syntax = parser::parse(text)?;
        check_frontend(&syntax.directives)?;
        let mut file = Self { directives: syntax.directives, global_args: Vec::new(), stages: Vec::new(), warnings: syntax.warnings };
        for node in syntax.nodes {
            let line = *node.lines.start();
            if node.keyword == "from" {
                let stage = reader::stage(&node)?;
                file.stages.push(stage);
                continue;
            }
            let step = reader::step(node, file.directives.escape)?;
            match file.stages.last_mut() {
                Some(stage) => stage.steps.push(step),
                None if matches!(step.instruction, Instruction::Arg(_)) => file.global_args.push(step),
                None => {
                    let message = "no build stage in current context";
                    return Err(
                        ParseError::at_line(line, message).help("only ARG may come before the first FROM; put `FROM <image>` above it")
                    );
                }
            }
        }
        if file.stages.is_empty() {
            return Err(ParseError::whole_file("no build stage in current context").help("add `FROM <image>` after the ARG lines"));
        }
        Ok(file)
    }

    /// Finds a stage by name (any case) or number.
    pub fn stage_index(&self, name: &str) -> Option<usize> {
        let by_name = self.stages.iter().rposition(|stage| stage.name.as_deref().is_some_and(|other| other.eq_ignore_ascii_case(name)));
        by_name.or_else(|| name.parse().ok().filter(|index| *index < self.stages.len()))
    }

    /// The names that could have been meant by an unknown stage.
    pub fn similar_stage(&self, name: &str) -> Option<&str> {
        suggest::nearest(name, self.stages.iter().filter_map(|stage| stage.name.as_deref()))
    }
}

/// Reads a trigger that an image's `ONBUILD` stored.
pub fn parse_trigger(text: &str) -> Result<Step, ParseError> {
    reader::step(parser::parse_one(text, '\\')?, '\\')
}

/// `# syntax=` may only name what is built in.
fn check_frontend(directives: &Directives) -> Result<(), ParseError> {
    let Some(frontend) = directives.syntax.as_deref().and_then(|value| value.split_whitespace().next()) else { return Ok(()) };
    let name = frontend.split(['@']).next().unwrap_or(frontend);
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let repository = name.split(':').next().unwrap_or(name);
    if matches!(repository, "docker/dockerfile" | "docker/dockerfile-upstream" | "dockerfile.v0") {
        return Ok(());
    }
    let help = "remove the directive, or name `docker/dockerfile:1`, whose language is built in";
    Err(ParseError::at_line(1, format!("frontend `{frontend}` is not supported")).about(frontend).help(help))
}

#[cfg(test)]
mod tests;
