//! The specification of the keywords, `resources/spec/*.md`, checked example by example.
//!
//! An example is a block of YAML. What comes of it is written in a block `jobs` after it, and problems as comments in the lines that have
//! them: `# error: code` or `# warning: code`. Words after `yaml` set the branch (`branch=dev`), the tag or the event, the paths that
//! changed or exist (`changed=a,b`, `files=a,b`), variables of the pipeline (`A=1`) or its inputs (`input.a=1`). A block with `file=NAME`
//! is another file, which the next example may include.
//! With `UPDATE_EXPECT` set, the blocks `jobs` are written anew; comments are not.

use std::{fs, path::Path};

use dockwright_pipeline::{Severity, Span, evaluate, has_errors, parse};
use indexmap::IndexMap;

use crate::{Context, show};

#[test]
fn every_example_does_what_the_specification_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("resources/spec");
    let mut files: Vec<_> = fs::read_dir(&directory).expect("the directory exists").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no specification in {}", directory.display());
    for file in files {
        let text = fs::read_to_string(&file).expect("a text");
        let actual = rewritten(&text);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&file, actual).expect("the file can be written");
        } else {
            assert!(text == actual, "{} says something else; this is what happens:\n{actual}", file.display());
        }
    }
}

/// Returns the page with the jobs that really come of its examples; their problems are compared on the way.
fn rewritten(page: &str) -> String {
    let mut output = String::new();
    let mut lines = page.lines().peekable();
    let mut jobs = String::new();
    let mut files = IndexMap::new();
    while let Some(line) = lines.next() {
        output.push_str(line);
        output.push('\n');
        if let Some(settings) = line.strip_prefix("```yaml") {
            let example: String = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
            output.push_str(&example);
            output.push_str("```\n");
            if let Some(name) = settings.split_whitespace().find_map(|setting| setting.strip_prefix("file=")) {
                files.insert(name.to_owned(), example);
            } else {
                jobs = evaluated(&example, std::mem::take(&mut files), settings);
            }
        } else if line == "```jobs" {
            lines.by_ref().take_while(|line| *line != "```").for_each(drop);
            output.push_str(&jobs);
            output.push_str("```\n");
        }
    }
    output
}

/// Evaluates an example, compares its problems with its comments, and shows its jobs.
fn evaluated(example: &str, mut files: IndexMap<String, String>, settings: &str) -> String {
    let mut context = Context::push("main");
    for (key, value) in settings.split_whitespace().filter_map(|setting| setting.split_once('=')) {
        context = match key {
            "branch" => Context::push(value),
            "tag" => Context::tag(value),
            "event" => context.event(value),
            "changed" => context.changed(value),
            "files" => context.with_files(value),
            _ => match key.strip_prefix("input.") {
                Some(input) => context.with_input(input, value),
                None => context.with(key, value),
            },
        };
    }
    files.insert(".gitlab-ci.yml".to_owned(), example.to_owned());
    let parsed = parse(".gitlab-ci.yml", &files, &context.0);
    let mut problems = parsed.problems.clone();
    let mut jobs = String::new();
    if !has_errors(&problems) {
        let (pipeline, more) = evaluate(&parsed.config, &context.0);
        problems.extend(more);
        jobs = show(&pipeline);
    }
    // A problem in another file counts for the line of the example that includes it.
    let own_place = |span: Span| parsed.sources.include_chain(span.source).last().copied().unwrap_or(span);
    let mut actual: Vec<(usize, String)> = problems
        .iter()
        .map(|problem| {
            let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
            let line = problem.span.map_or(1, |span| parsed.sources.position(own_place(span)).line);
            (line, format!("{severity}: {}", problem.code))
        })
        .collect();
    actual.sort();
    let comment =
        |line: &str| Some(line.rsplit_once("# ")?.1.to_owned()).filter(|text| text.starts_with("error: ") || text.starts_with("warning: "));
    let expected: Vec<(usize, String)> =
        example.lines().enumerate().filter_map(|(index, line)| Some((index + 1, comment(line)?))).collect();
    assert_eq!(actual, expected, "problems of the example\n{example}");
    jobs
}
