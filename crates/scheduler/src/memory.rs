//! What fits on a device. Weights of a model count once where workers share them; nothing is counted as free before
//! its process is gone.

use crate::bundle::BundleIx;
use crate::device::DeviceSpec;
use crate::scheduler::Scheduler;
use reel_domain::Rejection;

impl Scheduler {
    /// A worker of this bundle fits on the device of `slot`, beside what the other slots hold and will hold,
    /// once `without` are gone.
    pub(crate) fn fits(&self, slot: usize, bundle: BundleIx, without: &[usize]) -> bool {
        let device = &self.devices[self.slots[slot].id.device.0 as usize];
        if device.spec.memory_bytes == 0 {
            return true;
        }
        let mut footprint = Footprint::on(device.spec);
        for other in device.slots() {
            if other != slot && !without.contains(&other) {
                let other = &self.slots[other];
                footprint.add(self, other.holds(), other.serves());
            }
        }
        footprint.add(self, Some(bundle), None);
        footprint
            .bytes
            .saturating_add(self.config.memory_reserve_bytes)
            <= device.spec.memory_bytes
    }

    /// The processes on a device hold more than it has: a measurement was larger than what was expected.
    pub(crate) fn is_over_memory(&self, device: usize) -> bool {
        let device = &self.devices[device];
        if device.spec.memory_bytes == 0 {
            return false;
        }
        let mut footprint = Footprint::on(device.spec);
        for slot in device.slots() {
            let slot = &self.slots[slot];
            if !slot.leaves_room() {
                footprint.add(self, slot.holds(), None);
            }
        }
        footprint
            .bytes
            .saturating_add(self.config.memory_reserve_bytes)
            > device.spec.memory_bytes
    }

    /// Some device is large enough for this bundle alone.
    pub(crate) fn fits_somewhere(&self, bundle: BundleIx) -> Result<(), Rejection> {
        let Some(device) = self.largest_device else {
            return Ok(());
        };
        let mut footprint = Footprint::on(device);
        footprint.add(self, Some(bundle), None);
        let needs_bytes = footprint
            .bytes
            .saturating_add(self.config.memory_reserve_bytes);
        if needs_bytes <= device.memory_bytes {
            return Ok(());
        }
        Err(Rejection::DoesNotFit {
            bundle: self.menu[bundle].key.clone(),
            needs_bytes,
            device_bytes: device.memory_bytes,
        })
    }

    /// What a worker needs for itself: measured, or as much as the largest of its model, or assumed.
    fn private_bytes(&self, bundle: BundleIx, shares_weights: bool) -> u64 {
        let of = &self.menu[bundle];
        if of.profile.private_bytes > 0 {
            return of.profile.private_bytes;
        }
        let relatives = self.menu.indices().map(|other| &self.menu[other]);
        let measured = relatives.filter(|other| other.key.model == of.key.model);
        let largest = measured.map(|other| other.profile.private_bytes).max();
        let assumed = assumed_private_bytes(of.profile.weights_bytes, shares_weights);
        largest.filter(|&bytes| bytes > 0).unwrap_or(assumed)
    }
}

/// What a worker is taken to need for itself before any of its model was measured, in bytes: a quarter of its
/// weights, and its own copy of them where they are not shared.
#[must_use]
pub const fn assumed_private_bytes(weights_bytes: u64, shares_weights: bool) -> u64 {
    let copy = if shares_weights { 0 } else { weights_bytes };
    copy + weights_bytes / 4
}

/// Memory on one device.
#[derive(Debug)]
struct Footprint {
    shares_weights: bool,
    bytes: u64,
    /// Bundles of the models whose weights are counted, one of each model.
    models: Vec<BundleIx>,
}

impl Footprint {
    const fn on(device: DeviceSpec) -> Self {
        Self {
            shares_weights: device.shares_weights,
            bytes: 0,
            models: Vec::new(),
        }
    }

    /// Adds a slot: what it holds now, what it will hold next, whichever is larger.
    fn add(&mut self, of: &Scheduler, holds: Option<BundleIx>, next: Option<BundleIx>) {
        let bundles = [holds, next].into_iter().flatten();
        let private = bundles
            .clone()
            .map(|bundle| of.private_bytes(bundle, self.shares_weights));
        self.bytes = self.bytes.saturating_add(private.max().unwrap_or(0));
        if !self.shares_weights {
            return;
        }
        for bundle in bundles {
            let model = |bundle: &BundleIx| &of.menu[*bundle].key.model;
            if !self
                .models
                .iter()
                .any(|known| model(known) == model(&bundle))
            {
                let weights = of.menu[bundle].profile.weights_bytes;
                self.bytes = self.bytes.saturating_add(weights);
                self.models.push(bundle);
            }
        }
    }
}
