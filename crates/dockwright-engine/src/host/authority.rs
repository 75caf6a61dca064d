//! Who may do what at the host's own registry: GitLab's rules for job tokens.
//!
//! A job's user pushes to and pulls from the project's repository path and everything below it, and pulls from further paths that the
//! coordinator names. Nobody else may do anything. The rights end with the engine.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::RegistryUser;

/// What somebody wants to do with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// The users of the engines that live.
#[derive(Debug, Default)]
pub(crate) struct JobAuthority {
    /// By engine.
    users: Mutex<HashMap<String, RegistryUser>>,
}

impl JobAuthority {
    /// Admits the user of an engine.
    pub(crate) fn admit(&self, engine: &str, user: RegistryUser) {
        self.users().insert(engine.to_owned(), user);
    }

    /// Ends the rights of an engine's user.
    pub(super) fn dismiss(&self, engine: &str) {
        self.users().remove(engine);
    }

    /// Checks a name and password, and returns for which engine they were admitted.
    pub(crate) fn identify(&self, name: &str, password: &str) -> Option<String> {
        let known = |user: &RegistryUser| user.name == name && same_bytes(user.password.as_bytes(), password.as_bytes());
        self.users().iter().find(|(_, user)| known(user)).map(|(engine, _)| engine.clone())
    }

    /// Whether the user of an engine may do something with a repository.
    pub(crate) fn may(&self, engine: &str, access: Access, repository: &str) -> bool {
        self.users().get(engine).is_some_and(|user| user.may(access, repository))
    }

    fn users(&self) -> MutexGuard<'_, HashMap<String, RegistryUser>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RegistryUser {
    fn may(&self, access: Access, repository: &str) -> bool {
        let own = is_at_or_below(repository, &self.repository);
        match access {
            Access::Push => own,
            Access::Pull => own || self.readable.iter().any(|path| is_at_or_below(repository, path)),
        }
    }
}

fn is_at_or_below(repository: &str, path: &str) -> bool {
    // GitLab's paths may have upper case; repositories never do.
    let path = path.to_ascii_lowercase();
    repository.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Compares secrets in a time that depends on their length only.
fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(password: &str, repository: &str) -> RegistryUser {
        let readable = vec!["group/public".to_owned()];
        RegistryUser { name: "gitlab-ci-token".to_owned(), password: password.to_owned(), repository: repository.to_owned(), readable }
    }

    #[test]
    fn a_job_writes_to_its_own_project_only() {
        let user = user("token", "Group/App");
        for (access, repository, expected) in [
            (Access::Push, "group/app", true),
            (Access::Push, "group/app/cache", true),
            (Access::Push, "group/app2", false),
            (Access::Push, "group", false),
            (Access::Push, "group/public", false),
            (Access::Pull, "group/public/tool", true),
            (Access::Pull, "group/app", true),
            (Access::Pull, "group/secret", false),
        ] {
            assert_eq!(user.may(access, repository), expected, "{access:?} {repository}");
        }
    }

    #[test]
    fn tokens_tell_jobs_apart_and_end_with_them() {
        let authority = JobAuthority::default();
        authority.admit("1", user("one", "a"));
        authority.admit("2", user("two", "b"));
        assert_eq!(authority.identify("gitlab-ci-token", "two").as_deref(), Some("2"));
        assert_eq!(authority.identify("gitlab-ci-token", "three"), None);
        assert_eq!(authority.identify("root", "two"), None);
        assert!(authority.may("2", Access::Push, "b/image"));
        assert!(!authority.may("1", Access::Push, "b/image"));
        authority.dismiss("2");
        assert_eq!(authority.identify("gitlab-ci-token", "two"), None);
        assert!(!authority.may("2", Access::Pull, "b"));
    }
}
