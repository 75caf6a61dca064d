//! The whole front end: a configuration and two files that it may include, separated by a line of `=`.
#![no_main]

use dockwright_fuzz::{context, run};
use indexmap::IndexMap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(3, "\n====\n");
    let names = [".gitlab-ci.yml", "a.yml", "b.yml"];
    let files: IndexMap<String, String> =
        names.iter().map(|name| ((*name).to_owned(), parts.next().unwrap_or_default().to_owned())).collect();
    run(&files, &context());
});
