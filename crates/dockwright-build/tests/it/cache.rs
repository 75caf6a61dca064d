//! What is taken from the cache, and what invalidates it.

use dockwright_build::request::BuildOptions;
use dockwright_testing::requires;

use crate::fake::{FakeEngine, Outcome};

const FILE: &str = "FROM scratch\nARG a\nENV e=1\nCOPY dep /dep\nRUN echo dep >made\nCOPY src /src\nRUN echo $a >made2\nLABEL l=1\n";

fn tagged() -> BuildOptions {
    BuildOptions { tags: vec!["t".to_owned()], ..BuildOptions::default() }
}

fn build(engine: &FakeEngine, file: &str, src: &str, options: BuildOptions) -> Outcome {
    engine.build(&[("Dockerfile", file), ("dep", "d"), ("src", src)], options)
}

/// The texts of the steps that were not cached.
fn executed(outcome: &Outcome) -> Vec<&str> {
    let lines: Vec<&str> = outcome.log.lines().collect();
    let steps = lines.iter().enumerate().filter(|(_, line)| line.starts_with("Step "));
    let missed = steps.filter(|(index, _)| lines.get(index + 1) != Some(&" ---> Using cache"));
    missed.filter_map(|(_, line)| line.split_once(" : ").map(|(_, text)| text)).filter(|text| !text.starts_with("FROM")).collect()
}

#[test]
fn nothing_changed_nothing_done() {
    requires!(Root);
    let engine = FakeEngine::new();
    let first = build(&engine, FILE, "s", tagged()).result.unwrap();
    engine.calls();
    let second = build(&engine, FILE, "s", tagged());
    assert_eq!(executed(&second), [""; 0]);
    assert_eq!(second.result.unwrap(), first);
    assert_eq!(engine.calls(), [""; 0], "no file system was even opened");
}

#[test]
fn files_of_another_stage_are_read_once() {
    requires!(Root);
    let engine = FakeEngine::new();
    let file = "FROM scratch AS a\nCOPY src dep /d/\nFROM scratch\nCOPY --from=a /d/s* /d/dep /e/\nCOPY --from=a --chown=1 /d /f\n";
    let first = build(&engine, file, "s", tagged()).result.unwrap();
    let files = engine.files("t");
    assert!(engine.calls().contains(&"open root".to_owned()));
    let second = build(&engine, file, "s", tagged());
    assert_eq!(executed(&second), [""; 0]);
    assert_eq!(second.result.unwrap(), first);
    assert_eq!(engine.calls(), [""; 0]);
    // Sums are remembered, the rest is not: another destination has to open the files.
    let moved = build(&engine, &file.replace("/e/", "/ee/"), "s", tagged());
    assert_eq!(executed(&moved), ["COPY --from=a /d/s* /d/dep /ee/", "COPY --from=a --chown=1 /d /f"]);
    assert_eq!(engine.files("t").replace(" ee", " e"), files);
}

#[test]
fn a_changed_file_invalidates_from_its_copy_on() {
    requires!(Root);
    let engine = FakeEngine::new();
    build(&engine, FILE, "s", tagged()).result.unwrap();
    let changed = build(&engine, FILE, "changed", tagged());
    assert_eq!(executed(&changed), ["COPY src /src", "RUN echo $a >made2", "LABEL l=1"]);
    let other_mode = build(&engine, FILE, "#!s", tagged());
    assert_eq!(executed(&other_mode), ["COPY src /src", "RUN echo $a >made2", "LABEL l=1"]);
}

#[test]
fn an_argument_invalidates_the_commands_that_see_it() {
    requires!(Root);
    let engine = FakeEngine::new();
    build(&engine, FILE, "s", tagged()).result.unwrap();
    let with = |name: &str| BuildOptions { build_args: [(name.to_owned(), Some("1".to_owned()))].into(), ..tagged() };
    // What a RUN wrote is newer now, so the COPY above it has another layer below.
    let all_from_the_first_run = ["RUN echo dep >made", "COPY src /src", "RUN echo $a >made2", "LABEL l=1"];
    assert_eq!(executed(&build(&engine, FILE, "s", with("a"))), all_from_the_first_run);
    assert_eq!(executed(&build(&engine, FILE, "s", with("http_proxy"))), [""; 0], "a proxy is not part of the result");
    assert_eq!(executed(&build(&engine, FILE, "s", with("unknown"))), [""; 0]);
}

#[test]
fn the_environment_invalidates_commands_and_not_copies() {
    requires!(Root);
    let engine = FakeEngine::new();
    let file = "FROM scratch\nENV e=1\nCOPY dep /dep\nCOPY src /src\nRUN echo x >made\n";
    build(&engine, file, "s", tagged()).result.unwrap();
    let steps = build(&engine, &file.replace("e=1", "e=2"), "s", tagged());
    assert_eq!(executed(&steps), ["ENV e=2", "RUN echo x >made"]);
}

#[test]
fn a_label_invalidates_nothing_below_but_labels() {
    requires!(Root);
    let engine = FakeEngine::new();
    let file = "FROM scratch\nLABEL l=1\nCOPY src /\nRUN echo x >x\nCMD x\n";
    build(&engine, file, "s", tagged()).result.unwrap();
    assert_eq!(executed(&build(&engine, &file.replace("l=1", "l=2"), "s", tagged())), ["LABEL l=2", "CMD x"]);
}

/// A step that gives the same bytes as before lets the rest hit.
#[test]
fn the_same_layer_again_is_a_hit_again() {
    requires!(Root);
    let engine = FakeEngine::new();
    let file = "FROM scratch\nCOPY src /d/\nRUN echo x >x\n";
    build(&engine, file, "s", tagged()).result.unwrap();
    assert_eq!(executed(&build(&engine, &file.replace("COPY src", "COPY ./s*"), "s", tagged())), [""; 0]);
}

#[test]
fn no_cache_does_everything_and_records_it() {
    requires!(Root);
    let engine = FakeEngine::new();
    build(&engine, FILE, "s", tagged()).result.unwrap();
    let fresh = build(&engine, FILE, "s", BuildOptions { no_cache: true, ..tagged() });
    assert_eq!(executed(&fresh).len(), 7);
    assert_eq!(executed(&build(&engine, FILE, "s", tagged())), [""; 0]);
}

#[test]
fn another_base_invalidates_everything() {
    requires!(Root);
    let engine = FakeEngine::new();
    let base = |value: &str| {
        let file = format!("FROM scratch\nENV base={value}\n");
        engine.build(&[("Dockerfile", &file)], BuildOptions { tags: vec!["base".to_owned()], ..BuildOptions::default() }).result.unwrap();
    };
    let file = "FROM base\nCOPY src /\n";
    base("1");
    build(&engine, file, "s", tagged()).result.unwrap();
    base("2");
    assert_eq!(executed(&build(&engine, file, "s", tagged())), ["COPY src /"]);
}

#[test]
fn cache_from_answers_by_history() {
    requires!(Root);
    let engine = FakeEngine::new();
    let first = build(&engine, FILE, "s", tagged()).result.unwrap();
    engine.forget_cache();
    let options =
        || BuildOptions { cache_from: vec!["missing".to_owned(), "t".to_owned()], tags: vec!["u".to_owned()], ..BuildOptions::default() };
    let same = build(&engine, FILE, "s", options());
    assert_eq!(executed(&same), [""; 0]);
    assert_eq!(same.result.unwrap(), first, "the image itself comes out");
    assert_eq!(executed(&build(&engine, FILE, "other", options())), ["COPY src /src", "RUN echo $a >made2", "LABEL l=1"]);
}

#[test]
fn the_epoch_makes_builds_alike_on_any_day() {
    requires!(Root);
    let with_epoch = || BuildOptions { build_args: [("SOURCE_DATE_EPOCH".to_owned(), Some("86400".to_owned()))].into(), ..tagged() };
    let ids = [(); 2].map(|()| {
        let engine = FakeEngine::new();
        let id = build(&engine, "FROM scratch\nCOPY src /new/dir/\nWORKDIR /w\n", "s", with_epoch()).result.unwrap();
        assert_eq!(engine.config("t").created.as_deref(), Some("1970-01-02T00:00:00Z"));
        id
    });
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn linked_copies_do_not_depend_on_what_is_below() {
    requires!(Root);
    let engine = FakeEngine::new();
    let file = "FROM scratch\nCOPY dep /dep\nCOPY --link src /linked/\n";
    build(&engine, file, "s", tagged()).result.unwrap();
    let steps = build(&engine, &file.replace("/dep", "/elsewhere"), "s", tagged());
    assert_eq!(executed(&steps), ["COPY dep /elsewhere"]);
    assert_eq!(engine.files("t"), "100644 0:0 [d] elsewhere\n040755 0:0 [] linked\n100644 0:0 [s] linked/src\n");
}
