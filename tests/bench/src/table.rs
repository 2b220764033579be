//! Figures: a median with the smallest and the largest, beside a bar to hold.

use serde::Serialize;
use std::fmt;

/// Several runs of one measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    runs: usize,
    /// What the figure should keep to, where there is such a bar.
    bar: Option<Bar>,
}

/// What a figure should keep to.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Bar {
    /// Not more than this.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
}

impl Bar {
    const fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtMost(bar) => figure <= bar,
            Self::AtLeast(bar) => figure >= bar,
        }
    }

    const fn sign(self) -> (&'static str, &'static str, f64) {
        match self {
            Self::AtMost(bar) => ("≤", "<=", bar),
            Self::AtLeast(bar) => ("≥", ">=", bar),
        }
    }
}

/// All figures of one run of the program.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a figure; `bar` is what its median should not exceed.
    pub(crate) fn add(
        &mut self,
        name: &str,
        unit: &'static str,
        samples: Vec<f64>,
        bar: Option<f64>,
    ) {
        self.push(name, unit, samples, bar.map(Bar::AtMost));
    }

    /// As [`add`](Self::add), with a bar that the median should reach.
    pub(crate) fn add_at_least(
        &mut self,
        name: &str,
        unit: &'static str,
        samples: Vec<f64>,
        bar: f64,
    ) {
        self.push(name, unit, samples, Some(Bar::AtLeast(bar)));
    }

    fn push(&mut self, name: &str, unit: &'static str, mut samples: Vec<f64>, bar: Option<Bar>) {
        samples.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (samples.first(), samples.last()) else {
            return;
        };
        let median = samples[samples.len() / 2];
        self.rows.push(Row {
            name: name.into(),
            unit,
            median,
            min,
            max,
            runs: samples.len(),
            bar,
        });
    }

    /// As [`add`](Self::add), for a promise about nearly all runs: the 95th percentile takes the place of the median.
    pub(crate) fn add_p95(&mut self, name: &str, unit: &'static str, samples: Vec<f64>, bar: f64) {
        self.add_percentile(&format!("{name}, p95"), unit, samples, bar, 95);
    }

    /// The same with the 99th.
    pub(crate) fn add_p99(&mut self, name: &str, unit: &'static str, samples: Vec<f64>, bar: f64) {
        self.add_percentile(&format!("{name}, p99"), unit, samples, bar, 99);
    }

    fn add_percentile(
        &mut self,
        name: &str,
        unit: &'static str,
        mut samples: Vec<f64>,
        bar: f64,
        percent: usize,
    ) {
        samples.sort_by(f64::total_cmp);
        // Nearest rank.
        let rank = (samples.len() * percent).div_ceil(100).max(1);
        let Some(&percentile) = samples.get(rank - 1) else {
            return;
        };
        self.add(name, unit, samples, Some(bar));
        if let Some(row) = self.rows.last_mut() {
            row.median = percentile;
        }
    }

    /// The rows as `make chaos` prints them: what, bar, measured.
    pub(crate) fn for_report(&self) -> String {
        let line = |row: &Row| {
            let bar = row.bar.map_or_else(
                || "-".into(),
                |bar| {
                    let (_, sign, bar) = bar.sign();
                    format!("{sign} {bar} {}", row.unit)
                },
            );
            format!(
                "| {} | {bar} | {:.1} {} ({:.1} to {:.1}, {} runs) |\n",
                row.name, row.median, row.unit, row.min, row.max, row.runs
            )
        };
        self.rows.iter().map(line).collect()
    }

    /// The figures for machines.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| {:<58} | {:>10} | {:>10} | {:>10} | {:>4} | {:>8} |",
            "what", "median", "min", "max", "runs", "bar"
        )?;
        writeln!(
            f,
            "|{:-<60}|{:->11}:|{:->11}:|{:->11}:|{:->5}:|{:->9}:|",
            "", "", "", "", "", ""
        )?;
        for row in &self.rows {
            let name = format!("{} ({})", row.name, row.unit);
            let bar = row.bar.map_or_else(String::new, |bar| {
                let (sign, _, figure) = bar.sign();
                let missed = if bar.holds(row.median) { "" } else { " !" };
                format!("{sign} {figure}{missed}")
            });
            writeln!(
                f,
                "| {name:<58} | {:>10.3} | {:>10.3} | {:>10.3} | {:>4} | {bar:>8} |",
                row.median, row.min, row.max, row.runs
            )?;
        }
        Ok(())
    }
}
