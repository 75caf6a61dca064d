use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
#[track_caller]
fn check_error(text: &str, expected: Expect) {
    let error = Dockerfile::parse(text).expect_err("the file is wrong");
    expected.assert_eq(&error.render("Dockerfile", text));
}

fn steps(text: &str) -> Vec<Instruction> {
    let file = Dockerfile::parse(&format!("FROM scratch\n{text}")).unwrap();
    file.stages[0].steps.iter().map(|step| step.instruction.clone()).collect()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn stages_have_names_and_numbers() {
    let file = Dockerfile::parse("ARG V=1\nFROM --platform=linux/amd64 a:$V AS Build\nRUN x\nFROM b\nCOPY --from=build /x /y").unwrap();
    assert_eq!(file.global_args.len(), 1);
    assert_eq!(file.stages[0].name.as_deref(), Some("build"));
    assert_eq!(file.stages[0].platform.as_deref(), Some("linux/amd64"));
    assert_eq!(
        (file.stage_index("BUILD"), file.stage_index("1"), file.stage_index("2"), file.stage_index("x")),
        (Some(0), Some(1), None, None)
    );
}

#[test]
fn forms_of_commands() {
    assert_eq!(
        steps("CMD [\"a\", \"b c\"]\nENTRYPOINT a \"b c\"\nRUN [not json\nSHELL [\"/bin/bash\",\"-c\"]"),
        [
            Instruction::Cmd(Command::Exec(strings(&["a", "b c"]))),
            Instruction::Entrypoint(Command::Shell("a \"b c\"".to_owned())),
            Instruction::Run(Run { command: Command::Shell("[not json".to_owned()), network: None, script: None }),
            Instruction::Shell(strings(&["/bin/bash", "-c"])),
        ]
    );
}

#[test]
fn forms_of_run_heredocs() {
    let commands: Vec<String> = steps("RUN <<E\na\nb\nE\nRUN cat <<A >x && cat <<B\n1\nA\n2\nB\nRUN <<E\n#!/bin/sh\nc\nE")
        .into_iter()
        .map(|instruction| match instruction {
            Instruction::Run(Run { script: Some(script), .. }) => format!("script {}", script.body),
            Instruction::Run(Run { command: Command::Shell(text), .. }) => text,
            other => panic!("not a RUN: {other:?}"),
        })
        .collect();
    assert_eq!(commands, ["a\nb\n", "cat <<A >x && cat <<B\n1\nA\n2\nB\n", "script #!/bin/sh\nc\n"]);
}

#[test]
fn key_values_in_both_forms() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        steps("ENV a=\"b c\" d=e\nENV old  the rest \"x\"\nLABEL a.b=c\nARG x y=\"1 2\""),
        [
            Instruction::Env(vec![pair("a", "\"b c\""), pair("d", "e")]),
            Instruction::Env(vec![pair("old", "the rest \"x\"")]),
            Instruction::Label(vec![Label { name: "a.b".to_owned(), value: "c".to_owned(), expand: true }]),
            Instruction::Arg(vec![
                ArgDeclaration { name: "x".to_owned(), default: None },
                ArgDeclaration { name: "y".to_owned(), default: Some("\"1 2\"".to_owned()) },
            ]),
        ]
    );
}

#[test]
fn health_checks() {
    let check = |text: &str| match steps(text).remove(0) {
        Instruction::Healthcheck(check) => check,
        other => panic!("not a HEALTHCHECK: {other:?}"),
    };
    assert_eq!(check("HEALTHCHECK none").test, ["NONE"]);
    let full = check("HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --retries=2 CMD [\"a\", \"b\"]");
    assert_eq!((full.interval, full.timeout, full.start_period, full.retries), (300_000_000_000, 3_000_000_000, 1_000_000_000, 2));
    assert_eq!(full.test, ["CMD", "a", "b"]);
    assert_eq!(check("HEALTHCHECK CMD a || b").test, ["CMD-SHELL", "a || b"]);
}

#[test]
fn copies() {
    let copy = |text: &str| match steps(text).remove(0) {
        Instruction::Copy(copy) | Instruction::Add(copy) => copy,
        other => panic!("not a COPY: {other:?}"),
    };
    let full = copy("COPY --from=0 --chown=a:b --chmod=755 --link --exclude=*.o --exclude=x a b/ c/");
    assert_eq!(
        (full.from.as_deref(), full.chown.as_deref(), full.chmod.as_deref(), full.link),
        (Some("0"), Some("a:b"), Some("755"), true)
    );
    assert_eq!((full.exclude.as_slice(), full.destination.as_str(), full.sources.len()), (strings(&["*.o", "x"]).as_slice(), "c/", 2));
    assert_eq!(copy("COPY [\"a b\", \"c\"]").sources, [Source::Path("a b".to_owned())]);
    assert!(matches!(&copy("COPY <<X /x\nbody\nX").sources[0], Source::Heredoc(heredoc) if heredoc.body == "body\n"));
    assert_eq!(copy("ADD --checksum=sha256:00 --unpack=false https://x/y /").unpack, Some(false));
}

#[test]
fn triggers_are_checked_when_written() {
    assert_eq!(
        steps("ONBUILD COPY --chown=1 . /src\nONBUILD RUN <<E\nx\nE"),
        [Instruction::OnBuild("COPY --chown=1 . /src".to_owned()), Instruction::OnBuild("RUN <<E\nx\nE\n".to_owned())]
    );
    assert!(matches!(parse_trigger("RUN <<E\nx\nE\n").unwrap().instruction, Instruction::Run(_)));
    check_error(
        "FROM a\nONBUILD ONBUILD RUN x",
        expect![[r"
        error: dockerfile parse error line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed
         --> Dockerfile:2:1
          |
        2 | ONBUILD ONBUILD RUN x
          | ^^^^^^^^^^^^^^^^^^^^^
    "]],
    );
}

#[test]
fn errors_show_the_place_and_the_remedy() {
    check_error(
        "FROM busybox\n\nCOYP a b\n",
        expect![[r"
        error: dockerfile parse error line 3: unknown instruction: COYP
         --> Dockerfile:3:1
          |
        3 | COYP a b
          | ^^^^
        hint: did you mean `COPY`?
    "]],
    );
    check_error(
        "FROM busybox\nCOPY --chwon=1 a b\n",
        expect![[r"
        error: dockerfile parse error line 2: unknown flag: --chwon
         --> Dockerfile:2:6
          |
        2 | COPY --chwon=1 a b
          |      ^^^^^^^
        hint: did you mean `--chown`?
    "]],
    );
    check_error(
        "FROM busybox\nRUN --mount=type=cache,target=/x \\\n  make\n",
        expect![[r"
        error: dockerfile parse error line 2: RUN --mount is not supported
         --> Dockerfile:2:5
          |
        2 | RUN --mount=type=cache,target=/x \
          |     ^^^^^^^
        hint: remove the mount: COPY what the step reads, and expect downloads to be repeated
    "]],
    );
    check_error(
        "FROM busybox\nENV a=1 \\\n    b\n",
        expect![[r#"
        error: dockerfile parse error line 2: Syntax error - can't find = in "b". Must be of the form: name=value
         --> Dockerfile:3:5
          |
        3 |     b
          |     ^
        hint: put quotes around a value that has blanks
    "#]],
    );
}

#[test]
fn wrong_shapes() {
    for (text, message) in [
        ("RUN x", "dockerfile parse error line 1: no build stage in current context"),
        ("ARG x", "no build stage in current context"),
        ("FROM a b", "dockerfile parse error line 1: FROM requires either one or three arguments"),
        (
            "FROM a\nCOPY x",
            "dockerfile parse error line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("FROM a\nENV x", "dockerfile parse error line 2: ENV must have two arguments"),
        ("FROM a\nCMD [1]", "dockerfile parse error line 2: when using JSON array syntax, arrays must be comprised of strings only"),
        ("FROM a\nSHELL sh", "dockerfile parse error line 2: SHELL requires the arguments to be in JSON form: sh"),
        ("FROM a\nCOPY --parents a b", "dockerfile parse error line 2: COPY --parents is not supported"),
        ("FROM a\nADD https://x/y.git /z", "dockerfile parse error line 2: ADD of a git repository is not supported"),
        ("FROM a\nHEALTHCHECK --interval=1us CMD x", "dockerfile parse error line 2: interval \"interval\" cannot be less than 1ms"),
        ("# syntax=example/frontend\nFROM a", "dockerfile parse error line 1: frontend `example/frontend` is not supported"),
    ] {
        assert_eq!(Dockerfile::parse(text).expect_err(text).to_string(), message);
    }
    Dockerfile::parse("# syntax=docker/dockerfile:1.7-labs@sha256:00\nFROM a").unwrap();
}

proptest! {
    #[test]
    fn never_panics(pieces in proptest::collection::vec(prop_oneof![
        Just("FROM a\n"), Just("FROM "), Just("RUN "), Just("COPY "), Just("ADD "), Just("ENV "), Just("ARG "), Just("LABEL "),
        Just("HEALTHCHECK "), Just("--interval="), Just("CMD "), Just("ONBUILD "), Just("--"), Just("=" ), Just("\\\n"), Just("\n"),
        Just("<<E"), Just("E\n"), Just("\""), Just("["), Just("\"a\","), Just("]"), Just("é"), Just("1h-"), Just(" "), Just("."),
    ], 0..40)) {
        let text: String = pieces.concat();
        if let Err(error) = Dockerfile::parse(&text) {
            prop_assert!(error.render("Dockerfile", &text).starts_with("error: "));
        }
    }
}
