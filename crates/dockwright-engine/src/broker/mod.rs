//! The broker protocol: what an engine asks of its host.
//!
//! An engine runs in a sandbox without rights on the host. Whatever needs them (reading the store, speaking to registries, mounting
//! layers) it asks for over one socket, as messages with descriptors attached. The host trusts nothing that arrives: messages have a
//! bounded length, every field is checked, and *presence is not permission*: an engine reads a layer only when it pulled it with its own
//! credentials, made it, or found it through the build cache of its scope.

mod client;
mod frame;
mod message;
mod server;
mod session;

use crate::error::{EngineError, ErrorKind};

pub use client::{Client, progress_channel};
pub(crate) use server::serve;
pub(crate) use session::{LayerMounts, Session};

pub use message::{
    Amount, BrokerError, BrokerErrorKind, Credentials, DistributionRecord, HostFacts, ImageRecord, LayerRecord, LogLevel, LoggedIn,
    PlatformRecord, Progress, Pruned, Pushed, TarOrigin,
};

/// The message is fit for the client; only the kind changes its name.
impl From<BrokerError> for EngineError {
    fn from(error: BrokerError) -> Self {
        let kind = match error.kind {
            BrokerErrorKind::NotFound => ErrorKind::NotFound,
            BrokerErrorKind::Unauthorized => ErrorKind::Unauthorized,
            BrokerErrorKind::Forbidden => ErrorKind::Forbidden,
            BrokerErrorKind::Invalid => ErrorKind::Invalid,
            BrokerErrorKind::Unavailable => ErrorKind::Unavailable,
            BrokerErrorKind::Internal => ErrorKind::Internal,
        };
        Self::new(kind, error.message)
    }
}
