//! How workers go wrong. One closed list: metrics, logs, incidents and the runbook use these names.
//!
//! A [`Fault`] is what was seen, with its details; its [`FaultClass`] is what rules depend on.

use std::fmt;
use std::str::FromStr;

/// The class of a fault.
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
    /// No sign of progress, or of life, within the deadline.
    Hang,
    /// A message that cannot be: wrong format, wrong order, wrong attempt, wrong size.
    Desync,
    /// The worker never became ready.
    BootFailed,
    /// The worker is gone, and its memory on the device is not.
    StuckDevice,
}

impl FaultClass {
    /// Every class, in a fixed order.
    pub const ALL: [Self; 8] = [
        Self::Soft,
        Self::Oom,
        Self::DeviceFatal,
        Self::Crash,
        Self::Hang,
        Self::Desync,
        Self::BootFailed,
        Self::StuckDevice,
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
            Self::StuckDevice => "stuck_device",
        }
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of a generation that an attempt is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Encoding the prompt and the given frames.
    Encode,
    /// Denoising.
    Denoise,
    /// From latents to pixels.
    Decode,
}

impl Stage {
    /// Every stage, in the order of a generation.
    pub const ALL: [Self; 3] = [Self::Encode, Self::Denoise, Self::Decode];

    /// The name in metrics and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Denoise => "denoise",
            Self::Decode => "decode",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Stage {
    type Err = FaultNameError;

    fn from_str(text: &str) -> Result<Self, FaultNameError> {
        named(Self::ALL, Self::as_str, text)
    }
}

/// The part of a start that a worker is in, or failed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BootPhase {
    /// From fork to its first message: the program and its libraries.
    Exec,
    /// The bundle: weights, packages, tokenizer.
    Load,
    /// The recorded computation that it has to reproduce.
    Canary,
}

impl BootPhase {
    /// Every phase, in order.
    pub const ALL: [Self; 3] = [Self::Exec, Self::Load, Self::Canary];

    /// The name in logs and incidents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Load => "load",
            Self::Canary => "canary",
        }
    }
}

impl fmt::Display for BootPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BootPhase {
    type Err = FaultNameError;

    fn from_str(text: &str) -> Result<Self, FaultNameError> {
        named(Self::ALL, Self::as_str, text)
    }
}

/// What somebody waited for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Silence {
    /// The next step of an attempt.
    Step {
        /// The stage that it was in.
        stage: Stage,
        /// Steps of that stage that were done.
        step: u32,
    },
    /// The end of an attempt, however much it seemed to move.
    Attempt,
    /// The answer to a ping, which a thread beside the engine gives.
    Heartbeat,
    /// That a cancelled attempt left.
    Cancel,
    /// That it exited when it was asked to.
    Stop,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { stage, step } => write!(f, "in {stage} after step {step}"),
            Self::Attempt => f.write_str("an attempt took too long altogether"),
            Self::Heartbeat => f.write_str("it does not answer"),
            Self::Cancel => f.write_str("it did not let a cancelled attempt go"),
            Self::Stop => f.write_str("it did not exit when asked"),
        }
    }
}

/// How a conversation went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Breach {
    /// What came is not a message.
    Garbage,
    /// A message that cannot be at this point.
    Impossible,
    /// It does not take messages.
    Deaf,
    /// It closed the channel and lives on.
    Closed,
}

impl Breach {
    /// The name in logs and incidents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::Impossible => "impossible message",
            Self::Deaf => "takes no messages",
            Self::Closed => "closed its channel",
        }
    }
}

/// How a worker failed to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BootFailure {
    /// It took too long.
    Timeout,
    /// Its process ended.
    Exit,
    /// It said that it cannot, or something that makes no sense.
    Refusal,
}

/// A fault with its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// See [`FaultClass::Soft`].
    Soft,
    /// See [`FaultClass::Oom`].
    Oom,
    /// See [`FaultClass::DeviceFatal`].
    DeviceFatal,
    /// See [`FaultClass::Crash`].
    Crash {
        /// The signal that ended it; `None`: it exited by itself.
        signal: Option<i32>,
    },
    /// See [`FaultClass::Hang`].
    Hang(Silence),
    /// See [`FaultClass::Desync`].
    Desync(Breach),
    /// See [`FaultClass::BootFailed`].
    BootFailed {
        /// How far it got.
        phase: BootPhase,
        /// How it failed.
        how: BootFailure,
    },
    /// See [`FaultClass::StuckDevice`].
    StuckDevice,
}

impl Fault {
    /// One of each kind that differs in class or reason.
    pub const KINDS: [Self; 13] = [
        Self::Soft,
        Self::Oom,
        Self::DeviceFatal,
        Self::Crash { signal: None },
        Self::Hang(Silence::Heartbeat),
        Self::Desync(Breach::Garbage),
        Self::Desync(Breach::Impossible),
        Self::Desync(Breach::Deaf),
        Self::Desync(Breach::Closed),
        Self::BootFailed {
            phase: BootPhase::Exec,
            how: BootFailure::Timeout,
        },
        Self::BootFailed {
            phase: BootPhase::Exec,
            how: BootFailure::Exit,
        },
        Self::BootFailed {
            phase: BootPhase::Exec,
            how: BootFailure::Refusal,
        },
        Self::StuckDevice,
    ];

    /// What rules depend on.
    #[must_use]
    pub const fn class(self) -> FaultClass {
        match self {
            Self::Soft => FaultClass::Soft,
            Self::Oom => FaultClass::Oom,
            Self::DeviceFatal => FaultClass::DeviceFatal,
            Self::Crash { .. } => FaultClass::Crash,
            Self::Hang(_) => FaultClass::Hang,
            Self::Desync(_) => FaultClass::Desync,
            Self::BootFailed { .. } => FaultClass::BootFailed,
            Self::StuckDevice => FaultClass::StuckDevice,
        }
    }

    /// How it was noticed: the nine reasons of the LTX-2 shape pool (`ltx2_pool_subprocess_failure_total`), for
    /// dashboards that were made for that one, and a class's own name where that pool had none.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Oom | Self::DeviceFatal => "cuda_fault",
            Self::Crash { .. } => "gen_eof",
            Self::Hang(_) => "gen_timeout",
            Self::Desync(Breach::Garbage) => "parse_error",
            Self::Desync(Breach::Deaf) => "send_failed",
            Self::Desync(Breach::Impossible | Breach::Closed) => "desync",
            Self::BootFailed { how, .. } => match how {
                BootFailure::Timeout => "spawn_timeout",
                BootFailure::Exit => "spawn_eof",
                BootFailure::Refusal => "spawn_parse_error",
            },
            Self::Soft | Self::StuckDevice => self.class().as_str(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class();
        match self {
            Self::Crash {
                signal: Some(signal),
            } => write!(f, "{class} (signal {signal})"),
            Self::Hang(silence) => write!(f, "{class} ({silence})"),
            Self::Desync(breach) => write!(f, "{class} ({})", breach.as_str()),
            Self::BootFailed { phase, .. } => write!(f, "{class} (in {phase})"),
            _ => write!(f, "{class}"),
        }
    }
}

/// The text names nothing of the kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name here")]
pub struct FaultNameError(String);

fn named<T: Copy, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
    text: &str,
) -> Result<T, FaultNameError> {
    all.into_iter()
        .find(|candidate| name(*candidate) == text)
        .ok_or_else(|| FaultNameError(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_class_and_every_reason_of_the_shape_pool_can_be_seen() {
        let classes: BTreeSet<_> = Fault::KINDS.iter().map(|fault| fault.class()).collect();
        assert_eq!(classes, FaultClass::ALL.into_iter().collect());
        let reasons: BTreeSet<_> = Fault::KINDS.iter().map(|fault| fault.reason()).collect();
        for reason in [
            "cuda_fault",
            "spawn_timeout",
            "spawn_eof",
            "spawn_parse_error",
            "gen_timeout",
            "gen_eof",
            "desync",
            "parse_error",
            "send_failed",
        ] {
            assert!(reasons.contains(reason), "{reason}");
        }
    }

    #[test]
    fn a_fault_is_told_with_its_details() {
        let silence = Silence::Step {
            stage: Stage::Decode,
            step: 0,
        };
        assert_eq!(
            Fault::Hang(silence).to_string(),
            "hang (in decode after step 0)"
        );
        assert_eq!(
            Fault::Crash { signal: Some(11) }.to_string(),
            "crash (signal 11)"
        );
        assert_eq!(Fault::Crash { signal: None }.to_string(), "crash");
    }
}
