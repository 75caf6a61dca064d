//! A configuration as it was understood, and the checks between its jobs.

use std::collections::{HashMap, HashSet};

use crate::{
    compose,
    diagnostic::Diagnostic,
    keyword::{job::JobConfig, job::Jobs, root, variables::Variables, workflow::Workflow},
    loader::Loader,
    merged::Merged,
    pipeline::{Need, PipelineContext},
    source::Sources,
    suggestion::did_you_mean,
};

/// A configuration: what could be understood, with everything that was included.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// All stages, `.pre` first and `.post` last.
    pub(crate) stages: Vec<String>,
    pub(crate) variables: Variables,
    pub(crate) workflow: Workflow,
    pub(crate) jobs: Jobs,
}

/// What came of reading a configuration.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    pub config: Config,
    /// Absent when something that it consists of is not here.
    pub merged: Option<Merged>,
    /// The files that were read; the places of problems refer to them.
    pub sources: Sources,
    pub problems: Vec<Diagnostic>,
}

/// Reads the configuration at `path`. The context's variables decide about `include`.
pub fn parse(path: &str, loader: &dyn Loader, context: &PipelineContext) -> Parsed {
    let mut parsed = Parsed::default();
    let Some(composed) = compose::compose(path, loader, context, &mut parsed.sources, &mut parsed.problems) else {
        return parsed;
    };
    parsed.merged = (!composed.is_incomplete).then(|| Merged::new(&composed.root));
    parsed.config = root::read(&composed.root, &mut parsed.problems);
    check(&parsed.config, &mut parsed.problems);
    if composed.is_incomplete {
        parsed.problems.retain(|problem| !MISSING_SOMETHING.contains(&problem.code));
    }
    parsed
}

/// Problems that may come of an include that is not here, which is reported itself.
const MISSING_SOMETHING: &[&str] = &[
    "dependencies-unknown-job",
    "extends-unknown",
    "job-without-script",
    "needs-unknown-job",
    "no-visible-job",
    "reference-unknown",
    "stage-unknown",
];

impl Config {
    /// Returns all stages in order, `.pre` first and `.post` last, also those without jobs.
    pub fn stages(&self) -> &[String] {
        &self.stages
    }

    /// Returns the names of all jobs, whether or not their rules hold.
    pub fn job_names(&self) -> impl Iterator<Item = &str> {
        self.jobs.keys().map(String::as_str)
    }

    /// Returns the names by which jobs can be chosen: those of all jobs, and of entries that make several.
    pub fn selectable_names(&self) -> impl Iterator<Item = &str> {
        let names = self.jobs.values().flat_map(|job| [job.group.as_str(), job.name.as_str()]);
        names.collect::<indexmap::IndexSet<_>>().into_iter()
    }

    fn stage_index(&self, job: &JobConfig) -> Option<usize> {
        self.stages.iter().position(|stage| *stage == job.stage)
    }
}

/// Checks what jobs say about each other.
fn check(config: &Config, problems: &mut Vec<Diagnostic>) {
    for job in config.jobs.values() {
        check_stage(config, job, problems);
        let needs = job.needs.iter().flatten().chain(job.rules.iter().flatten().flat_map(|rule| rule.needs.iter().flatten()));
        for need in needs {
            check_need(config, job, need, problems);
        }
        check_duplicates(job, problems);
        check_dependencies(config, job, problems);
    }
    check_cycles(config, problems);
}

fn check_stage(config: &Config, job: &JobConfig, problems: &mut Vec<Diagnostic>) {
    if config.stage_index(job).is_some() {
        return;
    }
    let stages = config.stages.join(", ");
    let message = format!("{} job: chosen stage {} does not exist; available stages are {stages}", job.name, job.stage);
    let near = did_you_mean(&job.stage, config.stages.iter().map(String::as_str));
    problems.push(
        Diagnostic::error("stage-unknown", message)
            .at(job.stage_span)
            .help(near.unwrap_or_else(|| format!("add `{}` to `stages`", job.stage))),
    );
}

fn check_need(config: &Config, job: &JobConfig, need: &Need, problems: &mut Vec<Diagnostic>) {
    let Some(needed) = config.jobs.get(&need.job) else {
        if !need.optional {
            let names = config.jobs.keys().filter(|name| **name != job.name).map(String::as_str);
            problems.push(
                Diagnostic::error("needs-unknown-job", format!("{} job: undefined need: {}", job.name, need.job))
                    .at(need.span)
                    .help_if(did_you_mean(&need.job, names)),
            );
        }
        return;
    };
    if let (Some(own), Some(other)) = (config.stage_index(job), config.stage_index(needed))
        && other > own
    {
        problems.push(
            Diagnostic::error(
                "needs-later-stage",
                format!("{} job: need {} is not defined in current or prior stages", job.name, need.job),
            )
            .at(need.span)
            .also(needed.stage_span, format!("`{}` is in the later stage `{}`", needed.name, needed.stage)),
        );
    }
}

fn check_duplicates(job: &JobConfig, problems: &mut Vec<Diagnostic>) {
    let mut seen: HashMap<&str, &Need> = HashMap::new();
    for need in job.needs.iter().flatten() {
        if let Some(first) = seen.insert(&need.job, need) {
            let message = format!("{} has the following needs duplicated: {}.", job.name, need.job);
            problems.push(Diagnostic::error("needs-duplicate", message).at(need.span).also(first.span, "needed here already"));
        }
    }
}

fn check_dependencies(config: &Config, job: &JobConfig, problems: &mut Vec<Diagnostic>) {
    for (name, span) in job.dependencies.iter().flatten() {
        let Some(dependency) = config.jobs.get(name) else {
            let names = config.jobs.keys().map(String::as_str);
            let message = format!("{} job: undefined dependency: {name}", job.name);
            problems.push(Diagnostic::error("dependencies-unknown-job", message).at(*span).help_if(did_you_mean(name, names)));
            continue;
        };
        match &job.needs {
            Some(needs) if !needs.iter().any(|need| need.job == *name) => problems.push(
                Diagnostic::error("dependencies-not-needed", format!("jobs:{} dependencies the {name} should be part of needs", job.name))
                    .at(*span)
                    .help(format!("add `{name}` to `needs`, or remove it here")),
            ),
            None if config.stage_index(dependency) >= config.stage_index(job) => problems.push(
                Diagnostic::error(
                    "dependencies-later-stage",
                    format!("{} job: dependency {name} is not defined in prior stages", job.name),
                )
                .at(*span),
            ),
            _ => {}
        }
    }
}

/// Finds jobs that wait for each other. Jobs that wait for a stage cannot take part: needs never reach a later stage.
fn check_cycles(config: &Config, problems: &mut Vec<Diagnostic>) {
    let mut done: HashSet<&str> = HashSet::new();
    for start in config.jobs.values() {
        let mut path: Vec<(&JobConfig, usize)> = vec![(start, 0)];
        while let Some((job, next)) = path.last_mut() {
            let need = job.needs.iter().flatten().nth(*next);
            *next += 1;
            let Some(need) = need else {
                done.insert(&job.name);
                path.pop();
                continue;
            };
            let Some(needed) = config.jobs.get(&need.job).filter(|needed| !done.contains(needed.name.as_str())) else { continue };
            if let Some(first) = path.iter().position(|(outer, _)| outer.name == needed.name) {
                let names: Vec<&str> = path[first..].iter().map(|(job, _)| job.name.as_str()).collect();
                problems.push(cycle(&names, need));
                // Everything on the path hangs on this cycle; one report is enough.
                done.extend(path.iter().map(|(job, _)| job.name.as_str()));
                break;
            }
            path.push((needed, 0));
        }
    }
}

fn cycle(names: &[&str], need: &Need) -> Diagnostic {
    let what = match names {
        [name] => format!("self-dependency: {name}"),
        _ => format!("topological sort failed: {names:?}"),
    };
    Diagnostic::error("needs-cycle", format!("The pipeline has circular dependencies: {what}"))
        .at(need.span)
        .help("remove one of the needs in the circle")
}
