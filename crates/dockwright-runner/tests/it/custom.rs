//! Jobs of the custom executor, with drivers that are shell scripts.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use dockwright_job::{Artifact, Cache, Dependency, DependencyFile, FailureReason, Image, JobId, JobState, JobToken, Variable};
use dockwright_runner::{
    FixedEndpoint, RunnerConfig,
    config::{CustomConfig, CustomProgram, ExecutorChoice},
};
use expect_test::expect;
use tokio_util::sync::CancellationToken;

use crate::support::{Place, Recorder, run, step, variable};

/// The driver: one file for all programs, called with what it is to do. `$0.d` is its own directory.
const DRIVER: &str = r#"#!/bin/bash
here=$(dirname "$0"); builds=$here/environment
case $1 in
  config)
    echo "a note of the driver" >&2
    echo "{\"builds_dir\": \"$builds\", \"cache_dir\": \"$here/cached\", \"hostname\": \"host.of.driver\",
           \"driver\": {\"name\": \"bash driver\", \"version\": \"v1\"}, \"job_env\": {\"MACHINE\": \"m-1\"}}" ;;
  prepare) echo "starting $MACHINE for $CUSTOM_ENV_CI_PROJECT_DIR" ;;
  run) echo "$3" >> "$here/phases"; bash "$2" || exit "$BUILD_FAILURE_EXIT_CODE" ;;
  cleanup) echo "$MACHINE" >> "$here/cleaned" ;;
esac
"#;

fn program(place: &Place, what: &str) -> CustomProgram {
    let path = place.root.path().join("driver").display().to_string();
    CustomProgram { path, arguments: vec![what.to_owned()], timeout: Some(Duration::from_secs(600)) }
}

/// A runner with a driver.
fn config(place: &Place, driver: &str) -> RunnerConfig {
    let path = place.root.path().join("driver");
    fs::write(&path, driver).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    let custom = CustomConfig {
        config: Some(program(place, "config")),
        prepare: Some(program(place, "prepare")),
        run: CustomProgram { timeout: None, ..program(place, "run") },
        cleanup: Some(program(place, "cleanup")),
        graceful_kill_timeout: Duration::from_secs(60),
        force_kill_timeout: Duration::from_secs(60),
        builds_dir: String::new(),
        cache_dir: String::new(),
        coordinator_url: "https://gitlab.example".to_owned(),
    };
    RunnerConfig { executor: ExecutorChoice::Custom, custom: Some(Arc::new(custom)), ..place.config() }
}

async fn run_with(config: RunnerConfig, recorder: &Arc<Recorder>) {
    run(recorder, FixedEndpoint::new("unix:///nonexistent.sock"), config, 1, &CancellationToken::new()).await;
}

fn read(place: &Place, name: &str) -> String {
    fs::read_to_string(place.root.path().join(name)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_trace_of_a_job() {
    let place = Place::new(&[("hello.txt", "hello\n")]);
    let mut payload = place.payload(1, &["cat hello.txt", "echo \"token $SECRET\"", "pwd"]);
    payload.variables = vec![Variable { masked: true, ..variable("SECRET", "tulip-bulb") }];
    payload.steps.push(step("after_script", &["echo \"after $CI_JOB_STATUS\""]));
    let recorder = Recorder::with([payload]);
    run_with(config(&place, DRIVER), &recorder).await;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let root = place.root.path().display().to_string();
    let trace = recorder.trace(1).replace(&place.sha()[..8], "<sha>").replace(&host, "<host>").replace(&root, "<root>");
    expect![[r#"
        Running with dockwright <version> (local)
          on local local, system ID: s_local
        <start prepare_executor>Preparing the "custom" executor
        a note of the driver
        Using Custom executor with driver bash driver v1...
        starting m-1 for <root>/environment/group/project
        <end prepare_executor><start prepare_script>Preparing environment
        Running on <host> via host.of.driver...
        <end prepare_script><start get_sources>Getting source from Git repository
        Fetching changes with git depth set to 20...
        Created fresh repository.
        Checking out <sha> as detached HEAD (ref is main)...
        Skipping Git submodules setup
        <end get_sources><start step_script>Executing "step_script" stage of the job script
        $ cat hello.txt
        hello
        $ echo "token $SECRET"
        token [MASKED]
        $ pwd
        <root>/environment/group/project
        <end step_script><start after_script>Running after_script
        Running after script...
        $ echo "after $CI_JOB_STATUS"
        after success
        <end after_script><start cleanup_file_variables>Cleaning up project directory and file based variables
        <end cleanup_file_variables>Job succeeded
    "#]]
    .assert_eq(&trace.replace(env!("CARGO_PKG_VERSION"), "<version>"));
    assert_eq!(read(&place, "phases"), "prepare_script\nget_sources\nbuild_script\nafter_script\ncleanup_file_variables\n");
    assert_eq!(read(&place, "cleaned"), "m-1\n");
    assert_eq!(fs::read_dir(place.root.path().join("builds/scratch")).expect("the scratch directory").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_driver_is_told() {
    let place = Place::new(&[]);
    let driver = r#"#!/bin/bash
[ "$1" = config ] && { echo '{"builds_dir": "/b", "cache_dir": "/c"}'; exit; }
[ "$1" = prepare ] || exit 0
echo "image $CUSTOM_ENV_CI_JOB_IMAGE, services $CUSTOM_ENV_CI_JOB_SERVICES"
echo "key [$CUSTOM_ENV_KEY], plain [$KEY], codes $BUILD_FAILURE_EXIT_CODE $SYSTEM_FAILURE_EXIT_CODE"
grep -o '"ref":"main"' "$JOB_RESPONSE_FILE"
stat -c %a "$JOB_RESPONSE_FILE" "$TMPDIR"
"#;
    let mut payload = place.payload(1, &["true"]);
    payload.variables = vec![variable("KEY", "a=b\nc"), variable("BASE", "debian")];
    payload.image = Some(Image { name: "$BASE:12".to_owned(), ..Image::default() });
    let command = vec!["--verbose".to_owned()];
    payload.services = vec![Image { name: "postgres:16".to_owned(), alias: "db".to_owned(), command, ..Image::default() }];
    let recorder = Recorder::with([payload]);
    run_with(config(&place, driver), &recorder).await;
    let trace = recorder.trace(1);
    let told = trace.split_once("Using Custom executor...\n").and_then(|(_, told)| told.split_once("<end prepare_executor>"));
    expect![[r#"
        image debian:12, services [{"name":"postgres:16","alias":"db","entrypoint":null,"command":["--verbose"]}]
        key [a=b
        c], plain [], codes 1 2
        "ref":"main"
        700
        700
    "#]]
    .assert_eq(told.map_or(trace.as_str(), |(told, _)| told));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_fails_with_the_code_that_the_driver_left() {
    let place = Place::new(&[]);
    let with_code = DRIVER.replace("bash \"$2\" ||", "bash \"$2\" || { echo $? > \"$BUILD_EXIT_CODE_FILE\"; false; } ||");
    let mut payload = place.payload(1, &["exit 42"]);
    payload.steps.push(step("after_script", &["echo \"after $CI_JOB_STATUS\""]));
    let recorder = Recorder::with([payload]);
    run_with(config(&place, &with_code), &recorder).await;
    let update = recorder.final_update(1);
    assert_eq!((update.state, update.failure_reason, update.exit_code), (JobState::Failed, Some(FailureReason::ScriptFailure), Some(42)));
    let trace = recorder.trace(1);
    assert!(trace.contains("after failed\n") && trace.ends_with("ERROR: Job failed: exit status 42\n"), "{trace}");
    let recorder = Recorder::with([place.payload(2, &["exit 42"])]);
    run_with(config(&place, DRIVER), &recorder).await;
    assert_eq!(recorder.final_update(2).exit_code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_driver_are_failures_of_the_system() {
    let cases = [
        ("exit \"$SYSTEM_FAILURE_EXIT_CODE\"", "run_exec failed: exit status 2"),
        ("exit 7", "run_exec ended with exit status 7, which is neither BUILD_FAILURE_EXIT_CODE (1) nor SYSTEM_FAILURE_EXIT_CODE (2)"),
    ];
    for (action, words) in cases {
        let place = Place::new(&[]);
        let driver = DRIVER.replace("bash \"$2\" || exit", &format!("[ \"$3\" = get_sources ] && {action}; bash \"$2\" || exit"));
        let recorder = Recorder::with([place.payload(1, &["echo never"])]);
        run_with(config(&place, &driver), &recorder).await;
        assert_eq!(recorder.final_update(1).failure_reason, Some(FailureReason::RunnerSystemFailure));
        let trace = recorder.trace(1);
        assert!(trace.ends_with(&format!("ERROR: Job failed (system failure): {words}\n")), "{trace}");
        assert_eq!(read(&place, "cleaned"), "m-1\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_and_a_missing_directory() {
    for (answer, words) in [
        ("echo hello; exit", "config_exec printed what is no JSON object"),
        ("echo '{\"builds_dir\": \"/b\"}'; exit", "the custom executor has no `cache_dir`: set it in config.toml"),
        ("echo '{\"shell\": \"pwsh\"}'; exit", "config_exec asks for the shell `pwsh`"),
        ("exit 1", "Job failed: exit status 1"),
    ] {
        let place = Place::new(&[]);
        let driver = DRIVER.replace("    echo \"a note of the driver\" >&2\n", &format!("    {answer}\n"));
        let mut payload = place.payload(1, &["echo never"]);
        // Preparing is tried again after seconds; the job's own time ends that.
        payload.runner_info.timeout = 2;
        let recorder = Recorder::with([payload]);
        run_with(config(&place, &driver), &recorder).await;
        let trace = recorder.trace(1);
        assert!(trace.contains(words), "{trace}");
        assert_eq!(recorder.final_update(1).state, JobState::Failed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn canceling_ends_the_script_and_everything_is_cleaned_up() {
    let place = Place::new(&[]);
    let mut payload = place.payload(1, &["echo started; sleep 1000", "echo unreachable"]);
    payload.steps.push(step("after_script", &["echo \"after $CI_JOB_STATUS\""]));
    let recorder = Recorder::with([payload]);
    recorder.cancel_on("\nstarted\n", &recorder.signals.cancel);
    run_with(config(&place, DRIVER), &recorder).await;
    let trace = recorder.trace(1);
    assert!(trace.contains("after canceled\n") && !trace.contains("\nunreachable"), "{trace}");
    assert!(trace.ends_with("ERROR: Job failed: canceled\n"), "{trace}");
    assert_eq!(read(&place, "cleaned"), "m-1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_heed_sigterm_is_killed() {
    let place = Place::new(&[]);
    let driver = DRIVER.replace("  run) ", "  run) trap '' TERM; ");
    let payload = place.payload(1, &["trap '' TERM; echo started; while :; do sleep 0.1; done"]);
    let recorder = Recorder::with([payload]);
    recorder.cancel_on("\nstarted\n", &recorder.signals.abort);
    let mut config = config(&place, &driver);
    let custom = config.custom.as_deref().expect("it was set");
    config.custom = Some(Arc::new(CustomConfig { graceful_kill_timeout: Duration::from_millis(50), ..custom.clone() }));
    run_with(config, &recorder).await;
    assert!(recorder.trace(1).ends_with("ERROR: Job failed: canceled\n"), "{}", recorder.trace(1));
    assert_eq!(read(&place, "cleaned"), "m-1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_has_its_time_and_may_leave_things_running() {
    let place = Place::new(&[]);
    let driver = DRIVER.replace("  prepare) ", "  prepare) sleep 1000 & echo $! > \"$here/left\"; ");
    let driver = driver.replace("  cleanup) ", "  cleanup) kill $(cat \"$here/left\"); sleep 1000; ");
    let recorder = Recorder::with([place.payload(1, &["true"])]);
    let mut config = config(&place, &driver);
    let custom = config.custom.as_deref().expect("it was set");
    let cleanup = custom.cleanup.clone().map(|cleanup| CustomProgram { timeout: Some(Duration::from_secs(1)), ..cleanup });
    config.custom = Some(Arc::new(CustomConfig { cleanup, ..custom.clone() }));
    run_with(config, &recorder).await;
    let trace = recorder.trace(1);
    assert_eq!(recorder.final_update(1).state, JobState::Success, "{trace}");
    assert!(trace.contains("WARNING: clean-up: cleanup_exec took longer than 1s\n"), "{trace}");
}

/// Says how it was called, in the place of a real one.
const HELPER: &str = "#!/bin/sh\necho \"helper in $(basename \"$PWD\"): $*\"\ncase $* in *absent*) exit 1;; esac\n";

#[tokio::test(flavor = "multi_thread")]
async fn caches_and_artifacts_are_the_environments_own_business() {
    let place = Place::new(&[]);
    let helper = place.root.path().join("gitlab-runner");
    fs::write(&helper, HELPER).expect("a file");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("our own file");
    let mut payload = place.payload(1, &["true"]);
    let paths = vec!["out/$NAME".to_owned(), "it's".to_owned()];
    payload.variables = vec![variable("NAME", "x")];
    payload.artifacts =
        vec![Artifact { paths: paths.clone(), name: "$NAME-1".to_owned(), expire_in: "1 week".to_owned(), ..Artifact::default() }];
    payload.cache = vec![Cache { key: "absent".to_owned(), paths, fallback_keys: vec!["main".to_owned()], ..Cache::default() }];
    payload.dependencies = vec![Dependency {
        id: JobId(7),
        token: JobToken::new("dependency-token"),
        name: "build".to_owned(),
        artifacts_file: DependencyFile { filename: "artifacts.zip".to_owned(), size: 1 },
    }];
    let with_path = DRIVER.replace("bash \"$2\" ||", "PATH=$here:$PATH bash \"$2\" ||");
    let recorder = Recorder::with([payload.clone()]);
    run_with(config(&place, &with_path), &recorder).await;
    let trace = recorder.trace(1).replace(&place.root.path().display().to_string(), "<root>");
    let phases = trace.split_once("<start restore_cache>").map(|(_, phases)| phases.replace("<start", "\n<start"));
    expect![[r#"
        Restoring cache
        Checking cache for absent...
        helper in project: cache-extractor --file <root>/cached/group/project/absent/cache.zip --timeout 10
        Failed to extract cache
        Checking cache for main...
        helper in project: cache-extractor --file <root>/cached/group/project/main/cache.zip --timeout 10
        Successfully extracted cache
        <end restore_cache>
        <start download_artifacts>Downloading artifacts
        Downloading artifacts for build (7)...
        helper in project: artifacts-downloader --url https://gitlab.example --token dependency-token --id 7
        <end download_artifacts>
        <start step_script>Executing "step_script" stage of the job script
        $ true
        <end step_script>
        <start archive_cache>Saving cache for successful job
        Creating cache absent...
        helper in project: cache-archiver --file <root>/cached/group/project/absent/cache.zip --timeout 10 --path out/x --path it's
        Failed to create cache
        <end archive_cache>
        <start upload_artifacts_on_success>Uploading artifacts for successful job
        Uploading artifacts...
        helper in project: artifacts-uploader --url https://gitlab.example --token [MASKED] --id 1 --path out/x --path it's --name x-1 --expire-in 1 week --artifact-format zip
        <end upload_artifacts_on_success>
        <start cleanup_file_variables>Cleaning up project directory and file based variables
        <end cleanup_file_variables>Job succeeded
    "#]].assert_eq(&phases.unwrap_or(trace));

    let mut without = payload;
    without.id = JobId(2);
    let recorder = Recorder::with([without]);
    let driver = DRIVER.replace("bash \"$2\" ||", "PATH=/usr/bin:/bin bash \"$2\" ||");
    run_with(config(&place, &driver), &recorder).await;
    let trace = recorder.trace(2);
    for what in ["Extracting cache", "Creating cache", "Artifacts downloading", "Uploading artifacts"] {
        assert!(trace.contains(&format!("\nMissing gitlab-runner. {what} is disabled.\n")), "{what}: {trace}");
    }
}
