//! `reel incident`: what is known of workers that died.

use crate::SettingsArgs;
use crate::output::{new_table, say};
use anyhow::Context;
use clap::{Args, Subcommand};
use comfy_table::CellAlignment;
use reel_supervisor::incidents::IncidentNote;
use reel_supervisor::{Incident, Incidents};

/// Looks at deaths of workers, as they lie under DATA_DIR/incidents.
#[derive(Debug, Args)]
pub(crate) struct IncidentArgs {
    #[command(subcommand)]
    command: IncidentCommand,
}

#[derive(Debug, Subcommand)]
enum IncidentCommand {
    /// All that are kept, the oldest first
    List(SettingsArgs),
    /// One of them, whole
    Show {
        /// Which one, as `list` names it [default: the newest]
        id: Option<String>,
        /// As the file has it
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

pub(crate) fn run_command(args: IncidentArgs) -> anyhow::Result<()> {
    match args.command {
        IncidentCommand::List(settings) => list(&settings.load()?.incidents()),
        IncidentCommand::Show { id, json, settings } => {
            let incidents = settings.load()?.incidents();
            let incident = find(&incidents, id)?;
            match json {
                true => Ok(say(serde_json::to_string_pretty(&incident)?)?),
                false => show(&incident),
            }
        }
    }
}

fn find(incidents: &Incidents, id: Option<String>) -> anyhow::Result<Incident> {
    let id = match id {
        Some(id) => id,
        None => incidents.ids()?.pop().with_context(|| {
            format!(
                "no worker has died: nothing in {}",
                incidents.directory.display()
            )
        })?,
    };
    incidents.read(&id).with_context(|| {
        let directory = incidents.directory.display();
        format!("no incident {id:?} in {directory}; `reel incident list` names those there are")
    })
}

fn list(incidents: &Incidents) -> anyhow::Result<()> {
    let mut table = new_table(&["incident", "fault", "worker", "bundle", "lived", "jobs"]);
    for column in table.column_iter_mut().take(4) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    let ids = incidents.ids()?;
    if ids.is_empty() {
        return Ok(say(format!(
            "no worker has died: nothing in {}",
            incidents.directory.display()
        ))?);
    }
    for id in ids {
        let incident = incidents
            .read(&id)
            .with_context(|| format!("incident {id}"))?;
        table.add_row([
            incident.id,
            incident.fault,
            incident.worker,
            incident.bundle,
            lived(incident.lived_ms),
            incident.attempts.len().to_string(),
        ]);
    }
    Ok(say(table)?)
}

fn show(incident: &Incident) -> anyhow::Result<()> {
    let Incident {
        id,
        fault,
        worker,
        pid,
        slot,
        device,
        bundle,
        bundle_id,
        exit,
        ..
    } = incident;
    say(format!("incident  {id}"))?;
    say(format!("fault     {fault}"))?;
    for (name, text) in [("reason", &incident.reason), ("hint", &incident.hint)] {
        if let Some(text) = text {
            say(format!("{name:<9} {text}"))?;
        }
    }
    say(format!(
        "process   {exit}, after {}",
        lived(incident.lived_ms)
    ))?;
    say(format!(
        "worker    {worker} (process {pid}) in slot {slot} on {device}"
    ))?;
    say(format!("bundle    {bundle} ({bundle_id})"))?;
    for attempt in &incident.attempts {
        let stage = attempt.stage.as_deref().unwrap_or("not begun");
        let goes_on = match attempt.checkpoint {
            Some(step) => format!("goes on after step {step}"),
            None => "begins anew".into(),
        };
        say(format!(
            "job       {} attempt {}: {stage}, step {}/{}; {goes_on}",
            attempt.job, attempt.attempt, attempt.step, attempt.steps
        ))?;
        if let Some(prompt) = &attempt.prompt {
            say(format!("prompt    {prompt}"))?;
        }
    }
    say("\nwhat it did last")?;
    for IncidentNote { before_us, what } in &incident.flight {
        say(format!("  -{:>10.3} ms  {what}", *before_us as f64 / 1e3))?;
    }
    say("\nwhat it printed last")?;
    for line in &incident.output {
        say(format!("  {line}"))?;
    }
    Ok(())
}

fn lived(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        _ => format!("{} s", ms / 1_000),
    }
}
