//! One small table of named timers; the driver needs one sleep only.

use crate::bundle::BundleIx;
use reel_domain::{DeviceId, JobId, SlotId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Everything that the machine waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A starting worker must be READY.
    Boot(SlotId),
    /// A busy worker must show progress.
    Progress(SlotId),
    /// A busy worker that says nothing is asked, or must have answered.
    Heartbeat(SlotId),
    /// A cancelled attempt must have left.
    Cancel(SlotId),
    /// A worker asked to stop must be gone.
    Stop(SlotId),
    /// A worker that was killed must be gone.
    Kill(SlotId),
    /// A batch that is being formed begins.
    Form(SlotId),
    /// A worker is expected to be free for a realtime job that waits for it.
    Preempt(SlotId),
    /// A slot may spawn again.
    Backoff(SlotId),
    /// A bundle may be tried again on a device.
    Rest(DeviceId, BundleIx),
    /// A device may evict again.
    Evict(DeviceId),
    /// A device that is suspect may be tried again.
    Probation(DeviceId),
    /// A job must have begun.
    Begin(JobId),
}

/// When each armed timer expires.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: BTreeMap<Timer, Instant>,
    order: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// Arms a timer; an earlier setting is forgotten.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.stop(timer);
        self.at.insert(timer, at);
        self.order.insert((at, timer));
    }

    /// Arms a timer that is not armed.
    pub(crate) fn start(&mut self, timer: Timer, at: Instant) {
        if !self.at.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Arms a timer, or moves it to an earlier time.
    pub(crate) fn advance(&mut self, timer: Timer, at: Instant) {
        if self.at.get(&timer).is_none_or(|&armed| at < armed) {
            self.set(timer, at);
        }
    }

    /// Disarms a timer.
    pub(crate) fn stop(&mut self, timer: Timer) {
        if let Some(at) = self.at.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    /// Disarms everything of a slot.
    pub(crate) fn stop_slot(&mut self, slot: SlotId) {
        for timer in [
            Timer::Boot(slot),
            Timer::Progress(slot),
            Timer::Heartbeat(slot),
            Timer::Cancel(slot),
            Timer::Stop(slot),
            Timer::Kill(slot),
            Timer::Form(slot),
            Timer::Preempt(slot),
            Timer::Backoff(slot),
        ] {
            self.stop(timer);
        }
    }

    /// Takes one timer that has expired, the earliest first.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.order.first()?;
        if at > now {
            return None;
        }
        self.stop(timer);
        Some(timer)
    }

    /// When the next timer expires.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timers_expire_in_order_and_once() {
        let slot = SlotId {
            device: DeviceId(0),
            index: 0,
        };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        timers.set(Timer::Boot(slot), at(3));
        timers.set(Timer::Stop(slot), at(1));
        timers.set(Timer::Stop(slot), at(2));
        assert_eq!(timers.next(), Some(at(2)));
        assert_eq!(timers.expired(at(1)), None);
        assert_eq!(timers.expired(at(9)), Some(Timer::Stop(slot)));
        timers.stop_slot(slot);
        assert_eq!((timers.expired(at(9)), timers.next()), (None, None));
    }
}
