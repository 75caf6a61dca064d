//! Bridges, containers on them, sockets opened for the engine.

use std::{fs, io::Write as _, net::TcpListener};

use dockwright_container::{
    network::egress::Egress,
    process::{ContainerSpec, Interface, NetworkMode, ProcessSpec, SocketProtocol, SocketSpec},
};
use dockwright_testing::requires;

use crate::harness::{Engine, until};

fn interface(number: u8) -> Interface {
    Interface {
        bridge: "br0".to_owned(),
        name: "eth0".to_owned(),
        port: format!("veth{number}"),
        addresses: vec![([172, 17, 0, number].into(), 16)],
        gateways: vec![[172, 17, 0, 1].into()],
        mac: Some([2, 0x42, 172, 17, 0, number]),
        mtu: Some(1400),
    }
}

fn on_bridge(engine: &Engine, number: u8, script: &str) -> ContainerSpec {
    let mut spec = engine.shell(&format!("c{number}"), script);
    spec.network = NetworkMode::Own { interfaces: vec![interface(number)] };
    spec
}

#[test]
fn containers_reach_each_other_and_the_sandbox() {
    requires!(Root);
    let engine = Engine::start();
    engine.relay("bridge br0 172.17.0.1 16").unwrap();
    assert!(engine.relay("bridge br0 172.17.0.1 16").unwrap_err().contains("AlreadyExists"));
    engine.background(&on_bridge(&engine, 2, "while :; do echo served | nc -l -p 80; done"));
    until(|| engine.relay("dial 172.17.0.2:80").is_ok_and(|text| text.starts_with("served")));
    let script = "cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu; ip route; ping -c 1 172.17.0.1 >/dev/null && nc 172.17.0.2 80";
    let output = engine.run(&on_bridge(&engine, 3, script)).unwrap();
    assert_eq!(
        output.stdout,
        "02:42:ac:11:00:03\n1400\ndefault via 172.17.0.1 dev eth0 \n172.17.0.0/16 dev eth0 scope link  src 172.17.0.3 \nserved\n",
        "{}",
        output.stderr
    );
    // The same network as a running container's.
    let mut spec = engine.shell("joined", "nc 127.0.0.1 80");
    spec.network = NetworkMode::Container("c2".to_owned());
    assert_eq!(engine.run(&spec).unwrap().stdout, "served\n");

    let mut second = interface(9);
    second.name = "eth1".to_owned();
    second.gateways.clear();
    engine.client.connect("c2", &second).unwrap();
    let list = |engine: &Engine| engine.exec("c2", ProcessSpec::new(["ls", "/sys/class/net"])).unwrap().stdout;
    assert_eq!(list(&engine), "eth0\neth1\nlo\n");
    engine.client.disconnect("c2", "eth1").unwrap();
    assert_eq!(list(&engine), "eth0\nlo\n");
    assert_eq!(engine.relay("delete br0").unwrap(), "false");
}

#[test]
fn a_missing_bridge_is_named() {
    requires!(Root);
    let engine = Engine::start();
    let error = engine.run(&on_bridge(&engine, 2, "true")).unwrap_err();
    assert_eq!(error.to_string(), "find the bridge br0: no such device");
}

#[test]
fn sockets_for_the_engine_are_there_before_the_process() {
    requires!(Root);
    let engine = Engine::start();
    let mut spec = engine.shell("a", "nc 127.0.0.11 53");
    let socket = |protocol| SocketSpec { protocol, address: [127, 0, 0, 11].into(), port: 53 };
    spec.sockets = vec![socket(SocketProtocol::TcpListener), socket(SocketProtocol::Udp)];
    let null = fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let stdio = dockwright_container::spawner::Stdio {
        stdin: std::os::fd::AsFd::as_fd(&null),
        stdout: std::os::fd::AsFd::as_fd(&writer),
        stderr: std::os::fd::AsFd::as_fd(&null),
    };
    let mut started = engine.client.start(&spec, Some(stdio), &[]).unwrap();
    drop(writer);
    assert_eq!(started.sockets.len(), 2);
    let listener = TcpListener::from(started.sockets.remove(0));
    listener.set_nonblocking(false).unwrap();
    listener.accept().unwrap().0.write_all(b"an answer\n").unwrap();
    assert_eq!(std::io::read_to_string(reader).unwrap(), "an answer\n");
    engine.wait("a");

    engine.background(&engine.shell("b", "exec sleep 1000"));
    let opened = engine.client.open_sockets("b", &[socket(SocketProtocol::Udp)]).unwrap();
    assert_eq!(opened.len(), 1);
    assert!(engine.client.open_sockets("b", &[socket(SocketProtocol::Udp)]).unwrap_err().to_string().contains("address already in use"));
}

#[test]
fn a_container_reaches_the_host_through_the_way_out() {
    requires!(Root);
    let engine = Engine::start();
    let egress = match Egress::start(&engine.sandbox) {
        Ok(egress) => egress,
        Err(error) => return dockwright_testing::skip("a_container_reaches_the_host_through_the_way_out", &error.to_string()),
    };
    // An address of the host that is not loopback; a host without one has nothing to reach.
    let Some(address) = host_address() else {
        return dockwright_testing::skip("a_container_reaches_the_host_through_the_way_out", "the host has no address but loopback");
    };
    let listener = TcpListener::bind((address.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"from the host\n").unwrap());
    engine.relay("bridge br0 172.17.0.1 16").unwrap();
    let output = engine.run(&on_bridge(&engine, 2, &format!("nc {address} {port}"))).unwrap();
    assert_eq!(output.stdout, "from the host\n", "{} {}", egress.program(), output.stderr);
    server.join().unwrap();
}

fn host_address() -> Option<String> {
    let output = std::process::Command::new("hostname").arg("-I").output().ok()?;
    String::from_utf8(output.stdout).ok()?.split_whitespace().find(|address| address.contains('.')).map(str::to_owned)
}
