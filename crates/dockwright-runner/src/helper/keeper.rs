//! `dockwright internal helper keep`: starts a shell job's scripts and sees to it that none of their processes outlives the job.
//!
//! ```text
//! runner ──orders──► keeper ──► shell of a phase ──► whatever it starts
//!        ◄─reports──    └─────► what earlier phases left running (re-parented to the keeper)
//! ```
//!
//! `helper bound PROGRAM ARGUMENT…` does the same for one program that has no orders to wait for, such as git.
//!
//! The keeper is a sub-reaper, so that every process of the job stays its descendant, also one that changed its process group or
//! whose parent ended. Its standard input is a socket to the runner. When that closes, because the job is over or because the
//! runner was killed, the keeper ends all descendants, removes the job's file variables, and ends itself.

use std::{
    collections::HashMap,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::{fd::AsFd as _, unix::net::UnixStream, unix::process::CommandExt as _},
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait},
};
use serde::{Deserialize, Serialize};

/// What descendants have between SIGTERM and SIGKILL when the job is over.
const END_GRACE: Duration = Duration::from_secs(1);
/// Descendants that do not even end on SIGKILL are given up.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// SIGKILL is sent again in case a process was just starting another.
const KILL_INTERVAL: Duration = Duration::from_millis(20);

/// What the runner asks for, one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Start a program, and give it what follows the line as its input.
    Run { program: String, arguments: Vec<String>, input_bytes: usize },
    /// End all descendants; those that are left after the grace period are killed.
    Stop { grace_ms: u64 },
}

/// What the keeper says, one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The program has ended.
    Ended { code: Option<i32>, signal: Option<i32> },
    /// The program did not start.
    NotStarted { reason: String },
}

enum Event {
    Order(Order, Vec<u8>),
    OwnerGone,
    Exited(Pid, WaitStatus),
    NoChildren,
}

/// Status of `helper bound` when the program did not start.
pub(crate) const NOT_STARTED: u8 = 127;

/// Keeps a job's processes. `temporary` holds the job's file variables; it goes with the last process.
pub(super) fn run(temporary: Option<&Path>, log: &mut dyn Write) -> ExitCode {
    let socket = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(descriptor) => UnixStream::from(descriptor),
        Err(error) => {
            let _ = writeln!(log, "ERROR: keep processes: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (events, family) = Family::adopt(log);
    let orders = socket.try_clone();
    thread::spawn(move || {
        if let Ok(orders) = orders {
            read_orders(orders, &events);
        }
        let _ = events.send(Event::OwnerGone);
    });
    let mut keeper = Keeper { socket, family, current: None, kill_at: None };
    keeper.serve();
    keeper.family.end();
    if let Some(Err(error)) = temporary.map(super::remove) {
        let _ = writeln!(log, "WARNING: {}", crate::outcome::chain(&error));
    }
    ExitCode::SUCCESS
}

/// Runs one program, and ends it with all that it started when standard input ends: the runner is gone, or wants no more of it.
pub(super) fn run_bound(arguments: &[String], log: &mut dyn Write) -> ExitCode {
    let Some((program, arguments)) = arguments.split_first() else { return ExitCode::from(2) };
    let (events, mut family) = Family::adopt(log);
    let pid = match Command::new(program).args(arguments).stdin(Stdio::null()).spawn() {
        Ok(child) => family.started(child.id()),
        Err(error) => {
            let _ = writeln!(log, "ERROR: run `{program}`: {error}");
            return ExitCode::from(NOT_STARTED);
        }
    };
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = events.send(Event::OwnerGone);
    });
    let status = loop {
        match family.inbox.recv() {
            Ok(Event::Exited(ended, status)) if Some(ended) == pid => break status,
            Ok(Event::OwnerGone) | Err(_) => {
                family.end();
                return ExitCode::FAILURE;
            }
            Ok(_) => {}
        }
    };
    family.end();
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        // As a shell says it.
        (None, signal) => ExitCode::from(128 + signal.and_then(|signal| u8::try_from(signal).ok()).unwrap_or_default()),
    }
}

fn read_orders(socket: UnixStream, events: &Sender<Event>) {
    let mut reader = BufReader::new(socket);
    loop {
        let mut line = String::new();
        if !matches!(reader.read_line(&mut line), Ok(length) if length > 0) {
            return;
        }
        let Ok(order) = serde_json::from_str::<Order>(&line) else { return };
        let mut input = Vec::new();
        if let Order::Run { input_bytes, .. } = &order {
            input.resize(*input_bytes, 0);
            if reader.read_exact(&mut input).is_err() {
                return;
            }
        }
        if events.send(Event::Order(order, input)).is_err() {
            return;
        }
    }
}

/// Waits for every child, own and adopted.
fn reap(events: &Sender<Event>, wakes: &Receiver<()>) {
    loop {
        let event = match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => Event::Exited(pid, status),
            Err(Errno::CHILD) => Event::NoChildren,
            _ => continue,
        };
        let idle = matches!(event, Event::NoChildren);
        if events.send(event).is_err() || (idle && wakes.recv().is_err()) {
            return;
        }
    }
}

/// All processes that descend from this one.
struct Family {
    inbox: Receiver<Event>,
    /// Wakes the reaper.
    spawned: Sender<()>,
}

impl Family {
    /// From now on, descendants whose parent ends are children of this process, and every end is an event.
    fn adopt(log: &mut dyn Write) -> (Sender<Event>, Self) {
        if let Err(error) = set_child_subreaper(Some(getpid())) {
            let _ = writeln!(log, "WARNING: processes that leave their parent will outlive the job: {error}");
        }
        let (events, inbox) = channel();
        let (spawned, reaper_wakes) = channel();
        let to_main = events.clone();
        thread::spawn(move || reap(&to_main, &reaper_wakes));
        (events, Self { inbox, spawned })
    }

    fn started(&mut self, id: u32) -> Option<Pid> {
        let _ = self.spawned.send(());
        i32::try_from(id).ok().and_then(Pid::from_raw)
    }

    fn end(&mut self) {
        // Mostly nothing is left, and then all processes of the machine need not be looked at.
        if self.wait_for_no_children(KILL_INTERVAL) {
            return;
        }
        signal_descendants(Signal::TERM);
        if self.wait_for_no_children(END_GRACE) {
            return;
        }
        let deadline = Instant::now() + KILL_TIMEOUT;
        while Instant::now() < deadline {
            signal_descendants(Signal::KILL);
            if self.wait_for_no_children(KILL_INTERVAL) {
                return;
            }
        }
    }

    fn wait_for_no_children(&mut self, limit: Duration) -> bool {
        // Wakes the reaper if it saw no children a while ago, so that it says so again.
        let _ = self.spawned.send(());
        let deadline = Instant::now() + limit;
        loop {
            match self.inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::NoChildren) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

struct Keeper {
    socket: UnixStream,
    family: Family,
    /// The shell of the phase that runs.
    current: Option<Pid>,
    /// When those that were asked to end are killed.
    kill_at: Option<Instant>,
}

impl Keeper {
    fn serve(&mut self) {
        loop {
            let event = match self.kill_at {
                None => self.family.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self.family.inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Order(Order::Run { program, arguments, .. }, input)) => self.start(&program, &arguments, input),
                Ok(Event::Order(Order::Stop { grace_ms }, _)) => {
                    signal_descendants(Signal::TERM);
                    self.kill_at = Some(Instant::now() + Duration::from_millis(grace_ms));
                }
                Ok(Event::Exited(pid, status)) if self.current == Some(pid) => {
                    self.current = None;
                    if self.kill_at.take().is_some() {
                        signal_descendants(Signal::KILL);
                    }
                    self.report(&Report::Ended { code: status.exit_status(), signal: status.terminating_signal() });
                }
                Ok(Event::Exited(..) | Event::NoChildren) => {}
                Err(RecvTimeoutError::Timeout) => {
                    signal_descendants(Signal::KILL);
                    self.kill_at = Some(Instant::now() + KILL_INTERVAL);
                }
                Ok(Event::OwnerGone) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn start(&mut self, program: &str, arguments: &[String], input: Vec<u8>) {
        self.kill_at = None;
        match Command::new(program).args(arguments).stdin(Stdio::piped()).process_group(0).spawn() {
            Ok(mut child) => {
                self.current = self.family.started(child.id());
                let stdin = child.stdin.take();
                // A shell that ends without reading all of its script breaks the pipe, which ends the thread.
                thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
            }
            Err(error) => self.report(&Report::NotStarted { reason: format!("run `{program}`: {error}") }),
        }
    }

    fn report(&mut self, report: &Report) {
        let mut line = serde_json::to_vec(report).expect("reports are plain data");
        line.push(b'\n');
        // Without a reader the next event is `OwnerGone`.
        let _ = self.socket.write_all(&line);
    }
}

/// A process may end meanwhile, or belong to somebody else (`sudo`); the others count.
fn signal_descendants(signal: Signal) {
    for pid in descendants(getpid()) {
        let _ = kill_process(pid, signal);
    }
}

fn descendants(root: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![root.as_raw_nonzero().get()];
    while let Some(parent) = open.pop() {
        let of_parent = children.remove(&parent).unwrap_or_default();
        found.extend(of_parent.iter().filter_map(|&pid| Pid::from_raw(pid)));
        open.extend(of_parent);
    }
    found
}

/// Reads `pid (command) state parent …`; the command may hold anything.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
