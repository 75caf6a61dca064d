//! Files and entries that build on each other.

use expect_test::expect;

use crate::{Context, check, check_files};

#[test]
fn includes_are_merged_below_the_file_that_includes_them() {
    check_files(
        &[
            (
                ".gitlab-ci.yml",
                r"
include: [/ci/base.yml, {local: 'ci/more/*.yml'}, {local: ci/off.yml, rules: [{if: $OFF}]}]
job: {variables: {B: main}}
",
            ),
            ("ci/base.yml", "include: ci/nested.yml\njob: {script: base, variables: {A: base, B: base}}\n"),
            ("ci/nested.yml", "job: {script: nested, image: nested, variables: {C: nested}}\n"),
            ("ci/more/a.yml", "other: {script: a}\n"),
            ("ci/off.yml", "off: {script: a}\n"),
        ],
        Context::push("main"),
        expect![[r#"
            stage test
              job when=on_success
                image nested entrypoint=[]
                C="nested"
                A="base"
                B="main"
                $ base
              other when=on_success
                $ a
        "#]],
    );
}

#[test]
fn extends_merges_mappings_and_replaces_lists() {
    check(
        r"
.base: {image: debian, script: [a, b], variables: {A: base, B: base}}
.more: {image: alpine, variables: {B: more}}
job: {extends: [.base, .more], script: [c], variables: {C: job}}
child: {extends: job, variables: null}
",
        expect![[r#"
            stage test
              job when=on_success
                image alpine entrypoint=[]
                A="base"
                B="more"
                C="job"
                $ c
              child when=on_success
                image alpine entrypoint=[]
                $ c
        "#]],
    );
}

#[test]
fn references_see_extended_entries() {
    check(
        r"
.setup: {before_script: [one, two], vars: {A: x}}
.child: {extends: .setup}
job:
  variables: !reference [.setup, vars]
  before_script: !reference [.child, before_script]
  script:
    - !reference [.child, before_script]
    - three
",
        expect![[r#"
            stage test
              job when=on_success
                A="x"
                $ one
                $ two
                $ one
                $ two
                $ three
        "#]],
    );
}

#[test]
fn merge_keys_apply_where_they_are_written() {
    check(
        r"
.a: &a {image: from-a, script: [a]}
.b: &b {image: from-b}
first: {<<: *a, image: own}
last: {image: own, <<: *a}
list: {<<: [*b, *a]}
",
        expect![[r#"
            warning[merge-overrides-key]: `<<` overrides `image`, because it is written after it
             --> .gitlab-ci.yml:4:20
              |
            4 | last: {image: own, <<: *a}
              |        -----       ^^
              |        |
              |        this value is lost
              |
              = help: move `<<` to the top of the mapping
            stage test
              first when=on_success
                image own entrypoint=[]
                $ a
              last when=on_success
                image from-a entrypoint=[]
                $ a
              list when=on_success
                image from-b entrypoint=[]
                $ a
        "#]],
    );
}

#[test]
fn what_cannot_be_included() {
    check_files(
        &[
            (
                ".gitlab-ci.yml",
                "include:\n  - ci/bse.yml\n  - ci/text.txt\n  - .gitlab-ci.yml\n  - ../up.yml\n  - project: a/b\n    file: c.yml\n  - https://example.com/x.yml\njob: {script: a}\n",
            ),
            ("ci/base.yml", ""),
            ("ci/text.txt", ""),
        ],
        Context::push("main"),
        expect![[r#"
            error[include-not-found]: Local file `ci/bse.yml` does not exist!
             --> .gitlab-ci.yml:2:5
              |
            2 |   - ci/bse.yml
              |     ^^^^^^^^^^
              |
              = help: did you mean `ci/base.yml`?
            error[include-extension]: Included file `ci/text.txt` does not have YAML extension!
             --> .gitlab-ci.yml:3:5
              |
            3 |   - ci/text.txt
              |     ^^^^^^^^^^^
              |
              = help: its name must end in `.yml` or `.yaml`
            error[include-cycle]: `.gitlab-ci.yml` includes itself
             --> .gitlab-ci.yml:4:5
              |
            4 |   - .gitlab-ci.yml
              |     ^^^^^^^^^^^^^^
              |
              = help: the chain is `.gitlab-ci.yml` → `.gitlab-ci.yml`
            error[include-not-found]: Local file `../up.yml` does not exist!
             --> .gitlab-ci.yml:5:5
              |
            5 |   - ../up.yml
              |     ^^^^^^^^^
              |
              = help: paths start at the root of the repository, also in included files
            error[include-no-project]: Project `a/b` not found or access denied! Make sure any includes in the pipeline configuration are correctly defined.
             --> .gitlab-ci.yml:6:14
              |
            6 |   - project: a/b
              |              ^^^
            error[include-not-found]: Included file `https://example.com/x.yml` is empty or does not exist!
             --> .gitlab-ci.yml:8:5
              |
            8 |   - https://example.com/x.yml
              |     ^^^^^^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
}

#[test]
fn circles_and_missing_parents() {
    check(
        r"
a: {extends: b, script: x}
b: {extends: a, script: x}
c: {extends: .bse, script: x}
.base: {image: a}
d: {script: !reference [.base, scrpt]}
e: {script: !reference [f, script]}
f: {script: [!reference [e, script]]}
",
        expect![[r#"
            error[extends-cycle]: b: circular dependency detected in `extends`
             --> .gitlab-ci.yml:2:14
              |
            2 | b: {extends: a, script: x}
              |              ^
            error[extends-unknown]: c: unknown keys in `extends` (.bse)
             --> .gitlab-ci.yml:3:14
              |
            3 | c: {extends: .bse, script: x}
              |              ^^^^
              |
              = help: did you mean `.base`?
            error[reference-unknown]: !reference [".base", "scrpt"] could not be found
             --> .gitlab-ci.yml:5:24
              |
            5 | d: {script: !reference [.base, scrpt]}
              |                        ^^^^^^^^^^^^^^
            error[reference-cycle]: !reference ["f", "script"] is part of a circular chain
             --> .gitlab-ci.yml:6:24
              |
            6 | e: {script: !reference [f, script]}
              |                        ^^^^^^^^^^^
        "#]],
    );
}
