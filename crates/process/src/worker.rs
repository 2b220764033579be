//! The supervisor's side of one worker: what it says, what it prints, how it ends.

use crate::family::Family;
use crate::launch::Launched;
use crate::output::{Tail, drain};
use crate::terminate::{Ladder, Rung};
use reel_protocol::flight::Entry;
use reel_protocol::{Channel, ChannelError, FlightRecorder, FromWorker, ToWorker};
use rustix::process::{Pid, Signal};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// After a worker's end its pipes are drained for at most this long: a grandchild may hold them open.
const DRAIN_DEADLINE: Duration = Duration::from_millis(100);
/// A worker that ends closes its channel a moment before its pidfd says so; one that lives on breaks the rules.
const CLOSED_GRACE: Duration = Duration::from_millis(200);

/// Something a worker said or did. `Exited` is the last event of every worker.
#[derive(Debug)]
pub enum ProcessEvent {
    /// It sent a message, perhaps with a descriptor.
    Message(FromWorker, Option<OwnedFd>),
    /// What it sent is not a message, or it closed the channel and lives on; nothing more will be read from it.
    Broken(ChannelError),
    /// Its process has ended. What it leaves is cleared away; then it is gone.
    Died(ExitStatus),
    /// It is gone.
    Exited(Exit),
}

/// The end of a worker.
#[derive(Debug)]
pub struct Exit {
    /// How.
    pub status: ExitStatus,
    /// What somebody had done to end it.
    pub rung: Rung,
    /// The last lines that it printed.
    pub tail: Vec<String>,
    /// What it had noted in its flight recorder.
    pub flight: Vec<Entry>,
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
    family: Family,
    channel: Channel<FromWorker, ToWorker>,
    rung: watch::Sender<Rung>,
}

impl WorkerProcess {
    pub(crate) fn adopt<E: Send + 'static>(
        launched: Launched,
        family: Family,
        label: String,
        events: mpsc::Sender<E>,
        wrap: impl Fn(ProcessEvent) -> E + Send + 'static,
    ) -> io::Result<Self> {
        let (pidfd, readable) = match listen(&launched) {
            Ok(ends) => ends,
            Err(error) => {
                launched.end(&family);
                return Err(error);
            }
        };
        let Launched {
            child,
            pid,
            flight,
            cgroup,
            ..
        } = launched;
        let channel = readable.get_ref().clone();
        let (rung, wanted) = watch::channel(Rung::Untouched);
        let watcher = Watcher {
            child,
            pidfd,
            channel: readable,
            flight,
            ladder: Ladder::new(pid, family.clone(), cgroup),
            wanted,
            label,
        };
        tokio::spawn(watcher.watch(events, wrap));
        Ok(Self {
            pid,
            family,
            channel,
            rung,
        })
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

    /// Asks it to exit when it has nothing to do.
    ///
    /// # Errors
    /// When it does not take the message; then somebody has to climb on.
    pub fn ask_to_exit(&self) -> Result<(), SendError> {
        self.climb(Rung::Asked);
        self.send(&ToWorker::Shutdown, None)
    }

    /// Ends it and its process group: SIGTERM, and after a grace SIGKILL. Its end arrives as [`ProcessEvent::Exited`].
    pub fn terminate(&self) {
        self.climb(Rung::Terminated);
    }

    /// Ends it and its process group by SIGKILL, now.
    pub fn kill(&self) {
        // Its watcher may be waiting for somebody to take its events.
        self.family.signal(self.pid, Signal::KILL);
        self.climb(Rung::Killed);
    }

    fn climb(&self, rung: Rung) {
        self.rung.send_if_modified(|wanted| {
            let higher = rung > *wanted;
            *wanted = rung.max(*wanted);
            higher
        });
    }
}

type Ends = (AsyncFd<OwnedFd>, AsyncFd<Channel<FromWorker, ToWorker>>);

/// The two descriptors that say something of a worker, in the runtime's hands. Duplicates: if one of them cannot be
/// had, the worker is still whole, to be ended.
fn listen(launched: &Launched) -> io::Result<Ends> {
    let (pidfd, channel) = (launched.pidfd.try_clone()?, launched.channel.try_clone()?);
    // SAFETY: an `OwnedFd` stays open, and the same, until the `AsyncFd` that owns it is dropped.
    let pidfd = unsafe { AsyncFd::register(pidfd) }?;
    // SAFETY: the channel keeps its one descriptor open until the `AsyncFd` is dropped.
    let channel =
        unsafe { AsyncFd::register_with_interest(Channel::new(channel), Interest::READABLE) }?;
    Ok((pidfd, channel))
}

/// What runs beside a worker until it is gone.
struct Watcher {
    child: Child,
    pidfd: AsyncFd<OwnedFd>,
    channel: AsyncFd<Channel<FromWorker, ToWorker>>,
    flight: FlightRecorder,
    ladder: Ladder,
    wanted: watch::Receiver<Rung>,
    label: String,
}

/// What a watcher woke for.
enum Woken {
    Climb(Rung),
    Message(FromWorker, Option<OwnedFd>),
    Unreadable(ChannelError),
    Gone,
}

impl Watcher {
    async fn watch<E>(mut self, events: mpsc::Sender<E>, wrap: impl Fn(ProcessEvent) -> E) {
        let tail = Tail::default();
        let drains = self.drain_output(&tail);
        let mut reading = true;
        loop {
            let event = match self.next(reading).await {
                Woken::Climb(rung) => {
                    self.ladder.climb(rung);
                    continue;
                }
                Woken::Message(message, fd) => ProcessEvent::Message(message, fd),
                Woken::Unreadable(error) => {
                    reading = false;
                    let closed = matches!(error, ChannelError::Closed);
                    if closed && self.ends_within(CLOSED_GRACE).await {
                        continue;
                    }
                    ProcessEvent::Broken(error)
                }
                Woken::Gone => break,
            };
            // Nobody listens any more: the supervisor ends, and its workers with it.
            if events.send(wrap(event)).await.is_err() {
                return;
            }
        }
        // What it said before it died comes before its death, whatever the runtime noticed first.
        while reading && let Ok((message, fd)) = self.channel.get_ref().receive() {
            let last_words = ProcessEvent::Message(message, fd);
            if events.send(wrap(last_words)).await.is_err() {
                return;
            }
        }
        let Self {
            mut child,
            flight,
            ladder,
            ..
        } = self;
        // The pidfd is readable, so the child is a zombie and waiting for it returns at once.
        let status = ladder.reap(|| {
            child
                .wait()
                .unwrap_or_else(|_| ExitStatus::from_raw(libc::SIGKILL))
        });
        if events.send(wrap(ProcessEvent::Died(status))).await.is_err() {
            return;
        }
        let cleared = tokio::task::spawn_blocking(move || {
            (ladder.clear(), flight.read().unwrap_or_default())
        });
        let (rung, flight) = cleared.await.unwrap_or((Rung::Killed, Vec::new()));
        for drained in drains {
            let _ = tokio::time::timeout(DRAIN_DEADLINE, drained).await;
        }
        let exit = Exit {
            status,
            rung,
            tail: tail.lines(),
            flight,
        };
        let _ = events.send(wrap(ProcessEvent::Exited(exit))).await;
    }

    /// A worker that never stops talking must not keep anybody from ending it.
    async fn next(&mut self, reading: bool) -> Woken {
        let climbing = async {
            match self.wanted.changed().await {
                Ok(()) => *self.wanted.borrow_and_update(),
                // Nobody holds the worker any more.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            rung = climbing => Woken::Climb(rung),
            rung = self.ladder.next_rung() => Woken::Climb(rung),
            received = receive(&self.channel), if reading => match received {
                Ok((message, fd)) => Woken::Message(message, fd),
                Err(error) => Woken::Unreadable(error),
            },
            _ = self.pidfd.readable() => Woken::Gone,
        }
    }

    async fn ends_within(&self, grace: Duration) -> bool {
        tokio::time::timeout(grace, self.pidfd.readable())
            .await
            .is_ok()
    }

    fn drain_output(&mut self, tail: &Tail) -> Vec<JoinHandle<()>> {
        let mut drains = Vec::new();
        let stdout = self.child.stdout.take();
        if let Some(Ok(pipe)) = stdout.map(tokio::process::ChildStdout::from_std) {
            let draining = drain(pipe, self.label.clone(), "stdout", tail.clone());
            drains.push(tokio::spawn(draining));
        }
        let stderr = self.child.stderr.take();
        if let Some(Ok(pipe)) = stderr.map(tokio::process::ChildStderr::from_std) {
            let draining = drain(pipe, self.label.clone(), "stderr", tail.clone());
            drains.push(tokio::spawn(draining));
        }
        drains
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
