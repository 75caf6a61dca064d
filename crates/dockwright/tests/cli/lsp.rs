//! `dockwright lsp`, spoken to as an editor does: messages of JSON-RPC over its standard streams.

mod client;

use serde_json::{Value, json};

use crate::common::Project;
use client::{Client, labels};

const CONFIGURATION: &str = "\
include: /ci/lib.yml
stages: [build, test]
variables:
  TARGET: release
default:
  image: debian:12
.base:
  stage: build
  variables: {LEVEL: \"3\"}
compile:
  extends: .base
  script: [make $TARGET $LEVEL]
unit:
  stage: test
  needs: [compile]
  script:
    - !reference [.shared, script]
";

const LIBRARY: &str = ".shared:\n  script: [make check]\n";

fn project() -> Project {
    let project = Project::without_commit();
    project.write(".gitlab-ci.yml", CONFIGURATION);
    std::fs::create_dir(project.repository().join("ci")).expect("directory");
    project.write("ci/lib.yml", LIBRARY);
    project.git(&["add", "-A"]);
    project.git(&["commit", "-q", "-m", "first"]);
    project
}

#[test]
fn the_protocol_is_kept_from_the_beginning_to_the_end() {
    let project = project();
    let mut client = Client::start(&project);
    assert_eq!(client.error("textDocument/hover", json!({})), -32002, "not initialized");
    let answer = client.request("initialize", json!({"capabilities": {}, "processId": null, "rootUri": null}));
    assert_eq!(answer["capabilities"]["positionEncoding"], "utf-16");
    client.notify("initialized", json!({}));
    assert_eq!(client.error("textDocument/rename", json!({})), -32601, "not offered");
    assert_eq!(client.error("textDocument/hover", json!({"position": 1})), -32602, "wrong parameters");
    client.notify("textDocument/didChange", json!({"nonsense": true}));
    client.notify("$/unknown", json!(null));
    assert_eq!(client.request("shutdown", json!(null)), Value::Null);
    assert_eq!(client.error("textDocument/hover", json!({})), -32600, "shut down");
    client.notify("exit", json!(null));
    assert_eq!(client.end().code, Some(0));
}

#[test]
fn an_exit_without_a_shutdown_is_a_failure() {
    let project = project();
    let mut client = Client::open(&project);
    client.notify("exit", json!(null));
    assert_eq!(client.end().code, Some(1));
    let mut client = Client::open(&project);
    client.close();
    let end = client.end().ended_with(2);
    assert!(end.stderr.contains("the editor went away"), "{}", end.stderr);
}

#[test]
fn what_is_no_message_is_an_error_and_no_panic() {
    let project = project();
    let mut client = Client::open(&project);
    client.raw(b"Content-Length: 5\r\n\r\n{nono");
    let end = client.end();
    assert_eq!(end.code, Some(2), "{}", end.stderr);
    assert!(!end.stderr.contains("panicked"), "{}", end.stderr);
}

#[test]
fn several_problems_are_told_and_taken_back() {
    let project = project();
    let mut client = Client::open(&project);
    // The astral letter is two units of UTF-16.
    let wrong = "a: {script: 'é😀', scirpt: x}\nb:\n  script: make\n  needs: [a, a]\n  when: sometimes\n";
    client.open_file(".gitlab-ci.yml", wrong);
    let problems = client.diagnostics(".gitlab-ci.yml");
    let codes: Vec<&str> = problems.iter().filter_map(|problem| problem["code"].as_str()).collect();
    assert_eq!(codes, ["unknown-key", "wrong-value", "needs-duplicate"]);
    assert_eq!(problems[0]["range"], json!({"start": {"line": 0, "character": 19}, "end": {"line": 0, "character": 25}}));
    assert!(problems[0]["message"].as_str().is_some_and(|message| message.contains("help: did you mean `script`?")), "{}", problems[0]);
    assert_eq!((&problems[0]["severity"], &problems[0]["source"]), (&json!(1), &json!("dockwright")));
    let related = &problems[2]["relatedInformation"][0];
    assert_eq!((&related["message"], &related["location"]["range"]["start"]["line"]), (&json!("needed here already"), &json!(3)));
    client.change(".gitlab-ci.yml", CONFIGURATION);
    assert_eq!(client.diagnostics(".gitlab-ci.yml"), Vec::<Value>::new());
}

#[test]
fn texts_that_are_not_saved_count_in_all_files() {
    let project = project();
    let mut client = Client::open(&project);
    client.open_file(".gitlab-ci.yml", CONFIGURATION);
    assert_eq!(client.diagnostics(".gitlab-ci.yml"), Vec::<Value>::new());
    client.open_file("ci/lib.yml", LIBRARY);
    assert_eq!(client.diagnostics("ci/lib.yml"), Vec::<Value>::new());
    // The name of the entry is replaced.
    client.edit("ci/lib.yml", (0, 1), (0, 7), "common");
    client.diagnostics_until(".gitlab-ci.yml", |problems| problems.iter().any(|problem| problem["code"] == "reference-unknown"));
    // Closed without saving, the file is again as it is on disk.
    client.notify("textDocument/didClose", json!({"textDocument": {"uri": client.uri("ci/lib.yml")}}));
    client.diagnostics_until(".gitlab-ci.yml", <[Value]>::is_empty);
}

#[test]
fn many_changes_in_a_row_end_in_what_is_true() {
    let project = project();
    let mut client = Client::open(&project);
    client.open_file(".gitlab-ci.yml", "");
    let typed = "job:\n  script: make\n";
    for (at, letter) in typed.char_indices() {
        let line = typed[..at].matches('\n').count();
        let column = at - typed[..at].rfind('\n').map_or(0, |newline| newline + 1);
        client.edit(".gitlab-ci.yml", (line, column), (line, column), &letter.to_string());
    }
    let symbols = client.request("textDocument/documentSymbol", json!({"textDocument": {"uri": client.uri(".gitlab-ci.yml")}}));
    assert_eq!(symbols[0]["name"], "job");
    // The last of the messages about the file says that nothing is wrong.
    client.diagnostics_until(".gitlab-ci.yml", <[Value]>::is_empty);
}

#[test]
fn completion_knows_the_place() {
    let project = project();
    let mut client = Client::open(&project);
    client.open_file(".gitlab-ci.yml", CONFIGURATION);
    let cases = [
        // A key of a job; those that are written already are not offered.
        ("new:\n  script: x\n  ar│\n", "artifacts", "script"),
        // A key at the root, in the middle of a broken text.
        ("bad: [\nwork│\n", "workflow", "script"),
        ("new:\n  when: │\n  script: x\n", "manual", "needs"),
        ("new:\n  rules:\n    - when: n│\n", "never", "workflow"),
        ("new:\n  needs: [│]\n", "compile", ".base"),
        ("new:\n  needs:\n    - job: c│\n", "compile", "new"),
        ("new:\n  needs:\n    - job: c\n      │\n", "artifacts", "job"),
        ("new:\n  dependencies:\n    │\n", "compile", "new"),
        ("new:\n  extends: │\n", ".shared", "stages"),
        ("new:\n  stage: │\n", "build", "deploy"),
        ("new:\n  script:\n    - echo $TA│\n", "TARGET", "LEVEL"),
        ("new:\n  variables: {OWN: x}\n  script: |\n    echo ${O│\n", "OWN", "LEVEL"),
        ("include:\n  - local: │\n", "ci/lib.yml", "compile"),
        ("new: {when: │}\n", "manual", "script"),
        ("new: {script: x, │}\n", "when", "script"),
    ];
    for (added, wanted, unwanted) in cases {
        let (text, position) = client::cursor(&format!("{CONFIGURATION}{added}"));
        client.change(".gitlab-ci.yml", &text);
        let labels = labels(&client.at("textDocument/completion", ".gitlab-ci.yml", position));
        assert!(labels.iter().any(|label| label == wanted), "{added}: {wanted} is not among {labels:?}");
        assert!(!labels.iter().any(|label| label == unwanted), "{added}: {unwanted} is among {labels:?}");
    }
    let (text, position) = client::cursor(&format!("{CONFIGURATION}# new:\n#  ar│\n"));
    client.change(".gitlab-ci.yml", &text);
    assert_eq!(client.at("textDocument/completion", ".gitlab-ci.yml", position), json!([]));
}

#[test]
fn what_is_completed_replaces_what_is_typed() {
    let project = project();
    let mut client = Client::open(&project);
    let (text, position) = client::cursor("\"😀\": {script: x, ar│}\n");
    client.open_file(".gitlab-ci.yml", &text);
    let items = client.at("textDocument/completion", ".gitlab-ci.yml", position);
    let item = items.as_array().and_then(|items| items.iter().find(|item| item["label"] == "artifacts")).expect("it is offered").clone();
    let range = json!({"start": {"line": 0, "character": 18}, "end": {"line": 0, "character": 20}});
    assert_eq!(item["textEdit"], json!({"range": range, "newText": "artifacts: "}));
    assert!(item["documentation"].as_str().is_some_and(|text| text.starts_with("Files that the job leaves")), "{item}");
}

#[test]
fn hovering_explains() {
    let project = project();
    let mut client = Client::open(&project);
    client.open_file(".gitlab-ci.yml", CONFIGURATION);
    let cases = [
        ("  need│s: [compile]", "Jobs that this one waits for"),
        // What the job extends, and the defaults.
        ("comp│ile:", "stage: build"),
        ("needs: [com│pile]", "image: debian:12"),
        ("extends: .ba│se", "LEVEL: '3'"),
        ("[make $TAR│GET", "from variables\n\n```text\nrelease"),
        ("$LEV│EL]", "from job\n\n```text\n3"),
    ];
    for (line, expected) in cases {
        let position = client::find(CONFIGURATION, line);
        let hover = client.at("textDocument/hover", ".gitlab-ci.yml", position);
        assert!(hover["contents"]["value"].as_str().is_some_and(|text| text.contains(expected)), "{line}: {hover}");
    }
    let position = client::find(CONFIGURATION, "script: [ma│ke");
    assert!(
        client.at("textDocument/hover", ".gitlab-ci.yml", position)["contents"]["value"]
            .as_str()
            .is_some_and(|text| text.contains("`script`"))
    );
}

#[test]
fn definitions_are_found_in_all_files() {
    let project = project();
    let mut client = Client::open(&project);
    client.open_file(".gitlab-ci.yml", CONFIGURATION);
    let cases = [
        ("extends: .ba│se", ".gitlab-ci.yml", 6, 0),
        ("needs: [com│pile]", ".gitlab-ci.yml", 9, 0),
        ("  stage: te│st", ".gitlab-ci.yml", 1, 16),
        ("include: /ci/│lib.yml", "ci/lib.yml", 0, 0),
        ("!reference [.sha│red", "ci/lib.yml", 0, 0),
        ("!reference [.shared, scr│ipt]", "ci/lib.yml", 1, 2),
        ("[make $TAR│GET", ".gitlab-ci.yml", 3, 2),
    ];
    for (line, file, row, column) in cases {
        let position = client::find(CONFIGURATION, line);
        let found = client.at("textDocument/definition", ".gitlab-ci.yml", position);
        assert_eq!(found["uri"], client.uri(file), "{line}: {found}");
        assert_eq!(found["range"]["start"], json!({"line": row, "character": column}), "{line}");
    }
    let position = client::find(CONFIGURATION, "script: [ma│ke");
    assert_eq!(client.at("textDocument/definition", ".gitlab-ci.yml", position), Value::Null);
}

#[test]
fn symbols_are_the_entries() {
    let project = project();
    let mut client = Client::open(&project);
    client.open_file(".gitlab-ci.yml", CONFIGURATION);
    let symbols = client.request("textDocument/documentSymbol", json!({"textDocument": {"uri": client.uri(".gitlab-ci.yml")}}));
    let names: Vec<&str> = symbols.as_array().into_iter().flatten().filter_map(|symbol| symbol["name"].as_str()).collect();
    assert_eq!(names, ["include", "stages", "variables", "default", ".base", "compile", "unit"]);
    assert_eq!((&symbols[6]["detail"], &symbols[6]["kind"]), (&json!("test"), &json!(12)));
    assert_eq!(symbols[5]["range"], json!({"start": {"line": 9, "character": 0}, "end": {"line": 11, "character": 31}}));
}

#[test]
fn every_place_of_a_broken_text_is_answered() {
    let project = project();
    let mut client = Client::open(&project);
    let text = "a: &x {b: [c, 'é😀\n  extends: [a, .b\n- - $: |\n   ${\n!reference [a\r\n<<: *x\n? k\n\t: ü\n---\nb: *y";
    client.open_file(".gitlab-ci.yml", text);
    for (line, content) in text.split('\n').enumerate() {
        for column in 0..=content.encode_utf16().count() + 1 {
            for method in ["textDocument/completion", "textDocument/hover", "textDocument/definition"] {
                client.at(method, ".gitlab-ci.yml", (line, column));
            }
        }
    }
    assert!(!client.diagnostics(".gitlab-ci.yml").is_empty());
}

#[test]
fn a_file_outside_of_any_repository_is_checked_too() {
    let project = project();
    let mut client = Client::open(&project);
    let path = project.path("user").join(".gitlab-ci.yml");
    let uri = url::Url::from_file_path(&path).expect("a path").to_string();
    let document = json!({"uri": uri, "languageId": "yaml", "version": 1, "text": "include: ../other.yml\njob: {script: x, wen: y}\n"});
    client.notify("textDocument/didOpen", json!({"textDocument": document}));
    let problems = client.diagnostics_of(&uri);
    assert!(problems.iter().any(|problem| problem["code"] == "unknown-key"), "{problems:?}");
}
