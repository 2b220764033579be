//! The supervisor's side of one worker: what it says, what it prints, how it ends.

use crate::launch::Launched;
use crate::output::{Tail, drain};
use reel_protocol::{Channel, ChannelError, FromWorker, ToWorker};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// After a worker's end its pipes are drained for at most this long: a grandchild may hold them open.
const DRAIN_DEADLINE: Duration = Duration::from_millis(100);

/// Something a worker said or did. `Exited` is the last event of every worker.
#[derive(Debug)]
pub enum ProcessEvent {
    /// It sent a message, perhaps with a descriptor.
    Message(FromWorker, Option<OwnedFd>),
    /// What it sent is not a message; nothing more will be read from it.
    Broken(ChannelError),
    /// It is gone.
    Exited {
        /// How.
        status: ExitStatus,
        /// The last lines that it printed.
        tail: Vec<String>,
    },
}

/// A message could not be handed to a worker.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It does not read its messages.
    #[error("the worker does not read its messages")]
    Full,
    /// It is gone, or the message is wrong.
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

/// A running worker.
#[derive(Debug)]
pub struct WorkerProcess {
    pid: Pid,
    channel: Channel<FromWorker, ToWorker>,
}

impl WorkerProcess {
    pub(crate) fn adopt<E: Send + 'static>(
        launched: Launched,
        label: String,
        events: mpsc::Sender<E>,
        wrap: impl Fn(ProcessEvent) -> E + Send + 'static,
    ) -> io::Result<Self> {
        let Launched {
            child,
            pidfd,
            channel,
        } = launched;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(io::ErrorKind::InvalidData)?;
        let channel = Channel::new(channel);
        // SAFETY: an `OwnedFd` stays open, and the same, until the `AsyncFd` that owns it is dropped.
        let pidfd = unsafe { AsyncFd::register(pidfd) }?;
        // SAFETY: the clone keeps the channel's one descriptor open until the `AsyncFd` is dropped.
        let readable =
            unsafe { AsyncFd::register_with_interest(channel.clone(), Interest::READABLE) }?;
        let watcher = Watcher {
            pid,
            child,
            pidfd,
            channel: readable,
            label,
        };
        tokio::spawn(watcher.watch(events, wrap));
        Ok(Self { pid, channel })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Hands it a message, and with it at most one descriptor. Never waits.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&self, message: &ToWorker, fd: Option<BorrowedFd<'_>>) -> Result<(), SendError> {
        match self.channel.send(message, fd) {
            Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(SendError::Full)
            }
            result => Ok(result?),
        }
    }

    /// Ends it and its process group by SIGKILL. Its end arrives as [`ProcessEvent::Exited`].
    pub fn kill(&self) {
        // ESRCH: it is gone already, and its exit is on the way.
        let _ = kill_process_group(self.pid, Signal::KILL);
    }
}

/// What runs beside a worker until it is gone.
struct Watcher {
    pid: Pid,
    child: Child,
    pidfd: AsyncFd<OwnedFd>,
    channel: AsyncFd<Channel<FromWorker, ToWorker>>,
    label: String,
}

impl Watcher {
    async fn watch<E>(mut self, events: mpsc::Sender<E>, wrap: impl Fn(ProcessEvent) -> E) {
        let tail = Tail::default();
        let drains = self.drain_output(&tail);
        let mut talking = true;
        loop {
            // What it said before it died comes first.
            tokio::select! {
                biased;
                received = receive(&self.channel), if talking => {
                    let event = match received {
                        Ok((message, fd)) => ProcessEvent::Message(message, fd),
                        Err(ChannelError::Closed) => { talking = false; continue }
                        Err(error) => { talking = false; ProcessEvent::Broken(error) }
                    };
                    // Nobody listens any more: the supervisor ends, and its workers with it.
                    if events.send(wrap(event)).await.is_err() { return }
                }
                _ = self.pidfd.readable() => break,
            }
        }
        // Whatever else is left of its process group goes with it; before the reaping, while the group's
        // number cannot belong to anybody else.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let status = self.reap();
        for drained in drains {
            let _ = tokio::time::timeout(DRAIN_DEADLINE, drained).await;
        }
        let _ = events
            .send(wrap(ProcessEvent::Exited {
                status,
                tail: tail.lines(),
            }))
            .await;
    }

    fn drain_output(&mut self, tail: &Tail) -> Vec<JoinHandle<()>> {
        let mut drains = Vec::new();
        if let Some(Ok(pipe)) = self
            .child
            .stdout
            .take()
            .map(tokio::process::ChildStdout::from_std)
        {
            drains.push(tokio::spawn(drain(
                pipe,
                self.label.clone(),
                "stdout",
                tail.clone(),
            )));
        }
        if let Some(Ok(pipe)) = self
            .child
            .stderr
            .take()
            .map(tokio::process::ChildStderr::from_std)
        {
            drains.push(tokio::spawn(drain(
                pipe,
                self.label.clone(),
                "stderr",
                tail.clone(),
            )));
        }
        drains
    }

    /// The pidfd is readable, so the child is a zombie and this returns at once.
    fn reap(&mut self) -> ExitStatus {
        self.child
            .wait()
            .unwrap_or_else(|_| ExitStatus::from_raw(libc::SIGKILL))
    }
}

async fn receive(
    channel: &AsyncFd<Channel<FromWorker, ToWorker>>,
) -> Result<(FromWorker, Option<OwnedFd>), ChannelError> {
    loop {
        let mut ready = channel.ready(Interest::READABLE).await?;
        match channel.get_ref().receive() {
            Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
            }
            result => return result,
        }
    }
}

/// How a process ended, in words: `status 1`, `signal 9 (SIGKILL)`.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("signal {signal} ({name})"),
            Err(_) => format!("signal {signal}"),
        },
        (None, None) => format!("wait status {}", status.into_raw()),
    }
}
