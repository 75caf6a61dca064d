//! Input from hell: it may be refused, but nothing may panic, hang or overflow.

use dockwright_pipeline::{PipelineContext, Style, evaluate, has_errors, parse, render, render_line};
use indexmap::IndexMap;
use proptest::prelude::*;

const SAMPLES: &[&str] = &[
    include_str!("samples/dind-tls.gitlab-ci.yml"),
    include_str!("samples/layer-cache.gitlab-ci.yml"),
    include_str!("samples/mount-point.gitlab-ci.yml"),
    "x: &x {script: [a, b], rules: [{if: '$A =~ /b/ && ($B || !$C)', when: never}]}\njob: {<<: *x, needs: [{job: x, optional: true}]}\n",
    "a: {extends: [.b], script: !reference [.b, script], cache: {key: {files: [x]}}, timeout: 1h}\n.b: {script: [x], artifacts: {paths: [y]}}\n",
];

/// Pieces that mean something to one of the parsers.
const PIECES: &[&str] = &[
    "\n",
    " ",
    "  ",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "<<: ",
    "!reference ",
    "!x ",
    "|\n",
    ">-\n",
    "'",
    "\"",
    "#",
    "---\n",
    "...\n",
    "\t",
    "%",
    "é",
    "\u{feff}",
    "\u{85}",
    "\0",
    "$A",
    "${",
    "/",
    "\\",
    "script: ",
    "rules: ",
    "extends: ",
    "include: ",
    "null",
    "010",
    "2024-01-01",
    "? ",
    "@",
    "`",
];

fn run(text: &str) {
    let files = IndexMap::from([(".gitlab-ci.yml".to_owned(), text.to_owned())]);
    let context = PipelineContext::default();
    let parsed = parse(".gitlab-ci.yml", &files, &context);
    let mut problems = parsed.problems.clone();
    let (pipeline, more) = evaluate(&parsed.config, &context);
    problems.extend(more);
    assert!(has_errors(&problems) || !pipeline.jobs.is_empty(), "neither jobs nor a reason:\n{text}");
    for problem in problems.iter().take(20) {
        render(problem, &parsed.sources, Style::Plain);
        render_line(problem, &parsed.sources);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_configurations(
        sample in 0..SAMPLES.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..PIECES.len(), 0_usize..6), 1..8),
    ) {
        let mut text: Vec<char> = SAMPLES[sample].chars().collect();
        for (at, piece, removed) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, PIECES[piece].chars());
        }
        run(&text.into_iter().collect::<String>());
    }

    #[test]
    fn arbitrary_text(text in "\\PC*") {
        run(&text);
    }
}

#[test]
fn deep_nesting() {
    run(&format!("a: {}", "[".repeat(100_000)));
    run(&format!("a: {}{}", "[".repeat(90), "]".repeat(90)));
    run(&format!("a: {}x", "- ".repeat(10_000)));
    let blocks: String = (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    run(&blocks);
}

#[test]
fn chains_that_grow() {
    let chain = |line: fn(usize) -> String| (0..3000).map(line).collect::<String>();
    run(&chain(|index| format!("j{index}: {{extends: j{}, script: x}}\n", index + 1)));
    run(&chain(|index| format!("j{index}: {{script: !reference [j{}, script]}}\n", index + 1)));
    run(&chain(|index| format!("j{index}: {{script: [!reference [j{0}, script], !reference [j{0}, script]]}}\n", index + 1)));
    run(&chain(|index| format!("j{index}: {{script: x, needs: [j{}]}}\n", index + 1)));
    run(&format!("variables:\n{}a: {{script: x}}\n", chain(|index| format!("  V{index}: $V{}$V{}\n", index + 1, index + 1))));
    run(&format!("a: {{script: x, rules: [{{if: '{}$A{}'}}]}}\n", "(".repeat(5000), ")".repeat(5000)));
    run(&format!("a: {{script: x, rules: [{{if: '{}$A'}}]}}\n", "!".repeat(90)));
}
