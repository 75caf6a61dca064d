//! The built program, run as a user runs it: exit codes, streams, signals. What a flag does is tested where it is done; here, that it is
//! connected. Jobs run in the shell, so these tests need only git and bash.

mod assertions;
mod children;
mod common;
mod completion;
mod explain;
mod includes;
mod lsp;
mod output;
mod problems;
mod runner;
mod settings;
mod signals;
