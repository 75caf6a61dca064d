//! `image`, `engine`, `registry`: the commands about containers and what they are made from.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    #[command(visible_alias = "list")]
    Ls(ImageListArgs),
    Import(ImageImportArgs),
    Pull(ImagePullArgs),
    #[command(visible_alias = "remove")]
    Rm(ImageRemoveArgs),
}

/// List the images
#[derive(Debug, Args)]
pub(crate) struct ImageListArgs {
    /// Print the images as one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    /// Print only the image ids
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// Make an image from a file
///
/// Takes what `docker save` wrote, an OCI layout (a directory or a tar of one), or a tar of a root file system, which needs NAME.
/// Compressed files are recognised. Without NAME, an archive keeps the names written in it.
#[derive(Debug, Args)]
#[command(allow_missing_positional = true)]
#[command(after_help = "Examples:\n  \
    dockwright image import saved.tar\n  \
    debootstrap --variant=minbase bookworm root && tar -C root -c . | dockwright image import debian:12 -\n  \
    dockwright image import --change 'CMD [\"/bin/tool\"]' --change 'ENV LANG=C.UTF-8' tool:1 rootfs.tar.gz")]
pub(crate) struct ImageImportArgs {
    /// Name of the image, as in `busybox:1.36`
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The file or directory; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) source: PathBuf,
    /// Apply a Dockerfile instruction to a root file system: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub(crate) changes: Vec<String>,
}

/// Pull an image from a registry
///
/// Credentials are those of `docker login` (`$DOCKER_CONFIG/config.json`).
#[derive(Debug, Args)]
pub(crate) struct ImagePullArgs {
    /// As in `debian:12`, `registry.example.com/group/tool@sha256:…`
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Print only the digests
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Remove images
///
/// Takes away names; what no name and no running engine needs any more is freed.
#[derive(Debug, Args)]
pub(crate) struct ImageRemoveArgs {
    /// Names or ids
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EngineCommand {
    Serve(EngineServeArgs),
}

/// Serve the Docker API until stopped
///
/// A Docker daemon that needs neither root nor installation. When it answers, it prints `DOCKER_HOST=…` (and, with TLS,
/// `DOCKER_TLS_VERIFY=1` and `DOCKER_CERT_PATH=…`) to standard output, ready for `export`. Containers end with it; images stay.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    dockwright engine serve                               On a socket of your own\n  \
    dockwright engine serve --share \"$PWD\"                Containers may mount this directory\n  \
    dockwright engine serve --tcp 127.0.0.1:2376 --tls ~/.dockwright-certs\n                                                        \
    With certificates, made when missing\n  \
    dockwright engine serve --tcp 0.0.0.0:2375 --share /builds\n                                                        \
    In place of the docker:dind service")]
pub(crate) struct EngineServeArgs {
    /// Path of the Unix socket [default: docker.sock in the runtime directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Also listen on this address; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) tcp: Option<String>,
    /// Serve TCP with TLS and require client certificates. Keys and certificates are made below DIR as `docker:dind` makes them:
    /// ca/, server/, client/
    #[arg(long, value_name = "DIR", requires = "tcp")]
    pub(crate) tls: Option<PathBuf>,
    /// A further name or address in the server certificate
    #[arg(long = "tls-san", value_name = "NAME", requires = "tls")]
    pub(crate) tls_names: Vec<String>,
    /// Let containers mount this directory of the machine, at the same path
    #[arg(long = "share", value_name = "PATH")]
    pub(crate) shares: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    Serve(RegistryServeArgs),
}

/// Serve an image registry until stopped
///
/// What is pushed is kept in the store that the engines use, so that a push from one of them copies nothing. When it answers, it prints
/// `REGISTRY=host:port` to standard output.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    dockwright registry serve                              For this machine, without a password\n  \
    printf %s \"$PASSWORD\" > pw; dockwright registry serve --listen 0.0.0.0:5000 --user ci --password-file pw")]
pub(crate) struct RegistryServeArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    pub(crate) listen: String,
    /// Ask for this user name; needs --password-file
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(crate) user: Option<String>,
    /// File that holds the password; a line end after it does not count
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
}
