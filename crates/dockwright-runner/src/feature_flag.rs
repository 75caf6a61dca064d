//! Feature flags: switches of GitLab Runner that are set by variables of the same name.
//!
//! `[runners.feature_flags]` wins over the job's variables, which win over the default. Only flags that change something here are
//! known; all others are variables and nothing else.

use crate::variables::JobVariables;

/// One flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeatureFlag {
    name: &'static str,
    default: bool,
}

/// Each line of the trace begins with the time.
pub(crate) const TIMESTAMPS: FeatureFlag = FeatureFlag { name: "FF_TIMESTAMPS", default: true };
/// Tokens of all kinds that GitLab gives out are hidden in the trace, not only personal ones.
pub(crate) const MASK_ALL_DEFAULT_TOKENS: FeatureFlag = FeatureFlag { name: "FF_MASK_ALL_DEFAULT_TOKENS", default: true };
/// The pause before a phase is tried again grows.
pub(crate) const EXPONENTIAL_BACKOFF: FeatureFlag = FeatureFlag { name: "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", default: true };

const ALL: [FeatureFlag; 3] = [MASK_ALL_DEFAULT_TOKENS, TIMESTAMPS, EXPONENTIAL_BACKOFF];

impl FeatureFlag {
    /// Tells whether the flag is set for a job.
    pub(crate) fn is_on(self, variables: &JobVariables) -> bool {
        variables.is_true(self.name).unwrap_or(self.default)
    }
}

/// Lists the flags that are not as usual, for the head of the trace: `FF_A:true, FF_B:false`.
pub(crate) fn changed(variables: &JobVariables) -> Option<String> {
    let changed = ALL.iter().filter(|flag| flag.is_on(variables) != flag.default);
    let list: Vec<String> = changed.map(|flag| format!("{}:{}", flag.name, !flag.default)).collect();
    (!list.is_empty()).then(|| list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::public;

    #[test]
    fn a_variable_changes_the_default() {
        let none = JobVariables::default();
        assert!(TIMESTAMPS.is_on(&none));
        assert_eq!(changed(&none), None);
        let off = JobVariables::new(vec![public("FF_TIMESTAMPS", "false"), public("FF_UNKNOWN", "true")]);
        assert!(!TIMESTAMPS.is_on(&off));
        assert_eq!(changed(&off).as_deref(), Some("FF_TIMESTAMPS:false"));
        let empty = JobVariables::new(vec![public("FF_TIMESTAMPS", "")]);
        assert!(TIMESTAMPS.is_on(&empty));
    }
}
