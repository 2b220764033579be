//! A bar for each shape on the terminal; plain lines elsewhere.

use super::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use reel_domain::{ModelName, Shape};
use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::Duration;

const STEPS: u64 = 1000;
const TEMPLATE: &str = "{prefix:28} [{bar:24}] {percent:>3} % {elapsed:>4}  {msg}";

/// The bar of one shape.
pub(super) struct Bar {
    bar: ProgressBar,
    /// What was said last, where there is no terminal.
    said: RefCell<String>,
}

impl Bar {
    pub(super) fn new(model: &ModelName, shape: Shape) -> Self {
        let bar = ProgressBar::new(STEPS).with_prefix(format!("{model} {shape}"));
        // The template is a constant; a broken one only looks different.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self {
            bar,
            said: RefCell::default(),
        }
    }

    pub(super) fn show(&self, progress: &Progress) {
        self.bar
            .set_position((progress.fraction() * STEPS as f64) as u64);
        self.bar.set_message(progress.now());
        self.say(&progress.now());
    }

    pub(super) fn unchanged(&self, id: &str) {
        self.finish(&format!("unchanged, bundle {id}"));
    }

    pub(super) fn baked(&self, id: &str) {
        self.finish(&format!("baked, bundle {id}"));
    }

    fn finish(&self, message: &str) {
        self.bar.set_position(STEPS);
        self.bar.finish_with_message(message.to_owned());
        self.say(message);
    }

    fn say(&self, message: &str) {
        if std::io::stderr().is_terminal() || message.is_empty() || *self.said.borrow() == message {
            return;
        }
        eprintln!("{}: {message}", self.bar.prefix());
        message.clone_into(&mut self.said.borrow_mut());
    }
}
