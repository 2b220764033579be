//! A control group for each worker, where this process may make them (cgroups(7), version 2).
//!
//! Whatever a worker's descendants do with sessions, groups and environments, they stay in its control group, and
//! `cgroup.kill` ends all of them at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The directory under which workers get theirs.
const WORKERS: &str = "reel-workers";
/// Longest wait for a killed group to be empty.
const EMPTY_DEADLINE: Duration = Duration::from_secs(2);
/// An empty group that is younger may belong to a worker that is just being born.
const NEW_AT_MOST: Duration = Duration::from_secs(60);
/// Between two looks whether it is.
const EMPTY_PAUSE: Duration = Duration::from_millis(2);

/// Where groups of workers are made.
#[derive(Debug, Clone)]
pub struct Cgroups {
    root: PathBuf,
}

/// No groups can be made, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is no version 2 hierarchy.
    #[error("no cgroup v2 is mounted")]
    NotMounted,
    /// This process may not make groups in its own.
    #[error("{}: {source}", path.display())]
    NotDelegated {
        /// Where it tried.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The group of one worker. Removed when it is dropped, if it is empty.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroups {
    /// Looks for the group of this process, and whether groups can be made in it.
    ///
    /// # Errors
    /// See [`CgroupError`].
    pub fn find() -> Result<Self, CgroupError> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path = own_group(&mounts, &own).ok_or(CgroupError::NotMounted)?;
        let root = path.join(WORKERS);
        let denied = |source| CgroupError::NotDelegated {
            path: root.clone(),
            source,
        };
        match fs::create_dir(&root) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(denied(error)),
        }
        // To move a process, both groups and what they have in common must be writable.
        for file in [root.join("cgroup.procs"), root.join("cgroup.kill")] {
            let opened = OpenOptions::new().write(true).open(file);
            opened.map_err(denied)?;
        }
        Ok(Self { root })
    }

    /// Ends whoever is left in groups of an earlier run of this data directory, and removes what nobody needs any more:
    /// a supervisor that was killed could not. Call it with the data directory's lock held.
    pub fn sweep(&self, marker_prefix: &str) {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let ours = name.to_string_lossy().starts_with(marker_prefix);
            let group = Cgroup { path: entry.path() };
            if ours {
                group.kill();
                group.wait_empty();
            }
            // A group is empty for a moment when it is new.
            let age = entry.metadata().and_then(|metadata| metadata.modified());
            let is_old = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > NEW_AT_MOST));
            match ours || is_old {
                // Dropping it removes it, if it is empty.
                true => drop(group),
                false => std::mem::forget(group),
            }
        }
    }

    /// The directory under which groups are made.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// A new group.
    pub(crate) fn create(&self, name: &str) -> io::Result<Cgroup> {
        let path = self.root.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Cgroup { path }),
        }
    }
}

/// The directory of this process's own group: the mount point of the version 2 hierarchy, and the path in it.
fn own_group(mounts: &str, own: &str) -> Option<PathBuf> {
    // proc_pid_mountinfo(5): the fields after " - " begin with the file system's type.
    let mount = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then_some(())?;
        before.split(' ').nth(4)
    })?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Path::new(mount).join(path.trim_start_matches('/')))
}

impl Cgroup {
    /// The file through which a process enters.
    pub(crate) fn entrance(&self) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .open(self.path.join("cgroup.procs"))
    }

    /// Ends every process in the group by SIGKILL.
    pub(crate) fn kill(&self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    fn is_empty(&self) -> bool {
        let events = fs::read_to_string(self.path.join("cgroup.events"));
        events.map_or(true, |events| events.contains("populated 0"))
    }

    /// Waits until nobody is left in it; blocks.
    pub(crate) fn wait_empty(&self) -> bool {
        let deadline = Instant::now() + EMPTY_DEADLINE;
        while !self.is_empty() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(EMPTY_PAUSE);
        }
        true
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_in_both_layouts() {
        let unified = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let own = "0::/system.slice/reel.service\n";
        assert_eq!(
            own_group(unified, own).unwrap(),
            Path::new("/sys/fs/cgroup/system.slice/reel.service")
        );
        let hybrid = "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      39 30 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            own_group(hybrid, "8:pids:/\n0::/\n").unwrap(),
            Path::new("/sys/fs/cgroup/unified")
        );
        assert_eq!(own_group("", own), None);
    }
}
