//! Every limit of the HTTP surface, with its default.

use axum::http::HeaderValue;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What an operator may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Where to listen. Loopback, unless told otherwise; anywhere else takes keys.
    pub listen: SocketAddr,
    /// The listener for operators is on loopback, where nobody needs a key.
    pub admin_is_local: bool,
    /// Largest request body, in bytes. Holds the largest image and what a form adds to it.
    pub body_bytes_max: usize,
    /// Largest JSON body, in bytes. Holds the largest image as a data URL.
    pub json_bytes_max: usize,
    /// Longest time that a request body may take to arrive.
    pub body_read_deadline: Duration,
    /// Requests for new videos that are read at the same time; more are shed with 503. Times
    /// [`body_bytes_max`](Self::body_bytes_max), this bounds the memory that request bodies take.
    pub creates_at_once_max: usize,
    /// Longest time that a request for a video waits for it (`/v1/videos/sync`).
    pub sync_deadline: Duration,
    /// How long an address that opens a video without a key is good.
    pub download_url_lifetime: Duration,
    /// What clients write before a path (`https://video.example.com`); without it such addresses are paths.
    pub public_url: Option<String>,
    /// Web pages of these origins may call; none, unless told otherwise.
    pub cors_origins: Vec<HeaderValue>,
    /// Images that are decoded at the same time; more wait.
    pub image_decodes_at_once_max: usize,
    /// Images that are fetched at the same time, each from a host that may take its time; more are shed with 503.
    pub image_fetches_at_once_max: usize,
    /// Streams of events that are open at the same time; more are shed with 503. Each holds a connection for as long as
    /// its reader likes, of [`ServeLimits::connections_max`].
    pub event_streams_max: usize,
    /// What a connection may do.
    pub serve: ServeLimits,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            admin_is_local: true,
            body_bytes_max: reel_media::IMAGE_BYTES_MAX + 64 * 1024,
            json_bytes_max: reel_media::IMAGE_BYTES_MAX.div_ceil(3) * 4 + 128 * 1024,
            body_read_deadline: Duration::from_secs(60),
            creates_at_once_max: 64,
            sync_deadline: Duration::from_secs(300),
            download_url_lifetime: Duration::from_secs(3_600),
            public_url: None,
            cors_origins: Vec::new(),
            image_decodes_at_once_max: 2,
            image_fetches_at_once_max: 16,
            event_streams_max: 512,
            serve: ServeLimits::default(),
        }
    }
}

/// Limits of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeLimits {
    /// Open connections; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Longest time for the head of a request, idle time of a kept connection included.
    pub head_read_deadline: Duration,
    /// Longest time that a client may leave what is sent to it unread.
    pub write_stall_deadline: Duration,
    /// Largest head of a request, in bytes.
    pub head_bytes_max: usize,
    /// Longest time that responses in flight get after a shutdown began.
    pub shutdown_grace: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            head_read_deadline: Duration::from_secs(30),
            write_stall_deadline: Duration::from_secs(30),
            head_bytes_max: 32 * 1024,
            shutdown_grace: Duration::from_secs(10),
        }
    }
}
