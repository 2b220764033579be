//! `[outbound]`: where the server may send requests itself, for images that clients name and for webhooks.

use crate::config::{Config, ConfigError};
use crate::startup::UsageError;
use anyhow::Context;
use reel_gateway::ImageFetch;
use reel_journal::{Journal, Reader};
use reel_keys::{SharedKeyRing, server_webhook_secret};
use reel_outbound::{HostPattern, Hosts, Outbound, Schemes, UrlPolicy};
use reel_webhooks::{BACK_OFF, Courier, Parts};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Notify;

/// `[outbound]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OutboundSettings {
    /// Hosts that images are fetched from when a request names one by its URL; empty: none.
    pub(crate) image_hosts: Vec<String>,
    /// Plain HTTP is allowed, too.
    pub(crate) http: bool,
    /// This machine and its private networks are allowed, too.
    pub(crate) private_addresses: bool,
    /// Ports besides 80 and 443.
    pub(crate) ports: Vec<u16>,
    /// A file of certificates of the authorities to trust; `None`: those that browsers trust.
    pub(crate) authorities: Option<PathBuf>,
}

impl OutboundSettings {
    /// Every pattern can be read.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.image_hosts().map(drop)
    }

    fn image_hosts(&self) -> Result<Vec<HostPattern>, ConfigError> {
        let pattern = |text: &String| {
            text.parse().map_err(|_| ConfigError::Value {
                key: "outbound.image_hosts",
                value: text.clone(),
                reason: "must be a host like example.com, or a pattern like *.example.com",
            })
        };
        self.image_hosts.iter().map(pattern).collect()
    }

    fn policy(&self, hosts: Hosts) -> UrlPolicy {
        UrlPolicy {
            schemes: match self.http {
                true => Schemes::HttpsAndHttp,
                false => Schemes::Https,
            },
            hosts,
            ports: self.ports.clone(),
            private_addresses: self.private_addresses,
        }
    }

    fn client(&self) -> anyhow::Result<Outbound> {
        let Some(path) = &self.authorities else {
            return Ok(Outbound::default());
        };
        let named = || format!("outbound.authorities {}", path.display());
        let pem = std::fs::read(path).with_context(named)?;
        let trusting = Outbound::default().trusting(&pem);
        Ok(trusting.map_err(|error| UsageError::Value(format!("{}: {error}", named())))?)
    }

    /// How images are fetched; `None`: not at all.
    pub(crate) fn image_fetch(&self) -> anyhow::Result<Option<ImageFetch>> {
        let hosts = self.image_hosts()?;
        if hosts.is_empty() {
            return Ok(None);
        }
        Ok(Some(ImageFetch {
            outbound: self.client()?,
            policy: self.policy(Hosts::Only(hosts)),
        }))
    }
}

/// Who tells the ends of jobs.
pub(crate) fn courier(
    config: &Config,
    (journal, reader): (Journal, Reader),
    keys: Arc<SharedKeyRing>,
    owed: Arc<Notify>,
    registry: prometheus::Registry,
) -> anyhow::Result<Courier> {
    let data_dir = &config.paths.data_dir;
    let secret = server_webhook_secret(data_dir)?;
    let server_secret = secret
        .expose()
        .parse()
        .with_context(|| format!("the webhook secret in {}", data_dir.display()))?;
    Ok(Courier::new(Parts {
        journal,
        reader,
        keys,
        server_secret,
        outbound: config.outbound.client()?,
        policy: config.outbound.policy(Hosts::Any),
        back_off: BACK_OFF.to_vec(),
        owed,
        registry,
    })?)
}
