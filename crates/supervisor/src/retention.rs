//! How long videos and rows are kept, and what happens when the disk fills up.
//!
//! - A video is removed when its time is up (`expires_at`); its row stays and says `expired`.
//! - A row is forgotten some time after its job ended, and whatever is left of the job with it.
//! - Below the soft watermark of free space, videos go early: the one whose time would be up first goes first. None
//!   goes before clients had some time to fetch it, even if something else has filled the disk.
//! - Below the hard watermark no new job is taken (`storage_full`); what runs may end.
//!
//! Nothing here wakes by itself but for the next expiry. A clock that jumps forward expires nothing for a while: it
//! may be put right again, and a removed video cannot.

use crate::effects::now_ms;
use reel_artifacts::Store;
use reel_domain::JobId;
use reel_journal::{Expiring, Journal, Reader};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot, watch};

/// More than this between two readings of the clock that nothing explains is a jump.
const JUMP_MIN: Duration = Duration::from_secs(3_600);
/// How long nothing expires after a jump.
const JUMP_HOLD: Duration = Duration::from_secs(3_600);
/// Rows that are forgotten at a time.
const FORGET_MAX: usize = 1_024;
/// From one look to the next, however much ends meanwhile: what is due is due in hours, and space goes by the megabyte.
const ROUND_PAUSE: Duration = Duration::from_millis(250);
/// After a failure of the disk.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// How long a video is kept; `None`: for ever.
    pub video_ttl: Option<Duration>,
    /// How long a row is kept after its job ended, and its video expired; `None`: for ever.
    pub record_ttl: Option<Duration>,
    /// Free space below which videos go early, in bytes.
    pub soft_free_bytes: u64,
    /// How long a video stays even then: whoever asked for it has to fetch it.
    pub kept_at_least: Duration,
    /// Free space below which no job is taken, in bytes.
    pub hard_free_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            video_ttl: Some(Duration::from_secs(7 * 24 * 3_600)),
            record_ttl: Some(Duration::from_secs(30 * 24 * 3_600)),
            soft_free_bytes: 1 << 30,
            kept_at_least: Duration::from_secs(3_600),
            hard_free_bytes: 256 << 20,
        }
    }
}

impl Retention {
    /// When a video that is finished at a time expires, in milliseconds since the Unix epoch.
    pub(crate) fn expires_at_ms(&self, finished_at_ms: u64) -> Option<u64> {
        Some(finished_at_ms.saturating_add(millis(self.video_ttl?)))
    }
}

/// Removes what has had its time. A task of its own.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// The bounds, as they are now.
    retention: watch::Receiver<Retention>,
    journal: Journal,
    reader: Reader,
    store: Store,
    /// Something was published, space is short, or the bounds have changed.
    nudge: Arc<Notify>,
    clock: JumpGuard,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    In(Duration),
}

impl Keeper {
    pub(crate) fn new(
        retention: watch::Receiver<Retention>,
        (journal, reader, store): (Journal, Reader, Store),
        nudge: Arc<Notify>,
    ) -> Self {
        Self {
            retention,
            journal,
            reader,
            store,
            nudge,
            clock: JumpGuard::new(now_ms(), Instant::now()),
        }
    }

    /// For ever.
    pub(crate) async fn run(mut self) {
        loop {
            let nudge = Arc::clone(&self.nudge);
            let due = match self.round().await {
                Ok(due) => due,
                Err(error) => {
                    tracing::error!(error, "old videos could not be removed");
                    Due::In(RETRY_PAUSE)
                }
            };
            tokio::time::sleep(ROUND_PAUSE).await;
            match due {
                Due::Nothing => nudge.notified().await,
                Due::In(pause) => {
                    let _ = tokio::time::timeout(pause, nudge.notified()).await;
                }
            }
        }
    }

    /// Removes everything whose time has come, and says when the next one's comes.
    async fn round(&mut self) -> Result<Due, String> {
        if let Some(hold) = self.clock.hold(now_ms(), Instant::now()) {
            return Ok(Due::In(hold));
        }
        let now = now_ms();
        let next = loop {
            let first = self.read(Reader::first_to_expire).await?;
            match first {
                Some(video) if video.expires_at_ms <= now => {
                    self.expire(video.id, "its time is up").await?;
                }
                Some(video) if self.may_go_early(video, now) && self.is_short_of_space().await => {
                    self.expire(video.id, "space is short").await?;
                }
                first => break first,
            }
        };
        let forgotten = self.forget_old(now).await?;
        let next_video = next.map(|video| video.expires_at_ms);
        let next_row = self.next_row(forgotten).await?;
        Ok(match next_video.into_iter().chain(next_row).min() {
            Some(at_ms) => Due::In(Duration::from_millis(at_ms.saturating_sub(now)) + SLACK),
            None => Due::Nothing,
        })
    }

    /// A video has been kept long enough for a disk that is short of space.
    fn may_go_early(&self, video: Expiring, now: u64) -> bool {
        let kept_at_least = millis(self.retention.borrow().kept_at_least);
        now >= video.finished_at_ms.saturating_add(kept_at_least)
    }

    async fn is_short_of_space(&self) -> bool {
        let store = self.store.clone();
        let soft = self.retention.borrow().soft_free_bytes;
        let looking = tokio::task::spawn_blocking(move || store.free_bytes());
        looking
            .await
            .is_ok_and(|free| free.is_ok_and(|free| free < soft))
    }

    /// First the row, then the file: what a row offers is there.
    async fn expire(&self, id: JobId, why: &str) -> Result<(), String> {
        tracing::info!(job = %id, why, "removing a video");
        let (done, expired) = oneshot::channel();
        self.journal.expire(id, move |result| {
            let _ = done.send(result);
        });
        wrote(expired.await)?;
        self.remove_files(id).await
    }

    async fn forget_old(&self, now: u64) -> Result<bool, String> {
        let Some(ttl) = self.record_ttl() else {
            return Ok(false);
        };
        let before = now.saturating_sub(millis(ttl));
        let old = self
            .read(move |reader| reader.ended_before(before, FORGET_MAX))
            .await?;
        for &id in &old {
            let (done, deleted) = oneshot::channel();
            self.journal.delete(id, move |result| {
                let _ = done.send(result);
            });
            wrote(deleted.await)?;
            self.remove_files(id).await?;
        }
        Ok(old.len() == FORGET_MAX)
    }

    /// When the next row is to be forgotten; now, if there are more than were taken.
    async fn next_row(&self, more: bool) -> Result<Option<u64>, String> {
        let Some(ttl) = self.record_ttl() else {
            return Ok(None);
        };
        if more {
            return Ok(Some(0));
        }
        let first = self.read(Reader::first_end).await?;
        Ok(first.map(|at_ms| at_ms.saturating_add(millis(ttl))))
    }

    fn record_ttl(&self) -> Option<Duration> {
        self.retention.borrow().record_ttl
    }

    async fn remove_files(&self, id: JobId) -> Result<(), String> {
        let store = self.store.clone();
        let removing = tokio::task::spawn_blocking(move || store.remove(id));
        let removed = removing.await.map_err(|error| error.to_string())?;
        removed.map_err(|error| error.to_string())
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, reel_journal::ReadError> + Send + 'static,
    ) -> Result<T, String> {
        let reader = self.reader.clone();
        let reading = tokio::task::spawn_blocking(move || read(&reader));
        let read = reading.await.map_err(|error| error.to_string())?;
        read.map_err(|error| error.to_string())
    }
}

/// An expiry is a matter of days: a wake-up a moment too early would be one more.
const SLACK: Duration = Duration::from_millis(10);

fn wrote(
    result: Result<Result<(), reel_journal::WriteError>, oneshot::error::RecvError>,
) -> Result<(), String> {
    match result {
        Ok(Ok(())) => Ok(()),
        // Somebody deleted it meanwhile.
        Ok(Err(reel_journal::WriteError::Unknown(_))) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Compares the wall clock with one that cannot be set.
#[derive(Debug)]
struct JumpGuard {
    wall_ms: u64,
    steady: Instant,
    held_until: Option<Instant>,
}

impl JumpGuard {
    const fn new(wall_ms: u64, steady: Instant) -> Self {
        Self {
            wall_ms,
            steady,
            held_until: None,
        }
    }

    /// For how long nothing may expire.
    fn hold(&mut self, wall_ms: u64, steady: Instant) -> Option<Duration> {
        let passed = steady.saturating_duration_since(self.steady);
        let claimed = Duration::from_millis(wall_ms.saturating_sub(self.wall_ms));
        (self.wall_ms, self.steady) = (wall_ms, steady);
        if claimed > passed + JUMP_MIN {
            let jump = claimed - passed;
            tracing::warn!(?jump, hold = ?JUMP_HOLD, "the clock has jumped forward: nothing expires for a while");
            self.held_until = Some(steady + JUMP_HOLD);
        }
        self.held_until
            .filter(|until| *until > steady)
            .map(|until| until - steady)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_clock_holds_expiry_up_and_time_that_passes_does_not() {
        let start = Instant::now();
        let hour = Duration::from_secs(3_600);
        let mut guard = JumpGuard::new(1_000, start);
        let at = |hours: u32| (1_000 + millis(hour * hours), start + hour * hours);
        let hold =
            |guard: &mut JumpGuard, (wall_ms, steady): (u64, Instant)| guard.hold(wall_ms, steady);
        assert_eq!(hold(&mut guard, at(100)), None);
        // Ten years ahead, and an hour later.
        let (wall_ms, steady) = at(100);
        let decade = wall_ms + millis(hour * 24 * 3_650);
        assert_eq!(hold(&mut guard, (decade, steady)), Some(JUMP_HOLD));
        assert_eq!(
            hold(&mut guard, (decade, steady + hour / 2)),
            Some(JUMP_HOLD / 2)
        );
        assert_eq!(hold(&mut guard, (decade + 1, steady + hour)), None);
        // Back to the right time: that is no reason to wait.
        assert_eq!(hold(&mut guard, (wall_ms, steady + hour)), None);
    }

    #[test]
    fn a_video_expires_after_its_time() {
        let retention = Retention {
            video_ttl: Some(Duration::from_secs(5)),
            ..Retention::default()
        };
        assert_eq!(retention.expires_at_ms(1_000), Some(6_000));
    }
}
