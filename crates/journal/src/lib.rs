//! Durable jobs: what was accepted, which attempt is the latest, and how each job ended.
//!
//! - [`Journal`] writes. One thread owns the only writing connection; whatever waits for it is committed in
//!   one transaction, and nobody is told before the commit reached the disk.
//! - [`Reader`] reads, through its own connections, without ever waiting for the writer; rows of jobs that ended lately
//!   without the disk.
//!
//! A row is written once by [`Journal::insert`], moved by [`Journal::set_status`] under the fence of its attempt,
//! and ended exactly once by [`Journal::finish`].
#![forbid(unsafe_code)]

mod lock;
mod reader;
mod recent;
mod record;
mod schema;
mod statements;
mod writer;

pub use reader::{Callback, Expiring, Order, Page, ReadError, Reader};
pub use recent::RECENT_MAX;
pub use record::{Ending, JobRecord, RowError, VideoMeta};
pub use schema::OpenError;
pub use writer::{Journal, STATUS_DELAY_MAX, WRITES_PER_COMMIT_MAX, WriteError};
