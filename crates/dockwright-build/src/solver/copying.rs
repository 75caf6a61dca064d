//! `COPY` and `ADD`.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read as _,
    path::{Path, PathBuf},
    rc::Rc,
};

use dockwright_store::{DiffId, Digest, digest::Hashing};

use super::{AllowNumber, Solver, StepError, expand_word, history, metadata, stage::StageState};
use crate::{
    archive::{self, Owners},
    cache::{CacheKey, CacheRecord, Inputs},
    copy::{Appearance, ModeChange, Owner, Ownership, RootWriter, WriteError},
    dockerfile::{
        Step,
        instruction::{self, Copy, Source},
        lexer::Lexer,
        parser::Heredoc,
    },
    glob::{self, DoubleStar},
    ignore::IgnorePatterns,
    tree::{self, Kind, Metadata, Modified, SpoolTree, Tree, normalize, resolve},
};

/// One thing to copy.
struct Found<'t> {
    tree: TreeRef<'t>,
    /// Resolved.
    path: PathBuf,
    /// The name it has in a directory.
    name: PathBuf,
    metadata: Metadata,
    sum: Sum,
    unpack: bool,
}

/// `file:…` or `dir:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sum {
    /// As Docker writes it: a link below a directory counts as what it leads to.
    shown: String,
    /// With the links themselves, for keys.
    exact: String,
}

/// A tree that is borrowed (the context) or made for the step.
enum TreeRef<'t> {
    Borrowed(&'t dyn Tree),
    Shared(Rc<dyn Tree + 't>),
}

impl TreeRef<'_> {
    fn get(&self) -> &dyn Tree {
        match self {
            Self::Borrowed(tree) => *tree,
            Self::Shared(tree) => tree.as_ref(),
        }
    }
}

impl Clone for TreeRef<'_> {
    fn clone(&self) -> Self {
        match self {
            Self::Borrowed(tree) => Self::Borrowed(*tree),
            Self::Shared(tree) => Self::Shared(Rc::clone(tree)),
        }
    }
}

impl Found<'_> {
    fn summarize(&self) -> (Sum, String) {
        let unpacked = if self.unpack { " unpacked" } else { "" };
        (self.sum.clone(), format!("{}{unpacked}", self.name.display()))
    }
}

/// What is known about the sources without opening them: sum, and name with what happens to it.
struct Summary(Vec<(Sum, String)>);

impl Summary {
    /// As in history texts.
    fn joined_sum(&self) -> String {
        match self.0.as_slice() {
            [(only, _)] => only.shown.clone(),
            several => {
                let sums: Vec<&str> = several.iter().map(|(sum, _)| sum.shown.as_str()).collect();
                format!("multi:{}", Digest::of(sums.join(",").as_bytes()).hex())
            }
        }
    }

    fn to_map(&self) -> BTreeMap<String, String> {
        let entry = |(sum, name): &(Sum, String)| format!("{} {} {name}", sum.shown, sum.exact);
        self.0.iter().enumerate().map(|(number, source)| (format!("{number:08}"), entry(source))).collect()
    }

    fn from_map(map: &BTreeMap<String, String>) -> Option<Self> {
        let entry = |text: &String| {
            let mut parts = text.splitn(3, ' ').map(str::to_owned);
            Some((Sum { shown: parts.next()?, exact: parts.next()? }, parts.next()?))
        };
        let entries: Option<Vec<_>> = map.values().map(entry).collect();
        entries.filter(|entries| !entries.is_empty()).map(Self)
    }
}

/// The instruction with its variables replaced.
struct Plan {
    keyword: &'static str,
    /// As written, for the history.
    written_destination: String,
    /// Absolute; a final slash means a directory.
    destination: String,
    chown: Option<String>,
    mode: Option<ModeChange>,
    exclude: IgnorePatterns,
    from_stage: bool,
}

impl<'b> Solver<'b> {
    pub(super) fn copy(
        &mut self,
        keyword: &'static str,
        index: usize,
        step: &Step,
        copy: &Copy,
        state: &mut StageState,
    ) -> Result<(), StepError> {
        let snapshot = state.clone();
        let lookup = |name: &str| snapshot.variable(name);
        let lexer = Lexer::new(self.file.directives.escape, &lookup);
        let plan = plan(keyword, copy, lexer, state)?;
        let layers = self.source_layers(index, copy, state)?;
        let sources = expand_sources(copy, lexer)?;
        // Files of the context have their sums already; those of an image are read once and remembered.
        let known = layers.as_deref().map(|layers| sums_key(layers, &sources, copy, &plan));
        let remembered = known.as_ref().map(|key| self.backend.cache_get(key)).transpose();
        let remembered = remembered.map_err(StepError::backend("look into the build cache"))?.flatten();
        let (found, summary) = match remembered.and_then(|record| Summary::from_map(&record.inputs)) {
            Some(summary) => (None, summary),
            None => {
                let tree = self.source_tree(layers.as_deref())?;
                let found = self.find_sources(copy, &plan, &tree, &sources, lexer)?;
                let summary = Summary(found.iter().map(Found::summarize).collect());
                self.remember_sums(known, &summary)?;
                (Some(found), summary)
            }
        };
        let chown = plan.chown.as_ref().map(|chown| format!("--chown={chown}")).unwrap_or_default();
        let text = format!("{keyword} {chown}{} in {} ", summary.joined_sum(), plan.written_destination);
        let created_by = history::file_operation(&state.shell(), &text);
        let inputs = copy_inputs(copy, &plan, &summary, state);
        self.settle(step, state, &inputs, &created_by, |solver, state| {
            let found = match found {
                Some(found) => found,
                None => {
                    let tree = solver.source_tree(layers.as_deref())?;
                    solver.find_sources(copy, &plan, &tree, &sources, lexer)?
                }
            };
            solver.copy_all(copy, &plan, &found, state)
        })
    }

    /// The layers that `--from` means; `None` is the build context.
    fn source_layers(&mut self, index: usize, copy: &Copy, state: &StageState) -> Result<Option<Vec<DiffId>>, StepError> {
        let Some(from) = &copy.from else { return Ok(None) };
        if let Some(stage) = self.earlier_stage(from, index, AllowNumber::Yes) {
            self.ensure_stage(stage)?;
            return Ok(Some(self.stages[stage].as_ref().map(|stage| stage.layers().to_vec()).unwrap_or_default()));
        }
        let platform = self.options.platform.as_ref().map(|_| state.platform());
        let image = self.resolve_image(from, platform.as_deref());
        let image = image.map_err(|source| StepError::UnknownSource { from: from.clone(), source: Box::new(source) })?;
        Ok(Some(image.config.rootfs.diff_ids))
    }

    /// What the sources are paths of.
    fn source_tree(&mut self, layers: Option<&[DiffId]>) -> Result<TreeRef<'b>, StepError> {
        match layers {
            None => Ok(TreeRef::Borrowed(self.context.tree())),
            Some([]) => {
                let empty = SpoolTree::new(self.context.scratch()).map_err(|source| StepError::Read { path: PathBuf::new(), source })?;
                Ok(TreeRef::Shared(Rc::new(empty)))
            }
            Some(layers) => Ok(TreeRef::Shared(Rc::new(self.root_of(layers)?))),
        }
    }

    fn remember_sums(&self, key: Option<CacheKey>, summary: &Summary) -> Result<(), StepError> {
        let Some(key) = key else { return Ok(()) };
        let record = CacheRecord { layer: None, created: (self.options.now)().to_string(), inputs: summary.to_map() };
        self.backend.cache_put(&key, &record).map_err(StepError::backend("record the sums of files"))
    }

    fn find_sources<'t>(
        &self,
        copy: &Copy,
        plan: &Plan,
        tree: &TreeRef<'t>,
        sources: &[Source],
        lexer: Lexer<'_>,
    ) -> Result<Vec<Found<'t>>, StepError> {
        let mut found = Vec::new();
        for source in sources {
            match source {
                Source::Heredoc(heredoc) => found.push(self.heredoc(heredoc, plan, lexer)?),
                Source::Path(path) if plan.keyword == "ADD" && instruction::is_url(path) => found.push(self.fetch(path, copy, plan)?),
                Source::Path(_) if copy.checksum.is_some() => return Err(StepError::ChecksumOfLocal),
                Source::Path(path) => self.find_path(path, copy, plan, tree, &mut found)?,
            }
        }
        if found.is_empty() {
            return Err(StepError::NoSources(plan.keyword));
        }
        Ok(found)
    }

    fn find_path<'t>(
        &self,
        written: &str,
        copy: &Copy,
        plan: &Plan,
        tree: &TreeRef<'t>,
        found: &mut Vec<Found<'t>>,
    ) -> Result<(), StepError> {
        let failed = |source| StepError::Read { path: PathBuf::from(written), source };
        if glob::has_wildcards(written) {
            let pattern = written.trim_start_matches('/');
            let pattern = glob::compile(pattern.strip_prefix("./").unwrap_or(pattern), DoubleStar::IsTwoStars)?;
            for (path, _) in tree::walk(tree.get(), Path::new("")).map_err(failed)? {
                if pattern.is_match(&path.to_string_lossy()) {
                    found.extend(found_at(&path, copy, plan, tree).map_err(failed)?);
                }
            }
            return Ok(());
        }
        let path = normalize(Path::new(written));
        match found_at(&path, copy, plan, tree).map_err(failed)? {
            Some(source) => found.push(source),
            None if plan.from_stage => {
                return Err(StepError::NotInSource { keyword: plan.keyword, path: written.trim_start_matches('/').to_owned() });
            }
            None => return Err(StepError::NotInContext { keyword: plan.keyword, path: written.trim_start_matches('/').to_owned() }),
        }
        Ok(())
    }

    /// A here-document is a file of the name of its delimiter.
    fn heredoc<'t>(&self, heredoc: &Heredoc, plan: &Plan, lexer: Lexer<'_>) -> Result<Found<'t>, StepError> {
        let body = match heredoc.expand {
            true => {
                let expanded = lexer.body(&heredoc.body);
                expanded.map_err(|source| StepError::Expand { word: heredoc.word.clone(), source })?
            }
            false => heredoc.body.clone(),
        };
        const HEREDOC_MODE: u32 = 0o644;
        let metadata = Metadata { kind: Kind::File, permissions: HEREDOC_MODE, size: body.len() as u64, ..Metadata::implied_directory() };
        let metadata = Metadata { modified: self.new_directory_time().unwrap_or_default(), ..metadata };
        self.single_file(Path::new(&heredoc.name), metadata, &mut body.as_bytes(), plan)
    }

    fn single_file<'t>(
        &self,
        name: &Path,
        metadata: Metadata,
        content: &mut dyn std::io::Read,
        plan: &Plan,
    ) -> Result<Found<'t>, StepError> {
        let failed = |source| StepError::Read { path: name.to_owned(), source };
        let mut spool = SpoolTree::new(self.context.scratch()).map_err(failed)?;
        spool.add(name, metadata, content).map_err(failed)?;
        let tree = TreeRef::Shared(Rc::new(spool) as Rc<dyn Tree>);
        let no_flags = Copy { exclude: Vec::new(), unpack: Some(false), ..Copy::plain() };
        let found = found_at(&normalize(name), &no_flags, plan, &tree).map_err(failed)?;
        found.ok_or_else(|| StepError::NoFileName(name.display().to_string()))
    }

    /// Fetches what `ADD` names; mode and time are Docker's choice.
    fn fetch<'t>(&self, url: &str, copy: &Copy, plan: &Plan) -> Result<Found<'t>, StepError> {
        const FETCHED_MODE: u32 = 0o600;
        let fetched = self.backend.fetch(url).map_err(|source| StepError::Fetch { url: url.to_owned(), source })?;
        let location = url.split(['?', '#']).next().unwrap_or(url);
        let after_host = location.splitn(4, '/').nth(3).unwrap_or_default();
        let name = fetched.file_name.clone().unwrap_or_else(|| after_host.rsplit('/').next().unwrap_or_default().to_owned());
        let name = name.rsplit('/').next().unwrap_or_default();
        if plan.destination.ends_with('/') && (name.is_empty() || name == "." || name == "..") {
            return Err(StepError::NoFileName(url.to_owned()));
        }
        let name = if name.is_empty() || name == "." || name == ".." { "download" } else { name };
        let modified = Modified { seconds: fetched.last_modified.unwrap_or_default(), nanos: 0 };
        let metadata = Metadata { kind: Kind::File, permissions: FETCHED_MODE, modified, ..Metadata::implied_directory() };
        let mut reader = Hashing::new(fetched.reader);
        let mut found = self.single_file(Path::new(name), metadata, &mut reader, plan)?;
        if let Some(checksum) = &copy.checksum {
            let expected: Digest = checksum.parse().map_err(|_| StepError::InvalidChecksum(checksum.clone()))?;
            let actual = reader.digest();
            if actual != expected {
                return Err(StepError::ChecksumMismatch {
                    url: url.to_owned(),
                    expected: expected.to_string(),
                    actual: actual.to_string(),
                });
            }
        }
        found.unpack = copy.unpack == Some(true);
        Ok(found)
    }

    fn copy_all(&mut self, copy: &Copy, plan: &Plan, found: &[Found<'_>], state: &StageState) -> Result<Option<DiffId>, StepError> {
        let owner = match &plan.chown {
            None if plan.from_stage => Ownership::Kept,
            None => Ownership::Root,
            Some(chown) if Owner::is_numeric(chown) || state.layers().is_empty() => Ownership::Given(Owner::find(chown, &NoTree)?),
            Some(chown) => Ownership::Given(Owner::find(chown, &self.root_of(state.layers())?)?),
        };
        let appearance = Appearance { owner, mode: plan.mode.clone() };
        let layers = if copy.link { &[][..] } else { state.layers() };
        let made = self.backend.begin_step(layers).map_err(StepError::backend("prepare the image's files"))?;
        let mut writer = RootWriter::new(made.root(), self.new_directory_time());
        let several = found.len() > 1;
        for source in found {
            self.copy_one(source, plan, several, &appearance, &mut writer)?;
        }
        writer.finish().map_err(write_failed(plan))?;
        let layer = made.commit().map_err(StepError::backend("store the layer"))?;
        Ok(layer.map(|layer| layer.diff_id))
    }

    fn copy_one(
        &self,
        source: &Found<'_>,
        plan: &Plan,
        several: bool,
        appearance: &Appearance,
        writer: &mut RootWriter<'_>,
    ) -> Result<(), StepError> {
        let destination = writer.resolve(Path::new(&plan.destination)).map_err(write_failed(plan))?;
        if source.unpack {
            let failed = |error| StepError::Unpack { path: source.path.clone(), source: error };
            let mut file =
                source.tree.get().open(&source.path).map_err(|error| StepError::Read { path: source.path.clone(), source: error })?;
            let unpacked = archive::read(&mut file, Owners::Kept, self.context.scratch()).map_err(failed)?;
            let owner = if appearance.owner == Ownership::Root { Ownership::Kept } else { appearance.owner };
            let appearance = Appearance { owner, mode: appearance.mode.clone() };
            return copy_directory(&unpacked, Path::new(""), &destination, plan, &appearance, writer).map_err(write_failed(plan));
        }
        if source.metadata.is_directory() {
            return copy_directory(source.tree.get(), &source.path, &destination, plan, appearance, writer).map_err(write_failed(plan));
        }
        let into_directory = several
            || names_directory(&plan.destination)
            || writer.metadata(&destination).map_err(write_failed(plan))?.is_some_and(|metadata| metadata.is_directory());
        let target =
            if into_directory { writer.resolve(&destination.join(&source.name)).map_err(write_failed(plan))? } else { destination };
        writer.make_directories(target.parent().unwrap_or(Path::new("")), appearance).map_err(write_failed(plan))?;
        let put = writer.put(source.tree.get(), &source.path, &source.metadata, &target, appearance);
        put.map(drop).map_err(write_failed(plan))
    }
}

/// Replaces variables in paths; here-documents are expanded when they become files.
fn expand_sources(copy: &Copy, lexer: Lexer<'_>) -> Result<Vec<Source>, StepError> {
    let expand = |source: &Source| match source {
        Source::Path(path) => expand_word(lexer, path).map(Source::Path),
        Source::Heredoc(_) => Ok(source.clone()),
    };
    copy.sources.iter().map(expand).collect()
}

/// The key under which the sums of an image's files are remembered: they are a function of its layers.
fn sums_key(layers: &[DiffId], sources: &[Source], copy: &Copy, plan: &Plan) -> CacheKey {
    let layers: String = layers.iter().map(|layer| format!("{layer}\n")).collect();
    let paths = sources.iter().filter_map(|source| match source {
        Source::Path(path) => Some(path),
        Source::Heredoc(_) => None,
    });
    let mut inputs = Inputs::new().with("kind", "sums").with("keyword", plan.keyword).with_digest("layers", layers.as_bytes());
    inputs = inputs.with("exclude", copy.exclude.join("\n"));
    for (number, path) in paths.enumerate() {
        inputs = inputs.with(format!("path {number}"), path);
    }
    inputs.key()
}

fn copy_inputs(copy: &Copy, plan: &Plan, summary: &Summary, state: &StageState) -> Inputs {
    let inputs = if independent_of_layers(copy, plan) { Inputs::new().with("link", "yes") } else { state.inputs() };
    let mut inputs = inputs
        .with("keyword", plan.keyword)
        .with("destination", &plan.destination)
        .with("owner", plan.chown.as_deref().unwrap_or(if plan.from_stage { "kept" } else { "root" }))
        .with("mode", copy.chmod.as_deref().unwrap_or_default())
        .with("exclude", copy.exclude.join("\n"));
    for (number, (sum, name)) in summary.0.iter().enumerate() {
        inputs = inputs.with(format!("source {number}"), format!("{name} {}", sum.exact));
    }
    inputs
}

fn write_failed(plan: &Plan) -> impl Fn(WriteError) -> StepError {
    let keyword = plan.keyword;
    move |source| StepError::Write { keyword, source }
}

fn plan(keyword: &'static str, copy: &Copy, lexer: Lexer<'_>, state: &StageState) -> Result<Plan, StepError> {
    let expand = |text: &Option<String>| text.as_deref().map(|text| expand_word(lexer, text)).transpose();
    let written_destination = expand_word(lexer, &copy.destination)?;
    let chown = expand(&copy.chown)?.filter(|chown| !chown.is_empty());
    let mode = expand(&copy.chmod)?.filter(|mode| !mode.is_empty()).map(|mode| ModeChange::parse(&mode)).transpose()?;
    let exclude = IgnorePatterns::from_lines(copy.exclude.iter().map(String::as_str))?;
    let destination = absolute(&state.image.config.working_dir, &written_destination);
    Ok(Plan { keyword, written_destination, destination, chown, mode, exclude, from_stage: copy.from.is_some() })
}

/// A relative destination lies below the working directory; a final slash is kept.
fn absolute(working_dir: &str, destination: &str) -> String {
    if destination.starts_with('/') {
        return destination.to_owned();
    }
    let joined = metadata::join(working_dir, destination);
    if destination.ends_with('/') && joined != "/" { joined + "/" } else { joined }
}

fn names_directory(destination: &str) -> bool {
    destination.ends_with('/') || destination.ends_with("/.")
}

/// A layer of `--link` can be put on any other, unless names have to be looked up below.
fn independent_of_layers(copy: &Copy, plan: &Plan) -> bool {
    copy.link && plan.chown.as_deref().is_none_or(Owner::is_numeric)
}

/// Looks a path up, following a link; `None` when there is nothing.
fn found_at<'t>(written: &Path, copy: &Copy, plan: &Plan, tree: &TreeRef<'t>) -> std::io::Result<Option<Found<'t>>> {
    let path = resolve(tree.get(), written)?;
    let Some(metadata) = tree.get().metadata(&path)? else { return Ok(None) };
    let name = PathBuf::from(written.file_name().unwrap_or_default());
    if metadata.is_directory() {
        let sum = directory_sum(tree.get(), &path, &plan.exclude)?;
        return Ok(Some(Found { tree: tree.clone(), path, name, metadata, sum, unpack: false }));
    }
    if plan.exclude.excludes(&name) {
        return Ok(None);
    }
    let may_unpack = plan.keyword == "ADD" && copy.unpack != Some(false) && metadata.kind == Kind::File;
    let unpack = may_unpack && archive::is_archive(&mut tree.get().open(&path)?)?;
    let sum = format!("file:{}", tree.get().sum(&path)?);
    let sum = Sum { shown: sum.clone(), exact: sum };
    Ok(Some(Found { tree: tree.clone(), path, name, metadata, sum, unpack }))
}

fn directory_sum(tree: &dyn Tree, directory: &Path, exclude: &IgnorePatterns) -> std::io::Result<Sum> {
    // As in Docker, the directory itself counts, unless it is the root.
    let itself = if directory.as_os_str().is_empty() { None } else { Some(tree.sum(directory)?) };
    let (mut exact, mut shown): (Vec<String>, Vec<String>) = (itself.iter().cloned().collect(), itself.into_iter().collect());
    for (path, metadata) in tree::walk(tree, directory)? {
        if exclude.excludes(path.strip_prefix(directory).unwrap_or(&path)) {
            continue;
        }
        let sum = tree.sum(&path)?;
        shown.push(match metadata.kind {
            Kind::Symlink(_) => sum_of_target(tree, &path)?,
            _ => sum.clone(),
        });
        exact.push(sum);
    }
    let join = |mut sums: Vec<String>| {
        sums.sort();
        format!("dir:{}", Digest::of(sums.join(",").as_bytes()).hex())
    };
    Ok(Sum { shown: join(shown), exact: join(exact) })
}

/// A link that leads nowhere, or in circles, counts as its own path.
fn sum_of_target(tree: &dyn Tree, link: &Path) -> std::io::Result<String> {
    let target = resolve(tree, link).unwrap_or_default();
    if target.as_os_str().is_empty() || tree.metadata(&target)?.is_none() {
        return Ok(link.display().to_string());
    }
    tree.sum(&target)
}

/// Copies what is in a directory into another, which is made if it is missing.
fn copy_directory(
    tree: &dyn Tree,
    directory: &Path,
    destination: &Path,
    plan: &Plan,
    appearance: &Appearance,
    writer: &mut RootWriter<'_>,
) -> Result<(), WriteError> {
    writer.make_directories(destination, appearance)?;
    let read_failed = |source| WriteError::Read { path: directory.to_owned(), source };
    // A directory may land elsewhere than its name says: on the target of a link.
    let mut places = HashMap::from([(PathBuf::new(), destination.to_owned())]);
    for (path, metadata) in tree::walk(tree, directory).map_err(read_failed)? {
        let relative = path.strip_prefix(directory).unwrap_or(&path).to_owned();
        if plan.exclude.excludes(&relative) && !metadata.is_directory() {
            continue;
        }
        let (Some(parent), Some(name)) = (relative.parent(), relative.file_name()) else { continue };
        let Some(place) = places.get(parent).map(|place| place.join(name)) else { continue };
        if plan.exclude.excludes(&relative) {
            places.insert(relative, place);
            continue;
        }
        if let Some(parent) = place.parent() {
            writer.make_directories(parent, appearance)?;
        }
        let place = writer.put(tree, &path, &metadata, &place, appearance)?;
        if metadata.is_directory() {
            places.insert(relative, place);
        }
    }
    Ok(())
}

/// The root of an image without layers.
struct NoTree;

impl Tree for NoTree {
    fn metadata(&self, _: &Path) -> std::io::Result<Option<Metadata>> {
        Ok(None)
    }

    fn names(&self, _: &Path) -> std::io::Result<Vec<std::ffi::OsString>> {
        Ok(Vec::new())
    }

    fn open(&self, _: &Path) -> std::io::Result<Box<dyn std::io::Read + '_>> {
        Ok(Box::new(std::io::empty().take(0)))
    }

    fn sum(&self, _: &Path) -> std::io::Result<String> {
        Ok(String::new())
    }
}
