//! An expression of `rules:if`, and a value that it may compare.
#![no_main]

use dockwright_fuzz::{alone, context, quoted, run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (expression, value) = input;
    let mut context = context();
    context.variables.insert("B".to_owned(), value.to_owned());
    run(&alone(format!("a: {{script: x, rules: [{{if: {}}}]}}\nb: {{script: x}}\n", quoted(expression))), &context);
});
