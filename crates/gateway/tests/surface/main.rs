//! The router as a whole: it is what its document says, and nothing that is sent to it breaks it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod docs;
#[expect(dead_code, reason = "the other tests need more of it")]
#[path = "../http/pool.rs"]
mod pool;
#[expect(dead_code, reason = "the other tests need more of it")]
#[path = "../http/server.rs"]
mod server;
