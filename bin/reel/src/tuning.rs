//! What an operator may change while the server runs: `[storage]`, `[incidents]`, shares of workers; and what not.

use crate::config::Config;
use reel_process::Share;
use reel_supervisor::{Incidents, Retention, Tuning};
use serde::Deserialize;
use std::time::Duration;

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StorageSettings {
    /// Hours that a finished video is kept; 0: for ever.
    pub(crate) video_ttl_h: u64,
    /// Hours that the record of a job is kept after it ended; 0: for ever.
    pub(crate) record_ttl_h: u64,
    /// Free space below which videos are removed early, in MiB.
    pub(crate) soft_free_mib: u64,
    /// Seconds that a video stays even then.
    pub(crate) kept_at_least_s: u64,
    /// Free space below which no job is taken, in MiB.
    pub(crate) hard_free_mib: u64,
}

/// `[incidents]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IncidentSettings {
    /// Deaths of workers that are kept.
    pub(crate) keep: usize,
    /// Write the prompts down that a dead worker had.
    pub(crate) prompts: bool,
}

impl Default for StorageSettings {
    fn default() -> Self {
        let retention = Retention::default();
        let hours = |ttl: Option<Duration>| ttl.map_or(0, |ttl| ttl.as_secs() / 3_600);
        Self {
            video_ttl_h: hours(retention.video_ttl),
            record_ttl_h: hours(retention.record_ttl),
            soft_free_mib: retention.soft_free_bytes >> 20,
            kept_at_least_s: retention.kept_at_least.as_secs(),
            hard_free_mib: retention.hard_free_bytes >> 20,
        }
    }
}

impl Default for IncidentSettings {
    fn default() -> Self {
        Self {
            keep: reel_supervisor::incidents::KEPT,
            prompts: false,
        }
    }
}

impl Config {
    /// What may change while the server runs, beside the bounds of the scheduler.
    pub(crate) fn tuning(&self) -> Tuning {
        Tuning {
            drain_grace: Duration::from_secs(self.pool.drain_grace_s),
            retention: self.retention(),
            incidents: self.incidents(),
            share: self.share(),
        }
    }

    /// The keys that differ in another configuration, and hold from the next start on only.
    pub(crate) fn needs_a_start(&self, other: &Self) -> Vec<&'static str> {
        let pool = |config: &Self| {
            let pool = &config.pool;
            let built = (pool.devices, pool.cpu_devices, pool.slots_per_device);
            (
                built,
                pool.threads_per_worker,
                pool.pin_processors,
                pool.sandbox,
            )
        };
        let frame = |config: &Self| (config.scheduler.standby, config.scheduler.look_past_max);
        let differs = [
            ("[server]", self.server != other.server),
            ("[paths]", self.paths != other.paths),
            (
                "pool.devices, cpu_devices, slots_per_device, threads_per_worker, pin_processors or sandbox",
                pool(self) != pool(other),
            ),
            (
                "scheduler.standby or look_past_max",
                frame(self) != frame(other),
            ),
            ("[recording]", self.recording != other.recording),
            ("[journal]", self.journal != other.journal),
            ("[bake]", self.bake != other.bake),
            ("[media]", self.media != other.media),
            ("log.format", self.log.format != other.log.format),
            ("[[models]]", self.models != other.models),
        ];
        let differing = differs.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(key, _)| key).collect()
    }

    /// What each worker gets of the machine.
    fn share(&self) -> Share {
        let memory_bytes = self.pool.worker_memory_mib * 1024 * 1024;
        Share {
            memory_bytes: Some(memory_bytes).filter(|bytes| *bytes > 0),
            nice: self.pool.worker_nice,
            ..Share::default()
        }
    }

    /// How long videos and records are kept.
    fn retention(&self) -> Retention {
        let ttl = |hours: u64| {
            let time = Duration::from_secs(hours.saturating_mul(3_600));
            Some(time).filter(|time| !time.is_zero())
        };
        Retention {
            video_ttl: ttl(self.storage.video_ttl_h),
            record_ttl: ttl(self.storage.record_ttl_h),
            soft_free_bytes: self.storage.soft_free_mib << 20,
            kept_at_least: Duration::from_secs(self.storage.kept_at_least_s),
            hard_free_bytes: self.storage.hard_free_mib << 20,
        }
    }

    /// Where deaths of workers are written down.
    pub(crate) fn incidents(&self) -> Incidents {
        Incidents {
            keep: self.incidents.keep,
            prompts: self.incidents.prompts,
            ..Incidents::in_data_dir(&self.paths.data_dir)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("reel.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_reload_cannot_change_is_named() {
        let one = parse("").unwrap();
        let same = parse("[pool]\nattempts_max = 5\n[storage]\nvideo_ttl_h = 1\n").unwrap();
        assert!(one.needs_a_start(&same).is_empty());
        let other = parse("[server]\nlisten = \"127.0.0.1:9\"\n[pool]\ncpu_devices = 2\n").unwrap();
        let named = one.needs_a_start(&other);
        assert_eq!(named[0], "[server]");
        assert!(named[1].contains("cpu_devices"));
    }
}
