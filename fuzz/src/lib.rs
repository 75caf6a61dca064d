//! What the targets share: a configuration among files, taken through the whole front end.

use dockwright_pipeline::{Parsed, PipelineContext, Style, evaluate, has_errors, parse, render, render_line};
use indexmap::IndexMap;

/// Reads, evaluates and renders a configuration. Whatever it is, there are jobs or a reason why not.
pub fn run(files: &IndexMap<String, String>, context: &PipelineContext) -> Parsed {
    let parsed = parse(".gitlab-ci.yml", files, context);
    let mut problems = parsed.problems.clone();
    let (pipeline, more) = evaluate(&parsed.config, context);
    problems.extend(more);
    assert!(has_errors(&problems) || !pipeline.jobs.is_empty(), "neither jobs nor a reason");
    for problem in problems.iter().take(20) {
        render(problem, &parsed.sources, Style::Plain);
        render_line(problem, &parsed.sources);
    }
    parsed
}

/// Puts a configuration alone into a repository.
pub fn alone(text: String) -> IndexMap<String, String> {
    IndexMap::from([(".gitlab-ci.yml".to_owned(), text)])
}

/// Writes a text so that YAML reads the same text.
pub fn quoted(text: &str) -> String {
    let clean: String = text.chars().filter(|next| !next.is_control()).collect();
    format!("'{}'", clean.replace('\'', "''"))
}

/// A branch's push, with variables that mean something to expressions.
pub fn context() -> PipelineContext {
    let pairs = [("CI_COMMIT_BRANCH", "main"), ("A", "1"), ("EMPTY", ""), ("PATTERN", "/^m/i")];
    PipelineContext { predefined: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(), ..PipelineContext::default() }
}
