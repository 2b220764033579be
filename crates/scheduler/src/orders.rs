//! What operators want: to drain, to take devices out, to replace workers, to release requests.

use crate::command::Command;
use crate::device::Trust;
use crate::input::Order;
use crate::scheduler::Scheduler;
use crate::slot::{Ending, Leaving, State};
use crate::timer::Timer;
use crate::work::Place;
use reel_domain::{DeviceId, SlotId};
use std::collections::VecDeque;
use std::time::Instant;

/// Workers that are replaced one after the other.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    /// Those that wait for their turn.
    left: VecDeque<usize>,
    /// The slot whose new worker is not ready yet.
    current: Option<usize>,
}

impl Scheduler {
    pub(crate) fn obey(&mut self, order: Order, now: Instant) {
        match order {
            Order::Drain => self.drain(now),
            Order::Halt => self.halt(now),
            Order::Cordon(device) if self.knows(device) => {
                self.set_trust(device, Trust::Cordoned, now);
            }
            Order::Uncordon(device) if self.knows(device) => {
                self.set_trust(device, Trust::Good, now);
            }
            Order::Cordon(_) | Order::Uncordon(_) => {}
            Order::Replace(slot) => self.replace(slot, now),
            Order::Roll(device) => self.roll(device, now),
            Order::Release(digest) => self.faults.release(digest),
        }
    }

    const fn knows(&self, device: DeviceId) -> bool {
        (device.0 as usize) < self.devices.len()
    }

    /// Takes no new work, lets workers finish what they have, then stops them.
    fn drain(&mut self, now: Instant) {
        self.draining = true;
        for index in 0..self.slots.len() {
            self.retire(index, now);
        }
    }

    /// Ends every worker by force. Their jobs stay unfinished in the journal for the next run.
    fn halt(&mut self, now: Instant) {
        self.drain(now);
        self.jobs
            .retain(|_, entry| matches!(entry.place, Place::Parked | Place::Queued(_)));
        self.unsettled = 0;
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let (Some(worker), Some(bundle)) = (slot.worker(), slot.holds()) else {
                continue;
            };
            let ending = Ending {
                worker,
                bundle,
                next: None,
            };
            let id = slot.id;
            self.timers.stop_slot(id);
            let gone_by = now + self.config.kill_deadline;
            self.timers.set(Timer::Kill(id), gone_by);
            self.commands.push_back(Command::Kill {
                worker,
                fault: None,
            });
            self.alter(index, |slot| slot.state = State::Killing(ending));
        }
    }

    fn replace(&mut self, slot: SlotId, now: Instant) {
        if !self.knows(slot.device)
            || slot.index as usize >= self.devices[slot.device.0 as usize].places
        {
            return;
        }
        let index = self.index(slot);
        let Some(ready) = self.slots[index].ready() else {
            return;
        };
        let bundle = ready.bundle;
        if ready.leaving != Leaving::No {
            // It is leaving already, for somebody who waits.
            return;
        }
        if ready.is_idle() {
            return self.stop(index, Some(bundle), now);
        }
        self.alter_ready(index, |ready| ready.leaving = Leaving::For(bundle));
    }

    /// Replaces workers one after the other; what was rolled before and is not through is forgotten.
    fn roll(&mut self, device: Option<DeviceId>, now: Instant) {
        let of_device = |slot: &SlotId| device.is_none_or(|device| slot.device == device);
        let slots = self.slots.iter().enumerate();
        let wanted = slots.filter(|(_, slot)| of_device(&slot.id) && slot.ready().is_some());
        self.roll = Roll {
            left: wanted.map(|(index, _)| index).collect(),
            current: None,
        };
        self.roll_on(now);
    }

    /// A worker is ready: the next one may go.
    pub(crate) fn came_back(&mut self, index: usize, now: Instant) {
        if self.roll.current == Some(index) {
            self.roll.current = None;
            self.roll_on(now);
        }
    }

    /// A worker did not come back: whatever is wrong with it, the others stay as they are.
    pub(crate) fn stop_rolling(&mut self, index: usize) {
        if self.roll.current == Some(index) {
            self.roll = Roll::default();
        }
    }

    fn roll_on(&mut self, now: Instant) {
        while let Some(index) = self.roll.left.pop_front() {
            let slot = &self.slots[index];
            // Who leaves meanwhile, or has left, is replaced without anybody's doing.
            if slot
                .ready()
                .is_some_and(|ready| ready.leaving == Leaving::No)
            {
                self.roll.current = Some(index);
                return self.replace(slot.id, now);
            }
        }
    }

    /// Asks a worker to exit after what it has; a slot that was about to spawn does not.
    pub(crate) fn retire(&mut self, index: usize, now: Instant) {
        match &self.slots[index].state {
            State::Ready(ready) if ready.is_idle() => self.stop(index, None, now),
            State::Ready(_) => self.alter_ready(index, |ready| ready.leaving = Leaving::Empty),
            // It has no work, and reads nothing before it is ready.
            State::Starting { .. } => self.end_start(index, now),
            State::Reserved { .. }
            | State::Backoff { .. }
            | State::Stopping(_)
            | State::Killing(_) => self.give_up_next(index),
            State::Vacant => {}
        }
    }
}
