//! `[scheduler]` of `reel.toml`: who goes first, who makes room, who shares.

use crate::config::{ConfigError, at_least_one};
use clap::ValueEnum;
use reel_domain::{BundleKey, TenantName};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How much the measured throughput must grow for a job to join, where nobody says otherwise.
pub(crate) const GAIN_PERCENT: u32 = 3;

/// `[scheduler]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Scheduling {
    /// Whether jobs share a worker.
    pub(crate) batching: Batching,
    /// Jobs that one worker may carry at once; the bundle's own limit holds too.
    pub(crate) batch_max: u32,
    /// Milliseconds that an engine which cannot take in jobs later waits for more that begin with the first one.
    pub(crate) batch_delay_ms: u64,
    /// A file with smaller limits for some models, shapes and devices.
    pub(crate) batch_rules: Option<PathBuf>,
    /// Realtime jobs for which one of the batch class may be paused, over its whole life.
    pub(crate) preemptions_max: u32,
    /// How much the measured throughput must grow for a job to join, in percent.
    pub(crate) batch_gain_percent: u32,
    /// Which idle worker makes room for another shape.
    pub(crate) eviction: Eviction,
    /// Bundles whose workers are never evicted, as `model/shape`.
    pub(crate) pinned: Vec<String>,
    /// Seconds that a worker is kept after it was used last.
    pub(crate) residency_min_s: u64,
    /// Younger jobs of a tenant that may go before its oldest one.
    pub(crate) look_past_max: u32,
    /// Younger jobs that may be started while one waits for a shape that no worker has.
    pub(crate) overtakes_max: u32,
    /// Start a worker before the one that makes room for it is stopped, where memory allows it.
    pub(crate) standby: bool,
    /// Fill empty slots before anybody asks.
    pub(crate) prewarm: bool,
    /// Jobs of one tenant that may wait or run at once.
    pub(crate) tenant_jobs_max: usize,
    /// Shares of tenants; who is not named has 1.
    pub(crate) weights: BTreeMap<String, u32>,
}

/// `scheduler.batching`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Batching {
    /// One job at a time.
    Off,
    /// As many as there is room for.
    Fixed,
    /// As many as make more videos per second.
    Profit,
}

/// `scheduler.eviction`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Eviction {
    /// The one that was used longest ago.
    Lru,
    /// The one that is cheapest to bring back.
    Priced,
}

impl Default for Scheduling {
    fn default() -> Self {
        let scheduler = reel_scheduler::Config::default();
        Self {
            batching: Batching::Profit,
            batch_max: scheduler.batch_max,
            batch_delay_ms: 0,
            batch_rules: None,
            preemptions_max: scheduler.preemptions_max,
            batch_gain_percent: GAIN_PERCENT,
            eviction: Eviction::Lru,
            pinned: Vec::new(),
            residency_min_s: scheduler.residency_min.as_secs(),
            look_past_max: scheduler.look_past_max,
            overtakes_max: scheduler.overtakes_max,
            standby: scheduler.standby,
            prewarm: scheduler.prewarm,
            tenant_jobs_max: scheduler.tenant_jobs_max,
            weights: BTreeMap::new(),
        }
    }
}

impl Scheduling {
    pub(crate) const fn batching(&self) -> reel_scheduler::Batching {
        self.batching.with_gain(self.batch_gain_percent)
    }

    pub(crate) fn pinned(&self) -> Result<Vec<BundleKey>, ConfigError> {
        let parsed = self.pinned.iter().map(|text| {
            text.parse().map_err(|_| ConfigError::Value {
                key: "scheduler.pinned",
                value: text.clone(),
                reason: "does not name a bundle, like tiny-shapes/64x64@17f",
            })
        });
        parsed.collect()
    }

    pub(crate) fn weights(&self) -> Result<BTreeMap<TenantName, u32>, ConfigError> {
        let parsed = self.weights.iter().map(|(name, &weight)| {
            let tenant = name.parse().map_err(|_| ConfigError::Value {
                key: "scheduler.weights",
                value: name.clone(),
                reason: "is not a tenant name",
            })?;
            at_least_one("scheduler.weights", weight.into())?;
            Ok((tenant, weight))
        });
        parsed.collect()
    }
}

impl Batching {
    pub(crate) const fn with_gain(self, percent: u32) -> reel_scheduler::Batching {
        match self {
            Self::Off => reel_scheduler::Batching::Off,
            Self::Fixed => reel_scheduler::Batching::Fixed,
            Self::Profit => reel_scheduler::Batching::Profit {
                gain_permille: percent as u64 * 10,
            },
        }
    }
}

impl Eviction {
    /// As it is written on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl From<Eviction> for reel_scheduler::Eviction {
    fn from(eviction: Eviction) -> Self {
        match eviction {
            Eviction::Lru => Self::Lru,
            Eviction::Priced => Self::Priced,
        }
    }
}
