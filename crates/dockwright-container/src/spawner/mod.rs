//! The spawner protocol: how an engine asks PID 1 of its sandbox to start, signal and look into containers.
//!
//! One socket pair, messages of [`crate::socket`]. A request carries a number, its answer the same number; answers may overtake each
//! other, because PID 1 works on many starts at once. Exits come as events without a number, at any time after the request was *sent*
//! (a short process may end before its answer is read), so they name the process by the id its starter chose.

mod client;
mod protocol;
pub(crate) mod server;

pub use client::{SpawnerClient, SpawnerError, Stdio};
pub(crate) use protocol::{Answer, Failure, Message, Request, Response, TreeRequest};
pub use protocol::{ErrorKind, ExitEvent, ExitStatus, ProcessInfo, Started, Usage};
