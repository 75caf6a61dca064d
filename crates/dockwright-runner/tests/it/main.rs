//! Whole jobs, from a coordinator that only records to executors that really run them.

mod custom;
mod docker;
mod docker_settings;
mod dockerd;
mod fake_server;
mod faults;
mod http;
mod remote_cache;
mod s3_server;
mod shell;
mod support;
mod tls;
