//! What a build tells while it runs.
//!
//! One closed set of events; the classic line stream of `POST /build`, a terminal and a log are readers of it. The order for one step is
//!
//! ```text
//! StepStarted ─► Cached | Running (Output)* Removed ─► Layer
//! ```
//!
//! `Warning` and `Pull` may come at any time. After the last step of a stage comes `StageFinished`, at the end `Built` and a `Tagged` for
//! each name.

use dockwright_store::ImageId;

use crate::backend::{OutputStream, PullProgress};

/// What a build tells while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// `Step number/total : text`.
    StepStarted { number: usize, total: usize, text: String },
    /// Progress of a pull for the current step.
    Pull(PullProgress),
    /// `# Executing N build triggers`: the base image's `ONBUILD` instructions run now, as part of this step.
    Triggers { count: usize },
    /// ` ---> Using cache`.
    Cached,
    /// ` ---> Running in <container>`.
    Running { container: String },
    /// Bytes that the process of a `RUN` printed, as they came.
    Output { stream: OutputStream, bytes: Vec<u8> },
    /// `Removing intermediate container <container>`.
    Removed { container: String },
    /// ` ---> <image>`: the image as it is after the step; `None` for `FROM scratch`, which is nothing yet.
    Layer { image: Option<ImageId> },
    /// `[Warning] …`, a whole sentence.
    Warning { message: String },
    /// `{"aux":{"ID":"sha256:…"}}`.
    StageFinished { image: ImageId },
    /// `Successfully built <image>`.
    Built { image: ImageId },
    /// `Successfully tagged <name>`.
    Tagged { name: String },
}
