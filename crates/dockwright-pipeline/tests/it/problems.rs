//! What is refused, and how it reads.

use std::fmt::Write as _;

use expect_test::expect;

use crate::check;

#[test]
fn broken_yaml() {
    check(
        "job:\n  script: [make\n",
        expect![[r#"
        error[yaml-syntax]: Invalid YAML syntax: unclosed bracket '['
         --> .gitlab-ci.yml:2:11
          |
        2 |   script: [make
          |           ^
          |
          = help: check the indentation here and in the line before, and put texts with `: `, ` #` or a leading special character in quotes
    "#]],
    );
    check(
        "job:\n\tscript: make\n",
        expect![[r#"
        error[yaml-syntax]: Invalid YAML syntax: tabs disallowed within this context (block indentation)
         --> .gitlab-ci.yml:2:2
          |
        2 |     script: make
          |     ^
          |
          = help: YAML does not allow tabs for indentation; use blanks
    "#]],
    );
    check(
        "job:\n  script: *missing\n",
        expect![[r#"
        error[yaml-unknown-alias]: Unknown alias: missing
         --> .gitlab-ci.yml:2:11
          |
        2 |   script: *missing
          |           ^^^^^^^^
          |
          = help: define it earlier in the same file with `&missing`; anchors do not reach included files, use `extends` or `!reference` for that
    "#]],
    );
    check(
        "",
        expect![[r#"
            error[config-empty]: the configuration file is empty
             --> .gitlab-ci.yml:1:1
              |
            1 |
              | ^
              |
              = help: add a job, for example `test: {script: [echo hello]}`
        "#]],
    );
    check(
        "- a\n- b\n",
        expect![[r#"
        error[invalid-configuration-format]: Invalid configuration format
         --> .gitlab-ci.yml:1:1
          |
        1 | - a
          | ^^^
          |
          = help: the top level must be a mapping of keywords and jobs (`name: …`), but it is a list
    "#]],
    );
    check(
        "job: {script: a, variables: {D: 2024-01-31}}\n",
        expect![[r#"
        error[yaml-date]: Tried to load unspecified class: Date
         --> .gitlab-ci.yml:1:33
          |
        1 | job: {script: a, variables: {D: 2024-01-31}}
          |                                 ^^^^^^^^^^
          |
          = help: GitLab does not load dates; write it as a text: "2024-01-31"
    "#]],
    );
}

#[test]
fn a_colon_in_a_command() {
    check(
        "job:\n  script:\n    - echo \"a\"\n    - echo note: done\n",
        expect![[r#"
        error[wrong-type]: jobs:job:script config should be a string or a nested array of strings up to 10 levels deep
         --> .gitlab-ci.yml:4:7
          |
        4 |     - echo note: done
          |       ^^^^^^^^^^^^^^^
          |
          = help: this is read as a mapping because of a `: `; put the whole line in single quotes, or write it as a block (`- |`)
    "#]],
    );
}

#[test]
fn unknown_keys_have_suggestions() {
    check(
        "job:\n  scirpt: make\n  imge: a\n",
        expect![[r#"
            error[job-without-script]: jobs job config should implement the script:, run:, or trigger: keyword
             --> .gitlab-ci.yml:2:3
              |
            2 |   scirpt: make
              |   ^^^^^^
              |
              = help: did you mean `script` instead of `scirpt`?
        "#]],
    );
    check(
        "job:\n  script: make\n  imge: a\n  image: {nam: x}\n",
        expect![[r#"
        error[unknown-key]: jobs:job config contains unknown keys: imge
         --> .gitlab-ci.yml:3:3
          |
        3 |   imge: a
          |   ^^^^
          |
          = help: did you mean `image`?
        error[unknown-key]: jobs:job:image config contains unknown keys: nam
         --> .gitlab-ci.yml:4:11
          |
        4 |   image: {nam: x}
          |           ^^^
          |
          = help: did you mean `name`?
        error[image-name]: jobs:job:image name can't be blank
         --> .gitlab-ci.yml:4:10
          |
        4 |   image: {nam: x}
          |          ^^^^^^^^
          |
          = help: add `name: IMAGE`
    "#]],
    );
    check(
        "variabels:\n  A: b\njob: {script: a}\n",
        expect![[r#"
        error[job-without-script]: jobs variabels config should implement the script:, run:, or trigger: keyword
         --> .gitlab-ci.yml:1:1
          |
        1 | variabels:
          | ^^^^^^^^^
          |
          = help: did you mean the keyword `variables`? Otherwise add `script`, or hide the entry by the name `.variabels`
    "#]],
    );
}

#[test]
fn duplicate_keys_warn() {
    check(
        "job:\n  script: a\n  script: b\n",
        expect![[r#"
        warning[duplicate-key]: `script` is defined twice; the last definition wins
         --> .gitlab-ci.yml:3:3
          |
        2 |   script: a
          |   ------ this one is ignored
        3 |   script: b
          |   ^^^^^^
          |
          = help: remove or rename one of them
        stage test
          job when=on_success
            $ b
    "#]],
    );
}

#[test]
fn unsupported_keywords_are_named() {
    check(
        r"
job:
  script: make
  parallel: 3
  only: [main]
  when: delayed
  start_in: 3 hours
other:
  script: make
  rules: [{changes: [a]}]
  needs: {pipeline: $X}
down: {trigger: group/project}
",
        expect![[r#"
            error[unsupported-keyword]: jobs:other:needs:need: `needs:pipeline` without `job` takes over the state of another pipeline, which is not done locally
              --> .gitlab-ci.yml:10:10
               |
            10 |   needs: {pipeline: $X}
               |          ^^^^^^^^^^^^^^
               |
               = help: add `job` to get its artifacts
            warning[not-done-locally]: jobs:down:trigger: the pipeline of `group/project` is not started locally
              --> .gitlab-ci.yml:11:17
               |
            11 | down: {trigger: group/project}
               |                 ^^^^^^^^^^^^^
               |
               = help: the job succeeds at once, as on GitLab without `strategy`; run the other project's pipeline in a clone of it
        "#]],
    );
}

#[test]
fn jobs_must_fit_together() {
    check(
        r"
build: {stage: build, script: a}
a: {stage: bild, script: a}
b: {script: a, needs: [buidl]}
c: {stage: build, script: a, needs: [b]}
d: {script: a, needs: [e]}
e: {script: a, needs: [d]}
f: {script: a, needs: [f]}
g: {script: a, needs: [build, build]}
h: {script: a, needs: [build], dependencies: [b]}
",
        expect![[r#"
            error[stage-unknown]: a job: chosen stage bild does not exist; available stages are .pre, build, test, deploy, .post
             --> .gitlab-ci.yml:2:12
              |
            2 | a: {stage: bild, script: a}
              |            ^^^^
              |
              = help: did you mean `build`?
            error[needs-unknown-job]: b job: undefined need: buidl
             --> .gitlab-ci.yml:3:24
              |
            3 | b: {script: a, needs: [buidl]}
              |                        ^^^^^
              |
              = help: did you mean `build`?
            error[needs-later-stage]: c job: need b is not defined in current or prior stages
             --> .gitlab-ci.yml:4:38
              |
            3 | b: {script: a, needs: [buidl]}
              | - `b` is in the later stage `test`
            4 | c: {stage: build, script: a, needs: [b]}
              |                                      ^
            error[needs-duplicate]: g has the following needs duplicated: build.
             --> .gitlab-ci.yml:8:31
              |
            8 | g: {script: a, needs: [build, build]}
              |                        -----  ^^^^^
              |                        |
              |                        needed here already
            error[dependencies-not-needed]: jobs:h dependencies the b should be part of needs
             --> .gitlab-ci.yml:9:47
              |
            9 | h: {script: a, needs: [build], dependencies: [b]}
              |                                               ^
              |
              = help: add `b` to `needs`, or remove it here
            error[needs-cycle]: The pipeline has circular dependencies: topological sort failed: ["d", "e"]
             --> .gitlab-ci.yml:6:24
              |
            6 | e: {script: a, needs: [d]}
              |                        ^
              |
              = help: remove one of the needs in the circle
            error[needs-cycle]: The pipeline has circular dependencies: self-dependency: f
             --> .gitlab-ci.yml:7:24
              |
            7 | f: {script: a, needs: [f]}
              |                        ^
              |
              = help: remove one of the needs in the circle
        "#]],
    );
}

#[test]
fn needed_jobs_must_be_there() {
    check(
        r"
build: {stage: build, script: a, rules: [{if: $NEVER}]}
test: {script: a, needs: [build]}
",
        expect![[r#"
            error[needs-filtered-job]: 'test' job needs 'build' job, but 'build' does not exist in the pipeline. This might be because of the only, except, or rules keywords. To need a job that sometimes does not exist in the pipeline, use needs:optional.
             --> .gitlab-ci.yml:2:27
              |
            2 | test: {script: a, needs: [build]}
              |                           ^^^^^
              |
              = help: write `- job: build` with `optional: true`, or give both jobs the same rules
        "#]],
    );
    check(
        "build: {script: a, rules: [{if: $NEVER}]}\n",
        expect![[r#"
        error[filtered-by-rules]: The resulting pipeline would have been empty. Review the rules configuration for the relevant jobs.
         |
         = help: no job's rules hold for this ref and source; jobs in `.pre` and `.post` alone make no pipeline
    "#]],
    );
}

#[test]
fn expressions_point_at_the_place() {
    check(
        "job:\n  script: a\n  rules:\n    - if: $CI_COMMIT_BRANCH = \"main\"\n    - if: '${A} == \"b\"'\n    - if: $A =~ /(/\n    - if: !$A\n",
        expect![[r#"
            warning[yaml-unknown-tag]: `!$A` is a YAML tag without a meaning here and is dropped
             --> .gitlab-ci.yml:7:11
              |
            7 |     - if: !$A
              |           ^^^
              |
              = help: put the value in quotes if it is meant to begin with `!`
            error[invalid-expression]: jobs:job:rules:rule if invalid expression syntax: Unknown lexeme found!
             --> .gitlab-ci.yml:4:29
              |
            4 |     - if: $CI_COMMIT_BRANCH = "main"
              |                             ^
              |
              = help: compare with `==`, or match a pattern with `=~`
            error[invalid-expression]: jobs:job:rules:rule if invalid expression syntax: Unknown lexeme found!
             --> .gitlab-ci.yml:5:12
              |
            5 |     - if: '${A} == "b"'
              |            ^^^^
              |
              = help: write variables without braces here: `$NAME`
            error[invalid-expression]: jobs:job:rules:rule if invalid expression syntax: Unknown lexeme found!
             --> .gitlab-ci.yml:6:17
              |
            6 |     - if: $A =~ /(/
              |                 ^^^
              |
              = help: a pattern stands between slashes, has at least two characters, and writes `/` as `\/`
        "#]],
    );
}

#[test]
fn wrong_types() {
    check(
        r"
1: {script: a}
a: {script: []}
b: {script: a, timeout: 30, retry: 5, when: sometimes}
c: {script: a, image: [x], services: x, variables: [A]}
d: {script: a, variables: {A: , B: [1]}, allow_failure: 1}
e: {script: a, cache: {key: a/b}, artifacts: {when: alwys, paths: x}}
",
        expect![[r#"
            error[job-name]: jobs:1 name should be a symbol
             --> .gitlab-ci.yml:1:1
              |
            1 | 1: {script: a}
              | ^
              |
              = help: put the name in quotes, or give the job a name in words
            error[script-blank]: jobs:a:script can't be blank
             --> .gitlab-ci.yml:2:5
              |
            2 | a: {script: []}
              |     ^^^^^^
              |
              = help: list at least one command
            error[retry-max]: jobs:b:retry config must be an integer between 0 and 2
             --> .gitlab-ci.yml:3:36
              |
            3 | b: {script: a, timeout: 30, retry: 5, when: sometimes}
              |                                    ^
            error[wrong-value]: jobs:b when should be one of: on_success, on_failure, always, manual, delayed
             --> .gitlab-ci.yml:3:45
              |
            3 | b: {script: a, timeout: 30, retry: 5, when: sometimes}
              |                                             ^^^^^^^^^
            error[duration]: jobs:b:timeout config should be a duration
             --> .gitlab-ci.yml:3:25
              |
            3 | b: {script: a, timeout: 30, retry: 5, when: sometimes}
              |                         ^^
              |
              = help: put it in quotes, with a unit: `"30 minutes"`
            error[wrong-type]: jobs:c:image config should be a hash or a string
             --> .gitlab-ci.yml:4:23
              |
            4 | c: {script: a, image: [x], services: x, variables: [A]}
              |                       ^^^
              |
              = help: for example `image: debian:12`
            error[wrong-type]: jobs:c:services config should be an array
             --> .gitlab-ci.yml:4:38
              |
            4 | c: {script: a, image: [x], services: x, variables: [A]}
              |                                      ^
              |
              = help: it is a text
            error[wrong-type]: jobs:c:variables config should be a hash
             --> .gitlab-ci.yml:4:52
              |
            4 | c: {script: a, image: [x], services: x, variables: [A]}
              |                                                    ^^^
              |
              = help: it is a list
            error[variable-type]: jobs:d:variables:B config variable definition must be either a string or a hash
             --> .gitlab-ci.yml:5:36
              |
            5 | d: {script: a, variables: {A: , B: [1]}, allow_failure: 1}
              |                                    ^^^
              |
              = help: it is a list
            error[wrong-type]: jobs:d:allow_failure config should be a hash or a boolean value
             --> .gitlab-ci.yml:5:57
              |
            5 | d: {script: a, variables: {A: , B: [1]}, allow_failure: 1}
              |                                                         ^
              |
              = help: it is a number
            error[wrong-type]: jobs:e:artifacts:paths config should be an array of strings
             --> .gitlab-ci.yml:6:67
              |
            6 | e: {script: a, cache: {key: a/b}, artifacts: {when: alwys, paths: x}}
              |                                                                   ^
              |
              = help: it is a text
            error[wrong-value]: jobs:e:artifacts when should be one of: on_success, on_failure, always
             --> .gitlab-ci.yml:6:53
              |
            6 | e: {script: a, cache: {key: a/b}, artifacts: {when: alwys, paths: x}}
              |                                                     ^^^^^
              |
              = help: did you mean `always`?
            error[cache-key]: jobs:e:cache:key config cannot contain the "/" character
             --> .gitlab-ci.yml:6:29
              |
            6 | e: {script: a, cache: {key: a/b}, artifacts: {when: alwys, paths: x}}
              |                             ^^^
              |
              = help: variables such as `$CI_COMMIT_REF_SLUG` hold no slashes
        "#]],
    );
}

#[test]
fn alias_bombs_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").expect("writing to a string");
    }
    check(
        &text,
        expect![[r#"
        error[yaml-too-big]: The parsed YAML is too big
         --> .gitlab-ci.yml:6:9
          |
        6 | a5: &a5 [*a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4]
          |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: with aliases written out, at most 200000 values and 100 levels are allowed
    "#]],
    );
}
