//! A file in, problems or a changed file out.

use std::{collections::BTreeSet, fmt::Write as _};

use expect_test::{Expect, expect};

use super::{
    file::LoadedConfig,
    schema::{GLOBAL, Support, entries},
    *,
};

/// What the server answers in the reference's examples.
fn registered(entry: &str) -> toml::Table {
    let mut values: toml::Table = toml::from_str(
        r#"
name = "My Runner"
url = "https://gitlab.com/"
id = 42
token = "SECRET"
token_obtained_at = 2026-08-22T10:00:00Z
executor = "shell"
cache = { s3 = {}, gcs = {}, azure = {} }
"#,
    )
    .expect("the values are TOML");
    values.extend(toml::from_str::<toml::Table>(entry).expect("the values are TOML"));
    values
}

fn check_problems(text: &str, expected: &Expect) {
    let loaded = LoadedConfig::read(text, |_| None);
    let mut lines = String::new();
    for problem in &loaded.problems {
        let place = problem.span.clone().map_or_else(String::new, |span| format!(" at `{}`", &text[span]));
        let _ = writeln!(lines, "{}{place}: {} [{}]", if problem.is_error() { "error" } else { "warning" }, problem.message, problem.code);
        if let Some(help) = &problem.help {
            let _ = writeln!(lines, "  help: {help}");
        }
    }
    expected.assert_eq(&lines);
}

#[test]
fn a_new_file_is_the_one_that_gitlab_runner_writes() {
    let text = append_runner(None, &registered("")).expect("a new file");
    expect![[r#"
        concurrent = 1
        check_interval = 0
        shutdown_timeout = 0

        [session_server]
          session_timeout = 1800

        [[runners]]
          name = "My Runner"
          url = "https://gitlab.com/"
          id = 42
          token = "SECRET"
          token_obtained_at = 2026-08-22T10:00:00Z
          token_expires_at = 0001-01-01T00:00:00Z
          executor = "shell"
          [runners.cache]
            MaxUploadedArchiveSize = 0
            [runners.cache.s3]
              AssumeRoleMaxConcurrency = 0
            [runners.cache.gcs]
            [runners.cache.azure]
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_second_entry_is_added_as_gitlab_runner_adds_it() {
    let first = append_runner(None, &registered("")).expect("a new file");
    let docker = registered(
        r#"
executor = "docker"
docker = { image = "docker:19.03.12", privileged = true, volumes = ["/certs/client", "/cache"] }
"#,
    );
    let text = append_runner(Some(&first), &docker).expect("the second entry");
    let expected_head = "concurrent = 1\ncheck_interval = 0\nconnection_max_age = \"15m0s\"\nshutdown_timeout = 0\n\n";
    assert!(text.starts_with(expected_head), "{text}");
    expect![[r#"

        [[runners]]
          name = "My Runner"
          url = "https://gitlab.com/"
          id = 42
          token = "SECRET"
          token_obtained_at = 2026-08-22T10:00:00Z
          token_expires_at = 0001-01-01T00:00:00Z
          executor = "docker"
          [runners.cache]
            MaxUploadedArchiveSize = 0
            [runners.cache.s3]
              AssumeRoleMaxConcurrency = 0
            [runners.cache.gcs]
            [runners.cache.azure]
          [runners.docker]
            tls_verify = false
            image = "docker:19.03.12"
            privileged = true
            disable_entrypoint_overwrite = false
            oom_kill_disable = false
            disable_cache = false
            volumes = ["/certs/client", "/cache"]
            volume_keep = false
            shm_size = 0
            network_mtu = 0
    "#]]
    .assert_eq(&text[first.len() + CONNECTION_MAX_AGE_LENGTH..]);
    let loaded = LoadedConfig::read(&text, |_| None);
    assert!(loaded.is_valid(), "{:?}", loaded.problems);
    assert_eq!(loaded.file.runners.len(), 2);
}

const CONNECTION_MAX_AGE_LENGTH: usize = "connection_max_age = \"15m0s\"\n".len();

#[test]
fn values_of_every_type_are_written_as_go_writes_them() {
    let values: toml::Table = toml::from_str(
        r#"
name = "a \"quoted\" \\ name	with a tab"
unhealthy_interval = "90m"
environment = ["A=1", "B=2"]
executor = "docker"
[feature_flags]
FF_X = true
"a key" = false
[docker]
image = "alpine"
pull_policy = "always"
services_privileged = false
enable_ipv6 = false
sysctls = { "net.core.somaxconn" = "1024" }
[[docker.services]]
name = "redis"
[kubernetes]
pod_spec = [{ name = "x", patch = "y" }]
"#,
    )
    .expect("the values are TOML");
    expect![[r#"
        [[runners]]
          name = "a \"quoted\" \\ name\twith a tab"
          unhealthy_interval = "1h30m0s"
          url = ""
          id = 0
          token = ""
          token_obtained_at = 0001-01-01T00:00:00Z
          token_expires_at = 0001-01-01T00:00:00Z
          executor = "docker"
          environment = ["A=1", "B=2"]
          [runners.feature_flags]
            FF_X = true
            "a key" = false
          [runners.docker]
            tls_verify = false
            image = "alpine"
            privileged = false
            services_privileged = false
            disable_entrypoint_overwrite = false
            oom_kill_disable = false
            disable_cache = false
            volume_keep = false
            pull_policy = ["always"]
            shm_size = 0
            network_mtu = 0
            [[runners.docker.services]]
              name = "redis"
            [runners.docker.sysctls]
              "net.core.somaxconn" = "1024"
          [runners.kubernetes]
            host = ""
            bearer_token_overwrite_allowed = false
            image = ""
            namespace = ""
            namespace_overwrite_allowed = ""
            namespace_per_job = false
            node_selector_overwrite_allowed = ""
            node_tolerations_overwrite_allowed = ""
            pod_labels_overwrite_allowed = ""
            service_account_overwrite_allowed = ""
            pod_annotations_overwrite_allowed = ""
            [[runners.kubernetes.pod_spec]]
              name = "x"
              patch = "y"
    "#]]
    .assert_eq(&encode::encode_runner(&values));
}

const COMMENTED: &str = r#"# managed by hand
concurrent = 4 # enough

[[runners]]
  name = "one"
  url = "https://gitlab.com/"
  token = "T1" # from the wiki
  executor = "shell"
  [runners.unheard_of]
    key = 1

# the fast one
[[runners]]
  name = "two"
  url = "https://gitlab.com/"
  token = "T2"
  token_expires_at = 0001-01-01T00:00:00Z
  executor = "shell"
"#;

#[test]
fn comments_and_unknown_tables_survive_every_change() {
    let time = || toml::Value::Datetime("2026-08-22T10:00:00Z".parse().expect("a time"));
    let values = [("token", toml::Value::String("NEW".to_owned())), ("token_obtained_at", time()), ("token_expires_at", time())];
    let changed = set_runner_values(COMMENTED, 0, &values).expect("the entry is there");
    let expected = COMMENTED.replace(
        "token = \"T1\" # from the wiki\n",
        "token = \"NEW\" # from the wiki\n  token_obtained_at = 2026-08-22T10:00:00Z\n  token_expires_at = 2026-08-22T10:00:00Z\n",
    );
    assert_eq!(changed, expected);
    let changed = set_runner_values(COMMENTED, 1, &values).expect("the entry is there");
    assert!(changed.contains("token = \"NEW\"\n  token_obtained_at = 2026-08-22T10:00:00Z\n  token_expires_at = 2026-08-22T10:00:00Z\n"));
    let removed = remove_runners(COMMENTED, &BTreeSet::from([1])).expect("the entry is there");
    assert_eq!(removed, COMMENTED[..COMMENTED.find("\n# the fast one").expect("the comment")]);
    let added = append_runner(Some(COMMENTED), &registered("")).expect("one more entry");
    assert!(added.starts_with(COMMENTED), "{added}");
}

#[test]
fn entries_of_other_forms_are_changed_or_refused() {
    let inline = "runners = [{ token = \"A\", url = \"u\" }, { token = \"B\" }]\n";
    let changed = set_runner_values(inline, 0, &[("token", "C".into()), ("id", 7.into())]).expect("the entry is there");
    assert_eq!(changed, "runners = [{ token = \"C\", id = 7, url = \"u\" }, { token = \"B\" }]\n");
    let removed = remove_runners(inline, &BTreeSet::from([0, 1])).expect("the entries are there");
    assert_eq!(removed, "runners = []\n");
    assert!(matches!(append_runner(Some(inline), &registered("")), Err(EditConfigError::NotTables)));
    assert!(matches!(set_runner_values(inline, 2, &[("token", "C".into())]), Err(EditConfigError::NoEntry { index: 2 })));
}

#[test]
fn problems_have_places_and_suggestions() {
    check_problems(
        r#"
concurent = 2
environment = ["A=1"]
[[runners]]
  executor = "dokcer"
  limit = "3"
  environment = ["A"]
  image = "alpine"
  [runners.docker]
    privilege = true
    pull_policy = ["always", "sometimes"]
    volumes = "/cache"
"#,
        &expect![[r#"
            error at `concurent`: unknown key `concurent` at the top of the file [unknown-key]
              help: did you mean `concurrent`?
            error at `environment`: unknown key `environment` at the top of the file [unknown-key]
              help: `environment` belongs below a line `[[runners]]`
            error at `"dokcer"`: there is no executor `dokcer` [unknown-executor]
              help: did you mean `docker`?
            error at `"3"`: `runners.limit` must be a whole number, not "3" [wrong-type]
              help: leave the quotes away
            error at `["A"]`: `A` in `runners.environment` is no `KEY=VALUE` [no-assignment]
            error at `image`: unknown key `image` in `runners` [unknown-key]
            error at `privilege`: unknown key `privilege` in `runners.docker` [unknown-key]
              help: did you mean `privileged`?
            error at `["always", "sometimes"]`: `sometimes` is no pull policy [unknown-pull-policy]
              help: one of `always`, `if-not-present`, `never`
            error at `"/cache"`: `runners.docker.volumes` must be a list of texts, not "/cache" [wrong-type]
        "#]],
    );
    check_problems(
        "[runners]\nname = \"x\"\n",
        &expect![[r#"
            error at `[runners]`: `runners` must be an array of tables, not a table [wrong-type]
              help: write `[[runners]]` with two brackets on either side
        "#]],
    );
    check_problems(
        "concurrent = 0\n[[runners]]\nexecutor = \"kubernetes\"\n",
        &expect![[r#"
            error at `0`: `concurrent` is 0, so no job would ever run [too-few-jobs]
              help: set it to 1 or more
            warning at `"kubernetes"`: this version runs no jobs with the executor `kubernetes` [no-executor]
              help: entries of this executor ask for no jobs; `shell`, `docker` and `custom` do
        "#]],
    );
}

#[test]
fn an_unquoted_placeholder_gets_the_message_that_it_deserves() {
    check_problems(
        "[[runners]]\n  url = \"https://gitlab.com/\"\n  token = TOKEN\n",
        &expect![[r#"
            error at `TOKEN`: the value of `token` needs quotes [unquoted-text]
              help: write `token = "TOKEN"`
        "#]],
    );
    check_problems(
        "concurrent = = 1\n",
        &expect![[r#"
        error at `=`: extra `=`, expected nothing [invalid-toml]
    "#]],
    );
}

/// GitLab Runner's decoder takes keys in any case.
#[test]
fn keys_may_be_written_in_another_case() {
    let loaded = LoadedConfig::read("[[runners]]\nURL = \"u\"\n[runners.cache]\ntype = \"s3\"\n", |_| None);
    assert!(loaded.is_valid(), "{:?}", loaded.problems);
    assert_eq!(loaded.file.runners[0].url, "u");
}

#[test]
fn tokens_and_urls_are_expanded_from_the_environment() {
    let variable = |name: &str| (name == "TOKEN").then(|| "glrt-secret".to_owned());
    let loaded = LoadedConfig::read("[[runners]]\nurl = \"http://$HOST/$\"\ntoken = \"${TOKEN}\"\n", variable);
    assert_eq!(loaded.file.runners[0].token.expose(), "glrt-secret");
    assert_eq!(loaded.file.runners[0].url, "http:///$");
}

#[test]
fn an_entry_becomes_a_runner() {
    let text = r#"
[[runners]]
  name = "r"
  token = "glrt-abcdefghijkl"
  executor = "docker"
  output_limit = 1
  pre_build_script = "echo before"
  pre_get_sources_script = "date"
  post_get_sources_script = "ls"
  clone_url = "http://10.0.0.1"
  tls-ca-file = "/ca.pem"
  environment = ["A=1=2"]
  [runners.docker]
    image = "alpine"
    volumes = ["/cache"]
    pull_policy = "if-not-present"
    wait_for_services_timeout = -1
"#;
    let loaded = LoadedConfig::read(text, |_| None);
    let surroundings = Surroundings {
        system_id: "s_0".to_owned(),
        version: "19.4.0".to_owned(),
        revision: "r".to_owned(),
        working_directory: "/w".into(),
        helper_binary: "/bin/true".into(),
        logins: RegistryLogins::default(),
    };
    let config = loaded.file.runners[0].decide(&surroundings, "/w/scratch".into()).expect("a runner");
    assert_eq!((config.short_token.as_str(), config.output_limit_bytes), ("abcdefghi", 1024));
    assert_eq!((config.pre_build_script.as_str(), config.post_build_script.as_str()), ("echo before", ""));
    assert_eq!((config.clone_url.as_str(), config.pre_get_sources_script.as_str()), ("http://10.0.0.1", "date"));
    assert_eq!((config.post_get_sources_script.as_str(), config.tls.ca_file), ("ls", Some("/ca.pem".into())));
    assert_eq!((config.executor, config.builds_dir.to_str()), (ExecutorChoice::Docker, Some("/w/builds")));
    assert_eq!((config.environment[0].key.as_str(), config.environment[0].value.as_str()), ("A", "1=2"));
    assert_eq!(
        (config.docker.pull_policies.as_slice(), config.docker.wait_for_services),
        (&[PullPolicy::IfNotPresent][..], Duration::ZERO)
    );
    let no_image = file::RunnerEntry { executor: "docker".to_owned(), ..file::RunnerEntry::default() };
    assert_eq!(no_image.decide(&surroundings, "/s".into()).err(), Some(DecideError::NoImage));
}

/// Decides what the first entry of a text does.
fn decide(text: &str) -> Result<RunnerConfig, DecideError> {
    let loaded = LoadedConfig::read(text, |_| None);
    let surroundings = Surroundings {
        system_id: String::new(),
        version: String::new(),
        revision: String::new(),
        working_directory: "/w".into(),
        helper_binary: "/bin/true".into(),
        logins: RegistryLogins::default(),
    };
    loaded.file.runners[0].decide(&surroundings, "/w/scratch".into())
}

#[test]
fn a_custom_executor_needs_a_program_that_runs_scripts() {
    let entry = "[[runners]]\nurl = \"https://gitlab.example\"\nexecutor = \"custom\"\nbuilds_dir = \"/b\"\n[runners.custom]\n";
    assert_eq!(decide(entry).err(), Some(DecideError::NoRunProgram));
    let keys =
        "run_exec = \"/run\"\nrun_args = [\"a\"]\nprepare_exec = \"/prepare\"\nprepare_exec_timeout = 5\ngraceful_kill_timeout = 7\n";
    let config = decide(&format!("{entry}{keys}")).expect("a runner");
    assert_eq!(config.executor, ExecutorChoice::Custom);
    let custom = config.custom.expect("its settings");
    assert_eq!((custom.run.path.as_str(), custom.run.arguments.as_slice(), custom.run.timeout), ("/run", &["a".to_owned()][..], None));
    assert_eq!(custom.prepare.as_ref().and_then(|program| program.timeout), Some(Duration::from_secs(5)));
    assert!(custom.config.is_none() && custom.cleanup.is_none());
    assert_eq!((custom.graceful_kill_timeout, custom.force_kill_timeout), (Duration::from_secs(7), Duration::from_secs(10)));
    assert_eq!((custom.builds_dir.as_str(), custom.cache_dir.as_str()), ("/b", ""));
}

#[test]
fn what_register_writes_by_itself_is_nobodys_wish() {
    let used = |text: &str| LoadedConfig::read(text, |_| None).used.into_iter().map(|key| key.path).collect::<Vec<_>>();
    assert_eq!(used(SKELETON), ["concurrent"]);
    assert_eq!(used("[session_server]\nsession_timeout = 60\n"), ["session_server.session_timeout"]);
}

fn decide_docker(keys: &str) -> Result<DockerConfig, DecideError> {
    let text = format!("[[runners]]\nname = \"r\"\nexecutor = \"docker\"\n[runners.docker]\nimage = \"alpine\"\n{keys}");
    decide(&text).map(|config| config.docker)
}

#[test]
fn what_jobs_may_ask_for_has_the_runners_own_choice_as_default() {
    let restrictions = |keys: &str| decide_docker(keys).expect("a runner").restrictions;
    let open = restrictions("");
    assert_eq!(open, Restrictions { pull_policies: vec![PullPolicy::Always], ..Restrictions::default() });
    let own = restrictions("user = \"ci\"\npull_policy = [\"never\", \"always\"]\ndisable_entrypoint_overwrite = true");
    assert_eq!((own.users.as_slice(), own.keep_entrypoints), (&["ci".to_owned()][..], true));
    assert_eq!(own.pull_policies, [PullPolicy::Never, PullPolicy::Always]);
    let given = restrictions(
        "user = \"ci\"\npull_policy = \"never\"\nallowed_users = [\"a\", \"b\"]\nallowed_pull_policies = [\"if-not-present\"]\n\
         allowed_images = [\"i\"]\nallowed_services = [\"s\"]\nallowed_privileged_images = [\"pi\"]\nallowed_privileged_services = [\"ps\"]",
    );
    let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let expected = Restrictions {
        images: list(&["i"]),
        services: list(&["s"]),
        privileged_images: list(&["pi"]),
        privileged_services: list(&["ps"]),
        users: list(&["a", "b"]),
        pull_policies: vec![PullPolicy::IfNotPresent],
        keep_entrypoints: false,
    };
    assert_eq!(given, expected);
    let privileged = |keys: &str| decide_docker(keys).map(|docker| (docker.privileged, docker.services_privileged));
    assert_eq!(privileged("privileged = true").expect("a runner"), (true, true));
    assert_eq!(privileged("privileged = true\nservices_privileged = false").expect("a runner"), (true, false));
    // A word that is none restricts nothing, so there is no runner.
    let error = decide_docker("allowed_pull_policies = [\"Never\"]").expect_err("no runner");
    assert_eq!(error.to_string(), "allowed_pull_policies cannot be \"Never\": there are always, if-not-present and never");
}

#[test]
fn settings_of_containers_are_decided_once() {
    let containers = |keys: &str| decide_docker(keys).expect("a runner").containers;
    assert_eq!(containers(""), ContainerSettings::default());
    let settings = containers(
        "memory = \"128m\"\ncpus = \"1/2\"\nservice_memory = \"1g\"\nshm_size = 4096\ncap_drop = [\"ALL\"]\ndns = [\"9.9.9.9\"]\n\
         [runners.docker.ulimit]\nnofile = \"10:20\"\n[runners.docker.sysctls]\n\"net.core.somaxconn\" = \"64\"\n",
    );
    assert_eq!((settings.limits.memory_bytes, settings.service_limits.memory_bytes), (128 << 20, 1 << 30));
    assert_eq!((settings.limits.nano_cpus, settings.service_limits.nano_cpus), (500_000_000, 0));
    assert_eq!((settings.shm_size_bytes, settings.cap_drop.as_slice()), (4096, &["ALL".to_owned()][..]));
    assert_eq!((settings.ulimits[0].hard, settings.sysctls["net.core.somaxconn"].as_str()), (20, "64"));
    let error = decide_docker("service_memory = \"lots\"").expect_err("no runner");
    assert!(error.to_string().starts_with("service_memory cannot be \"lots\": "), "{error}");
    assert!(!decide_docker("disable_cache = true").expect("a runner").keep_cache_volumes);
}

#[test]
fn networks_services_and_volumes_are_decided_once() {
    let docker = decide_docker(
        "network_mode = \"bridge\"\nlinks = [\"db:database\"]\nnetwork_mtu = 1400\nservices_limit = 3\ncache_dir = \"/srv/cache\"\n\
         volume_driver = \"local\"\nvolume_keep = true\ngpus = \"all\"\n\
         [[runners.docker.services]]\nname = \"postgres:17\"\nalias = \"db\"\nenvironment = [\"A=b=c\"]\ncommand = [\"postgres\"]\n\
         [runners.docker.container_labels]\nteam = \"blue\"\n[runners.docker.services_devices]\n\"postgres:*\" = [\"/dev/fuse\"]\n\
         [runners.docker.volume_driver_ops]\ntype = \"tmpfs\"\n",
    )
    .expect("a runner");
    assert_eq!((docker.network.mode.as_deref(), docker.network.mtu), (Some("bridge"), 1400));
    assert_eq!(docker.network.links, ["db:database"]);
    assert_eq!((docker.services_limit, docker.labels["team"].as_str()), (Some(3), "blue"));
    let service = &docker.services[0];
    assert_eq!(
        (service.name.as_str(), service.alias.as_str(), service.command.as_slice()),
        ("postgres:17", "db", &["postgres".to_owned()][..])
    );
    assert_eq!((service.variables[0].key.as_str(), service.variables[0].value.as_str()), ("A", "b=c"));
    let volumes = &docker.volume_settings;
    assert_eq!((volumes.cache_dir.as_deref(), volumes.driver.as_str(), volumes.keep_anonymous), (Some("/srv/cache"), "local", true));
    assert_eq!(volumes.driver_options["type"], "tmpfs");
    assert_eq!(docker.containers.services_devices["postgres:*"][0].container, "/dev/fuse");
    assert_eq!(docker.containers.gpus.as_ref().map(|gpus| gpus.count), Some(-1));
    assert_eq!(decide_docker("services_limit = -1").expect("a runner").services_limit, None);
    for (keys, expected) in [
        ("cache_dir = \"cache\"", "cache_dir cannot be \"cache\": the path of a directory is absolute"),
        ("gpus = \"some\"", "gpus cannot be \"some\": GPUs are `all`, a number, or fields as in `\"device=0,1\",driver=nvidia`"),
        ("[runners.docker.log_options]\nmax-size = \"1m\"", "log_options cannot be \"max-size\": only `env` and `labels` can be set"),
        ("[[runners.docker.services]]\nenvironment = [\"A\"]", "environment cannot be \"A\": a variable of a service is `KEY=VALUE`"),
    ] {
        assert_eq!(decide_docker(keys).expect_err("no runner").to_string(), expected);
    }
}

/// `UPDATE_EXPECT=1 cargo test -p dockwright-runner` writes the page anew.
#[test]
fn the_reference_page_has_every_key_with_its_class() {
    let list = entries(&GLOBAL, "");
    let count = |wanted: fn(&Support) -> bool| list.iter().filter(|entry| wanted(&entry.support)).count();
    let mut page = format!(
        "# config.toml\n\nEvery key of GitLab Runner's configuration is read; an unknown one is an error. What this version does with them: \
         {} honoured, {} approximated, {} ignored. `dockwright runner lint` names the keys of a file that are not honoured. \
         A test keeps this page equal to the program.\n\n| Key | Class | |\n|---|---|---|\n",
        count(|support| matches!(support, Support::Honoured)),
        count(|support| matches!(support, Support::Approximated(_))),
        count(|support| matches!(support, Support::Ignored(_))),
    );
    for entry in &list {
        let (class, reason) = match entry.support {
            Support::Honoured => ("honoured", ""),
            Support::Approximated(how) => ("approximated", how),
            Support::Ignored(why) => ("ignored", why),
        };
        let _ = writeln!(page, "| `{}` | {class} | {reason} |", entry.path);
    }
    expect_test::expect_file![concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/config-toml.md")].assert_eq(&page);
}

#[test]
fn caches_are_decided() {
    let has_cache = |text: &str| {
        let text = format!("[[runners]]\nname = \"r\"\nurl = \"https://g\"\ntoken = \"t\"\nexecutor = \"shell\"\n[runners.cache]\n{text}");
        assert!(LoadedConfig::read(&text, |_| None).is_valid());
        let config = decide(&text);
        config.map(|config| config.remote_cache.is_some()).map_err(|error| error.to_string())
    };
    let bucket = "[runners.cache.s3]\nBucketName = \"b\"\nAccessKey = \"a\"\nSecretKey = \"s\"\n";
    assert_eq!(has_cache("[runners.cache.s3]\n"), Ok(false));
    assert_eq!(has_cache(&format!("Type = \"s3\"\nShared = true\n{bucket}")), Ok(true));
    assert_eq!(has_cache(&format!("Type = \"s3\"\n{bucket}ServerSideEncryption = \"KMS\"\nServerSideEncryptionKeyID = \"k\"\n")), Ok(true));
    let error = |text: &str| has_cache(text).expect_err("the settings are wrong");
    assert_eq!(error("Type = \"ftp\"\n"), "runners.cache.Type cannot be \"ftp\": there are s3, gcs and azure");
    assert_eq!(error("Type = \"s3\"\n"), "the remote cache: [runners.cache.s3]: `BucketName` is missing");
    assert_eq!(error("Type = \"azure\"\n"), "the remote cache: [runners.cache.azure]: `AccountName` is missing");
    let sse = format!("Type = \"s3\"\n{bucket}ServerSideEncryption = \"no\"\n");
    assert_eq!(error(&sse), "runners.cache.s3.ServerSideEncryption cannot be \"no\": there are S3, KMS and DSSE-KMS");
}
