//! Walks the stages and makes the image.
//!
//! Only the stages that the target needs are built, in the order of the file. A step either has a known result (see [`crate::cache`]) or is
//! made: metadata by editing the configuration, files by copying below the root's descriptor, commands by the backend. The image's
//! configuration is rebuilt from the base's and the instructions every time; of a cached step only the layer and the time are taken, so
//! a build in which nothing changed gives the same image id.
//!
//! Texts, history entries and configuration follow Docker's classic builder. Known differences: steps that only edit the configuration
//! start no container; stages that the target does not need are skipped and not counted; a stage inherits the `ARG`s of the stage it is
//! built from; a set-user-id bit survives a copy; `docker_version`, `container` and `container_config` are not written, because they would make each build another image.

mod args;
mod copying;
mod error;
mod history;
mod metadata;
mod running;
mod stage;

use std::{
    collections::{BTreeMap, HashMap},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use dockwright_store::{DiffId, ImageConfig, ImageId};
pub use error::{BuildError, StepError, StepFailure};

use self::{args::BuildArgs, stage::StageState};
use crate::{
    backend::{BaseImage, BuildBackend, Cancel},
    cache::{CacheImages, CacheRecord, Inputs},
    context::Context,
    dockerfile::{
        Dockerfile, Instruction, Stage, Step,
        instruction::{self, Label},
        lexer::{LexError, Lexer},
    },
    progress::BuildEvent,
    request::BuildOptions,
    tree::{Modified, RootTree},
};

/// Builds an image. Blocks, so it wants a thread of its own; events are reported on it.
pub fn build(
    backend: &dyn BuildBackend,
    mut context: Context,
    options: &BuildOptions,
    cancel: &Cancel,
    events: &mut dyn FnMut(BuildEvent),
) -> Result<ImageId, BuildError> {
    let text = context.take_dockerfile(&options.dockerfile)?;
    let parse_failed = |error| BuildError::Parse { error: Box::new(error), file: options.dockerfile.clone(), text: text.clone() };
    let mut file = Dockerfile::parse(&text).map_err(parse_failed)?;
    let target = find_target(&file, options)?;
    add_request_labels(&mut file.stages[target], &options.labels);
    for warning in &file.warnings {
        events(BuildEvent::Warning { message: warning.clone() });
    }
    let solver = Solver::new(backend, &context, options, cancel, events, &file)?;
    solver.solve(target)
}

fn find_target(file: &Dockerfile, options: &BuildOptions) -> Result<usize, BuildError> {
    let Some(name) = options.target.as_deref().filter(|name| !name.is_empty()) else { return Ok(file.stages.len() - 1) };
    file.stage_index(name).ok_or_else(|| BuildError::UnknownTarget {
        name: name.to_owned(),
        similar: file.similar_stage(name).map(str::to_owned),
        stages: file.stages.iter().filter_map(|stage| stage.name.clone()).collect(),
    })
}

/// `--label` adds a step for each label to the last stage, sorted by name.
fn add_request_labels(stage: &mut Stage, labels: &BTreeMap<String, String>) {
    for (name, value) in labels {
        let label = Label { name: name.clone(), value: value.clone(), expand: false };
        let original = format!("LABEL {name}={value}");
        stage.steps.push(Step { instruction: Instruction::Label(vec![label]), original, lines: stage.line..=stage.line });
    }
}

/// One build.
struct Solver<'b> {
    backend: &'b dyn BuildBackend,
    context: &'b Context,
    options: &'b BuildOptions,
    cancel: &'b Cancel,
    events: &'b mut dyn FnMut(BuildEvent),
    file: &'b Dockerfile,
    /// Values of the `ARG`s before the first `FROM`, and of the predefined ones.
    global_args: BuildArgs,
    /// Finished stages, by number.
    stages: Vec<Option<StageState>>,
    /// Images resolved so far, so that each is asked for once.
    images: HashMap<(String, Option<String>), BaseImage>,
    roots: HashMap<Vec<DiffId>, Rc<OwnedFd>>,
    cache_images: Vec<BaseImage>,
    /// `SOURCE_DATE_EPOCH`.
    epoch: Option<jiff::Timestamp>,
    step_number: usize,
    step_total: usize,
}

impl<'b> Solver<'b> {
    fn new(
        backend: &'b dyn BuildBackend,
        context: &'b Context,
        options: &'b BuildOptions,
        cancel: &'b Cancel,
        events: &'b mut dyn FnMut(BuildEvent),
        file: &'b Dockerfile,
    ) -> Result<Self, BuildError> {
        let epoch = match options.build_args.get("SOURCE_DATE_EPOCH").and_then(Option::as_deref) {
            None | Some("") => None,
            Some(text) => {
                let seconds = text.parse().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
                Some(seconds.ok_or_else(|| BuildError::InvalidEpoch(text.to_owned()))?)
            }
        };
        Ok(Self {
            backend,
            context,
            options,
            cancel,
            events,
            file,
            global_args: BuildArgs::predefined(options),
            stages: vec![None; file.stages.len()],
            images: HashMap::new(),
            roots: HashMap::new(),
            cache_images: Vec::new(),
            epoch,
            step_number: 0,
            step_total: 0,
        })
    }

    fn solve(mut self, target: usize) -> Result<ImageId, BuildError> {
        let needed = self.needed_stages(target);
        self.step_total = self.file.global_args.len() + needed.iter().map(|index| self.file.stages[*index].steps.len() + 1).sum::<usize>();
        self.find_cache_images()?;
        let file = self.file;
        for step in &file.global_args {
            self.start_step(&step.original)?;
            self.declare_global(step).map_err(|error| StepFailure::new(step, error))?;
        }
        for index in needed {
            self.ensure_stage(index)?;
        }
        self.warn_of_unused_args();
        let image = self.stages[target].as_ref().and_then(|stage| stage.id).ok_or(BuildError::NothingBuilt)?;
        self.emit(BuildEvent::Built { image });
        for name in &self.options.tags {
            self.backend.tag(&image, name).map_err(|source| BuildError::Tag { name: name.clone(), source })?;
            self.emit(BuildEvent::Tagged { name: name.clone() });
        }
        Ok(image)
    }

    /// The target and what it is built from or copies from, in the order of the file. Names that hold variables are found when their
    /// stage begins.
    fn needed_stages(&self, target: usize) -> Vec<usize> {
        let mut needed = vec![false; self.file.stages.len()];
        let mut pending = vec![target];
        while let Some(index) = pending.pop() {
            if std::mem::replace(&mut needed[index], true) {
                continue;
            }
            let stage = &self.file.stages[index];
            pending.extend(self.earlier_stage(&stage.base, index, AllowNumber::No));
            for step in &stage.steps {
                if let Instruction::Copy(copy) = &step.instruction {
                    pending.extend(copy.from.as_deref().and_then(|from| self.earlier_stage(from, index, AllowNumber::Yes)));
                }
            }
        }
        (0..needed.len()).filter(|index| needed[*index]).collect()
    }

    /// Finds a stage that comes before another, the latest of its name.
    fn earlier_stage(&self, name: &str, before: usize, numbers: AllowNumber) -> Option<usize> {
        let is_named = |stage: &Stage| stage.name.as_deref().is_some_and(|other| other.eq_ignore_ascii_case(name));
        let by_name = self.file.stages[..before].iter().rposition(is_named);
        let by_number = || name.parse().ok().filter(|index| *index < before && numbers == AllowNumber::Yes);
        by_name.or_else(by_number)
    }

    fn find_cache_images(&mut self) -> Result<(), BuildError> {
        for name in &self.options.cache_from {
            let found = self
                .backend
                .local_image(name)
                .map_err(|source| BuildError::Backend { action: "look for an image of --cache-from", source })?;
            match found {
                Some(image) => self.cache_images.push(image),
                None => {
                    // As Docker: a missing image only means that nothing is cached.
                    tracing::debug!(image = name, "--cache-from names an image that is not here");
                }
            }
        }
        Ok(())
    }

    fn declare_global(&mut self, step: &Step) -> Result<(), StepError> {
        let Instruction::Arg(declarations) = &step.instruction else { return Ok(()) };
        for declaration in declarations {
            let args = self.global_args.clone();
            let lookup = |name: &str| args.global(name);
            let lexer = Lexer::new(self.file.directives.escape, &lookup);
            let name = expand_word(lexer, &declaration.name)?;
            let default = declaration.default.as_deref().map(|text| expand_word(lexer, text)).transpose()?;
            self.global_args.declare_global(&name, default);
        }
        Ok(())
    }

    /// Builds a stage unless that was done.
    fn ensure_stage(&mut self, index: usize) -> Result<(), BuildError> {
        if self.stages[index].is_some() {
            return Ok(());
        }
        let file = self.file;
        let stage = &file.stages[index];
        self.start_step(&stage.original)?;
        let mut state = self.begin_stage(index, stage)?;
        self.run_triggers(index, stage, &mut state)?;
        self.emit(BuildEvent::Layer { image: state.id });
        for step in &stage.steps {
            self.start_step(&step.original)?;
            self.dispatch(index, step, &mut state)?;
            self.emit(BuildEvent::Layer { image: state.id });
        }
        if state.changed {
            let put = self.backend.put_image(&state.image);
            state.id = Some(put.map_err(|source| BuildError::Backend { action: "store the image", source })?);
        }
        if let Some(image) = state.id {
            self.emit(BuildEvent::StageFinished { image });
        }
        self.stages[index] = Some(state);
        Ok(())
    }

    fn begin_stage(&mut self, index: usize, stage: &Stage) -> Result<StageState, BuildError> {
        let failed = |error| BuildError::from(StepFailure { line: stage.line, original: stage.original.clone(), error });
        let args = self.global_args.clone();
        let lookup = |name: &str| args.global(name);
        let lexer = Lexer::new(self.file.directives.escape, &lookup);
        let base = expand_word(lexer, &stage.base).map_err(failed)?;
        let platform = stage.platform.as_deref().map(|text| expand_word(lexer, text)).transpose().map_err(failed)?;
        let platform = platform.filter(|platform| !platform.is_empty()).or_else(|| self.options.platform.clone());
        if base.is_empty() {
            return Err(failed(StepError::BlankBase(stage.base.clone())));
        }
        if let Some(earlier) = self.earlier_stage(&base, index, AllowNumber::No) {
            self.ensure_stage(earlier)?;
            let state = self.stages[earlier].as_ref().expect("the stage was just built");
            return Ok(state.continued(CacheImages::new(self.cache_images.clone())));
        }
        let cache_images = CacheImages::new(self.cache_images.clone());
        if base == "scratch" {
            return Ok(StageState::scratch(platform.as_deref(), self.global_args.clone(), cache_images));
        }
        let image = self.resolve_image(&base, platform.as_deref())?;
        Ok(StageState::from_image(image, platform.as_deref(), self.global_args.clone(), cache_images))
    }

    fn resolve_image(&mut self, name: &str, platform: Option<&str>) -> Result<BaseImage, BuildError> {
        let key = (name.to_owned(), platform.map(str::to_owned));
        if let Some(image) = self.images.get(&key) {
            return Ok(image.clone());
        }
        let events = &mut *self.events;
        let image = self.backend.resolve_image(name, platform, self.options.pull, &mut |progress| events(BuildEvent::Pull(progress)))?;
        self.images.insert(key, image.clone());
        Ok(image)
    }

    /// Runs the `ONBUILD` instructions of the base, once.
    fn run_triggers(&mut self, index: usize, stage: &Stage, state: &mut StageState) -> Result<(), BuildError> {
        let triggers = std::mem::take(&mut state.image.config.on_build);
        if triggers.is_empty() {
            return Ok(());
        }
        self.emit(BuildEvent::Triggers { count: triggers.len() });
        for text in triggers {
            let step = instruction::parse_trigger(&text).map_err(|error| {
                let error = StepError::Trigger { text: text.clone(), error };
                StepFailure { line: stage.line, original: stage.original.clone(), error }
            })?;
            let step = Step { lines: stage.line..=stage.line, ..step };
            self.dispatch(index, &step, state)?;
        }
        Ok(())
    }

    fn dispatch(&mut self, index: usize, step: &Step, state: &mut StageState) -> Result<(), BuildError> {
        let result = match &step.instruction {
            Instruction::Run(run) => self.run(step, run, state),
            Instruction::Copy(copy) => self.copy("COPY", index, step, copy, state),
            Instruction::Add(copy) => self.copy("ADD", index, step, copy, state),
            Instruction::Workdir(path) => self.workdir(step, path, state),
            _ => self.metadata(step, state),
        };
        result.map_err(|error| match error {
            StepError::Build(error) => *error,
            error => StepFailure::new(step, error).into(),
        })
    }

    fn start_step(&mut self, text: &str) -> Result<(), BuildError> {
        if self.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        self.step_number += 1;
        // A trigger may need a stage that nobody counted.
        self.step_total = self.step_total.max(self.step_number);
        self.emit(BuildEvent::StepStarted { number: self.step_number, total: self.step_total, text: text.to_owned() });
        Ok(())
    }

    /// Takes a step's result from the cache, or makes and records it; then adds it to the image.
    fn settle(
        &mut self,
        step: &Step,
        state: &mut StageState,
        inputs: &Inputs,
        created_by: &str,
        make: impl FnOnce(&mut Self, &mut StageState) -> Result<Option<DiffId>, StepError>,
    ) -> Result<(), StepError> {
        let inputs = self.with_common_inputs(inputs.clone(), state);
        if let Some(record) = self.find_result(step, state, &inputs, created_by)? {
            self.emit(BuildEvent::Cached);
            state.push(created_by, record.created, record.layer);
            return Ok(());
        }
        let layer = make(self, state)?;
        if self.cancel.is_cancelled() {
            return Err(BuildError::Cancelled.into());
        }
        let created = self.epoch.unwrap_or_else(self.options.now).to_string();
        let record = CacheRecord { layer, created: created.clone(), inputs: BTreeMap::new() };
        let explanation = CacheRecord { layer: None, inputs: inputs.to_map(), ..record.clone() };
        let stored = self
            .backend
            .cache_put(&inputs.key(), &record)
            .and_then(|()| self.backend.cache_put(&Inputs::explanation_key(&state.base, &step.original), &explanation));
        stored.map_err(StepError::backend("record the step's result"))?;
        state.push(created_by, created, layer);
        Ok(())
    }

    fn with_common_inputs(&self, inputs: Inputs, state: &StageState) -> Inputs {
        let epoch = self.epoch.map(|epoch| epoch.as_second().to_string()).unwrap_or_default();
        inputs.with("platform", state.platform()).with("SOURCE_DATE_EPOCH", epoch)
    }

    fn find_result(
        &mut self,
        step: &Step,
        state: &mut StageState,
        inputs: &Inputs,
        created_by: &str,
    ) -> Result<Option<CacheRecord>, StepError> {
        if self.options.no_cache {
            tracing::debug!(step = step.original, reason = "no cache was asked for", "cache miss");
            return Ok(None);
        }
        let found = self.backend.cache_get(&inputs.key()).map_err(StepError::backend("look into the build cache"))?;
        // Asked in any case: an image that cannot follow must not answer later steps.
        let from_image = state.cache_images.find(&state.image, created_by);
        if let Some(record) = found.or(from_image) {
            return Ok(Some(record));
        }
        self.explain_miss(step, state, inputs)?;
        Ok(None)
    }

    fn explain_miss(&self, step: &Step, state: &StageState, inputs: &Inputs) -> Result<(), StepError> {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return Ok(());
        }
        let key = Inputs::explanation_key(&state.base, &step.original);
        let earlier = self.backend.cache_get(&key).map_err(StepError::backend("look into the build cache"))?;
        let reason = match earlier.map(|earlier| inputs.differences(&earlier.inputs)) {
            None => "the step has not been built on this base".to_owned(),
            Some(differences) if differences.is_empty() => "its result is gone".to_owned(),
            Some(differences) => differences.join(", "),
        };
        tracing::debug!(step = step.original, reason, "cache miss");
        Ok(())
    }

    /// Opens the merged tree of some layers, each stack once.
    fn root_of(&mut self, layers: &[DiffId]) -> Result<RootTree<SharedFd>, StepError> {
        if let Some(root) = self.roots.get(layers) {
            return Ok(RootTree::new(SharedFd(Rc::clone(root))));
        }
        let root = Rc::new(self.backend.open_root(layers).map_err(StepError::backend("open the image's files"))?);
        self.roots.insert(layers.to_vec(), Rc::clone(&root));
        Ok(RootTree::new(SharedFd(root)))
    }

    /// The time of directories that a copy has to make.
    fn new_directory_time(&self) -> Option<Modified> {
        self.epoch.map(|epoch| Modified { seconds: epoch.as_second(), nanos: 0 })
    }

    fn warn_of_unused_args(&mut self) {
        let unused = self.global_args.unused(self.stages.iter().flatten().map(|stage| &stage.args));
        if !unused.is_empty() {
            let message = format!("One or more build-args [{}] were not consumed", unused.join(" "));
            self.emit(BuildEvent::Warning { message });
        }
    }

    fn emit(&mut self, event: BuildEvent) {
        (self.events)(event);
    }
}

/// Whether a number names a stage: in `COPY --from`, not in `FROM`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AllowNumber {
    Yes,
    No,
}

/// One descriptor, several readers.
struct SharedFd(Rc<OwnedFd>);

impl AsFd for SharedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn expand_word(lexer: Lexer<'_>, word: &str) -> Result<String, StepError> {
    lexer.word(word).map_err(|source: LexError| StepError::Expand { word: word.to_owned(), source })
}

/// The configuration of an image that starts from nothing.
fn empty_image(platform: Option<&str>) -> ImageConfig {
    let mut parts = platform.unwrap_or_default().split('/');
    let mut part = || parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
    let (os, architecture, variant) = (part(), part(), part());
    ImageConfig {
        os: os.unwrap_or_else(|| "linux".to_owned()),
        architecture: architecture.unwrap_or_else(|| args::host_architecture().to_owned()),
        variant,
        ..ImageConfig::default()
    }
}
