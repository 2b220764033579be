//! Workers of an earlier run that outlived it.
//!
//! The kernel ends workers with their supervisor (PR_SET_PDEATHSIG); what they forked in turn it does not. Whoever
//! carries the marker of this data directory and began before this process is left over from an earlier run: the lock
//! of the data directory says that no other supervisor has it. Nobody else is touched.

use crate::family::{marker, stat};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for those that were killed.
const END_DEADLINE: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orphans {
    /// They were left over, and are gone.
    pub ended: Vec<u32>,
    /// They were left over and could not be ended in time: they may hold a device's memory.
    pub left: Vec<u32>,
}

/// What markers of workers of this data directory begin with. A copy of the directory is another one.
///
/// # Errors
/// When there is no such directory.
pub fn marker_prefix(data_dir: &Path) -> std::io::Result<String> {
    let metadata = fs::metadata(data_dir)?;
    Ok(format!("{:x}-{:x}.", metadata.dev(), metadata.ino()))
}

/// Ends what earlier runs have left. Call it with the lock of the data directory held, before any worker is spawned.
#[must_use]
pub fn end_orphans(marker_prefix: &str) -> Orphans {
    let found = find(marker_prefix);
    for (_, pidfd) in &found {
        // ESRCH: it has just ended.
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
    }
    let deadline = Instant::now() + END_DEADLINE;
    let mut orphans = Orphans::default();
    for (pid, pidfd) in found {
        let pid = pid.as_raw_nonzero().get().unsigned_abs();
        let left = deadline.saturating_duration_since(Instant::now());
        match has_ended(&pidfd, left) {
            true => orphans.ended.push(pid),
            false => orphans.left.push(pid),
        }
    }
    orphans
}

fn find(prefix: &str) -> Vec<(Pid, OwnedFd)> {
    let Some(own) = stat(rustix::process::getpid()) else {
        return Vec::new();
    };
    let is_orphan = |pid: Pid| {
        marker(pid).is_some_and(|marker| marker.starts_with(prefix))
            && stat(pid).is_some_and(|stat| !stat.is_zombie && stat.start_ticks < own.start_ticks)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw);
    pids.filter(|pid| is_orphan(*pid))
        .filter_map(|pid| {
            let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            // The number may have been given to somebody else since; with the pidfd in hand it cannot any more.
            is_orphan(pid).then_some((pid, pidfd))
        })
        .collect()
}

fn has_ended(pidfd: &OwnedFd, within: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: within.as_secs() as i64,
        tv_nsec: within.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&timeout)), Ok(1..))
}
