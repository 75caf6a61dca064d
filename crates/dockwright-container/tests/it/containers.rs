//! What Docker users see of one container.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use dockwright_container::{
    process::{Capabilities, ContainerSpec, Limits, Mount, MountSource, NamespaceMode, ProcessSpec, Rlimit, Rootfs, TerminalSize},
    spawner::{ErrorKind, ExitStatus},
};
use dockwright_testing::requires;

use crate::harness::{Engine, Output, busybox_layer, names, until};

fn ok(stdout: &str) -> Output {
    Output { code: 0, stdout: stdout.to_owned(), stderr: String::new() }
}

#[test]
fn exit_codes_and_output() {
    requires!(Root);
    let engine = Engine::start();
    assert_eq!(engine.script("a", "echo out; echo err >&2; exit 7"), Output { code: 7, stdout: "out\n".into(), stderr: "err\n".into() });
    assert_eq!(engine.script("b", "kill -9 $$").code, 0, "nothing in a pid namespace kills its PID 1");
    engine.background(&engine.shell("c", "exec sleep 1000"));
    engine.client.signal("c", 9).unwrap();
    assert_eq!(engine.wait("c").status, ExitStatus::Signal(9));
    assert_eq!(engine.client.signal("c", 9).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn commands_that_cannot_run_in_dockers_words() {
    requires!(Root);
    let engine = Engine::start();
    let rootfs = engine.rootfs("root");
    let attempt = |command: &str| {
        let spec = ContainerSpec::new("a", rootfs.clone(), ProcessSpec::new([command]));
        let error = engine.run(&spec).unwrap_err();
        (error.kind(), error.to_string())
    };
    let exec = |text: &str| (ErrorKind::Exec, text.to_owned());
    assert_eq!(attempt("nothing"), exec("exec: \"nothing\": executable file not found in $PATH"));
    assert_eq!(attempt("/nothing"), exec("exec: \"/nothing\": stat /nothing: no such file or directory"));
    assert_eq!(attempt("/etc/passwd"), exec("exec: \"/etc/passwd\": permission denied"));
    assert_eq!(attempt("/etc"), exec("exec: \"/etc\": is a directory"));
    // The id is free again at once, and the failure was no exit.
    let spec = ContainerSpec::new("a", rootfs.clone(), ProcessSpec::new(["true"]));
    assert_eq!(engine.run(&spec).unwrap(), ok(""));
}

#[test]
fn users_and_directories() {
    requires!(Root);
    let engine = Engine::start();
    let rootfs = engine.rootfs("root");
    let run = |user: &str, cwd: &str, script: &str| {
        let mut spec = ContainerSpec::new("a", rootfs.clone(), ProcessSpec::new(["/bin/sh", "-c", script]));
        spec.process.user = user.to_owned();
        spec.process.cwd = cwd.to_owned();
        spec.process.env = vec!["A=b".to_owned()];
        engine.run(&spec).map_err(|error| error.to_string())
    };
    assert_eq!(run("", "", "id; echo $HOME $A; pwd").unwrap(), ok("uid=0(root) gid=0(root) groups=0(root)\n/root b\n/\n"));
    assert_eq!(
        run("app", "/tmp", "id; echo $HOME; pwd").unwrap(),
        ok("uid=1000(app) gid=1000(app) groups=44(extra),1000(app)\n/home/app\n/tmp\n")
    );
    assert_eq!(run("1234:44", "/made/for/it", "id -u; id -g; pwd").unwrap(), ok("1234\n44\n/made/for/it\n"));
    assert_eq!(run("missing", "", "").unwrap_err(), "unable to find user missing: no matching entries in passwd file");
    assert!(run("", "relative", "").unwrap_err().contains("absolute path"));
    assert_eq!(run("app", "", "echo through > /dev/stdout").unwrap(), ok("through\n"), "streams belong to the user");
    assert_eq!(run("app", "", "echo x > /etc/mine").unwrap().code, 1);
}

#[test]
fn writes_go_to_the_upper_directory_and_are_roots_there() {
    requires!(Root);
    let engine = Engine::start();
    assert_eq!(engine.script("a", "echo new > /file; stat -c %u /bin/busybox; rm /etc/group"), ok("0\n"));
    let upper = engine.scratch.path().join("a/upper");
    let file = fs::metadata(upper.join("file")).unwrap();
    assert!(file.uid() >= 1 << 24, "uid {} is of the sandbox's range", file.uid());
    assert!(upper.join("etc/group").symlink_metadata().is_ok_and(|whiteout| whiteout.rdev() == 0 && !whiteout.is_file()));
    assert!(busybox_layer().join("etc/group").exists(), "the layer is untouched");
}

#[test]
fn a_container_starts_again_with_its_files() {
    requires!(Root);
    let engine = Engine::start();
    let rootfs = engine.rootfs("root");
    let spec = |script: &str| ContainerSpec::new("a", rootfs.clone(), ProcessSpec::new(["/bin/sh", "-c", script]));
    assert_eq!(engine.run(&spec("echo kept > /file")).unwrap(), ok(""));
    assert_eq!(engine.run(&spec("cat /file")).unwrap(), ok("kept\n"));
    // Files of a container that does not run.
    let root = engine.client.open_rootfs("root").unwrap();
    assert!(names(&root).contains(&"file".to_owned()));
    engine.client.unmount_rootfs("root").unwrap();
    assert_eq!(engine.client.unmount_rootfs("root").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(engine.run(&spec("true")).unwrap_err().kind(), ErrorKind::System);
}

#[test]
fn namespaces_and_names() {
    requires!(Root);
    let engine = Engine::start();
    let mut spec =
        engine.shell("a", "hostname; cat /proc/sys/kernel/domainname; echo $$; ip -o link | wc -l; cat /proc/1/cgroup | wc -l; ls /dev");
    spec.hostname = "box".to_owned();
    spec.domainname = "example.test".to_owned();
    let output = engine.run(&spec).unwrap();
    let mut lines = output.stdout.lines();
    assert_eq!([lines.next(), lines.next(), lines.next(), lines.next()], [Some("box"), Some("example.test"), Some("1"), Some("1")]);
    let devices: Vec<&str> = lines.skip(1).collect();
    assert_eq!(
        devices,
        ["fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]
    );

    let mut second = engine.shell("b", "hostname; ps > /list; wc -l < /list");
    second.uts = NamespaceMode::Sandbox;
    assert_eq!(engine.run(&second).unwrap().stdout, "sandbox\n3\n", "the header, the shell and ps");
}

#[test]
fn executed_processes_join_the_container() {
    requires!(Root);
    let engine = Engine::start();
    let mut spec = engine.shell("a", "echo mark > /tmp/mark; exec sleep 1000");
    spec.hostname = "joined".to_owned();
    engine.background(&spec);
    until(|| engine.exec("a", ProcessSpec::new(["test", "-s", "/tmp/mark"])).unwrap().code == 0);
    let mut process = ProcessSpec::new([
        "/bin/sh",
        "-c",
        "hostname; cat /tmp/mark; id -u; ps | grep -c '[s]leep 1000'; grep CapEff /proc/self/status; exit 3",
    ]);
    process.user = "app".to_owned();
    let output = engine.exec("a", process).unwrap();
    assert_eq!(output, Output { code: 3, stdout: "joined\nmark\n1000\n1\nCapEff:\t0000000000000000\n".into(), stderr: String::new() });
    let error = engine.exec("a", ProcessSpec::new(["nothing"])).unwrap_err();
    assert_eq!(error.to_string(), "exec: \"nothing\": executable file not found in $PATH");
    assert_eq!(engine.exec("nobody", ProcessSpec::new(["true"])).unwrap_err().kind(), ErrorKind::Conflict);

    // A process of the container is known as its own, an executed one's child too; the engine's is not.
    let pids: Vec<u32> = engine.client.processes("a").unwrap().iter().map(|process| process.pid).collect();
    assert_eq!(pids.len(), 1);
    assert_eq!(engine.client.container_of(pids[0]).unwrap().as_deref(), Some("a"));
    assert_eq!(engine.client.container_of(1).unwrap(), None);
    assert_eq!(engine.client.container_of(0).unwrap(), None);
    engine.client.signal_all("a", 9).unwrap();
    assert_eq!(engine.wait("a").status.code(), 137);
}

#[test]
fn terminals() {
    requires!(Root);
    let engine = Engine::start();
    let mut spec = engine.shell("a", "stty size; test -t 0 && test -c /dev/console && read line && echo got $line");
    spec.process.terminal = Some(TerminalSize { rows: 40, columns: 120 });
    let started = engine.client.start(&spec, None, &[]).unwrap();
    let mut terminal = fs::File::from(started.terminal.unwrap());
    terminal.write_all(b"word\n").unwrap();
    let mut text = String::new();
    // The kernel reports the end of a terminal as an I/O error.
    let _ = terminal.read_to_string(&mut text);
    assert!(text.contains("40 120\r\n") && text.contains("got word\r\n"), "{text:?}");
    assert_eq!(engine.wait("a").status.code(), 0);
}

#[test]
fn mounts() {
    requires!(Root);
    let engine = Engine::start();
    engine.background(&engine.shell("other", "mkdir /src; echo theirs > /src/file; mount; exec sleep 1000"));
    until(|| engine.exec("other", ProcessSpec::new(["test", "-s", "/src/file"])).unwrap().code == 0);
    let source = engine.client.clone_tree(Some("other"), Path::new("/src"), false).unwrap();
    let made = engine.client.clone_tree(Some("other"), Path::new("/made/up"), true).unwrap();
    assert_eq!(engine.client.clone_tree(Some("other"), Path::new("/missing"), false).unwrap_err().kind(), ErrorKind::Invalid);
    engine.client.attach_mount(Path::new("/run/binds/1"), &made).unwrap();

    let script = "cat /in/file; echo x > /in/y || echo read-only; echo volume > /vol/f; echo t > /tmp/t; touch /kept/k; mount | grep -c ' /tmp type tmpfs'; \
                  test -S /var/run/docker.sock; echo $?";
    let mut spec = engine.shell("a", script);
    let mount = |target: &str, source, read_only| Mount { target: target.into(), source, read_only };
    fs::create_dir(engine.scratch.path().join("volume")).unwrap();
    engine.give(&engine.scratch.path().join("volume"));
    spec.mounts = vec![
        mount("/in", MountSource::Descriptor(0), true),
        mount("/vol", MountSource::Path("/var/lib/docker/volume".into()), false),
        mount("/tmp", MountSource::Tmpfs { options: vec!["size=1m".into(), "mode=1777".into()] }, false),
        mount("/kept", MountSource::Path("/run/binds/1".into()), false),
        mount("/var/run/docker.sock", MountSource::Path("/etc/hostname".into()), false),
    ];
    let null = fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let stdio = dockwright_container::spawner::Stdio { stdin: null.as_fd(), stdout: writer.as_fd(), stderr: null.as_fd() };
    engine.client.start(&spec, Some(stdio), &[source.as_fd()]).unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "theirs\nread-only\n1\n1\n");
    assert_eq!(fs::read_to_string(engine.scratch.path().join("volume/f")).unwrap(), "volume\n");
    assert_eq!(engine.exec("other", ProcessSpec::new(["ls", "/made/up"])).unwrap(), ok("k\n"), "the directory is shared, not copied");
    assert!(names(&engine.client.open_root("other").unwrap()).contains(&"made".to_owned()));

    let refused = |target: &str, source: &str| {
        let mut spec = ContainerSpec::new("b", Rootfs::Mounted("a".into()), ProcessSpec::new(["true"]));
        spec.mounts = vec![mount(target, MountSource::Path(source.into()), false)];
        engine.run(&spec).unwrap_err().to_string()
    };
    engine.wait("a");
    assert!(refused("/etc/passwd", "/tmp").contains("not a directory"));
    assert!(refused("/", "/tmp").contains("destination can't be '/'"));
    assert!(refused("/proc/sys", "/tmp").contains("inside /proc"));
    assert!(refused("/x", "/does/not/exist").contains("no such file or directory"));
}

#[test]
fn capabilities_limits_and_sysctls() {
    requires!(Root);
    let engine = Engine::start();
    let mut spec = engine.shell("a", "grep CapEff /proc/self/status; ulimit -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/core/somaxconn; mount -t tmpfs t /tmp && echo mounted; grep -c . /proc/1/status >/dev/null; df -m /dev/shm | grep -c 16");
    spec.process.capabilities = Capabilities { privileged: false, add: vec!["SYS_ADMIN".into()], drop: vec!["ALL".into()] };
    spec.process.rlimits = vec![Rlimit { name: "nofile".into(), soft: 100, hard: 100_000_000 }];
    spec.sysctls = [("net.core.somaxconn".to_owned(), "77".to_owned())].into();
    spec.shm_bytes = 16 << 20;
    assert_eq!(engine.run(&spec).unwrap().stdout, "CapEff:\t0000000000200000\n100\n0\n77\nmounted\n1\n");

    let refuse = |change: fn(&mut ContainerSpec)| {
        let mut spec = ContainerSpec::new("b", Rootfs::Mounted("a".into()), ProcessSpec::new(["true"]));
        change(&mut spec);
        engine.run(&spec).unwrap_err().to_string()
    };
    assert_eq!(refuse(|spec| spec.process.capabilities.add = vec!["FLY".into()]), "invalid capability: \"FLY\"");
    assert!(refuse(|spec| _ = spec.sysctls.insert("kernel.panic".into(), "1".into())).contains("not in a separate kernel namespace"));
    assert!(refuse(|spec| _ = spec.sysctls.insert("net.core/../../kernel.panic".into(), "1".into())).contains("not in a separate"));
    assert!(refuse(|spec| spec.process.rlimits = vec![Rlimit { name: "x".into(), soft: 1, hard: 1 }]).contains("invalid ulimit"));
}

#[test]
fn privileged_means_the_sandbox_not_the_host() {
    requires!(Root);
    let engine = Engine::start();
    let mut spec = engine.shell("a", "mount -t tmpfs t /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs t /mnt && echo mounted; mknod /tmp/d b 254 0 2>/dev/null || echo no devices; echo 1 > /proc/sys/kernel/panic 2>/dev/null || echo no sysctl; grep Seccomp: /proc/self/status");
    spec.process.capabilities.privileged = true;
    let output = engine.run(&spec).unwrap();
    assert_eq!(output.stdout, "mounted\nno devices\nno sysctl\nSeccomp:\t0\n", "{}", output.stderr);
}

#[test]
fn read_only_root() {
    requires!(Root);
    let engine = Engine::start();
    let mut spec = engine.shell("a", "touch /x 2>/dev/null || echo no; touch /dev/shm/x && echo yes");
    spec.read_only_rootfs = true;
    assert_eq!(engine.run(&spec).unwrap(), ok("no\nyes\n"));
}

#[test]
fn init_reaps_and_passes_signals() {
    requires!(Root);
    let engine = Engine::start();
    let mut spec = engine.shell("a", "trap 'exit 5' TERM; (setsid sleep 0.01 &); echo $$; touch /tmp/ready; while :; do sleep 0.05; done");
    spec.init = true;
    engine.background(&spec);
    until(|| engine.exec("a", ProcessSpec::new(["test", "-e", "/tmp/ready"])).unwrap().code == 0);
    until(|| engine.exec("a", ProcessSpec::new(["/bin/sh", "-c", "! grep -q '^State:.Z' /proc/[0-9]*/status"])).unwrap().code == 0);
    engine.client.signal("a", 15).unwrap();
    assert_eq!(engine.wait("a").status.code(), 5);
}

#[test]
fn memory_and_process_limits() {
    requires!(Root);
    let engine = Engine::start();
    if !engine.sandbox.warnings().is_empty() {
        dockwright_testing::skip("memory_and_process_limits", &engine.sandbox.warnings().join("; "));
        return;
    }
    let mut spec = engine.shell("a", "exec dd if=/dev/zero of=/dev/null bs=200M count=1");
    spec.limits = Limits { memory_bytes: Some(32 << 20), pids: Some(20), ..Limits::default() };
    let started = engine.background(&spec);
    let event = engine.wait("a");
    assert_eq!((event.pid, event.status.code(), event.oom_killed), (started.pid, 137, true));
    let mut spec = engine.shell("b", "for i in $(seq 50); do sleep 100 & done");
    spec.limits.pids = Some(20);
    let output = engine.run(&spec).unwrap();
    assert!(output.stderr.contains("can't fork"), "{output:?}");
}

#[test]
fn pause_stops_everything() {
    requires!(Root);
    let engine = Engine::start();
    engine.background(&engine.shell("a", "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; done"));
    let root = engine.client.open_rootfs("a").unwrap();
    let count = || {
        let path = format!("/proc/self/fd/{}/tmp/count", std::os::fd::AsRawFd::as_raw_fd(&root));
        fs::read_to_string(path).unwrap_or_default()
    };
    until(|| count().len() > 2);
    engine.client.pause("a").unwrap();
    let mut last = count();
    // A process on another processor may finish its turn.
    until(|| std::mem::replace(&mut last, count()) == last && count() == last);
    let frozen = count();
    assert!((0..1000).all(|_| count() == frozen));
    engine.client.unpause("a").unwrap();
    until(|| count() != frozen);
    assert!(engine.client.usage("a").unwrap().cpu_ns > 0 || !engine.sandbox.warnings().is_empty());
    engine.client.signal("a", 9).unwrap();
    engine.wait("a");
}

#[test]
fn forty_at_once() {
    requires!(Root);
    let engine = Engine::start();
    std::thread::scope(|scope| {
        for number in 0..40 {
            let engine = &engine;
            scope.spawn(move || {
                let name = format!("c{number}");
                assert_eq!(
                    engine.script(&name, &format!("echo {number}; exit {number}")),
                    Output { code: number, stdout: format!("{number}\n"), stderr: String::new() }
                );
            });
        }
    });
}
