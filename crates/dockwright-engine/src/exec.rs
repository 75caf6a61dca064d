//! Processes executed in running containers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dockwright_container::{
    process::{ExecSpec, TerminalSize},
    spawner::SpawnerError,
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{
    Engine,
    container::{
        Container, Fields, Status, health,
        stdio::{self, Input, Output, Pipes, Terminal},
    },
    error::{Context as _, EngineError, ErrorKind, Result},
    event::EventType,
    id,
};

/// How long output is read after the process ended, when something it left in the background keeps its streams open.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Finished processes of one container that can still be inspected.
const KEPT_EXECS: usize = 256;
const SIGKILL: i32 = 9;

/// What `POST /containers/{id}/exec` asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExecConfig {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) user: String,
    pub(crate) working_dir: String,
    pub(crate) privileged: bool,
    pub(crate) tty: bool,
    pub(crate) attach_stdin: bool,
    pub(crate) attach_stdout: bool,
    pub(crate) attach_stderr: bool,
    pub(crate) detach_keys: Option<String>,
    pub(crate) size: Option<TerminalSize>,
}

impl ExecConfig {
    /// Reads the body of a request.
    pub(crate) fn parse(body: &Value) -> Result<Self> {
        let fields = Fields::of(body, "the request")?;
        let args = fields.strings("Cmd")?;
        if args.is_empty() {
            return Err(EngineError::invalid("No exec command specified"));
        }
        Ok(Self {
            args,
            env: fields.strings("Env")?,
            user: fields.string("User")?,
            working_dir: fields.string("WorkingDir")?,
            privileged: fields.bool("Privileged")?,
            tty: fields.bool("Tty")?,
            attach_stdin: fields.bool("AttachStdin")?,
            attach_stdout: fields.bool("AttachStdout")?,
            attach_stderr: fields.bool("AttachStderr")?,
            detach_keys: fields.optional_string("DetachKeys")?,
            size: parse_size(body)?,
        })
    }
}

/// Reads `ConsoleSize: [rows, columns]`.
pub(crate) fn parse_size(body: &Value) -> Result<Option<TerminalSize>> {
    let Some(value) = Fields::of(body, "the request")?.get("ConsoleSize") else { return Ok(None) };
    let number = |at: usize| value[at].as_u64().and_then(|number| u16::try_from(number).ok());
    let invalid = || EngineError::invalid("invalid JSON: ConsoleSize must be two numbers");
    let size = TerminalSize { rows: number(0).ok_or_else(invalid)?, columns: number(1).ok_or_else(invalid)? };
    Ok(Some(size))
}

/// A process to be executed, running, or finished.
pub(crate) struct Exec {
    pub(crate) id: String,
    pub(crate) container: Arc<Container>,
    pub(crate) config: ExecConfig,
    pub(crate) output: Arc<Output>,
    pub(crate) input: Input,
    state: Mutex<ExecState>,
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct ExecState {
    started: bool,
    running: bool,
    exit_code: Option<i32>,
    pid: u32,
    terminal: Option<Arc<Terminal>>,
}

impl Exec {
    fn state(&self) -> MutexGuard<'_, ExecState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the process to end.
    pub(crate) async fn wait(&self) {
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Sets the size of the terminal.
    pub(crate) fn resize(&self, size: TerminalSize) -> Result<()> {
        let terminal = self.state().terminal.clone();
        match terminal {
            Some(terminal) => terminal.resize(size).context("resize the terminal"),
            None => Err(EngineError::conflict(format!("exec {} has no terminal or is not running", self.id))),
        }
    }

    fn finish(&self, exit_code: i32) {
        self.input.close();
        self.output.close();
        let mut state = self.state();
        state.running = false;
        state.exit_code = Some(exit_code);
        state.terminal = None;
        drop(state);
        self.ended.send_replace(true);
    }

    /// Returns what `GET /exec/{id}/json` shows.
    pub(crate) fn shown(&self) -> Value {
        let state = self.state();
        let (entrypoint, arguments) = self.config.args.split_first().expect("checked when it was made");
        let config = &self.config;
        json!({
            "ID": self.id,
            "Running": state.running,
            "ExitCode": state.exit_code,
            "ProcessConfig": {
                "tty": config.tty,
                "entrypoint": entrypoint,
                "arguments": arguments,
                "privileged": config.privileged,
                "user": config.user,
            },
            "OpenStdin": config.attach_stdin,
            "OpenStderr": config.attach_stderr,
            "OpenStdout": config.attach_stdout,
            "CanRemove": state.exit_code.is_some(),
            "ContainerID": self.container.id,
            "DetachKeys": config.detach_keys.clone().unwrap_or_default(),
            "Pid": state.pid,
        })
    }
}

/// The executed processes of one engine.
#[derive(Default)]
pub(crate) struct Execs {
    table: Mutex<HashMap<String, Arc<Exec>>>,
}

impl Execs {
    /// Finds a process by its full id.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Exec>> {
        self.lock().get(id).cloned().ok_or_else(|| EngineError::not_found(format!("No such exec instance: {id}")))
    }

    /// Forgets the processes of a removed container.
    pub(crate) fn forget(&self, ids: &[String]) {
        self.lock().retain(|id, _| !ids.contains(id));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_running(container: &Container) -> Result<()> {
    match container.state().status {
        Status::Running => Ok(()),
        Status::Paused => Err(EngineError::conflict(format!("container {} is paused, unpause the container before exec", container.id))),
        Status::Restarting => {
            Err(EngineError::conflict(format!("Container {} is restarting, wait until the container is running", container.id)))
        }
        _ => Err(container.not_running()),
    }
}

impl Engine {
    /// Prepares a process in a running container.
    pub(crate) fn create_exec(&self, container: &Arc<Container>, config: ExecConfig) -> Result<String> {
        check_running(container)?;
        let exec = self.new_exec(container, config);
        let id = exec.id.clone();
        self.execs().lock().insert(id.clone(), Arc::clone(&exec));
        self.remember_exec(container, &id);
        self.exec_event(&exec, &format!("exec_create: {}", exec.config.args.join(" ")));
        Ok(id)
    }

    fn new_exec(&self, container: &Arc<Container>, config: ExecConfig) -> Arc<Exec> {
        Arc::new(Exec {
            id: id::random(),
            container: Arc::clone(container),
            config,
            output: Arc::new(Output::new(None)),
            input: Input::default(),
            state: Mutex::default(),
            ended: watch::Sender::new(false),
        })
    }

    /// Keeps the table small: the oldest finished processes are forgotten.
    fn remember_exec(&self, container: &Container, id: &str) {
        let mut table = self.execs().lock();
        let mut state = container.state();
        state.execs.push(id.to_owned());
        if state.execs.len() > KEPT_EXECS {
            let finished = |id: &String| table.get(id).is_none_or(|exec| exec.state().exit_code.is_some());
            if let Some(oldest) = state.execs.iter().position(finished) {
                let oldest = state.execs.remove(oldest);
                table.remove(&oldest);
            }
        }
    }

    fn exec_event(&self, exec: &Exec, action: &str) {
        let mut attributes = exec.container.event_attributes();
        attributes.insert("execID".to_owned(), exec.id.clone());
        if let Some(exit_code) = exec.state().exit_code {
            attributes.insert("exitCode".to_owned(), exit_code.to_string());
        }
        self.events().emit(EventType::Container, action, &exec.container.id, attributes);
    }

    /// Says whether a prepared process can be started now.
    pub(crate) fn check_exec(&self, exec: &Exec) -> Result<()> {
        check_running(&exec.container)?;
        if exec.state().started { Err(already_run(exec)) } else { Ok(()) }
    }

    /// Starts a prepared process. It can be started once.
    pub(crate) async fn start_exec(&self, exec: &Arc<Exec>, size: Option<TerminalSize>) -> Result<()> {
        check_running(&exec.container)?;
        if std::mem::replace(&mut exec.state().started, true) {
            return Err(already_run(exec));
        }
        self.exec_event(exec, &format!("exec_start: {}", exec.config.args.join(" ")));
        let started = self.try_start_exec(exec, size).await;
        if let Err(error) = &started {
            exec.finish(failed_exec_code(&error.message));
        }
        started
    }

    async fn try_start_exec(&self, exec: &Arc<Exec>, size: Option<TerminalSize>) -> Result<()> {
        let config = &exec.config;
        let mut process = self.process(&exec.container, config.args.clone(), &config.env);
        process.terminal = config.tty.then(|| size.or(config.size).unwrap_or_default());
        process.capabilities.privileged |= config.privileged;
        if config.tty && !process.env.iter().any(|entry| entry.starts_with("TERM=")) {
            process.env.push("TERM=xterm".to_owned());
        }
        if !config.user.is_empty() {
            process.user.clone_from(&config.user);
        }
        if !config.working_dir.is_empty() {
            process.cwd.clone_from(&config.working_dir);
        }
        let spec = ExecSpec { id: exec.id.clone(), container: exec.container.id.clone(), process };
        let (pipes, ends) = if config.tty {
            (None, None)
        } else {
            let (pipes, ends) = Pipes::new(config.attach_stdin).context("make the pipes of a process")?;
            (Some(pipes), Some(ends))
        };
        let exit = self.sandbox().expect_exit(&exec.id);
        let started = self.sandbox().ask(move |spawner| spawner.exec(&spec, ends.as_ref().map(stdio::ProcessEnds::stdio))).await;
        let started = started.map_err(|error| {
            self.sandbox().forget_exit(&exec.id);
            exec_error(&error)
        })?;
        let carrying = match (started.terminal, pipes) {
            (Some(terminal), _) => {
                let input = config.attach_stdin.then_some(&exec.input);
                let (terminal, carrying) = stdio::carry_terminal(terminal, input, &exec.output).context("use the terminal")?;
                exec.state().terminal = Some(terminal);
                carrying
            }
            (None, Some(pipes)) => pipes.carry(&exec.input, &exec.output).context("use the pipes")?,
            (None, None) => JoinSet::new(),
        };
        {
            let mut state = exec.state();
            state.running = true;
            state.pid = started.pid;
        }
        let (engine, exec) = (self.clone(), Arc::clone(exec));
        tokio::spawn(async move {
            let mut carrying = carrying;
            // No event means that the sandbox, and this process with it, is ending.
            let Ok(event) = exit.await else { return };
            let _ = timeout(DRAIN_TIMEOUT, async { while carrying.join_next().await.is_some() {} }).await;
            exec.finish(event.status.code());
            engine.exec_event(&exec, "exec_die");
        });
        Ok(())
    }

    /// Executes a health check and returns its exit code and the beginning of its output. Dropped early, it kills the process.
    pub(crate) async fn probe(&self, container: &Arc<Container>, args: Vec<String>) -> Result<(i32, String)> {
        let exec = self.new_exec(container, ExecConfig { args, ..ExecConfig::default() });
        let mut chunks = exec.output.attach();
        let guard = KillOnDrop { engine: self.clone(), exec: Arc::clone(&exec) };
        self.start_exec(&exec, None).await?;
        let mut output = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            let room = health::OUTPUT_BYTES.saturating_sub(output.len());
            output.extend_from_slice(&chunk.bytes[..chunk.bytes.len().min(room)]);
        }
        exec.wait().await;
        drop(guard);
        let exit_code = exec.state().exit_code.unwrap_or(-1);
        Ok((exit_code, String::from_utf8_lossy(&output).into_owned()))
    }
}

fn already_run(exec: &Exec) -> EngineError {
    EngineError::conflict(format!("Error: Exec command {} has already run", exec.id))
}

struct KillOnDrop {
    engine: Engine,
    exec: Arc<Exec>,
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if self.exec.state().running {
            let (engine, id) = (self.engine.clone(), self.exec.id.clone());
            tokio::spawn(async move { engine.sandbox().ask(move |spawner| spawner.signal(&id, SIGKILL)).await });
        }
    }
}

fn failed_exec_code(message: &str) -> i32 {
    if message.contains("executable file not found") || message.contains("no such file or directory") { 127 } else { 126 }
}

fn exec_error(error: &SpawnerError) -> EngineError {
    let text = crate::error::chain(error);
    let message = format!("OCI runtime exec failed: exec failed: unable to start container process: {text}");
    let kind = match error.kind() {
        dockwright_container::spawner::ErrorKind::Exec => ErrorKind::Invalid,
        _ => ErrorKind::Internal,
    };
    EngineError::new(kind, message)
}
