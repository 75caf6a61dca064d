//! What is known of a configuration.

use std::path::{Path, PathBuf};

use dockwright_pipeline::{
    Config, Diagnostic, Loader, Merged, Outline, PipelineContext, Source, Sources, Span, Step, evaluate, has_errors, parse,
};

use super::overlay::Overlay;
use crate::wire::EMPTY;

/// A configuration with all its files.
pub(super) struct Analysis {
    pub(super) root: PathBuf,
    pub(super) config: Config,
    pub(super) merged: Option<Merged>,
    pub(super) context: PipelineContext,
    pub(super) sources: Sources,
    pub(super) problems: Vec<Diagnostic>,
    /// Paths of the repository's files, from its root.
    pub(super) files: Vec<String>,
    outlines: Vec<Outline>,
}

/// A key in one of the files.
#[derive(Clone, Copy)]
pub(super) struct Definition<'a> {
    pub(super) source: &'a Source,
    pub(super) outline: &'a Outline,
    pub(super) index: usize,
}

/// Problems that a file has only because it is looked at without the configuration that includes it.
const OF_A_PART: &[&str] = &[
    "default-twice",
    "dependencies-unknown-job",
    "environment-on-stop",
    "extends-unknown",
    "job-without-script",
    "needs-unknown-job",
    "no-visible-job",
    "reference-unknown",
    "stage-unknown",
];

impl Analysis {
    pub(super) fn of(root: &Path, file: &str, loader: &Overlay<'_>, context: &PipelineContext) -> Self {
        let parsed = parse(file, loader, context);
        let mut problems = parsed.problems;
        if !has_errors(&problems) {
            problems.extend(evaluate(&parsed.config, context).1);
        }
        problems.retain(|problem| problem.code != EMPTY);
        let outlines = parsed.sources.iter().map(|source| Outline::read(&source.text)).collect();
        let mut files = loader.list_files(&dockwright_pipeline::Place::Own);
        files.retain(|path| path.ends_with(".yml") || path.ends_with(".yaml"));
        Self {
            root: root.to_owned(),
            config: parsed.config,
            merged: parsed.merged,
            context: context.clone(),
            sources: parsed.sources,
            problems,
            files,
            outlines,
        }
    }

    /// Forgets problems that may come of what is in the configuration that includes this file.
    pub(super) fn into_part(mut self) -> Self {
        self.problems.retain(|problem| !OF_A_PART.contains(&problem.code));
        self
    }

    /// Tells whether a file takes part.
    pub(super) fn has(&self, file: &str) -> bool {
        self.sources.iter().any(|source| own_name(source) == file)
    }

    /// Returns the path of a file of the repository; nothing for one of elsewhere.
    pub(super) fn path_of(&self, source: &Source) -> Option<PathBuf> {
        let is_url = source.name.contains("://");
        let path = self.root.join(own_name(source));
        // The editor may have a file that is not saved yet.
        (!is_url && (path.is_file() || self.files.iter().any(|file| file == own_name(source)))).then_some(path)
    }

    /// Returns the nearest place in the repository: the span's own, or where its file is included.
    pub(super) fn own_span(&self, span: Span) -> Option<Span> {
        let chain = self.sources.include_chain(span.source);
        std::iter::once(span).chain(chain).find(|span| self.path_of(self.sources.get(span.source)).is_some())
    }

    fn texts(&self) -> impl DoubleEndedIterator<Item = (&Source, &Outline)> {
        self.sources.iter().collect::<Vec<_>>().into_iter().zip(self.outlines.iter().collect::<Vec<_>>())
    }

    /// Returns the entries of all files: jobs, hidden entries and keywords.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, Definition<'_>)> {
        self.texts().flat_map(|(source, outline)| {
            outline.children(None).filter_map(move |index| match &outline.marks()[index].step {
                Step::Key(name) => Some((name.as_str(), Definition { source, outline, index })),
                Step::Item => None,
            })
        })
    }

    /// Returns where a path of keys is written; the configuration's own file, which is read first, wins over those it includes.
    pub(super) fn find(&self, path: &[&str]) -> Option<Definition<'_>> {
        let mut texts = self.texts();
        let own = texts.next();
        // Of included files, the later wins.
        own.into_iter().chain(texts.rev()).find_map(|(source, outline)| {
            let index = path.iter().try_fold(None, |parent, key| outline.child(parent, key).map(Some))?;
            Some(Definition { source, outline, index: index? })
        })
    }
}

fn own_name(source: &Source) -> &str {
    source.name.trim_start_matches('/')
}
