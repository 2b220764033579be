//! `reel replay`: decides a recorded run again, or otherwise.

use crate::comparison::{self, Row};
use crate::output::say;
use crate::scheduling::{Batching, Eviction, GAIN_PERCENT};

use anyhow::Context;
use clap::Args;
use reel_recording::Recording;
use reel_simulator::{observe, run};
use std::path::PathBuf;

/// Decides everything in a recording again and compares; with a policy, shows what would have been.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A recording, as `[recording] enabled = true` leaves it under DATA_DIR/recordings
    file: PathBuf,
    /// What if the worker that makes room had been chosen like this
    #[arg(long, visible_alias = "policy", value_enum)]
    eviction: Option<Eviction>,
    /// What if each device had had so many workers
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    k: Option<u32>,
    /// What if jobs had shared workers like this
    #[arg(long, value_enum)]
    batching: Option<Batching>,
}

pub(crate) fn run_command(args: &ReplayArgs) -> anyhow::Result<()> {
    let replay = Recording::open(&args.file)?.replay()?;
    say(format!(
        "{} inputs over {:.1} s, {} decisions, hash {}: the same as recorded, {} checks",
        replay.inputs,
        replay.span.as_secs_f64(),
        replay.commands,
        replay.decisions,
        replay.checks
    ))?;
    if args.eviction.is_none() && args.k.is_none() && args.batching.is_none() {
        return Ok(());
    }
    let observed = observe(Recording::open(&args.file)?).context("the recording")?;
    let mut otherwise = observed.scenario.clone();
    if let Some(eviction) = args.eviction {
        otherwise.config.eviction = eviction.into();
    }
    if let Some(batching) = args.batching {
        otherwise.config.batching = batching.with_gain(GAIN_PERCENT);
    }
    for device in &mut otherwise.devices {
        device.slots = args.k.unwrap_or(device.slots);
    }
    let alike = run(&observed.scenario);
    comparison::print(&[
        Row::new("what happened", &observed.scenario, observed.report),
        Row::new("simulated alike", &observed.scenario, alike),
        Row::new("simulated otherwise", &otherwise, run(&otherwise)),
    ])?;
    Ok(())
}
