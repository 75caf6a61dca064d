//! Stages: which are built, what they hand on.

use dockwright_build::{backend::PullPolicy, request::BuildOptions};
use dockwright_testing::requires;
use expect_test::expect;

use crate::fake::FakeEngine;

const STAGES: &str = "FROM scratch AS build
COPY src /src
FROM scratch AS unused
COPY missing /
FROM build AS test
ENV test=1
FROM scratch
COPY --from=build /src/a /a
COPY --from=0 /src /copy
";

fn options(target: &str) -> BuildOptions {
    BuildOptions { tags: vec!["t".to_owned()], target: Some(target.to_owned()), ..BuildOptions::default() }
}

#[test]
fn only_needed_stages_are_built() {
    requires!(Root);
    let engine = FakeEngine::new();
    let files = [("Dockerfile", STAGES), ("src/a", "A")];
    let outcome = engine.build(&files, options(""));
    outcome.result.unwrap();
    expect![[r#"
        Step 1/5 : FROM scratch AS build
        Step 2/5 : COPY src /src
        Step 3/5 : FROM scratch
        Step 4/5 : COPY --from=build /src/a /a
        Step 5/5 : COPY --from=0 /src /copy
        Successfully tagged t
    "#]]
    .assert_eq(&outcome.log);
    assert_eq!(engine.files("t"), "100644 0:0 [A] a\n040755 0:0 [] copy\n100644 0:0 [A] copy/a\n");
    let outcome = engine.build(&files, options("TEST"));
    outcome.result.unwrap();
    expect![[r#"
        Step 1/4 : FROM scratch AS build
        Step 2/4 : COPY src /src
         ---> Using cache
        Step 3/4 : FROM build AS test
        Step 4/4 : ENV test=1
        Successfully tagged t
    "#]]
    .assert_eq(&outcome.log);
    let config = engine.config("t");
    assert_eq!((config.history.len(), config.rootfs.diff_ids.len()), (2, 1));
}

#[test]
fn owners_are_kept_between_stages_unless_told() {
    requires!(Root);
    let engine = FakeEngine::new();
    let file = "FROM scratch AS a\nCOPY --chown=5:6 f /f\nFROM scratch\nCOPY --from=a /f /kept\nCOPY --from=a --chown=7 /f /given\n";
    engine.build(&[("Dockerfile", file), ("f", "x")], options("")).result.unwrap();
    assert_eq!(engine.files("t"), "100644 7:7 [x] given\n100644 5:6 [x] kept\n");
}

#[test]
fn files_come_from_other_images_too() {
    requires!(Root);
    let engine = FakeEngine::new();
    engine.build(
        &[("Dockerfile", "FROM scratch\nCOPY f /etc/f"), ("f", "x")],
        BuildOptions { tags: vec!["other:1".to_owned()], ..options("") },
    );
    engine.calls();
    let mut pull = options("");
    pull.pull = PullPolicy::Always;
    let outcome = engine.build(&[("Dockerfile", "FROM other:1\nCOPY --from=other:1 /etc/f /g\nCOPY --from=other:1 /etc /h")], pull);
    outcome.result.unwrap();
    assert!(outcome.log.starts_with("Step 1/3 : FROM other:1\nPulling other:1\nStep 2/3"), "{}", outcome.log);
    assert_eq!(engine.calls().iter().filter(|call| call.starts_with("resolve")).count(), 1, "an image is resolved once");
    assert_eq!(engine.files("t").lines().count(), 5);
}

#[test]
fn a_base_alone_is_the_image_itself() {
    requires!(Root);
    let engine = FakeEngine::new();
    let base = engine
        .build(&[("Dockerfile", "FROM scratch\nENV a=1")], BuildOptions { tags: vec!["base".to_owned()], ..options("") })
        .result
        .unwrap();
    assert_eq!(engine.build(&[("Dockerfile", "FROM base")], options("")).result.unwrap(), base);
}

#[test]
fn a_trigger_may_need_a_stage_that_nobody_named() {
    requires!(Root);
    let engine = FakeEngine::new();
    let base = BuildOptions { tags: vec!["base".to_owned()], ..options("") };
    engine.build(&[("Dockerfile", "FROM scratch\nONBUILD COPY --from=build /f /f")], base).result.unwrap();
    engine.build(&[("Dockerfile", "FROM scratch AS build\nCOPY f /\nFROM base\n"), ("f", "x")], options("")).result.unwrap();
    assert_eq!(engine.files("t"), "100644 0:0 [x] f\n");
}
