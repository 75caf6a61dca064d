//! `runner install`, `uninstall`, `start`, `stop`, `restart` and `status`: the runner as a service of systemd.

mod unit;

use std::{
    fs, io,
    os::unix::fs::lchown,
    path::{Path, PathBuf},
    process::Command,
};

use dockwright_runner::config::{ConfigStore, SKELETON, system_id};

use super::config_file::RunnerConfigFile;
use crate::{
    cli::{ConfigFileArg, InstallArgs, ServiceArg},
    environment,
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    paths::absolute,
    report::Streams,
};
pub(in crate::command) use unit::Unit;

const SYSTEM_UNITS: &str = "/etc/systemd/system";
const USER_UNITS: &str = ".config/systemd/user";

pub(super) fn install(arguments: &InstallArgs) -> Result<ExitCode, CommandError> {
    let is_user_service = is_user_service(&arguments.service)?;
    let root = arguments.root.as_deref().map(absolute);
    let account = account(arguments, root.as_deref())?;
    if account.is_none() && !is_user_service {
        return Err(CommandError::usage("Please run the service as a user: root must say which")
            .hint("--user=gitlab-runner runs it and its jobs as that user"));
    }
    let config = config_path(arguments, account.as_ref());
    let unit = Unit {
        program: std::env::current_exe().explain(ErrorKind::Environment, || "find this program".to_owned())?,
        config: config.clone(),
        working_directory: absolute(arguments.working_directory.as_deref().unwrap_or(Path::new("."))),
        name: arguments.service.name.clone(),
        user: account.as_ref().map(|account| account.name.clone()).filter(|_| !is_user_service),
    };
    let below = |path: &Path| root.as_ref().map_or_else(|| path.to_owned(), |root| root.join(path.strip_prefix("/").unwrap_or(path)));
    make_config(&below(&config), account.as_ref())?;
    let path = below(&unit_path(&arguments.service)?);
    write(&path, &unit.text()).explain(ErrorKind::Environment, || format!("write the unit `{}`", path.display()))?;
    tracing::info!(unit = %path.display(), "Service installed");
    if root.is_none() {
        systemctl(&arguments.service, &["daemon-reload"])?;
        systemctl(&arguments.service, &["enable", &arguments.service.name])?;
    }
    Ok(ExitCode::Success)
}

pub(super) fn uninstall(service: &ServiceArg) -> Result<ExitCode, CommandError> {
    let path = unit_path(service)?;
    systemctl(service, &["disable", "--now", &service.name])?;
    fs::remove_file(&path).explain(ErrorKind::Environment, || format!("remove the unit `{}`", path.display()))?;
    systemctl(service, &["daemon-reload"])?;
    Ok(ExitCode::Success)
}

/// `start`, `stop`, `restart`.
pub(super) fn control(service: &ServiceArg, action: &str) -> Result<ExitCode, CommandError> {
    systemctl(service, &[action, &service.name])?;
    Ok(ExitCode::Success)
}

pub(super) fn status(service: &ServiceArg, streams: Streams) -> Result<ExitCode, CommandError> {
    let is_active = command(service, &["is-active", "--quiet", &service.name])?.status();
    if is_active.explain(ErrorKind::Environment, || "run `systemctl`".to_owned())?.success() {
        streams.data(format!("{}: Service is running", service.name));
        return Ok(ExitCode::Success);
    }
    streams.say(format!("{}: Service has stopped", service.name));
    Ok(ExitCode::JobFailed)
}

/// A user of the machine.
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: PathBuf,
}

/// Returns the user whose service it is to be, if one was named.
fn account(arguments: &InstallArgs, root: Option<&Path>) -> Result<Option<Account>, CommandError> {
    let Some(name) = arguments.user.as_ref().or(arguments.init_user.as_ref()) else { return Ok(None) };
    let passwd = root.unwrap_or(Path::new("/")).join("etc/passwd");
    let text = fs::read_to_string(&passwd).explain(ErrorKind::Environment, || format!("read `{}`", passwd.display()))?;
    let account = text.lines().filter_map(parse_account).find(|account| account.name == *name);
    let missing = || CommandError::usage(format!("there is no user `{name}`")).hint(format!("make it with `useradd --create-home {name}`"));
    account.ok_or_else(missing).map(Some)
}

fn parse_account(line: &str) -> Option<Account> {
    let [name, _, uid, gid, _, home, ..] = line.split(':').collect::<Vec<_>>()[..] else { return None };
    Some(Account { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.into() })
}

fn config_path(arguments: &InstallArgs, account: Option<&Account>) -> PathBuf {
    match (&arguments.config.path, account, &arguments.init_user) {
        (None, Some(account), Some(_)) => account.home.join("config.toml"),
        _ => RunnerConfigFile::decide(&ConfigFileArg { path: arguments.config.path.clone() }).path().to_owned(),
    }
}

/// Makes the configuration when there is none, and gives it to the user who is to read and change it.
/// Links are not followed: that user, who owns the directory from an earlier time, could have put one there.
fn make_config(path: &Path, account: Option<&Account>) -> Result<(), CommandError> {
    let store = ConfigStore::new(path);
    let failed = |error| CommandError::new(ErrorKind::Environment, error);
    let locked = store.lock().map_err(failed)?;
    if locked.read().map_err(failed)?.is_none() {
        locked.write(SKELETON).map_err(failed)?;
    }
    drop(locked);
    let Some(account) = account else { return Ok(()) };
    for path in [store.directory().to_owned(), path.to_owned(), store.directory().join(system_id::FILE_NAME)] {
        match lchown(&path, Some(account.uid), Some(account.gid)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).explain(ErrorKind::Environment, || format!("give `{}` to `{}`", path.display(), account.name));
            }
            _ => {}
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, text)
}

/// Tells whether it is the user's own service manager that is asked.
fn is_user_service(service: &ServiceArg) -> Result<bool, CommandError> {
    match (service.user_service == Some(true), rustix::process::geteuid().is_root()) {
        (true, true) => Err(CommandError::usage("--user-service is for users other than root")),
        (is_user_service, _) => Ok(is_user_service),
    }
}

fn unit_path(service: &ServiceArg) -> Result<PathBuf, CommandError> {
    if service.name.is_empty() || service.name.contains('/') {
        return Err(CommandError::usage(format!("`{}` is no name of a service", service.name)));
    }
    let file = format!("{}.service", service.name);
    if !is_user_service(service)? {
        return Ok(Path::new(SYSTEM_UNITS).join(file));
    }
    let home = environment::absolute_path("HOME").ok_or_else(|| CommandError::usage("HOME is not set"))?;
    Ok(home.join(USER_UNITS).join(file))
}

fn command(service: &ServiceArg, arguments: &[&str]) -> Result<Command, CommandError> {
    let mut command = Command::new("systemctl");
    command.args(is_user_service(service)?.then_some("--user")).args(arguments);
    Ok(command)
}

fn systemctl(service: &ServiceArg, arguments: &[&str]) -> Result<(), CommandError> {
    let shown = format!("systemctl {}", arguments.join(" "));
    let status = command(service, arguments)?.status().explain(ErrorKind::Environment, || format!("run `{shown}`"))?;
    match status.success() {
        true => Ok(()),
        false => Err(CommandError::environment(format!("`{shown}` failed"))),
    }
}
