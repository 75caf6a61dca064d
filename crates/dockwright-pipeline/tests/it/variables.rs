//! Which variables a job gets.

use expect_test::expect;

use crate::{Context, check, check_in};

#[test]
fn scalars_become_texts() {
    check(
        r#"
variables:
  A: 010
  B: yes
  C: 1.50
  D: "010"
  E: ""
  F: {value: $A, expand: false}
  G: {description: Which one?, value: x, options: [x, y]}
job: {script: a}
"#,
        expect![[r#"
            stage test
              job when=on_success
                A="8"
                B="true"
                C="1.5"
                D="010"
                E=""
                F="$A" raw
                G="x"
                $ a
        "#]],
    );
}

#[test]
fn job_over_workflow_over_root_and_rules_over_all() {
    check(
        r"
variables: {A: root, B: root, C: root, D: root}
workflow: {rules: [{variables: {B: workflow, C: workflow, D: workflow}}]}
job:
  script: a
  variables: {C: job, D: job}
  rules: [{variables: {D: rule}}]
",
        expect![[r#"
            stage test
              job when=on_success
                A="root"
                B="workflow"
                C="job"
                D="rule"
                $ a
        "#]],
    );
}

/// As Ruby 3.1 prints them.
#[test]
fn tags_are_dropped_and_the_value_typed() {
    check(
        "variables: {A: !!str 012, B: ! 012, C: !!int '012', D: !!str , E: !<tag:yaml.org,2002:int> \"7\"}\njob: {script: a}\n",
        expect![[r#"
            stage test
              job when=on_success
                A="012"
                B="10"
                C="10"
                D=""
                E="7"
                $ a
        "#]],
    );
}

#[test]
fn circles_are_refused() {
    check(
        r"
variables: {A: $B, B: $C, C: '$A $C'}
job: {script: a, variables: {SELF: '$SELF:x', D: $D}}
fine: {script: a, variables: {A: x}}
",
        expect![[r#"
            error[variables-cycle]: job: circular variable reference detected: ["A", "B", "C"]
             --> .gitlab-ci.yml:2:1
              |
            2 | job: {script: a, variables: {SELF: '$SELF:x', D: $D}}
              | ^^^
              |
              = help: a value may name other variables, but not in a circle
        "#]],
    );
}

#[test]
fn inheritance_can_be_narrowed() {
    check(
        r"
variables: {A: '1', B: '2'}
all: {script: a}
none: {script: a, inherit: {variables: false}}
some: {script: a, inherit: {variables: [B]}}
kept: {script: a, variables: {}}
",
        expect![[r#"
            stage test
              all when=on_success
                A="1"
                B="2"
                $ a
              none when=on_success
                $ a
              some when=on_success
                B="2"
                $ a
              kept when=on_success
                A="1"
                B="2"
                $ a
        "#]],
    );
}

#[test]
fn variables_given_at_the_start_win_in_rules() {
    check_in(
        r#"
variables: {DEPLOY: "no"}
job: {script: a, rules: [{if: $DEPLOY == "yes"}]}
other: {script: a, variables: {DEPLOY: maybe}, rules: [{if: $DEPLOY == "yes"}]}
"#,
        Context::push("main").with("DEPLOY", "yes"),
        expect![[r#"
            stage test
              job when=on_success
                DEPLOY="no"
                $ a
              other when=on_success
                DEPLOY="maybe"
                $ a
        "#]],
    );
}
