//! Names to addresses, once for each request, within a deadline.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Most addresses of a host that are tried; any others are not looked at.
pub const ADDRESSES_MAX: usize = 16;

/// Finds the addresses of names.
pub trait Resolve: std::fmt::Debug + Send + Sync + 'static {
    /// The addresses of `host` with this port. May block for longer than anybody waits.
    ///
    /// # Errors
    /// When it cannot say.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// Asks the system, as getaddrinfo(3) does.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// Why there are no addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unresolved {
    NoAddress,
    TooSlow,
}

/// The addresses of a host, if the answer comes in time. The system's resolver cannot be interrupted: a thread waits
/// for it, and is left alone after the deadline; it ends by the resolver's own deadlines.
pub(crate) fn resolve_within(
    resolver: Arc<dyn Resolve>,
    host: &str,
    port: u16,
    within: Duration,
) -> Result<Vec<SocketAddr>, Unresolved> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let host = host.to_owned();
    std::thread::Builder::new()
        .name("resolve".into())
        .spawn(move || sender.send(resolver.resolve(&host, port)))
        .map_err(|_| Unresolved::NoAddress)?;
    let mut addresses = receiver
        .recv_timeout(within)
        .map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => Unresolved::TooSlow,
            mpsc::RecvTimeoutError::Disconnected => Unresolved::NoAddress,
        })?
        .map_err(|_| Unresolved::NoAddress)?;
    addresses.truncate(ADDRESSES_MAX);
    match addresses.is_empty() {
        false => Ok(addresses),
        true => Err(Unresolved::NoAddress),
    }
}

/// Knows the addresses that were judged, and no others, whatever it is asked.
#[derive(Debug)]
pub(crate) struct Judged(pub(crate) Vec<SocketAddr>);

impl Resolver for Judged {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        for address in &self.0 {
            addresses
                .try_push(*address)
                .map_err(|_| ureq::Error::HostNotFound)?;
        }
        Ok(addresses)
    }
}
