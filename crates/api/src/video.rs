//! The video object: OpenAI's fields, typed as its SDKs type them, and Reel's own.

use crate::length::seconds_text;
use crate::offer::Size;
use crate::openapi::names::{
    DeletedWord, EndCode, ListWord, ModeName, Stage, StatusDetail, VideoWord,
};
use reel_domain::{Durations, Failure, Job, JobStatus, Origin};
use serde::Serialize;
use utoipa::ToSchema;

/// The four statuses that OpenAI's clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VideoStatus {
    /// Waits, for its turn or for its worker to start.
    Queued,
    /// A worker has it, or its frames are being encoded.
    InProgress,
    /// The content can be fetched.
    Completed,
    /// It ended without a video; `error.code` says how.
    Failed,
}

impl From<JobStatus> for VideoStatus {
    fn from(status: JobStatus) -> Self {
        match status {
            JobStatus::Queued | JobStatus::Starting => Self::Queued,
            JobStatus::InProgress | JobStatus::Encoding => Self::InProgress,
            JobStatus::Completed => Self::Completed,
            JobStatus::Failed | JobStatus::Cancelled | JobStatus::Expired => Self::Failed,
        }
    }
}

/// Why there is no video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct VideoError {
    /// A stable name: a failure code, `cancelled` or `expired`.
    #[schema(value_type = EndCode)]
    pub code: &'static str,
    /// One sentence for a person.
    pub message: String,
}

impl VideoError {
    /// What a client reads about a job that has this status.
    #[must_use]
    pub fn of(status: JobStatus, failure: Option<&Failure>) -> Option<Self> {
        let message = match status {
            JobStatus::Failed => return Some(Self::failed(failure)),
            JobStatus::Cancelled => "the job was cancelled",
            JobStatus::Expired => "the video was removed because its time was up",
            _ => return None,
        };
        Some(Self {
            code: status.as_str(),
            message: message.into(),
        })
    }

    fn failed(failure: Option<&Failure>) -> Self {
        match failure {
            Some(Failure { code, message }) => Self {
                code: code.as_str(),
                message: message.clone(),
            },
            None => Self {
                code: "generation_failed",
                message: "the job failed".into(),
            },
        }
    }
}

/// Where the time of a job went, in seconds. What has not happened yet is 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Timings {
    /// From its acceptance until a worker got it, without that worker's start.
    pub queue: f64,
    /// Waiting for its worker to start.
    pub spawn: f64,
    /// Prompt and given frames to embeddings and latents.
    pub text: f64,
    /// All denoising steps.
    pub denoise: f64,
    /// Latents to pixels.
    pub decode: f64,
    /// Pixels to the published video.
    pub encode: f64,
}

impl From<Durations> for Timings {
    fn from(durations: Durations) -> Self {
        Self {
            queue: seconds(durations.queue_ms),
            spawn: seconds(durations.spawn_ms),
            text: seconds(durations.text_ms),
            denoise: seconds(durations.denoise_ms),
            decode: seconds(durations.decode_ms),
            encode: seconds(durations.encode_ms),
        }
    }
}

/// When a job will be done, in seconds from now, as measured on the jobs before it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Eta {
    /// As likely before as after.
    pub p50: f64,
    /// Nine times of ten before.
    pub p90: f64,
}

impl Eta {
    /// From milliseconds.
    #[must_use]
    pub fn from_ms(p50_ms: u64, p90_ms: u64) -> Self {
        Self {
            p50: seconds(p50_ms),
            p90: seconds(p90_ms),
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// A video job, as clients see it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct VideoObject {
    /// `video_` and 32 hexadecimal digits.
    pub id: String,
    /// Always `video`.
    #[schema(value_type = VideoWord)]
    pub object: &'static str,
    /// The model's name.
    pub model: String,
    /// One of OpenAI's four.
    pub status: VideoStatus,
    /// Per cent, 0 to 100.
    pub progress: u8,
    /// Seconds since the Unix epoch.
    pub created_at: u64,
    /// Seconds since the Unix epoch, once it is completed.
    pub completed_at: Option<u64>,
    /// When the content goes; null: never.
    pub expires_at: Option<u64>,
    /// What to show.
    pub prompt: String,
    /// `1280x720`.
    pub size: String,
    /// The duration, as a string.
    pub seconds: String,
    /// The job that this one is a remix of.
    pub remixed_from_video_id: Option<String>,
    /// Why it failed.
    pub error: Option<VideoError>,
    /// Extension: the native state (`queued`, `starting`, `in_progress`, `encoding`, `completed`, `failed`,
    /// `cancelled`, `expired`).
    #[schema(value_type = StatusDetail)]
    pub status_detail: &'static str,
    /// Extension: the shape's key, `1280x720@121f`.
    pub shape: String,
    /// Extension: the job whose video this one goes on with, and begins with.
    pub extended_from_video_id: Option<String>,
    /// Extension: `t2v`, `i2v` or `extend`.
    #[schema(value_type = ModeName)]
    pub mode: &'static str,
    /// Extension: frames per second.
    pub fps: u32,
    /// Extension: number of frames; of an extension, with those that it goes on from.
    pub num_frames: u32,
    /// Extension: the seed, the client's or the one that was drawn.
    pub seed: u64,
    /// Extension: denoising steps in all.
    pub steps: u32,
    /// Extension: denoising steps done.
    pub step: u32,
    /// Extension: what the worker is doing (`encode`, `denoise`, `decode`), or `paused` for more urgent work.
    #[schema(value_type = Option<Stage>)]
    pub stage: Option<&'static str>,
    /// Extension: jobs before this one, while it waits.
    pub queue_position: Option<usize>,
    /// Extension: when it will be done; null: too little was measured yet, or it has ended.
    pub eta: Option<Eta>,
    /// Extension: the device that works on it, or did.
    pub device: Option<String>,
    /// Extension: tries so far.
    pub attempts: u32,
    /// Extension: where the time went.
    pub timings: Timings,
    /// Extension: grows with every change of this job, over restarts too.
    pub sequence: u64,
    /// Extension: where the content can be fetched without a key for a while, once it is completed.
    pub download_url: Option<String>,
}

/// What changes about a job, put together by whoever knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Where it stands.
    pub status: JobStatus,
    /// Per cent, 0 to 100.
    pub percent: u8,
    /// The latest attempt.
    pub attempts: u32,
    /// When it ended, in milliseconds since the Unix epoch.
    pub finished_at_ms: Option<u64>,
    /// When its video is removed, or was, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What the worker is doing.
    pub stage: Option<&'static str>,
    /// Denoising steps done.
    pub step: u32,
    /// Jobs before it.
    pub queue_position: Option<usize>,
    /// When it will be done.
    pub eta: Option<Eta>,
    /// The device that works on it, or did.
    pub device: Option<String>,
    /// Where its time went.
    pub durations: Durations,
    /// The number of its latest change.
    pub sequence: u64,
    /// Where its content can be fetched without a key.
    pub download_url: Option<String>,
}

impl VideoObject {
    /// The object of a job.
    #[must_use]
    pub fn new(job: &Job, progress: Progress) -> Self {
        let (shape, sampling) = (job.bundle.shape, &job.sampling);
        let completed = progress.status == JobStatus::Completed;
        let finished_at_ms = progress.finished_at_ms.filter(|_| completed);
        Self {
            id: job.id.to_string(),
            object: "video",
            model: job.bundle.model.to_string(),
            status: progress.status.into(),
            progress: progress.percent,
            created_at: job.created_at_ms / 1_000,
            completed_at: finished_at_ms.map(|at_ms| at_ms / 1_000),
            expires_at: progress.expires_at_ms.map(|at_ms| at_ms / 1_000),
            prompt: sampling.prompt.as_str().to_owned(),
            size: Size::from(shape).to_string(),
            seconds: seconds_text(job.video_frames(), sampling.fps),
            remixed_from_video_id: remix_of(job.origin),
            extended_from_video_id: extension_of(job.origin),
            error: VideoError::of(progress.status, progress.failure.as_ref()),
            status_detail: progress.status.as_str(),
            shape: shape.to_string(),
            mode: job.mode.as_str(),
            fps: sampling.fps.value(),
            num_frames: job.video_frames(),
            seed: sampling.seed.value(),
            steps: sampling.steps.value(),
            step: progress.step,
            stage: progress.stage,
            queue_position: progress.queue_position,
            eta: progress.eta,
            device: progress.device,
            attempts: progress.attempts,
            timings: progress.durations.into(),
            sequence: progress.sequence,
            download_url: progress.download_url.filter(|_| completed),
        }
    }
}

fn remix_of(origin: Option<Origin>) -> Option<String> {
    match origin {
        Some(Origin::Remix { of }) => Some(of.to_string()),
        _ => None,
    }
}

fn extension_of(origin: Option<Origin>) -> Option<String> {
    match origin {
        Some(Origin::Extension { of, .. }) => Some(of.to_string()),
        _ => None,
    }
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct VideoList {
    /// Always `list`.
    #[schema(value_type = ListWord)]
    pub object: &'static str,
    /// The jobs.
    pub data: Vec<VideoObject>,
    /// The id of the first one.
    pub first_id: Option<String>,
    /// The id of the last one: `after` of the next page.
    pub last_id: Option<String>,
    /// There is a next page.
    pub has_more: bool,
}

impl VideoList {
    /// A page.
    #[must_use]
    pub fn new(data: Vec<VideoObject>, has_more: bool) -> Self {
        Self {
            object: "list",
            first_id: data.first().map(|video| video.id.clone()),
            last_id: data.last().map(|video| video.id.clone()),
            data,
            has_more,
        }
    }
}

/// In a stream of all jobs: what was missed, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MissedEvents {
    /// Changes before this number are not kept any more.
    pub oldest: u64,
    /// One sentence for a person.
    pub message: &'static str,
}

/// The answer to a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeletedVideo {
    /// What was deleted.
    pub id: String,
    /// Always true.
    pub deleted: bool,
    /// Always `video.deleted`.
    #[schema(value_type = DeletedWord)]
    pub object: &'static str,
}

impl DeletedVideo {
    /// The answer for a job that is gone.
    #[must_use]
    pub const fn new(id: String) -> Self {
        Self {
            id,
            deleted: true,
            object: "video.deleted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reel_domain::FailureCode;

    #[test]
    fn every_native_state_has_one_of_openais_four() {
        let mapped = JobStatus::ALL.map(VideoStatus::from);
        use VideoStatus::{Completed, Failed, InProgress, Queued};
        let expected = [
            Queued, Queued, InProgress, InProgress, Completed, Failed, Failed, Failed,
        ];
        assert_eq!(mapped, expected);
    }

    #[test]
    fn whatever_shows_as_failed_has_an_error_and_nothing_else_has() {
        for status in JobStatus::ALL {
            let failed = VideoStatus::from(status) == VideoStatus::Failed;
            assert_eq!(VideoError::of(status, None).is_some(), failed, "{status}");
        }
    }

    #[test]
    fn a_cancelled_job_is_told_from_a_failed_one_by_its_code() {
        let failure = Failure {
            code: FailureCode::WorkerLost,
            message: "gone".into(),
        };
        let code = |status| VideoError::of(status, Some(&failure)).unwrap().code;
        assert_eq!(code(JobStatus::Cancelled), "cancelled");
        assert_eq!(code(JobStatus::Failed), "worker_lost");
    }
}
