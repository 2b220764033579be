//! What the pool knows of each bundle of the menu: whether it can be served, what it costs, how it has fared.

use crate::input::{BundleOffer, Profile};
use crate::watchdog::Paces;
use reel_domain::{BundleKey, JobId};
use std::collections::BTreeMap;

/// A bundle by its place on the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BundleIx(pub(crate) usize);

/// One visit; large, so that halved counts are not lost at once.
pub(crate) const VISIT: u64 = 1_024;
/// Visits, per bundle of the menu, after which all are halved.
const VISITS_PER_BUNDLE: u64 = 64;

/// One line of the menu.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) key: BundleKey,
    /// What it offers; `None` until it is baked.
    pub(crate) offer: Option<BundleOffer>,
    /// It could not be baked.
    pub(crate) failed: bool,
    /// Never evicted.
    pub(crate) pinned: bool,
    pub(crate) profile: Profile,
    /// Its engine lets attempts join at step boundaries.
    pub(crate) continuous: bool,
    /// Younger jobs that were started since its oldest job waits without any worker on its way.
    pub(crate) overtaken: u32,
    /// That was too often: it gets a place in any case.
    pub(crate) overdue: bool,
    /// Its best waiting job, and the joins that went past that.
    pub(crate) passed_by_joins: (Option<JobId>, u32),
    /// Its worker has to wait for the device's eviction budget.
    pub(crate) held: bool,
    /// Its spawn time, as eviction counts it: follows what is measured once that has moved by a quarter.
    pub(crate) settled_spawn_us: u64,
    /// How often it was asked for while it had nothing to do, of late; see [`Menu::count_visit`].
    pub(crate) visits: u64,
    /// How long its attempts take from mark to mark.
    pub(crate) paces: Paces,
}

impl Bundle {
    fn new(key: BundleKey, pinned: bool) -> Self {
        Self {
            key,
            offer: None,
            failed: false,
            pinned,
            profile: Profile::default(),
            continuous: true,
            overtaken: 0,
            overdue: false,
            passed_by_joins: (None, 0),
            held: false,
            settled_spawn_us: 0,
            visits: 0,
            paces: Paces::default(),
        }
    }

    /// A place was found for it, or looked for in vain.
    pub(crate) const fn forget_overtaking(&mut self) {
        (self.overtaken, self.overdue, self.held) = (0, false, false);
    }

    pub(crate) fn learn_spawn(&mut self, us: u64) {
        learn(&mut self.profile.spawn_us, us);
        self.settle_price();
    }

    /// What is known of it was learned in an earlier run.
    pub(crate) const fn know(&mut self, profile: Profile) {
        self.profile = profile;
        self.settle_price();
    }

    /// Two bundles whose spawns take about as long must not take turns in being the cheaper one because of noise.
    const fn settle_price(&mut self) {
        let (now, settled) = (self.profile.spawn_us, self.settled_spawn_us);
        if now.abs_diff(settled) > settled / 4 {
            self.settled_spawn_us = now;
        }
    }

    pub(crate) fn learn_service(&mut self, us: u64) {
        learn(&mut self.profile.service_us, us);
    }

    /// Memory only grows: a peak that was seen once will be seen again.
    pub(crate) fn learn_memory(&mut self, private_bytes: u64) {
        self.profile.private_bytes = self.profile.private_bytes.max(private_bytes);
    }

    pub(crate) fn learn_step(&mut self, batch: usize, us: u64) {
        if let Some(known) = self.profile.step_us.get_mut(batch.wrapping_sub(1)) {
            learn(known, us);
        }
    }

    /// Throughput of a batch of `size + 1` over one of `size`, in thousandths; `None` where it is not measured.
    pub(crate) fn gain_permille(&self, size: usize) -> Option<u64> {
        let time = |size: usize| {
            self.profile
                .step_us
                .get(size.wrapping_sub(1))
                .copied()
                .filter(|&us| us > 0)
        };
        let (now, then) = (time(size)?, time(size + 1)?);
        Some((size as u64 + 1) * now * 1_000 / (size as u64 * then))
    }
}

/// A moving average over about four samples, in whole microseconds: the same on every machine.
fn learn(known: &mut u64, sample: u64) {
    *known = match *known {
        0 => sample.max(1),
        known => ((known * 3 + sample) / 4).max(1),
    };
}

/// The menu, by place and by key.
#[derive(Debug)]
pub(crate) struct Menu {
    bundles: Vec<Bundle>,
    /// Visits of all bundles since they were halved.
    visits: u64,
    places: BTreeMap<BundleKey, BundleIx>,
}

impl Menu {
    pub(crate) fn new(keys: Vec<BundleKey>, pinned: &[BundleKey]) -> Self {
        let places = keys
            .iter()
            .enumerate()
            .map(|(place, key)| (key.clone(), BundleIx(place)))
            .collect();
        let bundles = keys
            .into_iter()
            .map(|key| {
                let pinned = pinned.contains(&key);
                Bundle::new(key, pinned)
            })
            .collect();
        Self {
            bundles,
            visits: 0,
            places,
        }
    }

    /// Somebody asks for a bundle that had nothing to do: without a hot worker, that costs a spawn. Counts are
    /// halved now and then, so that what is not asked for any more is forgotten (the reset of TinyLFU, Einziger,
    /// Friedman and Manes 2017). `true`: they were just halved.
    pub(crate) fn count_visit(&mut self, bundle: BundleIx) -> bool {
        self[bundle].visits += VISIT;
        self.visits += 1;
        let halves = self.visits >= VISITS_PER_BUNDLE * self.bundles.len() as u64;
        if halves {
            self.visits /= 2;
            for bundle in &mut self.bundles {
                bundle.visits /= 2;
            }
        }
        halves
    }

    pub(crate) fn find(&self, key: &BundleKey) -> Option<BundleIx> {
        self.places.get(key).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.bundles.len()
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = BundleIx> + use<> {
        (0..self.bundles.len()).map(BundleIx)
    }
}

impl std::ops::Index<BundleIx> for Menu {
    type Output = Bundle;

    fn index(&self, place: BundleIx) -> &Bundle {
        &self.bundles[place.0]
    }
}

impl std::ops::IndexMut<BundleIx> for Menu {
    fn index_mut(&mut self, place: BundleIx) -> &mut Bundle {
        &mut self.bundles[place.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_is_worth_does_not_follow_every_measurement() {
        let key = "tiny/64x64@17f".parse().expect("a bundle");
        let mut bundle = Bundle::new(key, false);
        bundle.learn_spawn(1_000);
        assert_eq!(bundle.settled_spawn_us, 1_000);
        bundle.learn_spawn(1_800);
        assert_eq!(bundle.profile.spawn_us, 1_200);
        assert_eq!(bundle.settled_spawn_us, 1_000, "within a quarter");
        bundle.learn_spawn(2_000);
        assert_eq!(bundle.settled_spawn_us, 1_400);
    }

    #[test]
    fn the_gain_of_a_batch_is_its_throughput_over_the_smaller_one() {
        let key = BundleKey {
            model: "tiny".parse().expect("a name"),
            shape: "64x64@17f".parse().expect("a shape"),
        };
        let mut bundle = Bundle::new(key, false);
        assert_eq!(bundle.gain_permille(1), None);
        bundle.learn_step(1, 100);
        bundle.learn_step(2, 160);
        assert_eq!(
            bundle.gain_permille(1),
            Some(1_250),
            "2 per 160 µs over 1 per 100 µs"
        );
        bundle.learn_step(2, 320);
        assert_eq!(bundle.profile.step_us[1], 200, "a moving average");
        assert_eq!(bundle.gain_permille(1), Some(1_000));
    }
}
