//! The bounds of the machine, each with its default.

use reel_domain::limits;
use std::time::Duration;

/// What the scheduler may do, and how long it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Jobs that may wait or run at once.
    pub queue_jobs_max: usize,
    /// Attempts at one job before it fails for good.
    pub attempts_max: u32,
    /// Attempts that one worker may carry at once (the engine's own limit holds too).
    pub batch_max: u32,
    /// How far behind the head of the queue work may be picked for a worker that is hot for it.
    pub look_past_max: usize,
    /// From spawn to READY.
    pub boot_deadline: Duration,
    /// From one sign of progress of a busy worker to the next.
    pub progress_deadline: Duration,
    /// From a cancellation to the step boundary where the attempt leaves.
    pub cancel_deadline: Duration,
    /// From the request to stop to the end of the process, after which it is killed.
    pub stop_grace: Duration,
    /// Pause before the second respawn of a slot whose workers die without finishing anything;
    /// the first one is immediate. Doubles up to [`backoff_max`](Self::backoff_max).
    pub backoff_min: Duration,
    /// Longest pause before a respawn.
    pub backoff_max: Duration,
    /// Workers of one bundle that may die before READY, in a row, until its jobs fail and the bundle rests
    /// for [`backoff_max`](Self::backoff_max).
    pub boot_failures_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            queue_jobs_max: limits::QUEUE_JOBS_MAX,
            attempts_max: limits::ATTEMPTS_MAX,
            batch_max: 1,
            look_past_max: 32,
            boot_deadline: Duration::from_secs(120),
            progress_deadline: Duration::from_secs(120),
            cancel_deadline: Duration::from_secs(20),
            stop_grace: Duration::from_secs(5),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            boot_failures_max: 3,
        }
    }
}

impl Config {
    /// The pause before the respawn that follows `failures` deaths in a row.
    #[must_use]
    pub fn backoff(&self, failures: u32) -> Duration {
        match failures {
            0 | 1 => Duration::ZERO,
            _ => self
                .backoff_min
                .saturating_mul(1 << (failures - 2).min(16))
                .min(self.backoff_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_respawn_is_immediate_and_the_pauses_are_bounded() {
        let config = Config::default();
        assert_eq!(config.backoff(1), Duration::ZERO);
        assert_eq!(config.backoff(2), config.backoff_min);
        assert_eq!(config.backoff(3), config.backoff_min * 2);
        assert_eq!(config.backoff(u32::MAX), config.backoff_max);
    }
}
