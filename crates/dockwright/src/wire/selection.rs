//! Which jobs of a pipeline run when some were named: these, and what they need.

use dockwright_coordinator::{select, with_needed};
use dockwright_pipeline::{Config, Pipeline, When};

use crate::error::{CommandError, ErrorKind};

/// How alike two names must be for one to be suggested in place of the other.
const SIMILAR: f64 = 0.7;

/// Leaves only the named jobs and those they need; all of them when none is named. A manual job that is named is started.
pub(crate) fn select_jobs(pipeline: Pipeline, config: &Config, names: &[String]) -> Result<Pipeline, CommandError> {
    if names.is_empty() {
        return Ok(pipeline);
    }
    if let Some(missing) = names.iter().find(|name| jobs_of(&pipeline, name).is_empty()) {
        return Err(not_in_pipeline(missing, config));
    }
    let names: Vec<String> = names.iter().flat_map(|name| jobs_of(&pipeline, name)).collect();
    let mut wanted = with_needed(&pipeline, &names);
    let needs: Vec<String> =
        wanted.iter().filter_map(|name| pipeline.job(name)?.needs.as_ref()).flatten().map(|need| need.job.clone()).collect();
    // Of the earlier stages, jobs that wait for somebody or for a failure are not started by being earlier.
    wanted.retain(|name| {
        let starts_by_itself = pipeline.job(name).is_some_and(|job| matches!(job.when, When::OnSuccess | When::Always));
        starts_by_itself || names.contains(name) || needs.contains(name)
    });
    select(&pipeline, &wanted).map_err(|error| CommandError::new(ErrorKind::Usage, error))
}

/// Returns the jobs that a name means: an entry with `parallel` is named by its own name, or by that of one of its jobs.
fn jobs_of(pipeline: &Pipeline, name: &str) -> Vec<String> {
    pipeline.jobs.iter().filter(|job| job.name == name || job.group == name).map(|job| job.name.clone()).collect()
}

fn not_in_pipeline(name: &str, config: &Config) -> CommandError {
    if !config.jobs_named(name).is_empty() {
        return CommandError::usage(format!("job `{name}` is not part of this pipeline: its rules leave it out"))
            .hint("`dockwright list` shows which jobs run; --event, --ref, --tag and --variable change what rules see");
    }
    no_such_job(name, config)
}

/// Says that the configuration has no job of a name, and which it may have meant.
pub(crate) fn no_such_job(name: &str, config: &Config) -> CommandError {
    let error = CommandError::usage(format!("there is no job `{name}`"));
    match nearest(name, config.job_names()) {
        Some(similar) => error.hint(format!("did you mean `{similar}`?")),
        None => error.hint("`dockwright list` shows the jobs"),
    }
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    scored.filter(|(score, _)| *score >= SIMILAR).max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use dockwright_pipeline::{PipelineContext, evaluate, parse};

    use super::*;

    const FILE: &str = "
stages: [build, test, deploy]
compile: {stage: build, script: [make]}
ask: {stage: build, script: [make], when: manual}
unit: {stage: test, script: [make], needs: [compile]}
release: {stage: deploy, script: [make], when: manual, needs: [unit]}
publish: {stage: deploy, script: [make]}
clean: {stage: test, script: [make], when: on_failure}
nightly: {stage: deploy, script: [make], rules: [{if: $NIGHTLY}]}
shards: {stage: build, script: [make], parallel: 2, needs: []}
";

    fn selected(names: &[&str]) -> Result<Vec<(String, When)>, String> {
        let context = PipelineContext::default();
        let files = indexmap::IndexMap::from([("ci.yml".to_owned(), FILE.to_owned())]);
        let parsed = parse("ci.yml", &files, &context);
        assert_eq!(parsed.problems, []);
        let (pipeline, _) = evaluate(&parsed.config, &context);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        match select_jobs(pipeline, &parsed.config, &names) {
            Ok(pipeline) => Ok(pipeline.jobs.into_iter().map(|job| (job.name, job.when)).collect()),
            Err(error) => {
                let parts = error.parts();
                Err(format!("{}; {}", parts.message, parts.hint.unwrap_or_default()))
            }
        }
    }

    fn started(names: &[&str]) -> Vec<(String, When)> {
        names.iter().map(|name| ((*name).to_owned(), When::OnSuccess)).collect()
    }

    #[test]
    fn a_job_brings_what_it_needs_and_starts_though_manual() {
        assert_eq!(selected(&["release"]), Ok(started(&["compile", "unit", "release"])));
        assert_eq!(selected(&["ask"]), Ok(started(&["ask"])));
    }

    #[test]
    fn earlier_stages_come_along_but_not_what_waits_in_them() {
        assert_eq!(selected(&["publish"]), Ok(started(&["compile", "shards 1/2", "shards 2/2", "unit", "publish"])));
    }

    #[test]
    fn an_entry_with_parallel_means_all_its_jobs() {
        assert_eq!(selected(&["shards"]), Ok(started(&["shards 1/2", "shards 2/2"])));
        assert_eq!(selected(&["shards 2/2"]), Ok(started(&["shards 2/2"])));
    }

    #[test]
    fn what_is_not_there_is_explained() {
        assert_eq!(selected(&["comiple"]), Err("there is no job `comiple`; did you mean `compile`?".to_owned()));
        assert!(selected(&["nightly"]).expect_err("left out").contains("its rules leave it out"));
    }
}
