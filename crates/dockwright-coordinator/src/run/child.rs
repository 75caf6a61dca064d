//! Making a child pipeline: its configuration read, and evaluated for the commit of its parent.

use std::{
    collections::HashMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use dockwright_pipeline::{ChildInclude, LoadError, Loaded, Loader, Pipeline, Place, Request, has_errors, parse, render_line};

use crate::{
    configuration,
    include::{IncludeOptions, LockError, Web},
    predefined::{self, RegistryFacts, Trigger},
    project::Project,
};

/// Name of the file that stands for `trigger:include`. No path of a repository begins like this.
const ROOT: &str = ".git/dockwright-child.yml";
/// Largest archive, and largest file of it, that a configuration is taken from.
const ARTIFACT_SIZE_BYTES: u64 = 5 * 1024 * 1024;
/// Levels of pipelines below the first.
pub(crate) const MAX_DEPTH: usize = 2;

/// Why there is no child pipeline, in words for the trace of the job that was to start it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    #[error("the child pipeline would be more than {MAX_DEPTH} levels below the first pipeline")]
    TooDeep,
    #[error("job `{job}` left no artifacts to take `{path}` from")]
    NoArtifacts { job: String, path: String },
    #[error("take `{path}` from the artifacts of job `{job}`: {reason}")]
    Artifact { job: String, path: String, reason: String },
    #[error("the configuration of the child pipeline is wrong:\n{problems}")]
    Configuration { problems: String },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Directory(#[from] crate::DirectoryError),
}

/// A file of the configuration, with the archive that it is in.
pub(crate) struct Source {
    pub(crate) include: ChildInclude,
    /// Absent for what no job made, and for a job that left no artifacts.
    pub(crate) archive: Option<PathBuf>,
}

/// How child pipelines of a local run find the files that they include from elsewhere.
#[derive(Debug)]
pub struct ChildIncludes {
    pub options: IncludeOptions,
    pub web: Box<dyn Web>,
}

/// Reads and evaluates the configuration, whose other files come from `loader`. Looks at files, and may ask Git and the network, so it
/// blocks.
pub(crate) fn make(
    project: &Project,
    trigger: &Trigger,
    registry: Option<&RegistryFacts>,
    loader: &dyn Loader,
    sources: &[Source],
) -> Result<Pipeline, ChildError> {
    let files = ChildFiles::new(loader, sources)?;
    let context = predefined::context(project, trigger, registry);
    let parsed = parse(ROOT, &files, &context);
    let (pipeline, problems) = configuration::evaluated(&parsed, &context);
    if has_errors(&problems) {
        let lines: Vec<String> =
            problems.iter().filter(|problem| problem.is_error()).map(|problem| render_line(problem, &parsed.sources)).collect();
        return Err(ChildError::Configuration { problems: lines.join("\n") });
    }
    Ok(pipeline)
}

/// The files of the loader, and those that were made by jobs.
struct ChildFiles<'a> {
    loader: &'a dyn Loader,
    made: HashMap<String, String>,
}

impl<'a> ChildFiles<'a> {
    fn new(loader: &'a dyn Loader, sources: &[Source]) -> Result<Self, ChildError> {
        let mut made = HashMap::new();
        let mut entries = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            entries.push(match &source.include {
                ChildInclude::Entry(entry) => entry.clone(),
                ChildInclude::Artifact { path, job, inputs } => {
                    let text = from_archive(source.archive.as_deref(), path, job)?;
                    let name = format!(".git/artifact-{number}/{}.yml", path.trim_end_matches(".yml"));
                    let inputs = inputs.as_deref().unwrap_or("{}");
                    let entry = format!("{{\"local\": {}, \"inputs\": {inputs}}}", serde_json::Value::from(name.as_str()));
                    made.insert(name, text);
                    entry
                }
            });
        }
        // JSON is YAML.
        made.insert(ROOT.to_owned(), format!("{{\"include\": [{}]}}", entries.join(", ")));
        Ok(Self { loader, made })
    }
}

impl Loader for ChildFiles<'_> {
    fn load(&self, request: &Request) -> Result<Loaded, LoadError> {
        let made = match request {
            Request::Local { place: Place::Own, path } => self.made.get(path),
            _ => None,
        };
        match made {
            Some(text) => Ok(Loaded { text: text.clone(), place: Place::Own, component: None }),
            None => self.loader.load(request),
        }
    }

    fn list_files(&self, place: &Place) -> Vec<String> {
        self.loader.list_files(place)
    }

    fn prepare(&self, requests: &[Request]) {
        self.loader.prepare(requests);
    }
}

fn from_archive(archive: Option<&Path>, path: &str, job: &str) -> Result<String, ChildError> {
    let archive = archive.ok_or_else(|| ChildError::NoArtifacts { job: job.to_owned(), path: path.to_owned() })?;
    read_entry(archive, path).map_err(|error| ChildError::Artifact {
        job: job.to_owned(),
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Reads a file of an archive.
pub(super) fn read_entry(archive: &Path, path: &str) -> std::io::Result<String> {
    let file = File::open(archive)?;
    if file.metadata()?.len() > ARTIFACT_SIZE_BYTES {
        return Err(std::io::Error::other(format!("the archive is larger than {ARTIFACT_SIZE_BYTES} bytes")));
    }
    let mut archive = zip::ZipArchive::new(file).map_err(std::io::Error::other)?;
    let entry = archive.by_name(path).map_err(std::io::Error::other)?;
    let mut text = String::new();
    entry.take(ARTIFACT_SIZE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
