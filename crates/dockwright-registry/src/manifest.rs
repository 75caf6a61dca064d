//! The manifest that we push for an image.

use dockwright_store::{
    Descriptor, ImageId, Manifest,
    manifest::{Family, media_type},
};

/// Builds the manifest of an image from its compressed layers: Docker's format as classic clients push it, or OCI's when a layer is
/// compressed in a way that Docker's format has no name for. The same image always gives the same bytes.
pub(crate) fn for_image(image: &ImageId, config_size: u64, layers: Vec<Descriptor>) -> Manifest {
    let is_gzip = |layer: &Descriptor| layer.media_type.ends_with("gzip");
    let family = if layers.iter().all(is_gzip) { Family::Docker } else { Family::Oci };
    let config_type = match family {
        Family::Docker => media_type::DOCKER_CONFIG,
        Family::Oci => media_type::OCI_CONFIG,
    };
    let layers = layers.iter().map(|layer| Descriptor::new(layer_type(family, &layer.media_type), layer.digest, layer.size)).collect();
    Manifest::build(family, Descriptor::new(config_type, image.0, config_size), layers)
}

/// The name of a layer's type in a family. A manifest may mix neither.
fn layer_type(family: Family, media_type: &str) -> &'static str {
    match family {
        Family::Docker => media_type::DOCKER_LAYER_GZIP,
        Family::Oci if media_type.ends_with("gzip") => media_type::OCI_LAYER_GZIP,
        Family::Oci if media_type.ends_with("zstd") => media_type::OCI_LAYER_ZSTD,
        Family::Oci => media_type::OCI_LAYER,
    }
}

#[cfg(test)]
mod tests {
    use dockwright_store::Digest;

    use super::*;

    #[test]
    fn the_family_follows_the_layers() {
        let image = ImageId(Digest::of(b"config"));
        let layer = |media_type: &str| Descriptor::new(media_type, Digest::of(media_type.as_bytes()), 1);
        let docker = for_image(&image, 6, vec![layer(media_type::OCI_LAYER_GZIP), layer(media_type::DOCKER_LAYER_GZIP)]);
        assert_eq!(docker.media_type(), media_type::DOCKER_MANIFEST);
        assert!(docker.layers.iter().all(|layer| layer.media_type == media_type::DOCKER_LAYER_GZIP));
        let oci = for_image(&image, 6, vec![layer(media_type::OCI_LAYER_ZSTD), layer(media_type::DOCKER_LAYER_GZIP)]);
        assert_eq!(oci.media_type(), media_type::OCI_MANIFEST);
        assert_eq!(oci.layers[1].media_type, media_type::OCI_LAYER_GZIP);
    }
}
