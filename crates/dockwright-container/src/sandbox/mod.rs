//! Sandboxes: what surrounds one engine and everything it runs.
//!
//! [`Sandbox::spawn`] executes the binary again as `internal sandbox` (see `launch` for the exchange), which becomes PID 1 of new
//! namespaces (`init`), builds a root of its own and starts the engine. The root is a tmpfs:
//!
//! | Path | What |
//! |---|---|
//! | `/.dockwright` | the binary, read-only |
//! | `/.layers/<n>` | attached layers, read-only for good |
//! | `/var/lib/docker` | the scratch directory on disk |
//! | `/run/dockwright/rootfs/<name>` | mounted overlays |
//! | `/proc`, `/sys`, `/dev`, `/run`, `/tmp`, `/etc` | the sandbox's own |
//! | shared paths | host directories |

mod launch;
mod mounts;
mod spawn;
mod spec;

pub(crate) mod init;

pub use init::inherited;
pub use mounts::{MountError, MountSource};
pub use spawn::{Sandbox, SpawnError, open_program, sweep_cgroups};
pub use spec::{IdMapping, RANGE_IDS, SandboxSpec, SharedPath};

pub(crate) use init::become_root;
pub(crate) use spawn::is_name;
