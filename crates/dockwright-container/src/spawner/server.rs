//! PID 1's loop: requests of the engine, reports of clones on their way, and ends of children.
//!
//! Nothing here waits for one container: a start is a clone that works by itself and reports over its own socket, so forty starts run
//! side by side. What PID 1 does itself (mounting an overlay, opening a root) takes a fraction of a millisecond.

mod requests;
mod state;

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, WaitOptions, WaitStatus, wait, waitpid},
};

use self::state::{Container, Member};
use super::{Answer, ExitEvent, ExitStatus, Failure, Message, Response};
use crate::{
    cgroup::Hierarchy,
    process::Report,
    socket::{MAX_MESSAGE_BYTES, SocketError, recv_with_fds, send_with_fds},
    sys,
};

/// Exit code when PID 1 cannot go on.
const BROKEN: u8 = 125;

/// PID 1's state.
pub(crate) struct Server {
    spawner: OwnedFd,
    signals: OwnedFd,
    engine: Pid,
    /// Whether requests may still come.
    engine_listens: bool,
    hierarchies: Vec<Hierarchy>,
    /// Attached layers: where they are mounted.
    layers: HashMap<String, u64>,
    layers_made: u64,
    containers: HashMap<String, Container>,
    /// Everything that was started and not reaped, by pid.
    members: HashMap<Pid, Member>,
    /// Clones that have not executed or reported their end yet.
    underway: Vec<Underway>,
}

/// A clone on its way.
struct Underway {
    /// The request to answer.
    number: u64,
    pid: Pid,
    socket: OwnedFd,
    /// What it reported so far.
    opened: Vec<OwnedFd>,
    terminal: bool,
    /// Whether it executes something; otherwise it only does a task and ends.
    executes: bool,
}

impl Server {
    pub(crate) fn new(spawner: OwnedFd, signals: OwnedFd, engine: Pid, hierarchies: Vec<Hierarchy>) -> Self {
        Self {
            spawner,
            signals,
            engine,
            engine_listens: true,
            hierarchies,
            layers: HashMap::new(),
            layers_made: 0,
            containers: HashMap::new(),
            members: HashMap::new(),
            underway: Vec::new(),
        }
    }

    /// Serves until the engine or the engine host ends; returns the exit code.
    pub(crate) fn run(mut self, control: &OwnedFd) -> u8 {
        loop {
            let ready = match self.wait_for_something(control) {
                Ok(ready) => ready,
                Err(_) => return BROKEN,
            };
            // The engine host never speaks again: whatever arrives is its end.
            if ready.control {
                return 0;
            }
            for index in ready.underway.into_iter().rev() {
                self.hear(index);
            }
            if ready.signals
                && let Some(code) = self.reap()
            {
                return code;
            }
            if ready.spawner {
                self.serve_one();
            }
        }
    }

    fn wait_for_something(&self, control: &OwnedFd) -> rustix::io::Result<Ready> {
        let fixed = [control, &self.signals, &self.spawner];
        let sockets = fixed.into_iter().chain(self.underway.iter().map(|clone| &clone.socket));
        let mut polled: Vec<PollFd<'_>> = sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        if !self.engine_listens {
            // A closed socket would be ready for ever.
            polled[2] = PollFd::new(&self.signals, PollFlags::empty());
        }
        rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
        let is_ready = |at: usize| !polled[at].revents().is_empty();
        let underway = (3..polled.len()).filter(|at| is_ready(*at)).map(|at| at - 3).collect();
        Ok(Ready { control: is_ready(0), signals: is_ready(1), spawner: is_ready(2), underway })
    }

    /// Reads one report of a clone, or its exec, which closes the socket.
    fn hear(&mut self, index: usize) {
        let clone = &mut self.underway[index];
        let report = recv_with_fds(&clone.socket, MAX_MESSAGE_BYTES).ok();
        let report = report.and_then(|(body, descriptors)| Some((serde_json::from_slice::<Report>(&body).ok()?, descriptors)));
        match report {
            Some((Report::Opened { terminal }, descriptors)) => {
                clone.opened = descriptors;
                clone.terminal = terminal;
            }
            Some((Report::Failed(failure), _)) => {
                let clone = self.underway.remove(index);
                // It exits at once; its cgroup can be removed, and its id be used again, only then.
                let _ = rustix::io::retry_on_intr(|| waitpid(Some(clone.pid), WaitOptions::empty()));
                self.members.remove(&clone.pid).inspect(|member| member.forget(&mut self.containers));
                self.answer(clone.number, Err(failure), &[]);
            }
            None => {
                let clone = self.underway.remove(index);
                let pid = clone.pid.as_raw_nonzero().get().unsigned_abs();
                let answer = if clone.executes { Answer::Started { pid, terminal: clone.terminal } } else { Answer::Done };
                self.answer(clone.number, Ok(answer), &clone.opened);
            }
        }
    }

    /// Reaps every child that ended. Returns the exit code when the engine was among them.
    fn reap(&mut self) -> Option<u8> {
        let mut information = [0_u8; 128 * 8];
        // Only wakes the loop; several ends may share one signal.
        while rustix::io::read(&self.signals, &mut information).is_ok() {}
        loop {
            let (pid, status) = match wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => ended,
                Err(rustix::io::Errno::INTR) => continue,
                Ok(None) | Err(_) => return None,
            };
            if pid == self.engine {
                return Some(u8::try_from(exit_status(status).code()).unwrap_or(BROKEN));
            }
            self.ended(pid, exit_status(status));
        }
    }

    fn ended(&mut self, pid: Pid, status: ExitStatus) {
        // Its last words may still be unread: a failure, which makes this no exit of anything, or the exec that preceded a short life.
        while let Some(index) = self.underway.iter().position(|clone| clone.pid == pid) {
            self.hear(index);
        }
        let Some(member) = self.members.remove(&pid) else { return };
        let Some(id) = member.reported_id() else { return };
        let oom_killed = member.oom_killed(&self.containers);
        member.forget(&mut self.containers);
        let pid = pid.as_raw_nonzero().get().unsigned_abs();
        self.send(&Response::Exit(ExitEvent { id, pid, status, oom_killed }), &[]);
    }

    /// Reads and carries out one request.
    fn serve_one(&mut self) {
        let message = match recv_with_fds(&self.spawner, MAX_MESSAGE_BYTES) {
            Ok((body, descriptors)) => serde_json::from_slice(&body).ok().map(|message| (message, descriptors)),
            Err(SocketError::Closed) => {
                // The engine is ending; its exit is what counts.
                self.engine_listens = false;
                return;
            }
            Err(_) => None,
        };
        let Some((Message { number, request }, descriptors)) = message else {
            // The engine is this very binary. What it cannot have said means that something else speaks for it.
            self.engine_listens = false;
            let _ = sys::kill(self.engine, libc::SIGKILL);
            return;
        };
        match self.carry_out(number, request, descriptors) {
            Ok(Some((answer, descriptors))) => self.answer(number, Ok(answer), &descriptors),
            // A clone will answer.
            Ok(None) => {}
            Err(refusal) => self.answer(number, Err(refusal.into()), &[]),
        }
    }

    fn answer(&self, number: u64, answer: Result<Answer, Failure>, descriptors: &[OwnedFd]) {
        self.send(&Response::Answer { number, answer }, descriptors);
    }

    fn send(&self, response: &Response, descriptors: &[OwnedFd]) {
        let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
        let body = serde_json::to_vec(response).expect("responses hold only what JSON can say");
        // If the engine is gone, its exit ends the loop.
        let _ = send_with_fds(&self.spawner, &body, &descriptors);
    }
}

struct Ready {
    control: bool,
    signals: bool,
    spawner: bool,
    underway: Vec<usize>,
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal),
        (None, None) => ExitStatus::Code(i32::from(BROKEN)),
    }
}
