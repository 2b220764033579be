//! Where sessions were served last: their next segment prefers to be there, and never waits for it.

use crate::command::WorkerId;
use reel_domain::SessionId;
use std::collections::{BTreeMap, VecDeque};

/// The last worker of each session. So many are remembered; the oldest are forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Homes {
    workers: BTreeMap<SessionId, WorkerId>,
    order: VecDeque<SessionId>,
}

impl Homes {
    pub(crate) fn of(&self, session: SessionId) -> Option<WorkerId> {
        self.workers.get(&session).copied()
    }

    pub(crate) fn settle(&mut self, session: SessionId, worker: WorkerId, remembered_max: usize) {
        if self.workers.insert(session, worker).is_none() {
            self.order.push_back(session);
        }
        while self.order.len() > remembered_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.workers.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let session = |number| SessionId::from_bytes([number; 16]);
        let mut homes = Homes::default();
        for number in 0..4 {
            homes.settle(session(number), WorkerId(number.into()), 3);
        }
        homes.settle(session(2), WorkerId(9), 3);
        assert_eq!(homes.of(session(0)), None);
        assert_eq!(homes.of(session(1)), Some(WorkerId(1)));
        assert_eq!(homes.of(session(2)), Some(WorkerId(9)));
    }
}
