//! The few file operations that have to survive a power cut, unless the operator has said that they need not.

use reel_domain::Durability;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Creates a directory (and what it lies in) that only the owner can enter.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The same where what it lies in exists; says whether it is new.
pub(crate) fn create_private_dir_in(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a new file that only the owner can read, and makes it durable.
pub(crate) fn write_file(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    sync(&file, durability)
}

/// Makes the content of a file durable.
pub(crate) fn sync(file: &File, durability: Durability) -> io::Result<()> {
    match durability.syncs() {
        true => file.sync_all(),
        false => Ok(()),
    }
}

/// Makes the names inside a directory durable.
pub(crate) fn sync_dir(path: &Path, durability: Durability) -> io::Result<()> {
    match durability.syncs() {
        true => File::open(path)?.sync_all(),
        false => Ok(()),
    }
}

/// Removes a file; says whether there was one.
pub(crate) fn remove_file(path: &Path) -> io::Result<bool> {
    found(fs::remove_file(path))
}

/// Removes a directory with everything in it; says whether there was one.
pub(crate) fn remove_dir(path: &Path) -> io::Result<bool> {
    found(fs::remove_dir_all(path))
}

fn found(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
