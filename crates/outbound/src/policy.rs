//! Where requests may go.

use crate::address::Reach;
use crate::error::FetchError;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use url::{Host, Url};

/// Longest URL.
pub const URL_BYTES_MAX: usize = 2_048;
/// Longest name of a host (RFC 1035).
pub const HOST_BYTES_MAX: usize = 253;
/// Ports that may always be asked.
pub const PORTS: [u16; 2] = [443, 80];

/// Where requests may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPolicy {
    /// How.
    pub schemes: Schemes,
    /// To whom.
    pub hosts: Hosts,
    /// Ports besides [`PORTS`].
    pub ports: Vec<u16>,
    /// Also to this machine and its private networks. Link-local addresses stay closed: clouds keep secrets there.
    pub private_addresses: bool,
}

/// Schemes that are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schemes {
    /// HTTPS alone.
    Https,
    /// HTTP as well.
    HttpsAndHttp,
}

/// Hosts that are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosts {
    /// Every one whose addresses are allowed.
    Any,
    /// These; none where there are none.
    Only(Vec<HostPattern>),
}

/// `example.com`, an address, or `*.example.com`: every name below it, itself not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    host: Host,
    below: bool,
}

/// No pattern of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a host like example.com nor a pattern like *.example.com")]
pub struct HostPatternError(String);

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let refused = || HostPatternError(text.chars().take(HOST_BYTES_MAX).collect());
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let host = Host::parse(name).map(without_dot).map_err(|_| refused())?;
        let fits = match &host {
            Host::Domain(name) => !name.is_empty() && !name.contains('*'),
            Host::Ipv4(_) | Host::Ipv6(_) => !below,
        };
        fits.then_some(Self { host, below }).ok_or_else(refused)
    }
}

impl HostPattern {
    fn matches(&self, host: &Host) -> bool {
        match (&self.host, host) {
            (Host::Domain(top), Host::Domain(name)) if self.below => name
                .strip_suffix(top.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (wanted, host) => wanted == host,
        }
    }
}

impl Schemes {
    fn allow(self, scheme: &str) -> bool {
        match self {
            Self::Https => scheme == "https",
            Self::HttpsAndHttp => matches!(scheme, "https" | "http"),
        }
    }

    const fn names(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::HttpsAndHttp => "https or http",
        }
    }
}

impl Hosts {
    fn admit(&self, host: &Host) -> Result<(), FetchError> {
        match self {
            Self::Any => Ok(()),
            Self::Only(patterns) if patterns.is_empty() => Err(FetchError::NoHosts),
            Self::Only(patterns) if patterns.iter().any(|pattern| pattern.matches(host)) => Ok(()),
            Self::Only(_) => Err(FetchError::Host {
                host: host.to_string(),
            }),
        }
    }
}

/// A URL that may be asked, if its host has the right addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Target {
    /// The host as errors name it.
    pub(crate) fn name(&self) -> String {
        self.host.to_string()
    }
}

impl UrlPolicy {
    /// Whether a URL may be asked, as far as can be told before its host's addresses are known.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub fn check(&self, url: &str) -> Result<(), FetchError> {
        self.admit(url).map(drop)
    }

    /// The URL in its parts, each of which is allowed.
    pub(crate) fn admit(&self, text: &str) -> Result<Target, FetchError> {
        if text.len() > URL_BYTES_MAX {
            return Err(FetchError::TooLong {
                bytes: text.len(),
                most: URL_BYTES_MAX,
            });
        }
        let url = Url::parse(text).map_err(|error| FetchError::Malformed(error.to_string()))?;
        self.admit_parsed(url)
    }

    pub(crate) fn admit_parsed(&self, mut url: Url) -> Result<Target, FetchError> {
        if !self.schemes.allow(url.scheme()) {
            return Err(FetchError::Scheme {
                scheme: url.scheme().into(),
                allowed: self.schemes.names(),
            });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Credentials);
        }
        let host = host(&url)?;
        self.hosts.admit(&host)?;
        let port = url.port_or_known_default().unwrap_or_default();
        if !PORTS.contains(&port) && !self.ports.contains(&port) {
            let host = host.to_string();
            return Err(FetchError::Port { host, port });
        }
        url.set_fragment(None);
        Ok(Target { url, host, port })
    }

    /// Whether a connection to all of these addresses is allowed: which one it will be is not known yet.
    pub(crate) fn allows(&self, addresses: &[SocketAddr]) -> bool {
        addresses
            .iter()
            .all(|address| self.allows_one(address.ip()))
    }

    fn allows_one(&self, address: IpAddr) -> bool {
        match Reach::of(address) {
            Reach::Public => true,
            Reach::Private => self.private_addresses,
            Reach::Nobody => false,
        }
    }
}

fn host(url: &Url) -> Result<Host, FetchError> {
    let malformed = |why: &str| FetchError::Malformed(why.into());
    let host = url.host().ok_or_else(|| malformed("it has no host"))?;
    let host = without_dot(host.to_owned());
    match &host {
        Host::Domain(name) if name.is_empty() || name.len() > HOST_BYTES_MAX => {
            Err(malformed("the host is too long or empty"))
        }
        _ => Ok(host),
    }
}

/// A name that says that it is whole is the same name.
fn without_dot(host: Host) -> Host {
    match host {
        Host::Domain(name) => Host::Domain(name.strip_suffix('.').unwrap_or(&name).to_owned()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(hosts: &[&str]) -> UrlPolicy {
        UrlPolicy {
            schemes: Schemes::Https,
            hosts: Hosts::Only(hosts.iter().map(|host| host.parse().unwrap()).collect()),
            ports: vec![8443],
            private_addresses: false,
        }
    }

    fn refused(policy: &UrlPolicy, url: &str) -> FetchError {
        policy.admit(url).expect_err(url)
    }

    #[test]
    fn a_url_is_allowed_by_scheme_host_and_port() {
        let policy = policy(&["Example.com", "*.cdn.example.com", "93.184.216.34"]);
        for url in [
            "https://example.com/a.png?b#c",
            "https://EXAMPLE.com.:443/",
            "https://example.com:80/",
            "https://example.com:8443/",
            "https://a.cdn.example.com/",
            "https://a.b.cdn.example.com/",
            "https://93.184.216.34/",
            // The same address, as browsers read it.
            "https://0x5db8d822/",
        ] {
            policy.admit(url).expect(url);
        }
        for url in [
            "https://cdn.example.com/",
            "https://evilcdn.example.com/",
            "https://example.com.evil.org/",
            "https://notexample.com/",
            "https://example.com@evil.org.evil.org/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://2130706433/",
        ] {
            let error = refused(&policy, url);
            assert!(
                matches!(error, FetchError::Host { .. } | FetchError::Credentials),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_named() {
        let policy = policy(&["example.com"]);
        for (url, expected) in [
            (
                "http://example.com/",
                "the scheme \"http\" is not allowed; use https",
            ),
            (
                "file:///etc/passwd",
                "the scheme \"file\" is not allowed; use https",
            ),
            (
                "https://u:p@example.com/",
                "the URL holds a user name or a password; leave them out",
            ),
            (
                "https://example.com:22/",
                "port 22 of example.com is not one of those that this server may ask; use 443",
            ),
            (
                "https://other.org/",
                "the host other.org is not one of those that this server may ask; name another",
            ),
            (
                "example.com",
                "not a URL: relative URL without a base; give one like https://example.com/path",
            ),
        ] {
            assert_eq!(refused(&policy, url).to_string(), expected);
        }
        let long = format!("https://example.com/{}", "a".repeat(URL_BYTES_MAX));
        assert!(matches!(
            refused(&policy, &long),
            FetchError::TooLong { .. }
        ));
        let long = format!("https://{}com/", "a.".repeat(HOST_BYTES_MAX / 2));
        assert!(matches!(refused(&policy, &long), FetchError::Malformed(_)));
    }

    #[test]
    fn an_empty_list_allows_no_host() {
        assert_eq!(
            refused(&policy(&[]), "https://example.com/"),
            FetchError::NoHosts
        );
    }

    #[test]
    fn what_is_no_host_is_no_pattern() {
        for text in [
            "",
            "*",
            "*.",
            "**.example.com",
            "a.*.com",
            "*.10.0.0.1",
            "https://example.com",
            "example.com/x",
            "example.com:80",
        ] {
            assert!(text.parse::<HostPattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn one_private_address_among_public_ones_is_enough_to_refuse() {
        let addresses = ["1.1.1.1:443", "127.0.0.1:443"].map(|text| text.parse().unwrap());
        assert!(policy(&[]).allows(&addresses[..1]));
        assert!(!policy(&[]).allows(&addresses));
    }

    #[test]
    fn where_private_addresses_are_allowed_link_local_ones_are_not() {
        let mut policy = policy(&[]);
        policy.private_addresses = true;
        let allows = |text: &str| policy.allows(&[text.parse().unwrap()]);
        assert!(allows("10.0.0.1:443") && allows("[::1]:443"));
        assert!(!allows("169.254.169.254:80") && !allows("[fe80::1]:443"));
    }
}
