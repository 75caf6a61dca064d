//! Running some jobs of a pipeline only.

use dockwright_pipeline::{AllowFailure, Pipeline, When};

/// A job that cannot be selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("job `{name}` is not part of this pipeline")]
pub struct UnknownJobError {
    pub name: String,
    /// The jobs that are.
    pub known: Vec<String>,
}

impl UnknownJobError {
    /// Says what to do about it.
    pub fn hint(&self) -> String {
        format!("its jobs are `{}`; a job whose rules do not hold is left out, see `dockwright list`", self.known.join("`, `"))
    }
}

/// Leaves only the named jobs. Being named starts a job that otherwise waits for somebody, or for a failure.
///
/// What the jobs need among themselves still holds; needs of jobs that are left out are dropped.
pub fn select(pipeline: &Pipeline, names: &[String]) -> Result<Pipeline, UnknownJobError> {
    if let Some(unknown) = names.iter().find(|name| pipeline.job(name).is_none()) {
        let known = pipeline.jobs.iter().map(|job| job.name.clone()).collect();
        return Err(UnknownJobError { name: unknown.clone(), known });
    }
    let mut selected = pipeline.clone();
    selected.jobs.retain(|job| names.contains(&job.name));
    for job in &mut selected.jobs {
        if matches!(job.when, When::Manual | When::OnFailure | When::Delayed) {
            job.when = When::OnSuccess;
        }
        if let Some(needs) = &mut job.needs {
            needs.retain(|need| names.contains(&need.job));
        }
    }
    selected.stages.retain(|stage| selected.jobs.iter().any(|job| job.stage == *stage));
    Ok(selected)
}

/// What becomes of delayed jobs instead of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undelayed {
    /// They start like other jobs.
    Start,
    /// They wait for somebody who does not come; what needs them is skipped.
    Skip,
}

/// Lets no job of a pipeline wait for a time.
pub fn undelay(pipeline: &mut Pipeline, undelayed: Undelayed) {
    for job in pipeline.jobs.iter_mut().filter(|job| job.when == When::Delayed) {
        job.start_in_secs = None;
        match undelayed {
            Undelayed::Start => job.when = When::OnSuccess,
            Undelayed::Skip => {
                job.when = When::Manual;
                job.allow_failure = AllowFailure::Always;
            }
        }
    }
}

/// Adds to the named jobs all that they need, directly or not: their needs, or everything in earlier stages.
pub fn with_needed(pipeline: &Pipeline, names: &[String]) -> Vec<String> {
    let stage = |name: &str| pipeline.job(name).and_then(|job| pipeline.stages.iter().position(|stage| *stage == job.stage));
    let mut all: Vec<String> = names.to_vec();
    let mut next = 0;
    while let Some(name) = all.get(next).cloned() {
        next += 1;
        let Some(job) = pipeline.job(&name) else { continue };
        let needed: Vec<String> = match &job.needs {
            Some(needs) => needs.iter().map(|need| need.job.clone()).collect(),
            None => pipeline.jobs.iter().map(|job| job.name.clone()).filter(|other| stage(other) < stage(&name)).collect(),
        };
        for other in needed {
            if !all.contains(&other) {
                all.push(other);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use dockwright_pipeline::{PipelineContext, evaluate, parse};
    use indexmap::IndexMap;

    use super::*;

    fn pipeline() -> Pipeline {
        let text = "
a: {stage: build, script: x}
b: {stage: build, script: x}
c: {stage: test, script: x, needs: [a]}
d: {stage: deploy, script: x, when: manual, needs: [c]}
e: {stage: deploy, script: x}
";
        let files = IndexMap::from([(".gitlab-ci.yml".to_owned(), text.to_owned())]);
        let context = PipelineContext::default();
        evaluate(&parse(".gitlab-ci.yml", &files, &context).config, &context).0
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_the_named_jobs_are_left_and_manual_ones_start() {
        let selected = select(&pipeline(), &names(&["d", "b"])).expect("they exist");
        let left: Vec<_> = selected.jobs.iter().map(|job| (job.name.as_str(), job.when, job.needs.as_ref().map(Vec::len))).collect();
        assert_eq!(left, [("b", When::OnSuccess, None), ("d", When::OnSuccess, Some(0))]);
        assert_eq!(selected.stages, ["build", "deploy"]);
        assert_eq!(select(&pipeline(), &names(&["x"])).expect_err("no such job").name, "x");
    }

    #[test]
    fn delayed_jobs_need_not_be_waited_for() {
        let mut delayed = pipeline();
        delayed.jobs[0].when = When::Delayed;
        let mut skipped = delayed.clone();
        undelay(&mut delayed, Undelayed::Start);
        assert_eq!(delayed.jobs[0].when, When::OnSuccess);
        undelay(&mut skipped, Undelayed::Skip);
        assert_eq!((skipped.jobs[0].when, &skipped.jobs[0].allow_failure), (When::Manual, &AllowFailure::Always));
    }

    #[test]
    fn needed_jobs_are_found_through_needs_and_stages() {
        assert_eq!(with_needed(&pipeline(), &names(&["d"])), ["d", "c", "a"]);
        assert_eq!(with_needed(&pipeline(), &names(&["e"])), ["e", "a", "b", "c"]);
    }
}
