//! Tables of executors beside docker. All but the first are absent in this version; their keys are known, so that a file with them is
//! read and slips are found.

use super::key::{Table, anything, boolean, duration, integer, number, numbers, table, tables, text, texts};

/// `[runners.custom]`.
pub(super) static CUSTOM: Table = Table::with_flags(
    "custom-",
    "CUSTOM_",
    &[
        text("config_exec").flag(),
        texts("config_args").flag().no_variable(),
        integer("config_exec_timeout").optional().flag(),
        text("prepare_exec").flag(),
        texts("prepare_args").flag().no_variable(),
        integer("prepare_exec_timeout").optional().flag(),
        text("run_exec").written().flag(),
        texts("run_args").flag().no_variable(),
        text("cleanup_exec").flag(),
        texts("cleanup_args").flag().no_variable(),
        integer("cleanup_exec_timeout").optional().flag(),
        integer("graceful_kill_timeout").optional().flag(),
        integer("force_kill_timeout").optional().flag(),
    ],
);

/// `[runners.ssh]`.
pub(super) static SSH: Table = Table::with_flags(
    "ssh-",
    "SSH_",
    &[
        text("user").flag(),
        text("password").flag(),
        text("host").flag(),
        text("port").flag(),
        text("identity_file").flag(),
        boolean("disable_strict_host_key_checking").optional().flag().variable("DISABLE_STRICT_HOST_KEY_CHECKING"),
        text("known_hosts_file").flag().variable("KNOWN_HOSTS_FILE"),
    ],
);

/// `[runners.parallels]`.
pub(super) static PARALLELS: Table = Table::with_flags(
    "parallels-",
    "PARALLELS_",
    &[
        text("base_name").written().flag(),
        text("template_name").flag(),
        boolean("disable_snapshots").written().flag(),
        text("time_server").flag(),
        texts("allowed_images").flag(),
    ],
);

/// `[runners.virtualbox]`.
pub(super) static VIRTUALBOX: Table = Table::with_flags(
    "virtualbox-",
    "VIRTUALBOX_",
    &[
        text("base_name").written().flag(),
        text("base_snapshot").flag(),
        text("base_folder").written().flag(),
        boolean("disable_snapshots").written().flag(),
        texts("allowed_images").flag(),
        text("start_type").written().flag(),
    ],
);

/// `[runners.instance]`.
pub(super) static INSTANCE: Table = Table::plain(&[texts("allowed_images"), boolean("use_common_build_dir")]);

/// `[runners.machine]`, in CamelCase.
pub(super) static DOCKER_MACHINE: Table = Table::with_flags(
    "machine-",
    "MACHINE_",
    &[
        integer("MaxGrowthRate").flag().long("max-growth-rate").variable("MACHINE_MAX_GROWTH_RATE"),
        integer("IdleCount").written().flag().long("idle-nodes").variable("MACHINE_IDLE_COUNT"),
        number("IdleScaleFactor").written().flag().long("idle-scale-factor").variable("MACHINE_IDLE_SCALE_FACTOR"),
        integer("IdleCountMin").written().flag().long("idle-count-min").variable("MACHINE_IDLE_COUNT_MIN"),
        integer("IdleTime").flag().long("idle-time").variable("MACHINE_IDLE_TIME"),
        integer("MaxBuilds").flag().long("max-builds").variable("MACHINE_MAX_BUILDS"),
        text("MachineDriver").written().flag().long("machine-driver").variable("MACHINE_DRIVER"),
        text("MachineName").written().flag().long("machine-name").variable("MACHINE_NAME"),
        texts("MachineOptions").flag().long("machine-options").variable("MACHINE_OPTIONS"),
        texts("MachineOptionsWithName").flag().long("machine-options-with-name").variable("MACHINE_OPTIONS_WITH_NAME"),
        integer("MaxRemovalAttempts").flag().long("max-removal-attempts").variable("MACHINE_MAX_REMOVAL_ATTEMPTS"),
        texts("OffPeakPeriods"),
        text("OffPeakTimezone"),
        integer("OffPeakIdleCount"),
        integer("OffPeakIdleTime"),
        tables("autoscaling", &MACHINE_AUTOSCALING),
    ],
);

/// `[[runners.machine.autoscaling]]`.
pub(super) static MACHINE_AUTOSCALING: Table = Table::plain(&[
    texts("Periods"),
    text("Timezone").written(),
    integer("IdleCount").written(),
    number("IdleScaleFactor").written(),
    integer("IdleCountMin").written(),
    integer("IdleTime").written(),
]);

/// `[runners.autoscaler]`.
pub(super) static AUTOSCALER: Table = Table::plain(&[
    integer("capacity_per_instance").written(),
    integer("max_use_count").written(),
    integer("max_instances").written(),
    text("plugin"),
    anything("plugin_config"),
    table("connector_config", &CONNECTOR),
    tables("policy", &AUTOSCALER_POLICY),
    text("instance_ready_command"),
    duration("instance_acquire_timeout").written(),
    duration("update_interval").written(),
    duration("update_interval_when_expecting").written(),
    duration("deletion_retry_interval").written(),
    duration("shutdown_deletion_interval").written(),
    integer("shutdown_deletion_retries").written(),
    integer("failure_threshold").written(),
    table("scale_throttle", &SCALE_THROTTLE),
    boolean("reservation_throttling").optional(),
    boolean("log_internal_ip"),
    boolean("log_external_ip"),
    boolean("delete_instances_on_shutdown"),
    table("vm_isolation", &VM_ISOLATION),
    table("state_storage", &STATE_STORAGE),
    numbers("instance_operation_time_buckets"),
    numbers("instance_creation_time_buckets"),
    numbers("instance_is_running_time_buckets"),
    numbers("instance_deletion_time_buckets"),
    numbers("instance_readiness_time_buckets"),
    numbers("instance_life_duration_buckets"),
]);

/// `[runners.autoscaler.connector_config]`.
pub(super) static CONNECTOR: Table = Table::plain(&[
    text("os"),
    text("arch"),
    text("protocol"),
    integer("protocol_port").written(),
    text("username"),
    text("password"),
    text("key_path"),
    boolean("use_static_credentials"),
    duration("keepalive").written(),
    duration("timeout").written(),
    boolean("use_external_addr"),
]);

/// `[[runners.autoscaler.policy]]`.
pub(super) static AUTOSCALER_POLICY: Table = Table::plain(&[
    texts("periods"),
    text("timezone"),
    integer("idle_count").written(),
    duration("idle_time").written(),
    number("scale_factor").written(),
    integer("scale_factor_limit").written(),
    boolean("preemptive_mode").optional(),
]);

/// `[runners.autoscaler.scale_throttle]`.
pub(super) static SCALE_THROTTLE: Table = Table::plain(&[integer("limit").written(), integer("burst").written()]);

/// `[runners.autoscaler.vm_isolation]`.
pub(super) static VM_ISOLATION: Table = Table::plain(&[
    boolean("enabled"),
    text("nesting_host"),
    anything("nesting_config"),
    text("image"),
    table("connector_config", &CONNECTOR),
]);

/// `[runners.autoscaler.state_storage]`.
pub(super) static STATE_STORAGE: Table = Table::plain(&[boolean("enabled"), text("dir"), boolean("keep_instance_with_acquisitions")]);
