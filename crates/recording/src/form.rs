//! How each type is written. The types of the scheduler know nothing of files; these definitions mirror them,
//! and the compiler says when they no longer do.

use reel_domain::{
    AttemptId, BootFailure, BootPhase, Breach, BundleKey, DeviceId, Failure, FailureCode, Fault,
    JobId, Mode, ModelName, Priority, SessionId, Shape, Silence, SlotId, Stage, TenantName,
};
use reel_scheduler::{
    BATCH_SIZES, BatchRule, Batching, BundleOffer, BundleStanding, Config, DeviceSpec, EngineFacts,
    Eviction, ExitReport, Input, Mark, Merge, ModelMatch, Order, Profile, RequestDigest, Work,
    WorkerEvent, WorkerId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a recording begins with.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The bounds of the scheduler.
    pub config: Config,
    /// The devices.
    pub devices: Vec<DeviceSpec>,
    /// The menu, in its order.
    pub menu: Vec<BundleKey>,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
}

/// One message of a recording.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every message is an input"
)]
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Header(Box<HeaderForm>),
    Input {
        /// Since the beginning, in nanoseconds.
        at_ns: u64,
        #[serde(with = "InputForm")]
        input: Input,
    },
    Check {
        inputs: u64,
        decisions: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HeaderForm {
    #[serde(with = "ConfigForm")]
    config: Config,
    devices: Vec<DeviceEntry>,
    menu: Vec<KeyEntry>,
    started_at_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct DeviceEntry(#[serde(with = "DeviceSpecForm")] DeviceSpec);

#[derive(Debug, Serialize, Deserialize)]
struct KeyEntry(#[serde(with = "key")] BundleKey);

#[derive(Debug, Serialize, Deserialize)]
struct RuleEntry(#[serde(with = "RuleForm")] BatchRule);

#[derive(Debug, Serialize, Deserialize)]
struct ModeEntry(#[serde(with = "text")] Mode);

impl From<&Header> for HeaderForm {
    fn from(header: &Header) -> Self {
        Self {
            config: header.config.clone(),
            devices: header.devices.iter().copied().map(DeviceEntry).collect(),
            menu: header.menu.iter().cloned().map(KeyEntry).collect(),
            started_at_ms: header.started_at_ms,
        }
    }
}

impl From<HeaderForm> for Header {
    fn from(form: HeaderForm) -> Self {
        Self {
            config: form.config,
            devices: form.devices.into_iter().map(|entry| entry.0).collect(),
            menu: form.menu.into_iter().map(|entry| entry.0).collect(),
            started_at_ms: form.started_at_ms,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "DeviceSpec")]
struct DeviceSpecForm {
    slots: u32,
    memory_bytes: u64,
    shares_weights: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Config")]
struct ConfigForm {
    queue_jobs_max: usize,
    tenant_jobs_max: usize,
    #[serde(with = "weights")]
    weights: BTreeMap<TenantName, u32>,
    attempts_max: u32,
    #[serde(with = "BatchingForm")]
    batching: Batching,
    batch_max: u32,
    #[serde(with = "rules")]
    batch_rules: Vec<BatchRule>,
    batch_delay: Duration,
    preemptions_max: u32,
    look_past_max: u32,
    overtakes_max: u32,
    class_overtakes_max: u32,
    #[serde(with = "EvictionForm")]
    eviction: Eviction,
    #[serde(with = "keys")]
    pinned: Vec<BundleKey>,
    residency_min: Duration,
    eviction_share_permille: u64,
    standby: bool,
    prewarm: bool,
    device_spawns_max: usize,
    spawns_max: usize,
    memory_reserve_bytes: u64,
    exec_deadline: Duration,
    boot_deadline: Duration,
    canary_deadline: Duration,
    progress_deadline: Duration,
    watchdog_factor: u32,
    watchdog_floor: Duration,
    attempt_deadline: Duration,
    heartbeat_after: Duration,
    heartbeat_deadline: Duration,
    cancel_deadline: Duration,
    stop_grace: Duration,
    kill_deadline: Duration,
    backoff_min: Duration,
    backoff_max: Duration,
    boot_failures_max: u32,
    deaths_per_request_max: u32,
    quarantine_max: usize,
    sessions_max: usize,
    probation_after: Duration,
    seed: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Batching")]
enum BatchingForm {
    Off,
    Fixed,
    Profit { gain_permille: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "BatchRule")]
struct RuleForm {
    #[serde(with = "ModelForm")]
    model: ModelMatch,
    #[serde(with = "shape")]
    shape: Option<Shape>,
    memory_min_bytes: Option<u64>,
    memory_max_bytes: Option<u64>,
    batch_max: u32,
    cost_max: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ModelMatch")]
enum ModelForm {
    Any,
    Is(#[serde(with = "text")] ModelName),
    Contains(String),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Eviction")]
enum EvictionForm {
    Lru,
    Priced,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Input")]
enum InputForm {
    Submit(#[serde(with = "WorkForm")] Work),
    Stored {
        #[serde(with = "job_id")]
        id: JobId,
        durable: bool,
    },
    Restore {
        #[serde(with = "WorkForm")]
        work: Work,
        attempts: u32,
    },
    Cancel {
        #[serde(with = "job_id")]
        id: JobId,
    },
    Bundle {
        #[serde(with = "key")]
        key: BundleKey,
        #[serde(with = "StandingForm")]
        standing: BundleStanding,
    },
    Worker {
        #[serde(with = "WorkerIdForm")]
        worker: WorkerId,
        #[serde(with = "EventForm")]
        event: WorkerEvent,
    },
    Encoded {
        #[serde(with = "attempt")]
        attempt: AttemptId,
        #[serde(with = "encoded")]
        result: Result<(), Failure>,
    },
    Timeout,
    Freed {
        #[serde(with = "WorkerIdForm")]
        worker: WorkerId,
        #[serde(with = "DeviceIdForm")]
        device: DeviceId,
    },
    Order(#[serde(with = "OrderForm")] Order),
    Configure(#[serde(with = "boxed")] Box<Config>),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Work")]
struct WorkForm {
    #[serde(with = "job_id")]
    id: JobId,
    #[serde(with = "key")]
    bundle: BundleKey,
    #[serde(with = "text")]
    mode: Mode,
    #[serde(with = "text")]
    tenant: TenantName,
    #[serde(with = "text")]
    priority: Priority,
    #[serde(with = "MergeForm")]
    merge: Merge,
    cost: u64,
    #[serde(with = "session")]
    session: Option<SessionId>,
    begin_within: Option<Duration>,
    #[serde(with = "DigestForm")]
    digest: RequestDigest,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Merge")]
struct MergeForm {
    never: bool,
    guided: bool,
    signature: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RequestDigest")]
struct DigestForm(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "WorkerId")]
struct WorkerIdForm(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "BundleStanding")]
enum StandingForm {
    Unbaked,
    Offered(#[serde(with = "OfferForm")] BundleOffer),
    Failed,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "BundleOffer")]
struct OfferForm {
    #[serde(with = "modes")]
    modes: Vec<Mode>,
    #[serde(with = "ProfileForm")]
    profile: Profile,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Profile")]
struct ProfileForm {
    spawn_us: u64,
    service_us: u64,
    weights_bytes: u64,
    private_bytes: u64,
    step_us: [u64; BATCH_SIZES],
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "WorkerEvent")]
enum EventForm {
    SpawnFailed,
    Booting {
        #[serde(with = "text")]
        phase: BootPhase,
    },
    Ready {
        #[serde(with = "EngineForm")]
        engine: EngineFacts,
    },
    Measured {
        private_bytes: u64,
    },
    Started {
        #[serde(with = "attempt")]
        attempt: AttemptId,
    },
    Progress {
        #[serde(with = "attempt")]
        attempt: AttemptId,
        #[serde(with = "MarkForm")]
        mark: Mark,
    },
    Finished {
        #[serde(with = "attempt")]
        attempt: AttemptId,
    },
    Cancelled {
        #[serde(with = "attempt")]
        attempt: AttemptId,
    },
    Failed {
        #[serde(with = "attempt")]
        attempt: AttemptId,
        message: String,
    },
    Broken {
        #[serde(with = "FaultForm")]
        fault: Fault,
    },
    Answered,
    Died,
    Exited(#[serde(with = "ExitForm")] ExitReport),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "EngineFacts")]
struct EngineForm {
    batch_max: u32,
    continuous: bool,
    pausable: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ExitReport")]
struct ExitForm {
    description: String,
    memory_held: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Mark")]
struct MarkForm {
    #[serde(with = "text")]
    stage: Stage,
    step: u32,
    of: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Fault")]
enum FaultForm {
    Soft,
    Oom,
    DeviceFatal,
    Crash {
        signal: Option<i32>,
    },
    Hang(#[serde(with = "SilenceForm")] Silence),
    Desync(#[serde(with = "BreachForm")] Breach),
    BootFailed {
        #[serde(with = "text")]
        phase: BootPhase,
        #[serde(with = "BootFailureForm")]
        how: BootFailure,
    },
    StuckDevice,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Silence")]
enum SilenceForm {
    Step {
        #[serde(with = "text")]
        stage: Stage,
        step: u32,
    },
    Attempt,
    Heartbeat,
    Cancel,
    Stop,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Breach")]
enum BreachForm {
    Garbage,
    Impossible,
    Deaf,
    Closed,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "BootFailure")]
enum BootFailureForm {
    Timeout,
    Exit,
    Refusal,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "DeviceId")]
struct DeviceIdForm(u32);

#[derive(Serialize, Deserialize)]
#[serde(remote = "SlotId")]
struct SlotIdForm {
    #[serde(with = "DeviceIdForm")]
    device: DeviceId,
    index: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Order")]
enum OrderForm {
    Drain,
    Halt,
    Cordon(#[serde(with = "DeviceIdForm")] DeviceId),
    Uncordon(#[serde(with = "DeviceIdForm")] DeviceId),
    Replace(#[serde(with = "SlotIdForm")] SlotId),
    Roll(#[serde(with = "device")] Option<DeviceId>),
    Release(#[serde(with = "DigestForm")] RequestDigest),
}

/// What has a name is written as its name.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Display;
    use std::str::FromStr;

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

mod job_id {
    use super::JobId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &JobId, to: S) -> Result<S::Ok, S::Error> {
        id.as_bytes().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<JobId, D::Error> {
        Ok(JobId::from_bytes(Deserialize::deserialize(from)?))
    }
}

mod device {
    use super::DeviceId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        id: &Option<DeviceId>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        id.map(|id| id.0).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<DeviceId>, D::Error> {
        Ok(Option::<u32>::deserialize(from)?.map(DeviceId))
    }
}

mod session {
    use super::SessionId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        id: &Option<SessionId>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        id.as_ref().map(SessionId::as_bytes).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SessionId>, D::Error> {
        Ok(Option::<[u8; 16]>::deserialize(from)?.map(SessionId::from_bytes))
    }
}

mod attempt {
    use super::{AttemptId, JobId};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &AttemptId, to: S) -> Result<S::Ok, S::Error> {
        (id.job.as_bytes(), id.number).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<AttemptId, D::Error> {
        let (job, number) = Deserialize::deserialize(from)?;
        let job = JobId::from_bytes(job);
        Ok(AttemptId { job, number })
    }
}

mod key {
    use super::{BundleKey, ModelName, Shape};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(key: &BundleKey, to: S) -> Result<S::Ok, S::Error> {
        (key.model.as_str(), key.shape.to_string()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BundleKey, D::Error> {
        let (model, shape): (String, String) = Deserialize::deserialize(from)?;
        let model: ModelName = model.parse().map_err(D::Error::custom)?;
        let shape: Shape = shape.parse().map_err(D::Error::custom)?;
        Ok(BundleKey { model, shape })
    }
}

mod keys {
    use super::{BundleKey, KeyEntry};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(keys: &[BundleKey], to: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<_> = keys.iter().cloned().map(KeyEntry).collect();
        entries.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<BundleKey>, D::Error> {
        let entries = Vec::<KeyEntry>::deserialize(from)?;
        Ok(entries.into_iter().map(|entry| entry.0).collect())
    }
}

mod rules {
    use super::{BatchRule, RuleEntry};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(rules: &[BatchRule], to: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<_> = rules.iter().cloned().map(RuleEntry).collect();
        entries.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<BatchRule>, D::Error> {
        let entries = Vec::<RuleEntry>::deserialize(from)?;
        Ok(entries.into_iter().map(|entry| entry.0).collect())
    }
}

mod shape {
    use super::Shape;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        shape: &Option<Shape>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        shape.map(|shape| shape.to_string()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Shape>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}

mod modes {
    use super::{Mode, ModeEntry};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(modes: &[Mode], to: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<_> = modes.iter().copied().map(ModeEntry).collect();
        entries.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Mode>, D::Error> {
        let entries = Vec::<ModeEntry>::deserialize(from)?;
        Ok(entries.into_iter().map(|entry| entry.0).collect())
    }
}

mod weights {
    use super::{BTreeMap, TenantName};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    type Weights = BTreeMap<TenantName, u32>;

    pub(super) fn serialize<S: Serializer>(weights: &Weights, to: S) -> Result<S::Ok, S::Error> {
        let named: BTreeMap<_, _> = weights
            .iter()
            .map(|(name, weight)| (name.as_str(), weight))
            .collect();
        named.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Weights, D::Error> {
        let named = BTreeMap::<String, u32>::deserialize(from)?;
        let parsed = named
            .into_iter()
            .map(|(name, weight)| Ok((name.parse()?, weight)));
        let parsed: Result<Weights, reel_domain::tenant::TenantNameError> = parsed.collect();
        parsed.map_err(D::Error::custom)
    }
}

mod boxed {
    use super::{Config, ConfigForm};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(config: &Config, to: S) -> Result<S::Ok, S::Error> {
        ConfigForm::serialize(config, to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Box<Config>, D::Error> {
        ConfigForm::deserialize(from).map(Box::new)
    }
}

mod encoded {
    use super::{Failure, FailureCode};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    type Outcome = Result<(), Failure>;

    pub(super) fn serialize<S: Serializer>(result: &Outcome, to: S) -> Result<S::Ok, S::Error> {
        let failure = result.as_ref().err();
        let parts = failure.map(|failure| (failure.code.as_str(), failure.message.as_str()));
        parts.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Outcome, D::Error> {
        let Some((code, message)) = Option::<(String, String)>::deserialize(from)? else {
            return Ok(Ok(()));
        };
        let code: FailureCode = code.parse().map_err(D::Error::custom)?;
        Ok(Err(Failure { code, message }))
    }
}
