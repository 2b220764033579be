//! What every handler shares.

use crate::config::GatewayConfig;
use crate::metrics::HttpMetrics;
use crate::respond::ApiError;
use reel_artifacts::Store;
use reel_domain::JobId;
use reel_journal::{JobRecord, ReadError, Reader};
use reel_pool::{Catalog, PoolHandle};
use std::sync::Arc;
use tokio::sync::Semaphore;

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
    pub(crate) registry: prometheus::Registry,
    pub(crate) config: GatewayConfig,
    pub(crate) metrics: HttpMetrics,
    pub(crate) creates: Semaphore,
    pub(crate) image_decodes: Semaphore,
    reader: Reader,
}

impl Gateway {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            metrics: HttpMetrics::register(&parts.registry),
            creates: Semaphore::new(parts.config.creates_at_once_max),
            image_decodes: Semaphore::new(parts.config.image_decodes_at_once_max),
            pool: parts.pool,
            catalog: parts.catalog,
            reader: parts.reader,
            store: parts.store,
            registry: parts.registry,
            config: parts.config,
        }
    }

    /// The row of a job that must be there.
    pub(crate) async fn record(&self, id: JobId) -> Result<JobRecord, ApiError> {
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
