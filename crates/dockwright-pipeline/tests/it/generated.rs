//! Large configurations, as generators make them, and how long they take. The bench of this crate measures the same ones.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use dockwright_pipeline::{PipelineContext, evaluate, parse};
use indexmap::IndexMap;

/// Returns the files of a configuration: every job extends, refers, needs another and has rules.
pub(crate) fn generated(jobs: usize, files: usize) -> IndexMap<String, String> {
    let mut output = IndexMap::new();
    let root = "include: 'ci/*.yml'\ndefault: {image: debian:12}\n.base: {before_script: [one, two], variables: {A: a, B: b}}\n";
    output.insert(".gitlab-ci.yml".to_owned(), root.to_owned());
    for file in 0..files {
        let mut text = String::new();
        for job in (file..jobs).step_by(files) {
            write!(
                text,
                "job-{job}:\n  extends: .base\n  stage: {}\n  image: registry.example.com/group/project/image-{job}:latest\n  variables:\n    NUMBER: \"{job}\"\n    TEXT: \"a longer text with $NUMBER and ${{A}} in it\"\n  script:\n    - !reference [.base, before_script]\n    - echo \"job {job} of many, which says something\"\n    - |\n      if true; then\n        make target-{job}\n      fi\n  rules:\n    - if: $CI_COMMIT_BRANCH == \"main\" && $NUMBER =~ /^[0-9]+$/\n    - when: manual\n  artifacts:\n    paths: [out/{job}]\n",
                if job == 0 { "build" } else { "test" },
            )
            .expect("writing to a string");
            if job > 0 {
                text.push_str("  needs: [job-0]\n");
            }
        }
        output.insert(format!("ci/{file}.yml"), text);
    }
    output
}

/// Returns the shortest of three runs.
pub(crate) fn time(files: &IndexMap<String, String>, jobs: usize) -> Duration {
    let once = || {
        let start = Instant::now();
        let context = PipelineContext::default();
        let parsed = parse(".gitlab-ci.yml", files, &context);
        assert_eq!(parsed.problems, []);
        let (pipeline, problems) = evaluate(&parsed.config, &context);
        assert_eq!((pipeline.jobs.len(), problems.len()), (jobs, 0));
        start.elapsed()
    };
    (0..3).map(|_| once()).min().unwrap_or_default()
}
