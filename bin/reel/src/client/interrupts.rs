//! Ctrl-C: the first one asks, the second one leaves.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Exit code of whoever leaves.
const EXIT_CANCELLED: i32 = 3;

/// Whether somebody wants this to end, and since when.
#[derive(Debug, Default)]
pub(crate) struct Interrupts {
    asked: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Interrupts {
    /// Listens on a thread of its own, which dies with the process. `on_first` is called at the first interrupt.
    pub(crate) fn listen(on_first: impl FnOnce() + Send + 'static) -> io::Result<Arc<Self>> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let interrupts = Arc::new(Self::default());
        let told = Arc::clone(&interrupts);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut forever = signals.forever();
                if forever.next().is_some() {
                    told.interrupt(Instant::now());
                    on_first();
                }
                if forever.next().is_some() {
                    std::process::exit(EXIT_CANCELLED);
                }
            })?;
        Ok(interrupts)
    }

    pub(crate) fn interrupt(&self, now: Instant) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        self.changed.notify_all();
    }

    /// When somebody asked for an end.
    pub(crate) fn since(&self) -> Option<Instant> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `time` is over or there is an interrupt that the caller has not `seen`.
    pub(crate) fn pause(&self, time: Duration, seen: bool) {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self
            .changed
            .wait_timeout_while(asked, time, |asked| asked.is_some() == seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_ends_a_pause() {
        let interrupts = Interrupts::default();
        std::thread::scope(|scope| {
            let paused = scope.spawn(|| interrupts.pause(Duration::from_secs(3_600), false));
            interrupts.interrupt(Instant::now());
            paused.join().unwrap();
        });
        assert!(interrupts.since().is_some());
        // Whoever knows of it waits all the same.
        interrupts.pause(Duration::from_millis(1), true);
    }
}
