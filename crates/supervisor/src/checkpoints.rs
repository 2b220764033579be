//! Where attempts stand, kept for the worker that may have to go on with them.
//!
//! A worker says once per attempt in which memory file it keeps the attempt's state; the file outlives it. After a
//! worker's death the job's next attempt begins there. Not after every death: what a worker wrote whose device or whose
//! conversation failed is not trusted.

use reel_domain::{FaultClass, JobId};
use reel_protocol::Checkpoint;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A job's checkpoints: the newest, and the one before as long as the newest holds nothing.
#[derive(Debug, Default)]
struct Kept {
    /// The bundle that made them: another one could not read them.
    bundle_id: String,
    files: Vec<Arc<Checkpoint>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    by_job: BTreeMap<JobId, Kept>,
}

impl Checkpoints {
    /// From now on the state of a job's attempt is kept here.
    pub(crate) fn keep(&mut self, job: JobId, bundle_id: &str, checkpoint: Checkpoint) {
        let kept = self.by_job.entry(job).or_default();
        if kept.bundle_id != bundle_id {
            kept.files.clear();
            bundle_id.clone_into(&mut kept.bundle_id);
        }
        let last = kept.files.pop();
        if last
            .as_ref()
            .is_some_and(|last| last.latest_step().is_some())
        {
            kept.files.clear();
            kept.files.extend(last);
        }
        kept.files.push(Arc::new(checkpoint));
    }

    /// From where a job can go on with this bundle, and after how many steps.
    pub(crate) fn latest(&self, job: JobId, bundle_id: &str) -> Option<(Arc<Checkpoint>, u32)> {
        let kept = self.by_job.get(&job);
        let kept = kept.filter(|kept| kept.bundle_id == bundle_id)?;
        let newest_first = kept.files.iter().rev();
        newest_first
            .filter_map(|file| Some((Arc::clone(file), file.latest_step()?)))
            .next()
    }

    /// After how many steps a job can go on.
    pub(crate) fn latest_step(&self, job: JobId, bundle_id: &str) -> Option<u32> {
        self.latest(job, bundle_id).map(|(_, step)| step)
    }

    /// A job has ended, or begins anew.
    pub(crate) fn forget(&mut self, job: JobId) {
        self.by_job.remove(&job);
    }
}

/// What a worker wrote before it failed like this can be gone on from.
pub(crate) const fn outlives(class: FaultClass) -> bool {
    match class {
        FaultClass::Crash | FaultClass::Hang => true,
        FaultClass::Soft
        | FaultClass::Oom
        | FaultClass::DeviceFatal
        | FaultClass::Desync
        | FaultClass::BootFailed
        | FaultClass::StuckDevice => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId::from_bytes([1; 16]);

    fn at(step: u32) -> Checkpoint {
        let mut checkpoint = Checkpoint::create(8).expect("memory");
        checkpoint.save(step, b"state").expect("room");
        checkpoint
    }

    #[test]
    fn a_worker_that_dies_before_its_first_step_does_not_cost_the_steps_of_the_one_before() {
        let mut checkpoints = Checkpoints::default();
        let step = |checkpoints: &Checkpoints| Some(checkpoints.latest(JOB, "b")?.1);
        assert_eq!(step(&checkpoints), None);
        checkpoints.keep(JOB, "b", at(7));
        for _ in 0..3 {
            checkpoints.keep(JOB, "b", Checkpoint::create(8).expect("memory"));
            assert_eq!(step(&checkpoints), Some(7));
        }
        checkpoints.keep(JOB, "b", at(9));
        assert_eq!(step(&checkpoints), Some(9));
        assert!(checkpoints.latest(JOB, "other").is_none(), "another bundle");
        checkpoints.forget(JOB);
        assert_eq!(step(&checkpoints), None);
    }
}
