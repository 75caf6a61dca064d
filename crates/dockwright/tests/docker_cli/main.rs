//! The real docker clients against `dockwright engine serve`, as root and as an ordinary user.
//!
//! A test is a list of commands and what they print. It runs once per user and client that the machine has; what is missing is said
//! aloud. `scripts/stand-in-images target/stand-ins` must have been run (`scripts/test` does).

mod builds;
mod containers;
mod daemon;
mod dind;
mod files;
mod images;
mod networks;
mod processes;
mod registries;
mod system;
mod volumes;
