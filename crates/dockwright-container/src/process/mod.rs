//! Containers and processes: the specification, and the code that turns a clone of the sandbox's PID 1 into one.
//!
//! PID 1 is single-threaded, so its clones may do anything; they report over a socket that an exec closes (`report`), and everything
//! that can fail does so before that exec. Errors are phrased as Docker's are, because its clients read exit codes from them.

mod capabilities;
mod container;
mod execute;
mod join;
mod report;
mod root;
mod spec;
mod user;

pub(crate) use container::{ContainerTask, run_container};
pub(crate) use join::{Target, join_network, open_sockets, run_exec, run_in_mounts};
pub(crate) use report::{Refusal, Report, Reporter, describe};
pub(crate) use root::{Make, is_directory, open_in_root};
pub use spec::*;
