//! The writes, each as one statement on the writing connection.

use crate::record::{COLUMNS, Ending, JobRecord, VideoMeta};
use crate::writer::WriteError;
use reel_domain::{
    CallbackUrl, Failure, Idempotency, Job, JobId, JobStatus, Origin, Outcome, TraceParent,
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, named_params, params};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn insert(connection: &Connection, job: &Job) -> Result<(), WriteError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO jobs (id, model, width, height, frames, mode, conditioning_frames, prompt, \
         negative_prompt, seed, steps, guidance, fps, tenant, priority, alone, begin_by_ms, origin, origin_id, \
         prior_frames, callback_url, trace, created_at_ms, status, attempts, place) VALUES (:id, :model, :width, :height, :frames, :mode, :conditioning_frames, :prompt, \
         :negative_prompt, :seed, :steps, :guidance, :fps, :tenant, :priority, :alone, :begin_by_ms, \
         :origin, :origin_id, :prior_frames, :callback_url, :trace, :created_at_ms, \
         'queued', 0, (SELECT coalesce(max(place), 0) + 1 FROM jobs))",
    )?;
    let (shape, sampling) = (job.bundle.shape, &job.sampling);
    let inserted = statement.execute(named_params! {
        ":id": job.id.as_bytes(),
        ":model": job.bundle.model.as_str(),
        ":width": shape.width(),
        ":height": shape.height(),
        ":frames": shape.frames(),
        ":mode": job.mode.as_str(),
        ":conditioning_frames": job.conditioning_frames,
        ":prompt": sampling.prompt.as_str(),
        ":negative_prompt": sampling.negative_prompt.as_str(),
        ":seed": signed(sampling.seed.value()),
        ":steps": sampling.steps.value(),
        ":guidance": f64::from(sampling.guidance.value()),
        ":fps": sampling.fps.value(),
        ":tenant": job.sharing.tenant.as_str(),
        ":priority": job.sharing.priority.as_str(),
        ":alone": job.sharing.alone,
        ":begin_by_ms": job.sharing.begin_by_ms.map(signed),
        ":origin": job.origin.map(Origin::as_str),
        ":origin_id": job.origin.map(|origin| *origin.of().as_bytes()),
        ":prior_frames": prior_frames(job),
        ":callback_url": job.callback.as_ref().map(CallbackUrl::as_str),
        ":trace": job.trace.as_ref().map(TraceParent::as_str),
        ":created_at_ms": signed(job.created_at_ms),
    });
    match inserted {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Err(WriteError::Duplicate(job.id))
        }
        other => other.map(drop).map_err(WriteError::from),
    }
}

const fn prior_frames(job: &Job) -> Option<u32> {
    match job.origin {
        Some(Origin::Extension { frames, .. }) => Some(frames),
        _ => None,
    }
}

/// A job whose client names it by a key: the first one of that key is the only one.
pub(crate) fn insert_once(
    connection: &Connection,
    job: &Job,
    idempotency: &Idempotency,
) -> Result<(), WriteError> {
    let tenant = job.sharing.tenant.as_str();
    if let Some((id, digest)) = keyed(connection, tenant, idempotency.key.as_str())? {
        let same = digest == idempotency.digest;
        return Err(WriteError::Repeated { id, same });
    }
    // Both or neither, whatever becomes of the other writes of this commit.
    connection.prepare_cached("SAVEPOINT once")?.execute([])?;
    let inserted = insert(connection, job).and_then(|()| insert_key(connection, job, idempotency));
    if inserted.is_err() {
        connection.prepare_cached("ROLLBACK TO once")?.execute([])?;
    }
    connection.prepare_cached("RELEASE once")?.execute([])?;
    inserted
}

fn insert_key(
    connection: &Connection,
    job: &Job,
    idempotency: &Idempotency,
) -> Result<(), WriteError> {
    connection
        .prepare_cached(
            "INSERT INTO idempotency_keys (tenant, key, digest, job_id) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            job.sharing.tenant.as_str(),
            idempotency.key.as_str(),
            idempotency.digest,
            job.id.as_bytes()
        ])?;
    Ok(())
}

/// The job that a tenant's key stands for, and what it asked for.
pub(crate) fn keyed(
    connection: &Connection,
    tenant: &str,
    key: &str,
) -> rusqlite::Result<Option<(JobId, [u8; 32])>> {
    connection
        .prepare_cached(
            "SELECT job_id, digest FROM idempotency_keys WHERE tenant = ?1 AND key = ?2",
        )?
        .query_row([tenant, key], |row| {
            Ok((JobId::from_bytes(row.get(0)?), row.get(1)?))
        })
        .optional()
}

pub(crate) fn set_status(
    connection: &Connection,
    id: JobId,
    attempt: u32,
    status: JobStatus,
    at_ms: u64,
) -> Result<(), WriteError> {
    if status.is_terminal() {
        return Err(WriteError::NotAnEnding(status));
    }
    // An older attempt has nothing to say any more; that is no error of the one who says it.
    match refuse_ended(connection, id)? {
        stored if attempt < stored => return Ok(()),
        _ => {}
    }
    let started_at_ms = (status == JobStatus::InProgress).then(|| signed(at_ms));
    connection
        .prepare_cached(
            "UPDATE jobs SET status = ?2, attempts = ?3, started_at_ms = coalesce(?4, started_at_ms) \
             WHERE id = ?1",
        )?
        .execute(params![id.as_bytes(), status.as_str(), attempt, started_at_ms])?;
    Ok(())
}

pub(crate) fn finish(
    connection: &Connection,
    id: JobId,
    attempt: u32,
    ending: &Ending,
    began_at_ms: Option<u64>,
) -> Result<Option<JobRecord>, WriteError> {
    match refuse_ended(connection, id)? {
        stored if attempt < stored => return Err(WriteError::StaleAttempt { attempt, stored }),
        _ => {}
    }
    let failure = failure(&ending.outcome);
    let video = ending.video.as_ref();
    let durations = &ending.durations;
    let mut statement = connection.prepare_cached(&format!(
            "UPDATE jobs SET status = :status, attempts = :attempts, finished_at_ms = :finished_at_ms, \
             started_at_ms = coalesce(:began_at_ms, started_at_ms), \
             failure_code = :failure_code, failure_message = :failure_message, \
             video_bytes = :video_bytes, video_sha256 = :video_sha256, \
             expires_at_ms = :expires_at_ms, sequence = :sequence, device = :device, queue_ms = :queue_ms, \
             spawn_ms = :spawn_ms, text_ms = :text_ms, denoise_ms = :denoise_ms, decode_ms = :decode_ms, \
             encode_ms = :encode_ms WHERE id = :id RETURNING {COLUMNS}"
        ))?;
    let record = statement.query_row(
        named_params! {
            ":id": id.as_bytes(),
            ":status": ending.outcome.status().as_str(),
            ":attempts": attempt,
            ":began_at_ms": began_at_ms.map(signed),
            ":finished_at_ms": signed(ending.finished_at_ms),
            ":failure_code": failure.map(|failure| failure.code.as_str()),
            ":failure_message": failure.map(|failure| failure.message.as_str()),
            ":video_bytes": video.map(|video| signed(video.bytes)),
            ":expires_at_ms": ending.expires_at_ms.filter(|_| video.is_some()).map(signed),
            ":video_sha256": video.map(|VideoMeta { sha256, .. }| sha256.as_str()),
            ":sequence": signed(ending.sequence),
            ":device": ending.device,
            ":queue_ms": signed(durations.queue_ms),
            ":spawn_ms": signed(durations.spawn_ms),
            ":text_ms": signed(durations.text_ms),
            ":denoise_ms": signed(durations.denoise_ms),
            ":decode_ms": signed(durations.decode_ms),
            ":encode_ms": signed(durations.encode_ms),
        },
        |row| Ok(JobRecord::from_row(row)),
    )?;
    let called_back = match &record {
        Ok(record) => record.job.callback.is_some(),
        // It cannot be read, which is for whoever reads it to say; nor can the one who waits for it be called.
        Err(_) => false,
    };
    if called_back {
        owe_callback(connection, id, ending.finished_at_ms)?;
    }
    Ok(record.ok())
}

/// Somebody wants to know of the end: that is owed from the moment at which it is one.
fn owe_callback(connection: &Connection, id: JobId, due_ms: u64) -> Result<(), WriteError> {
    connection
        .prepare_cached("INSERT INTO callbacks (job_id, due_ms) VALUES (?1, ?2)")?
        .execute(params![id.as_bytes(), signed(due_ms)])?;
    Ok(())
}

/// A callback did not get through; the next try is due later.
pub(crate) fn delay_callback(
    connection: &Connection,
    id: JobId,
    due_ms: u64,
) -> Result<(), WriteError> {
    connection
        .prepare_cached("UPDATE callbacks SET tries = tries + 1, due_ms = ?2 WHERE job_id = ?1")?
        .execute(params![id.as_bytes(), signed(due_ms)])?;
    Ok(())
}

/// A callback got through, or never will.
pub(crate) fn settle_callback(connection: &Connection, id: JobId) -> Result<(), WriteError> {
    connection
        .prepare_cached("DELETE FROM callbacks WHERE job_id = ?1")?
        .execute([id.as_bytes()])?;
    Ok(())
}

/// A video's time is up. What is known of it stays.
pub(crate) fn expire(connection: &Connection, id: JobId) -> Result<(), WriteError> {
    let expired = connection
        .prepare_cached(
            "UPDATE jobs SET status = 'expired' WHERE id = ?1 AND status = 'completed'",
        )?
        .execute([id.as_bytes()])?;
    match expired {
        0 => Err(WriteError::Unknown(id)),
        _ => Ok(()),
    }
}

pub(crate) fn delete(connection: &Connection, id: JobId) -> Result<(), WriteError> {
    let deleted = connection
        .prepare_cached("DELETE FROM jobs WHERE id = ?1")?
        .execute([id.as_bytes()])?;
    for forgotten in ["callbacks", "idempotency_keys"] {
        let sql = format!("DELETE FROM {forgotten} WHERE job_id = ?1");
        connection.prepare_cached(&sql)?.execute([id.as_bytes()])?;
    }
    match deleted {
        0 => Err(WriteError::Unknown(id)),
        _ => Ok(()),
    }
}

/// The stored attempt of a job that may still change.
fn refuse_ended(connection: &Connection, id: JobId) -> Result<u32, WriteError> {
    let row = connection
        .prepare_cached("SELECT attempts, finished_at_ms IS NOT NULL FROM jobs WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match row {
        None => Err(WriteError::Unknown(id)),
        Some((_, true)) => Err(WriteError::AlreadyTerminal(id)),
        Some((attempts, false)) => Ok(attempts),
    }
}

const fn failure(outcome: &Outcome) -> Option<&Failure> {
    match outcome {
        Outcome::Failed(failure) => Some(failure),
        Outcome::Completed | Outcome::Cancelled => None,
    }
}

// SQLite has no unsigned integers. Nothing here comes near the limit: seeds are bounded by
// `SEED_MAX`, the rest are times and sizes.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |elapsed| {
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    })
}
