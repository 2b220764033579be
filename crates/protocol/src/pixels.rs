//! Frames in memory files: RGB, 8 bit, `[frames, height, width, 3]`, sealed so that nobody can pull the
//! memory away under a reader (memfd_create(2), fcntl(2) F_ADD_SEALS).

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// A memory file with frames, checked: it has exactly the expected size and cannot be resized any more.
#[derive(Debug)]
pub struct Pixels {
    file: File,
    bytes: u64,
}

/// A descriptor is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum PixelError {
    /// The kernel refused.
    #[error("memory file: {0}")]
    Io(#[from] io::Error),
    /// The size is not `frames * height * width * 3`.
    #[error("memory file has {got} bytes instead of {expected}")]
    Size {
        /// What the shape demands.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// Somebody could still resize it.
    #[error("memory file is not sealed against resizing")]
    Unsealed,
}

const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

impl Pixels {
    /// A sealed memory file that holds `frames`.
    ///
    /// # Errors
    /// [`PixelError::Io`] when the kernel has no memory for it.
    pub fn new(frames: &[u8]) -> Result<Self, PixelError> {
        let fd = memfd_create(
            "reel-pixels",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )
        .map_err(io::Error::from)?;
        let file = File::from(fd);
        file.write_all_at(frames, 0)?;
        fcntl_add_seals(&file, SEALS).map_err(io::Error::from)?;
        Ok(Self {
            file,
            bytes: frames.len() as u64,
        })
    }

    /// Takes a descriptor from a peer that is not trusted.
    ///
    /// # Errors
    /// When it is not sealed or does not hold exactly `expected` bytes.
    pub fn accept(fd: OwnedFd, expected: u64) -> Result<Self, PixelError> {
        let seals = fcntl_get_seals(&fd).map_err(|_| PixelError::Unsealed)?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(PixelError::Unsealed);
        }
        let got = fstat(&fd).map_err(io::Error::from)?.st_size as u64;
        if got != expected {
            return Err(PixelError::Size { expected, got });
        }
        Ok(Self {
            file: File::from(fd),
            bytes: got,
        })
    }

    /// How many bytes it holds.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A copy of the frames.
    ///
    /// # Errors
    /// When the kernel cannot read them.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut frames = vec![0; usize::try_from(self.bytes).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut frames, 0)?;
        Ok(frames)
    }

    /// The open file, to hand to a child as its standard input or to a peer.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }
}

impl AsFd for Pixels {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_frames_are_accepted_and_read_back() {
        let pixels = Pixels::new(b"rgbrgb").unwrap();
        let accepted = Pixels::accept(pixels.into_file().into(), 6).unwrap();
        assert_eq!(accepted.read().unwrap(), b"rgbrgb");
    }

    #[test]
    fn a_wrong_size_is_named() {
        let fd = Pixels::new(b"rgb").unwrap().into_file().into();
        assert!(matches!(
            Pixels::accept(fd, 6),
            Err(PixelError::Size {
                expected: 6,
                got: 3
            })
        ));
    }

    #[test]
    fn an_unsealed_or_ordinary_file_is_refused() {
        let fd = memfd_create("open", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(matches!(Pixels::accept(fd, 0), Err(PixelError::Unsealed)));
        let fd = File::open("/dev/null").unwrap().into();
        assert!(matches!(Pixels::accept(fd, 0), Err(PixelError::Unsealed)));
    }
}
