//! How many jobs waited no longer than that.

use super::{
    COLOURS, FAINT_INK, GRID, INK, PlotError, Run, Sign, Stroke, beside_key, curve, key, picture,
    small,
};
use plotters::prelude::{ChartBuilder, IntoLogRange};
use plotters::style::TRANSPARENT;

/// Who waited less long stands at the left edge, in seconds.
const SHORTEST_S: f64 = 0.05;
/// Points of one line.
const POINTS: usize = 400;

/// Draws the cumulative distribution of waits, a line for each run: a colour for each K, dashes for each policy.
///
/// # Errors
/// [`PlotError`] when the picture could not be drawn.
pub fn waits(runs: &[Run]) -> Result<String, PlotError> {
    let meaning = "from the arrival of a job to its start; a line meets the left edge at the share that hardly waited";
    picture((900, 520), "Waits", meaning, |area| {
        let (body, keys) = beside_key(area);
        let waits = runs.iter().map(|run| run.report.wait(100).as_secs_f64());
        let longest = waits.fold(1.0, f64::max) * 1.1;
        let mut chart = ChartBuilder::on(&body)
            .x_label_area_size(50)
            .y_label_area_size(74)
            .build_cartesian_2d((SHORTEST_S..longest).log_scale(), 0.0..100.0)?;
        chart
            .configure_mesh()
            .x_label_formatter(&seconds)
            .y_label_formatter(&|percent| format!("{percent:.0} %"))
            .x_desc("wait (log scale)")
            .y_desc("jobs that waited no longer")
            .label_style(small(INK))
            .axis_desc_style(small(INK))
            .axis_style(FAINT_INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (place, run) in runs.iter().enumerate() {
            let stroke = stroke(runs, run);
            curve(&mut chart, distribution(run), stroke)?;
            let name = format!("{} K={}", run.policy, run.k);
            key(&keys, place, &Sign::Line(stroke), &name)?;
        }
        Ok(())
    })
}

/// Waits with the share of jobs that waited no longer, from the left edge on.
fn distribution(run: &Run) -> Vec<(f64, f64)> {
    let waits = &run.report.waits;
    let last = waits.len().saturating_sub(1);
    let points = (0..=POINTS).filter_map(|point| {
        let place = last * point / POINTS;
        let wait = waits.get(place)?.as_secs_f64().max(SHORTEST_S);
        Some((wait, (place + 1) as f64 / waits.len() as f64 * 100.0))
    });
    let points: Vec<_> = points.collect();
    let hardly = points.partition_point(|(wait, _)| *wait <= SHORTEST_S);
    points[hardly.saturating_sub(1)..].to_vec()
}

fn stroke(runs: &[Run], run: &Run) -> Stroke {
    let mut policies: Vec<&String> = runs.iter().map(|run| &run.policy).collect();
    policies.dedup();
    let mut ks: Vec<u32> = runs.iter().map(|run| run.k).collect();
    ks.sort_unstable();
    ks.dedup();
    let policy = policies.iter().position(|name| **name == run.policy);
    let k = ks.partition_point(|k| *k < run.k);
    Stroke {
        colour: COLOURS[k % COLOURS.len()],
        dash: Stroke::DASHES[policy.unwrap_or_default() % Stroke::DASHES.len()],
    }
}

fn seconds(wait: &f64) -> String {
    match *wait {
        wait if wait < 1.0 => format!("{:.0} ms", wait * 1_000.0),
        wait => format!("{wait:.0} s"),
    }
}
