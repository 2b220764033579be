//! What the scheduler gets to know of a job: nothing of its text, but digests of it.

use reel_domain::Job;
use reel_scheduler::{Merge, RequestDigest, Work};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// `now_ms`: milliseconds since the Unix epoch.
pub(crate) fn work(job: &Job, now_ms: u64) -> Work {
    let sampling = &job.sampling;
    Work {
        id: job.id,
        bundle: job.bundle.clone(),
        mode: job.mode,
        tenant: job.sharing.tenant.clone(),
        priority: job.sharing.priority,
        merge: Merge {
            never: job.sharing.alone,
            // At or below 1 the engine skips the unconditional pass.
            guided: sampling.guidance.value() > 1.0,
            signature: digest(&[&form(job)]),
        },
        cost: rows(job),
        session: None,
        begin_within: job
            .sharing
            .begin_by_ms
            .map(|by| Duration::from_millis(by.saturating_sub(now_ms))),
        digest: request(job),
    }
}

/// What an attempt computes: rows of the transformer over all steps; guidance takes a second row.
fn rows(job: &Job) -> u64 {
    let guided = job.sampling.guidance.value() > 1.0;
    u64::from(job.sampling.steps.value()) * if guided { 2 } else { 1 }
}

/// Everything but prompt and seed.
fn form(job: &Job) -> String {
    let sampling = &job.sampling;
    format!(
        "{} {} {} {} {} {} {}",
        job.bundle,
        job.mode,
        job.conditioning_frames,
        sampling.steps.value(),
        sampling.guidance.value(),
        sampling.fps.value(),
        sampling.negative_prompt.as_str(),
    )
}

/// The same for the same request whatever its seed: a client that does not name one gets another every time.
fn request(job: &Job) -> RequestDigest {
    let prompt = job.sampling.prompt.as_str();
    // What was given is not at hand here: each job with given frames is a request of its own.
    let given = match job.conditioning_frames {
        0 => String::new(),
        _ => job.id.to_string(),
    };
    RequestDigest(digest(&[&form(job), prompt, &given]))
}

fn digest(parts: &[&str]) -> u64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reel_domain::{Fps, Guidance, JobId, Mode, Prompt, Sampling, Seed, Sharing, Steps};

    fn job(prompt: &str, seed: u64, steps: u32) -> Job {
        Job {
            id: JobId::from_bytes([0; 16]),
            bundle: reel_domain::BundleKey {
                model: "tiny".parse().expect("a name"),
                shape: "64x64@17f".parse().expect("a shape"),
            },
            mode: Mode::T2v,
            conditioning_frames: 0,
            sampling: Sampling {
                prompt: Prompt::new(prompt.into()).expect("a prompt"),
                negative_prompt: Prompt::optional(String::new()).expect("a prompt"),
                seed: Seed::new(seed).expect("a seed"),
                steps: Steps::new(steps).expect("steps"),
                guidance: Guidance::new(2.0).expect("guidance"),
                fps: Fps::new(8).expect("fps"),
            },
            sharing: Sharing::default(),
            origin: None,
            callback: None,
            trace: None,
            created_at_ms: 0,
        }
    }

    #[test]
    fn the_time_to_begin_is_what_is_left_of_it() {
        let mut job = job("a", 1, 20);
        job.sharing.begin_by_ms = Some(5_000);
        let left = |now_ms| work(&job, now_ms).begin_within;
        assert_eq!(left(2_000), Some(Duration::from_secs(3)));
        assert_eq!(left(9_000), Some(Duration::ZERO));
    }

    #[test]
    fn prompt_and_seed_do_not_keep_jobs_apart_and_steps_do() {
        let one = work(&job("a", 1, 20), 0);
        let other = work(&job("b", 2, 20), 0);
        let longer = work(&job("a", 1, 21), 0);
        assert_eq!(one.merge, other.merge);
        assert_ne!(one.merge.signature, longer.merge.signature);
    }

    #[test]
    fn a_request_is_the_same_with_another_seed_and_another_with_another_prompt() {
        assert_eq!(
            work(&job("a", 1, 20), 0).digest,
            work(&job("a", 2, 20), 0).digest
        );
        assert_ne!(
            work(&job("a", 1, 20), 0).digest,
            work(&job("b", 1, 20), 0).digest
        );
    }
}
