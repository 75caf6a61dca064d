//! Whole jobs, from a coordinator that only records to executors that really run them.

mod custom;
mod docker;
mod dockerd;
mod fake_server;
mod faults;
mod http;
mod shell;
mod support;
mod tls;
