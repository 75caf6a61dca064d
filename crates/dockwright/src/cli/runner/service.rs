//! The flags of the commands about the runner as a service.

use std::path::PathBuf;

use clap::Args;

use super::{ConfigFileArg, RunnerOptionArgs, go_bool};

/// Make the runner a service of systemd
///
/// Writes a unit that runs `runner run`, and config.toml when there is none. With --user the service, its jobs and its configuration belong
/// to that user: nothing runs as root.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFileArg,
    #[command(flatten)]
    pub(crate) service: ServiceArg,
    /// Where builds and caches are kept; without it, the directory you are in
    #[arg(short = 'd', long, value_name = "DIR")]
    pub(crate) working_directory: Option<PathBuf>,
    /// Run the service and its jobs as this user; root must say which
    #[arg(short, long, value_name = "USER", conflicts_with = "init_user")]
    pub(crate) user: Option<String>,
    /// As --user, with the configuration in the user's home directory
    #[arg(short, long, value_name = "USER")]
    pub(crate) init_user: Option<String>,
    /// Accepted for old scripts; the log goes to systemd
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = go_bool)]
    pub(crate) syslog: Option<bool>,
    /// Write below this directory as if it were `/`, and enable nothing
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

/// Which service.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServiceArg {
    /// Name of the service
    #[arg(short = 'n', long = "service", default_value = "gitlab-runner", value_name = "NAME")]
    pub(crate) name: String,
    /// A service of your own instead of the system's
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = go_bool)]
    pub(crate) user_service: Option<bool>,
}

/// Wait until a service can be reached, as helper containers do
#[derive(Debug, Args)]
pub(crate) struct HealthCheckArgs {
    /// Ports to wait for on this machine; without any, `*_TCP_ADDR` and `*_TCP_PORT` name what to wait for
    #[arg(short, long = "port", value_name = "PORT")]
    pub(crate) ports: Vec<u16>,
}

/// Take jobs for one runner, one after the other
///
/// The runner is given by flags, as for `register`, or by its name in config.toml.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct RunSingleArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFileArg,
    /// The runner of this name in config.toml
    #[arg(short, long, value_name = "NAME")]
    pub(crate) runner: Option<String>,
    /// End after so many jobs; 0 does not end
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub(crate) max_builds: u32,
    /// End when no job came for so many seconds; 0 waits for ever
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub(crate) wait_timeout: u64,
    #[command(flatten)]
    pub(crate) options: RunnerOptionArgs,
}
