//! The end of containers: signals, waiting, what happens at an exit, restarts, removal.

use std::{sync::Arc, time::Duration};

use dockwright_container::spawner::{ErrorKind as SpawnerErrorKind, ExitEvent};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::{sync::oneshot, task::JoinSet, time::timeout};

use super::{Container, Status, config::RestartPolicy};
use crate::{
    Engine,
    error::{EngineError, Result},
    event::EventType,
};

/// How long output is read after a process ended. Everything in a container ends with it, so this is for the scheduler's sake.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a process has between the stop signal and the kill, unless somebody says otherwise.
const STOP_TIMEOUT_SECS: i64 = 10;
/// How long a killed process may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);
const RESTART_DELAY_FIRST: Duration = Duration::from_millis(100);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(60);
/// A run this long makes the next restart immediate again.
const RESTART_DELAY_RESET_SECS: i64 = 10;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// What somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitCondition {
    NotRunning,
    NextExit,
    Removed,
}

/// What somebody waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waited {
    pub(crate) exit_code: i32,
}

#[rustfmt::skip]
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1), ("INT", 2), ("QUIT", 3), ("ILL", 4), ("TRAP", 5), ("ABRT", 6), ("BUS", 7), ("FPE", 8), ("KILL", 9), ("USR1", 10),
    ("SEGV", 11), ("USR2", 12), ("PIPE", 13), ("ALRM", 14), ("TERM", 15), ("STKFLT", 16), ("CHLD", 17), ("CONT", 18), ("STOP", 19),
    ("TSTP", 20), ("TTIN", 21), ("TTOU", 22), ("URG", 23), ("XCPU", 24), ("XFSZ", 25), ("VTALRM", 26), ("PROF", 27), ("WINCH", 28),
    ("IO", 29), ("PWR", 30), ("SYS", 31),
];

/// Reads `KILL`, `SIGKILL`, `9` or `RTMIN+3`.
pub(crate) fn parse_signal(text: &str) -> Result<i32> {
    const REALTIME: (i32, i32) = (34, 64);
    let invalid = || EngineError::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=REALTIME.1).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() };
    let realtime = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => offset(rest).map(|offset| REALTIME.0 + offset),
        (_, Some(rest)) => offset(rest).map(|offset| REALTIME.1 + offset),
        _ => None,
    };
    let named = || SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    realtime.filter(|number| (REALTIME.0..=REALTIME.1).contains(number)).or_else(named).ok_or_else(invalid)
}

impl Container {
    fn stop_signal(&self) -> i32 {
        self.config.stop_signal.as_deref().and_then(|signal| parse_signal(signal).ok()).unwrap_or(SIGTERM)
    }

    /// Waits for the container to reach a condition. The returned future has begun to watch already.
    pub(crate) fn wait(&self, condition: WaitCondition) -> impl Future<Output = Waited> + Send + use<> {
        let mut phase = self.watch();
        let exits = phase.borrow().exits;
        async move {
            let reached = phase.wait_for(|phase| match condition {
                WaitCondition::NotRunning => !phase.running,
                WaitCondition::NextExit => phase.exits > exits || phase.removed,
                WaitCondition::Removed => phase.removed,
            });
            // The sender is gone only after the container was removed.
            let exit_code = reached.await.map_or(0, |phase| phase.exit_code);
            Waited { exit_code }
        }
    }

    async fn wait_stopped(&self, limit: Option<Duration>) -> bool {
        let waited = self.wait(WaitCondition::NotRunning);
        match limit {
            Some(limit) => timeout(limit, waited).await.is_ok(),
            None => {
                waited.await;
                true
            }
        }
    }
}

impl Engine {
    /// Sends a signal to a container's process.
    pub(crate) async fn kill_container(&self, container: &Arc<Container>, signal: i32) -> Result<()> {
        if !container.is_running() {
            return Err(EngineError::conflict(format!(
                "cannot kill container: {}: container {} is not running",
                container.name(),
                container.id
            )));
        }
        if signal == SIGKILL || signal == container.stop_signal() {
            container.state().stop_requested = true;
        }
        self.signal(container, signal).await?;
        let mut attributes = container.event_attributes();
        attributes.insert("signal".to_owned(), signal.to_string());
        self.events().emit(EventType::Container, "kill", &container.id, attributes);
        if signal == SIGKILL {
            container.wait_stopped(Some(KILL_TIMEOUT)).await;
        }
        Ok(())
    }

    async fn signal(&self, container: &Container, signal: i32) -> Result<()> {
        let id = container.id.clone();
        match self.sandbox().ask(move |spawner| spawner.signal(&id, signal)).await {
            // It ended just now, which is what most signals are for.
            Err(error) if error.kind() == SpawnerErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }

    /// Stops a container: the stop signal, then after some time the kill.
    pub(crate) async fn stop_container(&self, container: &Arc<Container>, timeout_secs: Option<i64>, signal: Option<i32>) -> Result<()> {
        let _life = container.life.lock().await;
        self.stop_alive(container, timeout_secs, signal).await
    }

    async fn stop_alive(&self, container: &Arc<Container>, timeout_secs: Option<i64>, signal: Option<i32>) -> Result<()> {
        {
            let mut state = container.state();
            match state.status {
                Status::Running | Status::Paused => state.stop_requested = true,
                Status::Restarting => {
                    state.stop_requested = true;
                    state.status = Status::Exited;
                    return Ok(());
                }
                _ => return Err(EngineError::not_modified()),
            }
        }
        self.unfreeze(container).await;
        self.signal(container, signal.unwrap_or_else(|| container.stop_signal())).await?;
        let seconds = timeout_secs.or(container.config.stop_timeout).unwrap_or(STOP_TIMEOUT_SECS);
        // A negative time is for ever.
        let limit = u64::try_from(seconds).ok().map(Duration::from_secs);
        if !container.wait_stopped(limit).await {
            self.signal(container, SIGKILL).await?;
            container.wait_stopped(Some(KILL_TIMEOUT)).await;
        }
        self.events().emit(EventType::Container, "stop", &container.id, container.event_attributes());
        Ok(())
    }

    /// Stops a container if it runs, and starts it.
    pub(crate) async fn restart_container(&self, container: &Arc<Container>, timeout_secs: Option<i64>, signal: Option<i32>) -> Result<()> {
        let _life = container.life.lock().await;
        if container.is_running() {
            self.stop_alive(container, timeout_secs, signal).await?;
        }
        self.start_alive(container).await?;
        self.events().emit(EventType::Container, "restart", &container.id, container.event_attributes());
        Ok(())
    }

    /// Freezes a container's processes.
    pub(crate) async fn pause_container(&self, container: &Arc<Container>) -> Result<()> {
        let _life = container.life.lock().await;
        match container.state().status {
            Status::Running => {}
            Status::Paused => return Err(EngineError::conflict(format!("Container {} is already paused", container.id))),
            _ => return Err(EngineError::conflict(format!("Container {} is not running", container.id))),
        }
        let id = container.id.clone();
        self.sandbox().ask(move |spawner| spawner.pause(&id)).await?;
        container.state().status = Status::Paused;
        self.events().emit(EventType::Container, "pause", &container.id, container.event_attributes());
        Ok(())
    }

    /// Lets a container's processes go on.
    pub(crate) async fn unpause_container(&self, container: &Arc<Container>) -> Result<()> {
        let _life = container.life.lock().await;
        if container.state().status != Status::Paused {
            return Err(EngineError::conflict(format!("Container {} is not paused", container.id)));
        }
        self.unfreeze(container).await;
        self.events().emit(EventType::Container, "unpause", &container.id, container.event_attributes());
        Ok(())
    }

    async fn unfreeze(&self, container: &Container) {
        if container.state().status != Status::Paused {
            return;
        }
        let id = container.id.clone();
        match self.sandbox().ask(move |spawner| spawner.unpause(&id)).await {
            Ok(()) => container.state().status = Status::Running,
            Err(error) => tracing::warn!(%error, "unpause a container"),
        }
    }

    /// Waits for the end of a run and does what follows it.
    pub(super) async fn supervise(self, container: Arc<Container>, exit: oneshot::Receiver<ExitEvent>, mut carrying: JoinSet<()>) {
        // Without an event the sandbox itself is ending, and this process with it.
        let Ok(event) = exit.await else { return };
        let drained = timeout(DRAIN_TIMEOUT, async { while carrying.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!(container = container.id, "output of an ended container stays open");
        }
        let next = self.run_ended(&container, &event);
        match next {
            Next::Rest => {}
            Next::Remove => self.remove_after_exit(&container).await,
            Next::Restart(delay) => self.restart_later(container, delay),
        }
    }

    fn run_ended(&self, container: &Arc<Container>, event: &ExitEvent) -> Next {
        container.input.close();
        container.output.close();
        self.leave_networks(container);
        let exit_code = event.status.code();
        let (next, seconds) = {
            let mut state = container.state();
            let now = Timestamp::now();
            let seconds = state.started.map_or(0, |started| now.duration_since(started).as_secs());
            state.run = None;
            state.published.clear();
            state.pid = 0;
            state.exit_code = exit_code;
            state.oom_killed = event.oom_killed;
            state.finished = Some(now);
            let next = next_after_exit(container, &state, exit_code, seconds);
            state.status = if let Next::Restart(_) = next { Status::Restarting } else { Status::Exited };
            if let Some(health) = &mut state.health {
                health.stopped();
            }
            if seconds >= RESTART_DELAY_RESET_SECS {
                state.restart_count = 0;
            }
            (next, seconds)
        };
        let mut attributes = container.event_attributes();
        if event.oom_killed {
            self.events().emit(EventType::Container, "oom", &container.id, attributes.clone());
        }
        attributes.insert("exitCode".to_owned(), exit_code.to_string());
        attributes.insert("execDuration".to_owned(), seconds.to_string());
        self.events().emit(EventType::Container, "die", &container.id, attributes);
        container.phase.send_modify(|phase| {
            phase.running = false;
            phase.exits += 1;
            phase.exit_code = exit_code;
        });
        next
    }

    fn restart_later(&self, container: Arc<Container>, delay: Duration) {
        let engine = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _life = container.life.lock().await;
            if container.state().status != Status::Restarting {
                return;
            }
            container.state().restart_count += 1;
            if let Err(error) = engine.start_again(&container).await {
                tracing::warn!(%error, container = container.id, "restart a container");
            }
        });
    }

    /// Starts a container. Boxed, because a start supervises the run, and the end of a run starts.
    fn start_again<'a>(&'a self, container: &'a Arc<Container>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.start_alive(container))
    }

    async fn remove_after_exit(&self, container: &Arc<Container>) {
        let _life = container.life.lock().await;
        if container.state().status == Status::Exited {
            self.remove_alive(container, true).await;
        }
    }

    /// Removes a container, killing it first if `force`.
    pub(crate) async fn remove_container(&self, container: &Arc<Container>, force: bool, with_volumes: bool) -> Result<()> {
        let _life = container.life.lock().await;
        let status = container.state().status;
        let name = container.name();
        match status {
            Status::Removing => return Err(EngineError::conflict(format!("removal of container {name} is already in progress"))),
            Status::Running | Status::Paused | Status::Restarting if !force => {
                let state = if status == Status::Paused {
                    "paused"
                } else if status == Status::Restarting {
                    "restarting"
                } else {
                    "running"
                };
                let advice = if status == Status::Paused { "unpause and stop" } else { "stop" };
                return Err(EngineError::conflict(format!(
                    "cannot remove container \"/{name}\": container is {state}: {advice} the container before removing or force remove"
                )));
            }
            Status::Running | Status::Paused => {
                container.state().stop_requested = true;
                self.unfreeze(container).await;
                self.signal(container, SIGKILL).await?;
                if !container.wait_stopped(Some(KILL_TIMEOUT)).await {
                    return Err(EngineError::conflict(format!(
                        "cannot remove container \"/{name}\": could not kill container: it does not end"
                    )));
                }
            }
            Status::Created | Status::Exited | Status::Restarting => {}
        }
        self.remove_alive(container, with_volumes).await;
        Ok(())
    }

    /// Removes a container that does not run, for a caller that holds its life.
    pub(super) async fn remove_alive(&self, container: &Arc<Container>, with_volumes: bool) {
        if std::mem::replace(&mut container.state().status, Status::Removing) == Status::Removing {
            return;
        }
        self.execs().forget(&container.state().execs);
        self.discard_root(container.id.clone(), container.dir.clone()).await;
        self.containers().remove(container);
        self.release_mounts(&container.mounts, with_volumes).await;
        self.events().emit(EventType::Container, "destroy", &container.id, container.event_attributes());
        container.phase.send_modify(|phase| phase.removed = true);
    }
}

/// What follows the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Rest,
    Remove,
    Restart(Duration),
}

fn next_after_exit(container: &Container, state: &super::State, exit_code: i32, ran_secs: i64) -> Next {
    if container.host.auto_remove {
        return Next::Remove;
    }
    let restarts = match container.host.restart {
        _ if state.stop_requested => false,
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure(most) => exit_code != 0 && (most == 0 || state.restart_count < most),
    };
    let count = if ran_secs >= RESTART_DELAY_RESET_SECS { 0 } else { state.restart_count };
    if restarts { Next::Restart(restart_delay(count)) } else { Next::Rest }
}

fn restart_delay(count: u32) -> Duration {
    RESTART_DELAY_FIRST.saturating_mul(1 << count.min(16)).min(RESTART_DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_in_all_forms() {
        for (text, number) in [("KILL", 9), ("sigterm", 15), ("2", 2), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "-1", "99", "NONSENSE", "RTMIN+99"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn restarts_slow_down_to_a_minute() {
        assert_eq!(restart_delay(0), Duration::from_millis(100));
        assert_eq!(restart_delay(3), Duration::from_millis(800));
        assert_eq!(restart_delay(40), Duration::from_secs(60));
    }
}
