//! The distribution protocol, both ends: pull and push as a client, and the embedded registry as a server.
//!
//! Knows the store, and neither the Docker API nor GitLab. What both ends share is in [`protocol`]; who may do what is asked of
//! [`server::Authority`]; images that stay on this host go through [`local`] without a byte being copied.

pub mod client;
pub mod local;
pub mod protocol;
pub mod server;

mod blocking;
mod credentials;
mod manifest;

pub use client::{Client, ClientError, ClientOptions};
pub use credentials::Credentials;
pub use server::Registry;
