//! Runs side by side.

use crate::output::{new_table, say, seconds};
use reel_simulator::{Optimum, Report, Scenario, optimum};
use std::io;
use std::time::Duration;

/// One run of the table.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    pub(crate) report: Report,
    pub(crate) optimum: Optimum,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, scenario: &Scenario, report: Report) -> Self {
        Self {
            name: name.into(),
            report,
            optimum: optimum(scenario),
        }
    }

    fn cells(&self) -> [String; 16] {
        let report = &self.report;
        let share = |jobs: usize| {
            let percent = jobs as f64 / report.jobs.max(1) as f64 * 100.0;
            format!("{percent:.1} %")
        };
        let [p50, p95, p99, longest] =
            [50, 95, 99, 100].map(|percent| seconds(report.wait(percent)));
        [
            self.name.clone(),
            report.jobs.to_string(),
            report.rejections.to_string(),
            share(report.hot),
            share(report.at_once),
            p50,
            p95,
            p99,
            longest,
            report.spawns.to_string(),
            seconds(report.spawning),
            seconds(report.spawning_more),
            times(report.spawning, self.optimum.spawning),
            report.counters.evictions.to_string(),
            report.counters.merges.to_string(),
            seconds(report.busy),
        ]
    }
}

/// Runs side by side.
pub(crate) fn print(rows: &[Row]) -> io::Result<()> {
    let mut table = new_table(&[
        "",
        "jobs",
        "refused",
        "hot",
        "at once",
        "wait p50",
        "p95",
        "p99",
        "longest",
        "spawns",
        "spawning",
        "2nd workers",
        "x optimum",
        "evicted",
        "joined",
        "busy",
    ]);
    for row in rows {
        table.add_row(row.cells());
    }
    say(table)
}

fn times(spawning: Duration, optimum: Duration) -> String {
    if optimum.is_zero() {
        return "-".into();
    }
    format!("{:.2}", spawning.div_duration_f64(optimum))
}
