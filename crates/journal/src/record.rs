//! A job's row, as a value.

use reel_domain::{
    BundleKey, Durations, Failure, Fps, Guidance, Job, JobId, JobStatus, Origin, Outcome, Prompt,
    Sampling, Seed, Shape, Sharing, Steps, TenantName,
};
use rusqlite::Row;
use std::fmt::Display;
use std::str::FromStr;

/// Everything that the journal knows about a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    /// What was accepted.
    pub job: Job,
    /// Where it stands.
    pub status: JobStatus,
    /// The latest attempt; 0 before the first.
    pub attempts: u32,
    /// When the latest attempt began to generate, in milliseconds since the Unix epoch.
    pub started_at_ms: Option<u64>,
    /// When it ended, in milliseconds since the Unix epoch.
    pub finished_at_ms: Option<u64>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The published video of a completed job.
    pub video: Option<VideoMeta>,
    /// When that is removed, in milliseconds since the Unix epoch; `None`: never.
    pub expires_at_ms: Option<u64>,
    /// The number of its last change; 0 as long as it is not terminal.
    pub sequence: u64,
    /// The device that its last attempt ran on.
    pub device: Option<String>,
    /// Where its time went.
    pub durations: Durations,
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// How it ended.
    pub outcome: Outcome,
    /// When, in milliseconds since the Unix epoch.
    pub finished_at_ms: u64,
    /// The published video, if there is one.
    pub video: Option<VideoMeta>,
    /// When that is to be removed, in milliseconds since the Unix epoch; `None`: never.
    pub expires_at_ms: Option<u64>,
    /// The number of this change.
    pub sequence: u64,
    /// The device that the last attempt ran on.
    pub device: Option<String>,
    /// Where the time went.
    pub durations: Durations,
}

/// What is known about a published video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoMeta {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, as 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// A row holds something that no version of this program wrote.
#[derive(Debug, thiserror::Error)]
#[error("column {column} of a job is not valid: {reason}")]
pub struct RowError {
    column: &'static str,
    reason: String,
}

/// The columns that [`JobRecord::from_row`] reads.
pub(crate) const COLUMNS: &str = "id, model, width, height, frames, mode, conditioning_frames, prompt, \
    negative_prompt, seed, steps, guidance, fps, tenant, priority, alone, begin_by_ms, created_at_ms, status, attempts, \
    started_at_ms, finished_at_ms, failure_code, failure_message, video_bytes, video_sha256, expires_at_ms, \
    origin, origin_id, prior_frames, callback_url, trace, sequence, device, queue_ms, spawn_ms, text_ms, denoise_ms, \
    decode_ms, encode_ms";

/// The same, one by one: a column is found by its place. To ask SQLite for the place of a name takes longer than the row.
const NAMES: [&str; 40] = [
    "id",
    "model",
    "width",
    "height",
    "frames",
    "mode",
    "conditioning_frames",
    "prompt",
    "negative_prompt",
    "seed",
    "steps",
    "guidance",
    "fps",
    "tenant",
    "priority",
    "alone",
    "begin_by_ms",
    "created_at_ms",
    "status",
    "attempts",
    "started_at_ms",
    "finished_at_ms",
    "failure_code",
    "failure_message",
    "video_bytes",
    "video_sha256",
    "expires_at_ms",
    "origin",
    "origin_id",
    "prior_frames",
    "callback_url",
    "trace",
    "sequence",
    "device",
    "queue_ms",
    "spawn_ms",
    "text_ms",
    "denoise_ms",
    "decode_ms",
    "encode_ms",
];

impl JobRecord {
    pub(crate) fn from_row(row: &Row<'_>) -> Result<Self, RowError> {
        Ok(Self {
            job: job(row)?,
            status: parsed(row, "status")?,
            attempts: number(row, "attempts")?,
            started_at_ms: optional_number(row, "started_at_ms")?,
            finished_at_ms: optional_number(row, "finished_at_ms")?,
            failure: failure(row)?,
            video: video(row)?,
            expires_at_ms: optional_number(row, "expires_at_ms")?,
            sequence: number(row, "sequence")?,
            device: column(row, "device")?,
            durations: durations(row)?,
        })
    }
}

fn job(row: &Row<'_>) -> Result<Job, RowError> {
    Ok(Job {
        id: JobId::from_bytes(column(row, "id")?),
        bundle: BundleKey {
            model: parsed(row, "model")?,
            shape: shape(row)?,
        },
        mode: parsed(row, "mode")?,
        conditioning_frames: number(row, "conditioning_frames")?,
        sampling: sampling(row)?,
        sharing: Sharing {
            tenant: parsed(row, "tenant")?,
            priority: parsed(row, "priority")?,
            alone: column(row, "alone")?,
            begin_by_ms: optional_number(row, "begin_by_ms")?,
        },
        origin: origin(row)?,
        callback: optional(row, "callback_url")?,
        trace: optional(row, "trace")?,
        created_at_ms: number(row, "created_at_ms")?,
    })
}

/// The tenant in a row that is not a job's: it is found by its name.
pub(crate) fn tenant(row: &Row<'_>) -> Result<TenantName, RowError> {
    let name: String = valid("tenant", row.get("tenant"))?;
    valid("tenant", name.parse())
}

fn origin(row: &Row<'_>) -> Result<Option<Origin>, RowError> {
    let Some(kind) = column::<Option<String>>(row, "origin")? else {
        return Ok(None);
    };
    let of = JobId::from_bytes(column(row, "origin_id")?);
    match kind.as_str() {
        "remix" => Ok(Some(Origin::Remix { of })),
        "extension" => {
            let frames = number(row, "prior_frames")?;
            Ok(Some(Origin::Extension { of, frames }))
        }
        _ => valid("origin", Err(format!("`{kind}` is no origin"))),
    }
}

fn durations(row: &Row<'_>) -> Result<Durations, RowError> {
    Ok(Durations {
        queue_ms: number(row, "queue_ms")?,
        spawn_ms: number(row, "spawn_ms")?,
        text_ms: number(row, "text_ms")?,
        denoise_ms: number(row, "denoise_ms")?,
        decode_ms: number(row, "decode_ms")?,
        encode_ms: number(row, "encode_ms")?,
    })
}

fn shape(row: &Row<'_>) -> Result<Shape, RowError> {
    let [width, height, frames] = ["width", "height", "frames"].map(|name| number(row, name));
    valid("width", Shape::new(width?, height?, frames?))
}

fn sampling(row: &Row<'_>) -> Result<Sampling, RowError> {
    let guidance: f64 = column(row, "guidance")?;
    Ok(Sampling {
        prompt: valid("prompt", Prompt::new(column(row, "prompt")?))?,
        negative_prompt: valid(
            "negative_prompt",
            Prompt::optional(column(row, "negative_prompt")?),
        )?,
        seed: valid("seed", Seed::new(number(row, "seed")?))?,
        steps: valid("steps", Steps::new(number(row, "steps")?))?,
        // Written from an f32, so nothing is lost on the way back.
        guidance: valid("guidance", Guidance::new(guidance as f32))?,
        fps: valid("fps", Fps::new(number(row, "fps")?))?,
    })
}

fn failure(row: &Row<'_>) -> Result<Option<Failure>, RowError> {
    let Some(code) = column::<Option<String>>(row, "failure_code")? else {
        return Ok(None);
    };
    Ok(Some(Failure {
        code: valid("failure_code", code.parse())?,
        message: column(row, "failure_message")?,
    }))
}

fn video(row: &Row<'_>) -> Result<Option<VideoMeta>, RowError> {
    let Some(bytes) = optional_number(row, "video_bytes")? else {
        return Ok(None);
    };
    Ok(Some(VideoMeta {
        bytes,
        sha256: column(row, "video_sha256")?,
    }))
}

fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, name: &'static str) -> Result<T, RowError> {
    match NAMES.iter().position(|known| *known == name) {
        Some(place) => valid(name, row.get(place)),
        None => valid(name, row.get(name)),
    }
}

fn parsed<T: FromStr<Err: Display>>(row: &Row<'_>, name: &'static str) -> Result<T, RowError> {
    valid(name, column::<String>(row, name)?.parse())
}

fn optional<T: FromStr<Err: Display>>(
    row: &Row<'_>,
    name: &'static str,
) -> Result<Option<T>, RowError> {
    let text: Option<String> = column(row, name)?;
    valid(name, text.map(|text| text.parse()).transpose())
}

fn number<T: TryFrom<i64, Error: Display>>(
    row: &Row<'_>,
    name: &'static str,
) -> Result<T, RowError> {
    valid(name, T::try_from(column(row, name)?))
}

fn optional_number(row: &Row<'_>, name: &'static str) -> Result<Option<u64>, RowError> {
    let value = column::<Option<i64>>(row, name)?.map(u64::try_from);
    valid(name, value.transpose())
}

fn valid<T, E: Display>(column: &'static str, value: Result<T, E>) -> Result<T, RowError> {
    value.map_err(|error| RowError {
        column,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_at_its_place() {
        assert_eq!(COLUMNS, NAMES.join(", "));
    }
}
