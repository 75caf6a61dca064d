//! A body with blocks, and the value of an input.
#![no_main]

use dockwright_fuzz::{alone, context, quoted, run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (block, value) = input;
    let header = "spec: {inputs: {a: {}, list: {type: array, default: [x, [y]]}, n: {type: number, default: 1}}}\n---\n";
    let script = quoted(&format!("$[[ inputs.{block} ]]"));
    let free = quoted(block);
    let mut context = context();
    context.inputs.insert("a".to_owned(), value.to_owned());
    run(&alone(format!("{header}job: {{script: [{script}, {free}], variables: {{{free}: x}}}}\n")), &context);
});
