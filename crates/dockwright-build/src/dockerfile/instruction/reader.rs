//! From a parser's node to a typed instruction: one function per keyword.

use super::{
    super::{
        ParseError,
        parser::{self, Node, NotStrings},
    },
    ArgDeclaration, Command, Copy, Instruction, Label, Run, Source, Stage, Step,
    flags::{Flags, error},
    health, suggest,
};

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a `FROM`.
pub(super) fn stage(node: &Node) -> Result<Stage, ParseError> {
    let flags = Flags::read(node, &["platform"], &[])?;
    let words: Vec<&str> = node.text.split_whitespace().collect();
    let (base, name) = match words.as_slice() {
        [base] => (*base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("as") => (*base, Some(stage_name(node, name)?)),
        _ => {
            let help = "write `FROM <image>` or `FROM <image> AS <name>`";
            return Err(error(node, "FROM requires either one or three arguments").help(help));
        }
    };
    Ok(Stage {
        name,
        base: base.to_owned(),
        platform: flags.owned("platform")?,
        original: node.original.clone(),
        line: *node.lines.start(),
        steps: Vec::new(),
    })
}

fn stage_name(node: &Node, name: &str) -> Result<String, ParseError> {
    let lower = name.to_lowercase();
    let starts_well = lower.starts_with(|c: char| c.is_ascii_lowercase());
    if starts_well && lower.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.')) {
        return Ok(lower);
    }
    let help = "a name starts with a letter and goes on with letters, digits, `-`, `_` and `.`";
    Err(error(node, format!("invalid name for build stage: {name:?}, name can't start with a number or contain symbols"))
        .about(name)
        .help(help))
}

/// Reads any other instruction.
pub(super) fn step(node: Node, escape: char) -> Result<Step, ParseError> {
    let instruction = match node.keyword.as_str() {
        "add" => Instruction::Add(add(&node)?),
        "arg" => Instruction::Arg(arg(&node, escape)?),
        "cmd" => Instruction::Cmd(without_flags(&node, command)?),
        "copy" => Instruction::Copy(copy(&node)?),
        "entrypoint" => Instruction::Entrypoint(without_flags(&node, command)?),
        "env" => Instruction::Env(key_values(&node, escape)?),
        "expose" => Instruction::Expose(expose(&node)?),
        "healthcheck" => Instruction::Healthcheck(health::read(&node)?),
        "label" => Instruction::Label(labels(&node, escape)?),
        "maintainer" => Instruction::Maintainer(without_flags(&node, one_argument)?),
        "onbuild" => Instruction::OnBuild(on_build(&node, escape)?),
        "run" => Instruction::Run(run(&node)?),
        "shell" => Instruction::Shell(without_flags(&node, shell)?),
        "stopsignal" => Instruction::StopSignal(without_flags(&node, one_argument)?),
        "user" => Instruction::User(without_flags(&node, one_argument)?),
        "volume" => Instruction::Volume(volume(&node)?),
        "workdir" => Instruction::Workdir(without_flags(&node, one_argument)?),
        unknown => return Err(unknown_instruction(&node, unknown)),
    };
    Ok(Step { instruction, original: node.original, lines: node.lines })
}

fn unknown_instruction(node: &Node, keyword: &str) -> ParseError {
    let keyword = keyword.to_uppercase();
    let written = node.original.split_whitespace().next().unwrap_or_default();
    let error = error(node, format!("unknown instruction: {keyword}")).about(written);
    match suggest::nearest(&keyword, KEYWORDS) {
        Some(nearest) => error.help(format!("did you mean `{nearest}`?")),
        None => error.help("if this continues the line above, end that line with a backslash"),
    }
}

fn without_flags<T>(node: &Node, read: fn(&Node) -> Result<T, ParseError>) -> Result<T, ParseError> {
    Flags::read(node, &[], &[])?;
    read(node)
}

fn one_argument(node: &Node) -> Result<String, ParseError> {
    if node.text.is_empty() {
        return Err(error(node, format!("{} requires exactly one argument", node.keyword.to_uppercase())));
    }
    Ok(node.text.clone())
}

fn not_strings(node: &Node) -> ParseError {
    error(node, "when using JSON array syntax, arrays must be comprised of strings only").about(&node.text)
}

/// Exec or shell form.
fn command(node: &Node) -> Result<Command, ParseError> {
    match parser::json_strings(&node.text) {
        Some(Ok(words)) => Ok(Command::Exec(words)),
        Some(Err(NotStrings)) => Err(not_strings(node)),
        None => Ok(Command::Shell(node.text.clone())),
    }
}

fn shell(node: &Node) -> Result<Vec<String>, ParseError> {
    match parser::json_strings(&node.text) {
        Some(Ok(words)) if !words.is_empty() => Ok(words),
        Some(Ok(_)) => Err(error(node, "SHELL requires at least one argument")),
        Some(Err(NotStrings)) => Err(not_strings(node)),
        None => Err(error(node, format!("SHELL requires the arguments to be in JSON form: {}", node.text))
            .help(r#"write `SHELL ["/bin/bash", "-c"]`"#)),
    }
}

fn run(node: &Node) -> Result<Run, ParseError> {
    let flags = Flags::read(node, &["mount", "network", "security", "device"], &["mount", "device"])?;
    let line = *node.lines.start();
    if flags.has("mount") {
        let help = "remove the mount: COPY what the step reads, and expect downloads to be repeated";
        return Err(ParseError::at_line(line, "RUN --mount is not supported").about("--mount").help(help));
    }
    if flags.has("device") {
        return Err(ParseError::at_line(line, "RUN --device is not supported").about("--device"));
    }
    match flags.text("security")? {
        None | Some("sandbox") => {}
        Some("insecure") => return Err(ParseError::at_line(line, "RUN --security=insecure is not supported").about("--security=insecure")),
        Some(other) => return Err(ParseError::at_line(line, format!("security {other:?} is not valid")).about(other)),
    }
    let network = flags.owned("network")?;
    if let Some(other) = network.as_deref().filter(|name| !matches!(*name, "default" | "none" | "host")) {
        let help = "RUN knows `--network=default`, `none` and `host`";
        return Err(ParseError::at_line(line, format!("network mode {other:?} is not valid")).about(other).help(help));
    }
    if node.text.is_empty() {
        return Err(error(node, "RUN requires at least one argument"));
    }
    let (command, script) = match node.heredocs.as_slice() {
        [] => (command(node)?, None),
        [only] if node.text == only.word && only.body.starts_with("#!") => (Command::Shell(node.text.clone()), Some(only.clone())),
        [only] if node.text == only.word => (Command::Shell(only.body.clone()), None),
        _ => (Command::Shell(with_bodies(node)), None),
    };
    Ok(Run { command, network, script })
}

/// The text as the shell would have read it from the file.
fn with_bodies(node: &Node) -> String {
    let bodies = node.heredocs.iter().map(|heredoc| format!("{}{}\n", heredoc.body, heredoc.name));
    std::iter::once(format!("{}\n", node.text)).chain(bodies).collect()
}

fn copy(node: &Node) -> Result<Copy, ParseError> {
    let flags = Flags::read(node, &["from", "chown", "chmod", "link", "parents", "exclude"], &["exclude"])?;
    if flags.boolean("parents")? == Some(true) {
        let help = "copy each directory by itself";
        return Err(error(node, "COPY --parents is not supported").about("--parents").help(help));
    }
    let from = flags.owned("from")?;
    let (sources, destination) = sources_and_destination(node)?;
    Ok(Copy { from, ..common_copy(&flags, sources, destination)? })
}

fn add(node: &Node) -> Result<Copy, ParseError> {
    let known = ["chown", "chmod", "link", "exclude", "checksum", "unpack", "keep-git-dir"];
    let flags = Flags::read(node, &known, &["exclude"])?;
    let (sources, destination) = sources_and_destination(node)?;
    if let Some(Source::Path(url)) = sources.iter().find(|source| matches!(source, Source::Path(path) if is_git(path))) {
        let help = "clone it in the job and COPY the result";
        return Err(error(node, "ADD of a git repository is not supported").about(url).help(help));
    }
    Ok(Copy { checksum: flags.owned("checksum")?, unpack: flags.boolean("unpack")?, ..common_copy(&flags, sources, destination)? })
}

fn common_copy(flags: &Flags<'_>, sources: Vec<Source>, destination: String) -> Result<Copy, ParseError> {
    Ok(Copy {
        sources,
        destination,
        chown: flags.owned("chown")?,
        chmod: flags.owned("chmod")?,
        link: flags.boolean("link")?.unwrap_or(false),
        exclude: flags.all("exclude").map(str::to_owned).collect(),
        ..Copy::plain()
    })
}

fn is_git(path: &str) -> bool {
    let location = path.split(['#', '?']).next().unwrap_or(path);
    path.starts_with("git@") || path.starts_with("git://") || path.starts_with("ssh://") || (is_url(path) && location.ends_with(".git"))
}

/// Whether ADD fetches it.
pub(crate) fn is_url(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}

fn sources_and_destination(node: &Node) -> Result<(Vec<Source>, String), ParseError> {
    let keyword = node.keyword.to_uppercase();
    let mut words = match parser::json_strings(&node.text) {
        Some(Ok(words)) => words,
        Some(Err(NotStrings)) => return Err(not_strings(node)),
        None => node.text.split_whitespace().map(str::to_owned).collect(),
    };
    let help = format!("write `{keyword} <source>... <destination>`");
    let Some(destination) = words.pop() else {
        return Err(error(node, format!("{keyword} requires at least two arguments")).help(help));
    };
    if words.is_empty() {
        let message = format!("{keyword} requires at least two arguments, but only one was provided. Destination could not be determined");
        return Err(error(node, message).help(help));
    }
    let heredoc = |word: &str| node.heredocs.iter().find(|heredoc| heredoc.word == word).cloned();
    if heredoc(&destination).is_some() {
        return Err(error(node, format!("{keyword} cannot accept a heredoc as a destination")).about(&destination));
    }
    let sources = words.into_iter().map(|word| heredoc(&word).map_or(Source::Path(word), Source::Heredoc)).collect();
    Ok((sources, destination))
}

fn arg(node: &Node, escape: char) -> Result<Vec<ArgDeclaration>, ParseError> {
    Flags::read(node, &[], &[])?;
    let words = parser::split_words(&node.text, escape);
    if words.is_empty() {
        return Err(error(node, "ARG requires at least one argument"));
    }
    let declaration = |word: String| match word.split_once('=') {
        Some(("", _)) => Err(error(node, "ARG names can not be blank").about(&word)),
        Some((name, default)) => Ok(ArgDeclaration { name: name.to_owned(), default: Some(default.to_owned()) }),
        None => Ok(ArgDeclaration { name: word, default: None }),
    };
    words.into_iter().map(declaration).collect()
}

/// `ENV` and `LABEL`: `key=value…`, or the old form `key the rest of the line`.
fn key_values(node: &Node, escape: char) -> Result<Vec<(String, String)>, ParseError> {
    Flags::read(node, &[], &[])?;
    let keyword = node.keyword.to_uppercase();
    let words = parser::split_words(&node.text, escape);
    let Some(first) = words.first() else {
        return Err(error(node, format!("{keyword} requires at least one argument")));
    };
    if !first.contains('=') {
        let (name, value) = node.text.split_once(char::is_whitespace).unwrap_or((&node.text, ""));
        if value.trim().is_empty() {
            return Err(error(node, format!("{keyword} must have two arguments")).help(format!("write `{keyword} {name}=<value>`")));
        }
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some(("", _)) => Err(error(node, format!("{keyword} names can not be blank")).about(word)),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => {
            let message = format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value");
            Err(error(node, message).about(word).help("put quotes around a value that has blanks"))
        }
    };
    words.iter().map(pair).collect()
}

fn labels(node: &Node, escape: char) -> Result<Vec<Label>, ParseError> {
    let pairs = key_values(node, escape)?;
    Ok(pairs.into_iter().map(|(name, value)| Label { name, value, expand: true }).collect())
}

fn expose(node: &Node) -> Result<Vec<String>, ParseError> {
    Flags::read(node, &[], &[])?;
    let mut ports: Vec<String> = node.text.split_whitespace().map(str::to_owned).collect();
    if ports.is_empty() {
        return Err(error(node, "EXPOSE requires at least one argument"));
    }
    ports.sort();
    Ok(ports)
}

fn volume(node: &Node) -> Result<Vec<String>, ParseError> {
    Flags::read(node, &[], &[])?;
    let volumes = match parser::json_strings(&node.text) {
        Some(Ok(words)) => words,
        Some(Err(NotStrings)) => return Err(not_strings(node)),
        None => node.text.split_whitespace().map(str::to_owned).collect(),
    };
    let trimmed: Vec<String> = volumes.iter().map(|volume| volume.trim().to_owned()).collect();
    if trimmed.is_empty() {
        return Err(error(node, "VOLUME requires at least one argument"));
    }
    if trimmed.iter().any(String::is_empty) {
        return Err(error(node, "VOLUME specified can not be an empty string"));
    }
    Ok(trimmed)
}

fn on_build(node: &Node, escape: char) -> Result<String, ParseError> {
    // Flags before the trigger's keyword belong to nobody; those after it are the trigger's.
    Flags::read(node, &[], &[])?;
    if node.text.is_empty() {
        return Err(error(node, "ONBUILD requires at least one argument"));
    }
    let bodies: String = node.heredocs.iter().map(|heredoc| format!("{}{}\n", heredoc.body, heredoc.name)).collect();
    let text = if bodies.is_empty() { node.text.clone() } else { format!("{}\n{bodies}", node.text) };
    let trigger = parser::parse_one(&text, escape)?;
    match trigger.keyword.as_str() {
        "onbuild" => Err(error(node, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        forbidden @ ("from" | "maintainer") => {
            Err(error(node, format!("{} isn't allowed as an ONBUILD trigger", forbidden.to_uppercase())))
        }
        _ => {
            let line = *node.lines.start();
            step(Node { lines: line..=line, ..trigger }, escape)?;
            Ok(text)
        }
    }
}
