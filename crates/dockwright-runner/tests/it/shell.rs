//! Jobs without an image.

use std::{fs, sync::Arc};

use dockwright_job::{
    Artifact, ArtifactWhen, Cache, Dependency, DependencyFile, FailureReason, Hook, HookName, JobId, JobPayload, JobState, JobToken,
    Variable,
};
use dockwright_runner::{FixedEndpoint, RunnerConfig};
use expect_test::expect;
use tokio_util::sync::CancellationToken;

use crate::support::{Place, Recorder, run, step, variable};

/// No engine is wanted, so none is asked for.
fn without_engine(mut config: RunnerConfig) -> RunnerConfig {
    config.shell.with_engine = false;
    config
}

async fn run_all(place: &Place, recorder: &Arc<Recorder>) {
    let engines = FixedEndpoint::new("unix:///nonexistent.sock");
    run(recorder, engines, without_engine(place.config()), 1, &CancellationToken::new()).await;
}

fn filtered(place: &Place, trace: &str) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let version = env!("CARGO_PKG_VERSION");
    trace.replace(&place.sha()[..8], "<sha>").replace(&host, "<host>").replace(version, "<version>")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runners_own_commands_surround_those_of_steps() {
    let place = Place::new(&[]);
    let mut config = without_engine(place.config());
    config.pre_build_script = "export FROM_RUNNER=yes\necho before".to_owned();
    config.post_build_script = "echo behind".to_owned();
    let mut first = place.payload(1, &["echo \"runner: $FROM_RUNNER\""]);
    first.steps.push(step("after_script", &["echo \"after: $FROM_RUNNER.\""]));
    let recorder = Recorder::with([first, place.payload(2, &["false"])]);
    run(&recorder, FixedEndpoint::new("unix:///nonexistent.sock"), config, 1, &CancellationToken::new()).await;
    let (first, failed) = (recorder.trace(1), recorder.trace(2));
    let script = "$ export FROM_RUNNER=yes # collapsed multi-line command\nbefore\n$ echo \"runner: $FROM_RUNNER\"\nrunner: yes\n\
                  $ echo behind\nbehind\n";
    assert!(first.contains(script) && first.contains("after: .\n"), "{first}");
    assert!(failed.contains("before\n") && !failed.contains("behind"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_surround_the_sources() {
    let place = Place::new(&[("hello.txt", "hello\n")]);
    let mut config = without_engine(place.config());
    config.pre_get_sources_script = "echo \"runner before: $(ls hello.txt 2> /dev/null)\"".to_owned();
    config.post_get_sources_script = "echo runner behind".to_owned();
    let hook = |name, line: &str| Hook { name, script: vec![line.to_owned()] };
    let hooks = vec![
        hook(HookName::PostGetSourcesScript, "echo \"job behind: $(cat hello.txt)\""),
        hook(HookName::PreGetSourcesScript, "echo job before"),
    ];
    let with_hooks = |payload: JobPayload| JobPayload { hooks: hooks.clone(), ..payload };
    let mut without_sources = with_hooks(place.payload(2, &["echo alone"]));
    without_sources.variables = vec![variable("GIT_STRATEGY", "none")];
    let mut failing = place.payload(3, &["echo never"]);
    failing.hooks = vec![hook(HookName::PreGetSourcesScript, "exit 9")];
    let recorder = Recorder::with([with_hooks(place.payload(1, &["true"])), without_sources, failing]);
    run(&recorder, FixedEndpoint::new("unix:///nonexistent.sock"), config, 1, &CancellationToken::new()).await;
    let trace = recorder.trace(1);
    let printed: Vec<&str> = trace.lines().filter(|line| line.contains("before") || line.contains("behind")).collect();
    let printed: Vec<&str> = printed.into_iter().filter(|line| !line.starts_with("$ ")).collect();
    assert_eq!(printed, ["runner before: ", "job before", "job behind: hello", "runner behind"], "{trace}");
    let alone = recorder.trace(2);
    assert!(!alone.contains("before") && !alone.contains("behind") && alone.contains("\nalone\n"), "{alone}");
    assert_eq!(recorder.final_update(3).exit_code, Some(9));
    assert!(!recorder.trace(3).contains("Fetching changes"), "{}", recorder.trace(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_trace_of_a_job() {
    let place = Place::new(&[("hello.txt", "hello\n")]);
    let mut payload = place.payload(1, &["cat hello.txt", "echo \"token $SECRET\" $CI_JOB_STATUS"]);
    payload.variables = vec![Variable { masked: true, ..variable("SECRET", "tulip-bulb") }];
    payload.steps.push(step("after_script", &["echo \"after $CI_JOB_STATUS\""]));
    let recorder = Recorder::with([payload]);
    run_all(&place, &recorder).await;
    assert_eq!(recorder.final_update(1).state, JobState::Success);
    expect![[r#"
        Running with dockwright <version> (local)
          on local local, system ID: s_local
        <start prepare_executor>Preparing the "shell" executor
        Using Shell (bash) executor...
        <end prepare_executor><start prepare_script>Preparing environment
        Running on <host> via <host>...
        <end prepare_script><start get_sources>Getting source from Git repository
        Fetching changes with git depth set to 20...
        Created fresh repository.
        Checking out <sha> as detached HEAD (ref is main)...
        Skipping Git submodules setup
        <end get_sources><start step_script>Executing "step_script" stage of the job script
        $ cat hello.txt
        hello
        $ echo "token $SECRET" $CI_JOB_STATUS
        token [MASKED] running
        <end step_script><start after_script>Running after_script
        Running after script...
        $ echo "after $CI_JOB_STATUS"
        after success
        <end after_script><start cleanup_file_variables>Cleaning up project directory and file based variables
        <end cleanup_file_variables>Job succeeded
    "#]]
    .assert_eq(&filtered(&place, &recorder.trace(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_script_is_a_result() {
    let place = Place::new(&[]);
    let mut payload = place.payload(1, &["echo before", "exit 3", "echo unreachable"]);
    payload.steps.push(step("after_script", &["echo \"status $CI_JOB_STATUS\"; false"]));
    let recorder = Recorder::with([payload]);
    run_all(&place, &recorder).await;
    let update = recorder.final_update(1);
    assert_eq!((update.state, update.failure_reason, update.exit_code), (JobState::Failed, Some(FailureReason::ScriptFailure), Some(3)));
    let trace = recorder.trace(1);
    assert!(trace.contains("status failed\n"), "{trace}");
    assert!(trace.contains("WARNING: after_script failed, but job will continue unaffected: exit status 1\n"), "{trace}");
    assert!(!trace.contains("unreachable\n"), "{trace}");
    assert!(trace.ends_with("ERROR: Job failed: exit status 3\n"), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_and_caches_go_from_job_to_job() {
    let place = Place::new(&[("a", "a")]);
    let mut first = place.payload(1, &["mkdir out; echo built > out/result; echo kept > cached; echo A=1 > build.env"]);
    first.artifacts = vec![
        Artifact { paths: vec!["out/".to_owned()], artifact_type: "archive".to_owned(), ..Artifact::default() },
        Artifact { paths: vec!["nothing".to_owned()], name: "failed".to_owned(), when: ArtifactWhen::OnFailure, ..Artifact::default() },
    ];
    let cache = Cache { key: "k-$CI_CONCURRENT_ID".to_owned(), paths: vec!["cached".to_owned()], ..Cache::default() };
    first.cache = vec![cache.clone()];
    let mut second = place.payload(2, &["cat out/result cached"]);
    second.cache = vec![cache];
    second.dependencies = vec![Dependency {
        id: JobId(1),
        token: JobToken::new("t"),
        name: "job-1".to_owned(),
        artifacts_file: DependencyFile { filename: "artifacts.zip".to_owned(), size: 1 },
    }];
    let recorder = Recorder::with([first, second]);
    run_all(&place, &recorder).await;
    let (first, second) = (recorder.trace(1), recorder.trace(2));
    assert!(first.contains("Checking cache for k-0...\nWARNING: Cache file does not exist\n"), "{first}");
    assert!(first.contains("Creating cache k-0...\ncached: found 1 matching artifact files and directories\nCreated cache\n"), "{first}");
    assert!(first.contains("Uploading artifacts...\nout/: found 2 matching artifact files and directories\n"), "{first}");
    assert!(second.contains("Successfully extracted cache\n"), "{second}");
    assert!(second.contains("Downloading artifacts for job-1 (1)...\n"), "{second}");
    assert!(second.contains("built\nkept\n"), "{second}");
    assert!(second.ends_with("Job succeeded\n"), "{second}");
    assert_eq!(recorder.artifacts.lock().expect("not poisoned").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_exported_and_logins_do_not_stay() {
    let place = Place::new(&[]);
    let script = "echo host=$DOCKER_HOST; echo secret > \"$DOCKER_CONFIG/config.json\"; echo config=$DOCKER_CONFIG";
    let own = {
        let mut payload = place.payload(2, &["echo host=$DOCKER_HOST"]);
        payload.variables = vec![variable("DOCKER_HOST", "tcp://elsewhere:2375")];
        payload
    };
    let recorder = Recorder::with([place.payload(1, &[script]), own]);
    let engines = FixedEndpoint::new("unix:///run/engine.sock");
    run(&recorder, engines, place.config(), 1, &CancellationToken::new()).await;
    let trace = recorder.trace(1);
    assert!(trace.contains("\nhost=unix:///run/engine.sock\n"), "{trace}");
    let config = trace.lines().find_map(|line| line.strip_prefix("config=")).expect("the script ran");
    assert!(!fs::exists(config).expect("it can be looked for"), "{config} is still there");
    assert!(recorder.trace(2).contains("\nhost=tcp://elsewhere:2375\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_script_ends_with_its_processes_and_after_script_runs() {
    let place = Place::new(&[]);
    let pid_file = place.root.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; echo started; wait", pid_file.display());
    let mut payload = place.payload(1, &[&script]);
    payload.steps.push(step("after_script", &["echo \"after $CI_JOB_STATUS\""]));
    let recorder = Recorder::with([payload]);
    recorder.cancel_on("started\n", &recorder.signals.cancel);
    run_all(&place, &recorder).await;
    let trace = recorder.trace(1);
    assert!(trace.contains("WARNING: script canceled externally (UI, API)"), "{trace}");
    assert!(trace.contains("after canceled\n"), "{trace}");
    assert!(trace.ends_with("ERROR: Job failed: canceled\n"), "{trace}");
    let pid = fs::read_to_string(pid_file).expect("the script wrote it");
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runners_end_interrupts_jobs() {
    let place = Place::new(&[]);
    let mut payload = place.payload(1, &["echo started; sleep 1000"]);
    payload.steps.push(step("after_script", &["echo after"]));
    let recorder = Recorder::with([payload, place.payload(2, &["echo never"])]);
    let stop = CancellationToken::new();
    recorder.cancel_on("started\n", &stop);
    run(&recorder, FixedEndpoint::new("unix:///x"), without_engine(place.config()), 1, &stop).await;
    let trace = recorder.trace(1);
    assert!(trace.ends_with("ERROR: Job failed: aborted: terminated\n"), "{trace}");
    assert!(!trace.contains("Running after script"), "{trace}");
    assert_eq!(recorder.trace(2), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_all_kinds_are_hidden_unless_a_flag_says_otherwise() {
    let place = Place::new(&[]);
    let script = ["echo glrt-abcDEF_1 glpat-abc"];
    let mut open = place.payload(2, &script);
    open.variables = vec![variable("FF_MASK_ALL_DEFAULT_TOKENS", "false")];
    let recorder = Recorder::with([place.payload(1, &script), open]);
    run_all(&place, &recorder).await;
    let (hidden, open) = (recorder.trace(1), recorder.trace(2));
    assert!(hidden.contains("\nglrt-[MASKED] glpat-[MASKED]\n") && !hidden.contains("feature flags"), "{hidden}");
    assert!(open.contains("\nglrt-abcDEF_1 glpat-[MASKED]\n"), "{open}");
    assert!(open.contains("  feature flags: FF_MASK_ALL_DEFAULT_TOKENS:false\n"), "{open}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_time() {
    let place = Place::new(&[]);
    let mut script_limit = place.payload(1, &["echo started; sleep 1000"]);
    script_limit.variables = vec![variable("RUNNER_SCRIPT_TIMEOUT", "200ms")];
    script_limit.steps.push(step("after_script", &["echo \"after $CI_JOB_STATUS\""]));
    let mut job_limit = place.payload(2, &["sleep 1000"]);
    job_limit.runner_info.timeout = 1;
    let recorder = Recorder::with([script_limit, job_limit]);
    run_all(&place, &recorder).await;
    let trace = recorder.trace(1);
    assert!(trace.contains("after timedout\n"), "{trace}");
    assert_eq!(recorder.final_update(1).failure_reason, Some(FailureReason::JobExecutionTimeout));
    let trace = recorder.trace(2);
    assert!(trace.ends_with("ERROR: Job failed: execution took longer than 1s seconds\n"), "{trace}");
    assert_eq!(recorder.final_update(2).failure_reason, Some(FailureReason::JobExecutionTimeout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_follows_a_failure_to_reach_docker() {
    let place = Place::new(&[]);
    let message = "Cannot connect to the Docker daemon at tcp://docker:2375. Is the docker daemon running?";
    let mut payload = place.payload(1, &[&format!("echo '{message}' >&2; exit 1")]);
    payload.variables = vec![variable("DOCKER_HOST", "tcp://docker:2375")];
    let recorder = Recorder::with([payload]);
    run_all(&place, &recorder).await;
    let trace = recorder.trace(1);
    let end = trace.split_once("ERROR: Job failed").map_or("", |(_, end)| end);
    expect![[r#"
        : exit status 1
        hint: DOCKER_HOST is `tcp://docker:2375`, but no service of this job is a Docker daemon;
              add a service with the alias `docker`, such as `services: [{name: "docker:dind", alias: "docker"}]`
    "#]]
    .assert_eq(end);
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_cannot_be_had_fail_the_job() {
    let place = Place::new(&[]);
    let mut payload = place.payload(1, &["echo never"]);
    payload.git_info.sha = "0123456789012345678901234567890123456789".to_owned();
    let recorder = Recorder::with([payload]);
    run_all(&place, &recorder).await;
    let trace = recorder.trace(1);
    assert!(trace.contains("ERROR: Job failed: `git fetch` failed (exit status: 128)\n"), "{trace}");
    assert!(!trace.contains("step_script"), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_at_once_have_their_own_directories() {
    let place = Place::new(&[]);
    let jobs = (1..=6).map(|id| place.payload(id, &["echo $CI_JOB_ID_SEEN > mine; sleep 0.1; echo \"dir $PWD\"; cat mine"]));
    let jobs = jobs.map(|mut payload| {
        payload.variables = vec![variable("CI_JOB_ID_SEEN", &format!("job {}", payload.id))];
        payload
    });
    let recorder = Recorder::with(jobs);
    run(&recorder, FixedEndpoint::new("unix:///x"), without_engine(place.config()), 3, &CancellationToken::new()).await;
    for id in 1..=6 {
        assert!(recorder.trace(id).contains(&format!("\njob {id}\n")), "{}", recorder.trace(id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_a_job_but_phases_share_what_runs() {
    let place = Place::new(&[]);
    let pid_file = place.root.path().join("pid");
    // A daemon in a session of its own, whose parent ends and which does not listen to SIGTERM.
    let daemon = format!("setsid sh -c 'trap \"\" TERM; echo $$ > {0}; sleep 1000' > /dev/null 2>&1 &", pid_file.display());
    let wait = format!("until test -s {0}; do sleep 0.01; done", pid_file.display());
    let mut payload = place.payload(1, &[&daemon, &wait]);
    payload.steps.push(step("after_script", &[&format!("kill -0 $(cat {}) && echo still there", pid_file.display())]));
    let recorder = Recorder::with([payload]);
    run_all(&place, &recorder).await;
    let trace = recorder.trace(1);
    assert!(trace.contains("\nstill there\n") && trace.ends_with("Job succeeded\n"), "{trace}");
    let pid = fs::read_to_string(pid_file).expect("the daemon wrote it");
    assert!(!fs::exists(format!("/proc/{}", pid.trim())).expect("it can be looked for"), "the daemon runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_complete_and_in_order() {
    let place = Place::new(&[]);
    let recorder = Recorder::with([place.payload(1, &["seq 1 200000", "sleep 1000 & echo started"])]);
    run_all(&place, &recorder).await;
    let trace = recorder.trace(1);
    let numbers: Vec<u32> = trace.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.iter().copied().eq(1..=200_000), "{} numbers", numbers.len());
    assert!(trace.contains("\nstarted\n<end step_script>"), "the job does not wait for what it left in the background");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_shells_and_a_killed_keeper() {
    let place = Place::new(&[]);
    let recorder = Recorder::with([place.payload(1, &["kill -9 $$"]), place.payload(2, &["kill -9 $PPID; kill -9 $$"])]);
    run_all(&place, &recorder).await;
    assert!(recorder.trace(1).ends_with("ERROR: Job failed: signal: killed\n"), "{}", recorder.trace(1));
    let lost = "ERROR: Job failed (system failure): the keeper of the job's processes does not answer: ";
    assert!(recorder.trace(2).contains(lost), "{}", recorder.trace(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_go_with_a_job_that_was_stopped() {
    let place = Place::new(&[]);
    let mut payload = place.payload(1, &["ls $KEY && echo at=$KEY && echo started; sleep 1000"]);
    payload.variables = vec![Variable { file: true, ..variable("KEY", "of a file\n") }];
    let recorder = Recorder::with([payload]);
    recorder.cancel_on("\nstarted\n", &recorder.signals.abort);
    let left = place.root.path().join("builds/scratch/left-by-a-killed-runner");
    fs::create_dir_all(&left).expect("a directory");
    run_all(&place, &recorder).await;
    let trace = recorder.trace(1);
    let key = trace.lines().find_map(|line| line.strip_prefix("at=")).expect("the script ran");
    assert!(!fs::exists(key).expect("it can be looked for"), "{key} is still there");
    assert!(!left.exists());
}
