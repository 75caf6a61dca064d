//! What the address of the remote says about the GitLab that the project lives on.

/// Server and path of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub protocol: String,
    pub host: String,
    pub port: u16,
    pub ssh_port: u16,
    /// `group/subgroup/project`.
    pub path: String,
}

impl Remote {
    /// Returns a project that is on no server, in the namespace `local`.
    pub fn local(name: &str) -> Self {
        let name: String = name.chars().map(|next| if is_path_char(next) { next } else { '-' }).collect();
        Self { protocol: "https".to_owned(), host: "localhost".to_owned(), port: 443, ssh_port: 22, path: format!("local/{name}") }
    }

    /// Parses `https://host[:port]/path.git`, `ssh://git@host[:port]/path.git` or `git@host:path.git`. Files are no servers.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, host, port, path) = match url.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_once('/')?;
                let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
                let (host, port) = match authority.rsplit_once(':') {
                    Some((host, port)) => (host, Some(port.parse().ok()?)),
                    None => (authority, None),
                };
                (scheme, host, port, path)
            }
            None => {
                let (host, path) = url.split_once(':')?;
                ("ssh", host.rsplit_once('@').map_or(host, |(_, host)| host), None, path)
            }
        };
        let path = path.trim_matches('/').trim_end_matches(".git").trim_end_matches('/');
        let is_usable =
            path.contains('/') && path.split('/').all(|part| !part.is_empty() && part != ".." && part.chars().all(is_path_char));
        if host.is_empty() || host.contains('/') || !is_usable {
            return None;
        }
        let remote = |protocol: &str, port, ssh_port| Self {
            protocol: protocol.to_owned(),
            host: host.to_owned(),
            port,
            ssh_port,
            path: path.to_owned(),
        };
        match scheme {
            "https" => Some(remote("https", port.unwrap_or(443), 22)),
            "http" => Some(remote("http", port.unwrap_or(80), 22)),
            // The web address of a server that is reached by ssh is a guess, and almost always this one.
            "ssh" | "git+ssh" => Some(remote("https", 443, port.unwrap_or(22))),
            _ => None,
        }
    }

    /// Returns the host, with its port unless it is the usual one.
    pub fn fqdn(&self) -> String {
        match (self.protocol.as_str(), self.port) {
            ("https", 443) | ("http", 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// Returns the address of the server.
    pub fn server_url(&self) -> String {
        format!("{}://{}", self.protocol, self.fqdn())
    }

    /// Returns the last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit_once('/').map_or(&self.path, |(_, name)| name)
    }

    /// Returns all but the last part of the path.
    pub fn namespace(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Returns the first part of the path.
    pub fn root_namespace(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }
}

pub(crate) fn is_path_char(next: char) -> bool {
    next.is_alphanumeric() || matches!(next, '-' | '_' | '.' | '+' | '~')
}

#[cfg(test)]
mod tests {
    use super::Remote;

    #[test]
    fn addresses() {
        let show = |url: &str| Remote::parse(url).map(|remote| format!("{} {} ssh {}", remote.server_url(), remote.path, remote.ssh_port));
        let cases = [
            ("https://gitlab.com/group/sub/app.git", Some("https://gitlab.com group/sub/app ssh 22")),
            ("https://user:pass@git.example.com:8443/g/p/", Some("https://git.example.com:8443 g/p ssh 22")),
            ("http://git.example.com/g/p", Some("http://git.example.com g/p ssh 22")),
            ("git@gitlab.com:group/app.git", Some("https://gitlab.com group/app ssh 22")),
            ("ssh://git@gitlab.com:2222/group/app.git", Some("https://gitlab.com group/app ssh 2222")),
            ("/srv/git/app.git", None),
            ("../app", None),
            ("file:///srv/git/app.git", None),
            ("https://gitlab.com/app.git", None),
            ("https://gitlab.com/a/../b", None),
            ("C:\\repos\\app", None),
        ];
        for (url, expected) in cases {
            assert_eq!(show(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn a_local_project_has_a_usable_path() {
        let remote = Remote::local("my app");
        assert_eq!((remote.path.as_str(), remote.name(), remote.namespace()), ("local/my-app", "my-app", "local"));
    }
}
