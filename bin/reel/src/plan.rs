//! `reel plan`: K, memory, what to keep hot and what to give up, before anything starts.

use crate::baker;
use crate::catalog;
use crate::config::Config;
use crate::output::{new_table, say, seconds};
use crate::startup;
use anyhow::Context;
use clap::Args;
use reel_bundle::{Cache, Model, State};
use reel_domain::BundleKey;
use reel_recording::Recording;
use reel_scheduler::{DeviceSpec, Profile, assumed_private_bytes};
use reel_simulator::plan::{Choice, ShapePlan};
use reel_simulator::trace::{self, Trace};
use reel_simulator::{
    Advice, Arrival, BundleCost, Observed, Pattern, Plan, Scenario, Volume, batch_share, draw, plan,
};
use reel_supervisor::{Device, Profiles};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Jobs of the traffic that is drawn where nobody gives a sample.
const DRAWN_JOBS: usize = 5_000;
/// How busy that traffic keeps the devices.
const DRAWN_LOAD: f64 = 0.75;
/// Workers on a device that are tried at most.
const K_MAX: usize = 16;
/// Steps of a job, for the cost of a step.
const STEPS: u32 = 20;
/// Longest time that a spawn or a job may be taken to last, in seconds.
const ASSUMED_S_MAX: f64 = 86_400.0;
/// One of the units that memory is printed in.
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// Where the sample of traffic comes from, and what is taken for granted where nothing was measured.
#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// Traffic: arrivals in a CSV file, as `reel simulate --write-trace` makes them
    #[arg(long, value_name = "FILE", conflicts_with = "recording")]
    trace: Option<PathBuf>,
    /// Traffic: what a server recorded [default: a drawn sample, few shapes with most of the jobs]
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// Seconds from spawn to READY of what nobody measured
    #[arg(long, default_value_t = 24.0, value_name = "S")]
    spawn: f64,
    /// Seconds of one job of what nobody measured
    #[arg(long, default_value_t = 7.0, value_name = "S")]
    service: f64,
}

/// One line of the menu, as far as it is known.
struct Known {
    cost: BundleCost,
    measured: bool,
    baked: bool,
}

pub(crate) fn run(config: &Config, args: &SampleArgs) -> anyhow::Result<()> {
    let models = catalog::load_models(config)?;
    let devices = startup::find_devices(config)?;
    let shares_weights = devices.iter().all(Device::is_cpu);
    let mut menu = args.menu(config, &models, shares_weights)?;
    let arrivals = args.traffic(&mut menu, devices.len())?;
    let specs = devices.iter().map(|device| DeviceSpec {
        slots: 1,
        memory_bytes: device.memory_bytes,
        shares_weights: device.is_cpu(),
    });
    let scenario = Scenario {
        config: config.scheduler()?,
        devices: specs.collect(),
        arrivals,
        menu: menu.iter().map(|known| known.cost.clone()).collect(),
        batch_max: config.scheduler.batch_max,
    };
    print_menu(&menu)?;
    let k_max = u32::try_from(menu.len().min(K_MAX))?;
    let plan = plan(&scenario, k_max);
    print_choices(&plan, &scenario)?;
    print_shapes(&plan, &scenario)?;
    print_advice(&plan, &scenario)?;
    Ok(())
}

impl SampleArgs {
    /// What each bundle of the menu costs: measured by an earlier run, or taken for granted.
    fn menu(
        &self,
        config: &Config,
        models: &[Model],
        shares_weights: bool,
    ) -> anyhow::Result<Vec<Known>> {
        let profiles = Profiles::load(config.paths.data_dir.join("profiles.json"));
        let cache = Cache::new(config.cache_dir());
        let needs = baker::requirements(config)?;
        let mut menu = Vec::new();
        for model in models {
            for &shape in &model.menu.shapes {
                let key = BundleKey {
                    model: model.menu.name.clone(),
                    shape,
                };
                let (profile, weights_bytes, baked) = match cache.state(model, shape, &needs) {
                    State::Ready(bundle) => {
                        let weights = bundle.manifest.weights_bytes();
                        (profiles.get(&bundle.id), weights, true)
                    }
                    State::Missing | State::Stale(_) => (Profile::default(), 0, false),
                };
                menu.push(self.known(key, profile, weights_bytes, baked)?);
            }
        }
        assume_memory(&mut menu, shares_weights);
        Ok(menu)
    }

    fn known(
        &self,
        key: BundleKey,
        profile: Profile,
        weights_bytes: u64,
        baked: bool,
    ) -> anyhow::Result<Known> {
        let or_assumed = |us: u64, assumed: f64| match us {
            0 => seconds_of(assumed),
            us => Ok(Duration::from_micros(us)),
        };
        Ok(Known {
            cost: BundleCost {
                key,
                spawn: or_assumed(profile.spawn_us, self.spawn)?,
                service: or_assumed(profile.service_us, self.service)?,
                steps: STEPS,
                batch_share: batch_share(&profile),
                weights_bytes,
                private_bytes: profile.private_bytes,
            },
            measured: profile.spawn_us > 0 && profile.service_us > 0,
            baked,
        })
    }

    /// The sample; a recording also says what was measured in it.
    fn traffic(&self, menu: &mut [Known], devices: usize) -> anyhow::Result<Vec<Arrival>> {
        if let Some(path) = &self.trace {
            let named = || path.display().to_string();
            let file = File::open(path).with_context(named)?;
            let Trace { shapes, arrivals } = trace::read(file).with_context(named)?;
            return of_menu(arrivals, path, |bundle| {
                let mut keys = menu.iter().map(|known| &known.cost.key);
                let place = keys.position(|key| key.shape == shapes[bundle]);
                place.ok_or_else(|| shapes[bundle].to_string())
            });
        }
        if let Some(path) = &self.recording {
            let observed = reel_simulator::observe(Recording::open(path)?)?;
            take_over(menu, &observed);
            let recorded = &observed.scenario.menu;
            return of_menu(observed.scenario.arrivals, path, |bundle| {
                let mut keys = menu.iter().map(|known| &known.cost.key);
                let place = keys.position(|key| *key == recorded[bundle].key);
                place.ok_or_else(|| recorded[bundle].key.to_string())
            });
        }
        let service: Duration = menu.iter().map(|known| known.cost.service).sum();
        let service = service / u32::try_from(menu.len())?;
        Ok(draw(
            Pattern::Zipf,
            Volume {
                jobs: DRAWN_JOBS,
                rate: DRAWN_LOAD * devices as f64 / service.as_secs_f64(),
                bundles: menu.len(),
                tenants: 3,
                service,
                seed: 1,
            },
        ))
    }
}

/// A time of a spawn or a job, as an operator gives it.
fn seconds_of(value: f64) -> anyhow::Result<Duration> {
    anyhow::ensure!(
        value > 0.0 && value <= ASSUMED_S_MAX,
        "{value} s is not a time: above 0, up to {ASSUMED_S_MAX}"
    );
    Ok(Duration::from_secs_f64(value))
}

/// Costs that were seen in a recording, where no server has kept any.
fn take_over(menu: &mut [Known], observed: &Observed) {
    let seen = observed.scenario.menu.iter().zip(&observed.measured);
    for (cost, _) in seen.filter(|(_, measured)| **measured) {
        let same = menu
            .iter_mut()
            .find(|known| known.cost.key == cost.key && !known.measured);
        if let Some(known) = same {
            (known.cost.spawn, known.cost.service) = (cost.spawn, cost.service);
            known.measured = true;
        }
    }
}

/// The arrivals by the places of the menu: `place` finds a bundle of the sample there. What is asked for and is not
/// on the menu is refused by its name.
fn of_menu(
    arrivals: Vec<Arrival>,
    path: &Path,
    place: impl Fn(usize) -> Result<usize, String>,
) -> anyhow::Result<Vec<Arrival>> {
    let arrivals = arrivals.into_iter().map(|arrival| {
        let bundle = place(arrival.bundle)
            .map_err(|name| anyhow::anyhow!("{}: {name} is not on the menu", path.display()))?;
        Ok(Arrival { bundle, ..arrival })
    });
    arrivals.collect()
}

/// What nobody measured is taken to need as much as the scheduler takes it to.
fn assume_memory(menu: &mut [Known], shares_weights: bool) {
    for place in 0..menu.len() {
        let key = &menu[place].cost.key;
        let relatives = menu
            .iter()
            .filter(|other| other.cost.key.model == key.model);
        let (weights, private) = relatives.fold((0, 0), |(weights, private), other| {
            let cost = &other.cost;
            (
                cost.weights_bytes.max(weights),
                cost.private_bytes.max(private),
            )
        });
        let cost = &mut menu[place].cost;
        cost.weights_bytes = weights;
        if cost.private_bytes == 0 {
            cost.private_bytes = private.max(assumed_private_bytes(weights, shares_weights));
        }
    }
}

fn print_menu(menu: &[Known]) -> io::Result<()> {
    let mut table = new_table(&["shape", "state", "spawn", "job", "weights", "beside", ""]);
    for known in menu {
        let cost = &known.cost;
        table.add_row([
            cost.key.to_string(),
            if known.baked { "baked" } else { "not baked" }.to_owned(),
            seconds(cost.spawn),
            seconds(cost.service),
            gib(cost.weights_bytes),
            gib(cost.private_bytes),
            if known.measured {
                "measured"
            } else {
                "assumed"
            }
            .to_owned(),
        ]);
    }
    say(format!("What is known of the menu:\n{table}\n"))
}

fn print_choices(plan: &Plan, scenario: &Scenario) -> io::Result<()> {
    let mut table = new_table(&[
        "K", "memory", "refused", "hot", "wait p50", "p95", "p99", "spawns", "starting", "",
    ]);
    for (place, choice) in plan.choices.iter().enumerate() {
        table.add_row(cells(choice, plan.chosen == Some(place), scenario));
    }
    let jobs = scenario.arrivals.len();
    let devices = scenario.devices.len();
    say(format!(
        "What K workers on each of {devices} devices do with {jobs} jobs:\n{table}\n"
    ))
}

fn cells(choice: &Choice, chosen: bool, scenario: &Scenario) -> Vec<String> {
    let mut cells = vec![choice.k.to_string(), gib(choice.memory_bytes)];
    match &choice.report {
        None => cells.resize(9, "-".into()),
        Some(report) => {
            let hot = report.hot as f64 / report.jobs.max(1) as f64 * 100.0;
            let time = report.span.as_secs_f64() * scenario.devices.len() as f64;
            let starting = report.spawning.as_secs_f64() / time.max(f64::MIN_POSITIVE) * 100.0;
            cells.push(report.rejections.to_string());
            cells.push(format!("{hot:.1} %"));
            cells.extend([50, 95, 99].map(|percent| seconds(report.wait(percent))));
            cells.push(report.spawns.to_string());
            cells.push(format!("{starting:.1} %"));
        }
    }
    cells.push(match (chosen, &choice.report) {
        (true, _) => "enough".into(),
        (false, None) => "does not fit".into(),
        (false, Some(_)) => String::new(),
    });
    cells
}

fn print_shapes(plan: &Plan, scenario: &Scenario) -> io::Result<()> {
    let mut table = new_table(&[
        "shape",
        "jobs",
        "hot",
        "wait hot",
        "wait cold",
        "if pinned, all wait",
        "without it, others wait",
        "",
    ]);
    for shape in &plan.shapes {
        let share =
            |part: usize, of: usize| format!("{:.1} %", part as f64 / of.max(1) as f64 * 100.0);
        let of = shape.of;
        table.add_row([
            scenario.menu[shape.bundle].key.to_string(),
            share(shape.asked, scenario.arrivals.len()),
            share(of.hot, of.jobs),
            seconds(of.wait_hot),
            seconds(of.wait_cold),
            seconds(shape.wait_pinned),
            seconds(shape.wait_of_others[1]),
            advice(shape).to_owned(),
        ]);
    }
    if let Some(place) = plan.chosen {
        say(format!(
            "The shapes, with K = {}:\n{table}\n",
            plan.choices[place].k
        ))?;
    }
    Ok(())
}

const fn advice(shape: &ShapePlan) -> &'static str {
    match shape.advice {
        Advice::Keep => "",
        Advice::Pin => "pin",
        Advice::Drop => "drop",
        Advice::Unused => "nobody asks",
    }
}

/// What to write into `reel.toml`.
fn print_advice(plan: &Plan, scenario: &Scenario) -> io::Result<()> {
    let Some(place) = plan.chosen else {
        return say("Not even one worker fits on a device.");
    };
    say(format!(
        "[pool]\nslots_per_device = {}",
        plan.choices[place].k
    ))?;
    let pins = plan.shapes.iter();
    let pins = pins.filter(|shape| shape.advice == Advice::Pin);
    let pins: Vec<_> = pins
        .map(|shape| format!("\"{}\"", scenario.menu[shape.bundle].key))
        .collect();
    if !pins.is_empty() {
        say(format!("\n[scheduler]\npinned = [{}]", pins.join(", ")))?;
    }
    Ok(())
}

fn gib(bytes: u64) -> String {
    match bytes {
        0 => "-".into(),
        _ => format!("{:.2} GiB", bytes as f64 / GIB),
    }
}
