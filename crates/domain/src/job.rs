//! Jobs: accepted, durable work.
//!
//! ```text
//! queued -> starting -> in_progress -> encoding -> completed
//!    ^          |            |             |
//!    +----------+------------+             +----> failed        (from any state that is not terminal)
//!      a worker died; attempt + 1          +----> cancelled
//! ```

use crate::client::{CallbackUrl, TraceParent};
use crate::ids::JobId;
use crate::mode::Mode;
use crate::model::BundleKey;
use crate::origin::Origin;
use crate::sampling::Sampling;
use crate::tenant::Sharing;
use std::fmt;
use std::str::FromStr;

/// One accepted piece of work. Immutable: what changes about it is its [`JobStatus`].
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its identity.
    pub id: JobId,
    /// The bundle that can serve it.
    pub bundle: BundleKey,
    /// What it starts from.
    pub mode: Mode,
    /// How many frames are given (0 for t2v, 1 for i2v); their pixels lie beside the journal.
    pub conditioning_frames: u32,
    /// What decides the pixels.
    pub sampling: Sampling,
    /// How it shares the pool with others.
    pub sharing: Sharing,
    /// The earlier job that it comes from.
    pub origin: Option<Origin>,
    /// Where its end is told.
    pub callback: Option<CallbackUrl>,
    /// The trace that its request belongs to.
    pub trace: Option<TraceParent>,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
}

impl Job {
    /// Frames of its video: of a job that extends another one, both together.
    #[must_use]
    pub const fn video_frames(&self) -> u32 {
        let own = self.bundle.shape.frames();
        match self.origin {
            Some(Origin::Extension { frames, .. }) => {
                frames.saturating_add(own.saturating_sub(self.conditioning_frames))
            }
            _ => own,
        }
    }
}

/// Where the time of a job went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Durations {
    /// From its acceptance until it was given to a worker, without the start of that worker.
    pub queue_ms: u64,
    /// Waiting for its worker to start.
    pub spawn_ms: u64,
    /// Prompt and given frames to embeddings and latents.
    pub text_ms: u64,
    /// All denoising steps.
    pub denoise_ms: u64,
    /// Latents to pixels.
    pub decode_ms: u64,
    /// Pixels to a published video.
    pub encode_ms: u64,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobStatus {
    /// Waits for a slot.
    Queued,
    /// Given to a worker that has not said `Started` yet.
    Starting,
    /// A worker is generating.
    InProgress,
    /// All frames exist; the video is being encoded.
    Encoding,
    /// The video is published.
    Completed,
    /// It ended with an error.
    Failed,
    /// The client cancelled it.
    Cancelled,
    /// Its video was removed when its time was up.
    Expired,
}

impl JobStatus {
    /// Every status, in the order of a job's life.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Starting,
        Self::InProgress,
        Self::Encoding,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Nothing will happen to the job any more (but expiry).
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Expired
        )
    }

    /// The name in the journal, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::InProgress => "in_progress",
            Self::Encoding => "encoding",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a job status")]
pub struct JobStatusError(String);

impl FromStr for JobStatus {
    type Err = JobStatusError;

    fn from_str(text: &str) -> Result<Self, JobStatusError> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| JobStatusError(text.into()))
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its video is published.
    Completed,
    /// It failed for good.
    Failed(Failure),
    /// It was cancelled.
    Cancelled,
}

impl Outcome {
    /// The status that this outcome leaves behind.
    #[must_use]
    pub const fn status(&self) -> JobStatus {
        match self {
            Self::Completed => JobStatus::Completed,
            Self::Failed(_) => JobStatus::Failed,
            Self::Cancelled => JobStatus::Cancelled,
        }
    }
}

/// Why a job failed, for its client and its operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Failure {
    /// A stable name to branch on.
    pub code: FailureCode,
    /// One sentence for a person. Never holds paths or prompts.
    pub message: String,
}

/// Stable names of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureCode {
    /// The engine could not generate this request.
    GenerationFailed,
    /// Workers died under it until its retry budget was spent.
    WorkerLost,
    /// The frames exist, but no video could be made or stored.
    EncodingFailed,
    /// No device can serve its shape any more.
    ShapeUnavailable,
    /// Workers died under this very request too often; it is not tried again.
    Quarantined,
    /// It had not begun when its client's time was up.
    DeadlineExceeded,
    /// Its video found no space on the server's disk.
    StorageFull,
}

impl FailureCode {
    /// Every code, in a fixed order.
    pub const ALL: [Self; 7] = [
        Self::GenerationFailed,
        Self::WorkerLost,
        Self::EncodingFailed,
        Self::ShapeUnavailable,
        Self::Quarantined,
        Self::DeadlineExceeded,
        Self::StorageFull,
    ];

    /// The name on the wire and in the journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GenerationFailed => "generation_failed",
            Self::WorkerLost => "worker_lost",
            Self::EncodingFailed => "encoding_failed",
            Self::ShapeUnavailable => "shape_unavailable",
            Self::Quarantined => "quarantined",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::StorageFull => "storage_full",
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FailureCode {
    type Err = JobStatusError;

    fn from_str(text: &str) -> Result<Self, JobStatusError> {
        Self::ALL
            .into_iter()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| JobStatusError(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_survives_its_name() {
        for status in JobStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("done".parse::<JobStatus>().is_err());
    }

    #[test]
    fn outcomes_are_terminal() {
        let failure = Failure {
            code: FailureCode::WorkerLost,
            message: String::new(),
        };
        for outcome in [
            Outcome::Completed,
            Outcome::Failed(failure),
            Outcome::Cancelled,
        ] {
            assert!(outcome.status().is_terminal());
        }
    }
}
