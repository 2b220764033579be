//! How soon a create is answered, which it is only when it is durable: over HTTP, to a real server whose workers never
//! become ready, so that nothing but accepting jobs takes the processors.

use crate::table::Table;
use anyhow::{Context, bail};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Connections, and creates per second of all of them, while the latency is measured.
const CONNECTIONS: u32 = 16;
const CREATES_PER_S: u32 = 200;
/// Connections while the throughput is measured.
const CONNECTIONS_FULL: usize = 48;
const MEASURED: Duration = Duration::from_secs(5);

const REQUEST: &str = concat!(
    "POST /v1/videos HTTP/1.1\r\nHost: reel\r\nContent-Type: application/json\r\nContent-Length: 47\r\n\r\n",
    "{\"prompt\": \"a circle\", \"num_inference_steps\":1}"
);

struct Server {
    process: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Latency at a steady rate, and the rate when everybody asks as fast as they can.
pub(crate) async fn durable(
    reel: &Path,
    cache_dir: &Path,
    table: &mut Table,
) -> anyhow::Result<()> {
    let server = start(reel, cache_dir).await?;
    table.add_p99(
        &format!("create to its 200, durable, at {CREATES_PER_S} creates/s"),
        "ms",
        steady(&server.address).await?,
        15.0,
    );
    let rates = vec![full(&server.address).await?];
    table.add(
        "creates per second, durable, as many as there can be",
        "1/s, >= 1000",
        rates,
        None,
    );
    Ok(())
}

async fn start(reel: &Path, cache_dir: &Path) -> anyhow::Result<Server> {
    let dir = tempfile::tempdir_in(".").context("a directory on a real disk")?;
    let mute = dir.path().join("mute-worker");
    std::fs::write(&mute, "#!/bin/sh\nexec sleep 1000\n")?;
    std::fs::set_permissions(&mute, std::fs::Permissions::from_mode(0o755))?;
    let config = dir.path().join("reel.toml");
    std::fs::write(
        &config,
        "[pool]\nqueue_jobs_max = 1000000\n[scheduler]\ntenant_jobs_max = 1000000\n",
    )?;
    let log = dir.path().join("log");
    let process = Command::new(reel)
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&config)
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .arg("--cache-dir")
        .arg(cache_dir)
        .arg("--worker")
        .arg(&mute)
        .stderr(std::fs::File::create(&log)?)
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", reel.display()))?;
    let mut server = Server {
        process,
        address: String::new(),
        _dir: dir,
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let said = std::fs::read_to_string(&log)?;
        let address = said.split("listening on http://").nth(1);
        if let Some(address) = address.and_then(|rest| rest.lines().next()) {
            server.address = address.trim().to_owned();
            break;
        }
        if Instant::now() > deadline || server.process.try_wait()?.is_some() {
            bail!("the server does not start:\n{said}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Its first bundle is offered a moment later.
    let mut connection = Connection::open(&server.address).await?;
    while connection.create().await? != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(server)
}

/// From the moment at which a request was due, whether it could be sent then or not.
async fn steady(address: &str) -> anyhow::Result<Vec<f64>> {
    let gap = Duration::from_secs(1) * CONNECTIONS / CREATES_PER_S;
    let begin = Instant::now();
    let clients = (0..CONNECTIONS).map(|number| {
        let address = address.to_owned();
        tokio::spawn(async move {
            let mut connection = Connection::open(&address).await?;
            let mut due = begin + gap * number / CONNECTIONS;
            let mut took = Vec::new();
            while due < begin + MEASURED {
                tokio::time::sleep_until(due.into()).await;
                let status = connection.create().await?;
                anyhow::ensure!(status == 200, "a create answered {status}");
                took.push(due.elapsed().as_secs_f64() * 1e3);
                due += gap;
            }
            Ok(took)
        })
    });
    let mut all = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        all.extend(client.await??);
    }
    Ok(all)
}

async fn full(address: &str) -> anyhow::Result<f64> {
    let created = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let clients = (0..CONNECTIONS_FULL).map(|_| {
        let (address, created) = (address.to_owned(), Arc::clone(&created));
        tokio::spawn(async move {
            let mut connection = Connection::open(&address).await?;
            while begin.elapsed() < MEASURED {
                let status = connection.create().await?;
                anyhow::ensure!(status == 200, "a create answered {status}");
                created.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    Ok(created.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
}

/// A connection that is kept.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; 16 * 1_024],
        })
    }

    /// Asks for a video; the status of the answer.
    async fn create(&mut self) -> anyhow::Result<u16> {
        self.stream.write_all(REQUEST.as_bytes()).await?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            anyhow::ensure!(read > 0, "the server hung up");
            filled += read;
            let text = String::from_utf8_lossy(&self.buffer[..filled]);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.context("no content-length")? {
                let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
                return status.context("no status");
            }
        }
    }
}
