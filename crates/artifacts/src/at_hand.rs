//! Reading what the kernel has in memory anyway, without a thread for it: whoever asks is never kept waiting by a disk, and
//! asks again in the ordinary way for what is not there (openat2(2) RESOLVE_CACHED, preadv2(2) RWF_NOWAIT).

use crate::store::{OpenVideo, Store};
use reel_domain::JobId;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;

impl Store {
    /// Opens a job's published video if that takes no disk. `None` says nothing: it may be there all the same.
    #[must_use]
    pub fn open_video_at_hand(&self, id: JobId) -> Option<OpenVideo> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = self.video_path(id);
        let opened = openat2(CWD, &path, flags, Mode::empty(), ResolveFlags::CACHED);
        let file = File::from(opened.ok()?);
        let bytes = file.metadata().ok()?.len();
        Some(OpenVideo { file, bytes })
    }
}

/// Reads so many bytes from a place of a file, if all of them can be had without the disk.
#[must_use]
pub fn read_at_hand(file: &File, at: u64, bytes: usize) -> Option<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        let rest = &mut [IoSliceMut::new(&mut buffer[filled..])];
        let read = preadv2(file, rest, at + filled as u64, ReadWriteFlags::NOWAIT);
        match read {
            Ok(0) | Err(_) => return None,
            Ok(read) => filled += read,
        }
    }
    Some(buffer)
}

/// Reads so many bytes from a place of a file, from wherever they are.
///
/// # Errors
/// When the disk refuses, or the file is shorter.
pub fn read_at(file: &File, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    file.read_exact_at(&mut buffer, at)?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reel_domain::AttemptId;

    #[test]
    fn what_was_written_just_now_is_at_hand_and_what_is_not_there_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        let (job, other) = (JobId::from_bytes([1; 16]), JobId::from_bytes([2; 16]));
        let attempt = AttemptId { job, number: 1 };
        store.publish_bytes(attempt, b"video").expect("a video");
        assert!(store.open_video_at_hand(other).is_none());
        // Not every file system knows how to say that it would wait.
        if let Some(video) = store.open_video_at_hand(job) {
            assert_eq!(video.bytes, 5);
            let read = read_at_hand(&video.file, 1, 4);
            assert!(read.is_none_or(|read| read == b"ideo"));
            assert_eq!(read_at_hand(&video.file, 1, 5), None, "beyond its end");
        }
        let video = store.open_video(job).expect("no error").expect("a video");
        assert_eq!(read_at(&video.file, 1, 4).expect("bytes"), b"ideo");
        assert!(read_at(&video.file, 1, 5).is_err());
    }
}
