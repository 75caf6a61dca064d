//! `runner run`: the service.
//!
//! ```text
//! config.toml ─► Runners ─► Manager ─► jobs         signals, a changed file, time ─► Service, which changes the Manager
//! ```

mod http;
mod notify;
mod runners;
mod signals;
mod watch;

use std::{sync::Arc, time::Duration};

use clap::ValueEnum as _;
use dockwright_runner::{
    config::{
        file::{ConfigFile, LoadedConfig, RunnerEntry},
        schema::Support,
    },
    manager::{Manager, Metrics, diff},
};
use jiff::Timestamp;
use tokio::time::{Instant, interval, timeout};

pub(super) use self::runners::Runners;
use self::{
    notify::Supervisor,
    signals::{Signal, Signals},
    watch::Watch,
};
use super::{
    config_file::{RunnerConfigFile, print_problems, variable},
    lint, reset_token, server,
};
use crate::{
    cli::{LogFormat, LogLevel, RunnerLogArgs, RunnerRunArgs},
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    log::RunnerLog,
    settings::GlobalSettings,
};

/// How often the file is looked at.
const WATCH_INTERVAL_SECS: u64 = 3;
const DEFAULT_SHUTDOWN_TIMEOUT_SECS: u64 = 30;
/// A token is replaced after this part of its life.
const ROTATION_PERCENT: i64 = 75;
const ROTATION_RETRY_SECS: u64 = 60;

pub(super) fn run(
    arguments: &RunnerRunArgs,
    log_arguments: &RunnerLogArgs,
    log: &RunnerLog,
    settings: &GlobalSettings,
) -> Result<ExitCode, CommandError> {
    refuse_other_user(arguments.user.as_deref())?;
    let file = RunnerConfigFile::decide(&arguments.config);
    tracing::info!(service = arguments.service, ConfigFile = %file.path().display(), "Starting multi-runner");
    let watch = Watch::begin(file.path());
    // A container starts before anybody can register in it.
    let loaded = file.load_if_there()?.unwrap_or_else(|| {
        tracing::warn!(ConfigFile = %file.path().display(), "There is no configuration yet; waiting for `register` to make it");
        LoadedConfig::default()
    });
    let runtime = server::runtime()?;
    let ended = runtime.block_on(async {
        let mut service = Service::prepare(arguments, log_arguments, log, settings, file, watch)?;
        service.start(loaded).await?;
        service.work().await
    });
    // What a job's executor left behind does not keep the process.
    runtime.shutdown_background();
    ended
}

/// Jobs in the shell run as whoever runs the service, so another name would promise what does not happen.
fn refuse_other_user(user: Option<&str>) -> Result<(), CommandError> {
    let Some(user) = user.filter(|user| !user.is_empty()) else { return Ok(()) };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let id = passwd.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':')?.split(':').nth(1)?.parse::<u32>().ok());
    if id == Some(rustix::process::geteuid().as_raw()) {
        return Ok(());
    }
    Err(CommandError::usage(format!("jobs do not run as `{user}`, but as the user who runs this command"))
        .hint(format!("start the service as `{user}` (in its unit: `User={user}`), and leave --user away")))
}

/// The running service.
struct Service<'a> {
    arguments: &'a RunnerRunArgs,
    log: &'a RunnerLog,
    /// What the command line says of the log wins over the file.
    log_arguments: &'a RunnerLogArgs,
    file: RunnerConfigFile,
    watch: Watch,
    runners: Runners,
    metrics: Arc<Metrics>,
    manager: Manager,
    current: ConfigFile,
    supervisor: Supervisor,
    signals: Signals,
    next_rotation: Instant,
}

impl<'a> Service<'a> {
    fn prepare(
        arguments: &'a RunnerRunArgs,
        log_arguments: &'a RunnerLogArgs,
        log: &'a RunnerLog,
        settings: &GlobalSettings,
        file: RunnerConfigFile,
        watch: Watch,
    ) -> Result<Self, CommandError> {
        let metrics = Arc::<Metrics>::default();
        Ok(Self {
            arguments,
            log,
            log_arguments,
            runners: Runners::prepare(settings, &file, arguments.working_directory.as_deref())?,
            file,
            watch,
            manager: Manager::new(1, 0, Arc::clone(&metrics)),
            metrics,
            current: ConfigFile::default(),
            supervisor: Supervisor::of_environment(),
            signals: Signals::listen().explain(ErrorKind::Environment, || "wait for signals".to_owned())?,
            next_rotation: Instant::now(),
        })
    }

    /// Begins to take jobs.
    async fn start(&mut self, loaded: LoadedConfig) -> Result<(), CommandError> {
        let configured = loaded.file.listen_address.clone();
        let address = self.arguments.listen_address.clone().unwrap_or(configured);
        if !address.is_empty() {
            http::serve(&address, Arc::clone(&self.metrics)).await?;
        }
        self.apply(loaded).await;
        self.supervisor.tell("READY=1");
        Ok(())
    }

    /// Works until told to stop.
    async fn work(&mut self) -> Result<ExitCode, CommandError> {
        let mut ticks = interval(Duration::from_secs(WATCH_INTERVAL_SECS));
        loop {
            tokio::select! {
                signal = self.signals.next() => match signal {
                    Signal::Reload => self.reload().await,
                    Signal::Drain => return Ok(self.drain().await),
                    Signal::Stop => return Ok(self.stop().await),
                },
                _ = ticks.tick() => {
                    if self.watch.has_changed() {
                        self.reload().await;
                    }
                    self.rotate_tokens().await;
                }
            }
        }
    }

    /// Takes over a new configuration, if it can be used.
    async fn reload(&mut self) {
        self.supervisor.tell_reloading();
        match self.file.read() {
            Ok(Some(text)) => {
                let loaded = LoadedConfig::read(&text, variable);
                print_problems(&loaded.problems, self.file.path(), &text);
                match loaded.is_valid() {
                    true => self.apply(loaded).await,
                    false => self.refuse("it is not valid"),
                }
            }
            Ok(None) => self.refuse("the file is gone"),
            Err(error) => self.refuse(&error.parts().message),
        }
        self.supervisor.tell("READY=1");
    }

    fn refuse(&self, reason: &str) {
        self.metrics.configuration_read(false);
        tracing::error!(reason, "Failed to load config; the present one stays");
    }

    async fn apply(&mut self, loaded: LoadedConfig) {
        self.metrics.configuration_read(true);
        for key in &loaded.used {
            match (key.support, lint::remark(key)) {
                (Support::Ignored(_), Some(remark)) => tracing::warn!("{remark}"),
                (_, Some(remark)) => tracing::info!("{remark}"),
                (_, None) => {}
            }
        }
        let change = diff(&self.manager.entries(), &self.current, &loaded.file);
        let concurrent = usize::try_from(loaded.file.concurrent).unwrap_or(1);
        self.manager.set_shared(concurrent, loaded.file.check_interval);
        for entry in &change.removed {
            self.manager.remove(entry);
        }
        for entry in change.added {
            self.add(entry).await;
        }
        self.apply_log(&loaded.file);
        self.current = loaded.file;
        tracing::info!(builds = self.manager.jobs(), concurrent, runners = self.manager.entries().len(), "Configuration loaded");
    }

    /// Takes over what the file says of the log and the command line does not.
    fn apply_log(&self, file: &ConfigFile) {
        let typed = self.log_arguments;
        let is_level_typed = typed.debug == Some(true) || typed.log_level.is_some();
        if let (Some(level), false) = (file.log_level.as_deref(), is_level_typed) {
            self.log.set_level(LogLevel::from_str(level, true).unwrap_or_default());
        }
        if let (Some(format), false) = (file.log_format.as_deref(), typed.log_format.is_some()) {
            self.log.set_format(LogFormat::from_str(format, true).unwrap_or_default());
        }
    }

    /// An entry that cannot work does not keep the others from it.
    async fn add(&mut self, entry: RunnerEntry) {
        let (runner, name) = (entry.token.short().to_owned(), entry.name.clone());
        let result = match self.runners.make(entry, &self.file) {
            Ok(managed) => self.manager.add(managed).await.map_err(|error| CommandError::new(ErrorKind::Environment, error)),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            let parts = error.parts();
            let reason = std::iter::once(parts.message).chain(parts.causes).collect::<Vec<_>>().join(": ");
            tracing::error!(runner, name, reason, "This runner takes no jobs");
        }
    }

    /// Replaces tokens that end soon. The file changes with them, and is then read as any change of it.
    async fn rotate_tokens(&mut self) {
        if Instant::now() < self.next_rotation {
            return;
        }
        for (index, entry) in self.current.runners.iter().enumerate().filter(|(_, entry)| is_due(entry, Timestamp::now())) {
            if let Err(error) = reset_token::reset(index, entry, None, &self.file).await {
                tracing::error!(runner = entry.token.short(), error = error.parts().message, "Token rotation failed");
            }
            self.next_rotation = Instant::now() + Duration::from_secs(ROTATION_RETRY_SECS);
        }
    }

    /// Ends when the jobs at work are done, or at a second signal.
    async fn drain(&mut self) -> ExitCode {
        self.supervisor.tell("STOPPING=1");
        tracing::warn!(builds = self.manager.jobs(), "Starting graceful shutdown, waiting for builds to finish");
        self.manager.drain();
        let done = self.manager.done();
        let is_done = tokio::select! {
            () = done => true,
            () = self.signals.next_stop() => false,
        };
        match is_done {
            true => self.end().await,
            false => self.stop().await,
        }
    }

    /// Ends jobs, too, and waits for that for a limited time.
    async fn stop(&mut self) -> ExitCode {
        self.supervisor.tell("STOPPING=1");
        tracing::warn!(builds = self.manager.jobs(), "Starting forceful shutdown");
        self.manager.drain();
        self.manager.abort();
        let seconds = u64::try_from(self.current.shutdown_timeout).ok().filter(|seconds| *seconds > 0);
        let limit = Duration::from_secs(seconds.unwrap_or(DEFAULT_SHUTDOWN_TIMEOUT_SECS));
        let done = self.manager.done();
        let is_done = tokio::select! {
            result = timeout(limit, done) => result.is_ok(),
            () = self.signals.next_stop() => false,
        };
        if is_done {
            return self.end().await;
        }
        tracing::error!("Jobs did not end in time; they are left to the kernel");
        self.runners.kill();
        ExitCode::JobFailed
    }

    async fn end(&self) -> ExitCode {
        self.runners.end().await;
        tracing::info!("All builds have finished");
        ExitCode::Success
    }
}

fn is_due(entry: &RunnerEntry, now: Timestamp) -> bool {
    let (Some(obtained), Some(expires)) = (entry.token_obtained_at, entry.token_expires_at) else { return false };
    let life = expires.as_second().saturating_sub(obtained.as_second());
    now.as_second() >= obtained.as_second().saturating_add(life.saturating_mul(ROTATION_PERCENT) / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_replaced_after_three_quarters_of_its_life() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let entry = RunnerEntry { token_obtained_at: Some(at(1000)), token_expires_at: Some(at(2000)), ..RunnerEntry::default() };
        assert_eq!([1749, 1750].map(|second| is_due(&entry, at(second))), [false, true]);
        assert!(!is_due(&RunnerEntry { token_expires_at: None, ..entry }, at(5000)));
    }
}
