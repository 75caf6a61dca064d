//! The unit of systemd that `runner install` writes and packages bring.

use std::path::{Path, PathBuf};

/// What a unit file says.
pub(in crate::command) struct Unit {
    pub(in crate::command) program: PathBuf,
    pub(in crate::command) config: PathBuf,
    /// Where builds and caches are kept.
    pub(in crate::command) working_directory: PathBuf,
    /// Name of the service.
    pub(in crate::command) name: String,
    /// Whose service it is; without one, of the user whose service manager reads it.
    pub(in crate::command) user: Option<String>,
}

impl Unit {
    pub(in crate::command) fn text(&self) -> String {
        let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$"));
        let path = |path: &Path| quote(&path.to_string_lossy());
        let user = self.user.as_ref().map_or_else(String::new, |user| format!("User={user}\n"));
        let target = if self.user.is_some() { "multi-user.target" } else { "default.target" };
        format!(
            "[Unit]\nDescription=GitLab Runner\nAfter=network.target\n\n\
             [Service]\nType=notify\n{user}ExecStart={} runner run --config {} --working-directory {} --service {}\n\
             ExecReload=kill -HUP $MAINPID\nKillMode=mixed\nRestart=always\nRestartSec=2\nDelegate=yes\n\n\
             [Install]\nWantedBy={target}\n",
            path(&self.program),
            path(&self.config),
            path(&self.working_directory),
            quote(&self.name),
        )
    }
}
