//! What a worker may touch: Landlock (landlock(7)).
//!
//! It may write under its own directories and to devices, and nowhere else; it may neither bind nor connect TCP
//! sockets unless that is allowed; it may signal nobody outside its sandbox. It may read and execute: it loads its
//! libraries and weights.
//!
//! The rules are made by the parent, and the child enforces them on itself between fork and exec, where nothing may
//! be allocated.

use landlock::{
    ABI, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    Scope, path_beneath_rules,
};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The newest version whose rules are known here; an older kernel enforces what it can.
const KNOWN: ABI = ABI::V6;
/// Devices are written to as well: GPUs, `/dev/null`, shared memory.
const DEVICES: &str = "/dev";

/// What a worker may do beside reading.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sandbox {
    /// Directories under which it may write. What is not there yet cannot be allowed.
    pub writable: Vec<PathBuf>,
    /// It may bind and connect TCP sockets.
    pub network: bool,
}

/// The rules could not be made.
#[derive(Debug, thiserror::Error)]
#[error("sandbox: {0}")]
pub struct SandboxError(#[from] landlock::RulesetError);

/// The version of Landlock that the kernel has; `None`: it has none, or it is switched off.
#[must_use]
pub fn kernel_version() -> Option<u32> {
    const CREATE_RULESET_VERSION: libc::c_uint = 1;
    let no_attributes = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag landlock_create_ruleset(2) takes no attributes, touches no memory, makes nothing and
    // returns a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            no_attributes,
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

impl Sandbox {
    /// The rules as a descriptor; `None`: the kernel cannot enforce any of them.
    pub(crate) fn rules(&self) -> Result<Option<OwnedFd>, SandboxError> {
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_write(KNOWN))?
            .scope(Scope::Signal)?;
        if !self.network {
            rules = rules.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
        }
        let to_devices = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
        let created = rules
            .create()?
            .add_rules(path_beneath_rules(
                &self.writable,
                AccessFs::from_write(KNOWN),
            ))?
            .add_rules(path_beneath_rules([DEVICES], to_devices))?
            .add_rules(path_beneath_rules(
                ["/dev/shm"],
                AccessFs::from_write(KNOWN),
            ))?;
        Ok(created.into())
    }
}
