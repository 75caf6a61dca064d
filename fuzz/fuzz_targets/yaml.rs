//! What is read and written is read again as the same.
#![no_main]

use dockwright_fuzz::{alone, context, run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some(merged) = run(&alone(text.to_owned()), &context()).merged else { return };
    let (yaml, json) = (merged.to_yaml(), merged.to_json());
    // References that could not be resolved, number keys and `<<` are written as they are read, and may mean something else then.
    if json.contains("reference") || json.contains("<<") || json.contains("NaN") {
        return;
    }
    let again = run(&alone(yaml.clone()), &context()).merged.expect("what is written can be read");
    assert_eq!(again.to_yaml(), yaml);
});
