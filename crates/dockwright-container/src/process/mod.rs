//! Containers and processes: the specification, and the code that turns a clone of the sandbox's PID 1 into one.

mod spec;

pub use spec::*;
