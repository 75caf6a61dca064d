//! `runner health-check`: waits until a service's port answers.

use std::{
    collections::BTreeMap,
    net::{TcpStream, ToSocketAddrs as _},
    thread::sleep,
    time::Duration,
};

use crate::{cli::HealthCheckArgs, error::CommandError, exit_code::ExitCode, report::Streams};

const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// Whoever started this ends it when it takes too long.
pub(super) fn run(arguments: &HealthCheckArgs, streams: Streams) -> Result<ExitCode, CommandError> {
    let (address, ports, wait_for_all) = match arguments.ports.as_slice() {
        [] => {
            let (address, ports) = from_environment(std::env::vars()).ok_or_else(|| CommandError::usage("No HOST or PORT found"))?;
            (address, ports, false)
        }
        ports => ("localhost".to_owned(), ports.to_vec(), true),
    };
    let shown: Vec<String> = ports.iter().map(ToString::to_string).collect();
    streams.data(format!("waiting for TCP connection to {address} on [{}]...", shown.join(" ")));
    let mut waiting = ports;
    loop {
        let before = waiting.len();
        waiting.retain(|port| !answers(&address, *port));
        let is_done = if wait_for_all { waiting.is_empty() } else { waiting.len() < before };
        if is_done {
            return Ok(ExitCode::Success);
        }
        sleep(PAUSE);
    }
}

fn answers(address: &str, port: u16) -> bool {
    let Ok(mut addresses) = (address, port).to_socket_addrs() else { return false };
    addresses.any(|address| TcpStream::connect_timeout(&address, DIAL_TIMEOUT).is_ok())
}

/// Docker's links put `NAME_PORT_80_TCP_ADDR` and `NAME_PORT_80_TCP_PORT` into the environment.
fn from_environment(variables: impl Iterator<Item = (String, String)>) -> Option<(String, Vec<u16>)> {
    let variables: BTreeMap<String, String> = variables.collect();
    let mut address = None;
    let mut ports = Vec::new();
    for (name, value) in &variables {
        if name.ends_with("_TCP_ADDR") {
            address.get_or_insert_with(|| value.clone());
        } else if name.ends_with("_TCP_PORT") {
            ports.extend(value.parse::<u16>());
        }
    }
    Some((address?, ports)).filter(|(_, ports)| !ports.is_empty())
}

#[cfg(test)]
mod tests {
    use super::from_environment;

    #[test]
    fn links_name_address_and_ports() {
        let found = |pairs: &[(&str, &str)]| from_environment(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let links = [("DB_PORT_1_TCP_ADDR", "db"), ("DB_PORT_1_TCP_PORT", "1"), ("DB_PORT_2_TCP_PORT", "2"), ("PATH", "/bin")];
        assert_eq!(found(&links), Some(("db".to_owned(), vec![1, 2])));
        assert_eq!(found(&links[..1]), None);
        assert_eq!(found(&links[1..]), None);
    }
}
