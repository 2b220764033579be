//! The floor: an axum server that answers from memory, with as many threads as Reel serves HTTP with.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::routing::{get, post};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// As `reel serve`.
const THREADS: usize = 2;
/// Bytes that Reel's content is read and sent by at a time.
const CHUNK_BYTES: usize = 128 * 1_024;

/// What it answers with.
pub(crate) struct Answers {
    pub(crate) video: Vec<u8>,
    pub(crate) status: Vec<u8>,
    pub(crate) content: Vec<u8>,
}

/// It runs as long as its runtime.
pub(crate) struct Bare {
    pub(crate) address: String,
    runtime: Option<Runtime>,
}

impl Drop for Bare {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bare {
    pub(crate) fn start(answers: Answers) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .build()?;
        // Bound beside the runtime: whoever starts this runs on one already.
        let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?.to_string();
        let router = router(answers);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            axum::serve(NoDelay(listener), router).await
        });
        Ok(Self {
            address,
            runtime: Some(runtime),
        })
    }
}

fn router(answers: Answers) -> Router {
    let (video, status) = (Bytes::from(answers.video), Bytes::from(answers.status));
    let content = Bytes::from(answers.content);
    let mp4 = || [(header::CONTENT_TYPE, "video/mp4")];
    let json = [(header::CONTENT_TYPE, "application/json")];
    Router::new()
        .route(
            "/v1/videos/sync",
            post(async move |body: Bytes| {
                drop(body);
                (mp4(), video)
            }),
        )
        .route("/v1/videos/{id}", get(async move || (json, status)))
        .route(
            "/v1/videos/{id}/content",
            get(async move || {
                let length = [(header::CONTENT_LENGTH, content.len().to_string())];
                let chunks = (0..content.len())
                    .step_by(CHUNK_BYTES)
                    .map(|from| content.slice(from..content.len().min(from + CHUNK_BYTES)))
                    .map(Ok::<_, std::convert::Infallible>)
                    .collect::<Vec<_>>();
                let body = Body::from_stream(futures_util::stream::iter(chunks));
                (mp4(), length, body)
            }),
        )
}

/// Small answers do not wait for the acknowledgement of earlier ones, as at Reel.
struct NoDelay(TcpListener);

impl axum::serve::Listener for NoDelay {
    type Io = tokio::net::TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.0).await;
        let _ = stream.set_nodelay(true);
        (stream, address)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}
