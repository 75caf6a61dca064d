//! From decided settings to an evaluated pipeline: the part that `run`, `list` and `lint` share.

use std::{path::Path, sync::Arc};

use dockwright_coordinator::{
    GivenVariable, IncludeOptions, Includes, LockError, OpenProjectError, Project, RegistryFacts, Tree, Trigger, context,
};
use dockwright_pipeline::{Config, Diagnostic, Merged, Pipeline, PipelineContext, Repository, Sources, evaluate, has_errors, parse};

use super::WebClient;
use crate::{
    cli::Event,
    error::{CommandError, ErrorKind},
    report::print_problem,
    settings::{GlobalSettings, ProjectSettings},
};

/// A pipeline, the repository it is for, and what is wrong with it.
pub(crate) struct LoadedPipeline {
    pub(crate) project: Project,
    pub(crate) trigger: Trigger,
    pub(crate) config: Config,
    /// Absent when something that was to be included is not here.
    pub(crate) merged: Option<Merged>,
    /// What it was evaluated for.
    pub(crate) context: PipelineContext,
    /// The configuration could be understood, whatever its rules make of it.
    pub(crate) is_understood: bool,
    pub(crate) pipeline: Pipeline,
    /// What the problems' places refer to.
    pub(crate) sources: Sources,
    pub(crate) problems: Vec<Diagnostic>,
    /// The configuration is in order, but its rules leave out every job.
    pub(crate) is_empty: bool,
}

/// The pipeline's word for it. On GitLab it is an error, because no pipeline is made.
pub(crate) const EMPTY: &str = "filtered-by-rules";

impl LoadedPipeline {
    /// Reads and evaluates the configuration. `checkout` is where a repository is made that jobs fetch from.
    pub(crate) fn load(
        settings: &ProjectSettings,
        global: &GlobalSettings,
        registry: Option<&RegistryFacts>,
        checkout: &Path,
    ) -> Result<Self, CommandError> {
        let opened = OpenedProject::open(settings, registry, checkout)?;
        let parsed = {
            let includes = opened.includes(settings, global)?;
            let parsed = parse(&settings.file.to_string_lossy(), &includes, &opened.context);
            includes.save().map_err(explain_lock)?;
            parsed
        };
        let OpenedProject { project, trigger, context } = opened;
        let mut problems = parsed.problems;
        let mut pipeline = Pipeline::default();
        let is_understood = !has_errors(&problems);
        if is_understood {
            let (evaluated, more) = evaluate(&parsed.config, &context);
            pipeline = evaluated;
            problems.extend(more);
        }
        let is_empty = problems.iter().any(|problem| problem.code == EMPTY);
        problems.retain(|problem| problem.code != EMPTY);
        let (config, merged, sources) = (parsed.config, parsed.merged, parsed.sources);
        Ok(Self { is_empty, is_understood, context, project, trigger, config, merged, pipeline, sources, problems })
    }

    /// Prints what is wrong; an error among it is the end.
    pub(crate) fn report_problems(&self) -> Result<(), CommandError> {
        for problem in &self.problems {
            print_problem(problem, &self.sources);
        }
        match self.problems.iter().filter(|problem| problem.is_error()).count() {
            0 => Ok(()),
            1 => Err(CommandError::configuration("the pipeline cannot run because of the problem above")),
            count => Err(CommandError::configuration(format!("the pipeline cannot run because of the {count} problems above"))),
        }
    }
}

/// A repository, and what its pipeline would be for.
pub(crate) struct OpenedProject {
    pub(crate) project: Project,
    pub(crate) trigger: Trigger,
    pub(crate) context: PipelineContext,
}

impl OpenedProject {
    /// Looks at the repository. `checkout` is where one is made that jobs fetch from.
    pub(crate) fn open(settings: &ProjectSettings, registry: Option<&RegistryFacts>, checkout: &Path) -> Result<Self, CommandError> {
        let tree = if settings.committed { Tree::Committed } else { Tree::Working };
        let mut project = Project::open(&settings.directory, tree, checkout).map_err(explain)?;
        match (&settings.branch, &settings.tag) {
            (Some(branch), _) => project.stand_on_branch(branch).map_err(explain)?,
            (None, Some(tag)) => project.stand_on_tag(tag).map_err(explain)?,
            (None, None) => {}
        }
        if settings.event == Event::MergeRequest {
            let target = settings.target_branch.clone().unwrap_or_else(|| project.default_branch.clone());
            project.stand_on_merge_request(&target).map_err(explain)?;
        }
        if let Some(reference) = &settings.changes_base {
            project.compare_changes_with(reference).map_err(explain)?;
        }
        let trigger = trigger(settings);
        let mut context: PipelineContext = context(&project, &trigger, registry);
        if let (Some(paths), Some(repository)) = (&settings.changes, context.repository.take()) {
            context.repository = Some(Arc::new(GivenChanges { repository, paths: paths.as_slice().into() }));
        }
        Ok(Self { project, trigger, context })
    }

    /// Returns what gives the files that the configuration asks for.
    pub(crate) fn includes(&self, settings: &ProjectSettings, global: &GlobalSettings) -> Result<Includes<'_>, CommandError> {
        Includes::new(&self.project, include_options(settings, global), &WebClient).map_err(explain_lock)
    }
}

/// A repository of which a test says what changed.
#[derive(Debug)]
struct GivenChanges {
    repository: Arc<dyn Repository>,
    paths: Arc<[String]>,
}

impl Repository for GivenChanges {
    fn changed_paths(&self) -> Option<Arc<[String]>> {
        Some(self.paths.clone())
    }

    fn changed_since(&self, _reference: &str) -> Option<Arc<[String]>> {
        Some(self.paths.clone())
    }

    fn files(&self) -> Arc<[String]> {
        self.repository.files()
    }
}

/// Returns how files from elsewhere are found.
pub(super) fn include_options(settings: &ProjectSettings, global: &GlobalSettings) -> IncludeOptions {
    let checkouts = global.file.include.checkouts.iter();
    IncludeOptions {
        checkouts: checkouts.map(|(project, directory)| (project.trim_matches('/').to_lowercase(), directory.clone())).collect(),
        server: global.file.include.server.clone(),
        cache: global.paths.includes(),
        mode: settings.lock,
    }
}

fn explain_lock(error: LockError) -> CommandError {
    let is_content = matches!(error, LockError::Line { .. });
    let error = CommandError::new(ErrorKind::Configuration, error);
    if is_content { error.hint("mend the line, or remove the file to have everything looked up anew") } else { error }
}

fn explain(error: OpenProjectError) -> CommandError {
    let hint = error.hint();
    let error = CommandError::new(ErrorKind::Configuration, error);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn trigger(settings: &ProjectSettings) -> Trigger {
    let source = match settings.event {
        Event::Push => "push",
        Event::Web => "web",
        Event::Schedule => "schedule",
        Event::Api => "api",
        Event::Trigger => "trigger",
        Event::MergeRequest => "merge_request_event",
    };
    let given = settings.variables.iter().map(|variable| GivenVariable {
        key: variable.key.clone(),
        value: variable.value.clone(),
        masked: false,
        file: variable.file,
    });
    Trigger { source: source.to_owned(), variables: given.collect(), inputs: settings.inputs.clone(), upstream: None }
}
