//! End to end: the built program, the real docker client inside job images, real namespaces; as root and as an ordinary user.
//!
//! `scripts/stand-in-images target/stand-ins` must have been run (`scripts/test` does); without it these tests are skipped aloud.

mod examples;
mod faults;
mod isolation;
mod samples;
mod served;
mod world;
