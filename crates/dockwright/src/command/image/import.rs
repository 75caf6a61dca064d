//! `dockwright image import`.

use std::{
    fs::File,
    io::{self, Read, Seek as _, Write},
    path::Path,
};

use dockwright_build::dockerfile::change;
use dockwright_store::{
    ApplyLayerError, ImageConfig, ImageId, ImageRef, LayerOrigin, PutImageError, Store, archive,
    compression::{self, DecompressError},
    config::{History, RootFs},
    manifest::Platform,
};

use crate::{
    cli::ImageImportArgs,
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    report::{Streams, print_warning},
};

pub(super) fn run(arguments: &ImageImportArgs, store: &Store, streams: Streams) -> Result<ExitCode, CommandError> {
    let name = arguments.name.as_deref().map(parse_name).transpose()?;
    let mut file = open(&arguments.source, store)?;
    let source = arguments.source.display();
    let is_archive = is_archive(&mut file).explain(ErrorKind::Environment, || format!("read `{source}` as a tar archive"))?;
    if is_archive {
        if !arguments.changes.is_empty() {
            return Err(CommandError::usage(format!("--change works on root file systems, and `{source}` is an image archive")));
        }
        return import_archive(file, name.as_ref(), store, streams, &source.to_string());
    }
    let Some(name) = name else {
        return Err(CommandError::usage(format!("`{source}` is a root file system, which has no name"))
            .hint(format!("give one: `dockwright image import NAME {source}`")));
    };
    let id = import_root(file, &arguments.changes, store, &arguments.source)?;
    set_name(store, &name, &id)?;
    streams.data(format!("imported {} {id}", name.familiar()));
    Ok(ExitCode::Success)
}

fn parse_name(text: &str) -> Result<ImageRef, CommandError> {
    text.parse().explain(ErrorKind::Usage, || format!("understand the image name `{text}`"))
}

/// Opens the source as a file that can be read twice.
fn open(source: &Path, store: &Store) -> Result<File, CommandError> {
    let reading = || format!("read `{}`", source.display());
    if source == Path::new("-") {
        return spool(io::stdin().lock(), store).explain(ErrorKind::Environment, || "read standard input".to_owned());
    }
    let mut file = File::open(source).explain(ErrorKind::Usage, reading)?;
    let kind = file.metadata().explain(ErrorKind::Environment, reading)?;
    if kind.is_dir() {
        return pack_directory(source, store).explain(ErrorKind::Environment, reading);
    }
    if kind.is_file() {
        return Ok(file);
    }
    spool(&mut file, store).explain(ErrorKind::Environment, reading)
}

fn spool(mut from: impl Read, store: &Store) -> io::Result<File> {
    let mut file = tempfile::tempfile_in(store.dir())?;
    io::copy(&mut from, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// An OCI layout may be a directory; archives are read from one stream.
fn pack_directory(directory: &Path, store: &Store) -> io::Result<File> {
    let mut archive = tar::Builder::new(tempfile::tempfile_in(store.dir())?);
    archive.append_dir_all(".", directory)?;
    let mut file = archive.into_inner()?;
    file.flush()?;
    file.rewind()?;
    Ok(file)
}

#[derive(Debug, thiserror::Error)]
enum RecogniseError {
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// Tells whether a tar holds images rather than a root file system, and rewinds it.
fn is_archive(file: &mut File) -> Result<bool, RecogniseError> {
    let mut found = false;
    let mut archive = tar::Archive::new(compression::decompress(&mut *file)?);
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path_bytes();
        let path = path.strip_prefix(b"./").unwrap_or(&path);
        if matches!(path, b"manifest.json" | b"oci-layout") {
            found = true;
            break;
        }
    }
    drop(archive);
    file.rewind()?;
    Ok(found)
}

fn import_archive(file: File, name: Option<&ImageRef>, store: &Store, streams: Streams, source: &str) -> Result<ExitCode, CommandError> {
    let images = archive::import(store, file).explain(ErrorKind::Environment, || format!("import the images of `{source}`"))?;
    match (name, images.as_slice()) {
        (None, _) => {}
        (Some(name), [image]) => {
            set_name(store, name, &image.id)?;
            streams.data(format!("imported {} {}", name.familiar(), image.id));
            return Ok(ExitCode::Success);
        }
        (Some(_), images) => {
            return Err(CommandError::usage(format!("`{source}` holds {} images, so one name does not do", images.len()))
                .hint("leave NAME away to keep the names in the archive"));
        }
    }
    for image in images {
        if image.names.is_empty() {
            print_warning(&format!("image {} has no name in the archive", image.id), Some("give one: `dockwright image import NAME FILE`"));
        }
        for name in image.names {
            set_name(store, &name, &image.id)?;
            streams.data(format!("imported {} {}", name.familiar(), image.id));
        }
    }
    Ok(ExitCode::Success)
}

#[derive(Debug, thiserror::Error)]
enum ImportRootError {
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error(transparent)]
    Apply(#[from] ApplyLayerError),
    #[error(transparent)]
    Put(#[from] PutImageError),
}

fn import_root(file: File, changes: &[String], store: &Store, source: &Path) -> Result<ImageId, CommandError> {
    let mut config = base_config(created(source));
    for text in changes {
        change::apply(&mut config.config, text).explain(ErrorKind::Usage, || format!("apply the change `{text}`"))?;
    }
    let import = || -> Result<(ImageId, Vec<String>), ImportRootError> {
        let layer = store.apply_layer(compression::decompress(file)?, LayerOrigin::Foreign)?;
        config.rootfs = RootFs { kind: "layers".to_owned(), diff_ids: vec![layer.diff_id] };
        Ok((store.put_image(&config.encode())?, layer.omitted))
    };
    let (id, omitted) = import().explain(ErrorKind::Environment, || format!("import `{}`", source.display()))?;
    if let Some(first) = omitted.first() {
        let message = format!("{} entries could not be made without privilege, `{first}` among them", omitted.len());
        print_warning(&message, Some("containers get their devices from the engine; import as root to keep them in the image"));
    }
    Ok(id)
}

/// Importing the same file again gives the same image, and so finds what was built on it in the cache.
fn created(source: &Path) -> jiff::Timestamp {
    let modified = std::fs::metadata(source).and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|time| jiff::Timestamp::try_from(time).ok()).unwrap_or_else(jiff::Timestamp::now)
}

fn base_config(created: jiff::Timestamp) -> ImageConfig {
    let created = created.to_string();
    let platform = Platform::host();
    ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        created: Some(created.clone()),
        history: vec![History { created: Some(created), comment: Some("imported by dockwright".to_owned()), ..History::default() }],
        ..ImageConfig::default()
    }
}

fn set_name(store: &Store, name: &ImageRef, id: &ImageId) -> Result<(), CommandError> {
    store.set_name(name, id).explain(ErrorKind::Environment, || format!("name the image `{}`", name.familiar()))
}
