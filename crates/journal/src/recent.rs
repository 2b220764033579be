//! Rows of jobs that have ended, as they were committed or read last: most reads are of those, and need no disk then.
//!
//! The writer puts a row here after the commit that ended its job, and takes it away after the one that changed it
//! again, before anybody hears of either. A reader that was overtaken by such a change leaves its row outside.

use crate::record::JobRecord;
use reel_domain::JobId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rows that are kept; the one that came first goes first.
pub const RECENT_MAX: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct Recent {
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    by_id: HashMap<JobId, Arc<JobRecord>>,
    order: VecDeque<JobId>,
    /// How often a row was taken away.
    taken: u64,
}

impl Recent {
    pub(crate) fn get(&self, id: JobId) -> Option<Arc<JobRecord>> {
        self.lock().by_id.get(&id).map(Arc::clone)
    }

    /// How often a row was taken away: to be asked for before one is read.
    pub(crate) fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// A row was read, when so many had been taken away. One of a job that goes on is not kept.
    pub(crate) fn was_read(&self, record: &JobRecord, taken: u64) {
        let mut rows = self.lock();
        if record.finished_at_ms.is_some() && rows.taken == taken {
            rows.keep(record.clone());
        }
    }

    /// The commit that ended a job is done.
    pub(crate) fn ended(&self, record: JobRecord) {
        self.lock().keep(record);
    }

    /// The row of a job is another one now, or none.
    pub(crate) fn take_away(&self, id: JobId) {
        let mut rows = self.lock();
        rows.taken += 1;
        if rows.by_id.remove(&id).is_some() {
            rows.order.retain(|kept| *kept != id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        // Every critical section is a few operations that leave both collections whole.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn keep(&mut self, record: JobRecord) {
        let id = record.job.id;
        if self.by_id.insert(id, Arc::new(record)).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }
}
