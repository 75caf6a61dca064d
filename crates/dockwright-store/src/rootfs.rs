//! An image from a plain file system tree: `docker import`, `dockwright image import`.

use std::io::Read;

use crate::{
    config::{History, ImageConfig, RunConfig},
    digest::ImageId,
    image::PutImageError,
    layer::{ApplyLayerError, LayerOrigin},
    manifest::Platform,
    store::Store,
};

/// What the image says besides its files.
#[derive(Debug, Clone, Default)]
pub struct RootfsOptions {
    /// How containers of it run.
    pub config: RunConfig,
    /// What it runs on; this machine if absent.
    pub platform: Option<Platform>,
    /// RFC 3339.
    pub created: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// For the history.
    pub comment: Option<String>,
}

/// Why a tree did not become an image.
#[derive(Debug, thiserror::Error)]
pub enum ImportRootfsError {
    /// The tar was refused.
    #[error("take in the root file system")]
    Layer(#[from] ApplyLayerError),
    /// The image could not be kept.
    #[error(transparent)]
    Image(#[from] PutImageError),
}

impl Store {
    /// Makes an image whose only layer is this tar.
    pub fn import_rootfs(&self, tar: impl Read, options: &RootfsOptions) -> Result<ImageId, ImportRootfsError> {
        let layer = self.apply_layer(tar, LayerOrigin::Foreign)?;
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let history = History { created: options.created.clone(), comment: options.comment.clone(), ..History::default() };
        let mut config = ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            created: options.created.clone(),
            author: options.author.clone(),
            config: options.config.clone(),
            history: vec![history],
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids.push(layer.diff_id);
        Ok(self.put_image(&config.encode())?)
    }
}
