//! Names of containers.

use crate::error::{EngineError, Result};

const LEFT: [&str; 24] = [
    "amber", "brave", "calm", "clever", "copper", "eager", "early", "fair", "gentle", "golden", "humble", "keen", "lively", "merry",
    "nimble", "patient", "quiet", "rapid", "silver", "steady", "sunny", "swift", "tidy", "warm",
];
/// Tools and parts of a shipwright's trade.
const RIGHT: [&str; 24] = [
    "adze", "anchor", "bollard", "bowline", "caulker", "cleat", "compass", "davit", "ferry", "gangway", "halyard", "hawser", "jetty",
    "keel", "ketch", "lantern", "mallet", "mooring", "oar", "pulley", "rudder", "schooner", "slipway", "tiller",
];

/// Returns a name for a container that was given none. `attempt` makes names longer once the short ones seem to be taken.
pub(crate) fn random(attempt: usize) -> String {
    let mut bytes = [0; 3];
    getrandom::fill(&mut bytes).expect("the kernel's random source is there");
    let (left, right) = (LEFT[usize::from(bytes[0]) % LEFT.len()], RIGHT[usize::from(bytes[1]) % RIGHT.len()]);
    if attempt == 0 { format!("{left}_{right}") } else { format!("{left}_{right}{}", usize::from(bytes[2]) + 256 * (attempt - 1)) }
}

/// Checks a name that a client chose, and returns it without its slash.
pub(crate) fn check(name: &str) -> Result<&str> {
    let plain = name.strip_prefix('/').unwrap_or(name);
    let mut characters = plain.chars();
    let valid = characters.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && characters.clone().next().is_some()
        && characters.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if valid {
        return Ok(plain);
    }
    Err(EngineError::invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(check("/web-1.a").unwrap(), "web-1.a");
        for name in ["", "a", "-a", "a b", "a/b", "ü1"] {
            assert!(check(name).is_err(), "{name}");
        }
        for attempt in 0..3 {
            check(&random(attempt)).unwrap();
        }
    }
}
