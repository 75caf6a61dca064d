//! Instructions that only edit the image's configuration, and `WORKDIR`, which may also make a directory.

use std::{
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use dockwright_store::config::{Empty, Healthcheck as ImageHealthcheck};

use super::{Solver, StepError, expand_word, history, stage::StageState};
use crate::{
    copy::{Appearance, RootWriter, WriteError},
    dockerfile::{
        Instruction, Step,
        instruction::{ArgDeclaration, Command, Healthcheck, Label},
        lexer::Lexer,
    },
    tree::{Tree as _, resolve},
};

/// Linux signals without `SIG`, in the order of their numbers from 1.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD",
    "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const MAX_SIGNAL: u32 = 64;

impl Solver<'_> {
    /// Runs an instruction that changes no file.
    pub(super) fn metadata(&mut self, step: &Step, state: &mut StageState) -> Result<(), StepError> {
        let before = serde_json::to_vec(&state.image.config).expect("a configuration is valid JSON");
        let text = apply(&step.instruction, self.file.directives.escape, state)?;
        let created_by = history::no_operation(&state.shell(), &text);
        let inputs = state.inputs().with("instruction", &created_by).with_digest("configuration so far", &before);
        self.settle(step, state, &inputs, &created_by, |_, _| Ok(None))
    }

    pub(super) fn workdir(&mut self, step: &Step, path: &str, state: &mut StageState) -> Result<(), StepError> {
        let snapshot = state.clone();
        let lookup = |name: &str| snapshot.variable(name);
        let requested = expand_word(Lexer::new(self.file.directives.escape, &lookup), path)?;
        if requested.is_empty() {
            return Err(StepError::BlankWorkdir);
        }
        let directory = join(&state.image.config.working_dir, &requested);
        state.image.config.working_dir = directory.clone();
        let created_by = history::file_operation(&state.shell(), &format!("WORKDIR {directory}"));
        let inputs = state.inputs().with("instruction", &created_by);
        self.settle(step, state, &inputs, &created_by, |solver, state| {
            if solver.directory_exists(&directory, state)? {
                return Ok(None);
            }
            let made = solver.backend.begin_step(state.layers()).map_err(StepError::backend("prepare the image's files"))?;
            make_directory(made.root(), &directory, solver).map_err(|source| StepError::Write { keyword: "WORKDIR", source })?;
            let layer = made.commit().map_err(StepError::backend("store the layer"))?;
            Ok(layer.map(|layer| layer.diff_id))
        })
    }

    fn directory_exists(&mut self, directory: &str, state: &StageState) -> Result<bool, StepError> {
        if state.layers().is_empty() {
            return Ok(directory == "/");
        }
        let root = self.root_of(state.layers())?;
        let failed = |source| StepError::Read { path: PathBuf::from(directory), source };
        let path = resolve(&root, Path::new(directory)).map_err(failed)?;
        Ok(root.metadata(&path).map_err(failed)?.is_some_and(|metadata| metadata.is_directory()))
    }
}

/// Makes a directory of the image, where it is missing.
pub(super) fn make_directory(root: BorrowedFd<'_>, directory: &str, solver: &Solver<'_>) -> Result<(), WriteError> {
    let mut writer = RootWriter::new(root, solver.new_directory_time());
    let path = writer.resolve(Path::new(directory))?;
    writer.make_directories(&path, &Appearance::default())?;
    writer.finish()
}

/// Joins and cleans, as Go does; the result is absolute.
pub(super) fn join(directory: &str, path: &str) -> String {
    let base = if path.starts_with('/') { "" } else { directory };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Edits the configuration and returns the instruction as the history shows it.
fn apply(instruction: &Instruction, escape: char, state: &mut StageState) -> Result<String, StepError> {
    let snapshot = state.clone();
    let lookup = |name: &str| snapshot.variable(name);
    let lexer = Lexer::new(escape, &lookup);
    let expand = |word: &str| expand_word(lexer, word);
    match instruction {
        Instruction::Arg(declarations) => arg(declarations, lexer, state),
        Instruction::Cmd(command) => {
            let argv = argv(command, state);
            state.has_cmd = true;
            let text = format!("CMD {}", history::quoted_list(&argv));
            state.image.config.cmd = Some(argv);
            Ok(text)
        }
        Instruction::Entrypoint(command) => {
            let argv = argv(command, state);
            if !state.has_cmd {
                state.image.config.cmd = None;
            }
            let text = format!("ENTRYPOINT {}", history::quoted_list(&argv));
            state.image.config.entrypoint = Some(argv).filter(|argv| !argv.is_empty());
            Ok(text)
        }
        Instruction::Env(pairs) => env(pairs, lexer, state),
        Instruction::Expose(ports) => expose(ports, lexer, state),
        Instruction::Healthcheck(check) => {
            let before = state.image.config.healthcheck.take().unwrap_or_default();
            state.image.config.healthcheck = Some(image_healthcheck(check, before));
            Ok(format!("HEALTHCHECK {}", history::healthcheck(check)))
        }
        Instruction::Label(labels) => label(labels, lexer, state),
        Instruction::Maintainer(author) => {
            state.image.author = Some(author.clone());
            Ok(format!("MAINTAINER {author}"))
        }
        Instruction::OnBuild(trigger) => {
            state.image.config.on_build.push(trigger.clone());
            Ok(format!("ONBUILD {trigger}"))
        }
        Instruction::Shell(shell) => {
            state.image.config.shell = Some(shell.clone());
            Ok(format!("SHELL [{}]", shell.join(" ")))
        }
        Instruction::StopSignal(signal) => {
            let signal = expand(signal)?;
            check_signal(&signal)?;
            state.image.config.stop_signal = Some(signal.clone());
            Ok(format!("STOPSIGNAL {signal}"))
        }
        Instruction::User(user) => {
            let user = expand(user)?;
            state.image.config.user.clone_from(&user);
            Ok(format!("USER {user}"))
        }
        Instruction::Volume(volumes) => {
            let volumes = volumes.iter().map(|volume| expand(volume)).collect::<Result<Vec<_>, _>>()?;
            state.image.config.volumes.extend(volumes.iter().map(|volume| (volume.clone(), Empty {})));
            Ok(format!("VOLUME [{}]", volumes.join(" ")))
        }
        Instruction::Add(_) | Instruction::Copy(_) | Instruction::Run(_) | Instruction::Workdir(_) => {
            unreachable!("these change files and are dispatched elsewhere")
        }
    }
}

/// The command as a process gets it.
pub(super) fn argv(command: &Command, state: &StageState) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(text) => state.shell().into_iter().chain([text.clone()]).collect(),
    }
}

fn arg(declarations: &[ArgDeclaration], lexer: Lexer<'_>, state: &mut StageState) -> Result<String, StepError> {
    let mut text = String::from("ARG");
    for declaration in declarations {
        let name = expand_word(lexer, &declaration.name)?;
        let default = declaration.default.as_deref().map(|default| expand_word(lexer, default)).transpose()?;
        text.extend([" ", &name]);
        if let Some(default) = &default {
            text.extend(["=", default]);
        }
        state.args.declare(&name, default);
    }
    Ok(text)
}

fn env(pairs: &[(String, String)], lexer: Lexer<'_>, state: &mut StageState) -> Result<String, StepError> {
    let mut text = String::from("ENV");
    for (name, value) in pairs {
        let (name, value) = (expand_word(lexer, name)?, expand_word(lexer, value)?);
        if name.is_empty() {
            return Err(StepError::BlankName("ENV"));
        }
        text.extend([" ", &name, "=", &value]);
        state.set_env(&name, &value);
    }
    Ok(text)
}

fn label(labels: &[Label], lexer: Lexer<'_>, state: &mut StageState) -> Result<String, StepError> {
    let mut text = String::from("LABEL");
    for label in labels {
        let expand = |word: &String| if label.expand { expand_word(lexer, word) } else { Ok(word.clone()) };
        let (name, value) = (expand(&label.name)?, expand(&label.value)?);
        if name.is_empty() {
            return Err(StepError::BlankName("LABEL"));
        }
        text.extend([" ", &name, "=", &value]);
        state.image.config.labels.insert(name, value);
    }
    Ok(text)
}

fn expose(words: &[String], lexer: Lexer<'_>, state: &mut StageState) -> Result<String, StepError> {
    let mut ports = Vec::new();
    for word in words {
        ports.extend(lexer.words(word).map_err(|source| StepError::Expand { word: word.clone(), source })?);
    }
    for port in &ports {
        let (first, last, protocol) = parse_port(port).ok_or_else(|| StepError::InvalidPort(port.clone()))?;
        state.image.config.exposed_ports.extend((first..=last).map(|number| (format!("{number}/{protocol}"), Empty {})));
    }
    Ok(format!("EXPOSE {}", ports.join(" ")))
}

/// `[ip:][host:]container[-end][/proto]`: only the container's part matters.
fn parse_port(text: &str) -> Option<(u16, u16, String)> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let range = range.rsplit(':').next()?;
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last, protocol))
}

fn check_signal(signal: &str) -> Result<(), StepError> {
    let known = match signal.parse::<u32>() {
        Ok(number) => (1..=MAX_SIGNAL).contains(&number),
        Err(_) => {
            let upper = signal.to_ascii_uppercase();
            let name = upper.strip_prefix("SIG").unwrap_or(&upper);
            let real_time =
                |prefix| name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.parse::<u8>().is_ok_and(|n| n <= 15));
            SIGNALS.contains(&name)
                || matches!(name, "IOT" | "POLL" | "CLD")
                || real_time("RTMIN")
                || real_time("RTMAX")
                || real_time("RTMIN+")
                || real_time("RTMAX-")
        }
    };
    if known { Ok(()) } else { Err(StepError::InvalidSignal(signal.to_owned())) }
}

/// What is not given is inherited, as in Docker's classic builder; a field that is zero is not written.
fn image_healthcheck(check: &Healthcheck, before: ImageHealthcheck) -> ImageHealthcheck {
    let given = |value: i64, before: Option<i64>| Some(value).filter(|value| *value != 0).or(before);
    ImageHealthcheck {
        test: check.test.clone(),
        interval: given(check.interval, before.interval),
        timeout: given(check.timeout, before.timeout),
        start_period: given(check.start_period, before.start_period),
        start_interval: given(check.start_interval, before.start_interval),
        retries: given(check.retries, before.retries),
        ..before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let tcp = |first, last| Some((first, last, "tcp".to_owned()));
        assert_eq!(parse_port("80"), tcp(80, 80));
        assert_eq!(parse_port("127.0.0.1:8080:9000-9001/TCP"), tcp(9000, 9001));
        assert_eq!(parse_port("53/udp"), Some((53, 53, "udp".to_owned())));
        for bad in ["", "x", "80/icmp", "2-1", "70000", "1-"] {
            assert_eq!(parse_port(bad), None, "{bad}");
        }
    }

    #[test]
    fn signals() {
        for good in ["TERM", "SIGTERM", "sigterm", "9", "64", "SIGRTMIN+3", "RTMAX-14"] {
            assert!(check_signal(good).is_ok(), "{good}");
        }
        for bad in ["", "0", "65", "SIGFOO", "RTMIN+99"] {
            assert_eq!(check_signal(bad).unwrap_err().to_string(), format!("Invalid signal: {bad}"));
        }
    }

    #[test]
    fn directories_are_joined_and_cleaned() {
        assert_eq!(join("", "a"), "/a");
        assert_eq!(join("/x/y", "../z/./"), "/x/z");
        assert_eq!(join("/x", "/../b//c"), "/b/c");
    }
}
