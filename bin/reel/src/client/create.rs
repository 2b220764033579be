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

/// How long it is tried, at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// While nobody answers.
    pub(crate) away: Duration,
    /// While the server is busy or bakes the shape.
    pub(crate) busy: Duration,
}

/// Tries for as long as `patience` lasts. `notice` hears why it takes time.
pub(crate) fn create(
    api: &Api,
    request: &CreateRequest,
    patience: Patience,
    interrupts: &Interrupts,
    mut notice: impl FnMut(&Failure),
) -> Result<Video, Failure> {
    let idempotency_key = Uuid::new_v4().to_string();
    let begin = Instant::now();
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
        let (wanted, patience) = match &failure {
            Failure::Unreachable { .. } => (Duration::ZERO, patience.away),
            Failure::Refused(refusal) if refusal.may_pass() => {
                (refusal.retry_after.unwrap_or_default(), patience.busy)
            }
            _ => return Err(failure),
        };
        let pause = wanted.max(pauses.next().unwrap_or(PAUSE_MAX));
        if begin.elapsed() + pause > patience {
            return Err(failure);
        }
        notice(&failure);
        interrupts.pause(pause, false);
        if interrupts.since().is_some() {
            return Err(Failure::NotBegun);
        }
    }
}
