//! The helper on its own, called like the real binary: `helper internal helper stdin`. The tests of the docker executor put it into
//! helper images.

use std::process::ExitCode;

fn main() -> ExitCode {
    dockwright_runner::helper::main(std::env::args_os().skip(3))
}
