//! From fork to exec. The steps, in order:
//!
//! 1. a socket pair; the worker's end will be descriptor 3
//! 2. an environment of exactly what the [`LaunchSpec`] says, stdin from `/dev/null`, stdout and stderr piped
//! 3. fork; in the child:
//!    - its own session, so that a signal to its process group reaches all of it and nothing else (setsid(2))
//!    - `PR_SET_PDEATHSIG` = SIGKILL: it dies when the thread that spawned it dies (prctl(2))
//!    - is the parent still the parent? (it may have died before the line above)
//!    - `PR_SET_NO_NEW_PRIVS`; core dumps off: a core would hold weights and prompts
//!    - descriptor 3, and every other one closed on exec (close_range(2))
//! 4. exec
//! 5. a pidfd, while the child cannot have been reaped yet (pidfd_open(2))

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The descriptor at which a worker finds its channel.
pub const CHANNEL_FD: RawFd = 3;

/// What to start. The environment holds these variables and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchSpec {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
}

/// A worker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A kernel object could not be made.
    #[error("{what}: {source}")]
    Kernel {
        /// Which one.
        what: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// The program could not be executed.
    #[error("cannot execute {}: {source}", program.display())]
    Exec {
        /// The executable.
        program: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

/// A process that was just started.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: Child,
    pub(crate) pidfd: OwnedFd,
    /// The supervisor's end, non-blocking.
    pub(crate) channel: OwnedFd,
}

/// Starts a worker. Must run on a thread that lives as long as the worker should.
pub(crate) fn launch(spec: &LaunchSpec) -> Result<Launched, LaunchError> {
    let kernel = |what| move |source| LaunchError::Kernel { what, source };
    let (ours, theirs) = channel_pair().map_err(kernel("socketpair"))?;
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let parent = rustix::process::getpid();
    let channel = theirs.as_raw_fd();
    // SAFETY: the closure runs between fork and exec and calls only async-signal-safe system calls
    // (signal-safety(7)); it allocates nothing and touches no lock.
    unsafe {
        command.pre_exec(move || enter_child(parent, channel));
    }
    let mut child = command.spawn().map_err(|source| LaunchError::Exec {
        program: spec.program.clone(),
        source,
    })?;
    drop(theirs);
    match open_pidfd(&child) {
        Ok(pidfd) => Ok(Launched {
            child,
            pidfd,
            channel: ours,
        }),
        Err(source) => {
            // Without a pidfd nobody would see it end, so it must not live.
            let _ = child.kill();
            let _ = child.wait();
            Err(LaunchError::Kernel {
                what: "pidfd_open",
                source,
            })
        }
    }
}

fn channel_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    // The child's end must not sit where `dup2` would put it: dup2 of a descriptor onto itself would leave
    // it close-on-exec.
    let theirs = rustix::io::fcntl_dupfd_cloexec(&theirs, CHANNEL_FD + 1)?;
    Ok((ours, theirs))
}

fn open_pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

/// Step 3, in the child.
fn enter_child(parent: Pid, channel: RawFd) -> io::Result<()> {
    let check = |result: libc::c_int| match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };
    let no_core = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: plain system calls with valid arguments; `no_core` outlives its call. `close_range` with
    // CLOSE_RANGE_CLOEXEC only sets a flag, so the pipe through which std reports a failed exec stays
    // open until exec. Descriptor 3 is reserved in the parent (`Spawner::start`), so dup2 replaces
    // nothing that std or this closure still needs.
    unsafe {
        check(libc::setsid())?;
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        if libc::getppid() != parent.as_raw_nonzero().get() {
            libc::_exit(127);
        }
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core))?;
        check(libc::dup2(channel, CHANNEL_FD))?;
        let first = CHANNEL_FD as libc::c_uint + 1;
        check(libc::close_range(
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
        ))
    }
}
