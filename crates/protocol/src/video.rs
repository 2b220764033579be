//! A ready-made video in a memory file: an MP4 that a worker made itself, sealed so that nobody can change what was
//! checked (memfd_create(2), fcntl(2) F_ADD_SEALS).

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Largest video that a worker may hand over, in bytes.
pub const VIDEO_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Size and type of the first box, its brand and version (ISO/IEC 14496-12, 4.3).
const FIRST_BOX_BYTES: usize = 16;
const FIRST_BOX: &[u8] = b"ftyp";

/// Frames may be written to while they are encoded and only look wrong; a video is published as it was checked.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE)
    .union(SealFlags::SEAL);

/// A memory file that begins like an MP4 and cannot change any more.
#[derive(Debug)]
pub struct Video {
    file: File,
    bytes: u64,
}

/// A descriptor is no video.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// The kernel refused.
    #[error("memory file: {0}")]
    Io(#[from] io::Error),
    /// It holds too little, or too much.
    #[error("a video of {0} bytes")]
    Size(u64),
    /// Somebody could still change it.
    #[error("memory file is not sealed against writing and resizing")]
    Unsealed,
    /// Its first box is not the one that every MP4 begins with.
    #[error("it does not begin with an `ftyp` box")]
    NoMp4,
}

impl Video {
    /// A sealed memory file that holds `mp4`.
    ///
    /// # Errors
    /// When the kernel has no memory for it, or nobody would accept it.
    pub fn new(mp4: &[u8]) -> Result<Self, VideoError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = memfd_create("reel-video", flags).map_err(io::Error::from)?;
        let file = File::from(fd);
        file.write_all_at(mp4, 0)?;
        fcntl_add_seals(&file, SEALS).map_err(io::Error::from)?;
        Self::accept(file.into())
    }

    /// Takes a descriptor from a peer that is not trusted.
    ///
    /// # Errors
    /// When it is not sealed, holds nothing or more than [`VIDEO_BYTES_MAX`], or begins like no MP4.
    pub fn accept(fd: OwnedFd) -> Result<Self, VideoError> {
        let seals = fcntl_get_seals(&fd).map_err(|_| VideoError::Unsealed)?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE) {
            return Err(VideoError::Unsealed);
        }
        let bytes = fstat(&fd).map_err(io::Error::from)?.st_size as u64;
        if bytes < FIRST_BOX_BYTES as u64 || bytes > VIDEO_BYTES_MAX {
            return Err(VideoError::Size(bytes));
        }
        let file = File::from(fd);
        let mut first = [0; FIRST_BOX_BYTES];
        file.read_exact_at(&mut first, 0)?;
        let length = u32::from_be_bytes([first[0], first[1], first[2], first[3]]);
        let fits = (FIRST_BOX_BYTES as u64..=bytes).contains(&u64::from(length));
        match fits && &first[4..8] == FIRST_BOX {
            true => Ok(Self { file, bytes }),
            false => Err(VideoError::NoMp4),
        }
    }

    /// How many bytes it holds.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A copy of the video.
    ///
    /// # Errors
    /// When the kernel cannot read it.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut mp4 = vec![0; usize::try_from(self.bytes).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut mp4, 0)?;
        Ok(mp4)
    }
}

impl From<Video> for OwnedFd {
    fn from(video: Video) -> Self {
        video.file.into()
    }
}

impl AsFd for Video {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::Pixels;

    const SMALL: &[u8] = b"\0\0\0\x14ftypisom\0\0\0\0isom\0\0\0\x08free";

    #[test]
    fn a_sealed_video_is_accepted_and_read_back() {
        let video = Video::new(SMALL).unwrap();
        let accepted = Video::accept(video.file.try_clone().unwrap().into()).unwrap();
        assert_eq!(accepted.bytes(), SMALL.len() as u64);
        assert_eq!(accepted.read().unwrap(), SMALL);
        assert!(accepted.file.write_all_at(b"x", 0).is_err(), "it is sealed");
    }

    #[test]
    fn what_could_still_be_written_to_is_refused() {
        let fd = Pixels::new(SMALL).unwrap().into_file().into();
        assert!(matches!(Video::accept(fd), Err(VideoError::Unsealed)));
        let fd = File::open("/dev/null").unwrap().into();
        assert!(matches!(Video::accept(fd), Err(VideoError::Unsealed)));
    }

    #[test]
    fn what_does_not_begin_like_an_mp4_is_refused() {
        let long = b"\0\0\xff\xffftypisom\0\0\0\0isom";
        let short = b"\0\0\0\x08ftypisom\0\0\0\0isom";
        for wrong in [b"#!/bin/sh\nexit 1\n".as_slice(), long, short] {
            assert!(matches!(Video::new(wrong), Err(VideoError::NoMp4)));
        }
        assert!(matches!(Video::new(b"ftyp"), Err(VideoError::Size(4))));
    }

    #[test]
    fn a_video_beyond_the_limit_is_refused_unread() {
        let fd = memfd_create("huge", MemfdFlags::ALLOW_SEALING).unwrap();
        let file = File::from(fd);
        file.set_len(VIDEO_BYTES_MAX + 1).unwrap();
        file.write_all_at(SMALL, 0).unwrap();
        fcntl_add_seals(&file, SEALS).unwrap();
        assert!(matches!(
            Video::accept(file.into()),
            Err(VideoError::Size(_))
        ));
    }
}
