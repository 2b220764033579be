//! `rate_per_minute`: a bucket for each key, as the generic cell rate algorithm has it (ITU-T I.371): one number each.
//!
//! A key that has been quiet for a minute may spend its whole minute at once; after that it gets one creation for each
//! `60 s / rate`. The clock is the caller's.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// What a rate counts in.
const MINUTE: Duration = Duration::from_secs(60);
/// Buckets that are kept; more keys than a file may have.
const BUCKETS_MAX: usize = 2 * crate::KEYS_MAX;
/// How often buckets that are full again are dropped.
const SWEEP_PAUSE: Duration = Duration::from_secs(60);

/// Too much was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this key may create {per_minute} videos a minute; try again in {} s", self.seconds())]
pub struct Limited {
    /// What the key may.
    pub per_minute: NonZeroU32,
    /// When the next one is allowed.
    pub retry_after: Duration,
}

impl Limited {
    /// `retry_after` in whole seconds, rounded up: what a `Retry-After` header can say.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        let up = u64::from(self.retry_after.subsec_nanos() > 0);
        (self.retry_after.as_secs() + up).max(1)
    }
}

/// Buckets by key. A full bucket is no bucket.
#[derive(Debug, Default)]
pub struct RateLimiter {
    /// When each bucket will be full again.
    full_at: BTreeMap<String, Instant>,
    swept_at: Option<Instant>,
}

impl RateLimiter {
    /// Takes one creation from the bucket of a key.
    ///
    /// # Errors
    /// When it is empty; nothing is taken then.
    pub fn check(
        &mut self,
        key_id: &str,
        per_minute: NonZeroU32,
        now: Instant,
    ) -> Result<(), Limited> {
        self.sweep(now);
        let full_at = self.full_at.get(key_id).copied().unwrap_or(now).max(now);
        let filled_by = full_at + MINUTE / per_minute.get();
        let missing = filled_by - now;
        if missing > MINUTE {
            return Err(Limited {
                per_minute,
                retry_after: missing - MINUTE,
            });
        }
        self.make_room(key_id);
        self.full_at.insert(key_id.into(), filled_by);
        Ok(())
    }

    /// Buckets that are not full.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Every bucket is full.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }

    fn sweep(&mut self, now: Instant) {
        let swept_at = *self.swept_at.get_or_insert(now);
        if now.saturating_duration_since(swept_at) >= SWEEP_PAUSE {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.swept_at = Some(now);
        }
    }

    /// Forgets the bucket that is full the soonest: its key gains the least.
    fn make_room(&mut self, key_id: &str) {
        if self.full_at.len() < BUCKETS_MAX || self.full_at.contains_key(key_id) {
            return;
        }
        let soonest = self.full_at.iter().min_by_key(|(_, full_at)| **full_at);
        if let Some(id) = soonest.map(|(id, _)| id.clone()) {
            self.full_at.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIXTY: NonZeroU32 = NonZeroU32::new(60).unwrap();
    const SECOND: Duration = Duration::from_secs(1);

    fn spent(limiter: &mut RateLimiter, id: &str, now: Instant) -> usize {
        (0..1_000)
            .take_while(|_| limiter.check(id, SIXTY, now).is_ok())
            .count()
    }

    #[test]
    fn a_quiet_key_spends_its_minute_at_once_and_then_waits_for_its_turn() {
        let (mut limiter, now) = (RateLimiter::default(), Instant::now());
        assert_eq!(spent(&mut limiter, "a", now), 60);
        let limited = limiter.check("a", SIXTY, now).unwrap_err();
        assert_eq!((limited.retry_after, limited.seconds()), (SECOND, 1));
        assert_eq!(limiter.check("a", SIXTY, now + SECOND), Ok(()));
        assert!(limiter.check("a", SIXTY, now + SECOND).is_err());
    }

    #[test]
    fn whoever_waits_as_told_is_let_in() {
        let rate = NonZeroU32::new(7).unwrap();
        let (mut limiter, mut now) = (RateLimiter::default(), Instant::now());
        for _ in 0..50 {
            if let Err(limited) = limiter.check("a", rate, now) {
                now += limited.retry_after;
                assert_eq!(limiter.check("a", rate, now), Ok(()));
            }
        }
    }

    #[test]
    fn asking_in_vain_costs_nothing() {
        let (mut limiter, now) = (RateLimiter::default(), Instant::now());
        spent(&mut limiter, "a", now);
        for _ in 0..100 {
            assert_eq!(
                limiter.check("a", SIXTY, now).unwrap_err().retry_after,
                SECOND
            );
        }
    }

    #[test]
    fn keys_do_not_share_a_bucket() {
        let (mut limiter, now) = (RateLimiter::default(), Instant::now());
        assert_eq!(spent(&mut limiter, "a", now), 60);
        assert_eq!(spent(&mut limiter, "b", now), 60);
    }

    #[test]
    fn buckets_that_are_full_again_are_dropped() {
        let (mut limiter, now) = (RateLimiter::default(), Instant::now());
        for id in 0..100 {
            limiter.check(&id.to_string(), SIXTY, now).unwrap();
        }
        assert_eq!(limiter.len(), 100);
        limiter.check("a", SIXTY, now + 2 * MINUTE).unwrap();
        assert_eq!(limiter.len(), 1);
    }

    #[test]
    fn there_are_never_more_buckets_than_stated() {
        let (mut limiter, now) = (RateLimiter::default(), Instant::now());
        for id in 0..=BUCKETS_MAX {
            limiter.check(&id.to_string(), SIXTY, now).unwrap();
        }
        assert_eq!(limiter.len(), BUCKETS_MAX);
    }

    #[test]
    fn a_clock_that_goes_back_locks_nobody_out_for_ever() {
        let (mut limiter, now) = (RateLimiter::default(), Instant::now() + 2 * MINUTE);
        spent(&mut limiter, "a", now);
        let limited = limiter.check("a", SIXTY, now - SECOND).unwrap_err();
        assert_eq!(limited.retry_after, 2 * SECOND);
    }
}
