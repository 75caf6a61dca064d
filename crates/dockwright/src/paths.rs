//! Where dockwright keeps its files. `ARCHITECTURE.md` has the table of what lies below the home directory.

use std::path::{Path, PathBuf};

use crate::environment;

const SYSTEM_HOME: &str = "/var/lib/dockwright";

/// The directories of one user, decided once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    /// Store, engines' scratch directories, pipelines' traces and artifacts.
    pub(crate) home: PathBuf,
    /// What can be made again: job caches.
    pub(crate) cache: PathBuf,
    /// The settings file, which need not exist.
    pub(crate) config: PathBuf,
    /// Sockets, gone after a reboot.
    pub(crate) runtime: PathBuf,
}

/// What decides the directories.
#[derive(Debug, Clone, Default)]
pub(crate) struct PathInputs {
    pub(crate) root: bool,
    pub(crate) dockwright_home: Option<PathBuf>,
    pub(crate) user_home: Option<PathBuf>,
    pub(crate) xdg_data: Option<PathBuf>,
    pub(crate) xdg_cache: Option<PathBuf>,
    pub(crate) xdg_config: Option<PathBuf>,
    pub(crate) xdg_runtime: Option<PathBuf>,
}

impl PathInputs {
    /// Reads them from the process's surroundings.
    pub(crate) fn from_environment() -> Self {
        Self {
            root: rustix::process::geteuid().is_root(),
            dockwright_home: environment::read(environment::HOME).map(|home| absolute(Path::new(&home))),
            user_home: environment::absolute_path("HOME"),
            xdg_data: environment::absolute_path("XDG_DATA_HOME"),
            xdg_cache: environment::absolute_path("XDG_CACHE_HOME"),
            xdg_config: environment::absolute_path("XDG_CONFIG_HOME"),
            xdg_runtime: environment::absolute_path("XDG_RUNTIME_DIR"),
        }
    }
}

impl Paths {
    /// Decides the directories; `None` when an ordinary user has no home directory and named none.
    pub(crate) fn decide(inputs: PathInputs) -> Option<Self> {
        let below_home = |xdg: Option<PathBuf>, default: &str| xdg.or_else(|| Some(inputs.user_home.as_ref()?.join(default)));
        let home = match (inputs.dockwright_home, inputs.root) {
            (Some(home), _) => home,
            (None, true) => PathBuf::from(SYSTEM_HOME),
            (None, false) => below_home(inputs.xdg_data, ".local/share")?.join("dockwright"),
        };
        let config = match inputs.root {
            true => PathBuf::from("/etc/dockwright"),
            false => below_home(inputs.xdg_config, ".config").map_or_else(|| home.join("config"), |config| config.join("dockwright")),
        };
        let cache = match inputs.root {
            true => home.join("ci/cache"),
            false => below_home(inputs.xdg_cache, ".cache").map_or_else(|| home.join("ci/cache"), |cache| cache.join("dockwright")),
        };
        let runtime = match (inputs.xdg_runtime, inputs.root) {
            (_, true) => PathBuf::from("/run/dockwright"),
            (Some(runtime), false) => runtime.join("dockwright"),
            (None, false) => home.join("run"),
        };
        Some(Self { home, cache, config: config.join("config.toml"), runtime })
    }

    /// Where images are kept.
    pub(crate) fn store(&self) -> PathBuf {
        self.home.join("store")
    }

    /// Where traces and artifacts of `dockwright run` are kept.
    pub(crate) fn pipelines(&self) -> PathBuf {
        self.home.join("ci")
    }

    /// Where shell jobs are checked out.
    pub(crate) fn builds(&self) -> PathBuf {
        self.home.join("ci/builds")
    }

    /// Where included files of other projects are kept.
    pub(crate) fn includes(&self) -> PathBuf {
        self.cache.join("includes")
    }

    /// Where `cache:` of jobs is kept.
    pub(crate) fn job_caches(&self) -> PathBuf {
        self.cache.join("jobs")
    }
}

/// Makes a path absolute without asking whether it exists.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> PathInputs {
        PathInputs { user_home: Some("/home/ann".into()), ..PathInputs::default() }
    }

    #[test]
    fn a_user_gets_the_xdg_directories() {
        let paths = Paths::decide(PathInputs { xdg_cache: Some("/fast".into()), xdg_runtime: Some("/run/user/7".into()), ..inputs() });
        let expected = Paths {
            home: "/home/ann/.local/share/dockwright".into(),
            cache: "/fast/dockwright".into(),
            config: "/home/ann/.config/dockwright/config.toml".into(),
            runtime: "/run/user/7/dockwright".into(),
        };
        assert_eq!(paths, Some(expected));
    }

    #[test]
    fn root_gets_the_system_directories_unless_a_home_is_named() {
        let paths = Paths::decide(PathInputs { root: true, ..inputs() }).expect("root has directories");
        assert_eq!((paths.home.to_str(), paths.config.to_str()), (Some("/var/lib/dockwright"), Some("/etc/dockwright/config.toml")));
        let named = Paths::decide(PathInputs { root: true, dockwright_home: Some("/data".into()), ..inputs() });
        assert_eq!(named.map(|paths| paths.home), Some(PathBuf::from("/data")));
    }

    #[test]
    fn without_any_home_there_is_no_answer() {
        assert_eq!(Paths::decide(PathInputs::default()), None);
    }
}
