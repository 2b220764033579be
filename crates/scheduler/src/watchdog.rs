//! When a worker that shows no sign of life is given up.
//!
//! Three deadlines watch every attempt on a worker, each with its name in [`Config`]:
//! - the next mark (a step, or the end of a stage) within what this bundle usually takes: the 99th percentile of what
//!   was measured for the stage that the attempt is in, times a factor, between a floor and a ceiling; the ceiling
//!   while little is known;
//! - the whole attempt, however much it seems to move;
//! - the worker's answer to a ping, where it has said nothing for a while: a thread beside the engine gives it, so a
//!   long step is told from a process that is stopped.

use crate::bundle::BundleIx;
use crate::carried::Activity;
use crate::command::Command;
use crate::config::Config;
use crate::scheduler::Scheduler;
use crate::slot::Ready;
use crate::timer::Timer;
use reel_domain::{AttemptId, Fault, Silence, Stage};
use std::time::{Duration, Instant};

/// Measured times below which the ceiling holds.
const SAMPLES_MIN: u32 = 8;
/// Measured times after which all counts are halved: what was slow long ago is forgotten.
const SAMPLES_MAX: u32 = 1_024;
/// Buckets per doubling, and in all: from a microsecond to more than a day, each 19 % wider than the one before.
const BUCKETS_PER_DOUBLING: u32 = 4;
const BUCKETS: usize = 148;

/// Where an attempt is: the stage, and what is done of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The stage that the step belongs to.
    pub stage: Stage,
    /// Steps of the stage that are done.
    pub step: u32,
    /// Steps of the stage in all.
    pub of: u32,
}

impl Mark {
    /// What an attempt is in after this mark: the stage, and the steps of it that are done.
    const fn pending(self) -> (Stage, u32) {
        match self.stage {
            stage if self.step < self.of => (stage, self.step),
            Stage::Encode => (Stage::Denoise, 0),
            Stage::Denoise | Stage::Decode => (Stage::Decode, 0),
        }
    }
}

/// How long the stages of a bundle's attempts take from mark to mark.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paces([Pace; Stage::ALL.len()]);

/// A histogram with buckets of equal ratio.
#[derive(Debug, Clone)]
struct Pace {
    counts: Box<[u32; BUCKETS]>,
    samples: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            samples: 0,
        }
    }
}

impl Pace {
    fn learn(&mut self, time: Duration) {
        self.counts[bucket(time)] += 1;
        self.samples += 1;
        if self.samples == SAMPLES_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.samples = self.counts.iter().sum();
        }
    }

    /// The upper end of the bucket below which 99 of 100 samples lie; `None` with too few samples.
    fn p99(&self) -> Option<Duration> {
        if self.samples < SAMPLES_MIN {
            return None;
        }
        let rank = self.samples - self.samples / 100;
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        Some(upper_end(place.unwrap_or(BUCKETS - 1)))
    }
}

/// Whole numbers only: the same on every machine.
fn bucket(time: Duration) -> usize {
    let us = u64::try_from(time.as_micros())
        .unwrap_or(u64::MAX)
        .max(1 << 2);
    let doublings = us.ilog2();
    // The two bits after the first one.
    let part = (us >> (doublings - 2)) & 3;
    let place = (doublings - 2) * BUCKETS_PER_DOUBLING + part as u32;
    (place as usize).min(BUCKETS - 1)
}

fn upper_end(bucket: usize) -> Duration {
    let (doublings, part) = (bucket as u32 / BUCKETS_PER_DOUBLING, bucket as u64 % 4);
    Duration::from_micros((5 + part) << doublings)
}

impl Paces {
    fn learn(&mut self, stage: Stage, time: Duration) {
        self.0[stage as usize].learn(time);
    }

    /// How long an attempt may show nothing. Beside others it waits for their stages too.
    fn allowance(&self, stage: Stage, alone: bool, config: &Config) -> Duration {
        let usual = match alone {
            true => self.0[stage as usize].p99(),
            false => {
                let all: Option<Vec<_>> = self.0.iter().map(Pace::p99).collect();
                all.and_then(|all| all.into_iter().max())
            }
        };
        let ceiling = config.progress_deadline;
        let floor = config.watchdog_floor.min(ceiling);
        usual.map_or(ceiling, |usual| {
            usual
                .saturating_mul(config.watchdog_factor)
                .clamp(floor, ceiling)
        })
    }
}

impl Scheduler {
    /// An attempt begins, or goes on after a pause: from now on it is watched.
    pub(crate) fn watch(&mut self, index: usize, now: Instant) {
        let Some((bundle, alone)) = self.slots[index].ready().map(watched) else {
            return;
        };
        let paces = &self.menu[bundle].paces;
        let due = |stage| now + paces.allowance(stage, alone, &self.config);
        let dues = Stage::ALL.map(due);
        let ends_by = now + self.config.attempt_deadline;
        let slot = self.slots[index].id;
        self.alter_ready(index, |ready| {
            for carried in &mut ready.carried {
                if carried.activity == Activity::Waking {
                    carried.marked = now;
                    carried.activity = Activity::Running {
                        progress_due: dues[carried.pending.0 as usize],
                        ends_by,
                    };
                }
            }
        });
        if let Some(due) = self.slots[index].ready().and_then(Ready::progress_due) {
            self.timers.start(Timer::Progress(slot), due);
        }
        if let Some(ready) = self.slots[index].ready_mut()
            && !self.config.heartbeat_after.is_zero()
        {
            ready.heard = now;
            let due = now + self.config.heartbeat_after;
            self.timers.start(Timer::Heartbeat(slot), due);
        }
    }

    /// An attempt shows a sign of life: it has begun (without a mark), or come further. The worker's timer looks at this
    /// when it expires; it is moved only where that would be too late.
    pub(crate) fn alive(
        &mut self,
        index: usize,
        attempt: AttemptId,
        mark: Option<Mark>,
        now: Instant,
    ) {
        let slot = self.slots[index].id;
        let Some(ready) = self.slots[index].ready_mut() else {
            return;
        };
        let (bundle, alone) = watched(ready);
        let Some(carried) = ready.find(attempt) else {
            return;
        };
        let took = now.saturating_duration_since(carried.marked);
        carried.marked = now;
        let was_in = carried.pending.0;
        if let Some(mark) = mark {
            carried.pending = mark.pending();
        }
        let paces = &mut self.menu[bundle].paces;
        if mark.is_some() {
            paces.learn(was_in, took);
        }
        if let Activity::Running { progress_due, .. } = &mut carried.activity {
            let due = now + paces.allowance(carried.pending.0, alone, &self.config);
            if due < *progress_due {
                self.timers.advance(Timer::Progress(slot), due);
            }
            *progress_due = due;
        }
    }

    /// An attempt's frames are here: decoding took this long.
    pub(crate) fn decoded(&mut self, index: usize, attempt: AttemptId, now: Instant) {
        let Some(ready) = self.slots[index].ready_mut() else {
            return;
        };
        let bundle = ready.bundle;
        if let Some(carried) = ready.find(attempt)
            && carried.pending.0 == Stage::Decode
        {
            let took = now.saturating_duration_since(carried.marked);
            self.menu[bundle].paces.learn(Stage::Decode, took);
        }
    }

    pub(crate) fn progress_is_due(&mut self, index: usize, now: Instant) {
        let slot = &self.slots[index];
        match slot.ready().and_then(Ready::progress_due) {
            Some(due) if due > now => self.timers.set(Timer::Progress(slot.id), due),
            Some(_) => {
                let silence = slot.ready().and_then(|ready| ready.overdue(now));
                let fault = Fault::Hang(silence.unwrap_or(Silence::Attempt));
                self.kill(index, fault, now);
            }
            None => {}
        }
    }

    /// A busy worker may have said nothing for a while: it is asked whether it lives.
    pub(crate) fn heartbeat_is_due(&mut self, index: usize, now: Instant) {
        let id = self.slots[index].id;
        let (after, deadline) = (self.config.heartbeat_after, self.config.heartbeat_deadline);
        let Some(ready) = self.slots[index]
            .ready_mut()
            .filter(|ready| !ready.is_idle())
        else {
            return;
        };
        let silent_since = ready.heard;
        match ready.pinged {
            _ if silent_since + after > now => {
                self.timers.set(Timer::Heartbeat(id), silent_since + after);
            }
            Some(_) => self.kill(index, Fault::Hang(Silence::Heartbeat), now),
            None => {
                ready.pinged = Some(now);
                let worker = ready.worker;
                self.commands.push_back(Command::Ping { worker });
                self.timers.set(Timer::Heartbeat(id), now + deadline);
            }
        }
    }

    /// How long the attempts of a bundle may show nothing in each stage, alone on their worker.
    #[must_use]
    pub fn watchdog(&self, bundle: &reel_domain::BundleKey) -> Option<[(Stage, Duration); 3]> {
        let place = self.menu.find(bundle)?;
        let paces = &self.menu[place].paces;
        Some(Stage::ALL.map(|stage| (stage, paces.allowance(stage, true, &self.config))))
    }
}

/// What the allowance of an attempt depends on: the bundle, and whether it is alone.
fn watched(ready: &Ready) -> (BundleIx, bool) {
    (ready.bundle, ready.carried.len() <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_its_ends_say() {
        for us in [1, 4, 5, 7, 8, 100, 7_400, 1_000_000, 3_600_000_000] {
            let time = Duration::from_micros(us);
            let end = upper_end(bucket(time));
            assert!(time < end, "{time:?} under {end:?}");
            assert!(
                us < 4 || end <= time * 5 / 4 + Duration::from_micros(1),
                "{time:?}: {end:?}"
            );
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_allowance_follows_what_is_usual_between_its_bounds() {
        let config = Config::default();
        let mut paces = Paces::default();
        let of = |paces: &Paces| paces.allowance(Stage::Denoise, true, &config);
        assert_eq!(of(&paces), config.progress_deadline, "nothing is known");
        for _ in 0..SAMPLES_MIN {
            paces.learn(Stage::Denoise, Duration::from_secs(3));
        }
        let usual = of(&paces);
        assert!(
            usual >= Duration::from_secs(30) && usual < Duration::from_secs(40),
            "{usual:?}"
        );
        let beside = paces.allowance(Stage::Denoise, false, &config);
        assert_eq!(
            beside, config.progress_deadline,
            "others may decode, which nobody has seen"
        );
        for _ in 0..900 {
            paces.learn(Stage::Denoise, Duration::from_millis(7));
        }
        assert_eq!(of(&paces), config.watchdog_floor);
        for _ in 0..SAMPLES_MAX {
            paces.learn(Stage::Denoise, Duration::from_secs(60));
        }
        assert_eq!(of(&paces), config.progress_deadline, "the ceiling");
    }
}
