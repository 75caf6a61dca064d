use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn payload() -> Vec<Credentials> {
    let registry = |kind: &str, url: &str, username: &str| Credentials {
        kind: kind.to_owned(),
        url: url.to_owned(),
        username: username.to_owned(),
        password: "p".to_owned(),
    };
    vec![registry("registry", "reg.tld:5000", "job"), registry("other", "x.tld", "nobody")]
}

/// A directory with programs and settings.
struct Machine {
    directory: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn program(&self, name: &str, script: &str) -> &Self {
        let path = self.directory.path().join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        self
    }

    fn logins(&self, files: &[(&str, &str)]) -> RegistryLogins {
        let write = |(name, text): &(&str, &str)| {
            let path = self.directory.path().join(name);
            fs::write(&path, text).expect("a file");
            path
        };
        let mut paths = vec![self.directory.path().join("gone.json")];
        paths.extend(files.iter().map(write));
        RegistryLogins { files: paths, helper_directories: vec!["/nonexistent".into(), self.directory.path().to_owned()] }
    }
}

async fn user(keyring: &Keyring, image: &str) -> Option<String> {
    let found = keyring.find(image).await.0?.credentials;
    found.username.or_else(|| found.identitytoken.map(|token| format!("token {token}")))
}

fn texts(problems: &[AuthError]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn the_longest_path_counts_most_then_the_order_of_the_sources() {
    let machine = Machine::new();
    let variable =
        r#"{"auths":{"reg.tld:5000/ns":{"auth":"bnM6c2VjcmV0"},"https://index.docker.io/v1/":{"username":"hub","password":"h"}}}"#;
    let file = r#"{"auths":{"reg.tld:5000/ns":{"auth":"ZmlsZTpwdw=="},"reg.tld:5000/ns/deep":{"auth":"ZGVlcDpwdwAA"},"file.tld":{"identitytoken":"id"}}}"#;
    let logins = machine.logins(&[("config.json", file), ("dockercfg", "not read")]);
    let (keyring, problems) = Keyring::new(variable, &logins, &payload()).await;
    assert_eq!(texts(&problems), [""; 0]);
    for (image, expected) in [
        ("reg.tld:5000/ns/image:1", Some("ns")),
        ("reg.tld:5000/ns/deep/image", Some("deep")),
        ("reg.tld:5000/other/image", Some("job")),
        ("busybox", Some("hub")),
        ("file.tld/image", Some("token id")),
        ("x.tld/image", None),
    ] {
        assert_eq!(user(&keyring, image).await.as_deref(), expected, "{image}");
    }
    let source = |image: &'static str| {
        let keyring = &keyring;
        async move { keyring.find(image).await.0.expect("credentials").source }
    };
    assert_eq!(source("busybox").await, "$DOCKER_AUTH_CONFIG");
    assert_eq!(source("file.tld/image").await, logins.files[1].display().to_string());
    assert_eq!(source("reg.tld:5000/x").await, "job payload (GitLab Registry)");
    let deep = keyring.find("reg.tld:5000/ns/deep/image").await.0.expect("credentials").credentials;
    assert_eq!((deep.password.as_deref(), deep.serveraddress.as_deref()), (Some("pw"), Some("reg.tld:5000")));
}

#[tokio::test]
async fn settings_of_old_clients() {
    let machine = Machine::new();
    let logins = machine.logins(&[("dockercfg", r#"{"https://old.tld/v1/":{"auth":"b2xkOnB3","email":"a@b"}}"#)]);
    let (keyring, _) = Keyring::new("", &logins, &[]).await;
    assert_eq!(user(&keyring, "old.tld/image").await.as_deref(), Some("old"));
}

#[tokio::test]
async fn programs_are_asked() {
    let machine = Machine::new();
    machine
        .program("one", r#"read server; [ "$1 $server" = "get one.tld" ] && echo '{"ServerURL":"x","Username":"one","Secret":"s"}'"#)
        .program(
            "store",
            r#"case $1 in
               list) echo '{"https://stored.tld":"u","lost.tld":"u","file.tld":"u"}' ;;
               get) case $(cat) in
                    https://stored.tld) echo '{"Username":"<token>","Secret":"t"}' ;;
                    file.tld) echo '{"Username":"from store","Secret":"t"}' ;;
                    *) echo 'credentials not found in native keychain'; exit 1 ;; esac ;; esac"#,
        )
        .program("broken", "echo the keychain is locked; exit 1");
    let settings = r#"{"auths":{"file.tld":{"auth":"dTpw"},"own.tld":{"auth":"b3duOnB3"}},"credsStore":"store",
                       "credHelpers":{"one.tld":"one","broken.tld":"broken","gone.tld":"gone"}}"#;
    let (keyring, problems) = Keyring::new(settings, &machine.logins(&[]), &payload()).await;
    assert_eq!(texts(&problems), ["$DOCKER_AUTH_CONFIG: the program `docker-credential-gone` is not installed on the runner's machine"]);
    assert!(!problems[0].is_hostile());
    for (image, expected) in [
        ("one.tld/image", Some("one")),
        ("stored.tld/image", Some("token t")),
        ("file.tld/image", Some("from store")),
        ("own.tld/image", Some("own")),
        ("lost.tld/image", None),
        ("broken.tld/image", None),
    ] {
        assert_eq!(user(&keyring, image).await.as_deref(), expected, "{image}");
    }
    let (_, problems) = keyring.find("broken.tld/image").await;
    assert_eq!(texts(&problems), ["$DOCKER_AUTH_CONFIG: `docker-credential-broken get`: the keychain is locked"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_a_problem_and_the_rest_is_used() {
    let machine = Machine::new();
    let (keyring, problems) = Keyring::new("{", &machine.logins(&[("config.json", "7")]), &payload()).await;
    assert!(problems[0].to_string().starts_with("$DOCKER_AUTH_CONFIG is not used, it cannot be read: "), "{problems:?}");
    assert!(problems[1].to_string().contains("config.json is not used, it cannot be read: "), "{problems:?}");
    assert_eq!(user(&keyring, "reg.tld:5000/x").await.as_deref(), Some("job"));
    let (_, problems) = Keyring::new(r#"{"credsStore":"../../bin/sh"}"#, &machine.logins(&[]), &[]).await;
    assert!(problems[0].is_hostile(), "{problems:?}");
}

#[test]
fn secrets_do_not_print() {
    let login = Login::Password { username: "u".to_owned(), password: "rosebud".to_owned() };
    assert_eq!(format!("{login:?}"), "[redacted]");
}
