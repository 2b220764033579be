//! `reel.toml`: every key optional and typed, unknown ones refused with the line and a suggestion.
//!
//! A flag outranks its `REEL_*` variable, which outranks the file, which outranks the default.

use crate::batch_rules::{self, RulesError};
use crate::listening::Server;
use crate::outbound::OutboundSettings;
use crate::scheduling::Scheduling;
use crate::slots::Slots;
use crate::tuning::{IncidentSettings, StorageSettings};
use reel_domain::Durability;
use reel_gateway::GatewayConfig;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file that is read when nobody names one; it may be absent.
pub(crate) const DEFAULT_FILE: &str = "reel.toml";

/// How alike an unknown key must be to a known one to be suggested (Jaro-Winkler, 0 to 1).
const SUGGESTION_LIKENESS: f64 = 0.7;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) paths: Paths,
    pub(crate) pool: Pool,
    pub(crate) scheduler: Scheduling,
    pub(crate) recording: Recording,
    pub(crate) incidents: IncidentSettings,
    pub(crate) storage: StorageSettings,
    pub(crate) journal: JournalSettings,
    pub(crate) bake: Bake,
    pub(crate) media: Media,
    pub(crate) outbound: OutboundSettings,
    pub(crate) log: Log,
    /// Models to serve, the default one first; empty: the built-in `tiny-shapes`.
    pub(crate) models: Vec<Model>,
}

/// `[paths]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Paths {
    /// Jobs and videos.
    pub(crate) data_dir: PathBuf,
    /// Weights and bundles; `None`: `$XDG_CACHE_HOME/reel`, `~/.cache/reel` or `/var/cache/reel`.
    pub(crate) cache_dir: Option<PathBuf>,
    /// The native worker; `None`: `reel-worker` beside this program.
    pub(crate) worker: Option<PathBuf>,
}

/// `[pool]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pool {
    /// Which devices: every GPU, or the CPU where there is none (`auto`); only the CPU (`cpu`); only GPUs (`gpu`).
    pub(crate) devices: Devices,
    /// How many shares the CPU is cut into when it serves.
    pub(crate) cpu_devices: u32,
    /// K: workers on each device, if its memory allows it.
    pub(crate) slots_per_device: Slots,
    /// Memory of each device that is kept free, in MiB.
    pub(crate) memory_reserve_mib: u64,
    /// Threads that each worker computes with; 0: its share of the processors.
    pub(crate) threads_per_worker: usize,
    /// Jobs that may wait or run at once.
    pub(crate) queue_jobs_max: usize,
    /// Attempts at one job: the first, and retries when workers die under it.
    pub(crate) attempts_max: u32,
    /// Seconds in which a worker must have loaded its bundle.
    pub(crate) boot_deadline_s: u64,
    /// Seconds from one sign of progress of an attempt to the next, at most.
    pub(crate) progress_deadline_s: u64,
    /// How many times the usual time an attempt may take to its next sign of progress.
    pub(crate) watchdog_factor: u32,
    /// Seconds that it may take in any case.
    pub(crate) watchdog_floor_s: u64,
    /// Seconds from the beginning of an attempt to its frames.
    pub(crate) attempt_deadline_s: u64,
    /// Memory that one worker may write to, in MiB; 0: as much as there is.
    pub(crate) worker_memory_mib: u64,
    /// Niceness of workers, 0 to 19.
    pub(crate) worker_nice: u8,
    /// Workers on the CPU keep to processors of their own.
    pub(crate) pin_processors: bool,
    /// Workers write to their own directories only, and reach no network (Landlock).
    pub(crate) sandbox: bool,
    /// Seconds that running jobs may go on after the first request to end.
    pub(crate) drain_grace_s: u64,
}

/// `pool.devices`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Devices {
    /// Every GPU, or the CPU where there is none.
    Auto,
    /// The CPU.
    Cpu,
    /// Every GPU; without one, the server does not start.
    Gpu,
}

/// `[recording]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Recording {
    /// Record what happens to the pool, for `reel replay`.
    pub(crate) enabled: bool,
    /// Bytes of one recording; after that nothing more is recorded.
    pub(crate) bytes_max: u64,
    /// Recordings that are kept; each start begins one.
    pub(crate) keep: usize,
}

/// `[journal]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JournalSettings {
    /// Jobs and videos are synced to the disk before anybody hears of them (`full`), or not (`off`).
    pub(crate) sync: JournalSync,
}

/// `journal.sync`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JournalSync {
    /// A power cut takes nothing that was answered for.
    #[default]
    Full,
    /// A power cut may take jobs and videos of the last moments; the end of the process does not.
    Off,
}

impl From<JournalSync> for Durability {
    fn from(sync: JournalSync) -> Self {
        match sync {
            JournalSync::Full => Self::Full,
            JournalSync::Off => Self::Off,
        }
    }
}

/// `[bake]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bake {
    /// The Python that has `reel_bake` and torch; `None`: the one that `make setup` made.
    pub(crate) python: Option<PathBuf>,
    /// Do not bake what is missing when the server starts.
    pub(crate) disabled: bool,
}

/// `[media]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Media {
    /// The ffmpeg program; `None`: the one on `PATH`.
    pub(crate) ffmpeg: Option<PathBuf>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `text` for people, `json` for collectors.
    pub(crate) format: LogFormat,
    /// What is logged, as in `RUST_LOG`.
    pub(crate) filter: String,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// One line each, for people.
    Text,
    /// One object each, for collectors.
    Json,
}

/// `[[models]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    /// The model's directory, with its `model.toml`.
    pub(crate) path: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            data_dir: "reel-data".into(),
            cache_dir: None,
            worker: None,
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        let scheduler = reel_scheduler::Config::default();
        Self {
            devices: Devices::Auto,
            cpu_devices: 1,
            slots_per_device: Slots::default(),
            memory_reserve_mib: 256,
            threads_per_worker: 0,
            queue_jobs_max: scheduler.queue_jobs_max,
            attempts_max: scheduler.attempts_max,
            boot_deadline_s: scheduler.boot_deadline.as_secs(),
            progress_deadline_s: scheduler.progress_deadline.as_secs(),
            watchdog_factor: scheduler.watchdog_factor,
            watchdog_floor_s: scheduler.watchdog_floor.as_secs(),
            attempt_deadline_s: scheduler.attempt_deadline.as_secs(),
            worker_memory_mib: 0,
            worker_nice: 0,
            pin_processors: false,
            sandbox: true,
            drain_grace_s: 30,
        }
    }
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            enabled: false,
            bytes_max: 256 * 1024 * 1024,
            keep: 4,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".into(),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what is expected.
    #[error("{} cannot be used: {message}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why, and perhaps what was meant.
        message: String,
    },
    /// The file of batch rules that it names is wrong.
    #[error("scheduler.batch_rules: {0}")]
    Rules(#[from] RulesError),
    /// A value makes no sense.
    #[error("{key} = {value} {reason}")]
    Value {
        /// The key's full name.
        key: &'static str,
        /// What it was.
        value: String,
        /// What it must be.
        reason: &'static str,
    },
}

impl Config {
    /// Reads a file that must exist, or [`DEFAULT_FILE`] if it does, or takes the defaults.
    pub(crate) fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Read {
                path: path.into(),
                source,
            }),
        }
    }

    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let message = match suggestion(error.message()) {
                Some(meant) => format!(
                    "{}\nhelp: did you mean `{meant}`?",
                    error.to_string().trim_end()
                ),
                None => error.to_string().trim_end().to_owned(),
            };
            ConfigError::Parse {
                path: path.into(),
                message,
            }
        })?;
        config.check()?;
        Ok(config)
    }

    /// What types alone cannot say.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        at_least_one("pool.cpu_devices", self.pool.cpu_devices.into())?;
        at_least_one("pool.attempts_max", self.pool.attempts_max.into())?;
        at_least_one("pool.queue_jobs_max", self.pool.queue_jobs_max as u64)?;
        at_least_one("scheduler.batch_max", self.scheduler.batch_max.into())?;
        at_least_one(
            "scheduler.tenant_jobs_max",
            self.scheduler.tenant_jobs_max as u64,
        )?;
        at_least_one("recording.keep", self.recording.keep as u64)?;
        let pinned = self.scheduler.pinned()?.len() as u64;
        if let Slots::Fixed(slots) = self.pool.slots_per_device
            && pinned > 0
            && pinned >= slots.get().into()
        {
            return Err(ConfigError::Value {
                key: "scheduler.pinned",
                value: format!("{pinned} bundles"),
                reason: "leaves no slot to other shapes: pin fewer than pool.slots_per_device",
            });
        }
        self.scheduler.weights()?;
        at_least_one("pool.boot_deadline_s", self.pool.boot_deadline_s)?;
        at_least_one("pool.progress_deadline_s", self.pool.progress_deadline_s)?;
        at_least_one("pool.watchdog_factor", self.pool.watchdog_factor.into())?;
        at_least_one("pool.watchdog_floor_s", self.pool.watchdog_floor_s)?;
        at_least_one("pool.attempt_deadline_s", self.pool.attempt_deadline_s)?;
        let pool = &self.pool;
        let server = &self.server;
        for (key, seconds) in [
            ("server.sync_deadline_s", server.sync_deadline_s),
            (
                "server.download_url_lifetime_s",
                server.download_url_lifetime_s,
            ),
            ("pool.boot_deadline_s", pool.boot_deadline_s),
            ("pool.progress_deadline_s", pool.progress_deadline_s),
            ("pool.watchdog_floor_s", pool.watchdog_floor_s),
            ("pool.attempt_deadline_s", pool.attempt_deadline_s),
            ("pool.drain_grace_s", pool.drain_grace_s),
            ("scheduler.residency_min_s", self.scheduler.residency_min_s),
            ("storage.kept_at_least_s", self.storage.kept_at_least_s),
            ("storage.video_ttl_h", self.storage.video_ttl_h),
            ("storage.record_ttl_h", self.storage.record_ttl_h),
            ("pool.worker_memory_mib", pool.worker_memory_mib),
            ("pool.memory_reserve_mib", pool.memory_reserve_mib),
            ("storage.soft_free_mib", self.storage.soft_free_mib),
            ("storage.hard_free_mib", self.storage.hard_free_mib),
        ] {
            at_most(key, seconds, NUMBER_MAX)?;
        }
        at_least_one("incidents.keep", self.incidents.keep as u64)?;
        if self.pool.worker_nice > 19 {
            return Err(ConfigError::Value {
                key: "pool.worker_nice",
                value: self.pool.worker_nice.to_string(),
                reason: "must be 0 to 19",
            });
        }
        self.outbound.check()?;
        self.server.check()?;
        Ok(())
    }

    /// The bounds of the scheduler.
    pub(crate) fn scheduler(&self) -> Result<reel_scheduler::Config, ConfigError> {
        Ok(reel_scheduler::Config {
            queue_jobs_max: self.pool.queue_jobs_max,
            attempts_max: self.pool.attempts_max,
            boot_deadline: Duration::from_secs(self.pool.boot_deadline_s),
            progress_deadline: Duration::from_secs(self.pool.progress_deadline_s),
            watchdog_factor: self.pool.watchdog_factor,
            watchdog_floor: Duration::from_secs(self.pool.watchdog_floor_s),
            attempt_deadline: Duration::from_secs(self.pool.attempt_deadline_s),
            batching: self.scheduler.batching(),
            batch_max: self.scheduler.batch_max,
            batch_rules: self.batch_rules()?,
            batch_delay: Duration::from_millis(self.scheduler.batch_delay_ms),
            preemptions_max: self.scheduler.preemptions_max,
            standby: self.scheduler.standby,
            memory_reserve_bytes: self.pool.memory_reserve_mib * 1024 * 1024,
            eviction: self.scheduler.eviction.into(),
            pinned: self.scheduler.pinned()?,
            residency_min: Duration::from_secs(self.scheduler.residency_min_s),
            look_past_max: self.scheduler.look_past_max,
            overtakes_max: self.scheduler.overtakes_max,
            prewarm: self.scheduler.prewarm,
            tenant_jobs_max: self.scheduler.tenant_jobs_max,
            weights: self.scheduler.weights()?,
            ..reel_scheduler::Config::default()
        })
    }

    fn batch_rules(&self) -> Result<Vec<reel_scheduler::BatchRule>, ConfigError> {
        match &self.scheduler.batch_rules {
            Some(path) => Ok(batch_rules::load(path)?),
            None => Ok(Vec::new()),
        }
    }

    /// The limits of the HTTP surface.
    pub(crate) fn gateway(&self) -> GatewayConfig {
        self.server.gateway()
    }

    /// Where weights and bundles lie.
    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.paths
            .cache_dir
            .clone()
            .unwrap_or_else(default_cache_dir)
    }
}

/// The largest time (in any unit) and size (in MiB) that makes sense: thirty years in seconds, 900 TiB.
const NUMBER_MAX: u64 = 1_000_000_000;

fn at_most(key: &'static str, value: u64, max: u64) -> Result<(), ConfigError> {
    match value > max {
        true => Err(ConfigError::Value {
            key,
            value: value.to_string(),
            reason: "must be at most 1000000000",
        }),
        false => Ok(()),
    }
}

pub(crate) fn at_least_one(key: &'static str, value: u64) -> Result<(), ConfigError> {
    match value {
        0 => Err(ConfigError::Value {
            key,
            value: value.to_string(),
            reason: "must be at least 1",
        }),
        _ => Ok(()),
    }
}

/// The XDG base directory specification's place for what can be made again; a system service has no home.
fn default_cache_dir() -> PathBuf {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .map_or_else(|| "/var/cache/reel".into(), |cache| cache.join("reel"))
}

/// The known key that an unknown one resembles, from the parser's own list of what it expected.
pub(crate) fn suggestion(message: &str) -> Option<&str> {
    let (unknown, expected) = message
        .strip_prefix("unknown field `")?
        .split_once("`, expected ")?;
    expected
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .filter(|(likeness, _)| *likeness >= SUGGESTION_LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("reel.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(parse("").unwrap(), Config::default());
        assert_eq!(Config::default().pool.slots_per_device.count(4), 2);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_a_suggestion() {
        let error = parse("[pool]\nslots_per_devise = 3\n").unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        assert!(
            error.contains("did you mean `slots_per_device`?"),
            "{error}"
        );
        assert!(
            !parse("[pool]\nzzz = 3\n")
                .unwrap_err()
                .contains("did you mean")
        );
    }

    #[test]
    fn a_wrong_type_and_a_senseless_value_are_named() {
        assert!(
            parse("[server]\nlisten = 8000\n")
                .unwrap_err()
                .contains("listen")
        );
        let error = parse("[pool]\nslots_per_device = 0\n").unwrap_err();
        assert!(error.contains("1 or more, or \"auto\""), "{error}");
        let auto = parse("[pool]\nslots_per_device = \"auto\"\n").unwrap();
        assert_eq!(auto.pool.slots_per_device, Slots::Auto);
    }

    #[test]
    fn a_number_that_no_clock_can_count_to_is_refused() {
        let error = parse("[pool]\nattempt_deadline_s = 9223372036854775807\n").unwrap_err();
        assert!(error.contains("pool.attempt_deadline_s"), "{error}");
        assert!(parse("[storage]\nsoft_free_mib = 9223372036854775807\n").is_err());
    }

    #[test]
    fn every_documented_key_is_read() {
        let text = include_str!("../../../deploy/reel.toml");
        let uncommented: String = text
            .lines()
            .filter_map(|line| line.strip_prefix("#= "))
            .collect::<Vec<_>>()
            .join("\n");
        let mut config = parse(&uncommented).unwrap();
        // The shipped file shows every key with its default.
        config.server.admin_listen = None;
        config.server.public_url = None;
        config.server.cors_origins.clear();
        config.paths.cache_dir = None;
        config.paths.worker = None;
        config.bake.python = None;
        config.media.ffmpeg = None;
        config.outbound = OutboundSettings::default();
        config.models.clear();
        config.scheduler.pinned.clear();
        config.scheduler.batch_rules = None;
        config.scheduler.weights.clear();
        assert_eq!(config, Config::default());
    }
}
