//! Tests with real namespaces. Sandboxes run the `probe` example, which `cargo test` builds.

mod containers;
mod escapes;
mod harness;
mod networks;
mod oracle;
mod sandboxes;
mod unprivileged;
