//! Whose child is whose: the workers that live, and descendants of workers that have escaped them.
//!
//! This process is a child subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)): a grandchild whose parent has ended becomes
//! its child, whatever session it made for itself. The dead ones are reaped; those whose worker is gone are ended.
//!
//! Three kinds of children there are: workers, which are entered here; helpers of this process (encoders, bakes),
//! which live in its own session; and strays, which are all the others.

use crate::launch::LaunchError;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The variable that every worker carries, and hands down to its descendants.
pub(crate) const MARKER: &str = "REEL_WORKER_MARK";

/// The workers that live. Its lock is held for moments only: the supervisor's loop takes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Family {
    register: Arc<Mutex<Register>>,
}

#[derive(Debug, Default)]
struct Register {
    /// Markers by process id.
    workers: BTreeMap<i32, String>,
    /// Workers that are being born: forked, perhaps, and not entered.
    births_under_way: usize,
    /// All births so far.
    births: u64,
    /// What markers of this run begin with.
    run: Option<String>,
}

/// What proc_pid_stat(5) says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) is_zombie: bool,
    pub(crate) session: i32,
    /// When it started, in clock ticks since boot.
    pub(crate) start_ticks: u64,
}

impl Family {
    /// Makes orphans of this process's descendants its own children.
    pub(crate) fn adopt_orphans() -> io::Result<()> {
        Ok(rustix::process::set_child_subreaper(Some(
            rustix::process::getpid(),
        ))?)
    }

    /// Bears a worker and enters it. Nobody is taken for a stray meanwhile.
    pub(crate) fn birth<T>(
        &self,
        marker: &str,
        bear: impl FnOnce() -> Result<T, LaunchError>,
        pid: impl FnOnce(&T) -> Pid,
    ) -> Result<T, LaunchError> {
        {
            let mut register = self.lock();
            register.births_under_way += 1;
            register.births += 1;
            register.run = run_of(marker);
        }
        let born = bear();
        {
            let mut register = self.lock();
            register.births_under_way -= 1;
            if let Ok(child) = &born {
                register.workers.insert(number(pid(child)), marker.into());
            }
        }
        // Deaths that were noticed meanwhile were not looked at.
        self.sweep();
        born
    }

    /// Signals a worker's whole process group, unless it has been reaped: then its number may be somebody else's.
    pub(crate) fn signal(&self, worker: Pid, signal: Signal) {
        if self.lock().workers.contains_key(&number(worker)) {
            // ESRCH: it is gone already, and its exit is on the way.
            let _ = rustix::process::kill_process_group(worker, signal);
        }
    }

    /// Reaps a worker that has ended: `reap` must not wait.
    pub(crate) fn burial<T>(&self, worker: Pid, reap: impl FnOnce() -> T) -> T {
        let mut register = self.lock();
        let result = reap();
        register.workers.remove(&number(worker));
        result
    }

    /// Reaps strays that have ended, and kills those whose worker has. Each of these deaths is a SIGCHLD, at which this
    /// is to be called again. `true`: strays of dead workers are left.
    pub(crate) fn sweep(&self) -> bool {
        let (workers, births, run) = {
            let register = self.lock();
            if register.births_under_way > 0 {
                return false;
            }
            (
                register.workers.clone(),
                register.births,
                register.run.clone(),
            )
        };
        let is_current = || {
            let register = self.lock();
            register.births_under_way == 0 && register.births == births
        };
        let mut left = false;
        for pid in children() {
            let Some(stat) = stat(pid).filter(|stat| stat.session != own_session()) else {
                continue;
            };
            if workers.contains_key(&number(pid)) || !is_current() {
                continue;
            }
            if stat.is_zombie {
                let _ = waitid(
                    WaitId::Pid(pid),
                    WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
                );
            } else if is_left_over(&workers, run.as_deref(), pid, stat) {
                left = true;
                // It is a child of this process, so its number is nobody else's until it is reaped here.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        left
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A marker without the worker's own part.
fn run_of(marker: &str) -> Option<String> {
    Some(marker.rsplit_once('.')?.0.to_owned())
}

/// Whether a stray's worker is gone. One that carries no marker of this run is nobody's that is known here: where this
/// process is the first of a container, all orphans of the container come to it.
fn is_left_over(workers: &BTreeMap<i32, String>, run: Option<&str>, pid: Pid, stat: Stat) -> bool {
    if workers.contains_key(&stat.session) {
        return false;
    }
    marker(pid).is_some_and(|marker| {
        run_of(&marker).as_deref() == run && !workers.values().any(|living| *living == marker)
    })
}

/// The session of this process, in the same words as [`stat`]: 0 where its leader is in another pid namespace, as
/// when a container is entered from outside (`getsid` may not say so: rustix takes 0 for impossible).
fn own_session() -> i32 {
    stat(rustix::process::getpid()).map_or(0, |stat| stat.session)
}

const fn number(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

/// The children of this process, of all its threads.
fn children() -> Vec<Pid> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let listed = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let mut children = Vec::new();
    for list in listed {
        let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.extend(pids.filter_map(Pid::from_raw));
    }
    children
}

pub(crate) fn stat(pid: Pid) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    parse_stat(&text)
}

/// The name of the program, in parentheses, may hold anything.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
        session: fields.get(3)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// The marker that a process carries.
pub(crate) fn marker(pid: Pid) -> Option<String> {
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| {
        let value = variable.strip_prefix(MARKER.as_bytes())?;
        value.strip_prefix(b"=")
    })?;
    String::from_utf8(value.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_cannot_forge_its_state() {
        let text = "12 (a) Z 1 (b) S 1 12 77 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!(
            (stat.is_zombie, stat.session, stat.start_ticks),
            (false, 77, 4_242)
        );
    }

    #[test]
    fn this_process_is_known() {
        let me = stat(rustix::process::getpid()).unwrap();
        assert!(!me.is_zombie && me.session == own_session() && me.start_ticks > 0);
    }
}
