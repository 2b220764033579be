//! The router as a whole: it is what its document says, and nothing that is sent to it breaks it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod docs;
mod fuzz;
#[path = "../../../../tests/fuzz/mutator.rs"]
mod mutator;
#[expect(dead_code, reason = "the other tests need more of it")]
#[path = "../http/pool.rs"]
mod pool;
mod refusals;
#[expect(dead_code, reason = "the other tests need more of it")]
#[path = "../http/server.rs"]
mod server;
