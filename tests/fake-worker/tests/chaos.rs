//! Faults of every class, at random, while jobs come: nothing is lost, nothing is done twice, nothing leaks, and every
//! fault is told by its name. `REEL_CHAOS_FAULTS` says how many, `REEL_CHAOS_SEED` which.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "the helpers of tests are tests, and the figures are printed"
)]

mod harness;

use harness::{Pool, SHAPES, marks, sum};
use reel_domain::{FailureCode, FaultClass, JobId, JobStatus, Prompt, Steps};
use reel_pool::Submission;
use reel_scheduler::{Batching, Config};
use reel_supervisor::incidents::Incident;
use reel_supervisor::{Incidents, Tuning};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Jobs that are not terminal at a time.
const IN_FLIGHT: usize = 8;
/// Descriptors that a run may have more afterwards than before: what libraries open once.
const FDS_SLACK: usize = 4;
/// Memory that a supervisor may have more after all cycles than after a fifth of them.
const GROWTH_KIB_MAX: u64 = 4 * 1_024;

/// What a job makes its worker do, and the class of fault that this is; `None`: nobody should mind.
const MISDEEDS: [(&str, Option<FaultClass>); 28] = [
    ("crash", Some(FaultClass::Crash)),
    ("die:9", Some(FaultClass::Crash)),
    ("die:11", Some(FaultClass::Crash)),
    ("die:15", Some(FaultClass::Crash)),
    ("die:6@9", Some(FaultClass::Crash)),
    ("exit:0", Some(FaultClass::Crash)),
    ("exit:7@5", Some(FaultClass::Crash)),
    ("hang@4", Some(FaultClass::Hang)),
    ("stop", Some(FaultClass::Hang)),
    ("deaf hang", Some(FaultClass::Hang)),
    ("no-decode", Some(FaultClass::Hang)),
    ("no-encode", Some(FaultClass::Hang)),
    ("oom@3", Some(FaultClass::Oom)),
    ("device", Some(FaultClass::DeviceFatal)),
    ("babble", Some(FaultClass::Desync)),
    ("oversized", Some(FaultClass::Desync)),
    ("close", Some(FaultClass::Desync)),
    ("hello", Some(FaultClass::Desync)),
    ("pong", Some(FaultClass::Desync)),
    ("again:JOB", Some(FaultClass::Desync)),
    ("unsealed:JOB", Some(FaultClass::Desync)),
    ("short:JOB", Some(FaultClass::Desync)),
    ("million:JOB", Some(FaultClass::Desync)),
    ("fork", None),
    ("leak:40", None),
    ("stale", None),
    ("shout:20", None),
    ("fail", None),
];

/// What goes wrong with a start, once.
const STARTS: [&str; 7] = [
    "mute",
    "ancient",
    "dies-load",
    "broken",
    "dies-canary",
    "sings-wrong",
    "liar",
];

fn number(variable: &str, otherwise: usize) -> usize {
    let text = std::env::var(variable).unwrap_or_default();
    text.parse().unwrap_or(otherwise)
}

/// Small and the same everywhere: a linear congruential generator (Knuth's MMIX).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// A line of the table that `make chaos` prints.
fn report(what: &str, bar: &str, measured: &str) {
    println!("| {what} | {bar} | {measured} |");
    if let Ok(path) = std::env::var("REEL_CHAOS_REPORT") {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "| {what} | {bar} | {measured} |").unwrap();
    }
}

fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn children() -> Vec<String> {
    let found = std::process::Command::new("pgrep")
        .args(["--parent", &std::process::id().to_string()])
        .output()
        .unwrap();
    let own = String::from_utf8_lossy(&found.stdout).into_owned();
    own.lines()
        .filter(|pid| {
            // Not pgrep itself, which has ended.
            Path::new(&format!("/proc/{pid}")).exists()
        })
        .map(str::to_owned)
        .collect()
}

struct Expected {
    id: JobId,
    misdeed: &'static str,
    class: Option<FaultClass>,
    mark: std::path::PathBuf,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_lose_nothing_and_are_told_by_their_names() {
    let faults = number("REEL_CHAOS_FAULTS", 40);
    let seed = number("REEL_CHAOS_SEED", 1);
    let mut chance = Chance(seed as u64);
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        exec_deadline: Duration::from_millis(1_000),
        boot_deadline: Duration::from_millis(1_000),
        canary_deadline: Duration::from_millis(1_000),
        progress_deadline: Duration::from_millis(600),
        watchdog_floor: Duration::from_millis(600),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(20),
        boot_failures_max: 1_000_000,
        deaths_per_request_max: 1_000_000,
        attempts_max: 50,
        batching: Batching::Fixed,
        batch_max: 2,
        ..Config::default()
    };
    let fds_before = {
        // What is opened once by whoever comes first is open from here on.
        let warm = tempfile::tempdir().unwrap();
        let mut pool = Pool::start(warm.path()).await;
        let id = pool.submit(0, "anything").await;
        pool.end(id).await;
        pool.shut_down().await;
        open_fds()
    };
    let begun = Instant::now();
    let mut pool = Pool::tuned(dir.path(), config, |tuning: &mut Tuning| {
        tuning.incidents.keep = 100_000;
    })
    .await;
    let mut flying = VecDeque::new();
    let mut expected = Vec::new();
    let mut jobs = 0_usize;
    while expected.len() < faults {
        while flying.len() >= IN_FLIGHT {
            let id: JobId = flying.pop_front().unwrap();
            pool.end(id).await;
        }
        jobs += 1;
        let shape = chance.below(SHAPES.len());
        if chance.below(6) == 0 {
            let start = STARTS[chance.below(STARTS.len())];
            let bundle = dir
                .path()
                .join(SHAPES[chance.below(SHAPES.len())])
                .join("good");
            fs::write(bundle.join("boot"), start).unwrap();
        }
        let mut job = pool.job(shape, "x");
        let mark = marks(dir.path()).join(jobs.to_string());
        let innocent = chance.below(3) == 0;
        let prompt = if innocent {
            format!("innocent {jobs}")
        } else {
            let (misdeed, class) = MISDEEDS[chance.below(MISDEEDS.len())];
            expected.push(Expected {
                id: job.id,
                misdeed,
                class,
                mark: mark.clone(),
            });
            let misdeed = misdeed.replace("JOB", &job.id.to_string());
            format!("{misdeed} once:{}", mark.display())
        };
        job.sampling.prompt = Prompt::new(prompt).unwrap();
        job.sampling.steps = Steps::new(10).unwrap();
        flying.push_back(job.id);
        let given = Vec::new();
        pool.handle
            .submit(Submission::new(job, given))
            .await
            .unwrap();
    }
    for id in flying {
        pool.end(id).await;
    }
    let took = begun.elapsed();
    let (reader, registry) = (pool.reader.clone(), pool.registry.clone());
    pool.shut_down().await;
    let deaths = sum(&registry, "reel_pool_worker_failure_total");
    let ends = sum(&registry, "reel_pool_request_total");
    let unfinished = reader.unfinished().unwrap();
    assert!(unfinished.is_empty(), "lost: {unfinished:?}");
    assert!(
        (ends - jobs as f64).abs() < f64::EPSILON,
        "{ends} ends of {jobs} jobs"
    );
    let failed = failures(&reader, jobs, &expected);
    assert_eq!(failed, Vec::<String>::new());
    drop(reader);
    let (right, wrong, ambiguous) = classified(dir.path(), &expected);
    wrong.iter().for_each(|wrong| println!("wrong: {wrong}"));
    let share = right as f64 / (right + wrong.len()).max(1) as f64;
    let left = children();
    assert_eq!(left, Vec::<String>::new(), "processes are left");
    let fds = open_fds();
    assert!(
        fds <= fds_before + FDS_SLACK,
        "{fds_before} descriptors before, {fds} after"
    );
    report(
        &format!("{faults} random faults among {jobs} jobs (seed {seed}), {took:.0?}"),
        "0 lost, 0 twice, 0 leaked, >= 99 % right",
        &format!(
            "0 lost, 0 twice, {} descriptors and 0 processes more, {deaths} deaths; {right} of {} classes right \
             ({:.1} %), {ambiguous} shared a worker",
            fds.saturating_sub(fds_before),
            right + wrong.len(),
            100.0 * share
        ),
    );
    assert!(share >= 0.99, "{wrong:#?}");
}

/// Every job is terminal once, and completed unless it was to fail.
fn failures(reader: &reel_journal::Reader, jobs: usize, expected: &[Expected]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut after = None;
    let mut seen = 0;
    loop {
        let page = reader
            .list(None, after, 500, reel_journal::Order::Ascending)
            .unwrap();
        for record in &page.records {
            seen += 1;
            let id = record.job.id;
            let to_fail = expected
                .iter()
                .any(|expected| expected.id == id && expected.misdeed == "fail");
            let code = record.failure.as_ref().map(|failure| failure.code);
            let right = match to_fail {
                true => {
                    code == Some(FailureCode::GenerationFailed)
                        || record.status == JobStatus::Completed
                }
                false => record.status == JobStatus::Completed,
            };
            if !right {
                wrong.push(format!("{id} {} {:?}", record.status, record.failure));
            }
        }
        after = page.records.last().map(|record| record.job.id);
        if !page.has_more {
            break;
        }
    }
    if seen != jobs {
        wrong.push(format!("{seen} rows of {jobs} jobs"));
    }
    wrong
}

/// Faults whose incident has the right class, those that have not, and those that nobody can tell from another one of
/// the same worker.
fn classified(dir: &Path, expected: &[Expected]) -> (usize, Vec<String>, usize) {
    let incidents = Incidents::in_data_dir(dir);
    let ids = incidents.ids().unwrap();
    let by_pid: BTreeMap<u32, Incident> = ids
        .iter()
        .map(|id| incidents.read(id).unwrap())
        .map(|incident| (incident.pid, incident))
        .collect();
    let done = |expected: &Expected| fs::read_to_string(&expected.mark).ok()?.parse::<u32>().ok();
    let mut by_worker: BTreeMap<u32, Vec<&Expected>> = BTreeMap::new();
    for fault in expected.iter().filter(|expected| expected.class.is_some()) {
        if let Some(pid) = done(fault) {
            by_worker.entry(pid).or_default().push(fault);
        }
    }
    let (mut right, mut wrong, mut ambiguous) = (0, Vec::new(), 0);
    for (pid, faults) in by_worker {
        let class = by_pid.get(&pid).map(|incident| incident.class.as_str());
        let is_right = |fault: &&&Expected| fault.class.map(FaultClass::as_str) == class;
        match faults.iter().filter(is_right).count() {
            0 => wrong.push(format!(
                "{} became {:?}",
                faults[0].misdeed,
                by_pid
                    .get(&pid)
                    .map(|incident| (&incident.fault, &incident.reason))
            )),
            _ => {
                right += 1;
                ambiguous += faults.len() - 1;
            }
        }
    }
    (right, wrong, ambiguous)
}

/// Spawned and evicted again and again; nothing grows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spawning_and_evicting_for_ever_grows_nothing() {
    let cycles = number("REEL_CHAOS_CYCLES", 60);
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        eviction_share_permille: 1_000_000,
        overtakes_max: 0,
        standby: false,
        prewarm: false,
        ..Config::default()
    };
    let mut pool = Pool::start_with(dir.path(), config, "good").await;
    let begun = Instant::now();
    let (mut first, mut fds_first) = (0, 0);
    for cycle in 0..cycles {
        // Three shapes in turn, two slots: each one evicts another.
        // It fails, which costs no encoder.
        let mut job = pool.job(cycle % SHAPES.len(), "fail");
        job.sampling.steps = Steps::new(1).unwrap();
        let id = pool.submit_job(job).await;
        pool.until(id, |progress| progress.status.is_terminal())
            .await;
        pool.handle.delete(id).await.ok();
        if cycle == cycles / 5 {
            (first, fds_first) = (resident_kib(), open_fds());
        }
    }
    let spawns = pool.counter_of("reel_pool_spawn_total");
    let (last, fds) = (resident_kib(), open_fds());
    pool.shut_down().await;
    let groups = groups_of(dir.path());
    report(
        &format!("{cycles} spawn and evict cycles, {:.0?}", begun.elapsed()),
        "no growth",
        &format!(
            "{spawns} spawns; {first} KiB resident after a fifth, {last} KiB in the end; {fds_first} and {fds} \
             descriptors"
        ),
    );
    assert!(spawns >= cycles as f64 * 0.8, "{spawns}");
    assert!(
        fds <= fds_first + FDS_SLACK,
        "{fds_first} descriptors, then {fds}"
    );
    assert_eq!(groups, 0, "control groups are left");
    assert!(
        last < first + GROWTH_KIB_MAX,
        "{first} KiB, then {last} KiB"
    );
}

/// Control groups of a data directory's workers.
fn groups_of(dir: &Path) -> usize {
    let prefix = reel_process::orphans::marker_prefix(dir).unwrap();
    let Ok(cgroups) = reel_process::Cgroups::find() else {
        return 0;
    };
    let groups = fs::read_dir(cgroups.path()).unwrap().flatten();
    groups
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .count()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
