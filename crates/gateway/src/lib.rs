//! The HTTP surface: OpenAI's Videos API in front of the pool.
//!
//! A request becomes a valid [`Job`](reel_domain::Job) at this edge, or an answer that names what is wrong; only
//! valid jobs reach the pool, as one message each. Status and content are read from the journal, the files and the
//! pool's board, without asking the supervisor.
//!
//! - [`routers()`] is everything between a parsed HTTP request and its response; it is tested without a socket.
//! - [`serve()`] is everything below: connections, their number, their deadlines, their orderly end.
//! - `respond` is the one place where an error becomes a status code.
#![forbid(unsafe_code)]

mod browser;
mod caller;
mod config;
mod content;
mod create;
mod docs;
mod events;
mod fetch;
mod gateway;
mod health;
mod intake;
mod leftover;
mod metrics;
mod models;
mod operate;
mod range;
mod respond;
mod router;
mod serve;
mod submit;
mod sync;
mod tries;
mod videos;
mod view;

pub use caller::Keys;
pub use config::{GatewayConfig, ServeLimits};
pub use fetch::ImageFetch;
pub use gateway::Parts;
pub use router::{Routers, routers};
pub use serve::{serve, serve_with};
