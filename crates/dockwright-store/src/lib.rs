//! Content of the container half: blobs, layers, images, names, leases, collection of garbage, build cache and the registry's rows.
//!
//! Plain functions over one directory that several processes may open at once. Nothing here mounts, speaks HTTP or is async.
//!
//! The identities come first ([`Digest`], [`DiffId`], [`ImageId`], [`ImageRef`]), then the documents ([`Manifest`], [`Index`],
//! [`ImageConfig`]), then the [`Store`] and what it keeps, each in its own module.

pub mod compression;
pub mod config;
pub mod digest;
pub mod manifest;
pub mod reference;

mod db;
mod store;

pub mod archive;
mod blob;
mod cache;
mod gc;
mod image;
pub mod layer;
mod lease;
mod repository;
mod rootfs;
mod upload;
mod verify;

#[cfg(test)]
mod faults;

pub use blob::{BlobWriter, CommitError};
pub use cache::CacheRefs;
pub use config::ImageConfig;
pub use db::FormatError;
pub use digest::{DiffId, Digest, ImageId};
pub use gc::{GcPolicy, GcReport};
pub use image::{Image, PutImageError};
pub use layer::{AppliedLayer, ApplyLayerError, CompressError, LayerOrigin};
pub use lease::Lease;
pub use manifest::{Descriptor, Document, Index, Manifest};
pub use reference::ImageRef;
pub use repository::{ManifestReference, PutManifestError, StoredManifest};
pub use rootfs::{ImportRootfsError, RootfsOptions};
pub use store::{OpenError, Store, StoreError};
pub use upload::Upload;
pub use verify::{Depth, Problem};
