//! Keywords of jobs.

use expect_test::expect;

use crate::{Context, check, check_in};

#[test]
fn defaults_reach_jobs_key_by_key() {
    check(
        r"
default:
  image: debian:12
  before_script: [setup]
  after_script: [cleanup]
  retry: 1
a:
  script: make
b:
  image: {name: alpine, entrypoint: ['']}
  before_script: []
  script: [make, [make test, [make install]]]
c:
  inherit: {default: [image]}
  script: make
",
        expect![[r#"
            stage test
              a when=on_success
                image debian:12 entrypoint=[]
                $ setup
                $ make
                after $ cleanup
                Retry { max: 1, when: ["always"], exit_codes: [] }
              b when=on_success
                image alpine entrypoint=[""]
                $ make
                $ make test
                $ make install
                after $ cleanup
                Retry { max: 1, when: ["always"], exit_codes: [] }
              c when=on_success
                image debian:12 entrypoint=[]
                $ make
        "#]],
    );
}

#[test]
fn stages_are_ordered_and_unused_ones_vanish() {
    check(
        r"
stages: [.post, prepare, [check, check], deploy]
last: {stage: .post, script: a}
second: {stage: check, script: a}
first: {stage: prepare, script: a}
zeroth: {stage: .pre, script: a}
",
        expect![[r#"
            stage .pre
              zeroth when=on_success
                $ a
            stage prepare
              first when=on_success
                $ a
            stage check
              second when=on_success
                $ a
            stage .post
              last when=on_success
                $ a
        "#]],
    );
}

#[test]
fn rules_first_match_decides() {
    let text = r#"
job:
  script: make
  rules:
    - if: $CI_COMMIT_BRANCH == "main"
      when: manual
      variables: {WHERE: main}
    - if: $CI_COMMIT_BRANCH =~ /^dev/
      allow_failure: true
    - if: $FORCE
other:
  script: make
  rules:
    - if: $CI_COMMIT_BRANCH == "main"
      when: never
    - when: on_failure
"#;
    check_in(
        &format!("{text}always:\n  script: make\n"),
        Context::push("main"),
        expect![[r#"
        stage test
          job when=manual
            WHERE="main"
            $ make
          always when=on_success
            $ make
    "#]],
    );
    check_in(
        text,
        Context::push("develop"),
        expect![[r#"
        stage test
          job when=on_success allow_failure
            $ make
          other when=on_failure
            $ make
    "#]],
    );
    check_in(
        text,
        Context::push("x").with("FORCE", "1"),
        expect![[r#"
        stage test
          job when=on_success
            $ make
          other when=on_failure
            $ make
    "#]],
    );
}

#[test]
fn when_and_allow_failure() {
    check(
        r"
manual: {script: a, when: manual}
blocking: {script: a, when: manual, allow_failure: false}
from rule: {script: a, rules: [{when: manual}]}
codes: {script: a, allow_failure: {exit_codes: [1, 137]}}
yaml 1.1 boolean: {script: a, allow_failure: yes}
always: {script: a, when: always}
",
        expect![[r#"
            stage test
              manual when=manual allow_failure
                $ a
              blocking when=manual
                $ a
              from rule when=manual
                $ a
              codes when=on_success allow_failure=[1, 137]
                $ a
              yaml 1.1 boolean when=on_success allow_failure
                $ a
              always when=always
                $ a
        "#]],
    );
}

#[test]
fn needs_and_dependencies() {
    check(
        r"
build: {stage: build, script: a}
lint: {stage: test, script: a, needs: []}
unit: {stage: test, script: a, needs: [build, {job: lint, artifacts: false}], dependencies: [build]}
optional: {stage: test, script: a, needs: [{job: missing, optional: true}, {job: filtered, optional: true}]}
filtered: {stage: build, script: a, rules: [{if: $NEVER}]}
",
        expect![[r#"
            stage build
              build when=on_success
                $ a
            stage test
              lint when=on_success needs=[]
                $ a
              unit when=on_success needs=["build", "lint (no artifacts)"]
                $ a
                dependencies ["build"]
              optional when=on_success needs=[]
                $ a
        "#]],
    );
}

#[test]
fn services_artifacts_cache_and_the_rest() {
    check(
        r"
job:
  image:
    name: registry.example.com/app:$TAG
    pull_policy: [always, if-not-present]
    docker: {user: 1000, platform: linux/amd64}
  services:
    - postgres:16
    - name: redis:7
      alias: cache,store
      command: [redis-server, --save, '']
      variables: {LEVEL: 2}
  script: make
  artifacts:
    name: $CI_JOB_NAME
    paths: [dist/]
    exclude: ['**/*.tmp']
    when: always
    expire_in: 1 week
    reports:
      dotenv: build.env
      junit: [a.xml, b.xml]
  cache:
    - key: $CI_COMMIT_REF_SLUG
      paths: [vendor/]
      policy: pull
    - key: {files: [Cargo.lock], prefix: rust}
      paths: [target/]
      fallback_keys: [main]
  timeout: 1h 30m
  retry: {max: 2, when: [runner_system_failure, script_failure]}
  tags: [docker]
  interruptible: true
  environment: {name: review/$CI_COMMIT_REF_NAME, url: 'https://$HOST'}
",
        expect![[r#"
            stage test
              job when=on_success
                image registry.example.com/app:$TAG entrypoint=[]
                service postgres:16 alias=None command=[]
                service redis:7 alias=Some("cache,store") command=["redis-server", "--save", ""]
                $ make
                Artifacts { name: Some("$CI_JOB_NAME"), untracked: false, paths: ["dist/"], exclude: ["**/*.tmp"], when: Always, expire_in: Some("1 week"), reports: [Report { kind: "dotenv", paths: ["build.env"] }, Report { kind: "junit", paths: ["a.xml", "b.xml"] }] }
                Cache { key: Text("$CI_COMMIT_REF_SLUG"), untracked: false, paths: ["vendor/"], when: OnSuccess, policy: "pull", fallback_keys: [] }
                Cache { key: Files { files: ["Cargo.lock"], prefix: Some("rust") }, untracked: false, paths: ["target/"], when: OnSuccess, policy: "pull-push", fallback_keys: ["main"] }
                tags ["docker"]
                interruptible
                timeout 5400 s
                Retry { max: 2, when: ["runner_system_failure", "script_failure"], exit_codes: [] }
                Environment { name: "review/main", url: Some("https://$HOST"), action: "start", tier: None }
        "#]],
    );
}

#[test]
fn workflow_rules_decide_about_the_pipeline() {
    let text = r#"
workflow:
  name: Pipeline of $CI_COMMIT_BRANCH $KIND
  rules:
    - if: $CI_COMMIT_BRANCH == "main"
      variables: {KIND: release}
    - if: $CI_COMMIT_BRANCH == "wip"
      when: never
    - if: $CI_PIPELINE_SOURCE == "web"
variables: {KIND: none}
job:
  script: make
  rules: [{if: $KIND == "release"}]
"#;
    check(
        text,
        expect![[r#"
        name Pipeline of main release
        stage test
          job when=on_success
            KIND="release"
            $ make
    "#]],
    );
    check_in(
        text,
        Context::push("wip"),
        expect![[r#"
        error[filtered-by-workflow-rules]: The pipeline did not run. Review the workflow:rules configuration for the pipeline.
         |
         = help: no rule matches, or the one that does says `when: never`
    "#]],
    );
    check_in(
        text,
        Context::push("other"),
        expect![[r#"
        error[filtered-by-workflow-rules]: The pipeline did not run. Review the workflow:rules configuration for the pipeline.
         |
         = help: no rule matches, or the one that does says `when: never`
    "#]],
    );
}

#[test]
fn what_only_a_server_can_do_is_named() {
    check(
        r"
job:
  script: make
  id_tokens: {TOKEN: {aud: https://vault.example.com}}
",
        expect![[r#"
            warning[not-done-locally]: jobs:job: `id_tokens` is not done locally: no server signs the tokens, so their variables are not set; give them by `--variable`
             --> .gitlab-ci.yml:3:3
              |
            3 |   id_tokens: {TOKEN: {aud: https://vault.example.com}}
              |   ^^^^^^^^^
            stage test
              job when=on_success
                $ make
        "#]],
    );
}
