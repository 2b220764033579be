//! A real server as a child, on a port of its own, with a worker of the benchmark's choice.

use crate::load::Connection;
use anyhow::{Context, bail};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time from the start to the port.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Longest time from there to the first answer that is wanted.
const READY_DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

/// A worker that never says anything: nothing but accepting jobs takes the processors.
pub(crate) const MUTE: &str = "exec sleep 1000";

/// Which models a server serves, and from where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    /// The server program.
    pub(crate) reel: &'a Path,
    pub(crate) cache_dir: &'a Path,
    /// Under which its jobs and videos lie.
    pub(crate) scratch: &'a Path,
    /// The model's directory; `None`: the built-in one.
    pub(crate) model: Option<&'a Path>,
}

impl Site<'_> {
    /// The same, with jobs and videos on the disk of the current directory.
    pub(crate) fn on_disk(self) -> Self {
        Self {
            scratch: Path::new("."),
            ..self
        }
    }
}

/// It ends with its handle.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Starts it. `worker`: the last line of the shell script that its workers are.
    pub(crate) async fn start(site: Site<'_>, worker: &str, config: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(site.scratch)
            .with_context(|| format!("a directory in {}", site.scratch.display()))?;
        let script = dir.path().join("worker");
        std::fs::write(&script, format!("#!/bin/sh\n{worker}\n"))?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        let settings = dir.path().join("reel.toml");
        std::fs::write(&settings, config)?;
        let log = dir.path().join("log");
        let mut command = Command::new(site.reel);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--devices", "cpu"])
            .arg("--config")
            .arg(&settings)
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .arg("--cache-dir")
            .arg(site.cache_dir)
            .arg("--worker")
            .arg(&script)
            .env_remove("RUST_LOG")
            .stderr(std::fs::File::create(&log)?)
            .stdout(Stdio::null());
        if let Some(model) = site.model {
            command.arg("--model").arg(model);
        }
        let process = command
            .spawn()
            .with_context(|| format!("cannot start {}", site.reel.display()))?;
        let mut server = Self {
            process,
            address: String::new(),
            _dir: dir,
        };
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let said = std::fs::read_to_string(&log)?;
            let address = said.split("listening on http://").nth(1);
            if let Some(address) = address.and_then(|rest| rest.lines().next()) {
                server.address = address.trim().to_owned();
                return Ok(server);
            }
            if Instant::now() > deadline || server.process.try_wait()?.is_some() {
                bail!("the server does not start:\n{said}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks until the answer is 200: its first bundle is offered a moment after the port is open.
    pub(crate) async fn until_ok(&self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        let deadline = Instant::now() + READY_DEADLINE;
        let mut connection = Connection::open(&self.address).await?;
        loop {
            let (status, body) = connection.ask_for_body(request).await?;
            if status == 200 {
                return Ok(body);
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "it answers {status}: {}",
                String::from_utf8_lossy(&body)
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
        let kib: u64 = kib.context("no VmRSS")?.trim().parse()?;
        Ok(kib * 1_024)
    }
}
