//! What a deployment should look like for a sample of its traffic: how many workers on a device, which shapes to
//! keep, which to give up.
//!
//! Nothing here guesses: every figure is a run of the scheduler on the sample, with one thing changed.

use crate::report::{OfBundle, Report};
use crate::traffic::Arrival;
use crate::world::{BundleCost, Scenario, run};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

/// A K is good enough whose waits are so near to the best, in percent of the best.
const NEAR_PERCENT: u32 = 110;
/// And waits this short are as good as none.
const NO_WAIT: Duration = Duration::from_millis(100);
/// Pinning a shape, or giving it up, must shorten the mean wait (of the others) by so much, in percent.
const WORTH_PERCENT: u32 = 10;
/// Only shapes that are asked for so seldom are worth giving up, in percent of all jobs.
const RARE_PERCENT: usize = 5;

/// What was found.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What each K would do, from 1; those that do not fit are not run.
    pub choices: Vec<Choice>,
    /// The smallest K that is as good as any, as a place among these; `None`: not even one worker fits.
    pub chosen: Option<usize>,
    /// Every shape of the menu, at that K.
    pub shapes: Vec<ShapePlan>,
}

/// One K.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Workers on each device.
    pub k: u32,
    /// What the K largest workers of the menu hold on one device, with the reserve, in bytes.
    pub memory_bytes: u64,
    /// What came of it; `None`: it does not fit.
    pub report: Option<Report>,
}

/// One shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShapePlan {
    /// Its place on the menu.
    pub bundle: usize,
    /// Jobs that were asked for.
    pub asked: usize,
    /// Those that were begun.
    pub of: OfBundle,
    /// The mean wait of all jobs if it were pinned.
    pub wait_pinned: Duration,
    /// The mean wait of the other jobs as it is, and without the jobs of this shape.
    pub wait_of_others: [Duration; 2],
    /// What to do with it.
    pub advice: Advice,
}

/// What to do with a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Leave it to the scheduler.
    Keep,
    /// Pin it: everybody waits less.
    Pin,
    /// Serve it elsewhere, or not at all: few ask for it, and all others wait for it.
    Drop,
    /// Nobody asked for it.
    Unused,
}

/// Plans for a sample of traffic. Of the scenario's devices only the memory counts; K is what is looked for.
#[must_use]
pub fn plan(scenario: &Scenario, k_max: u32) -> Plan {
    let choices: Vec<_> = (1..=k_max).map(|k| choice(scenario, k)).collect();
    let chosen = chosen(&choices);
    let shapes = match chosen {
        Some(place) => shapes(&with_k(scenario, choices[place].k)),
        None => Vec::new(),
    };
    Plan {
        choices,
        chosen,
        shapes,
    }
}

fn choice(scenario: &Scenario, k: u32) -> Choice {
    let memory_bytes = memory(scenario, k);
    let least = scenario.devices.iter().map(|device| device.memory_bytes);
    let least = least.filter(|&bytes| bytes > 0).min();
    // With one worker at a time what is too large is refused, and the rest is served.
    let fits = k == 1 || least.is_none_or(|bytes| memory_bytes <= bytes);
    Choice {
        k,
        memory_bytes,
        report: fits.then(|| run(&with_k(scenario, k))),
    }
}

/// The K largest workers, and the weights of each of their models once where they are shared.
fn memory(scenario: &Scenario, k: u32) -> u64 {
    let mut largest: Vec<&BundleCost> = scenario.menu.iter().collect();
    largest.sort_by_key(|cost| Reverse(cost.private_bytes));
    largest.truncate(k as usize);
    let mut models = BTreeMap::new();
    for cost in &largest {
        let weights: &mut u64 = models.entry(&cost.key.model).or_default();
        *weights = cost.weights_bytes.max(*weights);
    }
    let shared = scenario.devices.iter().all(|device| device.shares_weights);
    let weights = models.into_values().filter(|_| shared);
    let private = largest.iter().map(|cost| cost.private_bytes);
    weights.chain(private).sum::<u64>() + scenario.config.memory_reserve_bytes
}

fn with_k(scenario: &Scenario, k: u32) -> Scenario {
    let mut scenario = scenario.clone();
    for device in &mut scenario.devices {
        device.slots = k;
    }
    scenario
}

/// The smallest K that refuses no more than any other and whose waits are nearly as short as the shortest; `None`:
/// none served anybody.
fn chosen(choices: &[Choice]) -> Option<usize> {
    let serves = |report: &&Report| report.jobs == 0 || report.rejections < report.jobs;
    let of = |choice: &Choice| {
        let report = choice.report.as_ref().filter(serves)?;
        Some((report.rejections, mean_wait(report)))
    };
    let (refused, best) = choices.iter().filter_map(of).min()?;
    let enough = (best * NEAR_PERCENT / 100).max(NO_WAIT);
    choices.iter().position(|choice| {
        of(choice).is_some_and(|(refuses, wait)| refuses == refused && wait <= enough)
    })
}

fn shapes(scenario: &Scenario) -> Vec<ShapePlan> {
    let report = run(scenario);
    let all: Vec<_> = (0..scenario.menu.len()).collect();
    let mut plans: Vec<_> = all
        .iter()
        .map(|&bundle| shape(scenario, &report, bundle))
        .collect();
    advise_best_pin(&mut plans, mean_wait(&report));
    plans
}

fn shape(scenario: &Scenario, report: &Report, bundle: usize) -> ShapePlan {
    let of = report.bundles[bundle];
    let asks = |arrival: &&Arrival| arrival.bundle == bundle;
    let asked = scenario.arrivals.iter().filter(asks).count();
    let wait = mean_wait(report);
    let as_it_is = mean_of_others(report, bundle);
    let mut plan = ShapePlan {
        bundle,
        asked,
        of,
        wait_pinned: wait,
        wait_of_others: [as_it_is; 2],
        advice: Advice::Unused,
    };
    if asked == 0 {
        return plan;
    }
    if let Some(report) = pinned(scenario, bundle).map(|pinned| run(&pinned)) {
        plan.wait_pinned = mean_wait(&report);
    }
    plan.wait_of_others[1] = mean_of_others(&run(&without(scenario, bundle)), bundle);
    let is_rare = asked * 100 <= report.jobs * RARE_PERCENT;
    plan.advice = match is_rare && is_shorter(plan.wait_of_others[1], as_it_is) {
        true => Advice::Drop,
        false => Advice::Keep,
    };
    plan
}

/// Pins help by taking places from others: only the best one is advised, and then the plan is made anew.
fn advise_best_pin(plans: &mut [ShapePlan], wait: Duration) {
    let kept = plans
        .iter_mut()
        .filter(|plan| plan.advice == Advice::Keep && is_shorter(plan.wait_pinned, wait));
    if let Some(best) = kept.min_by_key(|plan| plan.wait_pinned) {
        best.advice = Advice::Pin;
    }
}

/// One slot must be left to others.
fn pinned(scenario: &Scenario, bundle: usize) -> Option<Scenario> {
    let mut scenario = scenario.clone();
    let key = scenario.menu[bundle].key.clone();
    scenario.config.pinned.push(key);
    let pinned = scenario.config.pinned.len();
    let mut slots = scenario.devices.iter().map(|device| device.slots as usize);
    slots.all(|slots| slots > pinned).then_some(scenario)
}

fn without(scenario: &Scenario, bundle: usize) -> Scenario {
    let mut scenario = scenario.clone();
    scenario.arrivals.retain(|arrival| arrival.bundle != bundle);
    scenario
}

fn is_shorter(wait: Duration, than: Duration) -> bool {
    than > NO_WAIT && wait * 100 <= than * (100 - WORTH_PERCENT)
}

fn mean_wait(report: &Report) -> Duration {
    mean(report.bundles.iter())
}

fn mean_of_others(report: &Report, bundle: usize) -> Duration {
    let others = report.bundles.iter().enumerate();
    mean(others.filter_map(|(place, of)| (place != bundle).then_some(of)))
}

fn mean<'a>(bundles: impl Iterator<Item = &'a OfBundle>) -> Duration {
    let (waited, jobs) = bundles.fold((Duration::ZERO, 0), |(waited, jobs), of| {
        (waited + of.waited, jobs + of.jobs)
    });
    waited
        .checked_div(u32::try_from(jobs).unwrap_or(u32::MAX))
        .unwrap_or_default()
}
