//! What jobs may ask of the docker executor: the `allowed_…` keys of `[runners.docker]`.
//!
//! A list that is empty does not restrict. Images are compared with variables expanded, by patterns in which `*` stays within a
//! component of the name and `**` does not. A pattern that cannot be read allows what equals it and nothing else.

use super::PullPolicy;
use crate::helper::glob::Pattern;

/// The lists. Empty ones do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// Patterns of images that jobs may name; the runner's own default image is always allowed.
    pub images: Vec<String>,
    /// Patterns of images that jobs may use as services; those of the runner's own services are always allowed.
    pub services: Vec<String>,
    /// Patterns of images whose containers may be privileged, where the runner says that containers are.
    pub privileged_images: Vec<String>,
    /// The same for services.
    pub privileged_services: Vec<String>,
    /// Whom the scripts of a job may run as. A job that names no user has that of its image, which is always allowed.
    pub users: Vec<String>,
    pub pull_policies: Vec<PullPolicy>,
    /// An `entrypoint` of a job has no effect.
    pub keep_entrypoints: bool,
}

impl Restrictions {
    /// Tells whether scripts may run as `user`.
    pub(crate) fn allow_user(&self, user: &str) -> bool {
        user.is_empty() || self.users.is_empty() || self.users.iter().any(|allowed| allowed == user)
    }
}

/// Tells whether a list of patterns allows an image.
pub(crate) fn allow(patterns: &[String], image: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| Pattern::new(pattern).matches(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        for (patterns, image, expected) in [
            (&[][..], "anything:1", true),
            (&["ruby:*"], "ruby:3.3", true),
            (&["ruby:*"], "ruby", false),
            (&["ruby:*"], "evil/ruby:3.3", false),
            (&["ruby:*"], "ruby:3.3/../evil", false),
            (&["reg.tld:5000/*/*:*"], "reg.tld:5000/group/image:1", true),
            (&["reg.tld:5000/*/*:*"], "reg.tld:5000/image:1", false),
            (&["reg.tld:5000/**/*"], "reg.tld:5000/a/b/c", true),
            (&["reg.tld/**"], "regxtld/a", false),
            (&["ruby:*", "docker:{24,25}-dind"], "docker:25-dind", true),
            (&["docker:[0-9]"], "docker:[0-9]", false),
            (&["docker:["], "docker:1", false),
        ] {
            let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            assert_eq!(allow(&patterns, image), expected, "{patterns:?} {image}");
        }
    }

    #[test]
    fn users() {
        let open = Restrictions::default();
        assert!(open.allow_user("root") && open.allow_user(""));
        let restricted = Restrictions { users: vec!["ci".to_owned(), "1000".to_owned()], ..Restrictions::default() };
        let verdicts = ["ci", "1000", "", "root", "0", "ci:root"].map(|user| restricted.allow_user(user));
        assert_eq!(verdicts, [true, true, true, false, false, false]);
    }
}
