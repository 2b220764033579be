//! Outgoing HTTP: a client's image by its URL, and webhooks.
//!
//! Both go to an address that a stranger has named, from a machine that sees what strangers do not. So a
//! [`UrlPolicy`] says where requests may go, and [`Outbound`] holds to it:
//!
//! - a URL has an allowed scheme, host and port, and no user or password: [`policy`]
//! - the host's name is resolved once, all of its addresses are judged, and the connection goes to one of these
//!   addresses: a name that means something else a moment later changes nothing: [`resolve`], [`address`]
//! - a redirect is another URL, judged like the first; from HTTPS there is no way down to HTTP: [`client`]
//! - whatever takes long or is large has a limit: [`Limits`]
//! - no proxy, no cookie, no decompression, no connection that is kept
//!
//! A [`FetchError`] says what was wrong and what to do, in words that a client may read: nothing of what lies behind
//! a name.
//!
//! [`standard_webhooks`] signs what is delivered. Everything here blocks, for no longer than [`Limits::total`]: call it
//! on a thread that may.
#![forbid(unsafe_code)]

pub mod address;
pub mod client;
pub mod error;
pub mod policy;
pub mod resolve;
pub mod standard_webhooks;

pub use client::{Limits, Outbound, RootsError, Status};
pub use error::FetchError;
pub use policy::{HostPattern, Hosts, Schemes, UrlPolicy};
pub use resolve::{Resolve, SystemResolver};
pub use standard_webhooks::{SecretError, WebhookSecret};
