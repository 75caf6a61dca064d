//! The configuration as one document.

use dockwright_pipeline::{PipelineContext, has_errors, parse};
use expect_test::{Expect, expect};
use indexmap::IndexMap;
use proptest::prelude::*;

fn merged(text: &str) -> (String, String) {
    let files = IndexMap::from([(".gitlab-ci.yml".to_owned(), text.to_owned())]);
    let parsed = parse(".gitlab-ci.yml", &files, &PipelineContext::default());
    let merged = parsed.merged.unwrap_or_else(|| panic!("{:?}", parsed.problems));
    (merged.to_yaml(), merged.to_json())
}

#[track_caller]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&merged(text).0);
}

#[test]
fn it_looks_as_gitlab_shows_it() {
    check(
        r#"
stages: [.post, build]
.base: &base {image: debian, before_script: [one, two]}
job:
  extends: .base
  stage: build
  script:
    - !reference [.base, before_script]
    - |
      if true; then
        echo "a: b"
      fi
    - "  leading\nblank"
  variables: {A: "1", B: 1, C: 3.10, D: yes, E: "yes", F: "", G: null, H: "a: b", I: "a #b", J: "y", K: $X, L: "a\tb", M: "x\n"}
  rules: [{if: '$A == "b"', when: manual}, {if: '"$A" == "b"'}, {if: $A}]
  parallel: {matrix: [{X: [[a], [b, c]]}]}
  cache: {}
  needs: []
"#,
        expect![[r#"
            ---
            stages:
            - ".pre"
            - build
            - ".post"
            ".base":
              image: debian
              before_script:
              - one
              - two
            job:
              image: debian
              before_script:
              - one
              - two
              extends: ".base"
              stage: build
              script:
              - - one
                - two
              - |
                if true; then
                  echo "a: b"
                fi
              - |2-
                  leading
                blank
              variables:
                A: '1'
                B: 1
                C: 3.1
                D: true
                E: 'yes'
                F: ''
                G:
                H: 'a: b'
                I: 'a #b'
                J: "y"
                K: "$X"
                L: "a\tb"
                M: "x\n"
              rules:
              - if: $A == "b"
                when: manual
              - if: '"$A" == "b"'
              - if: "$A"
              parallel:
                matrix:
                - X:
                  - - a
                  - - b
                    - c
              cache: {}
              needs: []
        "#]],
    );
}

#[test]
fn json_keeps_the_order() {
    expect![[r#"
        {
          "b": {
            "script": [
              "a",
              1.0,
              true
            ],
            "x": null
          },
          "a": {
            "y": {},
            "z": [],
            "w": "\u0001é"
          }
        }"#]]
    .assert_eq(&merged("b: {script: [a, 1.0, true], x: null}\na: {y: {}, z: [], w: \"\\u0001é\"}\n").1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is written is read again as the same.
    #[test]
    fn texts_survive(texts in proptest::collection::vec("[ -~\n\té'\"#:\\-\\[]{0,12}", 1..5)) {
        let json = serde_json::json!({ "job": { "script": texts, "variables": { &texts[0]: &texts[0] } } }).to_string();
        let (yaml, first) = merged(&json);
        let files = IndexMap::from([(".gitlab-ci.yml".to_owned(), yaml.clone())]);
        let parsed = parse(".gitlab-ci.yml", &files, &PipelineContext::default());
        let again = parsed.merged.map(|merged| merged.to_json());
        prop_assert_eq!(again.as_deref(), Some(first.as_str()), "{}\n{:?}", yaml, has_errors(&parsed.problems));
    }
}
