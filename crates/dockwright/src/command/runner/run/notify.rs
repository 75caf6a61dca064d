//! Telling systemd what the service does (`sd_notify`), if it wants to know.

use std::{
    ffi::OsString,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use rustix::time::{ClockId, clock_gettime};

use crate::environment;

/// Where a service manager listens.
#[derive(Debug)]
pub(super) struct Supervisor {
    address: Option<OsString>,
}

impl Supervisor {
    pub(super) fn of_environment() -> Self {
        Self { address: environment::read("NOTIFY_SOCKET") }
    }

    /// Sends lines of `KEY=VALUE`. That nobody listens is no matter of the service.
    pub(super) fn tell(&self, state: &str) {
        let Some(address) = &self.address else { return };
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
        };
        let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
        if let Err(error) = sent {
            tracing::debug!(%error, "the service manager was not told");
        }
    }

    /// `Type=notify-reload` wants the time, to tell this reload from an earlier one.
    pub(super) fn tell_reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1_000));
    }
}
