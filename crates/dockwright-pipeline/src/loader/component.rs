//! Addresses of CI/CD components: `gitlab.example.com/group/project/name@version`.

use std::fmt;

/// Where a component lies and which version of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ComponentAddress {
    /// Host, with a port when it is not the usual one.
    pub host: String,
    /// Path of the project, in lower case.
    pub project: String,
    pub name: String,
    /// A commit, tag or branch, `~latest`, or the beginning of a version: `1` or `1.2`.
    pub version: String,
}

impl ComponentAddress {
    /// Parses an address; nothing is returned when a part is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let (path, version) = text.split_once('@')?;
        let (host, path) = path.split_once('/')?;
        let (project, name) = path.rsplit_once('/')?;
        let is_complete = ![host, project, name, version].iter().any(|part| part.is_empty());
        let is_safe = !name.contains("..") && project.split('/').all(|part| !part.is_empty() && part != "..");
        (is_complete && is_safe && project.contains('/')).then(|| Self {
            host: host.to_owned(),
            project: project.to_lowercase(),
            name: name.to_owned(),
            version: version.to_owned(),
        })
    }

    /// Returns the files that may hold it; the first that exists does.
    pub fn paths(&self) -> [String; 2] {
        [format!("templates/{}.yml", self.name), format!("templates/{}/template.yml", self.name)]
    }
}

impl fmt::Display for ComponentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}@{}", self.host, self.project, self.name, self.version)
    }
}

/// What a component may show of itself by `$[[ component.… ]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Component {
    pub name: String,
    pub sha: String,
    /// The version that was found.
    pub version: String,
    /// The version as it was asked for.
    pub reference: String,
}

#[cfg(test)]
mod tests {
    use super::ComponentAddress;

    #[test]
    fn addresses() {
        let address = ComponentAddress::parse("gitlab.com:8443/Group/sub/lib/deploy@~latest").expect("an address");
        assert_eq!((address.host.as_str(), address.project.as_str()), ("gitlab.com:8443", "group/sub/lib"));
        assert_eq!((address.name.as_str(), address.version.as_str()), ("deploy", "~latest"));
        assert_eq!(address.paths()[1], "templates/deploy/template.yml");
        for wrong in
            ["", "gitlab.com/a/b/c", "gitlab.com/a@1", "gitlab.com/a/b@1", "gitlab.com/a/b/@1", "/a/b/c@1", "h/a/../b/c@1", "h/a/b/c@"]
        {
            assert_eq!(ComponentAddress::parse(wrong), None, "{wrong}");
        }
    }
}
