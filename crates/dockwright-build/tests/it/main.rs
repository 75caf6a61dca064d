//! Builds from end to end, against an engine made of temporary directories.

mod cache;
mod daemon;
mod differential;
mod fake;
mod files;
mod interrupt;
mod language;
mod stages;
