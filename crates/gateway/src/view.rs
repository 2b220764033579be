//! What the journal and the pool know, as the objects that clients read.

use reel_api::{
    Continuation, DeviceObject, Eta, ModelDefaults, ModelObject, Offer, PoolObject, Preset,
    Progress, Readiness, ShapeObject, ShapeReadiness, Size, SlotObject, VideoObject, seconds_text,
};
use reel_domain::{Job, JobStatus, ModelName, Shape};
use reel_journal::JobRecord;
use reel_pool::{
    BundleState, Catalog, DeviceState, JobProgress, ModelEntry, ModelState, PoolHandle, PoolState,
};

/// A job that is not terminal, as the board shows it.
pub(crate) fn living(pool: &PoolHandle, job: &Job, live: JobProgress) -> VideoObject {
    let eta = eta(pool, job, &live);
    let progress = Progress {
        status: live.status,
        percent: live.percent(),
        attempts: live.attempt,
        finished_at_ms: None,
        expires_at_ms: None,
        failure: None,
        stage: live.stage,
        step: live.step,
        queue_position: live.queue_position,
        eta,
        device: live.device.map(|device| device.to_string()),
        durations: live.durations,
        sequence: live.sequence,
        download_url: None,
    };
    VideoObject::new(job, progress)
}

fn eta(pool: &PoolHandle, job: &Job, live: &JobProgress) -> Option<Eta> {
    let hot = pool.state().is_hot(&job.bundle);
    let estimate = pool.estimates().estimate(job, live, hot)?;
    Some(Eta::from_ms(estimate.p50_ms, estimate.p90_ms))
}

/// A job as its row shows it. A terminal row is the truth: what the board said before does not count any more.
pub(crate) fn stored(record: &JobRecord, download_url: Option<String>) -> VideoObject {
    let completed = record.status == JobStatus::Completed;
    let steps = record.job.sampling.steps.value();
    let progress = Progress {
        status: record.status,
        percent: if completed { 100 } else { 0 },
        attempts: record.attempts,
        finished_at_ms: record.finished_at_ms,
        expires_at_ms: record.expires_at_ms,
        failure: record.failure.clone(),
        stage: None,
        step: if completed { steps } else { 0 },
        queue_position: None,
        eta: None,
        device: record.device.clone(),
        durations: record.durations,
        sequence: record.sequence,
        download_url,
    };
    VideoObject::new(&record.job, progress)
}

/// How a model can go on with a video, as far as its bundles are baked.
pub(crate) fn continuations(model: &ModelName, pool: &PoolState) -> Vec<Continuation> {
    let bundles = pool.bundles.iter();
    let continuation = |bundle: &ModelState| {
        Some(Continuation {
            shape: bundle.key.shape,
            from_frames: bundle.extend_frames?,
        })
    };
    bundles
        .filter(|bundle| bundle.key.model == *model)
        .filter_map(continuation)
        .collect()
}

/// The catalog as requests need to know it.
pub(crate) fn offers(catalog: &Catalog) -> Vec<Offer<'_>> {
    catalog.models().iter().map(offer).collect()
}

fn offer(entry: &ModelEntry) -> Offer<'_> {
    Offer {
        model: &entry.name,
        shapes: &entry.shapes,
        modes: &entry.modes,
        preset: Preset {
            shape: entry.defaults.shape,
            fps: entry.defaults.fps,
            steps: entry.defaults.steps,
            guidance: entry.defaults.guidance,
            negative_prompt: &entry.defaults.negative_prompt,
        },
    }
}

/// A model with the state of its shapes.
pub(crate) fn model_object(entry: &ModelEntry, pool: &PoolState) -> ModelObject {
    let shapes = entry.shapes.iter();
    ModelObject {
        id: entry.name.to_string(),
        object: "model",
        created: entry.created_at_s,
        owned_by: "reel",
        description: entry.description.clone(),
        modes: entry.modes.iter().map(|mode| mode.as_str()).collect(),
        defaults: defaults(entry),
        shapes: shapes
            .map(|shape| shape_object(entry, *shape, pool))
            .collect(),
    }
}

fn defaults(entry: &ModelEntry) -> ModelDefaults {
    let defaults = &entry.defaults;
    ModelDefaults {
        shape: defaults.shape.to_string(),
        fps: defaults.fps.value(),
        num_inference_steps: defaults.steps.value(),
        guidance_scale: defaults.guidance.value(),
        negative_prompt: defaults.negative_prompt.as_str().to_owned(),
    }
}

fn shape_object(entry: &ModelEntry, shape: Shape, pool: &PoolState) -> ShapeObject {
    let state = state_of(entry, shape, pool);
    ShapeObject {
        shape: shape.to_string(),
        size: Size::from(shape).to_string(),
        num_frames: shape.frames(),
        seconds: seconds_text(shape.frames(), entry.defaults.fps),
        state: state.as_str(),
        baking_percent: baking_percent(state),
        reason: reason(state),
    }
}

fn state_of<'a>(entry: &ModelEntry, shape: Shape, pool: &'a PoolState) -> &'a BundleState {
    let mut bundles = pool.bundles.iter();
    bundles
        .find(|bundle| bundle.key.model == entry.name && bundle.key.shape == shape)
        .map_or(&BundleState::Unbaked, |bundle| &bundle.state)
}

/// The pool's picture as a probe's answer.
pub(crate) fn readiness(pool: &PoolState) -> Readiness {
    let shapes = pool.bundles.iter().map(|bundle| ShapeReadiness {
        model: bundle.key.model.to_string(),
        shape: bundle.key.shape.to_string(),
        state: bundle.state.as_str(),
        baking_percent: baking_percent(&bundle.state),
        reason: reason(&bundle.state),
    });
    Readiness {
        ready: pool.is_ready(),
        draining: pool.draining,
        queued: pool.queued,
        running: pool.running,
        shapes: shapes.collect(),
    }
}

/// The pool's picture as operators read it.
pub(crate) fn pool_object(pool: &PoolState) -> PoolObject {
    let Readiness {
        draining,
        queued,
        running,
        shapes,
        ..
    } = readiness(pool);
    PoolObject {
        draining,
        queued,
        running,
        devices: pool.devices.iter().map(device_object).collect(),
        shapes,
    }
}

fn device_object(device: &DeviceState) -> DeviceObject {
    let slots = device.slots.iter().map(|slot| SlotObject {
        name: slot.id.to_string(),
        state: slot.state,
        bundle: slot.bundle.as_ref().map(ToString::to_string),
        pid: slot.pid,
        videos: slot.jobs.iter().map(ToString::to_string).collect(),
    });
    DeviceObject {
        name: device.name.clone(),
        state: device.trust,
        slots: slots.collect(),
    }
}

const fn baking_percent(state: &BundleState) -> Option<u8> {
    match state {
        BundleState::Baking { percent } => Some(*percent),
        _ => None,
    }
}

fn reason(state: &BundleState) -> Option<String> {
    match state {
        BundleState::Failed { reason } => Some(reason.clone()),
        _ => None,
    }
}
