//! How a process gives up its rights, once it has all that it needs: for a child that reads what strangers send.
//!
//! Afterwards it can read from its standard input, write to its standard output and error, have memory up to a limit,
//! and end. Nothing gives a right back. Four layers, each of which holds without the others:
//!
//! 1. `PR_SET_NO_NEW_PRIVS` (prctl(2)): no program that it could execute would have more rights
//! 2. no right of landlock(7): no file by its path, no TCP port, no signal and no abstract socket to the outside
//! 3. limits (setrlimit(2)): no further descriptor, no byte in a file, no process, no core dump, so much memory and time
//! 4. a list of system calls (seccomp(2)), and of the arguments that they may have
//!
//! A call that is not on the list ends the process. To answer it with an error would let it go on, and a process that
//! tries what it has no use for is either taken over or not the program that the list was made for: neither is worth
//! another instruction, and its parent sees `SIGSYS`.
//!
//! An old kernel, or one that was built without them, lacks the second or the fourth layer; the others hold then.

use crate::sandbox;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use rustix::process::{Resource, Rlimit, getpid, getrlimit, setrlimit};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;
use std::io;

/// The newest version whose rights are known here.
const KNOWN: ABI = ABI::V6;

/// Calls of which any use is harmless: memory up to the limit, waiting, ending, the clock, chance.
const FREE_CALLS: [i64; 16] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
];

/// The layers that not every kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// No right of landlock(7).
    pub landlock: bool,
    /// A list of system calls, seccomp(2).
    pub seccomp: bool,
}

/// A layer that the kernel has could not be laid.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// A limit was not accepted.
    #[error("limit {resource:?}: {source}")]
    Limit {
        /// Which one.
        resource: Resource,
        /// What the kernel says.
        source: io::Error,
    },
    /// The process may still gain rights.
    #[error("no_new_privs: {0}")]
    NoNewPrivileges(io::Error),
    /// Landlock refused.
    #[error("landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// Seccomp refused.
    #[error("seccomp: {0}")]
    Seccomp(#[from] seccompiler::Error),
}

impl Layers {
    /// What this kernel has.
    #[must_use]
    pub fn of_kernel() -> Self {
        Self {
            landlock: sandbox::kernel_version().is_some(),
            seccomp: kernel_filters_calls(),
        }
    }
}

/// Gives up every right of this process but the three standard descriptors, `memory_bytes` of address space and
/// `cpu_seconds` of processor time. To be called before a second thread is started: other threads keep what they have.
///
/// # Errors
/// When a layer that this kernel has could not be laid; those before it hold. Without the error, the answer says
/// which of the optional ones hold.
pub fn give_up_rights(memory_bytes: u64, cpu_seconds: u64) -> Result<Layers, RightsError> {
    let layers = Layers::of_kernel();
    Ok(Layers {
        // It needs a descriptor, which the limits forbid.
        landlock: give_up_paths(layers)?,
        seccomp: {
            give_up_resources(memory_bytes, cpu_seconds)?;
            give_up_calls(layers)?
        },
    })
}

fn give_up_paths(layers: Layers) -> Result<bool, RightsError> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| RightsError::NoNewPrivileges(errno.into()))?;
    if !layers.landlock {
        return Ok(false);
    }
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

fn give_up_resources(memory_bytes: u64, cpu_seconds: u64) -> Result<(), RightsError> {
    let limits = [
        (Resource::As, memory_bytes),
        (Resource::Data, memory_bytes),
        (Resource::Cpu, cpu_seconds),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        // Root is exempt from this one.
        (Resource::Nproc, 0),
        (Resource::Nofile, 0),
    ];
    for (resource, wanted) in limits {
        let most = wanted.min(getrlimit(resource).maximum.unwrap_or(u64::MAX));
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit).map_err(|errno| RightsError::Limit {
            resource,
            source: errno.into(),
        })?;
    }
    Ok(())
}

fn give_up_calls(layers: Layers) -> Result<bool, RightsError> {
    if layers.seccomp {
        let program = program().map_err(seccompiler::Error::Backend)?;
        seccompiler::apply_filter(&program)?;
    }
    Ok(layers.seccomp)
}

/// Whether the kernel can filter system calls, and end the process that makes another one.
fn kernel_filters_calls() -> bool {
    let action = libc::SECCOMP_RET_KILL_PROCESS;
    let no_flags: libc::c_uint = 0;
    // SAFETY: with this operation seccomp(2) reads one number, which lives on the stack, and changes nothing.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            no_flags,
            &raw const action,
        )
    };
    answer == 0
}

fn program() -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(
        allowed_calls()?,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

fn allowed_calls() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let exactly = |argument, value: i32| condition(argument, SeccompCmpOp::Eq, value);
    let without = |argument, flag: i32| condition(argument, masked(flag), 0);
    let with = |argument, flag: i32| condition(argument, masked(flag), flag);
    let own_pid = getpid().as_raw_nonzero().get();
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> =
        FREE_CALLS.iter().map(|call| (*call, Vec::new())).collect();
    calls.extend([
        (
            libc::SYS_read,
            vec![rule([exactly(0, libc::STDIN_FILENO)])?],
        ),
        (
            libc::SYS_write,
            vec![
                rule([exactly(0, libc::STDOUT_FILENO)])?,
                rule([exactly(0, libc::STDERR_FILENO)])?,
            ],
        ),
        (
            libc::SYS_mmap,
            vec![rule([
                without(2, libc::PROT_EXEC),
                with(3, libc::MAP_ANONYMOUS),
            ])?],
        ),
        (
            libc::SYS_mprotect,
            vec![rule([without(2, libc::PROT_EXEC)])?],
        ),
        // abort(3)
        (libc::SYS_tgkill, vec![rule([exactly(0, own_pid)])?]),
    ]);
    Ok(calls)
}

fn masked(flag: i32) -> SeccompCmpOp {
    SeccompCmpOp::MaskedEq(flag.unsigned_abs().into())
}

/// Of an argument of 32 bit.
fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: i32,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        operator,
        value.unsigned_abs().into(),
    )
}

/// All of the conditions hold.
fn rule<const N: usize>(
    conditions: [Result<SeccompCondition, BackendError>; N],
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    //! Each trial runs in a process of its own: this test program again, with the one test that makes the trial.

    use super::*;
    use rustix::process::{Signal, kill_process};
    use std::fs::File;
    use std::io::Write;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixDatagram;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus, Stdio};

    const MEMORY_BYTES: u64 = 512 * 1024 * 1024;
    const CPU_SECONDS: u64 = 1;
    const TRIAL: &str = "REEL_TEST_TRIAL";
    const LAYERS: &str = "REEL_TEST_LAYERS";
    /// Exit codes of a trial; an error of the system is its number, which is less.
    const DONE: i32 = 200;
    const UNNUMBERED: i32 = 201;

    fn run(layers: &str, trial: &str) -> ExitStatus {
        Command::new(std::env::current_exe().unwrap())
            .args(["rights::tests::a_trial", "--exact", "--ignored"])
            .arg("--nocapture")
            .env(LAYERS, layers)
            .env(TRIAL, trial)
            // It can be read as well as written to.
            .stdout(
                File::options()
                    .read(true)
                    .write(true)
                    .open("/dev/null")
                    .unwrap(),
            )
            .stderr(Stdio::null())
            .status()
            .unwrap()
    }

    #[test]
    #[ignore = "makes the trial that the other tests ask for"]
    fn a_trial() {
        let (Ok(layers), Ok(trial)) = (std::env::var(LAYERS), std::env::var(TRIAL)) else {
            return;
        };
        let parent = rustix::process::getppid().unwrap();
        match layers.as_str() {
            "all" => drop(give_up_rights(MEMORY_BYTES, CPU_SECONDS).unwrap()),
            "limits" => give_up_resources(MEMORY_BYTES, CPU_SECONDS).unwrap(),
            "landlock" => assert!(give_up_paths(Layers::of_kernel()).unwrap()),
            "none" => {}
            other => panic!("no layers {other}"),
        }
        let done = match trial.as_str() {
            "open" => File::open("/dev/null").map(drop),
            "write" => File::create("/dev/null").map(drop),
            "listen" => TcpListener::bind("127.0.0.1:0").map(drop),
            "udp" => UdpSocket::bind("127.0.0.1:0").map(drop),
            "unix" => UnixDatagram::unbound().map(drop),
            "spawn" => Command::new("/bin/true").status().map(drop),
            "thread" => std::thread::Builder::new().spawn(|| {}).map(drop),
            "signal" => kill_process(parent, Signal::CONT).map_err(Into::into),
            "fork" => fork(),
            "code" => map(libc::PROT_READ | libc::PROT_EXEC, 4096),
            "memory" => map(libc::PROT_READ | libc::PROT_WRITE, MEMORY_BYTES),
            "read an answer" => rustix::io::read(std::io::stdout(), &mut [0_u8])
                .map(drop)
                .map_err(Into::into),
            "work" => {
                let numbers: Vec<u8> = (0..32 << 20).map(|n: u32| n as u8).collect();
                let again = std::hint::black_box(numbers.clone());
                assert_eq!(numbers, again);
                std::io::stdout().write_all(b"x")
            }
            "abort" => std::process::abort(),
            "loop" => loop {
                std::hint::spin_loop();
            },
            other => panic!("no trial {other}"),
        };
        let code = match done {
            Ok(()) => DONE,
            Err(error) => error.raw_os_error().unwrap_or(UNNUMBERED),
        };
        std::process::exit(code);
    }

    fn fork() -> io::Result<()> {
        // SAFETY: the child calls nothing but _exit.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: as above.
            0 => unsafe { libc::_exit(0) },
            _ => Ok(()),
        }
    }

    fn map(protection: i32, bytes: u64) -> io::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let anywhere = std::ptr::null_mut();
        let length = usize::try_from(bytes).unwrap();
        // SAFETY: new memory, which nobody uses.
        match unsafe { libc::mmap(anywhere, length, protection, flags, -1, 0) } {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    const FORBIDDEN: [&str; 11] = [
        "open",
        "write",
        "listen",
        "udp",
        "unix",
        "spawn",
        "thread",
        "signal",
        "fork",
        "code",
        "read an answer",
    ];

    #[test]
    fn a_call_that_is_not_on_the_list_ends_the_process() {
        if !Layers::of_kernel().seccomp {
            eprintln!("no seccomp here");
            return;
        }
        for trial in FORBIDDEN {
            let with_rights = run("none", trial);
            assert_eq!(with_rights.code(), Some(DONE), "{trial}: {with_rights}");
            let without = run("all", trial);
            assert_eq!(without.signal(), Some(libc::SIGSYS), "{trial}: {without}");
        }
    }

    #[test]
    fn what_a_decoder_does_goes_on() {
        let status = run("all", "work");
        assert_eq!(status.code(), Some(DONE), "{status}");
    }

    #[test]
    fn who_aborts_is_seen_to_have_aborted() {
        let status = run("all", "abort");
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
    }

    #[test]
    fn memory_beyond_the_limit_is_refused() {
        let status = run("all", "memory");
        assert_eq!(status.code(), Some(libc::ENOMEM), "{status}");
    }

    #[test]
    fn time_beyond_the_limit_ends_the_process() {
        let status = run("all", "loop");
        let signal = status.signal();
        assert!(
            [Some(libc::SIGXCPU), Some(libc::SIGKILL)].contains(&signal),
            "{status}"
        );
    }

    #[test]
    fn limits_alone_allow_no_descriptor() {
        for trial in ["open", "listen", "udp", "unix"] {
            let status = run("limits", trial);
            assert_eq!(status.code(), Some(libc::EMFILE), "{trial}: {status}");
        }
    }

    #[test]
    fn landlock_alone_allows_no_path_no_port_and_no_signal() {
        if !Layers::of_kernel().landlock {
            eprintln!("no Landlock here");
            return;
        }
        for trial in ["open", "write", "spawn"] {
            let status = run("landlock", trial);
            assert_eq!(status.code(), Some(libc::EACCES), "{trial}: {status}");
        }
        // Ports are known since the fourth version, scopes since the sixth.
        let version = sandbox::kernel_version().unwrap_or(0);
        if version >= 4 {
            assert_eq!(run("landlock", "listen").code(), Some(libc::EACCES));
        }
        if version >= 6 {
            assert_eq!(run("landlock", "signal").code(), Some(libc::EPERM));
        }
    }
}
