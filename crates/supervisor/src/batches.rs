//! Attempts on their way to a worker: given frames are read first, and what begins together is sent together.

use reel_domain::AttemptId;
use reel_protocol::{Checkpoint, Pixels};
use reel_scheduler::WorkerId;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Attempts that begin together on one worker.
#[derive(Debug)]
struct Batch {
    worker: WorkerId,
    members: Vec<Member>,
    /// The scheduler has named them all.
    whole: bool,
}

#[derive(Debug)]
struct Member {
    attempt: AttemptId,
    given: Given,
    /// It is to wait as soon as its worker has it.
    paused: bool,
}

/// What an attempt starts from.
#[derive(Debug)]
pub(crate) enum Given {
    /// Noise alone.
    None,
    /// Frames, which are being read.
    Reading,
    /// Frames.
    Read(Pixels),
    /// Where an earlier attempt stood.
    Checkpoint(Arc<Checkpoint>),
}

/// What travels with the message.
#[derive(Debug)]
pub(crate) enum Memory {
    /// The given frames.
    Frames(Pixels),
    /// Where to go on.
    Checkpoint(Arc<Checkpoint>),
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Frames(pixels) => pixels.as_fd(),
            Self::Checkpoint(checkpoint) => checkpoint.as_fd(),
        }
    }
}

/// What a worker is told now, in order.
pub(crate) type Ready = (WorkerId, Vec<Told>);

/// An attempt that its worker gets to know of.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) attempt: AttemptId,
    /// What it starts from.
    pub(crate) memory: Option<Memory>,
    /// It waits at once.
    pub(crate) paused: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    waiting: Vec<Batch>,
}

impl Batches {
    /// The scheduler gives a worker an attempt; `more`: the next one begins with it.
    pub(crate) fn add(&mut self, worker: WorkerId, attempt: AttemptId, given: Given, more: bool) {
        let member = Member {
            attempt,
            given,
            paused: false,
        };
        let open = |batch: &&mut Batch| batch.worker == worker && !batch.whole;
        match self.waiting.iter_mut().find(open) {
            Some(batch) => {
                batch.members.push(member);
                batch.whole = !more;
            }
            None => self.waiting.push(Batch {
                worker,
                members: vec![member],
                whole: !more,
            }),
        }
    }

    /// The frames of an attempt were read.
    pub(crate) fn read(&mut self, attempt: AttemptId, pixels: Pixels) {
        let mut members = self.waiting.iter_mut().flat_map(|batch| &mut batch.members);
        if let Some(member) = members.find(|member| member.attempt == attempt) {
            member.given = Given::Read(pixels);
        }
    }

    /// Pauses, or no more, an attempt that its worker has not heard of; `false`: it has.
    pub(crate) fn set_paused(&mut self, attempt: AttemptId, paused: bool) -> bool {
        let mut members = self.waiting.iter_mut().flat_map(|batch| &mut batch.members);
        let member = members.find(|member| member.attempt == attempt);
        member.map(|member| member.paused = paused).is_some()
    }

    /// Takes back an attempt that its worker has not heard of.
    pub(crate) fn withdraw(&mut self, attempt: AttemptId) -> bool {
        let count =
            |waiting: &[Batch]| -> usize { waiting.iter().map(|batch| batch.members.len()).sum() };
        let before = count(&self.waiting);
        for batch in &mut self.waiting {
            batch.members.retain(|member| member.attempt != attempt);
        }
        self.waiting
            .retain(|batch| !(batch.whole && batch.members.is_empty()));
        count(&self.waiting) < before
    }

    /// A worker is gone.
    pub(crate) fn forget(&mut self, worker: WorkerId) {
        self.waiting.retain(|batch| batch.worker != worker);
    }

    /// The next batch of which nothing is missing.
    pub(crate) fn take_ready(&mut self) -> Option<Ready> {
        let place = self.waiting.iter().position(Batch::is_ready)?;
        let Batch {
            worker, members, ..
        } = self.waiting.remove(place);
        let members = members.into_iter().map(|member| Told {
            attempt: member.attempt,
            memory: match member.given {
                Given::Read(pixels) => Some(Memory::Frames(pixels)),
                Given::Checkpoint(checkpoint) => Some(Memory::Checkpoint(checkpoint)),
                Given::None | Given::Reading => None,
            },
            paused: member.paused,
        });
        Some((worker, members.collect()))
    }
}

impl Batch {
    fn is_ready(&self) -> bool {
        let reading = |member: &Member| matches!(member.given, Given::Reading);
        self.whole && !self.members.iter().any(reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reel_domain::JobId;

    const ONE: WorkerId = WorkerId(1);

    fn attempt(number: u8) -> AttemptId {
        AttemptId {
            job: JobId::from_bytes([number; 16]),
            number: 1,
        }
    }

    fn ready(batches: &mut Batches) -> Option<Vec<u8>> {
        let (_, members) = batches.take_ready()?;
        let number = |told: &Told| told.attempt.job.as_bytes()[0];
        Some(members.iter().map(number).collect())
    }

    #[test]
    fn a_batch_is_sent_when_it_is_whole_and_everything_given_is_read() {
        let mut batches = Batches::default();
        batches.add(ONE, attempt(1), Given::Reading, true);
        batches.add(ONE, attempt(2), Given::None, false);
        batches.add(ONE, attempt(3), Given::None, false);
        assert_eq!(ready(&mut batches), Some(vec![3]), "it waits for nobody");
        assert_eq!(ready(&mut batches), None);
        batches.read(attempt(1), Pixels::new(&[1]).expect("memory"));
        assert_eq!(ready(&mut batches), Some(vec![1, 2]));
    }

    #[test]
    fn who_is_paused_before_its_worker_knows_waits_as_soon_as_that_does() {
        let mut batches = Batches::default();
        batches.add(ONE, attempt(1), Given::Reading, false);
        assert!(batches.set_paused(attempt(1), true));
        batches.read(attempt(1), Pixels::new(&[1]).expect("memory"));
        let (_, members) = batches.take_ready().expect("it is whole");
        assert!(members[0].paused);
        assert!(!batches.set_paused(attempt(1), false), "it was sent");
    }

    #[test]
    fn who_leaves_before_the_batch_is_sent_does_not_hold_it_up() {
        let mut batches = Batches::default();
        batches.add(ONE, attempt(1), Given::None, true);
        batches.add(ONE, attempt(2), Given::Reading, false);
        assert!(batches.withdraw(attempt(2)));
        assert_eq!(ready(&mut batches), Some(vec![1]));
        assert!(!batches.withdraw(attempt(1)), "it was sent");
        batches.add(ONE, attempt(3), Given::Reading, false);
        batches.forget(ONE);
        assert!(!batches.withdraw(attempt(3)));
    }
}
