//! SIGINT and SIGTERM, for commands that run until they are told to stop.

use std::io;

use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::exit_code::ExitCode;

/// How somebody asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    /// Returns the status of work that was cut off.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::Interrupted,
            Self::Terminate => ExitCode::Terminated,
        }
    }
}

/// The signals, caught from now on.
pub(crate) struct Stop {
    interrupt: SignalStream,
    terminate: SignalStream,
}

impl Stop {
    /// Starts to catch them. Call it within the runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    pub(crate) async fn wait(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}
