//! Bars, on a terminal; elsewhere they are not drawn.

use super::video::Video;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::time::Duration;

/// How often a bar is drawn while nothing comes, so that its clock runs.
const TICK: Duration = Duration::from_millis(200);

/// A bar for each video.
pub(crate) struct Bars {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
}

impl Bars {
    pub(crate) fn new(labels: impl Iterator<Item = String>) -> Self {
        let all = MultiProgress::new();
        let bars = labels.map(|label| {
            let bar = all.add(
                ProgressBar::new(100)
                    .with_style(style("{prefix}[{bar:30}] {percent:>3} %  {elapsed}  {msg}")),
            );
            bar.set_prefix(label);
            bar.set_message("asking");
            bar.enable_steady_tick(TICK);
            bar
        });
        let bars = bars.collect();
        Self { all, bars }
    }

    /// Hidden, for answers that programs read.
    pub(crate) fn none() -> Self {
        Self {
            all: MultiProgress::new(),
            bars: Vec::new(),
        }
    }

    pub(crate) fn say(&self, number: usize, what: String) {
        if let Some(bar) = self.bars.get(number) {
            bar.set_message(what);
        }
    }

    pub(crate) fn update(&self, number: usize, video: &Video) {
        if let Some(bar) = self.bars.get(number) {
            bar.set_position(video.fields.progress.unwrap_or(0.0) as u64);
            bar.set_message(message(video));
        }
    }

    pub(crate) fn download(&self, number: usize, bytes: u64, of: Option<u64>) {
        if let Some(bar) = self.bars.get(number) {
            bar.set_message("downloading");
            bar.set_length(of.unwrap_or(bytes));
            bar.set_position(bytes);
            bar.set_style(style(
                "{prefix}[{bar:30}] {bytes} of {total_bytes}  {elapsed}  {msg}",
            ));
        }
    }

    pub(crate) fn end(&self, number: usize) {
        if let Some(bar) = self.bars.get(number) {
            bar.finish_and_clear();
        }
    }

    /// A line for people, above the bars.
    pub(crate) fn note(&self, line: &str) {
        self.all.suspend(|| eprintln!("{line}"));
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours: a test draws with each of them.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// What a job is doing, in a few words.
pub(crate) fn message(video: &Video) -> String {
    let doing = match (video.fields.stage.as_deref(), video.step()) {
        (Some("denoise"), Some(step)) => format!("denoise {step}"),
        (Some(stage), _) => stage.to_owned(),
        (None, _) => match video.fields.queue_position {
            Some(0) => "queued, the next".into(),
            Some(before) => format!("queued, {before} before it"),
            None => video.state().to_owned(),
        },
    };
    match video.eta() {
        Some(eta) => format!("{doing}, about {} left", left(eta)),
        None => doing,
    }
}

/// A guess at a time, no more exact than it is.
pub(crate) fn left(time: Duration) -> String {
    match time.as_secs_f64().round() as u64 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn said(fields: &Value) -> String {
        let mut video = json!({"id": "video_1", "status": "in_progress"});
        for (name, value) in fields.as_object().unwrap() {
            video[name] = value.clone();
        }
        message(&Video::read(video).unwrap())
    }

    #[test]
    fn a_bar_says_what_the_job_is_doing() {
        assert_eq!(said(&json!({"queue_position": 3})), "queued, 3 before it");
        let running =
            json!({"stage": "denoise", "step": 12, "steps": 20, "eta": {"p50": 12.4, "p90": 20}});
        assert_eq!(said(&running), "denoise 12/20, about 12 s left");
        assert_eq!(said(&json!({"status_detail": "encoding"})), "encoding");
        assert_eq!(said(&json!({"eta": {"p50": -1}})), "in_progress");
    }
}
