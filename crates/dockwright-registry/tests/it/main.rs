//! The registry in process, spoken to by our client, by hand-written requests, and by skopeo.

mod client;
mod dockerd;
mod http;
mod protocol;
mod skopeo;
mod support;
