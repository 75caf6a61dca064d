//! `runner`: the commands of GitLab Runner, with its flags, variables and meanings.

mod options;
mod service;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use options::RunnerOptionArgs;
pub(crate) use service::{HealthCheckArgs, InstallArgs, RunSingleArgs, ServiceArg};

/// `dockwright` called as `gitlab-runner`.
///
/// Takes jobs from GitLab and runs them in a shell or in containers, each with a Docker engine of its own.
#[derive(Debug, Parser)]
#[command(name = "gitlab-runner", disable_version_flag = true, disable_help_subcommand = true, max_term_width = 110)]
pub(crate) struct GitlabRunner {
    #[command(flatten)]
    pub(crate) runner: RunnerArgs,
}

/// Take jobs from GitLab: a drop-in GitLab Runner
///
/// The same commands, flags, environment variables and config.toml; a link called `gitlab-runner` to this program behaves as
/// `dockwright runner`.
#[derive(Debug, Args)]
pub(crate) struct RunnerArgs {
    #[command(flatten)]
    pub(crate) log: RunnerLogArgs,
    #[command(subcommand)]
    pub(crate) command: RunnerCommand,
}

/// What to log, and how.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RunnerLogArgs {
    /// Log also what helps to find a fault
    #[arg(long, global = true, env = "RUNNER_DEBUG", hide_env_values = true, value_name = "BOOL", help_heading = "Log options",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) debug: Option<bool>,
    /// Log what is at least so important; wins over config.toml
    #[arg(
        short = 'l',
        long,
        global = true,
        env = "LOG_LEVEL",
        hide_env_values = true,
        value_enum,
        value_name = "LEVEL",
        help_heading = "Log options"
    )]
    pub(crate) log_level: Option<LogLevel>,
    /// Form of the log; wins over config.toml
    #[arg(
        long,
        global = true,
        env = "LOG_FORMAT",
        hide_env_values = true,
        value_enum,
        value_name = "FORMAT",
        help_heading = "Log options"
    )]
    pub(crate) log_format: Option<LogFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogLevel {
    Debug,
    #[default]
    Info,
    #[value(alias = "warning")]
    Warn,
    #[value(alias = "fatal", alias = "panic")]
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// A message and its fields in columns
    #[default]
    Runner,
    /// `key=value`
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunnerCommand {
    Register(Box<RegisterArgs>),
    Verify(VerifyArgs),
    Unregister(UnregisterArgs),
    ResetToken(ResetTokenArgs),
    List(RunnerListArgs),
    Lint(RunnerLintArgs),
    Run(RunnerRunArgs),
    RunSingle(Box<RunSingleArgs>),
    Install(InstallArgs),
    /// Remove the service of systemd
    Uninstall(ServiceArg),
    /// Start the service
    Start(ServiceArg),
    /// Stop the service
    Stop(ServiceArg),
    /// Stop and start the service
    Restart(ServiceArg),
    /// Say whether the service runs
    Status(ServiceArg),
    HealthCheck(HealthCheckArgs),
}

/// Where the configuration is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigFileArg {
    /// Configuration file; without it /etc/gitlab-runner/config.toml for root, ~/.gitlab-runner/config.toml for others
    #[arg(id = "config", short = 'c', long = "config", env = "CONFIG_FILE", hide_env_values = true, value_name = "FILE")]
    pub(crate) path: Option<PathBuf>,
}

/// Register a runner with GitLab and write it to config.toml
///
/// With a token that begins with `glrt-` the runner was made in GitLab, which owns its tags and limits; with a registration token it is
/// made now. Without --non-interactive, what is missing is asked for.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
#[command(after_help = "Examples:\n  \
    dockwright runner register -n --url https://gitlab.com/ --token glrt-… --executor shell\n  \
    dockwright runner register -n --url https://gitlab.com/ --token glrt-… --executor docker --docker-image alpine")]
pub(crate) struct RegisterArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFileArg,
    /// A config.toml with one `[[runners]]`, whose values are taken where no flag gives one
    #[arg(long, env = "TEMPLATE_CONFIG_FILE", hide_env_values = true, value_name = "FILE")]
    pub(crate) template_config: Option<PathBuf>,
    /// Ask nothing
    #[arg(short, long, env = "REGISTER_NON_INTERACTIVE", hide_env_values = true, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) non_interactive: Option<bool>,
    /// Keep the runner in GitLab when writing its configuration fails
    #[arg(long, env = "REGISTER_LEAVE_RUNNER", hide_env_values = true, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) leave_runner: Option<bool>,
    /// Token to register new runners with; GitLab has replaced it by --token
    #[arg(short, long, env = "REGISTRATION_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) registration_token: Option<String>,
    /// Tags, separated by commas; with a registration token only
    #[arg(long, env = "RUNNER_TAG_LIST", hide_env_values = true, value_name = "TAGS")]
    pub(crate) tag_list: Option<String>,
    /// Also take jobs without tags; with a registration token only
    #[arg(long, env = "REGISTER_RUN_UNTAGGED", hide_env_values = true, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) run_untagged: Option<bool>,
    /// Keep the runner to its project, which is the default; with a registration token only
    #[arg(long, env = "REGISTER_LOCKED", hide_env_values = true, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) locked: Option<bool>,
    /// `not_protected` or `ref_protected`; with a registration token only
    #[arg(long, env = "REGISTER_ACCESS_LEVEL", hide_env_values = true, value_name = "LEVEL")]
    pub(crate) access_level: Option<String>,
    /// Seconds that a job may take at most; with a registration token only
    #[arg(long, env = "REGISTER_MAXIMUM_TIMEOUT", hide_env_values = true, value_name = "SECONDS")]
    pub(crate) maximum_timeout: Option<i64>,
    /// Take no jobs until GitLab says so; with a registration token only
    #[arg(long, env = "REGISTER_PAUSED", hide_env_values = true, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) paused: Option<bool>,
    /// A note for those who maintain the runner; with a registration token only
    #[arg(long, env = "REGISTER_MAINTENANCE_NOTE", hide_env_values = true, value_name = "TEXT")]
    pub(crate) maintenance_note: Option<String>,
    #[command(flatten)]
    pub(crate) options: RunnerOptionArgs,
}

/// Ask GitLab whether the runners of config.toml are valid
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFileArg,
    /// Only the runner of this name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Only runners of this GitLab
    #[arg(short, long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Only the runner with this token
    #[arg(short, long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Remove runners that GitLab no longer knows from config.toml
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = go_bool)]
    pub(crate) delete: Option<bool>,
}

/// Remove runners from GitLab and from config.toml
#[derive(Debug, Args)]
pub(crate) struct UnregisterArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFileArg,
    /// The runner of this name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Every runner of config.toml
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = go_bool)]
    pub(crate) all_runners: Option<bool>,
    /// The GitLab of --token
    #[arg(short, long, env = "CI_SERVER_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The runner with this token
    #[arg(short, long, env = "CI_SERVER_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
}

/// Replace tokens of runners by new ones
#[derive(Debug, Args)]
pub(crate) struct ResetTokenArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFileArg,
    /// The runner of this name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Only runners of this GitLab
    #[arg(short, long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The runner of this number at its GitLab
    #[arg(short, long, value_name = "ID")]
    pub(crate) id: Option<i64>,
    /// Every runner of config.toml
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = go_bool)]
    pub(crate) all_runners: Option<bool>,
    /// A personal access token, instead of the runner's present one
    #[arg(long, value_name = "TOKEN")]
    pub(crate) pat: Option<String>,
}

/// List the runners of config.toml
#[derive(Debug, Args)]
pub(crate) struct RunnerListArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFileArg,
}

/// Check config.toml, and name the keys that have no effect in this version
#[derive(Debug, Args)]
pub(crate) struct RunnerLintArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFileArg,
}

/// Take jobs for all runners of config.toml and run them
///
/// SIGQUIT ends it when the jobs at work are done, SIGTERM and SIGINT end them too, SIGHUP reads config.toml again; a changed file is also
/// noticed. A new configuration that is not valid changes nothing. Jobs in the shell run as the user who runs this command.
#[derive(Debug, Args)]
pub(crate) struct RunnerRunArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFileArg,
    /// Serve metrics here, `host:port`; wins over config.toml. Without a port it is 9252
    #[arg(long, env = "LISTEN_ADDRESS", hide_env_values = true, value_name = "ADDRESS")]
    pub(crate) listen_address: Option<String>,
    /// Name of the service, for its log
    #[arg(short = 'n', long, default_value = "gitlab-runner", value_name = "NAME")]
    pub(crate) service: String,
    /// Where builds and caches are kept when config.toml does not say
    #[arg(short = 'd', long, value_name = "DIR")]
    pub(crate) working_directory: Option<PathBuf>,
    /// The user who runs this command; another is refused, because jobs run as that user
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Accepted for old units; the log goes to standard error, which systemd keeps
    #[arg(long, env = "LOG_SYSLOG", hide_env_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL", value_parser = go_bool)]
    pub(crate) syslog: Option<bool>,
}

/// Reads a boolean as Go's flags do. An empty variable is false.
pub(crate) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("neither `true` nor `false`".to_owned()),
    }
}
