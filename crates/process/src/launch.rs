//! From fork to exec. The steps, in order:
//!
//! 1. a socket pair and a flight recorder; in the worker they are descriptors 3 and 4
//! 2. an environment of exactly what the [`LaunchSpec`] says, stdin from `/dev/null`, stdout and stderr piped
//! 3. its control group and its sandbox's rules, as far as this kernel and this user can make them
//! 4. fork; in the child:
//!    - its own session, so that a signal to its process group reaches all of it and nothing else (setsid(2))
//!    - `PR_SET_PDEATHSIG` = SIGKILL: it dies when the thread that spawned it dies (prctl(2))
//!    - is the parent still the parent? (it may have died before the line above)
//!    - into its control group
//!    - its share: niceness, processors, open files, memory; core dumps off: a core would hold weights and prompts
//!    - `PR_SET_NO_NEW_PRIVS`, and the sandbox (landlock(7))
//!    - descriptors 3 and 4, and every other one closed on exec (close_range(2))
//! 5. exec
//! 6. a pidfd, while the child cannot have been reaped yet (pidfd_open(2))

use crate::cgroup::{Cgroup, Cgroups};
use crate::family::{Family, MARKER};
use crate::sandbox::{Sandbox, SandboxError};
use reel_protocol::FlightRecorder;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Resource, Signal, getrlimit, pidfd_open};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The descriptor at which a worker finds its channel.
pub const CHANNEL_FD: RawFd = 3;
/// The descriptor at which a worker finds its flight recorder.
pub const FLIGHT_FD: RawFd = 4;
/// Files that a worker may have open, where nobody says otherwise.
pub const OPEN_FILES_MAX: u64 = 4_096;

/// What to start. The environment holds these variables, the marker, and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchSpec {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment.
    pub env: Vec<(OsString, OsString)>,
    /// What tells its descendants, and after a restart itself, from everybody else's: the value of `REEL_WORKER_MARK`.
    pub marker: String,
    /// What it gets of the machine.
    pub share: Share,
    /// What it may touch; `None`: whatever its user may.
    pub sandbox: Option<Sandbox>,
}

/// What a worker gets of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Files that it may have open (`RLIMIT_NOFILE`).
    pub open_files: u64,
    /// Memory of its own that each of its processes may write to, in bytes (`RLIMIT_DATA`).
    pub memory_bytes: Option<u64>,
    /// Its niceness, 0 to 19.
    pub nice: u8,
    /// The processors that it may run on; empty: any.
    pub processors: Vec<usize>,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            open_files: OPEN_FILES_MAX,
            memory_bytes: None,
            nice: 0,
            processors: Vec::new(),
        }
    }
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
    /// The sandbox could not be made.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
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
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    /// The supervisor's end, non-blocking.
    pub(crate) channel: OwnedFd,
    pub(crate) flight: FlightRecorder,
    pub(crate) cgroup: Option<Cgroup>,
}

impl Launched {
    /// Ends a child that nobody is going to watch.
    pub(crate) fn end(mut self, family: &Family) {
        family.signal(self.pid, Signal::KILL);
        // It was just killed: it takes no longer than that.
        let waited = self.child.wait();
        family.burial(self.pid, || waited).ok();
    }
}

/// Starts a worker. Must run on a thread that lives as long as the worker should.
pub(crate) fn launch(
    spec: &LaunchSpec,
    cgroups: Option<&Cgroups>,
) -> Result<Launched, LaunchError> {
    let kernel = |what| move |source| LaunchError::Kernel { what, source };
    let (ours, theirs) = channel_pair().map_err(kernel("socketpair"))?;
    let flight = FlightRecorder::create().map_err(kernel("memfd_create"))?;
    let their_flight = above_reserved(flight.as_fd()).map_err(kernel("dup"))?;
    let cgroup = cgroups
        .map(|cgroups| cgroups.create(&spec.marker))
        .transpose()
        .map_err(kernel("cgroup"))?;
    let entrance = cgroup.as_ref().map(Cgroup::entrance).transpose();
    let entrance = entrance.map_err(kernel("cgroup"))?;
    let rules = spec.sandbox.as_ref().map(Sandbox::rules).transpose()?;
    let rules = rules.flatten();
    let entry = Entry::new(
        spec,
        theirs.as_fd(),
        their_flight.as_fd(),
        entrance.as_ref(),
        rules.as_ref(),
    );
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .env(MARKER, &spec.marker)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: the closure runs between fork and exec and calls only async-signal-safe system calls
    // (signal-safety(7)); it allocates nothing and touches no lock. The descriptors that it names are open until
    // `spawn` has returned: their owners live in this function.
    unsafe {
        command.pre_exec(move || entry.enter());
    }
    let child = command.spawn().map_err(|source| LaunchError::Exec {
        program: spec.program.clone(),
        source,
    })?;
    drop((theirs, their_flight, entrance, rules));
    watched(child, ours, flight, cgroup)
}

fn watched(
    mut child: Child,
    channel: OwnedFd,
    flight: FlightRecorder,
    cgroup: Option<Cgroup>,
) -> Result<Launched, LaunchError> {
    match open_pidfd(&child) {
        Ok((pid, pidfd)) => Ok(Launched {
            child,
            pid,
            pidfd,
            channel,
            flight,
            cgroup,
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
    let theirs = above_reserved(theirs.as_fd())?;
    Ok((ours, theirs))
}

/// A descriptor of the child must not sit where `dup2` would put it, or another one: dup2 of a descriptor onto itself
/// would leave it close-on-exec.
fn above_reserved(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, FLIGHT_FD + 1)?)
}

fn open_pidfd(child: &Child) -> io::Result<(Pid, OwnedFd)> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok((pid, pidfd_open(pid, PidfdFlags::NONBLOCK)?))
}

/// What the child does before exec, with everything that this needs made ready by the parent.
struct Entry {
    parent: libc::pid_t,
    channel: RawFd,
    flight: RawFd,
    entrance: Option<RawFd>,
    rules: Option<RawFd>,
    nice: libc::c_int,
    processors: Option<libc::cpu_set_t>,
    open_files: libc::rlimit,
    data: Option<libc::rlimit>,
}

impl Entry {
    fn new(
        spec: &LaunchSpec,
        channel: BorrowedFd<'_>,
        flight: BorrowedFd<'_>,
        entrance: Option<&File>,
        rules: Option<&OwnedFd>,
    ) -> Self {
        let share = &spec.share;
        Self {
            parent: rustix::process::getpid().as_raw_nonzero().get(),
            channel: channel.as_raw_fd(),
            flight: flight.as_raw_fd(),
            entrance: entrance.map(AsRawFd::as_raw_fd),
            rules: rules.map(AsRawFd::as_raw_fd),
            nice: share.nice.into(),
            processors: processor_set(&share.processors),
            open_files: limit(share.open_files.min(own(Resource::Nofile))),
            data: share
                .memory_bytes
                .map(|bytes| limit(bytes.min(own(Resource::Data)))),
        }
    }

    fn enter(&self) -> io::Result<()> {
        let no_core = limit(0);
        // SAFETY: plain system calls with valid arguments; what they point to lives in `self` or above. `close_range`
        // with CLOSE_RANGE_CLOEXEC only sets a flag, so the pipe through which std reports a failed exec stays open
        // until exec. Descriptors 3 and 4 are reserved in the parent (`Spawner::start`), so dup2 replaces nothing that
        // std or this function still needs.
        unsafe {
            check(libc::setsid())?;
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            if libc::getppid() != self.parent {
                libc::_exit(127);
            }
            if let Some(entrance) = self.entrance {
                // "0" stands for whoever writes it.
                check(libc::write(entrance, b"0".as_ptr().cast(), 1) as libc::c_int)?;
            }
            if self.nice > 0 {
                check(libc::setpriority(libc::PRIO_PROCESS, 0, self.nice))?;
            }
            if let Some(processors) = &self.processors {
                let bytes = size_of::<libc::cpu_set_t>();
                check(libc::sched_setaffinity(0, bytes, processors))?;
            }
            check(libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core))?;
            check(libc::setrlimit(
                libc::RLIMIT_NOFILE,
                &raw const self.open_files,
            ))?;
            if let Some(data) = &self.data {
                check(libc::setrlimit(libc::RLIMIT_DATA, data))?;
            }
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            if let Some(rules) = self.rules {
                let no_flags: libc::c_uint = 0;
                check(
                    libc::syscall(libc::SYS_landlock_restrict_self, rules, no_flags) as libc::c_int,
                )?;
            }
            check(libc::dup2(self.channel, CHANNEL_FD))?;
            check(libc::dup2(self.flight, FLIGHT_FD))?;
            let first = FLIGHT_FD as libc::c_uint + 1;
            check(libc::close_range(
                first,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
            ))
        }
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The hard limit of this process; a child cannot have more.
fn own(resource: Resource) -> u64 {
    getrlimit(resource).maximum.unwrap_or(u64::MAX)
}

const fn limit(wanted: u64) -> libc::rlimit {
    libc::rlimit {
        rlim_cur: wanted,
        rlim_max: wanted,
    }
}

fn processor_set(processors: &[usize]) -> Option<libc::cpu_set_t> {
    if processors.is_empty() {
        return None;
    }
    // SAFETY: a cpu_set_t is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &processor in processors {
        if processor < libc::CPU_SETSIZE as usize {
            // SAFETY: the processor is within the set, as was just checked.
            unsafe { libc::CPU_SET(processor, &mut set) };
        }
    }
    Some(set)
}
