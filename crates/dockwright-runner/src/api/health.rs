//! When a runner's server is left alone for a while.

use std::time::{Duration, Instant};

/// Limits of [`Health`], of config.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthLimits {
    /// `unhealthy_requests_limit`: so many unhealthy answers in a row.
    pub requests: u32,
    /// `unhealthy_interval`: then no request for so long.
    pub interval: Duration,
}

impl Default for HealthLimits {
    fn default() -> Self {
        Self { requests: 3, interval: Duration::from_secs(3600) }
    }
}

/// Counts unhealthy answers, which are those that say that the runner is not wanted. A server that is merely down is healthy.
#[derive(Debug, Clone, Default)]
pub struct Health {
    unhealthy: u32,
    since: Option<Instant>,
}

impl Health {
    /// Takes note of an answer.
    pub fn record(&mut self, is_healthy: bool, limits: HealthLimits, now: Instant) {
        if is_healthy {
            *self = Self::default();
            return;
        }
        self.unhealthy = self.unhealthy.saturating_add(1);
        if self.unhealthy >= limits.requests && self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// Returns how long to leave the server alone; `None` when it may be asked. After the interval the count begins anew.
    pub fn wait(&mut self, limits: HealthLimits, now: Instant) -> Option<Duration> {
        let since = self.since?;
        let rest = limits.interval.saturating_sub(now.saturating_duration_since(since));
        if rest.is_zero() {
            *self = Self::default();
            return None;
        }
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_refusals_in_a_row_are_too_many() {
        let limits = HealthLimits::default();
        let start = Instant::now();
        let mut health = Health::default();
        for answer in [false, false, true, false, false] {
            health.record(answer, limits, start);
            assert_eq!(health.wait(limits, start), None);
        }
        health.record(false, limits, start);
        assert_eq!(health.wait(limits, start), Some(limits.interval));
        assert_eq!(health.wait(limits, start + Duration::from_secs(3000)), Some(Duration::from_secs(600)));
        assert_eq!(health.wait(limits, start + limits.interval), None);
        health.record(false, limits, start + limits.interval);
        assert_eq!(health.wait(limits, start + limits.interval), None);
    }
}
