//! The files of a container that tell its names: `/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname`.

use std::net::IpAddr;

use crate::error::{EngineError, Result};

/// The name that stands for the network's gateway in `--add-host name:host-gateway`.
const HOST_GATEWAY: &str = "host-gateway";

/// What `/etc/hosts` says.
#[derive(Debug, Default)]
pub(crate) struct Hosts<'a> {
    /// As in `--add-host`.
    pub(crate) extra: &'a [String],
    /// Address of the sandbox on the container's network.
    pub(crate) gateway: Option<IpAddr>,
    /// Linked containers: address and names.
    pub(crate) links: Vec<(IpAddr, Vec<String>)>,
    /// Own addresses.
    pub(crate) own: Vec<IpAddr>,
    pub(crate) hostname: &'a str,
    pub(crate) domainname: &'a str,
}

impl Hosts<'_> {
    /// Renders the file.
    pub(crate) fn render(&self) -> Result<String> {
        let mut text = String::from(
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
        );
        let mut line = |address: &str, names: &str| {
            text.push_str(address);
            text.push('\t');
            text.push_str(names);
            text.push('\n');
        };
        for entry in self.extra {
            let (name, address) = parse_extra_host(entry)?;
            match (address, self.gateway) {
                (HOST_GATEWAY, Some(gateway)) => line(&gateway.to_string(), name),
                (HOST_GATEWAY, None) => line("127.0.0.1", name),
                (address, _) => line(address, name),
            }
        }
        for (address, names) in &self.links {
            line(&address.to_string(), &names.join(" "));
        }
        for address in &self.own {
            let names = if self.domainname.is_empty() {
                self.hostname.to_owned()
            } else {
                format!("{}.{} {}", self.hostname, self.domainname, self.hostname)
            };
            line(&address.to_string(), &names);
        }
        Ok(text)
    }
}

/// Reads `name:address` or `name=address`.
pub(crate) fn parse_extra_host(entry: &str) -> Result<(&str, &str)> {
    let invalid = || EngineError::invalid(format!("bad format for add-host: {entry:?}"));
    let (name, address) = entry.split_once(['=', ':']).ok_or_else(invalid)?;
    let plain = address.trim_start_matches('[').trim_end_matches(']');
    let valid = !name.is_empty() && (plain == HOST_GATEWAY || plain.parse::<IpAddr>().is_ok());
    if valid { Ok((name, plain)) } else { Err(EngineError::invalid(format!("invalid IP address in add-host: {plain:?}"))) }
}

/// What `/etc/resolv.conf` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub(crate) servers: Vec<IpAddr>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl Resolver {
    /// Reads a file; what is not understood is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => parsed.servers.extend(words.next().and_then(|server| server.parse::<IpAddr>().ok())),
                Some("search" | "domain") => parsed.search = words.map(str::to_owned).collect(),
                Some("options") => parsed.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        parsed
    }

    /// Renders the file.
    pub(crate) fn render(&self) -> String {
        let servers = self.servers.iter().map(|server| format!("nameserver {server}\n"));
        let list =
            |keyword: &str, words: &[String]| if words.is_empty() { String::new() } else { format!("{keyword} {}\n", words.join(" ")) };
        servers.chain([list("search", &self.search), list("options", &self.options)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn hosts_names_neighbours_and_oneself() {
        let extra = ["db:10.0.0.1".to_owned(), "host.docker.internal:host-gateway".to_owned()];
        let hosts = Hosts {
            extra: &extra,
            gateway: Some([172, 17, 0, 1].into()),
            links: vec![([172, 17, 0, 3].into(), vec!["alias".into(), "name".into()])],
            own: vec![[172, 17, 0, 2].into()],
            hostname: "box",
            domainname: "example.com",
        };
        let text = hosts.render().unwrap();
        expect![[r"
            10.0.0.1	db
            172.17.0.1	host.docker.internal
            172.17.0.3	alias name
            172.17.0.2	box.example.com box
        "]]
        .assert_eq(&text.lines().skip(6).map(|line| format!("{line}\n")).collect::<String>());
    }

    #[test]
    fn an_extra_host_needs_an_address() {
        assert!(parse_extra_host("name").is_err());
        assert!(parse_extra_host("name:nonsense").is_err());
        assert_eq!(parse_extra_host("name:::1").unwrap(), ("name", "::1"));
    }

    #[test]
    fn a_resolver_survives_reading_and_writing() {
        let resolver = Resolver::parse("# x\nnameserver 10.0.0.2\nnameserver nonsense\nsearch a b\noptions ndots:1\n");
        assert_eq!(resolver.servers, [IpAddr::from([10, 0, 0, 2])]);
        assert_eq!(Resolver::parse(&resolver.render()), resolver);
    }
}
