//! `[[runners]]` and its small tables.

use super::{
    cache::CACHE,
    docker::DOCKER,
    executors::{AUTOSCALER, CUSTOM, DOCKER_MACHINE, INSTANCE, PARALLELS, SSH, VIRTUALBOX},
    key::{NOT_DONE, Table, boolean, boolean_map, duration, integer, table, tables, text, text_map, texts, time},
    kubernetes::KUBERNETES,
};

const HOOKS: &str = "in docker jobs it runs in the job's container; the runner itself gets the sources";
const FLAGS: &str = "jobs see all of them as variables; `FF_TIMESTAMPS`, `FF_MASK_ALL_DEFAULT_TOKENS` and \
                     `FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY` change something";
const NO_EXECUTOR: &str = "it is for executors that this version does not have";

/// `[[runners]]`.
pub static RUNNER: Table = Table::with_flags(
    "",
    "RUNNER_",
    &[
        text("name").written().flag().long("description").honoured(),
        integer("limit").flag().honoured(),
        integer("output_limit").flag().honoured(),
        integer("request_concurrency").flag().honoured(),
        boolean("strict_check_interval").optional().flag().honoured(),
        integer("unhealthy_requests_limit").flag().honoured(),
        duration("unhealthy_interval").optional().flag().no_variable().honoured(),
        integer("job_status_final_update_retry_limit").flag().variable("RUNNER_job_status_final_update_retry_limit").honoured(),
        table("experimental", &EXPERIMENTAL).ignored("a runner is ready once its configuration is read"),
        text("url").written().flag().variable("CI_SERVER_URL").honoured(),
        integer("id").written().honoured(),
        text("token").written().flag().variable("CI_SERVER_TOKEN").honoured(),
        time("token_obtained_at").written().honoured(),
        time("token_expires_at").written().honoured(),
        text("tls-ca-file").flag().variable("CI_SERVER_TLS_CA_FILE").honoured(),
        text("tls-cert-file").flag().variable("CI_SERVER_TLS_CERT_FILE").honoured(),
        text("tls-key-file").flag().variable("CI_SERVER_TLS_KEY_FILE").honoured(),
        text_map("labels").ignored(NOT_DONE),
        text("executor").written().flag().honoured(),
        text("builds_dir")
            .flag()
            .approximated("for jobs in the shell and of the custom executor; in containers the directory is `/builds`"),
        text("cache_dir").flag().approximated(
            "archives of `cache:` of shell and docker jobs are kept there; those of the custom executor in the job's environment",
        ),
        text("clone_url").flag().variable("CLONE_URL").honoured(),
        texts("environment").flag().long("env").variable("RUNNER_ENV").honoured(),
        boolean("proxy_exec").optional().flag().ignored(NOT_DONE),
        text("pre_get_sources_script").flag().approximated(HOOKS),
        text("post_get_sources_script").flag().approximated(HOOKS),
        text("pre_build_script").flag().honoured(),
        text("post_build_script").flag().honoured(),
        duration("prepare_timeout").optional().flag().ignored(NOT_DONE),
        duration("get_sources_timeout").optional().flag().ignored(NOT_DONE),
        boolean("debug_trace_disabled").flag().ignored(NOT_DONE),
        boolean("safe_directory_checkout").optional().flag().ignored(NOT_DONE),
        boolean("clean_git_config").optional().flag().ignored(NOT_DONE),
        text("shell").flag().ignored(NOT_DONE),
        table("custom_build_dir", &CUSTOM_BUILD_DIR).ignored(NOT_DONE),
        table("referees", &REFEREES).ignored("metrics of other servers are not collected"),
        table("cache", &CACHE).honoured(),
        table("artifact", &ARTIFACT).ignored(NOT_DONE),
        boolean_map("feature_flags").flag().variable("FEATURE_FLAGS").approximated(FLAGS),
        table("monitoring", &MONITORING).ignored("only the time in the queue is measured"),
        boolean("use_slot_cgroups").flag().ignored(NO_EXECUTOR),
        text("slot_cgroup_template").flag().ignored(NO_EXECUTOR),
        table("instance", &INSTANCE).ignored(NO_EXECUTOR),
        table("ssh", &SSH).ignored(NO_EXECUTOR),
        table("docker", &DOCKER),
        table("parallels", &PARALLELS).ignored(NO_EXECUTOR),
        table("virtualbox", &VIRTUALBOX).ignored(NO_EXECUTOR),
        table("machine", &DOCKER_MACHINE).ignored(NO_EXECUTOR),
        table("kubernetes", &KUBERNETES).ignored(NO_EXECUTOR),
        table("custom", &CUSTOM).honoured(),
        table("autoscaler", &AUTOSCALER).ignored(NO_EXECUTOR),
        text("step_runner_image").flag().variable("STEP_RUNNER_IMAGE").ignored(NOT_DONE),
    ],
);

/// `[runners.custom_build_dir]`.
pub(super) static CUSTOM_BUILD_DIR: Table =
    Table::with_flags("custom_build_dir-", "CUSTOM_BUILD_DIR_", &[boolean("enabled").optional().flag()]);

/// `[runners.artifact]`.
pub(super) static ARTIFACT: Table = Table::plain(&[duration("upload_timeout").optional(), duration("response_header_timeout").optional()]);

/// `[runners.experimental]`.
pub(super) static EXPERIMENTAL: Table = Table::plain(&[table("boot_verify", &BOOT_VERIFY)]);

/// `[runners.experimental.boot_verify]`.
pub(super) static BOOT_VERIFY: Table = Table::plain(&[
    boolean("enabled"),
    duration("timeout").written(),
    duration("acquire_min_backoff").written(),
    duration("acquire_max_backoff").written(),
]);

/// `[runners.monitoring]`.
pub(super) static MONITORING: Table = Table::plain(&[tables("job_queuing_durations", &JOB_QUEUING_DURATION)]);

/// `[[runners.monitoring.job_queuing_durations]]`.
pub(super) static JOB_QUEUING_DURATION: Table =
    Table::plain(&[texts("periods"), text("timezone").written(), duration("threshold").written(), text("jobs_running_for_project")]);

/// `[runners.referees]`.
pub(super) static REFEREES: Table = Table::plain(&[table("metrics", &METRICS_REFEREE)]);

/// `[runners.referees.metrics]`.
pub(super) static METRICS_REFEREE: Table =
    Table::plain(&[text("prometheus_address"), integer("query_interval").written(), texts("queries")]);
