//! The least time that spawns could have taken, had the whole trace been known in advance.
//!
//! This is weighted paging offline: a pool of N places, a worker of the asked bundle in one of them at every
//! arrival, and a price for each worker that is brought in. Belady (1966) solved it for equal prices; Chrobak,
//! Karloff, Payne and Vishwanathan ("New results on server problems", 1991) showed that with unequal ones it is a
//! flow of least cost. Between two jobs of one bundle its worker is either kept, which saves a spawn and takes a place
//! across every job of another bundle in between, or not. While a job of one bundle is served, N - 1 places are left
//! for what is kept. So N - 1 units flow along the line of arrivals, and a unit that jumps from one job of a bundle
//! to the next one saves what its spawn costs.
//!
//! What is compared: all places are empty at first, so the first spawn of every bundle that is asked for is paid,
//! as a run pays for those of its prewarming (also where that fills places with second workers, which the optimum
//! never has: with more places than bundles a run can only be worse). A run may be *below* the optimum: it may let
//! jobs wait and serve several after one spawn, where the optimum has a worker for each job when it arrives.

use crate::world::Scenario;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

/// What a pool that knows the future needs at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Optimum {
    /// Workers that it spawns.
    pub spawns: usize,
    /// Time that these spawns take together; no choice of workers takes less.
    pub spawning: Duration,
}

/// The optimum of a scenario, with its devices' slots as places.
#[must_use]
pub fn optimum(scenario: &Scenario) -> Optimum {
    let places = scenario.devices.iter().map(|device| device.slots as usize);
    let asked: Vec<_> = scenario.arrivals.iter().map(|job| job.bundle).collect();
    let spawns: Vec<_> = scenario.menu.iter().map(|cost| cost.spawn).collect();
    optimum_of(&asked, &spawns, places.sum())
}

/// The optimum of jobs that ask for bundles in this order, by the time of each bundle's spawn.
///
/// Takes time in the order of `places * asked.len() * ln(asked.len())`.
#[must_use]
pub fn optimum_of(asked: &[usize], spawns: &[Duration], places: usize) -> Optimum {
    let mut line = Line::new(asked, spawns);
    for _ in 1..places {
        if !line.keep_more() {
            break;
        }
    }
    line.optimum()
}

/// Arrivals in a row, without those that ask for what the one before asked for, and the flow along them.
///
/// Node `i` lies before arrival `i`. A place either waits from node to node, or keeps a worker from the node after
/// one arrival of a bundle to the node before the next.
#[derive(Debug)]
struct Line<'a> {
    /// What each arrival asks for.
    asked: Vec<usize>,
    /// Times of the bundles' spawns.
    spawns: &'a [Duration],
    /// Of each arrival, the next of its bundle.
    next: Vec<Option<usize>>,
    /// Of each arrival, the last of its bundle before it.
    last: Vec<Option<usize>>,
    /// The worker is kept from this arrival to the next of its bundle.
    kept: Vec<bool>,
    /// Places that keep nothing between a node and the next.
    waiting: Vec<u32>,
    /// Shortest distances of the flow before, so that no edge is shorter than 0 (Johnson's potentials).
    potential: Vec<i64>,
    /// No flow yet.
    fresh: bool,
}

/// The way of one more place along the line.
#[derive(Debug, Clone, Copy)]
enum Edge {
    Wait,
    /// Takes back a place that waits.
    Unwait,
    /// Keeps the worker of this arrival.
    Keep(usize),
    /// Takes back that the worker of this arrival is kept.
    Unkeep(usize),
}

impl<'a> Line<'a> {
    fn new(asked: &[usize], spawns: &'a [Duration]) -> Self {
        let mut asked = asked.to_vec();
        asked.dedup();
        let count = asked.len();
        let mut line = Self {
            spawns,
            next: vec![None; count],
            last: vec![None; count],
            kept: vec![false; count],
            waiting: vec![0; count],
            potential: vec![0; count + 1],
            fresh: true,
            asked,
        };
        let mut seen = HashMap::new();
        for (index, &bundle) in line.asked.iter().enumerate() {
            if let Some(last) = seen.insert(bundle, index) {
                line.next[last] = Some(index);
                line.last[index] = Some(last);
            }
        }
        line
    }

    /// Sends one more place along the way that saves most; `false`: none saves anything.
    fn keep_more(&mut self) -> bool {
        let (distance, way) = match std::mem::take(&mut self.fresh) {
            true => self.first_ways(),
            false => self.ways(),
        };
        for (potential, distance) in self.potential.iter_mut().zip(&distance) {
            *potential += distance;
        }
        let end = self.next.len();
        if self.potential[end] >= 0 {
            return false;
        }
        let mut node = end;
        while let Some((from, edge)) = way[node] {
            self.send(from, edge);
            node = from;
        }
        true
    }

    /// Shortest ways without any flow: all edges lead onward, so that one pass finds them.
    fn first_ways(&self) -> Ways {
        let count = self.potential.len();
        let mut distance = vec![i64::MAX; count];
        let mut way = vec![None; count];
        distance[0] = 0;
        for node in 0..count {
            for (edge, to, length) in self.edges(node) {
                if distance[node] + length < distance[to] {
                    distance[to] = distance[node] + length;
                    way[to] = Some((node, edge));
                }
            }
        }
        (distance, way)
    }

    /// Shortest ways with the flow there is, less the potentials (Dijkstra). Every node can be reached by waiting.
    fn ways(&self) -> Ways {
        let count = self.potential.len();
        let mut distance = vec![i64::MAX; count];
        let mut way = vec![None; count];
        let mut open = BinaryHeap::from([Reverse((0, 0))]);
        distance[0] = 0;
        while let Some(Reverse((so_far, node))) = open.pop() {
            if so_far > distance[node] {
                continue;
            }
            for (edge, to, length) in self.edges(node) {
                let reach = so_far + length + self.potential[node] - self.potential[to];
                if reach < distance[to] {
                    distance[to] = reach;
                    way[to] = Some((node, edge));
                    open.push(Reverse((reach, to)));
                }
            }
        }
        (distance, way)
    }

    /// The edges on which there is room, each with where it leads and how long it is.
    fn edges(&self, node: usize) -> impl Iterator<Item = (Edge, usize, i64)> {
        let wait = (node < self.next.len()).then_some((Edge::Wait, node + 1, 0));
        let unwait = (node > 0 && self.waiting[node - 1] > 0).then(|| (Edge::Unwait, node - 1, 0));
        let before = node.checked_sub(1).filter(|&before| !self.kept[before]);
        let keep = before.and_then(|before| {
            let next = self.next[before]?;
            Some((Edge::Keep(before), next, -self.saved_us(before)))
        });
        let last = self.last.get(node).copied().flatten();
        let unkeep = last
            .filter(|&last| self.kept[last])
            .map(|last| (Edge::Unkeep(last), last + 1, self.saved_us(last)));
        [wait, unwait, keep, unkeep].into_iter().flatten()
    }

    fn send(&mut self, from: usize, edge: Edge) {
        match edge {
            Edge::Wait => self.waiting[from] += 1,
            Edge::Unwait => self.waiting[from - 1] -= 1,
            Edge::Keep(index) => self.kept[index] = true,
            Edge::Unkeep(index) => self.kept[index] = false,
        }
    }

    /// What it saves to keep the worker of an arrival until the next of its bundle.
    fn saved_us(&self, index: usize) -> i64 {
        i64::try_from(self.spawns[self.asked[index]].as_micros()).unwrap_or(i64::MAX)
    }

    /// Every arrival whose worker was not kept for it spawns one.
    fn optimum(&self) -> Optimum {
        let is_cold = |&index: &usize| self.last[index].is_none_or(|last| !self.kept[last]);
        let cold = (0..self.asked.len()).filter(is_cold);
        cold.fold(Optimum::default(), |sum, index| Optimum {
            spawns: sum.spawns + 1,
            spawning: sum.spawning + self.spawns[self.asked[index]],
        })
    }
}

/// Of each node, its distance from the first one, and where the way to it comes from.
type Ways = (Vec<i64>, Vec<Option<(usize, Edge)>>);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(spawns: &[u64]) -> Vec<Duration> {
        spawns.iter().copied().map(Duration::from_secs).collect()
    }

    /// The least of all ways to choose who makes room.
    fn least_of_all(asked: &[usize], spawns: &[u64], places: usize, held: &[usize]) -> u64 {
        let Some((&bundle, rest)) = asked.split_first() else {
            return 0;
        };
        if held.contains(&bundle) {
            return least_of_all(rest, spawns, places, held);
        }
        let mut with = held.to_vec();
        with.push(bundle);
        if with.len() <= places {
            return spawns[bundle] + least_of_all(rest, spawns, places, &with);
        }
        let without = (0..held.len()).map(|victim| {
            let mut others = with.clone();
            others.swap_remove(victim);
            least_of_all(rest, spawns, places, &others)
        });
        spawns[bundle] + without.min().expect("somebody has to go")
    }

    /// Spawns when the one that is asked for last of all makes room (MIN, Belady 1966).
    fn belady(asked: &[usize], places: usize) -> usize {
        let mut held: Vec<usize> = Vec::new();
        let mut spawns = 0;
        for (index, bundle) in asked.iter().enumerate() {
            if held.contains(bundle) {
                continue;
            }
            spawns += 1;
            if held.len() == places {
                let later = &asked[index..];
                let asked_again = |of: &usize| later.iter().position(|other| other == of);
                let latest = |of: &usize| asked_again(of).unwrap_or(usize::MAX);
                held.sort_by_key(latest);
                held.pop();
            }
            held.push(*bundle);
        }
        spawns
    }

    proptest! {
        #[test]
        fn no_choice_of_workers_spawns_for_less(
            asked in prop::collection::vec(0..4_usize, 0..11),
            spawns in prop::collection::vec(0..60_u64, 4),
            places in 1..4_usize,
        ) {
            let optimum = optimum_of(&asked, &seconds(&spawns), places);
            let least = least_of_all(&asked, &spawns, places, &[]);
            prop_assert_eq!(optimum.spawning, Duration::from_secs(least));
        }

        #[test]
        fn with_equal_prices_it_spawns_as_often_as_belady(
            asked in prop::collection::vec(0..9_usize, 0..300),
            places in 1..12_usize,
        ) {
            let optimum = optimum_of(&asked, &seconds(&[24; 9]), places);
            prop_assert_eq!(optimum.spawns, belady(&asked, places));
        }
    }

    #[test]
    fn with_one_place_every_change_of_bundle_is_a_spawn() {
        let optimum = optimum_of(&[0, 0, 1, 1, 0, 2, 2], &seconds(&[4, 24, 60]), 1);
        assert_eq!(optimum.spawns, 4);
        assert_eq!(optimum.spawning, Duration::from_secs(4 + 24 + 4 + 60));
    }

    #[test]
    fn with_a_place_for_every_bundle_each_is_spawned_once() {
        let optimum = optimum_of(&[0, 1, 2, 1, 0, 2, 0], &seconds(&[4, 24, 60]), 8);
        assert_eq!(optimum.spawning, Duration::from_secs(4 + 24 + 60));
    }

    #[test]
    fn the_dear_one_is_kept_where_the_cheap_one_comes_sooner() {
        // Two places: across the cheap ones in turn, the dear one stays.
        let optimum = optimum_of(&[2, 0, 1, 0, 1, 2], &seconds(&[4, 4, 60]), 2);
        assert_eq!(optimum.spawning, Duration::from_secs(60 + 4 * 4));
    }

    #[test]
    fn nothing_asked_is_nothing_spawned() {
        assert_eq!(optimum_of(&[], &[], 3), Optimum::default());
    }
}
