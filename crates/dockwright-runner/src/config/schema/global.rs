//! Keys outside of `[[runners]]`.

use super::{
    key::{Table, anything, boolean, duration, integer, table, tables, text, text_map},
    runner::RUNNER,
};

/// What a whole table is ignored for.
const NO_MACHINES: &str = "no virtual machines are started";
const NO_TERMINALS: &str = "interactive terminals are not offered";

/// The file itself.
pub static GLOBAL: Table = Table::plain(&[
    text("listen_address").honoured(),
    table("session_server", &SESSION_SERVER).ignored(NO_TERMINALS),
    text_map("labels").ignored("runner labels are not sent"),
    integer("concurrent").written().honoured(),
    integer("check_interval").written().honoured(),
    text("log_level").optional().honoured(),
    text("log_format").optional().honoured(),
    text("user").ignored("`run --user` decides, as in GitLab Runner"),
    tables("runners", &RUNNER),
    text("sentry_dsn").optional().ignored("errors go to the log only"),
    duration("connection_max_age").optional().approximated("idle connections are closed after 90 seconds"),
    table("machine", &MACHINE).ignored(NO_MACHINES),
    table("experimental", &EXPERIMENTAL).ignored("jobs are counted in the metrics only"),
    integer("shutdown_timeout").written().honoured(),
]);

/// `[session_server]`.
pub(super) static SESSION_SERVER: Table =
    Table::plain(&[text("listen_address"), text("advertise_address"), integer("session_timeout").written().written_by_itself(1800)]);

/// `[machine]`.
pub(super) static MACHINE: Table = Table::plain(&[table("shutdown_drain", &SHUTDOWN_DRAIN)]);

/// `[machine.shutdown_drain]`.
pub(super) static SHUTDOWN_DRAIN: Table = Table::plain(&[
    boolean("enabled"),
    integer("concurrency").written(),
    integer("max_retries").written(),
    duration("retry_backoff").written(),
]);

/// `[experimental]`.
pub(super) static EXPERIMENTAL: Table = Table::plain(&[anything("usage_logger")]);
