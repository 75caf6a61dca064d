//! Names of images as they stand in a job: what a service is called, and which registry an image comes from.

/// A service's names, as GitLab derives them from its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceName {
    /// Registry and repository without port and tag.
    pub(crate) service: String,
    /// Tag, `latest`, or `@sha256:…`.
    pub(crate) version: String,
    pub(crate) aliases: Vec<String>,
}

impl ServiceName {
    /// Derives the names. `user_aliases` may hold several, separated by spaces or commas.
    pub(crate) fn parse(image: &str, user_aliases: &str) -> Option<Self> {
        let (path, version) = split_version(image)?;
        let mut components: Vec<&str> = path.split('/').collect();
        if components.iter().any(|component| component.is_empty()) {
            return None;
        }
        if components.len() > 1 {
            components[0] = components[0].split(':').next()?;
        }
        let service = components.join("/");
        let mut aliases = Vec::new();
        let derived = [service.replace('/', "__"), service.replace('/', "-")];
        let users = user_aliases.split([' ', ',', '\t', '\n']).filter(|alias| !alias.is_empty()).map(str::to_owned);
        for alias in derived.into_iter().chain(users) {
            if !aliases.contains(&alias) {
                aliases.push(alias);
            }
        }
        Some(Self { service, version, aliases })
    }
}

/// Splits a tag or digest off; `latest` when there is none. `None` for what cannot be an image.
fn split_version(image: &str) -> Option<(&str, String)> {
    if image.is_empty() || image.contains(char::is_whitespace) || image.contains("://") {
        return None;
    }
    if let Some((path, digest)) = image.split_once('@') {
        return Some((without_tag(path).0, format!("@{digest}")));
    }
    let (path, tag) = without_tag(image);
    Some((path, tag.unwrap_or("latest").to_owned()))
}

fn without_tag(image: &str) -> (&str, Option<&str>) {
    let name_starts = image.rfind('/').map_or(0, |at| at + 1);
    match image[name_starts..].rfind(':') {
        Some(at) => (&image[..name_starts + at], Some(&image[name_starts + at + 1..])),
        None => (image, None),
    }
}

/// Adds the tag that an image without tag or digest stands for.
pub(crate) fn with_tag(image: &str) -> String {
    match image.contains('@') || without_tag(image).1.is_some() {
        true => image.to_owned(),
        false => format!("{image}:latest"),
    }
}

/// Tells whether an image is a Docker daemon: `docker:dind`, `docker:20.10-dind`, `registry/mirror/docker:24-dind-rootless`.
pub(crate) fn is_dind(image: &str) -> bool {
    let (path, tag) = without_tag(image.split('@').next().unwrap_or(image));
    path.rsplit('/').next() == Some("docker") && tag.is_some_and(|tag| tag.contains("dind"))
}

/// Tells whether an image is the official client, whose entry point finds the daemon and its certificates by itself.
pub(crate) fn is_docker_client(image: &str) -> bool {
    let (path, _) = without_tag(image.split('@').next().unwrap_or(image));
    path.rsplit('/').next() == Some("docker")
}

/// Returns the keys under which credentials for an image may stand, most specific first: `reg/ns/image`, `reg/ns`, `reg`.
pub(crate) fn credential_keys(image: &str) -> Vec<String> {
    let (path, _) = without_tag(image.split('@').next().unwrap_or(image));
    let has_registry = path.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost");
    let full = if has_registry { path.to_owned() } else { format!("docker.io/{path}") };
    let (host, rest) = full.split_once('/').unwrap_or((&full, ""));
    let full = normalise_registry(&format!("{}/{rest}", host.to_ascii_lowercase()));
    let mut keys = vec![full.clone()];
    let mut key = full.as_str();
    while let Some((shorter, _)) = key.rsplit_once('/') {
        keys.push(shorter.to_owned());
        key = shorter;
    }
    keys
}

/// Brings a key of a credentials file to the form of [`credential_keys`].
pub(crate) fn normalise_registry(key: &str) -> String {
    let (had_scheme, rest) = match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(rest) => (true, rest),
        None => (false, key),
    };
    let rest = if had_scheme { rest.split('/').next().unwrap_or(rest) } else { rest.trim_end_matches('/') };
    match rest.strip_prefix("index.docker.io") {
        Some("/v1" | "/v1/" | "") => "docker.io".to_owned(),
        Some(path) => format!("docker.io{path}"),
        None => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_after_their_images() {
        let check = |image: &str, user: &str, service: &str, version: &str, aliases: &[&str]| {
            let name = ServiceName::parse(image, user).expect("a name");
            assert_eq!((name.service.as_str(), name.version.as_str()), (service, version), "{image}");
            assert_eq!(name.aliases, aliases, "{image}");
        };
        check("docker:19.03.12-dind", "", "docker", "19.03.12-dind", &["docker"]);
        check("postgres", "db, database", "postgres", "latest", &["postgres", "db", "database"]);
        check("reg.tld:8080/ns/svc:tag", "", "reg.tld/ns/svc", "tag", &["reg.tld__ns__svc", "reg.tld-ns-svc"]);
        check("reg.tld/svc@sha256:00", "svc", "reg.tld/svc", "@sha256:00", &["reg.tld__svc", "reg.tld-svc", "svc"]);
        for bad in ["", "a b", "http://x/y", "a//b"] {
            assert_eq!(ServiceName::parse(bad, ""), None, "{bad}");
        }
    }

    #[test]
    fn daemons_and_clients() {
        for (image, daemon, client) in [
            ("docker:dind", true, true),
            ("docker:19.03.12-dind", true, true),
            ("mirror:5000/lib/docker:24-dind-rootless", true, true),
            ("docker:19.03.12", false, true),
            ("docker", false, true),
            ("my-docker:dind", false, false),
            ("localhost:5000/docker", false, true),
        ] {
            assert_eq!((is_dind(image), is_docker_client(image)), (daemon, client), "{image}");
        }
    }

    #[test]
    fn credentials_are_looked_up_from_the_longest_path() {
        assert_eq!(credential_keys("Reg.tld:5000/ns/img:1"), ["reg.tld:5000/ns/img", "reg.tld:5000/ns", "reg.tld:5000"]);
        assert_eq!(credential_keys("busybox"), ["docker.io/busybox", "docker.io"]);
        assert_eq!(credential_keys("index.docker.io/library/x")[2], "docker.io");
        assert_eq!(normalise_registry("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(normalise_registry("https://reg.tld/v2/"), "reg.tld");
    }
}
