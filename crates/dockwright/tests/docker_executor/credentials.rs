//! Whose credentials a registry is shown, on a real dockerd.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use dockwright_job::{Credentials, FailureReason, JobPayload};
use dockwright_runner::{
    FixedEndpoint, RunnerConfig,
    config::{PullPolicy, RegistryLogins},
};
use dockwright_testing::requires;
use tokio_util::sync::CancellationToken;

use crate::{
    support::{Place, Recorder, image, run, variable},
    world::{PASSWORD, TURN, USER, World, auths},
};

/// What a job and a runner have.
#[derive(Default)]
struct Setup {
    variable: String,
    settings: String,
    job_password: String,
    image_in_service: bool,
}

struct Show {
    trace: String,
    failure: Option<FailureReason>,
}

async fn pull(world: &World, place: &Place, registry: &str, setup: Setup) -> Show {
    let settings = PathBuf::from(world.path("config.json"));
    fs::write(&settings, &setup.settings).expect("a file");
    let app = format!("{registry}/group/app:1");
    let mut payload = JobPayload { image: Some(image("busybox")), ..place.payload(1, &["echo pulled"]) };
    match setup.image_in_service {
        true => payload.services = vec![image(&app)],
        false => payload.image = Some(image(&app)),
    }
    payload.features.failure_reasons = vec!["runner_configuration_error".to_owned(), "image_pull_failure".to_owned()];
    payload.variables = vec![variable("DOCKER_AUTH_CONFIG", &setup.variable)];
    payload.credentials = vec![Credentials {
        kind: "registry".to_owned(),
        url: registry.to_owned(),
        username: USER.to_owned(),
        password: setup.job_password,
    }];
    let directory = |name: &str| place.root.path().join(name);
    let mut config = RunnerConfig::local(directory("builds"), directory("cache"), env!("CARGO_BIN_EXE_dockwright").into());
    config.docker.pull_policies = vec![if setup.image_in_service { PullPolicy::IfNotPresent } else { PullPolicy::Always }];
    config.docker.wait_for_services = std::time::Duration::ZERO;
    config.docker.logins = RegistryLogins { files: vec![settings], helper_directories: vec![PathBuf::from(world.path(""))] };
    let recorder = Recorder::with([payload]);
    run(&recorder, FixedEndpoint::new(world.daemon.endpoint()), config, 1, &CancellationToken::new()).await;
    let trace = recorder.trace(1);
    // As if it had never been pulled.
    let _ = world.daemon.client(&["rmi", &app]).output();
    assert!(!trace.contains(PASSWORD), "a secret was shown: {trace}");
    Show { trace, failure: recorder.final_update(1).failure_reason }
}

fn helper(world: &World, name: &str, script: &str) {
    let path = world.path(&format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_the_variable_the_runners_user_and_the_job() {
    requires!(Root, UserNamespace, Command("dockerd"), Command("busybox"), Command("nsenter"), DockerCli);
    let _turn = TURN.lock().await;
    let (world, place) = (World::start(), Place::new(&[]));
    helper(&world, "good", &format!("echo '{{\"ServerURL\":\"s\",\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'"));
    helper(&world, "locked", "echo the keychain is locked; exit 1");
    let file = world.path("config.json");
    for registry in &world.registries {
        let (right, wrong) = (auths(registry, USER, PASSWORD), auths(registry, USER, "wrong"));
        let of_group = auths(&format!("{registry}/group"), USER, PASSWORD);
        let by_helper = |name: &str| format!(r#"{{"credHelpers": {{"{registry}": "{name}"}}}}"#);
        let text = str::to_owned;
        let cases = [
            ("the variable", Setup { variable: right.clone(), settings: wrong.clone(), ..Setup::default() }, "$DOCKER_AUTH_CONFIG"),
            ("the user's settings", Setup { settings: right.clone(), job_password: text("wrong"), ..Setup::default() }, file.as_str()),
            ("a program", Setup { settings: by_helper("good"), ..Setup::default() }, &file),
            (
                "a program of the job",
                Setup { variable: by_helper("good"), settings: wrong.clone(), ..Setup::default() },
                "$DOCKER_AUTH_CONFIG",
            ),
            ("the longer path", Setup { variable: wrong.clone(), settings: of_group, ..Setup::default() }, &file),
            (
                "the job",
                Setup { settings: auths("other.tld", "a", "b"), job_password: text(PASSWORD), ..Setup::default() },
                "job payload (GitLab Registry)",
            ),
            (
                "the next one after a program that fails",
                Setup { settings: by_helper("locked"), job_password: text(PASSWORD), ..Setup::default() },
                "job payload (GitLab Registry)",
            ),
        ];
        for (name, setup, source) in cases {
            let show = pull(&world, &place, registry, setup).await;
            assert!(show.trace.contains(&format!("Authenticating with credentials from {source}\n")), "{name}: {}", show.trace);
            assert!(show.trace.contains("\npulled\n") && show.failure.is_none(), "{name}: {}", show.trace);
        }
        let of_service = Setup { settings: right.clone(), image_in_service: true, ..Setup::default() };
        let show = pull(&world, &place, registry, of_service).await;
        assert!(show.trace.contains(&format!("Authenticating with credentials from {file}\n")) && show.failure.is_none(), "{}", show.trace);

        let show = pull(&world, &place, registry, Setup { variable: wrong, settings: right, ..Setup::default() }).await;
        assert!(show.trace.contains("unauthorized"), "{}", show.trace);
        assert_eq!(show.failure, Some(FailureReason::RunnerConfigurationError), "{}", show.trace);
        let show = pull(&world, &place, registry, Setup { variable: by_helper("../bin/sh"), ..Setup::default() }).await;
        assert!(show.trace.contains("`../bin/sh` must not contain a path separator"), "{}", show.trace);
        assert_eq!(show.failure, Some(FailureReason::RunnerConfigurationError), "{}", show.trace);
    }
}
