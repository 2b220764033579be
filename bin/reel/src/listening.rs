//! `[server]`: where the server listens, and what clients may do there.

use crate::config::{ConfigError, at_least_one};
use axum::http::HeaderValue;
use reel_gateway::{GatewayConfig, ServeLimits};
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    /// Where to listen. Anywhere but on loopback takes keys.
    pub(crate) listen: SocketAddr,
    /// Where operators reach metrics and the pool: without a key on loopback, elsewhere with an operator's. `None`: on
    /// `listen`, with an operator's key.
    pub(crate) admin_listen: Option<SocketAddr>,
    /// What clients write before a path, for addresses that are sent to them.
    pub(crate) public_url: Option<String>,
    /// Origins whose web pages may call; empty: none.
    pub(crate) cors_origins: Vec<String>,
    /// Longest time that `POST /v1/videos/sync` waits.
    pub(crate) sync_deadline_s: u64,
    /// How long a download address is good.
    pub(crate) download_url_lifetime_s: u64,
    /// Largest request body, in bytes.
    pub(crate) body_bytes_max: usize,
    /// Open connections.
    pub(crate) connections_max: usize,
}

impl Default for Server {
    fn default() -> Self {
        let GatewayConfig {
            listen,
            body_bytes_max,
            sync_deadline,
            download_url_lifetime,
            serve,
            ..
        } = GatewayConfig::default();
        Self {
            listen,
            admin_listen: None,
            public_url: None,
            cors_origins: Vec::new(),
            sync_deadline_s: sync_deadline.as_secs(),
            download_url_lifetime_s: download_url_lifetime.as_secs(),
            body_bytes_max,
            connections_max: serve.connections_max,
        }
    }
}

impl Server {
    /// Every value makes sense.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.origins()?;
        self.check_public_url()?;
        at_least_one("server.body_bytes_max", self.body_bytes_max as u64)?;
        at_least_one("server.connections_max", self.connections_max as u64)
    }

    /// The limits of the HTTP surface.
    pub(crate) fn gateway(&self) -> GatewayConfig {
        GatewayConfig {
            listen: self.listen,
            admin_is_local: self
                .admin_listen
                .is_none_or(|admin| admin.ip().is_loopback()),
            body_bytes_max: self.body_bytes_max,
            // As much as a data URL takes, and what a request adds to it.
            json_bytes_max: self
                .body_bytes_max
                .div_ceil(3)
                .saturating_mul(4)
                .saturating_add(64 * 1024),
            sync_deadline: Duration::from_secs(self.sync_deadline_s),
            download_url_lifetime: Duration::from_secs(self.download_url_lifetime_s),
            public_url: self.public_url.clone(),
            // They were read once already, when the file was.
            cors_origins: self.origins().unwrap_or_default(),
            event_streams_max: (self.connections_max / 2).max(1),
            serve: ServeLimits {
                connections_max: self.connections_max,
                ..ServeLimits::default()
            },
            ..GatewayConfig::default()
        }
    }

    /// The origins, as the header spells them.
    fn origins(&self) -> Result<Vec<HeaderValue>, ConfigError> {
        let origin = |text: &String| {
            let bare = is_http(text) && text.matches('/').count() == 2;
            HeaderValue::from_str(text)
                .ok()
                .filter(|_| bare)
                .ok_or_else(|| ConfigError::Value {
                    key: "server.cors_origins",
                    value: text.clone(),
                    reason: "must be an origin like https://app.example.com, without a path",
                })
        };
        self.cors_origins.iter().map(origin).collect()
    }

    fn check_public_url(&self) -> Result<(), ConfigError> {
        match &self.public_url {
            Some(url) if !is_http(url) || url.ends_with('/') => Err(ConfigError::Value {
                key: "server.public_url",
                value: url.clone(),
                reason: "must begin with https:// or http:// and have no slash at its end",
            }),
            _ => Ok(()),
        }
    }
}

fn is_http(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_and_addresses_are_checked_when_they_are_read() {
        let origins = |text: &str| Server {
            cors_origins: vec![text.into()],
            ..Server::default()
        };
        assert!(origins("https://app.example.com").check().is_ok());
        assert!(origins("http://localhost:3000").check().is_ok());
        for text in [
            "*",
            "app.example.com",
            "https://app.example.com/",
            "https://a\n",
        ] {
            assert!(origins(text).check().is_err(), "{text:?}");
        }
        let public = |text: &str| Server {
            public_url: Some(text.into()),
            ..Server::default()
        };
        assert!(public("https://video.example.com/reel").check().is_ok());
        assert!(public("video.example.com").check().is_err());
        assert!(public("https://video.example.com/").check().is_err());
    }
}
