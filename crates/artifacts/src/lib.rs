//! Files of jobs: published videos, and the frames that a job starts from.
//!
//! ```text
//! <data>/artifacts/<job id>/video.mp4      published: complete, synced, never changed
//! <data>/artifacts/.staging/               being written; emptied at every start
//! <data>/inputs/<job id>.rgb               given frames
//! ```
//!
//! A name is visible only after its bytes are on the disk: write under another name in the same file system,
//! sync the file, rename, sync the directory. Names are made of job ids alone, never of a client's text.
//! Every call blocks on the disk.
#![forbid(unsafe_code)]

mod durable;
mod staging;
mod store;

pub use staging::{Published, Staging};
pub use store::{OpenVideo, Store, StoreError, Swept};
