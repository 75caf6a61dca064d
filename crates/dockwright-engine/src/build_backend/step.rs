//! One step of a build that may write: an overlay, perhaps a process in it, and the layer that is left.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use dockwright_build::backend::{BackendError, BuildStep, Cancel, CommittedLayer, OutputStream, RunSpec};
use dockwright_store::layer::{LayerTarOptions, write_layer_tar};
use tokio::runtime::Handle;

use super::{
    Overlay,
    run::{self, MountTargets},
};
use crate::{
    broker::TarOrigin,
    error::{Context as _, EngineError},
};

/// A writable tree above some layers.
pub(super) struct Step {
    overlay: Overlay,
    root: OwnedFd,
    runtime: Handle,
    /// What the last process found.
    targets: Option<MountTargets>,
}

impl Step {
    pub(super) fn new(overlay: Overlay, root: OwnedFd, runtime: Handle) -> Self {
        Self { overlay, root, runtime, targets: None }
    }

    /// Sends what was written to the host as a tar, while it is being read.
    fn commit_upper(&self) -> Result<CommittedLayer, BackendError> {
        let upper = File::open(self.overlay.upper())?;
        let (reader, mut writer) = io::pipe()?;
        let broker = self.overlay.engine.images().broker().clone();
        let committing = self.runtime.spawn(async move { broker.commit_layer(reader.into(), TarOrigin::Build).await });
        let written = {
            let mut buffered = io::BufWriter::with_capacity(TAR_BUFFER_BYTES, &mut writer);
            let written = write_layer_tar(upper.as_fd(), &LayerTarOptions::default(), &mut buffered);
            written.map_err(BackendError::from).and_then(|_| Ok(io::Write::flush(&mut buffered)?))
        };
        if written.is_err() {
            // The host must not take what was written so far for a layer: a request that is given up is.
            committing.abort();
        }
        drop(writer);
        let committed = self.runtime.block_on(committing);
        written?;
        let layer = committed??;
        Ok(CommittedLayer { diff_id: layer.diff_id, size_bytes: layer.size_bytes })
    }
}

/// Bytes gathered before they go into the pipe; the usual size of one.
const TAR_BUFFER_BYTES: usize = 64 << 10;

impl BuildStep for Step {
    fn container_id(&self) -> &str {
        &self.overlay.id
    }

    fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn run(&mut self, spec: &RunSpec, output: &mut dyn FnMut(OutputStream, &[u8]), cancel: &Cancel) -> Result<i32, BackendError> {
        // Mounts in the container leave empty files and directories where the image has none; they are no result of the process.
        let targets = MountTargets::missing_in(self.root.as_fd());
        let status = run::run(&self.overlay, &self.runtime, spec, output, cancel);
        targets.remove_from(self.root.as_fd());
        self.targets = Some(targets);
        Ok(status?)
    }

    fn commit(self: Box<Self>) -> Result<Option<CommittedLayer>, BackendError> {
        // Nothing may change the upper directory while it is read.
        self.overlay.unmount();
        if let Some(targets) = &self.targets {
            targets.forget_parent(File::open(self.overlay.upper())?.as_fd());
        }
        if is_empty(&self.overlay)? {
            return Ok(None);
        }
        self.commit_upper().map(Some)
    }
}

fn is_empty(overlay: &Overlay) -> Result<bool, EngineError> {
    Ok(fs::read_dir(overlay.upper()).context("read a build step's files")?.next().is_none())
}
