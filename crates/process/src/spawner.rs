//! One OS thread that is the parent of every worker and never ends.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that forked dies, not the process. A pool thread of an async
//! runtime may retire at any time and take healthy workers with it; this one does not.

use crate::launch::{CHANNEL_FD, LaunchError, LaunchSpec, Launched, launch};
use crate::worker::{ProcessEvent, WorkerProcess};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc;
use tokio::sync::oneshot;

/// Spawns that may wait for the thread; each takes about a millisecond.
pub const SPAWN_REQUESTS_MAX: usize = 1_024;

struct SpawnRequest {
    spec: LaunchSpec,
    answer: oneshot::Sender<Result<Launched, LaunchError>>,
}

/// The way to the spawner thread. Cheap to clone.
#[derive(Clone)]
pub struct Spawner {
    requests: mpsc::SyncSender<SpawnRequest>,
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
    /// Starts the thread. Call it early: it reserves descriptor 3, so that no other descriptor of this
    /// process sits where a child expects its channel.
    ///
    /// # Errors
    /// When the thread or the reservation cannot be made.
    pub fn start() -> Result<Self, SpawnerError> {
        let reserved = reserve_channel_fd()?;
        let (requests, inbox) = mpsc::sync_channel::<SpawnRequest>(SPAWN_REQUESTS_MAX);
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for request in inbox {
                    // A caller that is gone drops the child, whose channel closes, at which it exits.
                    let _ = request.answer.send(launch(&request.spec));
                }
                // Every sender is gone: the supervisor has ended. Returning would kill the workers that it
                // has left to end in peace, so the thread stays until the process goes.
                let _reserved = reserved;
                loop {
                    std::thread::park();
                }
            })?;
        Ok(Self { requests })
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
        Ok(WorkerProcess::adopt(launched, label, events, wrap)?)
    }
}

/// Holds descriptor 3 open for the life of the process, if nobody holds it yet.
fn reserve_channel_fd() -> io::Result<Vec<OwnedFd>> {
    let mut reserved = Vec::new();
    loop {
        let fd = OwnedFd::from(File::open("/dev/null")?);
        let number = fd.as_raw_fd();
        if number > CHANNEL_FD {
            return Ok(reserved);
        }
        reserved.push(fd);
    }
}
