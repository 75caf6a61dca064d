use expect_test::{Expect, expect};
use indexmap::IndexMap;

use super::read_cases;
use crate::{PipelineContext, Sources, Style, evaluate, parse, render};

const CONFIG: &str = "
stages: [build, deploy]
build: {stage: build, script: [make], image: debian}
shards: {stage: build, script: [make], parallel: 2, variables: {WHERE: 'in $CI_COMMIT_BRANCH'}}
deploy: {stage: deploy, script: [make], needs: [build], rules: [{if: $CI_COMMIT_BRANCH == \"main\", when: manual}]}
release: {stage: deploy, script: [make], rules: [{if: $CI_COMMIT_TAG}]}
";

/// Checks every case against the configuration, for a push to `main`.
#[track_caller]
fn check(text: &str, expected: Expect) {
    let mut sources = Sources::default();
    let source = sources.add("test.yml", text.trim_start_matches('\n'));
    let (cases, mut problems) = read_cases(source, &sources);
    let predefined = IndexMap::from([("CI_COMMIT_BRANCH".to_owned(), "main".to_owned())]);
    let context = PipelineContext { predefined, ..PipelineContext::default() };
    let files = IndexMap::from([("ci.yml".to_owned(), CONFIG.to_owned())]);
    let parsed = parse("ci.yml", &files, &context);
    assert_eq!(parsed.problems, []);
    let (pipeline, _) = evaluate(&parsed.config, &context);
    problems.extend(cases.iter().flat_map(|case| case.check(&parsed.config, &context, &pipeline)));
    let rendered: Vec<String> = problems.iter().map(|problem| render(problem, &sources, Style::Plain)).collect();
    expected.assert_eq(&rendered.join("\n"));
}

#[test]
fn what_holds_says_nothing() {
    check(
        "
all of it:
  jobs:
    build: {stage: build, when: on_success, image: debian, allow_failure: false}
    shards: {variables: {WHERE: in main, NO_SUCH: null}, image: null}
    deploy: {when: manual, needs: [build]}
  absent: [release]
  exact: true
by name: {jobs: [build, shards 2/2]}
",
        expect![""],
    );
}

#[test]
fn what_does_not_hold_is_shown_where_it_is_asserted() {
    check(
        "
main:
  jobs:
    biuld:
    release:
    deploy: {when: on_success, needs: [build, shards]}
    build: {needs: []}
    shards 1/2: {variables: {WHERE: elsewhere}, image: debian}
  absent: [deploy]
  exact: true
",
        expect![[r#"
            error[job-missing]: job `biuld` is not part of this pipeline
             --> test.yml:3:5
              |
            3 |     biuld:
              |     ^^^^^
              |
              = help: did you mean `build`?
            error[job-missing]: job `release` is not part of this pipeline
             --> test.yml:4:5
              |
            4 |     release:
              |     ^^^^^^^
              |
              = help: its rules leave it out; `dockwright why release` says which
            error[job-differs]: job `deploy` has `when: manual`, not `on_success`
             --> test.yml:5:20
              |
            5 |     deploy: {when: on_success, needs: [build, shards]}
              |                    ^^^^^^^^^^
            error[job-differs]: job `deploy` has `needs: [build]`, not `[build, shards]`
             --> test.yml:5:39
              |
            5 |     deploy: {when: on_success, needs: [build, shards]}
              |                                       ^^^^^^^^^^^^^^^
            error[job-differs]: job `build` has no `needs`: it waits for all earlier stages
             --> test.yml:6:20
              |
            6 |     build: {needs: []}
              |                    ^^
            error[job-differs]: job `shards 1/2` has the variable `WHERE` with "in main", not "elsewhere"
             --> test.yml:7:37
              |
            7 |     shards 1/2: {variables: {WHERE: elsewhere}, image: debian}
              |                                     ^^^^^^^^^
            error[job-differs]: job `shards 1/2` has `image: null`, not `debian`
             --> test.yml:7:56
              |
            7 |     shards 1/2: {variables: {WHERE: elsewhere}, image: debian}
              |                                                        ^^^^^^
            error[job-present]: job `deploy` is part of this pipeline
             --> test.yml:8:12
              |
            8 |   absent: [deploy]
              |            ^^^^^^
              |
              = help: `dockwright why deploy` says why
            error[job-unexpected]: this pipeline also has `shards 2/2`
             --> test.yml:1:1
              |
            1 | main:
              | ^^^^
              |
              = help: `exact: true` allows only the jobs under `jobs`"#]],
    );
}

#[test]
fn a_file_that_is_wrong_is_shown_as_such() {
    check(
        "
one: {pipelin: {ref: main}, jobs: build}
two: {pipeline: {ref: main, tag: v1, changes: a}}
three: [build]
",
        expect![[r#"
            error[test-unknown-key]: a test has no key `pipelin`
             --> test.yml:1:7
              |
            1 | one: {pipelin: {ref: main}, jobs: build}
              |       ^^^^^^^
              |
              = help: did you mean `pipeline`?
            error[test-invalid]: `jobs` must be a mapping or a list, but it is a text
             --> test.yml:1:35
              |
            1 | one: {pipelin: {ref: main}, jobs: build}
              |                                   ^^^^^
            error[test-invalid]: a pipeline is for a `ref` or for a `tag`, not for both
             --> test.yml:2:29
              |
            2 | two: {pipeline: {ref: main, tag: v1, changes: a}}
              |                             ^^^
            error[test-invalid]: `changes` must be a list, but it is a text
             --> test.yml:2:47
              |
            2 | two: {pipeline: {ref: main, tag: v1, changes: a}}
              |                                               ^
            error[test-empty]: test `two` asserts nothing
             --> test.yml:2:1
              |
            2 | two: {pipeline: {ref: main, tag: v1, changes: a}}
              | ^^^
              |
              = help: add `jobs` or `absent`
            error[test-invalid]: a test must be a mapping, but it is a list
             --> test.yml:3:8
              |
            3 | three: [build]
              |        ^^^^^^^"#]],
    );
}
