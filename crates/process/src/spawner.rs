//! One OS thread that is the parent of every worker and never ends.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that forked dies, not the process. A pool thread of an async
//! runtime may retire at any time and take healthy workers with it; this one does not.

use crate::cgroup::Cgroups;
use crate::family::Family;
use crate::launch::{FLIGHT_FD, LaunchError, LaunchSpec, Launched, launch};
use crate::worker::{ProcessEvent, WorkerProcess};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Spawns that may wait for the thread; each takes about a millisecond.
pub const SPAWN_REQUESTS_MAX: usize = 1_024;

/// Longest wait for strays at the end.
const STRAYS_DEADLINE: Duration = Duration::from_secs(1);
/// Between two looks at them.
const STRAYS_PAUSE: Duration = Duration::from_millis(2);

struct SpawnRequest {
    spec: LaunchSpec,
    answer: oneshot::Sender<Result<Launched, LaunchError>>,
}

/// The way to the spawner thread. Cheap to clone.
#[derive(Clone)]
pub struct Spawner {
    requests: mpsc::SyncSender<SpawnRequest>,
    family: Family,
}

impl std::fmt::Debug for Spawner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spawner").finish_non_exhaustive()
    }
}

/// The spawner thread could not be started, or is overwhelmed.
#[derive(Debug, thiserror::Error)]
pub enum SpawnerError {
    /// The kernel refused.
    #[error("spawner thread: {0}")]
    Io(#[from] io::Error),
    /// The worker could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// More than [`SPAWN_REQUESTS_MAX`] spawns wait.
    #[error("{SPAWN_REQUESTS_MAX} spawns wait already")]
    Overwhelmed,
}

impl Spawner {
    /// Starts the thread. Call it early: it reserves descriptors 3 and 4, so that no other descriptor of this
    /// process sits where a child expects its own. With `cgroups`, each worker gets a group of its own.
    ///
    /// # Errors
    /// When the thread or the reservation cannot be made.
    pub fn start(cgroups: Option<Cgroups>) -> Result<Self, SpawnerError> {
        let reserved = reserve_fds()?;
        Family::adopt_orphans()?;
        let family = Family::default();
        let (requests, inbox) = mpsc::sync_channel::<SpawnRequest>(SPAWN_REQUESTS_MAX);
        let register = family.clone();
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for SpawnRequest { spec, answer } in inbox {
                    let bear = || launch(&spec, cgroups.as_ref());
                    let born = register.birth(&spec.marker, bear, |launched| launched.pid);
                    // Nobody would watch the child of a caller that is gone.
                    if let Err(Ok(unwanted)) = answer.send(born) {
                        unwanted.end(&register);
                    }
                }
                // Every sender is gone: the supervisor has ended. Returning would kill the workers that it
                // has left to end in peace, so the thread stays until the process goes.
                let _reserved = reserved;
                loop {
                    std::thread::park();
                }
            })?;
        Ok(Self { requests, family })
    }

    /// Starts a worker; from now on its [`ProcessEvent`]s arrive at `events`.
    ///
    /// # Errors
    /// See [`SpawnerError`].
    pub async fn spawn<E>(
        &self,
        spec: LaunchSpec,
        label: String,
        events: tokio::sync::mpsc::Sender<E>,
        wrap: impl Fn(ProcessEvent) -> E + Send + 'static,
    ) -> Result<WorkerProcess, SpawnerError>
    where
        E: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.requests
            .try_send(SpawnRequest { spec, answer })
            .map_err(|_| SpawnerError::Overwhelmed)?;
        let launched = answered.await.map_err(|_| SpawnerError::Overwhelmed)??;
        let family = self.family.clone();
        Ok(WorkerProcess::adopt(launched, family, label, events, wrap)?)
    }

    /// Ends descendants of workers that are gone, and theirs, until none is left or some time has passed; blocks.
    pub fn end_strays(&self) {
        let deadline = Instant::now() + STRAYS_DEADLINE;
        while self.family.sweep() && Instant::now() < deadline {
            std::thread::sleep(STRAYS_PAUSE);
        }
    }

    /// Reaps descendants of workers that were left to this process, and ends those whose worker is gone; for ever.
    /// To be run as a task of its own.
    pub async fn reap_strays(self) {
        let Ok(mut deaths) = signal(SignalKind::child()) else {
            tracing::error!("no notice of children's deaths: what workers leave behind stays");
            return;
        };
        while deaths.recv().await.is_some() {
            let family = self.family.clone();
            let _ = tokio::task::spawn_blocking(move || family.sweep()).await;
        }
    }
}

/// Holds the descriptors open that children use, for the life of the process, if nobody holds them yet.
fn reserve_fds() -> io::Result<Vec<OwnedFd>> {
    let mut reserved = Vec::new();
    loop {
        let fd = OwnedFd::from(File::open("/dev/null")?);
        let number = fd.as_raw_fd();
        if number > FLIGHT_FD {
            return Ok(reserved);
        }
        reserved.push(fd);
    }
}
