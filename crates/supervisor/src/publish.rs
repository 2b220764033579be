//! The pool's picture for probes and pages, from the state that the scheduler itself uses.

use crate::driver::Supervisor;
use crate::event::BundleNews;
use reel_domain::{BundleKey, DeviceId};
use reel_pool::{BundleState, DeviceState, ModelState, PoolState, SlotState};
use reel_scheduler::{SlotPhase, SlotView, Trust};
use std::sync::Arc;
use std::time::Instant;

impl Supervisor {
    /// Publishes the picture if it has changed.
    pub(crate) fn publish(&mut self, now: Instant) {
        if std::mem::take(&mut self.queue_moved) {
            self.jobs.positions(self.scheduler.waiting());
        }
        let picture = self.picture(now);
        self.count(&picture);
        self.state.send_if_modified(|state| {
            let changed = **state != picture;
            if changed {
                *state = Arc::new(picture);
            }
            changed
        });
    }

    fn picture(&self, now: Instant) -> PoolState {
        let slots: Vec<SlotView> = self.scheduler.snapshot().collect();
        let bundles = self
            .menu
            .iter()
            .map(|key| ModelState {
                key: key.clone(),
                state: self.bundle_state(key, &slots, now),
                extend_frames: self.extend_frames(key),
            })
            .collect();
        PoolState {
            draining: self.scheduler.is_draining(),
            queued: self.scheduler.waiting_len(),
            running: slots.iter().map(|slot| slot.attempts.len()).sum(),
            bundles,
            devices: self.devices(&slots),
        }
    }

    fn bundle_state(&self, key: &BundleKey, slots: &[SlotView], now: Instant) -> BundleState {
        match self.bundles.get(key) {
            None | Some(BundleNews::Unbaked) => BundleState::Unbaked,
            Some(BundleNews::Baking { percent }) => BundleState::Baking { percent: *percent },
            Some(BundleNews::Failed { reason }) => BundleState::Failed {
                reason: reason.clone(),
            },
            Some(BundleNews::Baked(_)) if self.scheduler.is_resting(key, now) => {
                BundleState::Failed {
                    reason: "its workers fail to start; see the log".into(),
                }
            }
            Some(BundleNews::Baked(_)) if slots.iter().any(|slot| is_hot(slot, key)) => {
                BundleState::Hot
            }
            Some(BundleNews::Baked(_)) => BundleState::Cold,
        }
    }

    fn extend_frames(&self, key: &BundleKey) -> Option<u32> {
        match self.bundles.get(key) {
            Some(BundleNews::Baked(baked)) => baked.extend_frames,
            _ => None,
        }
    }

    fn devices(&self, slots: &[SlotView]) -> Vec<DeviceState> {
        let mut devices: Vec<DeviceState> = self
            .devices
            .iter()
            .zip(0..)
            .map(|(device, index)| DeviceState {
                name: device.name.to_string(),
                trust: self
                    .scheduler
                    .trust(DeviceId(index))
                    .map_or("", Trust::as_str),
                slots: Vec::new(),
            })
            .collect();
        for slot in slots {
            if let Some(device) = devices.get_mut(slot.id.device.0 as usize) {
                device.slots.push(SlotState {
                    id: slot.id,
                    state: slot.phase.as_str(),
                    bundle: slot.bundle.clone(),
                    pid: slot.worker.and_then(|id| self.workers.get(id)?.pid()),
                    jobs: slot.attempts.iter().map(|attempt| attempt.job).collect(),
                });
            }
        }
        devices
    }

    fn count(&self, picture: &PoolState) {
        self.metrics.take_over(&self.scheduler.counters());
        self.metrics
            .queued
            .set(picture.queued.try_into().unwrap_or(i64::MAX));
        self.metrics
            .running
            .set(picture.running.try_into().unwrap_or(i64::MAX));
        for phase in SlotPhase::ALL {
            let slots = picture.devices.iter().flat_map(|device| &device.slots);
            let count = slots.filter(|slot| slot.state == phase.as_str()).count();
            let gauge = self.metrics.slots.with_label_values(&[phase.as_str()]);
            gauge.set(count.try_into().unwrap_or(i64::MAX));
        }
    }
}

fn is_hot(slot: &SlotView, key: &BundleKey) -> bool {
    matches!(
        slot.phase,
        SlotPhase::Idle | SlotPhase::Busy | SlotPhase::Draining
    ) && slot.bundle.as_ref() == Some(key)
}
