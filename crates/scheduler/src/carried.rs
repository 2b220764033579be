//! An attempt on a worker.

use crate::work::Lane;
use reel_domain::{AttemptId, Priority, Stage};
use std::time::Instant;

/// What the worker of an attempt is needed to know of it, beside its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) attempt: AttemptId,
    pub(crate) lane: Lane,
    pub(crate) priority: Priority,
    /// What it takes of a batch's cost budget.
    pub(crate) cost: u64,
    pub(crate) activity: Activity,
    /// The stage that it is in, and the steps of it that are done.
    pub(crate) pending: (Stage, u32),
    /// When it last showed a mark.
    pub(crate) marked: Instant,
    /// Realtime attempts that began on the worker while this one was paused, over its whole life.
    pub(crate) preempted: u32,
    /// It began together with others, who may be to blame if it fails.
    pub(crate) together: bool,
}

/// What an attempt on a worker waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// For more that begin with it: the worker has not heard of it yet.
    Forming,
    /// For nothing: it begins or goes on now, and is watched from now on.
    Waking,
    /// For its steps.
    Running {
        /// When it must have shown progress.
        progress_due: Instant,
        /// When it must have ended.
        ends_by: Instant,
    },
    /// For more urgent work to be through; its latents stay with the worker.
    Paused,
}
