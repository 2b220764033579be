//! Connections: how many, how slow, and how they end.

use crate::config::ServeLimits;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

/// A connection whose writes may not be stuck for ever.
type Stream = Pin<Box<TimeoutStream<TcpStream>>>;

/// Pause after a failed accept, which mostly means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that wait in the kernel before they are sent. It would take megabytes, and then nothing for as long as it takes
/// to send a third of them: somebody who reads slowly would look like somebody who does not read at all.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// Serves `router` on `listener` under the default [`ServeLimits`] until `shutdown` is ready.
///
/// # Errors
/// None at present; a listener that fails is retried.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_with(listener, router, ServeLimits::default(), shutdown).await
}

/// Serves `router` on `listener` until `shutdown` is ready; then accepts nothing more, lets responses in flight
/// finish within [`ServeLimits::shutdown_grace`], and returns.
///
/// # Errors
/// None at present; a listener that fails is retried.
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    tokio::select! {
        biased;
        () = pin!(shutdown) => {}
        () = accept_all(&listener, &router, &limits, &graceful) => {}
    }
    drop(listener);
    let ended = tokio::time::timeout(limits.shutdown_grace, graceful.shutdown()).await;
    if ended.is_err() {
        tracing::warn!(grace = ?limits.shutdown_grace, "connections were cut at shutdown");
    }
    Ok(())
}

async fn accept_all(
    listener: &TcpListener,
    router: &Router,
    limits: &ServeLimits,
    graceful: &GracefulShutdown,
) {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    loop {
        // The semaphore is never closed; were it, nothing could be accepted any more.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Some(stream) = accept(listener).await else {
            continue;
        };
        let connection = graceful.watch(connection(stream, router.clone(), limits));
        tokio::spawn(async move {
            // A connection that ends badly is the client's affair: it went away, or was too slow.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop(place);
        });
    }
}

async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // Small answers should not wait for the acknowledgement of earlier ones.
            let _ = stream.set_nodelay(true);
            // Without it these still work, and slow readers need more of their deadline.
            let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
            Some(stream)
        }
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn connection(
    stream: TcpStream,
    router: Router,
    limits: &ServeLimits,
) -> http1::Connection<TokioIo<Stream>, TowerToHyperService<Router>> {
    let mut stream = TimeoutStream::new(stream);
    // Who does not read what is sent, a stream of events or a video, must not keep it for ever.
    stream.set_write_timeout(Some(limits.write_stall_deadline));
    let stream = Box::pin(stream);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_read_deadline)
        .max_header_size(limits.head_bytes_max)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}
