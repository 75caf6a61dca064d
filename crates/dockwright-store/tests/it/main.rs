//! The store as several processes see it, and as other tools' archives fill it.

mod processes;
mod skopeo;
mod user_namespace;
