//! Asking for a video until there is a job or no hope, and never for two: every try has the same idempotency key.

use super::api::{Api, CreateRequest};
use super::failure::Failure;
use super::interrupts::Interrupts;
use super::video::Video;
use backon::{BackoffBuilder, ExponentialBuilder};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Pause before the second try; it doubles from try to try.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause, unless the server asks for a longer one.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Tries for as long as `patience` while the server cannot be reached or is busy. `notice` hears why it takes time.
pub(crate) fn create(
    api: &Api,
    request: &CreateRequest,
    patience: Duration,
    interrupts: &Interrupts,
    mut notice: impl FnMut(&Failure),
) -> Result<Video, Failure> {
    let idempotency_key = Uuid::new_v4().to_string();
    let deadline = Instant::now() + patience;
    let mut pauses = ExponentialBuilder::new()
        .with_min_delay(PAUSE_MIN)
        .with_max_delay(PAUSE_MAX)
        .with_jitter()
        .without_max_times()
        .build();
    loop {
        let failure = match api.create(request, &idempotency_key) {
            Ok(video) => return Ok(video),
            Err(failure) => failure,
        };
        if interrupts.since().is_some() {
            return Err(Failure::NotBegun);
        }
        let Some(wanted) = pause_wanted(&failure) else {
            return Err(failure);
        };
        let pause = wanted.max(pauses.next().unwrap_or(PAUSE_MAX));
        if Instant::now() + pause > deadline {
            return Err(failure);
        }
        notice(&failure);
        interrupts.pause(pause, false);
        if interrupts.since().is_some() {
            return Err(Failure::NotBegun);
        }
    }
}

/// How long the server wants to be left alone; `None` when trying again is of no use.
fn pause_wanted(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::Unreachable { .. } => Some(Duration::ZERO),
        Failure::Refused(refusal) if refusal.may_pass() => {
            Some(refusal.retry_after.unwrap_or_default())
        }
        _ => None,
    }
}
