//! Large generated configurations: time grows with their size, not faster.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use dockwright_pipeline::{PipelineContext, evaluate, parse};
use indexmap::IndexMap;

/// A configuration as generators make them: every job extends, refers, needs another and has rules.
fn generated(jobs: usize, files: usize) -> IndexMap<String, String> {
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

/// The shortest of three runs.
fn time(files: &IndexMap<String, String>, jobs: usize) -> Duration {
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

#[test]
fn ten_times_the_jobs_take_about_ten_times_as_long() {
    let small = time(&generated(100, 10), 100);
    let large = time(&generated(1000, 10), 1000);
    // Twelve is promised; the rest is for a machine that does something else at the same time.
    assert!(large < small * 25, "{small:?} for 100 jobs, {large:?} for 1000");
}

/// `cargo test --release -p dockwright-pipeline --test it -- --ignored --nocapture megabyte`
#[test]
#[ignore = "a measurement, for a release build"]
#[expect(clippy::print_stdout, reason = "its result is for people")]
fn a_megabyte_in_fifty_files() {
    for jobs in [200, 2000, 20_000] {
        let files = generated(jobs, 50);
        let size: usize = files.values().map(String::len).sum();
        println!("{jobs} jobs, {} kB: {:?}", size / 1000, time(&files, jobs));
    }
}
