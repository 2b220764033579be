//! Requests, each on a connection of its own to an address that was judged.

use crate::error::FetchError;
use crate::policy::{Target, UrlPolicy};
use crate::resolve::{Judged, Resolve, SystemResolver, Unresolved, resolve_within};
use bytes::Bytes;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::http::{Response, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};
use url::Host;

/// Longest request with everything that belongs to it: names, redirects, the last byte of the answer.
pub const TOTAL_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a connection, all addresses of a host together.
pub const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Largest head of an answer.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Most redirects that are followed.
pub const REDIRECTS_MAX: usize = 5;
/// What is read of an answer that nobody reads.
pub const ANSWER_BYTES_MAX: u64 = 4 * 1024;

const USER_AGENT: &str = concat!("reel/", env!("CARGO_PKG_VERSION"));
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
const OK: u16 = 200;

/// How long a request may take, and how large the head of its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For everything.
    pub total: Duration,
    /// For a connection.
    pub connect: Duration,
    /// Of the head of an answer.
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total: TOTAL_MAX,
            connect: CONNECT_MAX,
            header_bytes: HEADER_BYTES_MAX,
        }
    }
}

/// The status of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// The request was accepted.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self.0, 200..=299)
    }
}

/// Sends requests to where a [`UrlPolicy`] allows it.
#[derive(Debug, Clone)]
pub struct Outbound {
    resolver: Arc<dyn Resolve>,
    limits: Limits,
    roots: RootCerts,
}

/// No certificates of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no certificate in PEM form (-----BEGIN CERTIFICATE-----), or one that is damaged")]
pub struct RootsError;

impl Default for Outbound {
    fn default() -> Self {
        Self::new(Arc::new(SystemResolver), Limits::default())
    }
}

/// One request's time.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    within: Duration,
    end: Option<Instant>,
}

impl Deadline {
    fn start(within: Duration) -> Self {
        // A time beyond what the clock can count never comes.
        let end = Instant::now().checked_add(within);
        Self { within, end }
    }

    fn left(self, target: &Target) -> Result<Duration, FetchError> {
        let left = self.end.map_or(Duration::MAX, |end| {
            end.saturating_duration_since(Instant::now())
        });
        match left.is_zero() {
            false => Ok(left),
            true => Err(self.passed(target)),
        }
    }

    fn passed(self, target: &Target) -> FetchError {
        FetchError::TooSlow {
            host: target.name(),
            within: self.within,
        }
    }
}

impl Outbound {
    /// Finds addresses by `resolver`, and trusts the authorities that browsers trust.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolve>, limits: Limits) -> Self {
        Self {
            resolver,
            limits,
            roots: RootCerts::WebPki,
        }
    }

    /// Trusts these authorities, and no others: an operator's own, for example.
    ///
    /// # Errors
    /// When the text holds no certificate.
    pub fn trusting(self, certificates_pem: &[u8]) -> Result<Self, RootsError> {
        let certificates = parse_pem(certificates_pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(_) => Some(Err(RootsError)),
        });
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        if certificates.is_empty() {
            return Err(RootsError);
        }
        Ok(Self {
            roots: RootCerts::new_with_certs(&certificates),
            ..self
        })
    }

    /// The file at `url`, if it has at most `most_bytes`. Redirects are followed where the policy allows it.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub fn fetch(
        &self,
        policy: &UrlPolicy,
        url: &str,
        most_bytes: usize,
    ) -> Result<Bytes, FetchError> {
        let deadline = Deadline::start(self.limits.total);
        let mut target = policy.admit(url)?;
        for _ in 0..=REDIRECTS_MAX {
            let agent = self.agent(policy, &target, deadline)?;
            let answer = agent.get(target.url.as_str()).call();
            let answer = answer.map_err(|error| explain(error, &target, deadline))?;
            match answer.status().as_u16() {
                OK => return read_file(answer, &target, most_bytes, deadline),
                status if REDIRECTS.contains(&status) => {
                    target = follow(policy, &target, &answer)?;
                }
                status => {
                    let host = target.name();
                    return Err(FetchError::Status { host, status });
                }
            }
        }
        Err(FetchError::TooManyRedirects {
            host: target.name(),
            most: REDIRECTS_MAX,
        })
    }

    /// Sends `body` to `url`. A redirect is an answer like any other and is not followed; what the answer says besides
    /// its status is not kept.
    ///
    /// # Errors
    /// See [`FetchError`]; an answer of whatever status is none.
    pub fn post<'a>(
        &self,
        policy: &UrlPolicy,
        url: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: &[u8],
    ) -> Result<Status, FetchError> {
        let deadline = Deadline::start(self.limits.total);
        let target = policy.admit(url)?;
        let agent = self.agent(policy, &target, deadline)?;
        let mut request = agent.post(target.url.as_str());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send(body);
        let answer = answer.map_err(|error| explain(error, &target, deadline))?;
        let status = Status(answer.status().as_u16());
        // Who is still writing its answer would take a closed connection for a failure.
        let rest = answer.into_body().into_reader().take(ANSWER_BYTES_MAX);
        let _ = std::io::copy(&mut { rest }, &mut std::io::sink());
        Ok(status)
    }

    /// A client for one request, which can connect to the judged addresses of the target and to nothing else.
    fn agent(
        &self,
        policy: &UrlPolicy,
        target: &Target,
        deadline: Deadline,
    ) -> Result<Agent, FetchError> {
        let addresses = self.judged(policy, target, deadline)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .tls_config(TlsConfig::builder().root_certs(self.roots.clone()).build())
            .max_idle_connections(0)
            .user_agent(USER_AGENT)
            .accept_encoding("identity")
            .max_response_header_size(self.limits.header_bytes)
            .timeout_connect(Some(self.limits.connect))
            .timeout_global(Some(deadline.left(target)?))
            .build();
        let connector = DefaultConnector::default();
        Ok(Agent::with_parts(config, connector, Judged(addresses)))
    }

    fn judged(
        &self,
        policy: &UrlPolicy,
        target: &Target,
        deadline: Deadline,
    ) -> Result<Vec<SocketAddr>, FetchError> {
        let host = target.name();
        let addresses = match &target.host {
            Host::Ipv4(address) => vec![SocketAddr::from((*address, target.port))],
            Host::Ipv6(address) => vec![SocketAddr::from((*address, target.port))],
            Host::Domain(name) => {
                let within = deadline.left(target)?;
                resolve_within(self.resolver.clone(), name, target.port, within).map_err(
                    |error| match error {
                        Unresolved::NoAddress => FetchError::Unresolved { host: host.clone() },
                        Unresolved::TooSlow => deadline.passed(target),
                    },
                )?
            }
        };
        match policy.allows(&addresses) {
            true => Ok(addresses),
            false => Err(FetchError::Private { host }),
        }
    }
}

/// Where an answer says that the file is, if that is allowed.
fn follow(
    policy: &UrlPolicy,
    from: &Target,
    answer: &Response<Body>,
) -> Result<Target, FetchError> {
    let host = from.name();
    let location = answer.headers().get(header::LOCATION);
    let to = location
        .and_then(|location| location.to_str().ok())
        .and_then(|location| from.url.join(location).ok())
        .ok_or_else(|| FetchError::NoTarget { host: host.clone() })?;
    if from.url.scheme() == "https" && to.scheme() == "http" {
        return Err(FetchError::Downgrade { host });
    }
    policy.admit(to.as_str())
}

fn read_file(
    answer: Response<Body>,
    target: &Target,
    most: usize,
    deadline: Deadline,
) -> Result<Bytes, FetchError> {
    let too_large = || FetchError::TooLarge {
        host: target.name(),
        most,
    };
    let encoding = answer.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(FetchError::Compressed {
            host: target.name(),
        });
    }
    let mut body = answer.into_body();
    let most_bytes = most as u64;
    if body
        .content_length()
        .is_some_and(|bytes| bytes > most_bytes)
    {
        return Err(too_large());
    }
    // One byte more than is allowed tells a file that is too large.
    let limited = body.with_config().limit(most_bytes.saturating_add(1));
    let file = limited.read_to_vec().map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(_) => too_large(),
        error => explain(error, target, deadline),
    })?;
    match file.len() > most {
        false => Ok(file.into()),
        true => Err(too_large()),
    }
}

/// What a client may know of it.
fn explain(error: ureq::Error, target: &Target, deadline: Deadline) -> FetchError {
    use std::io::ErrorKind;
    let host = target.name();
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect) => FetchError::Unreachable { host },
        ureq::Error::Timeout(_) => deadline.passed(target),
        ureq::Error::Io(error) if error.kind() == ErrorKind::TimedOut => deadline.passed(target),
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::TlsRequired => {
            FetchError::Tls { host }
        }
        // What a handshake makes of an answer that is none.
        ureq::Error::Io(error)
            if error.kind() == ErrorKind::InvalidData && target.url.scheme() == "https" =>
        {
            FetchError::Tls { host }
        }
        ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
            FetchError::Garbled { host }
        }
        ureq::Error::Http(_) => FetchError::Header,
        ureq::Error::BadUri(why) => FetchError::Malformed(why),
        _ => FetchError::Unreachable { host },
    }
}
