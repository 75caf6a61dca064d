//! Waits until a service accepts TCP connections.
//!
//! As in GitLab's helper, the address comes from the environment: variables ending in `_TCP_ADDR` and `_TCP_PORT`. Whoever starts
//! the check ends it when it takes too long.

use std::{
    io::Write,
    net::{TcpStream, ToSocketAddrs as _},
    process::ExitCode,
    thread,
    time::Duration,
};

const RETRY_INTERVAL: Duration = Duration::from_millis(100);
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Dials the ports in turn until one answers; with `--port` arguments, until each of them on this host has answered.
pub(super) fn run(arguments: &[String], log: &mut dyn Write) -> ExitCode {
    let own_ports: Vec<u16> =
        arguments.windows(2).filter(|pair| matches!(pair[0].as_str(), "--port" | "-p")).filter_map(|pair| pair[1].parse().ok()).collect();
    if !own_ports.is_empty() {
        own_ports.iter().for_each(|&port| wait_for_any("localhost", &[port], log));
        return ExitCode::SUCCESS;
    }
    let from_environment = |ending: &'static str| std::env::vars().filter(move |(key, _)| key.ends_with(ending)).map(|(_, value)| value);
    let ports: Vec<u16> = from_environment("_TCP_PORT").filter_map(|port| port.parse().ok()).collect();
    match from_environment("_TCP_ADDR").next() {
        Some(address) if !ports.is_empty() => {
            wait_for_any(&address, &ports, log);
            ExitCode::SUCCESS
        }
        _ => {
            let _ = writeln!(log, "No HOST or PORT found");
            ExitCode::FAILURE
        }
    }
}

fn wait_for_any(address: &str, ports: &[u16], log: &mut dyn Write) {
    let _ = writeln!(log, "waiting for TCP connection to {address} on {ports:?}...");
    while !ports.iter().any(|&port| answers(address, port)) {
        thread::sleep(RETRY_INTERVAL);
    }
}

fn answers(host: &str, port: u16) -> bool {
    let Ok(addresses) = (host, port).to_socket_addrs() else { return false };
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, DIAL_TIMEOUT).is_ok())
}
