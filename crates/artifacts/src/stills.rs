//! Stills beside their videos.
//!
//! A still's file carries its digest in its name, given when it was published: no list of digests can disagree with the
//! files. A still is only ever published beside the very video that it was made from, and goes before that is replaced.

use crate::durable;
use crate::staging::{Published, digest, staged_name};
use crate::store::{Store, StoreError, VIDEO_NAME, failed};
use reel_domain::{Durability, JobId, Still};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Hexadecimal digits of a SHA-256.
const DIGEST_DIGITS: usize = 64;

/// A still, open for reading.
#[derive(Debug)]
pub struct OpenStill {
    /// The file, at its first byte. It stays readable when the job is deleted meanwhile.
    pub file: File,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, as 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// A place to write a still of one video. Dropped without being published, its file is removed.
#[derive(Debug)]
pub struct StillStaging {
    id: JobId,
    still: Still,
    path: PathBuf,
    video_path: PathBuf,
    /// As long as this is open, no other file can be taken for it.
    video: File,
}

impl StillStaging {
    /// Where to write. Nothing is there yet.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to make it from.
    #[must_use]
    pub fn video_path(&self) -> &Path {
        &self.video_path
    }

    /// The video that the still was to be made from is still the job's.
    fn is_of_this_video(&self) -> io::Result<bool> {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match fs::metadata(&self.video_path) {
            Ok(now) => Ok(identity(now) == identity(self.video.metadata()?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn seal(&self, durability: Durability) -> io::Result<Published> {
        let file = File::open(&self.path)?;
        durable::sync(&file, durability)?;
        digest(file)
    }
}

impl Drop for StillStaging {
    fn drop(&mut self) {
        // After a publication there is nothing to remove; a leftover is swept at the next start.
        let _ = durable::remove_file(&self.path);
    }
}

impl Store {
    /// Opens a still of a job, if it has been made.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub fn open_still(&self, id: JobId, still: Still) -> Result<Option<OpenStill>, StoreError> {
        let directory = self.video_directory(id);
        let Some((path, sha256)) = stills(&directory, &[still])?.pop() else {
            return Ok(None);
        };
        let file = match File::open(&path) {
            // It went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed("open", &path))?,
        };
        let metadata = file.metadata().map_err(failed("open", &path))?;
        Ok(Some(OpenStill {
            file,
            bytes: metadata.len(),
            sha256,
        }))
    }

    /// A place to write a still of a job's video, if there is one.
    ///
    /// # Errors
    /// When the video is there and cannot be opened, or something else is where the still is to be written.
    pub fn stage_still(&self, id: JobId, still: Still) -> Result<Option<StillStaging>, StoreError> {
        let Some(video) = self.open_video(id)? else {
            return Ok(None);
        };
        let name = staged_name(&format!("{id}.{still}"), still.variant());
        let path = self.directories.staging.join(name);
        durable::remove_file(&path).map_err(failed("remove", &path))?;
        Ok(Some(StillStaging {
            id,
            still,
            path,
            video_path: self.video_path(id),
            video: video.file,
        }))
    }

    /// Makes a written still durable and visible, unless its video has been removed or replaced: then there is none.
    ///
    /// # Errors
    /// When the disk refuses; then nothing is visible.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what is published cannot be written to any more"
    )]
    pub fn publish_still(&self, staging: StillStaging) -> Result<Option<Published>, StoreError> {
        let durability = self.directories.durability;
        let published = staging
            .seal(durability)
            .map_err(failed("sync", &staging.path))?;
        let directory = self.video_directory(staging.id);
        let path = directory.join(name(staging.still, &published.sha256));
        let _moving = self.moving();
        let is_current = staging.is_of_this_video();
        if !is_current.map_err(failed("look at", &staging.video_path))? {
            return Ok(None);
        }
        // One whose publication did not come to its end may be there.
        remove_stills(&directory, &[staging.still], durability)?;
        fs::rename(&staging.path, &path).map_err(failed("publish", &path))?;
        durable::sync_dir(&directory, durability).map_err(failed("sync", &directory))?;
        Ok(Some(published))
    }

    /// Removes the stills of a job whose video is gone; says how many there were.
    pub(crate) fn remove_orphans(&self, id: JobId) -> Result<usize, StoreError> {
        let directory = self.video_directory(id);
        let _moving = self.moving();
        if directory.join(VIDEO_NAME).exists() {
            return Ok(0);
        }
        let removed = remove_stills(&directory, &Still::ALL, self.directories.durability)?;
        // Whatever else there is was not made by us, and holds the directory.
        let _ = fs::remove_dir(&directory);
        Ok(removed)
    }
}

/// Removes stills of some kinds for good; says how many there were.
pub(crate) fn remove_stills(
    directory: &Path,
    kinds: &[Still],
    durability: Durability,
) -> Result<usize, StoreError> {
    let stills = stills(directory, kinds)?;
    for (path, _) in &stills {
        durable::remove_file(path).map_err(failed("remove", path))?;
    }
    if !stills.is_empty() {
        durable::sync_dir(directory, durability).map_err(failed("sync", directory))?;
    }
    Ok(stills.len())
}

/// The stills of some kinds in a job's directory, with their digests.
fn stills(directory: &Path, kinds: &[Still]) -> Result<Vec<(PathBuf, String)>, StoreError> {
    let listing = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(failed("list", directory))?,
    };
    let mut stills = Vec::new();
    for entry in listing {
        let path = entry.map_err(failed("list", directory))?.path();
        if let Some(sha256) = kinds.iter().find_map(|&still| named_digest(&path, still)) {
            stills.push((path, sha256));
        }
    }
    Ok(stills)
}

/// `thumbnail-<sha256>.webp`
fn name(still: Still, sha256: &str) -> String {
    format!("{still}-{sha256}.{}", still.variant().extension())
}

/// The digest in a name that [`name`] gave.
fn named_digest(path: &Path, still: Still) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let rest = name.strip_prefix(still.variant().as_str())?;
    let rest = rest.strip_suffix(still.variant().extension())?;
    let digits = rest.strip_prefix('-')?.strip_suffix('.')?;
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (digits.len() == DIGEST_DIGITS && digits.bytes().all(is_digit)).then(|| digits.to_owned())
}
