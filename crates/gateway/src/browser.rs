//! Pages of other sites in a browser on this machine.
//!
//! A server without keys trusts whoever reaches loopback. A browser reaches it too, for any page that it shows: by a form
//! that is sent to `127.0.0.1`, or by a name of the page's own that means `127.0.0.1` a moment later (DNS rebinding). Both
//! betray themselves: by the `Origin` of another site, by a `Host` that is a name nobody gave this server.

use crate::respond::ApiError;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use std::net::IpAddr;

/// The names that this server has.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The host in the operator's `public_url`.
    public: Option<Authority>,
    /// Origins whose pages may call.
    origins: Vec<HeaderValue>,
}

impl Names {
    pub(crate) fn new(public_url: Option<&str>, origins: Vec<HeaderValue>) -> Self {
        let public = public_url.and_then(|url| url.parse::<Uri>().ok()?.into_parts().authority);
        Self { public, origins }
    }

    /// Refuses what a page of another site makes a browser send.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let mut hosts = headers.get_all(header::HOST).iter();
        // Browsers always say one.
        let host = match (hosts.next(), hosts.next()) {
            (None, _) => None,
            (Some(host), None) => Some(authority(host).ok_or(ApiError::UnknownHost)?),
            (Some(_), Some(_)) => return Err(ApiError::UnknownHost),
        };
        if host.as_ref().is_some_and(|host| !self.is_ours(host)) {
            return Err(ApiError::UnknownHost);
        }
        match headers.get(header::ORIGIN) {
            Some(origin) if !self.may_call(origin, host.as_ref()) => Err(ApiError::ForeignOrigin),
            _ => Ok(()),
        }
    }

    /// An address is nobody's to change; a name is, but for this machine's own.
    fn is_ours(&self, host: &Authority) -> bool {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        let is_public = |public: &Authority| public.host().eq_ignore_ascii_case(host.host());
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.public.as_ref().is_some_and(is_public)
    }

    fn may_call(&self, origin: &HeaderValue, host: Option<&Authority>) -> bool {
        let own = |origin: &HeaderValue| {
            let origin: Uri = origin.to_str().ok()?.parse().ok()?;
            Some(origin.authority()? == host?)
        };
        self.origins.contains(origin) || own(origin).unwrap_or(false)
    }
}

fn authority(host: &HeaderValue) -> Option<Authority> {
    host.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, origin: Option<&str>) -> Result<(), ApiError> {
        let app = HeaderValue::from_static("https://app.example.com");
        let names = Names::new(Some("https://video.example.com"), vec![app]);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        names.check(&headers)
    }

    #[test]
    fn names_that_somebody_else_could_have_made_are_refused() {
        for host in [
            "localhost:8000",
            "127.0.0.1:8000",
            "[::1]:8000",
            "video.example.com",
        ] {
            assert!(check(host, None).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8000",
            "127.0.0.1.evil.example",
            "local{host",
            "",
        ] {
            assert!(
                matches!(check(host, None), Err(ApiError::UnknownHost)),
                "{host}"
            );
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let host = "127.0.0.1:8000";
        for origin in [
            None,
            Some("http://127.0.0.1:8000"),
            Some("https://app.example.com"),
        ] {
            assert!(check(host, origin).is_ok(), "{origin:?}");
        }
        for origin in ["https://evil.example", "null", "http://127.0.0.1:9000"] {
            let refused = check(host, Some(origin));
            assert!(matches!(refused, Err(ApiError::ForeignOrigin)), "{origin}");
        }
    }
}
