//! Every instruction's effect on configuration and history.

use dockwright_build::request::BuildOptions;
use dockwright_testing::requires;
use expect_test::expect;

use crate::fake::FakeEngine;

const ALL: &str = r#"FROM scratch AS one
COPY f /
COPY d /dd/
COPY f d/a /many/
COPY d/* /wild/
ADD --chown=5:6 f /owned
EXPOSE 80 443/udp 9000-9001
HEALTHCHECK --interval=5m --retries=3 CMD curl x
LABEL a="b c" d=e
ENV x="1 2" y=3
VOLUME /v ["/w"]
WORKDIR /wd/sub
SHELL ["/bin/bash", "-c"]
CMD echo hi
ENTRYPOINT ["a", "b c"]
STOPSIGNAL SIGTERM
USER 1:2
ONBUILD COPY x y
MAINTAINER me <a@b>
ARG foo=1 bar
"#;

fn tagged(name: &str) -> BuildOptions {
    BuildOptions { tags: vec![name.to_owned()], ..BuildOptions::default() }
}

fn history(engine: &FakeEngine, name: &str) -> String {
    let line = |entry: &dockwright_store::config::History| {
        format!("{} {}\n", if entry.empty_layer { "-" } else { "+" }, entry.created_by.as_deref().unwrap_or_default())
    };
    engine.config(name).history.iter().map(line).collect()
}

/// The texts and sums are those that dockerd 20.10 wrote for the same files and Dockerfile.
#[test]
fn history_is_dockers() {
    requires!(Root);
    let engine = FakeEngine::new();
    let outcome = engine.build(&[("Dockerfile", ALL), ("f", "hello\n"), ("d/a", "a\n"), ("d/sub/b", "b\n")], tagged("t"));
    outcome.result.unwrap();
    expect![[r#"
        + /bin/sh -c #(nop) COPY file:5697a964c9d6acb61b6bba691aff08d8c2220a01cac55de3a1ebe5d33b5dc45b in / 
        + /bin/sh -c #(nop) COPY dir:9601d1dc68efb7b78862ebc7fc99e21f485a6d7260a924223ada67c980ddbf3b in /dd/ 
        + /bin/sh -c #(nop) COPY multi:691ce98277fb7a7d3e89b1cd41594a769de51d267448766e6961388a1a06acfa in /many/ 
        + /bin/sh -c #(nop) COPY multi:3d1c563fb76852b1d9cd1548b3d720922801cbde21d7d04205b39d843f937765 in /wild/ 
        + /bin/sh -c #(nop) ADD --chown=5:6file:5697a964c9d6acb61b6bba691aff08d8c2220a01cac55de3a1ebe5d33b5dc45b in /owned 
        - /bin/sh -c #(nop)  EXPOSE 443/udp 80 9000-9001
        - /bin/sh -c #(nop)  HEALTHCHECK &{["CMD-SHELL" "curl x"] "5m0s" "0s" "0s" '\x03'}
        - /bin/sh -c #(nop)  LABEL a=b c d=e
        - /bin/sh -c #(nop)  ENV x=1 2 y=3
        - /bin/sh -c #(nop)  VOLUME [/v [/w]]
        + /bin/sh -c #(nop) WORKDIR /wd/sub
        - /bin/bash -c #(nop)  SHELL [/bin/bash -c]
        - /bin/bash -c #(nop)  CMD ["/bin/bash" "-c" "echo hi"]
        - /bin/bash -c #(nop)  ENTRYPOINT ["a" "b c"]
        - /bin/bash -c #(nop)  STOPSIGNAL SIGTERM
        - /bin/bash -c #(nop)  USER 1:2
        - /bin/bash -c #(nop)  ONBUILD COPY x y
        - /bin/bash -c #(nop)  MAINTAINER me <a@b>
        - /bin/bash -c #(nop)  ARG foo=1 bar
    "#]]
    .assert_eq(&history(&engine, "t"));
    expect![[r#"
        {
          "User": "1:2",
          "ExposedPorts": {
            "443/udp": {},
            "80/tcp": {},
            "9000/tcp": {},
            "9001/tcp": {}
          },
          "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "x=1 2",
            "y=3"
          ],
          "Entrypoint": [
            "a",
            "b c"
          ],
          "Cmd": [
            "/bin/bash",
            "-c",
            "echo hi"
          ],
          "Healthcheck": {
            "Test": [
              "CMD-SHELL",
              "curl x"
            ],
            "Interval": 300000000000,
            "Retries": 3
          },
          "Volumes": {
            "/v": {},
            "[/w]": {}
          },
          "WorkingDir": "/wd/sub",
          "OnBuild": [
            "COPY x y"
          ],
          "Labels": {
            "a": "b c",
            "d": "e"
          },
          "StopSignal": "SIGTERM",
          "Shell": [
            "/bin/bash",
            "-c"
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&engine.config("t").config).unwrap());
}

#[test]
fn variables_are_replaced_with_what_was_before() {
    let engine = FakeEngine::new();
    let file = "ARG V=1\nFROM scratch\nARG V\nENV abc=hello\nENV abc=bye def=$abc v=${V:-none}\nLABEL l=\"$def\" m='$def' n=${nope:-x}\n\
                ENV ports=\"80 81\"\nEXPOSE $ports\nUSER $v\nENV old  $abc there\n";
    let mut options = tagged("t");
    options.build_args = [("V".to_owned(), Some("2".to_owned())), ("unused".to_owned(), Some(String::new()))].into();
    let outcome = engine.build(&[("Dockerfile", file)], options);
    outcome.result.unwrap();
    expect![[r#"
        Step 1/10 : ARG V=1
        Step 2/10 : FROM scratch
        Step 3/10 : ARG V
        Step 4/10 : ENV abc=hello
        Step 5/10 : ENV abc=bye def=$abc v=${V:-none}
        Step 6/10 : LABEL l="$def" m='$def' n=${nope:-x}
        Step 7/10 : ENV ports="80 81"
        Step 8/10 : EXPOSE $ports
        Step 9/10 : USER $v
        Step 10/10 : ENV old  $abc there
        [Warning] One or more build-args [unused] were not consumed
        Successfully tagged t
    "#]]
    .assert_eq(&outcome.log);
    expect![[r#"
        - /bin/sh -c #(nop)  ARG V
        - /bin/sh -c #(nop)  ENV abc=hello
        - /bin/sh -c #(nop)  ENV abc=bye def=hello v=2
        - /bin/sh -c #(nop)  LABEL l=hello m=$def n=x
        - /bin/sh -c #(nop)  ENV ports=80 81
        - /bin/sh -c #(nop)  EXPOSE 80 81
        - /bin/sh -c #(nop)  USER 2
        - /bin/sh -c #(nop)  ENV old=bye there
    "#]]
    .assert_eq(&history(&engine, "t"));
}

#[test]
fn an_entrypoint_clears_an_inherited_command_only() {
    let engine = FakeEngine::new();
    engine.build(&[("Dockerfile", "FROM scratch\nCMD [\"base\"]")], tagged("base")).result.unwrap();
    engine.build(&[("Dockerfile", "FROM base\nENTRYPOINT [\"e\"]")], tagged("inherited")).result.unwrap();
    engine.build(&[("Dockerfile", "FROM base\nCMD [\"own\"]\nENTRYPOINT [\"e\"]")], tagged("own")).result.unwrap();
    assert_eq!(engine.config("inherited").config.cmd, None);
    assert_eq!(engine.config("own").config.cmd, Some(vec!["own".to_owned()]));
}

#[test]
fn triggers_run_in_the_child_and_are_gone() {
    requires!(Root);
    let engine = FakeEngine::new();
    engine.build(&[("Dockerfile", "FROM scratch\nONBUILD ENV a=1\nONBUILD COPY f /f")], tagged("base")).result.unwrap();
    let outcome = engine.build(&[("Dockerfile", "FROM base\nENV b=$a"), ("f", "x")], tagged("child"));
    outcome.result.unwrap();
    expect![[r#"
        Step 1/2 : FROM base
        # Executing 2 build triggers
        Step 2/2 : ENV b=$a
        Successfully tagged child
    "#]]
    .assert_eq(&outcome.log);
    assert!(engine.config("child").config.on_build.is_empty());
    assert!(engine.config("child").config.env.contains(&"b=1".to_owned()));
    assert_eq!(engine.files("child"), "100644 0:0 [x] f\n");
}

#[test]
fn labels_of_the_request_come_last() {
    let engine = FakeEngine::new();
    let mut options = tagged("t");
    options.labels = [("b".to_owned(), "$x".to_owned()), ("a".to_owned(), "1".to_owned())].into();
    let outcome = engine.build(&[("Dockerfile", "FROM scratch\nLABEL a=0")], options);
    outcome.result.unwrap();
    expect![[r#"
        Step 1/4 : FROM scratch
        Step 2/4 : LABEL a=0
        Step 3/4 : LABEL a=1
        Step 4/4 : LABEL b=$x
        Successfully tagged t
    "#]]
    .assert_eq(&outcome.log);
    let labels: Vec<_> = engine.config("t").config.labels.into_iter().collect();
    assert_eq!(labels, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "$x".to_owned())]);
}

#[test]
fn commands_see_environment_and_arguments() {
    requires!(Root);
    let engine = FakeEngine::new();
    let file = "FROM scratch\nARG a=1\nARG both=arg\nENV both=env e=2\nRUN echo $a $both $e $HTTP_PROXY >out; cat out\n";
    let mut options = tagged("t");
    options.build_args = [("HTTP_PROXY".to_owned(), Some("proxy".to_owned()))].into();
    let outcome = engine.build(&[("Dockerfile", file)], options);
    outcome.result.unwrap();
    assert!(outcome.log.ends_with(" ---> Running\n1 env 2 proxy\nSuccessfully tagged t\n"), "{}", outcome.log);
    assert!(history(&engine, "t").ends_with("+ |1 a=1 /bin/sh -c echo $a $both $e $HTTP_PROXY >out; cat out\n"));
}

#[test]
fn a_failing_command_ends_the_build() {
    requires!(Root);
    let engine = FakeEngine::new();
    let error = engine.build(&[("Dockerfile", "FROM scratch\nRUN exit 7\n")], tagged("t")).result.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.exit_code()), ("The command '/bin/sh -c exit 7' returned a non-zero code: 7", Some(7)));
}

#[test]
fn here_documents_become_scripts_and_files() {
    requires!(Root);
    let engine = FakeEngine::new();
    let file = "FROM scratch\nENV x=1\nRUN <<E\necho \"$x\" >a\nE\nRUN <<E\n#!/bin/sh\necho script >b\nE\nCOPY <<F <<'G' /d/\nx is \"$x\"\nF\n$x\nG\n";
    engine.build(&[("Dockerfile", file)], tagged("t")).result.unwrap();
    expect![[r#"
        100644 0:0 [1|] a
        100644 0:0 [script|] b
        040755 0:0 [] d
        100644 0:0 [x is "1"|] d/F
        100644 0:0 [$x|] d/G
    "#]]
    .assert_eq(&engine.files("t"));
}

#[test]
fn a_command_that_changes_nothing_makes_no_layer() {
    requires!(Root);
    let engine = FakeEngine::new();
    engine.build(&[("Dockerfile", "FROM scratch\nCOPY f /\nRUN true\n"), ("f", "")], tagged("t")).result.unwrap();
    let config = engine.config("t");
    assert_eq!((config.rootfs.diff_ids.len(), config.history[1].empty_layer), (1, true));
}

#[test]
fn errors_say_what_and_what_to_do() {
    let engine = FakeEngine::new();
    let file = |text: &str| engine.build(&[("Dockerfile", text), ("f", "")], BuildOptions::default()).result.unwrap_err().render();
    expect![[r#"
        error: COPY failed: file not found in build context or excluded by .dockerignore: stat missing: file does not exist
        hint: paths are relative to the directory given to `docker build`; look into .dockerignore too
        error: COPY failed: file not found in build context or excluded by .dockerignore: stat ../up: file does not exist
        hint: COPY reaches only files of the build context; build from a directory that holds them
        error: COPY failed: no source files were specified
        error: Invalid signal: SIGFOO
        hint: write a name such as SIGTERM, or a number
        error: invalid port in EXPOSE: x
        hint: write `80`, `53/udp` or `8000-8010`
        error: failed to process "${": syntax error: missing '}'
        error: dockerfile parse error line 2: Syntax error - can't find = in "b}". Must be of the form: name=value
         --> Dockerfile:2:16
          |
        2 | ENV a=${b:?say b}
          |                ^^
        hint: put quotes around a value that has blanks
        error: base name ($nothing) should not be blank
        hint: give the ARG a default, or pass `--build-arg`
        error: manifest for nowhere not found
        error: COPY failed: `nowhere` of --from is no stage above, and no image: manifest for nowhere not found
        error: unable to convert uid/gid chown string to host mapping: can't find uid for user web: no such user: web
        error: invalid chmod parameter: '9'. it should be octal string and between 0 and 07777, or symbolic like `u=rwX,go=rX`
        error: No image was generated. Is your Dockerfile empty?
        hint: add a step after `FROM scratch`
        error: dockerfile parse error line 2: unknown instruction: RUNN
         --> Dockerfile:2:1
          |
        2 | RUNN x
          | ^^^^
        hint: did you mean `RUN`?
    "#]]
    .assert_eq(
        &[
            "FROM scratch\nCOPY missing /",
            "FROM scratch\nCOPY ../up /",
            "FROM scratch\nCOPY no* /",
            "FROM scratch\nSTOPSIGNAL SIGFOO",
            "FROM scratch\nEXPOSE x",
            "FROM scratch\nENV a=${",
            "FROM scratch\nENV a=${b:?say b}",
            "FROM $nothing",
            "FROM nowhere",
            "FROM scratch\nCOPY --from=nowhere a b",
            "FROM scratch\nCOPY --chown=web f /",
            "FROM scratch\nCOPY --chmod=9 f /",
            "FROM scratch",
            "FROM scratch\nRUNN x",
        ]
        .map(file)
        .concat(),
    );
    let target = BuildOptions { target: Some("buidl".to_owned()), ..BuildOptions::default() };
    let error = engine.build(&[("Dockerfile", "FROM scratch AS build")], target).result.unwrap_err();
    assert_eq!(error.render(), "error: failed to reach build target buidl in Dockerfile\nhint: did you mean `--target build`?\n");
}
