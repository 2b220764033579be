//! Every way in which a worker goes wrong: how it is classed, what is kept of it, and that nobody else notices.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "the helpers of tests are tests"
)]

mod harness;

use harness::{PATIENCE, Pool, alive, marks};
use reel_domain::{BootPhase, FailureCode, Fault, FaultClass, JobStatus};
use reel_scheduler::Config;
use reel_supervisor::{Device, DeviceMemory, Incident, Incidents};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Short deadlines; a healthy worker of these tests is done within milliseconds.
fn impatient() -> Config {
    Config {
        exec_deadline: Duration::from_secs(2),
        boot_deadline: Duration::from_secs(2),
        canary_deadline: Duration::from_secs(2),
        progress_deadline: Duration::from_millis(700),
        watchdog_floor: Duration::from_millis(700),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
        boot_failures_max: 100,
        ..Config::default()
    }
}

fn incidents(dir: &Path) -> Vec<Incident> {
    let incidents = Incidents::in_data_dir(dir);
    let ids = incidents.ids().unwrap();
    ids.iter().map(|id| incidents.read(id).unwrap()).collect()
}

/// Incidents are written beside the pool's work.
async fn incident(dir: &Path, wanted: impl Fn(&Incident) -> bool) -> Incident {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = incidents(dir);
        if let Some(incident) = found.iter().find(|incident| wanted(incident)) {
            return incident.clone();
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a prompt makes a worker do, the fault that this is, and where the attempt was.
const WHILE_GENERATING: [(&str, &str, &str); 19] = [
    ("crash", "crash (signal 6)", "gen_eof"),
    ("die:9", "crash (signal 9)", "gen_eof"),
    ("die:11", "crash (signal 11)", "gen_eof"),
    ("die:15", "crash (signal 15)", "gen_eof"),
    ("exit:3", "crash", "gen_eof"),
    ("exit:0", "crash", "gen_eof"),
    ("hang", "hang (in denoise after step 1)", "gen_timeout"),
    ("stop", "hang (in denoise after step 1)", "gen_timeout"),
    ("deaf hang", "hang (in denoise after step 1)", "gen_timeout"),
    ("no-decode", "hang (in decode after step 0)", "gen_timeout"),
    ("no-encode", "hang (in encode after step 0)", "gen_timeout"),
    ("oom", "oom", "cuda_fault"),
    ("eat", "oom", "cuda_fault"),
    ("device", "device_fatal", "cuda_fault"),
    ("babble", "desync (garbage)", "parse_error"),
    ("oversized", "desync (garbage)", "parse_error"),
    ("close", "desync (closed its channel)", "desync"),
    ("hello", "desync (impossible message)", "desync"),
    ("pong", "desync (impossible message)", "desync"),
];

/// Those that say something of their attempt, which they have to know.
const ABOUT_THEMSELVES: [&str; 6] = [
    "again",
    "backwards",
    "million",
    "unsealed",
    "naked",
    "short",
];

#[tokio::test]
async fn each_fault_of_a_busy_worker_is_classed_and_kept_and_the_job_is_done_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start_with(dir.path(), impatient(), "good").await;
    for (number, (misdeed, fault, reason)) in WHILE_GENERATING.into_iter().enumerate() {
        let before = pool.counter("reel_pool_worker_failure_total", reason);
        let mark = marks(dir.path()).join(number.to_string());
        let prompt = format!("{misdeed} once:{}", mark.display());
        let id = pool.submit(0, &prompt).await;
        let record = pool.end(id).await;
        assert_eq!(
            (record.status, record.attempts),
            (JobStatus::Completed, 2),
            "{misdeed}"
        );
        let job = id.to_string();
        let had_job = |incident: &Incident| incident.attempts.iter().any(|had| had.job == job);
        let incident = incident(dir.path(), had_job).await;
        assert_eq!(incident.fault, fault, "{misdeed}: {incident:?}");
        let counted = pool.counter("reel_pool_worker_failure_total", reason) - before;
        assert!((counted - 1.0).abs() < f64::EPSILON, "{misdeed}: {counted}");
        let had = &incident.attempts[0];
        assert!(had.prompt.is_none() && had.prompt_chars == prompt.chars().count());
        assert!(
            incident
                .flight
                .iter()
                .any(|note| note.what.contains("told: generate"))
        );
    }
    pool.shut_down().await;
}

#[tokio::test]
async fn what_a_worker_says_of_an_attempt_must_follow_what_it_said_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start_with(dir.path(), impatient(), "good").await;
    for misdeed in ABOUT_THEMSELVES {
        let mark = marks(dir.path()).join(misdeed);
        let mut job = pool.job(0, "x");
        let prompt = format!("{misdeed}:{} once:{}", job.id, mark.display());
        job.sampling.prompt = reel_domain::Prompt::new(prompt).unwrap();
        let id = pool.submit_job(job).await;
        let record = pool.end(id).await;
        assert_eq!(
            (record.status, record.attempts),
            (JobStatus::Completed, 2),
            "{misdeed}"
        );
        let job = id.to_string();
        let incident = incident(dir.path(), |incident| {
            incident.attempts.iter().any(|had| had.job == job)
        })
        .await;
        assert_eq!(incident.class, "desync", "{misdeed}: {incident:?}");
        assert!(incident.reason.is_some(), "{misdeed}");
    }
    pool.shut_down().await;
}

#[tokio::test]
async fn a_video_is_taken_only_from_a_worker_that_announced_them_and_only_if_it_is_one() {
    for (bundle, misdeed, why) in [
        ("good", "ready-made", "said it makes frames"),
        ("videos", "open-mp4", "not sealed against writing"),
        ("videos", "no-mp4", "`ftyp` box"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut pool = Pool::start_with(dir.path(), impatient(), bundle).await;
        let mut job = pool.job(0, "x");
        let mark = marks(dir.path()).join(misdeed);
        let prompt = format!("{misdeed}:{} once:{}", job.id, mark.display());
        job.sampling.prompt = reel_domain::Prompt::new(prompt).unwrap();
        let id = pool.submit_job(job).await;
        let record = pool.end(id).await;
        assert_eq!(
            (record.status, record.attempts),
            (JobStatus::Completed, 2),
            "{misdeed}"
        );
        let incident = incident(dir.path(), |incident| incident.class == "desync").await;
        let reason = incident.reason.unwrap();
        assert!(reason.contains(why), "{misdeed}: {reason}");
        pool.shut_down().await;
    }
}

#[tokio::test]
async fn each_fault_of_a_start_is_classed_with_its_phase() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start_with(dir.path(), impatient(), "good").await;
    let bundle = dir.path().join(harness::SHAPES[0]).join("good");
    let phases = [
        ("mute", BootPhase::Exec, "spawn_timeout"),
        ("ancient", BootPhase::Exec, "spawn_parse_error"),
        ("stuck-load", BootPhase::Load, "spawn_timeout"),
        ("dies-load", BootPhase::Load, "spawn_eof"),
        ("broken", BootPhase::Load, "spawn_parse_error"),
        ("stuck-canary", BootPhase::Canary, "spawn_timeout"),
        ("dies-canary", BootPhase::Canary, "spawn_eof"),
        ("sings-wrong", BootPhase::Canary, "spawn_parse_error"),
        ("liar", BootPhase::Canary, "spawn_parse_error"),
    ];
    for (misdeed, phase, reason) in phases {
        let before = pool.counter("reel_pool_worker_failure_total", reason);
        std::fs::write(bundle.join("boot"), misdeed).unwrap();
        // Whoever has the shape dies, and the one that comes in its place does not come up.
        let mark = marks(dir.path()).join(misdeed);
        let id = pool
            .submit(0, &format!("die:9 once:{}", mark.display()))
            .await;
        assert_eq!(pool.end(id).await.status, JobStatus::Completed, "{misdeed}");
        let expected = format!("boot_failed (in {phase})");
        let newest = |incident: &Incident| incident.fault == expected;
        incident(dir.path(), newest).await;
        let counted = pool.counter("reel_pool_worker_failure_total", reason) - before;
        assert!((counted - 1.0).abs() < f64::EPSILON, "{misdeed}: {counted}");
        std::fs::remove_dir_all(dir.path().join("incidents")).unwrap();
    }
    pool.shut_down().await;
}

#[tokio::test]
async fn a_job_goes_on_where_its_worker_died() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    for (number, (misdeed, resumed)) in
        [("die:9@7", 1.0), ("oom@7", 0.0), ("die:9@7 forgetful", 1.0)]
            .into_iter()
            .enumerate()
    {
        let before = pool.counter_of("reel_pool_resumed_total");
        let mark = marks(dir.path()).join(number.to_string());
        let id = pool
            .submit(0, &format!("{misdeed} once:{}", mark.display()))
            .await;
        let record = pool.end(id).await;
        assert_eq!(
            (record.status, record.attempts),
            (JobStatus::Completed, 2),
            "{misdeed}"
        );
        let counted = pool.counter_of("reel_pool_resumed_total") - before;
        assert!(
            (counted - resumed).abs() < f64::EPSILON,
            "{misdeed}: {counted}"
        );
    }
    let job = |incident: &Incident| incident.fault == "crash (signal 9)";
    let incident = incident(dir.path(), job).await;
    assert_eq!(incident.attempts[0].checkpoint, Some(6), "{incident:?}");
    pool.shut_down().await;
}

#[tokio::test]
async fn grandchildren_that_escape_end_with_their_worker() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    pool.until_both_slots_are_hot().await;
    let id = pool.submit(0, "fork die:9@5").await;
    pool.until(id, |progress| progress.attempt == 2).await;
    pool.end(id).await;
    pool.shut_down().await;
    let strays = std::process::Command::new("pgrep")
        .args([
            "--full",
            "^sleep 1000$",
            "--parent",
            &std::process::id().to_string(),
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&strays.stdout), "");
}

#[tokio::test]
async fn a_gigabyte_of_output_is_drained_and_costs_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let before = resident_bytes();
    let id = pool.submit(0, "shout:1000").await;
    assert_eq!(pool.end(id).await.status, JobStatus::Completed);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    pool.shut_down().await;
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

/// A device that keeps the memory of its first dead worker until somebody says otherwise.
#[derive(Debug, Default)]
struct Sticky(AtomicBool);

impl DeviceMemory for Sticky {
    fn held(&self, _device: &Device, _pid: u32) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(std::future::ready(self.0.load(Ordering::SeqCst)))
    }
}

#[tokio::test]
async fn a_device_that_keeps_a_dead_workers_memory_is_taken_out_until_it_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Arc::new(Sticky(AtomicBool::new(true)));
    let config = impatient();
    let mut pool = Pool::start_on(dir.path(), config, "good", memory.clone()).await;
    pool.until_both_slots_are_hot().await;
    let pids = pool.pids();
    let mark = marks(dir.path()).join("once");
    let id = pool
        .submit(0, &format!("die:9 once:{}", mark.display()))
        .await;
    pool.until_counted("reel_pool_worker_failure_total", "stuck_device", 1.0)
        .await;
    assert!(pool.reader.get(id).unwrap().unwrap().status != JobStatus::Completed);
    assert_eq!(pool.counter_of("reel_pool_device_stuck_total"), 1.0);
    memory.0.store(false, Ordering::SeqCst);
    assert_eq!(pool.end(id).await.status, JobStatus::Completed);
    assert!(
        pids.iter().all(|pid| !alive(*pid)),
        "a device without trust keeps no worker"
    );
    pool.shut_down().await;
}

/// Faults whose test is none of the lists above; the compiler says when one is gone.
const TESTED_BY: [(FaultClass, fn()); 3] = [
    (FaultClass::Soft, a_job_that_cannot_be_done_is_a_soft_fault),
    (
        FaultClass::BootFailed,
        each_fault_of_a_start_is_classed_with_its_phase,
    ),
    (
        FaultClass::StuckDevice,
        a_device_that_keeps_a_dead_workers_memory_is_taken_out_until_it_is_free,
    ),
];

#[tokio::test]
async fn a_job_that_cannot_be_done_is_a_soft_fault() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let id = pool.submit(0, "fail").await;
    let failure = pool.end(id).await.failure.unwrap();
    assert_eq!(failure.code, FailureCode::GenerationFailed);
    pool.until_counted("reel_pool_worker_failure_total", "soft", 1.0)
        .await;
    assert!(incidents(dir.path()).is_empty(), "the worker lives");
    pool.shut_down().await;
}

/// A fault class without one of these is a fault that somebody will meet unprepared.
#[tokio::test]
async fn every_class_has_a_rule_a_metric_a_test_and_an_entry_in_the_runbook() {
    let dir = tempfile::tempdir().unwrap();
    let pool = Pool::start(dir.path()).await;
    let runbook = include_str!("../../../RUNBOOK.md");
    let tested: Vec<_> = WHILE_GENERATING
        .iter()
        .map(|(_, fault, _)| *fault)
        .chain(TESTED_BY.iter().map(|(class, _)| class.as_str()))
        .collect();
    for class in FaultClass::ALL {
        let name = class.as_str();
        let entry = runbook
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")))
            .unwrap_or_else(|| panic!("{name} is not in the runbook"));
        let cells: Vec<_> = entry.trim_matches('|').split('|').map(str::trim).collect();
        // The class, what it means, the rule (what Reel does), what the operator does.
        assert_eq!(cells.len(), 4, "{entry}");
        assert!(cells.iter().all(|cell| cell.len() > 3), "{entry}");
        assert!(
            pool.has_label("reel_pool_worker_failure_total", name),
            "{name} has no metric"
        );
        assert!(
            tested.iter().any(|seen| seen.starts_with(name)),
            "{name} has no test"
        );
    }
    for fault in Fault::KINDS {
        let reason = fault.reason();
        assert!(
            pool.has_label("reel_pool_worker_failure_total", reason),
            "{reason}"
        );
        assert!(
            runbook.contains(&format!("`{reason}`")),
            "{reason} is not in the runbook"
        );
    }
    pool.shut_down().await;
}
