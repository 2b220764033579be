//! What is owed, delivered in its time.

use crate::message::{Message, secrets};
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use reel_domain::{JobId, TenantName};
use reel_journal::{Callback, JobRecord, Journal, ReadError, Reader};
use reel_keys::SharedKeyRing;
use reel_outbound::{FetchError, Outbound, Status, UrlPolicy, WebhookSecret};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Messages that are on their way at once.
pub const DELIVERIES_AT_ONCE_MAX: usize = 16;
/// Of these, messages of one tenant: one whose receivers take their time does not keep the others waiting.
pub const DELIVERIES_OF_TENANT_MAX: usize = 4;
/// Pauses after the first try, the second, and so on; after the last one there is one try more. A receiver that is down
/// for a weekend gets its messages.
pub const BACK_OFF: [Duration; 10] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(1_800),
    Duration::from_secs(7_200),
    Duration::from_secs(18_000),
    Duration::from_secs(36_000),
    Duration::from_secs(72_000),
    Duration::from_secs(86_400),
];
/// Longest time between two looks at what is owed: what a clock that jumped makes due is found by then.
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Who answers so wants no more (Standard Webhooks).
const GONE: Status = Status(410);

/// What the courier needs.
#[derive(Debug)]
pub struct Parts {
    /// Where what is owed is settled.
    pub journal: Journal,
    /// Where it is found.
    pub reader: Reader,
    /// Whose secrets sign.
    pub keys: Arc<SharedKeyRing>,
    /// Signs for tenants without keys.
    pub server_secret: WebhookSecret,
    /// How it is sent.
    pub outbound: Outbound,
    /// Where it may be sent.
    pub policy: UrlPolicy,
    /// Pauses between tries: [`BACK_OFF`].
    pub back_off: Vec<Duration>,
    /// Told when something is owed.
    pub owed: Arc<Notify>,
    /// Where metrics are collected.
    pub registry: Registry,
}

/// Delivers callbacks until it is dropped.
#[derive(Debug)]
pub struct Courier {
    shared: Arc<Shared>,
    owed: Arc<Notify>,
}

#[derive(Debug)]
struct Shared {
    journal: Journal,
    reader: Reader,
    keys: Arc<SharedKeyRing>,
    server_secret: WebhookSecret,
    outbound: Outbound,
    policy: UrlPolicy,
    back_off: Vec<Duration>,
    metrics: Metrics,
    places: Mutex<Places>,
}

/// What is not to be taken up.
#[derive(Debug, Default)]
struct Places {
    /// Callbacks that are being told, and whose they are.
    under_way: BTreeMap<JobId, TenantName>,
    /// Callbacks of which it could not be stored what came of them: without a pause they would be told again at once, and
    /// again.
    resting: BTreeMap<JobId, Instant>,
}

impl Places {
    fn has_one_for(&self, callback: &Callback) -> bool {
        let theirs = self.under_way.values();
        let theirs = theirs.filter(|tenant| **tenant == callback.tenant);
        self.under_way.len() < DELIVERIES_AT_ONCE_MAX
            && theirs.count() < DELIVERIES_OF_TENANT_MAX
            && !self.under_way.contains_key(&callback.id)
            && !self.resting.contains_key(&callback.id)
    }
}

/// A callback that is being told, until it is dropped.
struct UnderWay<'a> {
    shared: &'a Shared,
    id: JobId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut places = self.shared.places();
        places.under_way.remove(&self.id);
        self.shared.metrics.show(&places);
    }
}

#[derive(Debug)]
struct Metrics {
    deliveries: IntCounterVec,
    under_way: IntGauge,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It may take it another time.
    Later,
    /// It never will.
    Never,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Delivered, Self::Later, Self::Never];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Later => "later",
            Self::Never => "given_up",
        }
    }
}

impl Courier {
    /// A courier that has not begun.
    ///
    /// # Errors
    /// When its metrics are registered already.
    pub fn new(parts: Parts) -> Result<Self, prometheus::Error> {
        let shared = Shared {
            metrics: Metrics::register(&parts.registry)?,
            journal: parts.journal,
            reader: parts.reader,
            keys: parts.keys,
            server_secret: parts.server_secret,
            outbound: parts.outbound,
            policy: parts.policy,
            back_off: parts.back_off,
            places: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            owed: parts.owed,
        })
    }

    /// Delivers for ever. What is under way when it is dropped is delivered again by the next one.
    pub async fn run(self) {
        let mut deliveries = JoinSet::new();
        loop {
            let pause = match self.due().await {
                Ok((due, pause)) => {
                    for callback in due {
                        let shared = Arc::clone(&self.shared);
                        deliveries.spawn_blocking(move || shared.deliver(callback));
                    }
                    pause
                }
                Err(error) => {
                    tracing::error!(%error, "what clients are owed cannot be read; trying again");
                    LOOK_PAUSE_MAX
                }
            };
            tokio::select! {
                () = self.owed.notified() => {}
                // A place is free again.
                Some(_) = deliveries.join_next() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// What is to be sent now, and when to look again.
    async fn due(&self) -> Result<(Vec<Callback>, Duration), ReadError> {
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || shared.take_due());
        read.await
            .unwrap_or_else(|_| Ok((Vec::new(), LOOK_PAUSE_MAX)))
    }
}

impl Shared {
    fn take_due(&self) -> Result<(Vec<Callback>, Duration), ReadError> {
        let (now, now_ms) = (Instant::now(), now_ms());
        let mut places = self.places();
        places.resting.retain(|_, until| *until > now);
        let busy = places.under_way.len() + places.resting.len();
        let owed = self
            .reader
            .callbacks(now_ms, DELIVERIES_AT_ONCE_MAX + busy)?;
        let next_ms = self.reader.next_callback(now_ms)?;
        let mut due = Vec::new();
        for callback in owed {
            if places.has_one_for(&callback) {
                places
                    .under_way
                    .insert(callback.id, callback.tenant.clone());
                due.push(callback);
            }
        }
        self.metrics.show(&places);
        let next = next_ms.map(|next_ms| Duration::from_millis(next_ms - now_ms));
        Ok((due, next.unwrap_or(LOOK_PAUSE_MAX).min(LOOK_PAUSE_MAX)))
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // Every critical section leaves the maps whole.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One try. Blocks no longer than a request may take, and until the journal has what came of it.
    fn deliver(&self, callback: Callback) {
        let Callback { id, tries, .. } = callback;
        let _under_way = UnderWay { shared: self, id };
        let outcome = match self.reader.get(id) {
            Ok(Some(record)) => self.send(&record),
            Ok(None) => Outcome::Never,
            Err(error) => {
                tracing::error!(job = %id, %error, "a callback's job cannot be read");
                Outcome::Later
            }
        };
        let pause = self.back_off.get(tries as usize).copied();
        let outcome = match (outcome, pause) {
            (Outcome::Later, None) => {
                tracing::error!(job = %id, tries, "a callback is given up");
                Outcome::Never
            }
            (outcome, _) => outcome,
        };
        self.metrics.count(outcome);
        let (told, tell) = std::sync::mpsc::channel();
        let done = move |result| drop(told.send(result));
        match (outcome, pause) {
            (Outcome::Later, Some(pause)) => {
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                let due_ms = now_ms().saturating_add(pause_ms);
                self.journal.delay_callback(id, due_ms, done);
            }
            _ => self.journal.settle_callback(id, done),
        }
        if let Ok(Err(error)) = tell.recv() {
            tracing::error!(job = %id, %error, "what became of a callback could not be stored");
            let until = Instant::now() + LOOK_PAUSE_MAX;
            self.places().resting.insert(id, until);
        }
    }

    fn send(&self, record: &JobRecord) -> Outcome {
        let (id, Some(url)) = (record.job.id, &record.job.callback) else {
            return Outcome::Never;
        };
        let message = Message::of(record);
        let ring = self.keys.ring(Instant::now());
        let tenant = &record.job.sharing.tenant;
        let secrets = secrets(&ring, tenant, &self.server_secret, now_ms());
        let mut headers = message.headers(&secrets, now_ms() / 1_000);
        headers.push(("content-type", "application/json".into()));
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        match self
            .outbound
            .post(&self.policy, url.as_str(), headers, &message.body)
        {
            Ok(status) if status.is_success() => Outcome::Delivered,
            Ok(GONE) => {
                tracing::warn!(job = %id, "the receiver wants no callbacks any more");
                Outcome::Never
            }
            Ok(Status(status)) => {
                tracing::warn!(job = %id, status, "a callback was not taken; trying again");
                Outcome::Later
            }
            Err(error) => refused(id, &error),
        }
    }
}

fn refused(id: JobId, error: &FetchError) -> Outcome {
    // A certificate that has run out is renewed one day.
    let may_pass = error.may_pass() || matches!(error, FetchError::Tls { .. });
    match may_pass {
        true => {
            tracing::warn!(job = %id, %error, "a callback did not get through; trying again");
            Outcome::Later
        }
        false => {
            tracing::error!(job = %id, %error, "a callback cannot be sent");
            Outcome::Never
        }
    }
}

impl Metrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let deliveries = Opts::new(
            "reel_webhook_deliveries_total",
            "Tries to tell the end of a job, by what came of them",
        );
        let metrics = Self {
            deliveries: IntCounterVec::new(deliveries, &["outcome"])?,
            under_way: IntGauge::new(
                "reel_webhook_deliveries_under_way",
                "Ends of jobs that are being told",
            )?,
        };
        for outcome in Outcome::ALL {
            // Shown as 0 before the first.
            metrics.deliveries.with_label_values(&[outcome.as_str()]);
        }
        registry.register(Box::new(metrics.deliveries.clone()))?;
        registry.register(Box::new(metrics.under_way.clone()))?;
        Ok(metrics)
    }

    fn show(&self, places: &Places) {
        let under_way = i64::try_from(places.under_way.len());
        self.under_way.set(under_way.unwrap_or(i64::MAX));
    }

    fn count(&self, outcome: Outcome) {
        self.deliveries.with_label_values(&[outcome.as_str()]).inc();
    }
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
