//! What operators and service managers tell the service.

use std::io;

use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

/// An order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGQUIT: end when the jobs at work are done.
    Drain,
    /// SIGTERM, SIGINT: end them, too.
    Stop,
}

/// The signals, caught from now on.
pub(super) struct Signals {
    hang_up: SignalStream,
    quit: SignalStream,
    terminate: SignalStream,
    interrupt: SignalStream,
}

impl Signals {
    /// Starts to catch them. Call it within the runtime.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next order.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hang_up.recv() => Signal::Reload,
            _ = self.quit.recv() => Signal::Drain,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
        }
    }

    /// Waits for an order to end that is more urgent than waiting.
    pub(super) async fn next_stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}
