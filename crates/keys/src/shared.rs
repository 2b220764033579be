//! The keys of a running server: the file is followed, and a broken one changes nothing.

use crate::KeyRing;
use crate::file::KeyFileError;
use crate::ring::{Exposure, Stamp, read};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Shortest time between two looks at the file.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// What following the file brought, once for each change.
#[derive(Debug)]
pub enum KeyRingEvent {
    /// The file changed, and its keys hold from now on.
    Reloaded {
        /// How many there are, revoked ones included.
        keys: usize,
        /// Others can get at the file.
        exposure: Option<Exposure>,
    },
    /// The file changed, and cannot be used: the keys before hold.
    Refused(KeyFileError),
}

/// A ring that follows its file. Shared between threads, behind an `Arc`.
pub struct SharedKeyRing {
    path: PathBuf,
    current: RwLock<Arc<KeyRing>>,
    look: Mutex<Look>,
    on_event: Box<dyn Fn(KeyRingEvent) + Send + Sync>,
}

/// When the file was looked at last, and what was there: nothing is a state too.
struct Look {
    at: Instant,
    stamp: Option<Stamp>,
}

impl SharedKeyRing {
    /// Reads the file, which need not exist, and follows it from now on. `on_event` is called by whoever asks for the
    /// ring at the time, and must not ask for it itself.
    ///
    /// # Errors
    /// A file that cannot be used at the start: there is nothing better to hold to.
    pub fn open(
        path: &Path,
        now: Instant,
        on_event: impl Fn(KeyRingEvent) + Send + Sync + 'static,
    ) -> Result<Self, KeyFileError> {
        let (ring, stamp) = read(path)?.map_or_else(
            || (KeyRing::default(), None),
            |(ring, stamp)| (ring, Some(stamp)),
        );
        Ok(Self {
            path: path.into(),
            current: RwLock::new(Arc::new(ring)),
            look: Mutex::new(Look { at: now, stamp }),
            on_event: Box::new(on_event),
        })
    }

    /// The keys that hold now. Looks at the file first, if the last look is a second ago and nobody else does.
    pub fn ring(&self, now: Instant) -> Arc<KeyRing> {
        self.follow(now);
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    /// See [`KeyRing::is_empty`].
    pub fn is_empty(&self, now: Instant) -> bool {
        self.ring(now).is_empty()
    }

    fn follow(&self, now: Instant) {
        // Whoever finds it taken need not wait: somebody is looking.
        let Ok(mut look) = self.look.try_lock() else {
            return;
        };
        if now.saturating_duration_since(look.at) < LOOK_PAUSE {
            return;
        }
        look.at = now;
        let stamp = fs::metadata(&self.path)
            .ok()
            .map(|metadata| Stamp::of(&metadata));
        if stamp != look.stamp {
            let before = std::mem::replace(&mut look.stamp, stamp);
            let event = self.reload(&mut look);
            if let KeyRingEvent::Refused(KeyFileError::Read { .. }) = &event {
                // It could not be read, which may pass: the next look tries again.
                look.stamp = before;
            }
            (self.on_event)(event);
        }
    }

    fn reload(&self, look: &mut Look) -> KeyRingEvent {
        let gone = || KeyFileError::Gone {
            path: self.path.clone(),
        };
        match read(&self.path) {
            Ok(Some((ring, stamp))) => {
                look.stamp = Some(stamp);
                self.replace(ring)
                    .unwrap_or_else(|| KeyRingEvent::Refused(gone()))
            }
            Ok(None) => KeyRingEvent::Refused(gone()),
            Err(error) => KeyRingEvent::Refused(error),
        }
    }

    /// Holds to the new keys, unless there are none where there were some: without keys everybody may ask.
    fn replace(&self, ring: KeyRing) -> Option<KeyRingEvent> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if ring.is_empty() && !current.is_empty() {
            return None;
        }
        let event = KeyRingEvent::Reloaded {
            keys: ring.keys().len(),
            exposure: ring.exposure().cloned(),
        };
        *current = Arc::new(ring);
        Some(event)
    }
}

impl fmt::Debug for SharedKeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedKeyRing")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
