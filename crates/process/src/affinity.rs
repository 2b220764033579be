//! A worker's share of the processors.

use std::num::NonZeroUsize;

/// How many threads each of `slots` workers should compute with, so that all of them together do not
/// ask for more processors than this process may use.
#[must_use]
pub fn threads_per_slot(slots: usize) -> NonZeroUsize {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(processors / slots.max(1)).unwrap_or(NonZeroUsize::MIN)
}

/// The processors of the worker in the `place`-th slot: as many as it has threads, of those that this process may
/// use; slots share when there are too few.
#[must_use]
pub fn processors(place: usize, threads: NonZeroUsize) -> Vec<usize> {
    let own = own_processors();
    let first = place * threads.get();
    let share = (first..first + threads.get().min(own.len())).map(|index| own[index % own.len()]);
    share.collect()
}

/// Never empty: whoever asks runs on one of them.
fn own_processors() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|processor| set.is_set(*processor))
            .collect(),
        Err(_) => vec![0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_take_turns_on_the_processors_that_there_are() {
        let own = own_processors();
        for place in 0..3 * own.len() {
            let share = processors(place, NonZeroUsize::MIN);
            assert_eq!(share, [own[place % own.len()]]);
        }
        assert_eq!(processors(0, NonZeroUsize::MAX).len(), own.len());
    }
}
