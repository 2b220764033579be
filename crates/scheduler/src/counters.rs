//! What the scheduler did and did not do, counted for metrics.

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Events of workers and attempts that are gone; they were ignored.
    pub stale_events: u64,
    /// Attempts that joined a worker with work.
    pub merges: u64,
    /// Times that waiting work did not join, by reason.
    pub not_merged: NotMerged,
    /// Attempts that were paused for more urgent work.
    pub pauses: u64,
    /// Jobs that had not begun when their time was up.
    pub deadlines_missed: u64,
    /// Segments of sessions that were begun elsewhere than the one before, though its worker lives.
    pub sessions_moved: u64,
    /// Workers that made room for another bundle.
    pub evictions: u64,
    /// Of these, those that stayed until the other one was ready.
    pub standbys: u64,
    /// Evictions that had to wait for the device's budget.
    pub evictions_held: u64,
    /// Busy workers drained because a job was overtaken too often.
    pub drains_for_overtaken: u64,
    /// Workers that were to be evicted and stayed after all.
    pub resurrections: u64,
    /// Requests put into quarantine.
    pub quarantined: u64,
    /// Devices taken out because two different requests died on them.
    pub devices_suspected: u64,
    /// Devices taken out because a worker was gone and its memory was not.
    pub devices_stuck: u64,
}

/// Why waiting work did not join a worker that had room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NotMerged {
    /// Nothing that waits has what the batch has in common.
    pub incompatible: u64,
    /// The measured gain is too small.
    pub no_gain: u64,
    /// A job that cannot join was passed by too often.
    pub fenced: u64,
    /// The cost budget of the batch is used up.
    pub too_costly: u64,
    /// Its client wants it alone, or a batch with it failed.
    pub alone: u64,
}

impl NotMerged {
    /// Each reason with its count, by the name in metrics.
    #[must_use]
    pub const fn by_reason(self) -> [(&'static str, u64); 5] {
        [
            ("incompatible", self.incompatible),
            ("no_gain", self.no_gain),
            ("fenced", self.fenced),
            ("too_costly", self.too_costly),
            ("alone", self.alone),
        ]
    }
}
