//! The share of jobs that find a hot worker, over K.

use super::{
    COLOURS, FAINT_INK, GRID, INK, PlotError, Run, Sign, Stroke, beside_key, curve, key, picture,
    small,
};
use plotters::prelude::{ChartBuilder, Circle};
use plotters::style::{Color, TRANSPARENT};

/// Draws a line for each policy of eviction, and one for the optimum.
///
/// # Errors
/// [`PlotError`] when the picture could not be drawn.
pub fn hit_rate(runs: &[Run]) -> Result<String, PlotError> {
    let meaning = "jobs at whose arrival a worker of their shape was ready, with work or without";
    picture((900, 520), "Hit rate", meaning, |area| {
        let (body, keys) = beside_key(area);
        let first = runs.iter().map(|run| run.k).min().unwrap_or(1);
        let last = runs.iter().map(|run| run.k).max().unwrap_or(1);
        let mut chart = ChartBuilder::on(&body)
            .x_label_area_size(50)
            .y_label_area_size(74)
            .build_cartesian_2d(f64::from(first) - 0.2..f64::from(last) + 0.2, 0.0..100.0)?;
        chart
            .configure_mesh()
            .x_labels((last - first + 2) as usize)
            .x_label_formatter(&whole)
            .y_label_formatter(&|percent| format!("{percent:.0} %"))
            .x_desc("workers on each device (K)")
            .y_desc("jobs that found a hot worker")
            .label_style(small(INK))
            .axis_desc_style(small(INK))
            .axis_style(FAINT_INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (place, (name, points)) in lines(runs).into_iter().enumerate() {
            let stroke = stroke(place);
            curve(&mut chart, points.clone(), stroke)?;
            let marks = points.into_iter();
            chart.draw_series(marks.map(|at| Circle::new(at, 4, stroke.colour.filled())))?;
            key(&keys, place, &Sign::Marked(stroke), &name)?;
        }
        Ok(())
    })
}

type Line = (String, Vec<(f64, f64)>);

/// The optimum first, so that the policies are drawn over it.
fn lines(runs: &[Run]) -> Vec<Line> {
    let mut lines: Vec<Line> = vec![("optimum".to_owned(), Vec::new())];
    for run in runs {
        let percent = |jobs: usize| jobs as f64 / run.report.jobs.max(1) as f64 * 100.0;
        let k = f64::from(run.k);
        let place = lines.iter().position(|(name, _)| *name == run.policy);
        let place = place.unwrap_or_else(|| {
            lines.push((run.policy.clone(), Vec::new()));
            lines.len() - 1
        });
        lines[place].1.push((k, percent(run.report.hot)));
        // It is the same for every policy.
        if place == 1 {
            lines[0]
                .1
                .push((k, percent(run.report.jobs - run.optimum.spawns)));
        }
    }
    for (_, points) in &mut lines {
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    lines
}

/// The optimum is dotted in ink; policies that are equally good are seen through each other's gaps.
fn stroke(place: usize) -> Stroke {
    match place.checked_sub(1) {
        None => Stroke {
            colour: INK,
            dash: Stroke::DASHES[2],
        },
        Some(policy) => Stroke {
            colour: COLOURS[policy % COLOURS.len()],
            dash: Stroke::DASHES[policy % 2],
        },
    }
}

/// K is whole; between two of them nothing is written.
fn whole(k: &f64) -> String {
    if (k - k.round()).abs() < 1e-9 {
        format!("{k:.0}")
    } else {
        String::new()
    }
}
