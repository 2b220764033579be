//! A device: its slots, its memory, and whether it is to be trusted.

use crate::command::WorkerId;
use crate::work::RequestDigest;
use reel_domain::DeviceId;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What there is to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Workers that may live on it at once (K).
    pub slots: u32,
    /// Memory that workers may use, in bytes; 0 where it is not limited. With a limit, `slots` is an upper bound.
    pub memory_bytes: u64,
    /// Workers of one model share its weights here; otherwise each holds its own.
    pub shares_weights: bool,
}

/// A device of the pool.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    /// Its slots are `first..first + places` among all slots: one more than K where a spare one lets a worker
    /// start before the one that makes room has gone.
    pub(crate) first: usize,
    pub(crate) places: usize,
    pub(crate) spec: DeviceSpec,
    /// Slots that are not vacant.
    pub(crate) occupied: usize,
    pub(crate) trust: Trust,
    /// Workers that are gone, or do not go, and hold its memory.
    pub(crate) holders: BTreeSet<WorkerId>,
    /// The requests under which workers died here since something was finished here.
    pub(crate) deaths: Vec<RequestDigest>,
    pub(crate) evictions: EvictionBudget,
}

/// Whether a device gets work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// It does.
    #[default]
    Good,
    /// An operator took it out.
    Cordoned,
    /// Two different requests died on it.
    Suspect,
    /// A worker is gone, and its memory is not.
    Stuck,
    /// One worker tries it again.
    Probation,
}

impl Trust {
    /// The name in the API and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Cordoned => "cordoned",
            Self::Suspect => "suspect",
            Self::Stuck => "stuck",
            Self::Probation => "probation",
        }
    }
}

impl Device {
    pub(crate) const fn slots(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.places
    }

    /// It takes one worker more.
    pub(crate) const fn has_room(&self) -> bool {
        self.occupied < self.spec.slots as usize && !self.is_closed()
    }

    /// It takes no new work.
    pub(crate) const fn is_closed(&self) -> bool {
        matches!(self.trust, Trust::Cordoned | Trust::Suspect | Trust::Stuck)
    }
}

/// The share of a device's time that may go into spawns which replace a worker: a breaker against thrash.
///
/// A token bucket whose unit is a spawn, so that the same setting suits workers that start in 0.3 s and in 24 s.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EvictionBudget {
    /// Thousandths of a spawn.
    left: u64,
    at: Option<Instant>,
}

/// Evictions in a row that are not held up, in thousandths.
const BURST: u64 = 8_000;

impl EvictionBudget {
    pub(crate) const fn new() -> Self {
        Self {
            left: BURST,
            at: None,
        }
    }

    /// Takes one spawn of `spawn_us`, or says how long to wait for it. `share` is in thousandths of the time.
    pub(crate) fn take(&mut self, spawn_us: u64, share: u64, now: Instant) -> Result<(), Duration> {
        let passed = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let passed_us = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        let earned = passed_us.saturating_mul(share) / spawn_us.max(1);
        self.left = self.left.saturating_add(earned).min(BURST);
        // What was not enough for a thousandth is not lost.
        let counted = Duration::from_micros(earned.saturating_mul(spawn_us) / share.max(1));
        self.at = match self.at {
            Some(at) if self.left < BURST => Some(at + counted.min(passed)),
            _ => Some(now),
        };
        match self.left.checked_sub(1_000) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                let missing = 1_000 - self.left;
                Err(Duration::from_micros(
                    missing.saturating_mul(spawn_us) / share.max(1) + 1,
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_evictions_take_no_more_than_their_share_of_the_time() {
        let start = Instant::now();
        let mut budget = EvictionBudget::new();
        for _ in 0..BURST / 1_000 {
            assert_eq!(budget.take(300_000, 500, start), Ok(()));
        }
        let wait = budget.take(300_000, 500, start).expect_err("spent");
        assert_eq!(
            wait,
            Duration::from_micros(600_001),
            "half of the time: twice the spawn"
        );
        assert_eq!(budget.take(300_000, 500, start + wait), Ok(()));
    }

    #[test]
    fn asking_often_costs_nothing() {
        let start = Instant::now();
        let mut budget = EvictionBudget::new();
        let spawn_us = 24_000_000;
        while budget.take(spawn_us, 500, start).is_ok() {}
        let asked_at = |millis| start + Duration::from_millis(millis);
        let granted =
            (1..=60_000).find(|&millis| budget.take(spawn_us, 500, asked_at(millis)).is_ok());
        assert_eq!(
            granted,
            Some(48_000),
            "twice the spawn, however often it was asked for"
        );
    }
}
