//! The kill ladder: how a worker is ended, rung by rung.
//!
//! ```text
//! Asked       a Shutdown message: it finishes what it has and exits
//! Terminated  SIGTERM to its process group; after TERM_GRACE the next one
//! Killed      SIGKILL to its process group and its control group
//! ```
//!
//! All the while its messages are read and its output is drained. When its pidfd says that it is gone, whatever else
//! is left of its group is killed, it is reaped, its strays are swept and its control group is seen empty. A rung is
//! never taken back; [`Rung`] is also the answer to how it ended.

use crate::cgroup::Cgroup;
use crate::family::Family;
use rustix::process::{Pid, Signal};
use std::time::Duration;
use tokio::time::Instant;

/// From SIGTERM to SIGKILL.
pub const TERM_GRACE: Duration = Duration::from_secs(1);

/// How hard somebody wants a worker to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Rung {
    /// Not at all.
    #[default]
    Untouched,
    /// It was asked to.
    Asked,
    /// SIGTERM was sent.
    Terminated,
    /// SIGKILL was sent.
    Killed,
}

/// What stands on the ladder.
#[derive(Debug)]
pub(crate) struct Ladder {
    pid: Pid,
    family: Family,
    cgroup: Option<Cgroup>,
    rung: Rung,
    next_at: Option<Instant>,
}

impl Ladder {
    pub(crate) const fn new(pid: Pid, family: Family, cgroup: Option<Cgroup>) -> Self {
        Self {
            pid,
            family,
            cgroup,
            rung: Rung::Untouched,
            next_at: None,
        }
    }

    /// Climbs to a rung, with what belongs to it. The message of the first one is the caller's.
    pub(crate) fn climb(&mut self, rung: Rung) {
        if rung <= self.rung {
            return;
        }
        self.rung = rung;
        self.next_at = None;
        match rung {
            Rung::Untouched | Rung::Asked => {}
            Rung::Terminated => {
                self.family.signal(self.pid, Signal::TERM);
                self.next_at = Some(Instant::now() + TERM_GRACE);
            }
            Rung::Killed => self.kill(),
        }
    }

    /// When the next rung is due; never, if nothing is.
    pub(crate) async fn next_rung(&self) -> Rung {
        match self.next_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
        Rung::Killed
    }

    fn kill(&self) {
        self.family.signal(self.pid, Signal::KILL);
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
    }

    /// The process is a zombie: reaps it, at once.
    pub(crate) fn reap<T>(&self, reap: impl FnOnce() -> T) -> T {
        // Before the reaping, while the group's number cannot belong to anybody else.
        self.kill();
        self.family.burial(self.pid, reap)
    }

    /// Nothing of a reaped process is left when this returns; blocks for moments. How far somebody had climbed.
    pub(crate) fn clear(self) -> Rung {
        self.family.sweep();
        if let Some(cgroup) = &self.cgroup
            && !cgroup.wait_empty()
        {
            tracing::error!(pid = ?self.pid, "descendants of a worker survive in its control group");
        }
        self.family.sweep();
        self.rung
    }
}
