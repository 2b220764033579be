//! Jobs that wait, in the order of their acceptance.

use reel_domain::JobId;
use std::collections::BTreeMap;

/// The waiting line. A retried job returns to the place that its ticket gives it.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    by_ticket: BTreeMap<u64, JobId>,
}

impl Queue {
    pub(crate) fn insert(&mut self, ticket: u64, id: JobId) {
        self.by_ticket.insert(ticket, id);
    }

    pub(crate) fn remove(&mut self, ticket: u64) {
        self.by_ticket.remove(&ticket);
    }

    pub(crate) fn len(&self) -> usize {
        self.by_ticket.len()
    }

    /// From the head.
    pub(crate) fn iter(&self) -> impl Iterator<Item = JobId> {
        self.by_ticket.values().copied()
    }
}
