//! Files of jobs: published videos, stills of them, and the frames that a job starts from.
//!
//! ```text
//! <data>/artifacts/<job id>/video.mp4      published: complete, synced, never changed
//! <data>/artifacts/<job id>/thumbnail-<SHA-256>.webp, spritesheet-<SHA-256>.jpg
//!                                          stills: made when first asked for, and gone with their video
//! <data>/artifacts/.staging/               being written; emptied at every start
//! <data>/inputs/<job id>.rgb               given frames
//! <data>/inputs/<job id>.mp4               the video that an unfinished job goes on with
//! ```
//!
//! A name is visible only after its bytes are on the disk: write under another name in the same file system,
//! sync the file, rename, sync the directory. Names are made of job ids alone, never of a client's text.
//! Every call blocks on the disk, but for [`Gallery::open`], which waits on it elsewhere, and for those that take only what
//! is [at hand](read_at_hand).
#![forbid(unsafe_code)]

mod at_hand;
mod durable;
mod gallery;
mod staging;
mod stills;
mod store;

pub use at_hand::{read_at, read_at_hand};
pub use gallery::{Gallery, StillError};
pub use staging::{Published, Staging};
pub use stills::{OpenStill, StillStaging};
pub use store::{OpenVideo, Store, StoreError, Swept};
