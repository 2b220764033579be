//! What every handler shares.

use crate::caller::{Caller, Door, Keys, now_ms};
use crate::config::GatewayConfig;
use crate::fetch::ImageFetch;
use crate::metrics::HttpMetrics;
use crate::respond::ApiError;
use crate::tries::Tries;
use crate::{content, view};
use reel_api::VideoObject;
use reel_artifacts::{Gallery, Store};
use reel_domain::{Job, JobId, JobStatus};
use reel_journal::{JobRecord, ReadError, Reader};
use reel_media::{Ffmpeg, ImageDecoder};
use reel_outbound::UrlPolicy;
use reel_pool::{Catalog, JobProgress, PoolHandle};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Longest time from the commit of a job to its being shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// What the gateway is joined from.
#[derive(Debug)]
pub struct Parts {
    /// The way into the pool.
    pub pool: PoolHandle,
    /// What is served.
    pub catalog: Arc<Catalog>,
    /// Where jobs are read.
    pub reader: Reader,
    /// Where videos are read.
    pub store: Store,
    /// What looks into videos.
    pub ffmpeg: Ffmpeg,
    /// What looks into images.
    pub image_decoder: ImageDecoder,
    /// How images are fetched that a request only names; `None`: not at all.
    pub image_fetch: Option<ImageFetch>,
    /// Where ends of jobs may be told.
    pub callback_policy: UrlPolicy,
    /// Who may ask.
    pub keys: Keys,
    /// Where metrics are collected, the gateway's own among them.
    pub registry: prometheus::Registry,
    /// The limits.
    pub config: GatewayConfig,
}

/// The state behind the routes.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) pool: PoolHandle,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: Store,
    pub(crate) gallery: Gallery,
    pub(crate) ffmpeg: Ffmpeg,
    pub(crate) image_decoder: ImageDecoder,
    pub(crate) image_fetch: Option<ImageFetch>,
    pub(crate) callback_policy: UrlPolicy,
    pub(crate) door: Door,
    pub(crate) registry: prometheus::Registry,
    pub(crate) config: GatewayConfig,
    pub(crate) metrics: HttpMetrics,
    pub(crate) creates: Semaphore,
    pub(crate) image_decodes: Semaphore,
    pub(crate) image_fetches: Semaphore,
    pub(crate) event_streams: Arc<Semaphore>,
    /// A shape could be served once.
    pub(crate) started: AtomicBool,
    pub(crate) tries: Tries,
    reader: Reader,
}

/// A job, from the board as long as it lives, and from its row afterwards.
#[derive(Debug)]
pub(crate) enum Found {
    Living(Arc<Job>, JobProgress),
    Stored(Box<JobRecord>),
}

impl Found {
    pub(crate) fn job(&self) -> &Job {
        match self {
            Self::Living(job, _) => job,
            Self::Stored(record) => &record.job,
        }
    }

    pub(crate) fn status(&self) -> JobStatus {
        match self {
            Self::Living(_, progress) => progress.status,
            Self::Stored(record) => record.status,
        }
    }
}

impl Gateway {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            metrics: HttpMetrics::register(&parts.registry),
            creates: Semaphore::new(parts.config.creates_at_once_max),
            image_decodes: Semaphore::new(parts.config.image_decodes_at_once_max),
            event_streams: Arc::new(Semaphore::new(parts.config.event_streams_max)),
            image_fetches: Semaphore::new(parts.config.image_fetches_at_once_max),
            started: AtomicBool::new(false),
            tries: Tries::default(),
            pool: parts.pool,
            catalog: parts.catalog,
            reader: parts.reader,
            gallery: Gallery::new(parts.store.clone()),
            store: parts.store,
            ffmpeg: parts.ffmpeg,
            image_decoder: parts.image_decoder,
            image_fetch: parts.image_fetch,
            callback_policy: parts.callback_policy,
            door: Door::new(parts.keys, &parts.config),
            registry: parts.registry,
            config: parts.config,
        }
    }

    /// A job that this caller may see.
    pub(crate) async fn find(&self, id: JobId, caller: &Caller) -> Result<Found, ApiError> {
        // The board first: what it misses because the job just ended, the row already has.
        let found = match self.pool.board().get(id) {
            Some((job, progress)) => Found::Living(job, progress),
            None => Found::Stored(Box::new(self.record(id).await?)),
        };
        match caller.sees(&found.job().sharing.tenant) {
            true => Ok(found),
            false => Err(ApiError::UnknownVideo),
        }
    }

    /// Follows a job that is not over. One that is durable since a moment ago is about to be shown.
    pub(crate) async fn watched(
        &self,
        id: JobId,
    ) -> Option<(Arc<Job>, watch::Receiver<JobProgress>)> {
        let mut newest = self.pool.board().newest();
        let deadline = tokio::time::Instant::now() + SHOWN_WITHIN;
        loop {
            newest.borrow_and_update();
            if let Some(watched) = self.pool.board().watch(id) {
                return Some(watched);
            }
            if self.record(id).await.ok()?.status.is_terminal() {
                return None;
            }
            let changed = tokio::time::timeout_at(deadline, newest.changed()).await;
            changed.ok()?.ok()?;
        }
    }

    /// A job as clients see it.
    pub(crate) fn video(&self, found: Found) -> VideoObject {
        match found {
            Found::Living(job, progress) => view::living(&self.pool, &job, progress),
            Found::Stored(record) => view::stored(&record, self.download_url(&record)),
        }
    }

    /// Where the video of a completed job can be fetched without a key for a while.
    fn download_url(&self, record: &JobRecord) -> Option<String> {
        if record.status != JobStatus::Completed {
            return None;
        }
        let expires_s = now_ms() / 1_000 + self.config.download_url_lifetime.as_secs();
        let path = content::path(record.job.id);
        let tenant = &record.job.sharing.tenant;
        let query = self.door.signer().sign(&path, None, tenant, expires_s);
        let base = self.config.public_url.as_deref().unwrap_or_default();
        Some(format!("{base}{path}?{query}"))
    }

    /// The row of a job that must be there.
    pub(crate) async fn record(&self, id: JobId) -> Result<JobRecord, ApiError> {
        // The row of a job that ended lately is at hand, without the disk.
        if let Some(record) = self.reader.recent(id) {
            return Ok((*record).clone());
        }
        let record = self.read(move |reader| reader.get(id)).await?;
        record.ok_or(ApiError::UnknownVideo)
    }

    /// Reads the journal away from the threads that serve sockets.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let reader = self.reader.clone();
        Ok(blocking(move || read(&reader)).await??)
    }
}

/// Runs what blocks on a disk or on the processor where that harms nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ApiError::Internal(error.to_string()))
}
