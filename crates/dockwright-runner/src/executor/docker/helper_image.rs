//! The helper image: this program and nothing else.
//!
//! An engine that is the job's own may bring it along, as `dockwright-helper:<version>`. Else it is made here and put on the engine
//! through `POST /images/load`; nothing comes from a registry. Where the engine has the program in its own file system, the image
//! that is loaded is empty and the program is bound into the container.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _},
    path::Path,
    time::UNIX_EPOCH,
};

use bollard::{Docker, errors::Error, query_parameters::ImportImageOptions};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio_util::io::ReaderStream;

use crate::executor::ExecuteError;

/// Where the program is in the container.
pub(super) const PROGRAM: &str = "/usr/bin/dockwright";
const REPOSITORY: &str = "dockwright-helper";

/// Returns the name of the image that the engine itself brings along.
pub(super) async fn find_own(docker: &Docker) -> Result<Option<String>, ExecuteError> {
    let name = format!("{REPOSITORY}:{}", env!("CARGO_PKG_VERSION"));
    Ok(is_there(docker, &name).await?.then_some(name))
}

async fn is_there(docker: &Docker, name: &str) -> Result<bool, ExecuteError> {
    match docker.inspect_image(name).await {
        Ok(_) => Ok(true),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
        Err(error) => Err(ExecuteError::engine("look for the helper image")(error)),
    }
}

/// Makes sure that the image is there and returns its name. Without a binary the image is empty.
pub(super) async fn ensure(docker: &Docker, binary: Option<&Path>) -> Result<String, ExecuteError> {
    let name = image_name(binary)?;
    if is_there(docker, &name).await? {
        return Ok(name);
    }
    let (tag, path) = (name.clone(), binary.map(Path::to_owned));
    let archive = tokio::task::spawn_blocking(move || build_archive(&tag, path.as_deref()))
        .await
        .map_err(|error| ExecuteError::Helper { reason: error.to_string() })?
        .map_err(ExecuteError::file("build the helper image from", binary.unwrap_or(Path::new("nothing"))))?;
    let body = ReaderStream::with_capacity(tokio::fs::File::from_std(archive), 256 * 1024);
    let body = bollard::body_try_stream(body.chain(stream::empty::<io::Result<Bytes>>()));
    let mut progress = docker.import_image(ImportImageOptions::default(), body, None).boxed();
    while let Some(step) = progress.next().await {
        step.map_err(ExecuteError::engine("load the helper image"))?;
    }
    Ok(name)
}

/// The tag changes with the program, so that an engine that outlives it is never left with an old one.
fn image_name(binary: Option<&Path>) -> Result<String, ExecuteError> {
    let version = env!("CARGO_PKG_VERSION");
    let Some(binary) = binary else { return Ok(format!("{REPOSITORY}:{version}-bound")) };
    let metadata = fs::metadata(binary).map_err(ExecuteError::file("find the program", binary))?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let fingerprint = crc32fast::hash(format!("{}-{}", metadata.len(), modified.as_nanos()).as_bytes());
    Ok(format!("{REPOSITORY}:{version}-{fingerprint:08x}"))
}

/// Writes a `docker save` archive of one layer into an unnamed file.
fn build_archive(tag: &str, binary: Option<&Path>) -> io::Result<File> {
    let mut layer = build_layer(binary)?;
    let diff_id = sha256(&mut layer)?;
    let config = serde_json::json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "Entrypoint": [PROGRAM, "internal", "helper"], "Env": ["PATH=/usr/bin"], "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "dockwright" }],
    })
    .to_string();
    let config_name = format!("{}.json", hex::encode(Sha256::digest(config.as_bytes())));
    let layer_name = format!("{diff_id}/layer.tar");
    let manifest = serde_json::json!([{ "Config": config_name, "RepoTags": [tag], "Layers": [layer_name] }]).to_string();

    let mut archive = tar::Builder::new(tempfile::tempfile()?);
    archive.append_data(&mut header(config.len() as u64, 0o644), &config_name, config.as_bytes())?;
    let length = layer.seek(io::SeekFrom::End(0))?;
    layer.rewind()?;
    archive.append_data(&mut header(length, 0o644), &layer_name, &layer)?;
    archive.append_data(&mut header(manifest.len() as u64, 0o644), "manifest.json", manifest.as_bytes())?;
    let mut file = archive.into_inner()?;
    file.rewind()?;
    Ok(file)
}

fn build_layer(binary: Option<&Path>) -> io::Result<File> {
    let mut layer = tar::Builder::new(tempfile::tempfile()?);
    for directory in ["usr/", "usr/bin/"] {
        let mut header = header(0, 0o755);
        header.set_entry_type(tar::EntryType::Directory);
        layer.append_data(&mut header, directory, io::empty())?;
    }
    let (length, program): (u64, Box<dyn io::Read>) = match binary {
        Some(path) => {
            let file = File::open(path)?;
            (file.metadata()?.len(), Box::new(file))
        }
        // The bind's target.
        None => (0, Box::new(io::empty())),
    };
    layer.append_data(&mut header(length, 0o755), "usr/bin/dockwright", program)?;
    let mut file = layer.into_inner()?;
    file.rewind()?;
    Ok(file)
}

fn header(length: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn sha256(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..length]);
    }
}

/// Docker's word for this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
