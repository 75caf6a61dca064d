//! Why a job could not reach Docker, and what to change.
//!
//! A Docker client's messages say that it could not connect, never why. The cause is nearly always that the job's `DOCKER_HOST`,
//! `DOCKER_TLS_CERTDIR` and the name of its dind service disagree. [`Watcher`] finds the messages in a trace; [`explain`] compares
//! them with the job. Both are pure.

use std::{collections::BTreeSet, fmt};

use regex::bytes::Regex;

/// The part of a line that is looked at.
const LINE_LIMIT_BYTES: usize = 4096;
/// Distinct messages that are kept of one trace.
const OBSERVATIONS_LIMIT: usize = 16;

/// A message of a Docker client about its connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Observation {
    /// Nothing answered at the address, which the message may name.
    CannotConnect { endpoint: Option<String> },
    /// The address's host name does not exist.
    NoSuchHost { host: Option<String> },
    /// The client spoke HTTP to a TLS port.
    PlainClientTlsServer,
    /// The client spoke TLS to a plain port.
    TlsClientPlainServer,
    /// The server's certificate is not signed by the authority that the client knows.
    UnknownAuthority,
    /// A client certificate or authority file does not exist.
    CertificateFileMissing { path: String },
    /// The socket exists, but not for this user.
    PermissionDenied { path: String },
}

/// Collects observations from output that arrives in pieces.
#[derive(Debug)]
pub(crate) struct Watcher {
    patterns: Patterns,
    line: Vec<u8>,
    observations: BTreeSet<Observation>,
}

impl Default for Watcher {
    fn default() -> Self {
        Self { patterns: Patterns::new(), line: Vec::new(), observations: BTreeSet::new() }
    }
}

impl Watcher {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let room = LINE_LIMIT_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.look();
            }
        }
    }

    fn look(&mut self) {
        let line = std::mem::take(&mut self.line);
        if self.observations.len() < OBSERVATIONS_LIMIT {
            self.observations.extend(self.patterns.observe(&line));
        }
    }

    /// Returns what was seen in whole lines.
    pub(crate) fn observations(&self) -> &BTreeSet<Observation> {
        &self.observations
    }
}

#[derive(Debug)]
struct Patterns {
    relevant: Regex,
    cannot_connect: Regex,
    no_such_host: Regex,
    certificate_missing: Regex,
    permission_denied: Regex,
}

impl Patterns {
    fn new() -> Self {
        let compile = |pattern: &str| Regex::new(pattern).expect("the pattern is a constant");
        Self {
            relevant: compile(r"(?i)docker|daemon|dial (tcp|unix)|HTTPS?\b.*\b(client|server)|x509"),
            cannot_connect: compile(
                r"(?i:cannot connect to the docker daemon)(?: at (\S+?)\.? )?|dial (?:tcp|unix) (\S+?): connect: |error during connect",
            ),
            no_such_host: compile(r"lookup (\S+?)(?: on \S+)?: (?:no such host|Temporary failure in name resolution|server misbehaving)"),
            certificate_missing: compile(
                r"(?:unable to resolve docker endpoint: |could not read CA certificate \S*: )?open (\S+\.pem): no such file",
            ),
            permission_denied: compile(r"dial unix (\S+?): connect: permission denied"),
        }
    }

    fn observe(&self, line: &[u8]) -> Option<Observation> {
        if !self.relevant.is_match(line) {
            return None;
        }
        let capture = |regex: &Regex| -> Option<Option<String>> {
            let found = regex.captures(line)?;
            Some(found.iter().skip(1).flatten().next().map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned()))
        };
        let contains = |needle: &str| line.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle.as_bytes()));
        if contains("sent an HTTP request to an HTTPS server") || contains("connect to a TLS-enabled daemon without TLS") {
            return Some(Observation::PlainClientTlsServer);
        }
        if contains("server gave HTTP response to HTTPS client") || contains("first record does not look like a TLS handshake") {
            return Some(Observation::TlsClientPlainServer);
        }
        if contains("x509: certificate signed by unknown authority") || contains("tls: bad certificate") {
            return Some(Observation::UnknownAuthority);
        }
        if let Some(Some(path)) = capture(&self.certificate_missing) {
            return Some(Observation::CertificateFileMissing { path });
        }
        if let Some(Some(path)) = capture(&self.permission_denied) {
            return Some(Observation::PermissionDenied { path });
        }
        if let Some(host) = capture(&self.no_such_host) {
            return Some(Observation::NoSuchHost { host });
        }
        capture(&self.cannot_connect).map(|endpoint| Observation::CannotConnect { endpoint })
    }
}

/// What about a job decides how its Docker client must connect.
#[derive(Debug, Clone, Default)]
pub(crate) struct DockerSetup {
    /// `DOCKER_HOST` as the job sets it.
    pub(crate) docker_host: Option<String>,
    /// `DOCKER_TLS_CERTDIR` as the job sets it; dind images use `/certs` when it is not set.
    pub(crate) tls_certdir: Option<String>,
    /// `DOCKER_TLS_VERIFY` is set to something, or the job's image is a `docker:` image, whose entry point sets it.
    pub(crate) client_uses_tls: bool,
    /// Names of all services by which the job reaches them.
    pub(crate) services: Vec<ServiceSetup>,
    /// Where the job finds a Docker engine without any setting.
    pub(crate) own_endpoint: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceSetup {
    pub(crate) image: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) is_dind: bool,
    /// The service's own `DOCKER_TLS_CERTDIR`, where its `variables:` set one.
    pub(crate) tls_certdir: Option<String>,
}

/// A hint: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hint {
    why: String,
    remedy: String,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hint: {};\n      {}", self.why, self.remedy)
    }
}

impl Hint {
    fn new(why: impl Into<String>, remedy: impl Into<String>) -> Option<Self> {
        Some(Self { why: why.into(), remedy: remedy.into() })
    }
}

/// Explains the observations, if there is anything to say about them.
pub(crate) fn explain(setup: &DockerSetup, observations: &BTreeSet<Observation>) -> Option<Hint> {
    if observations.is_empty() {
        return None;
    }
    if let Some(Observation::PermissionDenied { path }) = find(observations, |o| matches!(o, Observation::PermissionDenied { .. })) {
        return Hint::new(
            format!("the user of this job may not use the socket `{path}`"),
            "run the job as root (`image:docker:user`), or give the user the socket's group",
        );
    }
    let observed_host = find(observations, |o| matches!(o, Observation::CannotConnect { endpoint: Some(_) }));
    let endpoint = match (&setup.docker_host, observed_host) {
        (Some(host), _) if !host.is_empty() => Some(host.clone()),
        (_, Some(Observation::CannotConnect { endpoint })) => endpoint.clone(),
        _ => None,
    };
    match endpoint.as_deref().and_then(Address::parse) {
        Some(address) => explain_tcp(setup, observations, &address),
        None => explain_socket(setup, endpoint.as_deref()),
    }
}

fn find(observations: &BTreeSet<Observation>, wanted: impl Fn(&Observation) -> bool) -> Option<&Observation> {
    observations.iter().find(|&observation| wanted(observation))
}

struct Address<'a> {
    text: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Address<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")).or_else(|| text.strip_prefix("https://"));
        let rest = match rest {
            Some(rest) => rest,
            None if !text.contains("://") && text.contains(':') => text,
            None => return None,
        };
        let rest = rest.split('/').next().unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, port.parse().ok()));
        Some(Self { text, host, port })
    }
}

fn explain_tcp(setup: &DockerSetup, observations: &BTreeSet<Observation>, address: &Address<'_>) -> Option<Hint> {
    let host = address.host;
    let dind: Vec<&ServiceSetup> = setup.services.iter().filter(|service| service.is_dind).collect();
    let Some(first) = dind.first() else {
        let why = format!("DOCKER_HOST is `{}`, but no service of this job is a Docker daemon", address.text);
        let remedy = match &setup.own_endpoint {
            Some(own) => format!("remove DOCKER_HOST: this job has a Docker engine of its own at `{own}`"),
            None => format!("add a service with the alias `{host}`, such as `services: [{{name: \"docker:dind\", alias: \"{host}\"}}]`"),
        };
        return Hint::new(why, remedy);
    };
    let Some(service) = dind.iter().find(|service| service.aliases.iter().any(|alias| alias == host)) else {
        return explain_alias(setup, first, address);
    };
    let certdir = service.tls_certdir.as_deref().or(setup.tls_certdir.as_deref());
    let tls = certdir != Some("");
    let because = match certdir {
        Some("") => "because DOCKER_TLS_CERTDIR is \"\"".to_owned(),
        Some(directory) => format!("because DOCKER_TLS_CERTDIR is \"{directory}\""),
        None => "because DOCKER_TLS_CERTDIR is not set, and the image's default is \"/certs\"".to_owned(),
    };
    let plain_client = observations.contains(&Observation::PlainClientTlsServer) || !setup.client_uses_tls;
    match (tls, address.port) {
        (true, Some(2376)) if plain_client => Hint::new(
            format!("the service `{}` listens with TLS on 2376 {because}, but the client does not use TLS", service.image),
            format!("set DOCKER_TLS_VERIFY: \"1\" and DOCKER_CERT_PATH: \"{}/client\"", certdir.unwrap_or("/certs")),
        ),
        (true, Some(2376)) => explain_certificates(service, observations, certdir.unwrap_or("/certs")),
        (true, _) => Hint::new(
            format!("the service `{}` listens with TLS on 2376 {because}, but DOCKER_HOST is `{}`", service.image, address.text),
            format!("set DOCKER_HOST: \"tcp://{host}:2376\", or set DOCKER_TLS_CERTDIR: \"\" to disable TLS"),
        ),
        (false, Some(2375)) => explain_dead_service(service, address),
        (false, _) => Hint::new(
            format!("the service `{}` listens without TLS on 2375 {because}, but DOCKER_HOST is `{}`", service.image, address.text),
            format!("set DOCKER_HOST: \"tcp://{host}:2375\", or set DOCKER_TLS_CERTDIR: \"/certs\" to use TLS"),
        ),
    }
}

fn explain_alias(setup: &DockerSetup, service: &ServiceSetup, address: &Address<'_>) -> Option<Hint> {
    let host = address.host;
    let names = service.aliases.iter().map(|alias| format!("`{alias}`")).collect::<Vec<_>>().join(", ");
    let tls = service.tls_certdir.as_deref().or(setup.tls_certdir.as_deref()) != Some("");
    let port = if tls { 2376 } else { 2375 };
    let own_name = service.aliases.first().map_or("docker", String::as_str);
    let why = match matches!(host, "localhost" | "127.0.0.1" | "::1" | "[::1]") {
        true => format!("DOCKER_HOST is `{}`, but the daemon runs in another container, the service {names}", address.text),
        false => format!("DOCKER_HOST names the host `{host}`, but the service `{}` is called {names}", service.image),
    };
    Hint::new(why, format!("set DOCKER_HOST: \"tcp://{own_name}:{port}\", or give the service the alias `{host}`"))
}

fn explain_certificates(service: &ServiceSetup, observations: &BTreeSet<Observation>, certdir: &str) -> Option<Hint> {
    if let Some(Observation::CertificateFileMissing { path }) =
        find(observations, |o| matches!(o, Observation::CertificateFileMissing { .. }))
    {
        return Hint::new(
            format!("the client looks for `{path}`, but the service `{}` puts its certificates into `{certdir}/client`", service.image),
            format!("set DOCKER_CERT_PATH: \"{certdir}/client\", and see that this directory is a volume of the job and its services"),
        );
    }
    if observations.contains(&Observation::UnknownAuthority) {
        return Hint::new(
            format!("the certificates that the client uses are not those of the service `{}`", service.image),
            format!("use the files below `{certdir}/client`, and do not bring certificates from elsewhere"),
        );
    }
    Hint::new(
        format!("DOCKER_HOST and DOCKER_TLS_CERTDIR agree with the service `{}`, but it does not answer", service.image),
        "its own log may say why; set CI_DEBUG_SERVICES: \"true\" to see it",
    )
}

fn explain_dead_service(service: &ServiceSetup, address: &Address<'_>) -> Option<Hint> {
    Hint::new(
        format!("DOCKER_HOST `{}` and DOCKER_TLS_CERTDIR agree with the service `{}`, but it does not answer", address.text, service.image),
        "its own log may say why; set CI_DEBUG_SERVICES: \"true\" to see it",
    )
}

fn explain_socket(setup: &DockerSetup, endpoint: Option<&str>) -> Option<Hint> {
    let socket = endpoint.unwrap_or("unix:///var/run/docker.sock");
    if let Some(service) = setup.services.iter().find(|service| service.is_dind) {
        let tls = service.tls_certdir.as_deref().or(setup.tls_certdir.as_deref()) != Some("");
        let name = service.aliases.first().map_or("docker", String::as_str);
        let port = if tls { 2376 } else { 2375 };
        return Hint::new(
            format!("the client looks for `{socket}`, but the daemon of this job is the service `{name}`"),
            format!("set DOCKER_HOST: \"tcp://{name}:{port}\""),
        );
    }
    let remedy = match &setup.own_endpoint {
        Some(own) if own == socket => "what the engine prints itself may say why it does not answer".to_owned(),
        Some(own) => format!("remove DOCKER_HOST: this job has a Docker engine of its own at `{own}`"),
        None => {
            "add `services: [\"docker:dind\"]` and set DOCKER_HOST: \"tcp://docker:2376\" and DOCKER_TLS_CERTDIR: \"/certs\"".to_owned()
        }
    };
    Hint::new(format!("no Docker daemon answers at `{socket}`, and no service of this job is one"), remedy)
}

#[cfg(test)]
mod tests;
