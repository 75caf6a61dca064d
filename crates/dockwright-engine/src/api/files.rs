//! Files of containers: `HEAD`, `GET` and `PUT /containers/{id}/archive`, which `docker cp` uses.

mod pack;
mod unpack;

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::Engine as _;
use http::{HeaderValue, StatusCode};
use rustix::fs::{FileType, OFlags, Stat, fstat};
use serde_json::json;

use self::unpack::{UnpackError, Unpacking};
use crate::{
    Engine,
    api::{
        Request, Response,
        router::{Route, route},
        stream::{self, BlockingWriter},
    },
    body::BlockingBody,
    container::Container,
    error::{Context as _, EngineError, Result},
    event::EventType,
    tree,
};

pub(super) const ROUTES: &[Route] = &[
    route!(HEAD "/containers/{id}/archive" => head),
    route!(GET "/containers/{id}/archive" => get),
    route!(PUT "/containers/{id}/archive" => put),
];

fn wanted(request: &Request) -> Result<(Arc<Container>, String)> {
    let container = request.engine.containers().find(request.param("id"))?;
    let path = request.query.non_empty("path").ok_or_else(|| EngineError::invalid("missing parameter: 'path'"))?;
    Ok((container, path.to_owned()))
}

fn missing(container: &Container, path: &str, error: &io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            EngineError::not_found(format!("Could not find the file {path} in container {}", container.name()))
        }
        _ => EngineError::internal(format_args!("open {path}"), error),
    }
}

/// What is at a path of a container; a link at its end is not followed.
struct Found {
    /// The directory it is in; itself for the root.
    directory: OwnedFd,
    /// Its name there; `.` for the root.
    name: std::ffi::CString,
    stat: Stat,
    /// Where it points, if it is a link.
    link: Option<String>,
}

fn find(engine: &Engine, container: &Container, path: &str) -> Result<Found> {
    let (root, rest) = engine.locate(container, Path::new(path))?;
    let search = || -> io::Result<Found> {
        let (Some(parent), Some(name)) = (rest.parent(), rest.file_name()) else {
            let directory = tree::open(&root, Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
            let stat = fstat(&directory)?;
            return Ok(Found { directory, name: c".".to_owned(), stat, link: None });
        };
        let directory = tree::open(&root, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        let name = tree::c_name(name)?;
        let stat = tree::stat_entry(&directory, &name)?;
        let mut found = Found { directory, name, stat, link: None };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            found.link = Some(tree::link_target(&found.directory, &found.name)?.to_string_lossy().into_owned());
        }
        // `dir/` and `dir/.` name what a link points to.
        if found.link.is_some() && (path.ends_with('/') || path.ends_with("/.")) {
            let target = tree::open(&root, &rest, OFlags::PATH | OFlags::DIRECTORY)?;
            let stat = fstat(&target)?;
            return Ok(Found { directory: target, name: c".".to_owned(), stat, link: None });
        }
        Ok(found)
    };
    search().map_err(|error| missing(container, path, &error))
}

/// Renders the `X-Docker-Container-Path-Stat` header.
fn stat_header(path: &str, found: &Found) -> HeaderValue {
    let modified = jiff::Timestamp::new(found.stat.st_mtime, 0).unwrap_or_default();
    let name = Path::new(path).file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned());
    let stat = json!({
        "name": name,
        "size": found.stat.st_size,
        "mode": go_mode(found.stat.st_mode),
        "mtime": crate::time::nanoseconds(modified),
        "linkTarget": found.link.clone().unwrap_or_default(),
    });
    let encoded = base64::engine::general_purpose::STANDARD.encode(stat.to_string());
    HeaderValue::from_str(&encoded).expect("base64 is ASCII")
}

/// Returns a file's mode in the bits of Go's `FileMode`.
fn go_mode(mode: u32) -> u32 {
    const DIR: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const DEVICE: u32 = 1 << 26;
    const NAMED_PIPE: u32 = 1 << 25;
    const SOCKET: u32 = 1 << 24;
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    const CHAR_DEVICE: u32 = 1 << 21;
    const STICKY: u32 = 1 << 20;
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => DIR,
        FileType::Symlink => SYMLINK,
        FileType::BlockDevice => DEVICE,
        FileType::CharacterDevice => DEVICE | CHAR_DEVICE,
        FileType::Fifo => NAMED_PIPE,
        FileType::Socket => SOCKET,
        _ => 0,
    };
    let bit = |from: u32, to: u32| if mode & from != 0 { to } else { 0 };
    kind | bit(0o4000, SETUID) | bit(0o2000, SETGID) | bit(0o1000, STICKY) | (mode & 0o777)
}

async fn head(request: Request) -> Result<Response> {
    let (container, path) = wanted(&request)?;
    let engine = request.engine.clone();
    let found = tokio::task::spawn_blocking(move || find(&engine, &container, &path).map(|found| stat_header(&path, &found))).await;
    let mut response = stream::empty(StatusCode::OK);
    response.headers_mut().insert("X-Docker-Container-Path-Stat", found.context("look for a file")??);
    Ok(response)
}

async fn get(request: Request) -> Result<Response> {
    let (container, path) = wanted(&request)?;
    let engine = request.engine.clone();
    let (looked_in, looked_for) = (Arc::clone(&container), path.clone());
    let found = tokio::task::spawn_blocking(move || find(&engine, &looked_in, &looked_for)).await.context("look for a file")??;
    let stat = stat_header(&path, &found);
    let (sender, mut response) = stream::channel("application/x-tar");
    response.headers_mut().insert("X-Docker-Container-Path-Stat", stat);
    request.engine.events().emit(EventType::Container, "archive-path", &container.id, container.event_attributes());
    // What the client sees as the top of the archive; the contents of a directory are asked for with `dir/.`.
    let top = if path.ends_with("/.") {
        PathBuf::from(".")
    } else {
        Path::new(&path).file_name().map_or_else(|| PathBuf::from("/"), PathBuf::from)
    };
    tokio::task::spawn_blocking(move || {
        let writer = BlockingWriter::new(sender.clone());
        if let Err(error) = pack::pack(found.directory.as_fd(), &found.name, &top, writer) {
            sender.blocking_fail(error);
        }
    });
    Ok(response)
}

async fn put(request: Request) -> Result<Response> {
    let (container, path) = wanted(&request)?;
    let engine = request.engine.clone();
    let options = Unpacking {
        keep_kinds: request.query.bool("noOverwriteDirNonDir"),
        ids: if request.query.bool("copyUIDGID") { unpack::Ids::OfArchive } else { unpack::Ids::Root },
    };
    let (looked_in, looked_for) = (Arc::clone(&container), path.clone());
    let directory =
        tokio::task::spawn_blocking(move || open_target(&engine, &looked_in, &looked_for)).await.context("look for a directory")??;
    let engine = request.engine.clone();
    let body = BlockingBody::new(request.into_body());
    let unpacked = tokio::task::spawn_blocking(move || unpack::unpack(&directory, decompressed(body)?, &options)).await;
    unpacked.context("unpack an archive")?.map_err(|error| match &error {
        UnpackError::KindDiffers { .. } | UnpackError::Archive(_) | UnpackError::Name { .. } => {
            EngineError::invalid(crate::error::chain(&error))
        }
        UnpackError::Write { .. } => EngineError::internal("unpack an archive", &error),
    })?;
    engine.events().emit(EventType::Container, "extract-to-dir", &container.id, container.event_attributes());
    Ok(stream::empty(StatusCode::OK))
}

/// Opens the directory that an archive is unpacked in.
fn open_target(engine: &Engine, container: &Container, path: &str) -> Result<OwnedFd> {
    let (root, rest) = engine.locate(container, Path::new(path))?;
    let directory = tree::open(&root, &rest, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => EngineError::invalid("extraction point is not a directory"),
        _ => missing(container, path, &error),
    })?;
    if container.host.read_only_rootfs && !container.mounts.iter().any(|mount| Path::new(path).starts_with(&mount.target)) {
        return Err(EngineError::forbidden("container rootfs is marked read-only"));
    }
    if tree::is_read_only(&directory) || container.mounts.iter().any(|mount| mount.read_only && Path::new(path).starts_with(&mount.target))
    {
        return Err(EngineError::forbidden("mounted volume is marked read-only"));
    }
    Ok(directory)
}

/// Undoes gzip, which is recognised by its first bytes; other compressions are refused by the tar reader.
fn decompressed(mut reader: BlockingBody) -> Result<Box<dyn io::Read>, UnpackError> {
    use io::Read as _;
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let mut first = Vec::new();
    reader.by_ref().take(2).read_to_end(&mut first).map_err(UnpackError::Archive)?;
    let is_gzip = first == GZIP;
    let whole = io::Cursor::new(first).chain(reader);
    Ok(if is_gzip { Box::new(flate2::read::MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_go() {
        assert_eq!(go_mode(0o040_755), (1 << 31) | 0o755);
        assert_eq!(go_mode(0o120_777), (1 << 27) | 0o777);
        assert_eq!(go_mode(0o104_755), (1 << 23) | 0o755);
    }
}
