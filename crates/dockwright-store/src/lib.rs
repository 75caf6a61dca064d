//! Content of the container half: blobs, layers, images, names, leases, collection of garbage, build cache and the registry's rows.
//!
//! Plain functions over one directory that several processes may open at once. Nothing here mounts, speaks HTTP or is async.
//!
//! The identities come first ([`Digest`], [`DiffId`], [`ImageId`], [`ImageRef`]), then the documents ([`Manifest`], [`Index`],
//! [`ImageConfig`]).

pub mod config;
pub mod digest;
pub mod manifest;
pub mod reference;

pub use config::ImageConfig;
pub use digest::{DiffId, Digest, ImageId};
pub use manifest::{Descriptor, Document, Index, Manifest};
pub use reference::ImageRef;
