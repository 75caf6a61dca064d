//! A repository that open files lie in.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use dockwright_pipeline::{Loader, PipelineContext};

use super::{
    analysis::Analysis,
    overlay::{Directory, Distant, Overlay},
};
use crate::{
    settings::{GlobalSettings, ProjectSettings},
    wire::{Checkout, OpenedProject},
};

/// A repository as it was when one of its files was last opened or saved.
pub(super) struct Workspace {
    root: PathBuf,
    /// Absent: it is a directory without a repository, or one without a commit.
    opened: Option<(OpenedProject, Checkout)>,
    distant: Distant,
}

/// Returns the root of the repository that a file lies in, or else its directory.
pub(super) fn root_of(path: &Path) -> Option<PathBuf> {
    let directory = path.parent()?;
    let root = directory.ancestors().find(|ancestor| ancestor.join(".git").exists());
    Some(root.unwrap_or(directory).to_owned())
}

impl Workspace {
    pub(super) fn open(root: &Path, settings: &ProjectSettings) -> Self {
        let settings = ProjectSettings { directory: root.to_owned(), ..settings.clone() };
        let opened = Checkout::temporary().and_then(|checkout| {
            let opened = OpenedProject::open(&settings, None, checkout.path())?;
            Ok((opened, checkout))
        });
        if let Err(error) = &opened {
            tracing::info!(root = %root.display(), error = error.parts().message, "no repository to look at");
        }
        Self { root: root.to_owned(), opened: opened.ok(), distant: Distant::default() }
    }

    /// Understands a configuration, with open texts in place of what is saved.
    pub(super) fn analyse(
        &self,
        file: &str,
        buffers: &BTreeMap<String, String>,
        settings: &ProjectSettings,
        global: &GlobalSettings,
    ) -> Analysis {
        let directory = Directory(self.root.clone());
        let nothing = PipelineContext::default();
        let includes = self.opened.as_ref().and_then(|(opened, _)| {
            let includes = opened.includes(settings, global);
            includes.inspect_err(|error| tracing::warn!(error = error.parts().message, "the lock file cannot be read")).ok()
        });
        let below: &dyn Loader = match &includes {
            Some(includes) => includes,
            None => &directory,
        };
        let context = self.opened.as_ref().map_or(&nothing, |(opened, _)| &opened.context);
        Analysis::of(&self.root, file, &Overlay { below, buffers, distant: &self.distant }, context)
    }
}
