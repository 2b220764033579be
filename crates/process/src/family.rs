//! Whose child is whose: the workers that live, and descendants of workers that have escaped them.
//!
//! This process is a child subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)): a grandchild whose parent has ended becomes
//! its child, whatever session it made for itself. The dead ones are reaped; those whose worker is gone are ended.
//!
//! Three kinds of children there are: workers, which are entered here; helpers of this process (encoders, bakes),
//! which live in its own session; and strays, which are all the others.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The variable that every worker carries, and hands down to its descendants.
pub(crate) const MARKER: &str = "REEL_WORKER_MARK";

/// The workers that live, by process id, with their markers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Family {
    workers: Arc<Mutex<BTreeMap<i32, String>>>,
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

    /// Holds the register while a worker is being born, so that nobody takes it for a stray.
    pub(crate) fn birth<E>(
        &self,
        marker: &str,
        bear: impl FnOnce() -> Result<Pid, E>,
    ) -> Result<(), E> {
        let mut workers = self.lock();
        workers.insert(number(bear()?), marker.to_owned());
        Ok(())
    }

    /// Signals a worker's whole process group, unless it has been reaped: then its number may be somebody else's.
    pub(crate) fn signal(&self, worker: Pid, signal: Signal) {
        if self.lock().contains_key(&number(worker)) {
            // ESRCH: it is gone already, and its exit is on the way.
            let _ = rustix::process::kill_process_group(worker, signal);
        }
    }

    /// Reaps a worker that has ended.
    pub(crate) fn burial<T>(&self, worker: Pid, reap: impl FnOnce() -> T) -> T {
        let mut workers = self.lock();
        let result = reap();
        workers.remove(&number(worker));
        result
    }

    /// Reaps strays that have ended, and kills those whose worker has. Each of these deaths is a SIGCHLD, at which this
    /// is to be called again.
    pub(crate) fn sweep(&self) {
        let workers = self.lock();
        for pid in children() {
            let Some(stat) = stat(pid).filter(|stat| stat.session != own_session()) else {
                continue;
            };
            if workers.contains_key(&number(pid)) {
                continue;
            }
            if stat.is_zombie {
                let _ = waitid(
                    WaitId::Pid(pid),
                    WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
                );
            } else if !belongs_to_a_living(&workers, pid, stat) {
                // It is a child of this process, so its number is nobody else's until it is reaped here.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, String>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stray of a worker that lives is that worker's business. One without a marker might be: it stays, too.
fn belongs_to_a_living(workers: &BTreeMap<i32, String>, pid: Pid, stat: Stat) -> bool {
    if workers.contains_key(&stat.session) {
        return true;
    }
    match marker(pid) {
        Some(marker) => workers.values().any(|living| *living == marker),
        None => !workers.is_empty(),
    }
}

fn own_session() -> i32 {
    rustix::process::getsid(None).map_or(0, number)
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
