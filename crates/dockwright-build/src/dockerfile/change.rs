//! `--change` of `docker import` and `dockwright image import`: instructions that set how containers of an image run.

use dockwright_store::config::{Empty, RunConfig};

use super::{
    Instruction, ParseError,
    instruction::{Command, parse_trigger},
    lexer::{LexError, Lexer},
};

/// What runs a command that is not written as a list.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Why a change cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("understand the value")]
    Value(#[from] LexError),
    #[error("`{0}` cannot be set on an image that is imported; CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR can")]
    NotAllowed(String),
    #[error("`{0}` is not PORT or PORT/PROTOCOL")]
    Port(String),
}

/// Applies one instruction, such as `ENV LANG=C.UTF-8`.
pub fn apply(config: &mut RunConfig, text: &str) -> Result<(), ChangeError> {
    let lexer = Lexer::new('\\', &|_| None);
    match parse_trigger(text)?.instruction {
        Instruction::Cmd(command) => config.cmd = Some(words(command)),
        Instruction::Entrypoint(command) => config.entrypoint = Some(words(command)),
        Instruction::Env(pairs) => {
            for (name, value) in pairs {
                set_variable(&mut config.env, &lexer.word(&name)?, &lexer.word(&value)?);
            }
        }
        Instruction::Expose(ports) => {
            for port in ports {
                config.exposed_ports.insert(port_with_protocol(&lexer.word(&port)?)?, Empty {});
            }
        }
        Instruction::Label(labels) => {
            for label in labels {
                config.labels.insert(lexer.word(&label.name)?, lexer.word(&label.value)?);
            }
        }
        Instruction::StopSignal(signal) => config.stop_signal = Some(lexer.word(&signal)?),
        Instruction::User(user) => config.user = lexer.word(&user)?,
        Instruction::Volume(paths) => {
            for path in paths {
                config.volumes.insert(lexer.word(&path)?, Empty {});
            }
        }
        Instruction::Workdir(path) => config.working_dir = lexer.word(&path)?,
        _ => return Err(ChangeError::NotAllowed(text.split_whitespace().next().unwrap_or(text).to_owned())),
    }
    Ok(())
}

fn words(command: Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words,
        Command::Shell(line) => SHELL.map(str::to_owned).into_iter().chain([line]).collect(),
    }
}

fn set_variable(variables: &mut Vec<String>, name: &str, value: &str) {
    let assignment = format!("{name}={value}");
    match variables.iter_mut().find(|variable| variable.split('=').next() == Some(name)) {
        Some(existing) => *existing = assignment,
        None => variables.push(assignment),
    }
}

fn port_with_protocol(text: &str) -> Result<String, ChangeError> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let known = matches!(protocol, "tcp" | "udp" | "sctp");
    match port.parse::<u16>() {
        Ok(port) if known => Ok(format!("{port}/{protocol}")),
        _ => Err(ChangeError::Port(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instruction_sets_its_part() {
        let mut config = RunConfig { env: vec!["PATH=/bin".to_owned()], ..RunConfig::default() };
        for change in [
            r#"CMD ["/bin/tool", "--serve"]"#,
            "ENTRYPOINT exec tool",
            "ENV PATH=/usr/bin NAME=\"two words\"",
            "EXPOSE 80 53/udp",
            "LABEL a=b",
            "USER 1000:1000",
            "WORKDIR /work",
            "VOLUME /data",
            "STOPSIGNAL SIGINT",
        ] {
            apply(&mut config, change).unwrap_or_else(|error| panic!("{change}: {error}"));
        }
        assert_eq!(config.cmd, Some(vec!["/bin/tool".to_owned(), "--serve".to_owned()]));
        assert_eq!(config.entrypoint, Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), "exec tool".to_owned()]));
        assert_eq!(config.env, ["PATH=/usr/bin", "NAME=two words"]);
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1000:1000", "/work"));
        assert!(config.volumes.contains_key("/data") && config.labels["a"] == "b");
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
    }

    #[test]
    fn what_needs_a_build_is_refused() {
        for change in ["RUN make", "COPY a b", "NONSENSE x", "EXPOSE http", "EXPOSE 80/ip"] {
            assert!(apply(&mut RunConfig::default(), change).is_err(), "{change}");
        }
    }
}
