//! What the service manager is told (sd_notify(3)), if there is one.
//!
//! It is told by a thread of its own: a manager that does not read its socket blocks whoever writes to it, and must
//! block nobody else.

use reel_supervisor::SupervisorHandle;
use sd_notify::NotifyState;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// The way to the service manager. Cheap to clone; without a manager whatever is said is lost.
#[derive(Debug, Clone)]
pub(crate) struct ServiceManager {
    news: Sender<News>,
}

#[derive(Debug, Clone, Copy)]
enum News {
    Ready,
    Reloading,
    Stopping,
}

impl ServiceManager {
    /// Starts the thread. Where the manager has a watchdog, it is told twice in the time that it allows that the
    /// supervisor's loop goes round; nothing, when that does not answer. Without a watchdog nothing wakes.
    pub(crate) fn start(runtime: &Handle, supervisor: SupervisorHandle) -> std::io::Result<Self> {
        let (news, inbox) = mpsc::channel();
        let runtime = runtime.clone();
        std::thread::Builder::new()
            .name("service".into())
            .spawn(move || match sd_notify::watchdog_enabled() {
                Some(allowed) if !allowed.is_zero() => {
                    tracing::info!(?allowed, "the service manager watches");
                    let is_alive = || runtime.block_on(supervisor.is_alive());
                    tell_and_feed(&inbox, allowed / 2, is_alive);
                }
                _ => inbox.iter().for_each(tell),
            })?;
        Ok(Self { news })
    }

    /// The port is open.
    pub(crate) fn ready(&self) {
        let _ = self.news.send(News::Ready);
    }

    /// The configuration is being read again; [`ready`](Self::ready) follows.
    pub(crate) fn reloading(&self) {
        let _ = self.news.send(News::Reloading);
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        let _ = self.news.send(News::Stopping);
    }
}

fn tell_and_feed(inbox: &Receiver<News>, pause: Duration, is_alive: impl Fn() -> bool) {
    let mut next = Instant::now();
    loop {
        match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(news) => tell(news),
            Err(RecvTimeoutError::Timeout) => {
                if !is_alive() {
                    return;
                }
                notify(&[NotifyState::Watchdog]);
                next = Instant::now() + pause;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn tell(news: News) {
    match news {
        News::Ready => notify(&[NotifyState::Ready]),
        News::Stopping => notify(&[NotifyState::Stopping]),
        News::Reloading => match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the service manager is not told of a reload"),
        },
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_does_not_answer_is_asked_once_and_nothing_is_said_for_it() {
        let (news, inbox) = mpsc::channel();
        news.send(News::Ready).unwrap();
        let asked = std::cell::Cell::new(0);
        let is_alive = || {
            asked.set(asked.get() + 1);
            asked.get() < 3
        };
        // It ends, though somebody could still have news.
        tell_and_feed(&inbox, Duration::from_millis(1), is_alive);
        assert_eq!(asked.get(), 3);
        drop(news);
    }
}
