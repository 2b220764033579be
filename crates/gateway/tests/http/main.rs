//! The router over a real journal and store, with a pool that a test can steer.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod content;
mod create;
mod earlier;
mod events;
mod images;
mod jobs;
mod keys;
mod once;
mod operate;
mod pool;
mod server;
mod service;
mod signed;
mod sockets;
mod sync;
