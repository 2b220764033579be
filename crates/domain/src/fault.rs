//! How workers go wrong. One closed list: metrics, logs and the runbook use these names.

use std::fmt;

/// The class of a fault, decided where it was seen (`process` or the worker itself).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultClass {
    /// One attempt failed; the worker lives.
    Soft,
    /// Memory ran out; the worker is not trusted any more.
    Oom,
    /// The device itself reported an error that outlives the attempt.
    DeviceFatal,
    /// The process ended by a signal or a status nobody asked for.
    Crash,
    /// No sign of progress within the deadline.
    Hang,
    /// A message that cannot be: wrong format, wrong order, wrong attempt, wrong size.
    Desync,
    /// The worker never became ready.
    BootFailed,
}

impl FaultClass {
    /// Every class, in a fixed order.
    pub const ALL: [Self; 7] = [
        Self::Soft,
        Self::Oom,
        Self::DeviceFatal,
        Self::Crash,
        Self::Hang,
        Self::Desync,
        Self::BootFailed,
    ];

    /// The name in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Oom => "oom",
            Self::DeviceFatal => "device_fatal",
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Desync => "desync",
            Self::BootFailed => "boot_failed",
        }
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
