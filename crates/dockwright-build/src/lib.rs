//! Dockerfile → image.
//!
//! Read in the order of the modules: [`dockerfile`] turns text into stages of instructions without any I/O; [`request`] and [`context`] are what a
//! client asks for and sends; [`solver`] walks the needed stages, asks [`cache`] whether a step's result is known, and otherwise has it made through
//! [`backend`], the only door to an engine. [`progress`] is what it tells meanwhile.
//!
//! Absent here: HTTP, container names, mounting, starting processes.

mod archive;
pub mod backend;
pub mod cache;
pub mod context;
pub mod copy;
pub mod dockerfile;
mod glob;
pub mod ignore;
pub mod progress;
pub mod request;
pub mod solver;
pub mod tree;
