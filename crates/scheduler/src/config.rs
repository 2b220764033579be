//! The bounds of the machine, each with its default.

use crate::caps::BatchRule;
use crate::command::WorkerId;
use reel_domain::{BundleKey, TenantName, limits};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the scheduler may do, and how long it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Jobs that may wait or run at once.
    pub queue_jobs_max: usize,
    /// Jobs of one tenant that may wait or run at once.
    pub tenant_jobs_max: usize,
    /// Shares of tenants; who is not named has 1.
    pub weights: BTreeMap<TenantName, u32>,
    /// Attempts at one job before it fails for good.
    pub attempts_max: u32,
    /// How jobs share a worker.
    pub batching: Batching,
    /// Attempts that one worker may carry at once (the engine's own limit holds too).
    pub batch_max: u32,
    /// Smaller limits for some models, shapes and devices.
    pub batch_rules: Vec<BatchRule>,
    /// How long an engine that cannot take in attempts later waits for more that begin with the first one.
    pub batch_delay: Duration,
    /// Realtime attempts that may begin on a worker while an attempt of the batch class is paused for them, over
    /// its whole life; 0: nothing is paused.
    pub preemptions_max: u32,
    /// Younger jobs of a tenant that may be served before its oldest one, for workers that are hot for them.
    pub look_past_max: u32,
    /// Younger jobs that may be started while an older one waits for a worker that nobody has: then a busy
    /// worker is drained for it. Also how often joins may go past a job that cannot join.
    pub overtakes_max: u32,
    /// Jobs of more urgent classes that a worker may start before it starts one of a less urgent class.
    pub class_overtakes_max: u32,
    /// Which idle worker makes room.
    pub eviction: Eviction,
    /// Bundles that are never evicted.
    pub pinned: Vec<BundleKey>,
    /// How long a worker is kept after it was used last, unless somebody was overtaken too often.
    pub residency_min: Duration,
    /// Share of a device's time that spawns which replace a worker may take, in thousandths.
    pub eviction_share_permille: u64,
    /// Where memory allows it, a worker is started before the one that makes room for it is stopped.
    pub standby: bool,
    /// Empty slots are filled before anybody asks.
    pub prewarm: bool,
    /// Workers that may be starting at once on one device.
    pub device_spawns_max: usize,
    /// Workers that may be starting at once.
    pub spawns_max: usize,
    /// Memory of a device that is kept free, in bytes.
    pub memory_reserve_bytes: u64,
    /// From spawn to a worker's first message.
    pub exec_deadline: Duration,
    /// From there to the loaded bundle.
    pub boot_deadline: Duration,
    /// From there to READY: the recorded computation that it has to reproduce.
    pub canary_deadline: Duration,
    /// From one sign of progress of an attempt to the next, at most.
    pub progress_deadline: Duration,
    /// How many times the usual time an attempt may take to its next sign of progress.
    pub watchdog_factor: u32,
    /// That it may take in any case.
    pub watchdog_floor: Duration,
    /// From the beginning of an attempt to its frames.
    pub attempt_deadline: Duration,
    /// How long a busy worker may say nothing until it is asked whether it lives; 0: nobody asks.
    pub heartbeat_after: Duration,
    /// Within what it must answer.
    pub heartbeat_deadline: Duration,
    /// From a cancellation to the step boundary where the attempt leaves.
    pub cancel_deadline: Duration,
    /// From the request to stop to the end of the process, after which it is killed.
    pub stop_grace: Duration,
    /// From the end by force to the end of the process, after which the device is out of use.
    pub kill_deadline: Duration,
    /// Pause before the second respawn of a slot whose workers die without finishing anything;
    /// the first one is immediate. Doubles up to [`backoff_max`](Self::backoff_max), less up to a quarter.
    pub backoff_min: Duration,
    /// Longest pause before a respawn.
    pub backoff_max: Duration,
    /// Workers of one bundle that may die before READY, in a row, until its jobs fail and the bundle rests
    /// for [`backoff_max`](Self::backoff_max).
    pub boot_failures_max: u32,
    /// Workers that may die under one request until it is quarantined.
    pub deaths_per_request_max: u32,
    /// Requests that the quarantine remembers.
    pub quarantine_max: usize,
    /// Sessions whose last worker is remembered.
    pub sessions_max: usize,
    /// How long a device on which two different requests died gets no work.
    pub probation_after: Duration,
    /// Seed of everything random: the jitter of pauses.
    pub seed: u64,
}

/// How jobs share a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batching {
    /// They do not.
    Off,
    /// Up to the limit, always.
    Fixed,
    /// Where the measured throughput grows by at least this many thousandths.
    Profit {
        /// Thousandths.
        gain_permille: u64,
    },
}

/// Which idle worker makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// The one that was used longest ago.
    Lru,
    /// The one that is cheapest to bring back: its measured spawn time, as often as it was needed of late (weighted
    /// least frequently used, with counts that are halved now and then).
    Priced,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            queue_jobs_max: limits::QUEUE_JOBS_MAX,
            tenant_jobs_max: limits::TENANT_JOBS_MAX,
            weights: BTreeMap::new(),
            attempts_max: limits::ATTEMPTS_MAX,
            batching: Batching::Profit { gain_permille: 30 },
            batch_max: 8,
            batch_rules: Vec::new(),
            batch_delay: Duration::ZERO,
            preemptions_max: 8,
            look_past_max: 32,
            overtakes_max: 32,
            class_overtakes_max: 64,
            eviction: Eviction::Lru,
            pinned: Vec::new(),
            residency_min: Duration::ZERO,
            eviction_share_permille: 500,
            standby: true,
            prewarm: true,
            device_spawns_max: 2,
            spawns_max: 32,
            memory_reserve_bytes: 0,
            exec_deadline: Duration::from_secs(30),
            boot_deadline: Duration::from_secs(120),
            canary_deadline: Duration::from_secs(60),
            progress_deadline: Duration::from_secs(120),
            watchdog_factor: 10,
            watchdog_floor: Duration::from_secs(10),
            attempt_deadline: Duration::from_secs(3_600),
            heartbeat_after: Duration::from_secs(2),
            heartbeat_deadline: Duration::from_secs(10),
            cancel_deadline: Duration::from_secs(20),
            stop_grace: Duration::from_secs(5),
            kill_deadline: Duration::from_secs(30),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            boot_failures_max: 3,
            deaths_per_request_max: 2,
            quarantine_max: 1_024,
            sessions_max: 4_096,
            probation_after: Duration::from_secs(60),
            seed: 0,
        }
    }
}

impl Config {
    /// These bounds, but for those that a running machine cannot change: its spare slots, the windows of its line and
    /// its seed.
    #[must_use]
    pub fn keeping_the_frame_of(self, running: &Self) -> Self {
        Self {
            standby: running.standby,
            look_past_max: running.look_past_max,
            class_overtakes_max: running.class_overtakes_max,
            seed: running.seed,
            ..self
        }
    }

    /// The pause of a worker's slot before the respawn that follows `failures` deaths in a row.
    #[must_use]
    pub fn backoff(&self, failures: u32, worker: WorkerId) -> Duration {
        if failures <= 1 {
            return Duration::ZERO;
        }
        let pause = self
            .backoff_min
            .saturating_mul(1 << (failures - 2).min(16))
            .min(self.backoff_max);
        // Slots that failed together must not come back together (full pause less 0 to 25 %).
        let random = mix(self.seed ^ worker.0 ^ u64::from(failures) << 48) >> 48;
        pause - pause.mul_f64(random as f64 / f64::from(1 << 18))
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): the same on every machine and in every version.
const fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_respawn_is_immediate_and_the_pauses_are_bounded() {
        let config = Config::default();
        let worker = WorkerId(7);
        assert_eq!(config.backoff(1, worker), Duration::ZERO);
        for failures in [2, 3, 9, u32::MAX] {
            let full = config
                .backoff_min
                .saturating_mul(1 << (failures - 2).min(16))
                .min(config.backoff_max);
            let pause = config.backoff(failures, worker);
            assert!(
                pause <= full && pause >= full * 3 / 4,
                "{pause:?} of {full:?}"
            );
        }
    }

    #[test]
    fn pauses_of_different_workers_differ_and_are_the_same_every_time() {
        let config = Config::default();
        let pauses: Vec<_> = (0..8)
            .map(|worker| config.backoff(5, WorkerId(worker)))
            .collect();
        let mut distinct = pauses.clone();
        distinct.dedup();
        assert_eq!(distinct.len(), 8);
        assert_eq!(config.backoff(5, WorkerId(3)), pauses[3]);
    }
}
