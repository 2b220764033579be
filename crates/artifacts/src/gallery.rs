//! Stills that are made when somebody asks for them first.
//!
//! Whoever asks first makes one; whoever asks meanwhile waits for that, and gets what it became, be it an error. If
//! the first goes away, the next who waits makes it. Whoever asks after an error tries again.

use crate::stills::OpenStill;
use crate::store::{Store, StoreError};
use reel_domain::JobId;
use reel_domain::Still;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Why there is no still. Cheap to clone: everybody who waited for it gets the same.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StillError {
    /// The disk refused.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// It could not be made.
    #[error("the {still} of {id} could not be made: {source}")]
    Make {
        /// The job.
        id: JobId,
        /// What was to be made.
        still: Still,
        /// What went wrong.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// File work did not come to its end.
    #[error("file work was interrupted: {0}")]
    Interrupted(String),
}

/// The right to make one still, and what became of it if it failed.
type Turn = tokio::sync::Mutex<Option<StillError>>;

/// The stills of all jobs.
#[derive(Debug)]
pub struct Gallery {
    store: Store,
    /// Turns that somebody has or waits for.
    turns: Mutex<BTreeMap<(JobId, Still), Weak<Turn>>>,
}

impl Gallery {
    /// The stills of a store's videos. There has to be one gallery for each store.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self {
            store,
            turns: Mutex::new(BTreeMap::new()),
        }
    }

    /// Opens a still of a job, after it has been made from the job's video if it is not there; `None` if there is no
    /// video, or none any more.
    ///
    /// `make` gets the paths of the video and of the still to be written, and has to end: nobody else hurries it.
    /// It may be dropped at any time.
    ///
    /// # Errors
    /// See [`StillError`]; then there is no still.
    pub async fn open<E, F>(
        &self,
        id: JobId,
        still: Still,
        make: impl FnOnce(PathBuf, PathBuf) -> F,
    ) -> Result<Option<OpenStill>, StillError>
    where
        E: Error + Send + Sync + 'static,
        F: Future<Output = Result<(), E>>,
    {
        if let Some(open) = self.made(id, still).await? {
            return Ok(Some(open));
        }
        let turn = self.turn(id, still);
        let mut failure = turn.lock().await;
        if let Some(error) = &*failure {
            return Err(error.clone());
        }
        // Whoever had the turn before may have made it.
        if let Some(open) = self.made(id, still).await? {
            return Ok(Some(open));
        }
        let result = self.make(id, still, make).await;
        if let Err(error) = &result {
            *failure = Some(error.clone());
            self.turns().remove(&(id, still));
        }
        result
    }

    async fn made(&self, id: JobId, still: Still) -> Result<Option<OpenStill>, StillError> {
        let store = self.store.clone();
        blocking(move || store.open_still(id, still)).await
    }

    async fn make<E, F>(
        &self,
        id: JobId,
        still: Still,
        make: impl FnOnce(PathBuf, PathBuf) -> F,
    ) -> Result<Option<OpenStill>, StillError>
    where
        E: Error + Send + Sync + 'static,
        F: Future<Output = Result<(), E>>,
    {
        let store = self.store.clone();
        let Some(staging) = blocking(move || store.stage_still(id, still)).await? else {
            return Ok(None);
        };
        let paths = (staging.video_path().to_owned(), staging.path().to_owned());
        let made = make(paths.0, paths.1).await;
        made.map_err(|error| StillError::Make {
            id,
            still,
            source: Arc::new(error),
        })?;
        let store = self.store.clone();
        blocking(move || match store.publish_still(staging)? {
            Some(_) => store.open_still(id, still),
            None => Ok(None),
        })
        .await
    }

    /// The turn that somebody has, or a new one.
    fn turn(&self, id: JobId, still: Still) -> Arc<Turn> {
        let mut turns = self.turns();
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(&(id, still)).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::default());
        turns.insert((id, still), Arc::downgrade(&turn));
        turn
    }

    fn turns(&self) -> MutexGuard<'_, BTreeMap<(JobId, Still), Weak<Turn>>> {
        // Nothing in there can be half done.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StillError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| StillError::Store(Arc::new(error))),
        Err(error) => Err(StillError::Interrupted(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    const ID: JobId = JobId::from_bytes([1; 16]);

    impl Gallery {
        fn have_a_turn(&self) -> usize {
            let turns = self.turns();
            let turn = turns.get(&(ID, Still::Thumbnail));
            turn.map_or(0, Weak::strong_count)
        }
    }

    #[tokio::test]
    async fn all_who_waited_get_the_error_of_the_one_who_tried() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let staging = store.stage(ID, 1).unwrap();
        std::fs::write(staging.path(), "video").unwrap();
        store.publish(staging).unwrap();
        let gallery = Arc::new(Gallery::new(store));
        let (tried, fail) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let gallery = Arc::clone(&gallery);
                let (tried, fail) = (Arc::clone(&tried), Arc::clone(&fail));
                let make = async move |_, _| -> io::Result<()> {
                    tried.fetch_add(1, Ordering::SeqCst);
                    let _fail = fail.acquire().await;
                    Err(io::Error::other("no such codec"))
                };
                tokio::spawn(async move { gallery.open(ID, Still::Thumbnail, make).await })
            })
            .collect();
        while gallery.have_a_turn() < 20 {
            tokio::task::yield_now().await;
        }
        fail.add_permits(20);
        for asked in asking {
            let error = asked.await.unwrap().unwrap_err().to_string();
            assert!(error.ends_with("no such codec"), "{error}");
        }
        assert_eq!(tried.load(Ordering::SeqCst), 1);
        assert_eq!(gallery.have_a_turn(), 0);
    }
}
