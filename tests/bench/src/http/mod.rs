//! What Reel itself costs: a real server whose workers do nothing, beside an axum handler that answers from memory.
//!
//! Both are asked by the same load generator, in turns, so that whatever else the machine does meets both; a ratio is
//! that of two neighbours. Generator and server share the processors: what the generator takes is part of both sides of
//! a ratio.

mod bare;
mod made_up;

use crate::creates;
use crate::load::{Connection, Outcome, closed_loop};
use crate::server::{Server, Site};
use crate::table::Table;
use anyhow::Context;
use bare::{Answers, Bare};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes of the large video.
const CONTENT_BYTES: usize = 1 << 20;
/// Connections that follow all jobs while nothing happens.
const FOLLOWERS: usize = 10_000;
/// Of them, those that are opened at a time.
const FOLLOWERS_AT_ONCE: usize = 200;
/// From the last of them to the look at the memory.
const SETTLE: Duration = Duration::from_secs(1);
/// Longest wait for a job of the preparation.
const JOB_DEADLINE: Duration = Duration::from_secs(20);

const CONFIG: &str = "\
[server]
connections_max = 24000
[pool]
slots_per_device = 2
watchdog_floor_s = 120
[journal]
sync = \"off\"
";

const SYNC: &[u8] =
    b"POST /v1/videos/sync HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
Content-Length: 48\r\n\r\n{\"prompt\": \"a circle\", \"num_inference_steps\": 1}";
const FOLLOW: &[u8] = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What Reel itself costs, beside a bare handler
#[derive(Debug, clap::Args)]
pub(crate) struct HttpArgs {
    /// The server program
    #[arg(long, default_value = "target/release/reel")]
    reel: PathBuf,
    /// The worker that does nothing
    #[arg(long, default_value = "target/release/fake-worker")]
    worker: PathBuf,
    /// Rounds of each measurement, at least 5
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each load
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Where jobs and videos lie for what is not about the disk; the rest is in the current directory
    #[arg(long, default_value = "/dev/shm", value_name = "DIR")]
    scratch: PathBuf,
    /// Leave out what is measured without a bare handler: memory of idle streams, and durable creates
    #[arg(long)]
    ratios_only: bool,
    /// Where the figures go for machines
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl HttpArgs {
    /// The script that starts a worker.
    fn worker_line(&self) -> anyhow::Result<String> {
        let worker = std::path::absolute(&self.worker)?;
        Ok(format!("exec {} --videos \"$@\"", worker.display()))
    }
}

/// All of it.
pub(crate) async fn measure(args: &HttpArgs, table: &mut Table) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(".").context("a directory on a real disk")?;
    let made = made_up::make(dir.path())?;
    let site = Site {
        reel: &args.reel,
        cache_dir: &made.cache_dir,
        scratch: &args.scratch,
        model: Some(&made.model),
    };
    let worker = args.worker_line()?;
    let reel = Server::start(site, &worker, CONFIG).await?;
    ratios(args, &reel, site.on_disk(), table).await?;
    if !args.ratios_only {
        drop(reel);
        let reel = Server::start(site, &worker, CONFIG).await?;
        idle_streams(&reel, table).await?;
        drop(reel);
        creates::durable(site.on_disk(), args.rounds.max(5), table).await?;
    }
    Ok(())
}

/// The same load on both.
struct Pair<'a> {
    reel: &'a str,
    bare: &'a str,
    rounds: usize,
    time: Duration,
}

impl Pair<'_> {
    /// One round after the other, each first at the one and then at the other, or the other way round.
    async fn load(
        &self,
        requests: (&'static [u8], &'static [u8]),
        connections: usize,
    ) -> anyhow::Result<Vec<(Outcome, Outcome)>> {
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            let reel = || closed_loop(self.reel, requests.0, connections, self.time);
            let bare = || closed_loop(self.bare, requests.1, connections, self.time);
            rounds.push(match round % 2 {
                0 => (reel().await?, bare().await?),
                _ => {
                    let bare = bare().await?;
                    (reel().await?, bare)
                }
            });
        }
        Ok(rounds)
    }
}

async fn ratios(
    args: &HttpArgs,
    reel: &Server,
    on_disk: Site<'_>,
    table: &mut Table,
) -> anyhow::Result<()> {
    let video = reel.until_ok(SYNC).await?;
    let finished = finished_job(&reel.address, "a circle").await?;
    let finished_status = get(&format!("/v1/videos/{finished}"));
    let bare = Bare::start(Answers {
        video,
        status: reel.until_ok(finished_status).await?,
        content: vec![0; CONTENT_BYTES],
    })?;
    let pair = Pair {
        reel: &reel.address,
        bare: &bare.address,
        rounds: args.rounds.max(5),
        time: Duration::from_secs_f64(args.seconds),
    };

    let rounds = pair.load((SYNC, SYNC), 1).await?;
    let p50 = |outcome: &Outcome| outcome.percentile_ms(50);
    both("sync at 1 connection, p50", "ms", &rounds, p50, table);
    let ratio = ratios_of(&rounds, p50);
    table.add(
        "the same, times the bare handler",
        "ratio",
        ratio,
        Some(3.5),
    );

    let rounds = pair.load((SYNC, SYNC), 8).await?;
    let p99 = |outcome: &Outcome| outcome.percentile_ms(99);
    both("sync at 8 connections, p99", "ms", &rounds, p99, table);
    let added = rounds.iter().map(|(reel, bare)| p99(reel) - p99(bare));
    table.add(
        "the same, added to the bare handler",
        "ms",
        added.collect(),
        Some(1.0),
    );

    let rounds = pair.load((SYNC, SYNC), 64).await?;
    rates("sync at 64 connections", &rounds, 0.37, table);

    let rounds = pair.load((finished_status, finished_status), 8).await?;
    rates(
        "status of a finished job at 8 connections",
        &rounds,
        0.7,
        table,
    );
    let living = living_job(&reel.address).await?;
    let living_status = get(&format!("/v1/videos/{living}"));
    let rounds = pair.load((living_status, finished_status), 8).await?;
    rates(
        "status of a living job at 8 connections",
        &rounds,
        0.7,
        table,
    );

    // Videos are read from a disk, or from what the kernel keeps of it; a file system in memory has no such difference.
    let on_disk = Server::start(on_disk, &args.worker_line()?, CONFIG).await?;
    on_disk.until_ok(SYNC).await?;
    let large = finished_job(&on_disk.address, &format!("mp4:{CONTENT_BYTES}")).await?;
    let content = get(&format!("/v1/videos/{large}/content"));
    let pair = Pair {
        reel: &on_disk.address,
        ..pair
    };
    let rounds = pair.load((content, content), 8).await?;
    let mib = |outcome: &Outcome| outcome.throughput() / f64::from(1 << 20);
    both(
        "content of 1 MiB at 8 connections",
        "MiB/s",
        &rounds,
        mib,
        table,
    );
    let ratio = ratios_of(&rounds, mib);
    table.add_at_least("the same, of the bare handler's", "ratio", ratio, 0.7);
    Ok(())
}

fn both(
    name: &str,
    unit: &'static str,
    rounds: &[(Outcome, Outcome)],
    figure: impl Fn(&Outcome) -> f64,
    table: &mut Table,
) {
    let reel = rounds.iter().map(|(reel, _)| figure(reel)).collect();
    let bare = rounds.iter().map(|(_, bare)| figure(bare)).collect();
    table.add(name, unit, reel, None);
    table.add("the same at the bare handler", unit, bare, None);
}

fn ratios_of(rounds: &[(Outcome, Outcome)], figure: impl Fn(&Outcome) -> f64) -> Vec<f64> {
    let ratio = |(reel, bare): &(Outcome, Outcome)| figure(reel) / figure(bare);
    rounds.iter().map(ratio).collect()
}

fn rates(name: &str, rounds: &[(Outcome, Outcome)], bar: f64, table: &mut Table) {
    both(name, "1/s", rounds, Outcome::rate, table);
    let ratio = ratios_of(rounds, Outcome::rate);
    table.add_at_least("the same, of the bare handler's", "ratio", ratio, bar);
}

/// A request that lives as long as the program.
fn get(path: &str) -> &'static [u8] {
    let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    Box::leak(text.into_bytes().into_boxed_slice())
}

/// The id of a new job.
async fn create(connection: &mut Connection, prompt: &str) -> anyhow::Result<String> {
    let body = format!("{{\"prompt\": \"{prompt}\", \"num_inference_steps\": 1}}");
    let request = format!(
        "POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (status, body) = connection.ask_for_body(request.as_bytes()).await?;
    anyhow::ensure!(status == 200, "{}", String::from_utf8_lossy(&body));
    let video: serde_json::Value = serde_json::from_slice(&body)?;
    Ok(video["id"].as_str().context("an id")?.to_owned())
}

async fn until_status(connection: &mut Connection, id: &str, wanted: &str) -> anyhow::Result<()> {
    let request = get(&format!("/v1/videos/{id}"));
    let deadline = Instant::now() + JOB_DEADLINE;
    loop {
        let (_, body) = connection.ask_for_body(request).await?;
        let video: serde_json::Value = serde_json::from_slice(&body)?;
        if video["status"] == wanted {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "{video}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn finished_job(address: &str, prompt: &str) -> anyhow::Result<String> {
    let mut connection = Connection::open(address).await?;
    let id = create(&mut connection, prompt).await?;
    until_status(&mut connection, &id, "completed").await?;
    Ok(id)
}

/// A job whose worker has begun it, and is silent from then on.
async fn living_job(address: &str) -> anyhow::Result<String> {
    let mut connection = Connection::open(address).await?;
    let id = create(&mut connection, "no-encode").await?;
    until_status(&mut connection, &id, "in_progress").await?;
    Ok(id)
}

async fn idle_streams(reel: &Server, table: &mut Table) -> anyhow::Result<()> {
    reel.until_ok(SYNC).await?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let before = mib(reel.resident_bytes()?);
    let mut followers = Vec::with_capacity(FOLLOWERS);
    while followers.len() < FOLLOWERS {
        let some = (0..FOLLOWERS_AT_ONCE).map(|_| {
            let address = reel.address.clone();
            tokio::spawn(async move { Connection::open(&address).await?.follow(FOLLOW).await })
        });
        for one in some.collect::<Vec<_>>() {
            followers.push(one.await??);
        }
    }
    tokio::time::sleep(SETTLE).await;
    let after = mib(reel.resident_bytes()?);
    table.add(
        "resident memory of the server, idle",
        "MiB",
        vec![before],
        None,
    );
    let name = format!("the same, with {FOLLOWERS} idle event streams");
    table.add(&name, "MiB", vec![after], Some(200.0));
    Ok(())
}
