//! When a job will be done: from measured steps, starts and service times, corrected by how wrong that was lately.
//!
//! A raw estimate adds up what is left: the jobs before it at the pool's mean service time, its worker's start if
//! none is ready, its steps, and what comes after them. Each job that completes tells by which factor the raw
//! estimate at its acceptance was off; the median of the latest factors makes the raw estimate a P50, their ninth
//! decile a P90 (conformal prediction with ratios as scores: Vovk et al., "Algorithmic Learning in a Random
//! World", 2005). What was never measured is not estimated.

use crate::board::JobProgress;
use reel_domain::{BundleKey, Durations, Job, JobStatus};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Weight of the newest measurement in a moving mean.
const WEIGHT: f64 = 0.2;
/// Jobs that the factors are taken from.
const FACTORS_MAX: usize = 256;
/// With fewer factors than this they say nothing, and the raw estimate stands with [`P90_UNPROVED`].
const FACTORS_MIN: usize = 8;
/// What a P90 is of a P50 before it is known.
const P90_UNPROVED: f64 = 2.0;

/// When a job will probably be done, in milliseconds from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// As likely before as after.
    pub p50_ms: u64,
    /// Nine times of ten before.
    pub p90_ms: u64,
}

/// What is learned of the pool, for estimates.
#[derive(Debug)]
pub struct Estimates {
    book: Mutex<Book>,
    /// Devices: jobs that run at once, at least.
    lanes: usize,
}

#[derive(Debug, Default)]
struct Book {
    bundles: BTreeMap<BundleKey, Measured>,
    /// Time that a job takes of its device, and what follows, over all bundles.
    service_ms: Mean,
    /// Actual by raw estimate, of the latest jobs.
    factors: VecDeque<f64>,
    /// What a raw estimate is multiplied by; `None`: too little has been seen.
    correction: Option<Correction>,
}

#[derive(Debug, Clone, Copy)]
struct Correction {
    p50: f64,
    p90: f64,
}

#[derive(Debug, Default)]
struct Measured {
    /// One denoising step.
    step_ms: Mean,
    /// Before and after the steps.
    rest_ms: Mean,
    /// A worker's start.
    spawn_ms: Mean,
}

/// A moving mean; none before the first measurement.
#[derive(Debug, Default, Clone, Copy)]
struct Mean(Option<f64>);

impl Mean {
    fn add(&mut self, value: f64) {
        self.0 = Some(self.0.map_or(value, |mean| mean + WEIGHT * (value - mean)));
    }
}

impl Estimates {
    /// Of a pool of so many devices.
    #[must_use]
    pub fn new(devices: usize) -> Self {
        Self {
            book: Mutex::default(),
            lanes: devices.max(1),
        }
    }

    /// A worker of a bundle took so long to be READY.
    pub fn started(&self, bundle: &BundleKey, spawn_ms: f64) {
        let mut book = self.lock();
        book.measured(bundle).spawn_ms.add(spawn_ms);
    }

    /// A job is completed. `raw_ms`: what [`raw_ms`](Self::raw_ms) said when it was accepted, and how long it took.
    pub fn completed(&self, job: &Job, took: Durations, raw_ms: Option<(f64, f64)>) {
        let mut book = self.lock();
        let rest = (took.text_ms + took.decode_ms + took.encode_ms) as f64;
        let steps = f64::from(job.sampling.steps.value().max(1));
        let measured = book.measured(&job.bundle);
        measured.step_ms.add(took.denoise_ms as f64 / steps);
        measured.rest_ms.add(rest);
        book.service_ms.add(took.denoise_ms as f64 + rest);
        if let Some((raw, actual)) = raw_ms.filter(|(raw, _)| *raw > 0.0) {
            book.learn(actual / raw);
        }
    }

    /// What is left for a job to do and to wait for, uncorrected, in milliseconds. `hot`: a worker of its bundle is
    /// ready.
    #[must_use]
    pub fn raw_ms(&self, job: &Job, progress: &JobProgress, hot: bool) -> Option<f64> {
        self.lock().raw_ms(job, progress, hot, self.lanes)
    }

    /// When a job will be done; `None`: too little is known of its bundle, or it is done.
    #[must_use]
    pub fn estimate(&self, job: &Job, progress: &JobProgress, hot: bool) -> Option<Estimate> {
        let book = self.lock();
        let raw = book.raw_ms(job, progress, hot, self.lanes)?;
        Some(book.corrected(raw))
    }

    /// A raw estimate, corrected by what came of earlier ones.
    #[must_use]
    pub fn corrected(&self, raw_ms: f64) -> Estimate {
        self.lock().corrected(raw_ms)
    }

    /// Time after which the pool has room for one more job, in milliseconds.
    #[must_use]
    pub fn turn_ms(&self) -> Option<u64> {
        let service_ms = self.lock().service_ms.0?;
        Some((service_ms / self.lanes as f64).ceil() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn measured(&mut self, bundle: &BundleKey) -> &mut Measured {
        self.bundles.entry(bundle.clone()).or_default()
    }

    fn raw_ms(&self, job: &Job, progress: &JobProgress, hot: bool, lanes: usize) -> Option<f64> {
        let measured = self.bundles.get(&job.bundle)?;
        let (step_ms, rest_ms) = (measured.step_ms.0?, measured.rest_ms.0?);
        let left = f64::from(progress.steps.saturating_sub(progress.step)) * step_ms;
        match progress.status {
            JobStatus::Queued | JobStatus::Starting => {
                // Whoever is first in the queue waits for somebody who has begun: for half of that, on average.
                let before = progress
                    .queue_position
                    .map_or(0.0, |place| place as f64 + 0.5);
                let wait = before * self.service_ms.0.unwrap_or(0.0) / lanes as f64;
                let start = match hot {
                    true => 0.0,
                    false => measured.spawn_ms.0.unwrap_or(0.0),
                };
                Some(wait + start + left + rest_ms)
            }
            JobStatus::InProgress => Some(left + rest_ms),
            JobStatus::Encoding => Some(rest_ms),
            _ => None,
        }
    }

    fn learn(&mut self, factor: f64) {
        if self.factors.len() == FACTORS_MAX {
            self.factors.pop_front();
        }
        self.factors.push_back(factor);
        if self.factors.len() < FACTORS_MIN {
            return;
        }
        let mut sorted: Vec<f64> = self.factors.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        self.correction = Some(Correction {
            p50: not_exceeded(&sorted, 50),
            p90: not_exceeded(&sorted, 90),
        });
    }

    fn corrected(&self, raw: f64) -> Estimate {
        let unproved = Correction {
            p50: 1.0,
            p90: P90_UNPROVED,
        };
        let Correction { p50, p90 } = self.correction.unwrap_or(unproved);
        Estimate {
            p50_ms: (raw * p50).ceil() as u64,
            p90_ms: (raw * p90).ceil() as u64,
        }
    }
}

/// The factor that so many per cent do not exceed, the next one counted among them. `sorted` is not empty.
fn not_exceeded(sorted: &[f64], percent: usize) -> f64 {
    let place = ((sorted.len() + 1) * percent).div_ceil(100);
    sorted[place.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::job;

    fn took(denoise_ms: u64) -> Durations {
        Durations {
            text_ms: 10,
            denoise_ms,
            decode_ms: 20,
            encode_ms: 30,
            ..Durations::default()
        }
    }

    fn waiting(before: usize) -> JobProgress {
        JobProgress {
            queue_position: Some(before),
            ..JobProgress::accepted(&job(1))
        }
    }

    #[test]
    fn what_was_never_measured_is_not_estimated() {
        let estimates = Estimates::new(1);
        assert_eq!(estimates.estimate(&job(1), &waiting(0), true), None);
        assert_eq!(estimates.turn_ms(), None);
    }

    #[test]
    fn what_is_left_is_added_up() {
        let estimates = Estimates::new(2);
        estimates.started(&job(1).bundle, 500.0);
        estimates.completed(&job(1), took(200), None);
        let raw = |progress: &JobProgress, hot| estimates.raw_ms(&job(1), progress, hot);
        assert_eq!(raw(&JobProgress::accepted(&job(1)), true), Some(260.0));
        assert_eq!(
            raw(&JobProgress::accepted(&job(1)), false),
            Some(760.0),
            "its worker starts first"
        );
        assert_eq!(raw(&waiting(4), true), Some(260.0 + 4.5 * 130.0));
        let half = JobProgress {
            status: JobStatus::InProgress,
            step: 10,
            ..waiting(0)
        };
        assert_eq!(raw(&half, true), Some(160.0));
        let done = JobProgress {
            status: JobStatus::Completed,
            ..waiting(0)
        };
        assert_eq!(raw(&done, true), None);
    }

    #[test]
    fn estimates_are_corrected_by_how_wrong_they_were() {
        let estimates = Estimates::new(1);
        let estimate = |ms| estimates.corrected(ms);
        let unproved = Estimate {
            p50_ms: 100,
            p90_ms: 200,
        };
        assert_eq!(estimate(100.0), unproved);
        // Of a hundred jobs each took a hundredth longer than the one before, from as long as estimated on.
        for percent in 100..200 {
            let actual = f64::from(percent);
            estimates.completed(&job(1), took(200), Some((100.0, actual)));
        }
        let Estimate { p50_ms, p90_ms } = estimate(1_000.0);
        assert_eq!((p50_ms, p90_ms), (1_500, 1_900));
    }
}
