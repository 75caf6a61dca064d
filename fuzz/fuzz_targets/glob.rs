//! A pattern of `include:local`, `changes` and `exists`, and the path of a file.
#![no_main]

use dockwright_fuzz::{context, quoted, run};
use indexmap::IndexMap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (pattern, path) = input;
    let pattern = quoted(pattern);
    let text = format!(
        "include: [{{local: {pattern}}}]\nb: {{script: x, rules: [{{exists: [{pattern}]}}, {{changes: [{pattern}]}}]}}\nc: {{script: x}}\n"
    );
    let files = IndexMap::from([(".gitlab-ci.yml".to_owned(), text), (path.to_owned(), "a: {script: x}\n".to_owned())]);
    run(&files, &context());
});
