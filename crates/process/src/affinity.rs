//! A worker's share of the processors.

use std::num::NonZeroUsize;

/// How many threads each of `slots` workers should compute with, so that all of them together do not
/// ask for more processors than this process may use.
#[must_use]
pub fn threads_per_slot(slots: usize) -> NonZeroUsize {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(processors / slots.max(1)).unwrap_or(NonZeroUsize::MIN)
}
