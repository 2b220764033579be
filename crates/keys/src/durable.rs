//! Small private files, written so that nobody ever sees half of one and a power cut takes none.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Puts `bytes` in the place of whatever is at `path`.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(path, bytes)?;
    put(&temporary, || fs::rename(&temporary, path))?;
    sync_directory_of(path)
}

/// Puts `bytes` at `path` unless something is there already; says whether it did.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let temporary = write_temporary(path, bytes)?;
    // A rename would replace what another process put there a moment ago.
    let created = put(&temporary, || fs::hard_link(&temporary, path));
    match created {
        Ok(()) => {
            fs::remove_file(&temporary)?;
            sync_directory_of(path)?;
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a directory (and what it lies in) that only the owner can enter.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn put(temporary: &Path, step: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    step().inspect_err(|_| {
        // What is left is a file that nobody reads; the error matters more.
        let _ = fs::remove_file(temporary);
    })
}

fn write_temporary(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut tag = [0; 8];
    getrandom::fill(&mut tag)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", hex::encode(tag)));
    let temporary = PathBuf::from(name);
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = own_as_the_place(&file, path)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all());
    put(&temporary, || written)?;
    Ok(temporary)
}

/// Root may write into the directory of the account that serves: that account must be able to read it afterwards.
fn own_as_the_place(file: &File, path: &Path) -> io::Result<()> {
    let place = fs::metadata(directory_of(path))?;
    let (mine, theirs) = (file.metadata()?.uid(), place.uid());
    match mine == 0 && theirs != 0 {
        true => fchown(file, Some(theirs), Some(place.gid())),
        false => Ok(()),
    }
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
