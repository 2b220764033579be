//! The pool in numbers. Every label combination that can be known is present at zero from the start.

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};
use reel_domain::{Fault, Shape};
use reel_scheduler::{Counters, SlotPhase};

/// A metric could not be registered.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// The families of the pool.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) slots: IntGaugeVec,
    pub(crate) queued: IntGauge,
    pub(crate) running: IntGauge,
    pub(crate) spawns: IntCounterVec,
    pub(crate) evictions: IntCounterVec,
    pub(crate) jobs: IntCounterVec,
    failures: IntCounterVec,
    pub(crate) resumed: IntCounter,
    pub(crate) request_latency: HistogramVec,
    pub(crate) cold_spawn: HistogramVec,
    pub(crate) encode: Histogram,
    estimates: IntCounter,
    estimates_held: IntCounter,
    decisions: Vec<(IntCounter, Count)>,
    not_merged: IntCounterVec,
    pub(crate) worker_memory: GaugeVec,
}

type Count = fn(&Counters) -> u64;

/// What the scheduler itself counts: name, help, and where.
const DECISIONS: [(&str, &str, Count); 12] = [
    (
        "reel_pool_stale_event_total",
        "Messages about attempts that their worker does not have",
        |counters| counters.stale_events,
    ),
    (
        "reel_pool_merge_total",
        "Attempts that joined a worker with work",
        |counters| counters.merges,
    ),
    (
        "reel_pool_eviction_held_total",
        "Evictions that had to wait, because evictions took their share of the device's time",
        |counters| counters.evictions_held,
    ),
    (
        "reel_pool_pause_total",
        "Attempts paused at a step boundary for more urgent work",
        |counters| counters.pauses,
    ),
    (
        "reel_pool_deadline_missed_total",
        "Jobs that had not begun when their time was up",
        |counters| counters.deadlines_missed,
    ),
    (
        "reel_pool_session_moved_total",
        "Segments begun on another worker than the one before, though that one lives",
        |counters| counters.sessions_moved,
    ),
    (
        "reel_pool_standby_total",
        "Workers started before the one that makes room was stopped",
        |counters| counters.standbys,
    ),
    (
        "reel_pool_overtaken_drain_total",
        "Busy workers drained for a job that was overtaken too often",
        |counters| counters.drains_for_overtaken,
    ),
    (
        "reel_pool_resurrection_total",
        "Workers that were to make room and stayed after all",
        |counters| counters.resurrections,
    ),
    (
        "reel_pool_quarantine_total",
        "Requests put into quarantine",
        |counters| counters.quarantined,
    ),
    (
        "reel_pool_device_suspected_total",
        "Devices taken out because two different requests died on them",
        |counters| counters.devices_suspected,
    ),
    (
        "reel_pool_device_stuck_total",
        "Devices taken out because a worker was gone and its memory was not",
        |counters| counters.devices_stuck,
    ),
];

const ENDINGS: [&str; 3] = ["completed", "failed", "cancelled"];

impl Metrics {
    /// Registers every family, with zeros for the shapes of the menu.
    pub(crate) fn register(registry: &Registry, menu: &[Shape]) -> Result<Self, MetricsError> {
        let metrics = Self {
            slots: IntGaugeVec::new(Opts::new("reel_pool_size", "Slots by state"), &["state"])?,
            queued: IntGauge::new("reel_pool_queued_jobs", "Jobs that wait")?,
            running: IntGauge::new("reel_pool_running_jobs", "Jobs that a worker has")?,
            spawns: counters("reel_pool_spawn_total", "Workers started", &["shape"])?,
            evictions: counters(
                "reel_pool_eviction_total",
                "Idle workers stopped for another shape",
                &["shape"],
            )?,
            jobs: counters(
                "reel_pool_request_total",
                "Jobs that ended",
                &["shape", "status"],
            )?,
            failures: counters(
                "reel_pool_worker_failure_total",
                "Workers that ended unasked, requests that they could not do, devices that kept their memory; by class, \
                 and by how it was noticed",
                &["class", "reason"],
            )?,
            resumed: IntCounter::new(
                "reel_pool_resumed_total",
                "Attempts that went on where the one before stood when its worker died",
            )?,
            request_latency: HistogramVec::new(
                HistogramOpts::new(
                    "reel_pool_request_latency_seconds",
                    "Acceptance to the published video",
                )
                .buckets(vec![
                    0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0,
                ]),
                &["shape"],
            )?,
            cold_spawn: HistogramVec::new(
                HistogramOpts::new("reel_pool_cold_spawn_seconds", "Spawn to READY").buckets(vec![
                    0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0,
                ]),
                &["shape"],
            )?,
            decisions: DECISIONS
                .into_iter()
                .map(|(name, help, count)| Ok((IntCounter::new(name, help)?, count)))
                .collect::<Result<_, prometheus::Error>>()?,
            not_merged: counters(
                "reel_pool_not_merged_total",
                "Times that waiting work did not join a worker that had room",
                &["reason"],
            )?,
            encode: Histogram::with_opts(
                HistogramOpts::new("reel_pool_encode_seconds", "Frames to the published video")
                    .buckets(vec![0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0]),
            )?,
            estimates: IntCounter::new(
                "reel_eta_total",
                "Completed jobs whose end was estimated when they were accepted",
            )?,
            estimates_held: IntCounter::new(
                "reel_eta_p90_held_total",
                "Those that ended within the P90 of that estimate",
            )?,
            worker_memory: GaugeVec::new(
                Opts::new(
                    "reel_pool_worker_resident_bytes",
                    "Resident memory of the worker in a slot",
                ),
                &["slot"],
            )?,
        };
        metrics.enter(registry)?;
        metrics.zero(menu);
        Ok(metrics)
    }

    fn enter(&self, registry: &Registry) -> Result<(), MetricsError> {
        registry.register(Box::new(self.slots.clone()))?;
        registry.register(Box::new(self.queued.clone()))?;
        registry.register(Box::new(self.running.clone()))?;
        registry.register(Box::new(self.spawns.clone()))?;
        registry.register(Box::new(self.evictions.clone()))?;
        registry.register(Box::new(self.jobs.clone()))?;
        registry.register(Box::new(self.failures.clone()))?;
        registry.register(Box::new(self.resumed.clone()))?;
        registry.register(Box::new(self.request_latency.clone()))?;
        registry.register(Box::new(self.cold_spawn.clone()))?;
        registry.register(Box::new(self.encode.clone()))?;
        registry.register(Box::new(self.estimates.clone()))?;
        registry.register(Box::new(self.estimates_held.clone()))?;
        for (counter, _) in &self.decisions {
            registry.register(Box::new(counter.clone()))?;
        }
        registry.register(Box::new(self.not_merged.clone()))?;
        registry.register(Box::new(self.worker_memory.clone()))?;
        Ok(())
    }

    /// Counts an estimate, and whether its P90 held.
    pub(crate) fn estimated(&self, held: bool) {
        self.estimates.inc();
        self.estimates_held.inc_by(held.into());
    }

    /// Counts a fault.
    pub(crate) fn count_fault(&self, fault: Fault) {
        self.failures_of(fault).inc();
    }

    fn failures_of(&self, fault: Fault) -> IntCounter {
        let labels = [fault.class().as_str(), fault.reason()];
        self.failures.with_label_values(&labels)
    }

    /// Takes over what the scheduler has counted so far.
    pub(crate) fn take_over(&self, counted: &Counters) {
        for (counter, count) in &self.decisions {
            raise(counter, count(counted));
        }
        for (reason, count) in counted.not_merged.by_reason() {
            raise(&self.not_merged.with_label_values(&[reason]), count);
        }
    }

    fn zero(&self, menu: &[Shape]) {
        for phase in SlotPhase::ALL {
            self.slots.with_label_values(&[phase.as_str()]);
        }
        for fault in Fault::KINDS {
            self.failures_of(fault);
        }
        for shape in menu.iter().map(ToString::to_string) {
            self.spawns.with_label_values(&[&shape]);
            self.evictions.with_label_values(&[&shape]);
            self.request_latency.with_label_values(&[&shape]);
            self.cold_spawn.with_label_values(&[&shape]);
            for status in ENDINGS {
                self.jobs.with_label_values(&[shape.as_str(), status]);
            }
        }
    }
}

fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}
