//! What client and server agree on: errors, challenges, scopes, ranges and names.

mod challenge;
mod error;
mod range;
mod scope;

pub use challenge::{Challenge, parse_challenges};
pub use error::{ErrorBody, ErrorCode, ErrorDetail};
pub use range::{ContentRange, RangeRequest};
pub use scope::{Action, Scope};

/// A manifest larger than this is refused by both ends. Four mebibytes must pass by the specification.
pub const MANIFEST_MAX_BYTES: usize = 16 * 1024 * 1024;
