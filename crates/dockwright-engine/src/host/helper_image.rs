//! The helper image: this program alone, in one layer.
//!
//! Runners start containers of it to fetch sources and keep artifacts. Its layer is made once per version of the program, so it is the same
//! for every engine and is never sent to one.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::Path,
};

use dockwright_store::{
    ApplyLayerError, DiffId, ImageConfig, ImageId, ImageRef, LayerOrigin, PutImageError, Store, StoreError,
    config::History,
    layer::{LayerTarOptions, write_layer_tar},
    manifest::Platform,
};

/// Name of the image, without the tag.
const NAME: &str = "dockwright-helper";
/// Where the program is in the image.
const BINARY: &str = "usr/bin/dockwright";

/// Returns the name under which every engine has the image of this program. It is in no list.
pub fn helper_image_name() -> String {
    format!("{NAME}:{}", env!("CARGO_PKG_VERSION"))
}

/// Failure to make the helper image.
#[derive(Debug, thiserror::Error)]
pub enum HelperImageError {
    #[error("copy the program")]
    Copy(#[source] io::Error),
    #[error("keep the layer")]
    Apply(#[from] ApplyLayerError),
    #[error("keep the image")]
    Put(#[from] PutImageError),
    #[error("name the image")]
    Name(#[from] StoreError),
}

/// Makes the image unless the store has the one of this very program. Returns its name and id.
pub(super) fn make(store: &Store, binary: &Path) -> Result<(String, ImageId), HelperImageError> {
    let name = helper_image_name();
    // This name says from which file the image was made, so that a rebuilt program gets a new image.
    let stamp = stamp(binary).map_err(HelperImageError::Copy)?;
    let made_from: ImageRef = format!("{name}-{stamp}").parse().expect("the name is well formed");
    if let Some(image) = store.resolve_name(&made_from)? {
        return Ok((name, image));
    }
    let layer = make_layer(store, binary)?;
    let image = store.put_image(&config(layer).encode())?;
    store.set_name(&made_from, &image)?;
    forget_older(store, &made_from)?;
    Ok((name, image))
}

/// Tells one state of a file from another without reading it.
fn stamp(binary: &Path) -> io::Result<String> {
    let metadata = fs::metadata(binary)?;
    Ok(format!("{:x}-{:x}-{:x}", metadata.len(), metadata.mtime(), metadata.ino()))
}

fn make_layer(store: &Store, binary: &Path) -> Result<DiffId, HelperImageError> {
    let root = tempfile::tempdir_in(store.dir()).map_err(HelperImageError::Copy)?;
    let tree = copy_program(binary, root.path()).map_err(HelperImageError::Copy)?;
    let (reader, mut writer) = io::pipe().map_err(HelperImageError::Copy)?;
    let write = move || {
        // Fixed times: the same program gives the same layer. A failure closes the pipe early, and the reader finds no valid archive.
        let options = LayerTarOptions { newest_mtime_secs: Some(0), ..LayerTarOptions::default() };
        if let Err(error) = write_layer_tar(tree.as_fd(), &options, &mut writer) {
            tracing::error!(%error, "write the helper image's layer");
        }
    };
    std::thread::Builder::new().name("helper-layer".to_owned()).spawn(write).map_err(HelperImageError::Copy)?;
    Ok(store.apply_layer(reader, LayerOrigin::Own)?.diff_id)
}

fn copy_program(binary: &Path, root: &Path) -> io::Result<File> {
    fs::set_permissions(root, Permissions::from_mode(0o755))?;
    for (directory, mode) in [("usr", 0o755), ("usr/bin", 0o755), ("tmp", 0o1777)] {
        fs::create_dir(root.join(directory))?;
        fs::set_permissions(root.join(directory), Permissions::from_mode(mode))?;
    }
    fs::copy(binary, root.join(BINARY))?;
    fs::set_permissions(root.join(BINARY), Permissions::from_mode(0o755))?;
    File::open(root)
}

/// Lets the images of earlier programs be collected.
fn forget_older(store: &Store, current: &ImageRef) -> Result<(), StoreError> {
    for (name, _) in store.list_names()? {
        if name.name() == current.name() && name != *current {
            store.remove_name(&name)?;
        }
    }
    Ok(())
}

fn config(layer: DiffId) -> ImageConfig {
    let host = Platform::host();
    let mut config = ImageConfig {
        os: host.os,
        architecture: host.architecture,
        history: vec![History { created_by: Some("dockwright".to_owned()), ..History::default() }],
        ..ImageConfig::default()
    };
    config.config.env = vec!["PATH=/usr/bin:/bin".to_owned()];
    config.config.entrypoint = Some(vec![format!("/{BINARY}")]);
    config.rootfs.diff_ids.push(layer);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_made_once_per_program() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&dir.path().join("store")).expect("a store");
        let program = dir.path().join("program");
        fs::write(&program, "one").expect("a program");
        let (name, first) = make(&store, &program).expect("an image");
        assert_eq!(name, format!("dockwright-helper:{}", env!("CARGO_PKG_VERSION")));
        assert_eq!(make(&store, &program).expect("the same image").1, first);

        fs::write(&program, "another").expect("a program");
        let (_, second) = make(&store, &program).expect("another image");
        assert_ne!(first, second);
        assert_eq!(store.list_names().expect("names").len(), 1);
        let image = store.image(&second).expect("the store").expect("the image");
        let layer = store.layer_dir(&image.layers[0]).expect("the store").expect("the layer");
        assert_eq!(fs::read(layer.join(BINARY)).expect("the program"), b"another");
    }
}
