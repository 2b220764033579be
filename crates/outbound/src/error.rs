//! Why a request did not go out, or was not answered. The message is what a client may read.

use std::time::Duration;

/// Why a URL was not asked, or did not answer as it should. It names the host and the way out, and nothing of what the
/// host's name means here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// It is none.
    #[error("not a URL: {0}; give one like https://example.com/path")]
    Malformed(String),
    /// It is too long.
    #[error("the URL has {bytes} bytes; at most {most} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        most: usize,
    },
    /// Its scheme is not allowed.
    #[error("the scheme {scheme:?} is not allowed; use {allowed}")]
    Scheme {
        /// What it says.
        scheme: String,
        /// What it may say.
        allowed: &'static str,
    },
    /// It holds a user or a password.
    #[error("the URL holds a user name or a password; leave them out")]
    Credentials,
    /// There is no host that may be asked.
    #[error("this server fetches no URLs; send the file itself")]
    NoHosts,
    /// Its host is not on the list.
    #[error("the host {host} is not one of those that this server may ask; name another")]
    Host {
        /// The host.
        host: String,
    },
    /// Its port is not on the list.
    #[error("port {port} of {host} is not one of those that this server may ask; use 443")]
    Port {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// Its host has an address that is not to be asked.
    #[error("the host {host} resolves to a private address; name one that is public")]
    Private {
        /// The host.
        host: String,
    },
    /// Its host has no address.
    #[error("the host {host} has no address; check its spelling")]
    Unresolved {
        /// The host.
        host: String,
    },
    /// Nobody there accepts a connection, or it broke.
    #[error(
        "no connection to {host}, or it broke; check the host and the port, or try again later"
    )]
    Unreachable {
        /// The host.
        host: String,
    },
    /// Its certificate is none that is trusted here.
    #[error("the host {host} has no certificate that is trusted, or speaks no TLS on this port")]
    Tls {
        /// The host.
        host: String,
    },
    /// It takes too long.
    #[error("the host {host} did not answer in full within {} s; try again later", within.as_secs_f32())]
    TooSlow {
        /// The host.
        host: String,
        /// How long it had, for everything.
        within: Duration,
    },
    /// It answers with more than was allowed.
    #[error("the answer of {host} has more than {most} bytes, the most that are allowed")]
    TooLarge {
        /// The host.
        host: String,
        /// The largest allowed.
        most: usize,
    },
    /// It does not speak HTTP, or its headers are too large.
    #[error("the answer of {host} is not HTTP, or its headers are too large")]
    Garbled {
        /// The host.
        host: String,
    },
    /// It answers something else than the file.
    #[error("the host {host} answers with status {status} instead of a file")]
    Status {
        /// The host.
        host: String,
        /// The answer.
        status: u16,
    },
    /// It answers with something compressed, which was not asked for.
    #[error("the host {host} compresses the file; let it send the file as it is")]
    Compressed {
        /// The host.
        host: String,
    },
    /// It redirects without saying where to.
    #[error("the host {host} redirects to nowhere")]
    NoTarget {
        /// The host.
        host: String,
    },
    /// It redirects to HTTP.
    #[error("the host {host} redirects from https to http; give the URL of the file itself")]
    Downgrade {
        /// The host.
        host: String,
    },
    /// It redirects again and again.
    #[error("more than {most} redirects, the last by {host}; give the URL of the file itself")]
    TooManyRedirects {
        /// The host.
        host: String,
        /// The most that are followed.
        most: usize,
    },
    /// A header cannot be sent.
    #[error("a header cannot be sent: it holds what no header may")]
    Header,
}

impl FetchError {
    /// Another try later may end otherwise, with the same URL.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unresolved { .. }
                | Self::Unreachable { .. }
                | Self::TooSlow { .. }
                | Self::Garbled { .. }
        )
    }
}
