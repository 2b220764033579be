//! The directories, and what may happen to them.

use crate::durable;
use crate::staging::{Published, Staging, digest_of};
use crate::stills::remove_stills;
use reel_domain::{AttemptId, Durability, JobId, Still};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) const VIDEO_NAME: &str = "video.mp4";
const STAGING_NAME: &str = ".staging";
const GIVEN_EXTENSION: &str = "rgb";
const PRIOR_EXTENSION: &str = "mp4";

/// A file could not be handled. The path is ours, never a client's.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {source}")]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    /// There is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// The disk (or the quota) is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// A published video, open for reading.
#[derive(Debug)]
pub struct OpenVideo {
    /// The file, at its first byte. It stays readable when the job is deleted meanwhile.
    pub file: File,
    /// Its size.
    pub bytes: u64,
}

/// What [`Store::sweep`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Directories of videos.
    pub videos: usize,
    /// Stills whose video is gone.
    pub stills: usize,
    /// Files of given frames.
    pub given: usize,
}

/// The files of all jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) directories: Arc<Directories>,
}

#[derive(Debug)]
pub(crate) struct Directories {
    videos: PathBuf,
    pub(crate) staging: PathBuf,
    inputs: PathBuf,
    pub(crate) durability: Durability,
    /// Held while a video or a still appears or goes, so that no still is left beside a video that it is not of, or
    /// beside none. Nothing long happens meanwhile: what is written is synced and hashed before.
    moving: Mutex<()>,
}

impl Store {
    /// Creates the directories under `data_dir` and removes what was never published.
    ///
    /// # Errors
    /// When a directory cannot be created or emptied.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(data_dir, Durability::Full)
    }

    /// As [`open`](Self::open), with a say in what a power cut may take.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(data_dir: &Path, durability: Durability) -> Result<Self, StoreError> {
        let videos = data_dir.join("artifacts");
        let directories = Directories {
            staging: videos.join(STAGING_NAME),
            inputs: data_dir.join("inputs"),
            videos,
            durability,
            moving: Mutex::new(()),
        };
        // Staging lies inside `artifacts`, so that a rename never crosses file systems.
        set_aside(&directories)?;
        for path in [&directories.staging, &directories.inputs] {
            durable::create_private_dir(path).map_err(failed("create", path))?;
        }
        durable::sync_dir(data_dir, durability).map_err(failed("sync", data_dir))?;
        Ok(Self {
            directories: Arc::new(directories),
        })
    }

    /// Space that is free for this user where the files lie, in bytes (statvfs(3)).
    ///
    /// # Errors
    /// When the file system does not say.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let videos = &self.directories.videos;
        let space = rustix::fs::statvfs(videos).map_err(Into::into);
        let space = space.map_err(failed("look at", videos))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// A place for an attempt to write its video.
    ///
    /// # Errors
    /// When something is there that cannot be removed.
    pub fn stage(&self, id: JobId, attempt: u32) -> Result<Staging, StoreError> {
        let attempt = AttemptId {
            job: id,
            number: attempt,
        };
        let staging = Staging::new(&self.directories.staging, attempt);
        durable::remove_file(staging.path()).map_err(failed("remove", staging.path()))?;
        Ok(staging)
    }

    /// Makes a written video durable and visible. A video that an earlier attempt published is replaced, and its stills
    /// are gone before.
    ///
    /// # Errors
    /// When the disk refuses; then nothing is visible.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what is published cannot be written to any more"
    )]
    pub fn publish(&self, staging: Staging) -> Result<Published, StoreError> {
        let durability = self.directories.durability;
        let published = staging.seal(durability);
        let published = published.map_err(failed("sync", staging.path()))?;
        self.move_in(&staging)?;
        Ok(published)
    }

    /// Writes, makes durable and shows a video that is at hand whole; otherwise as [`publish`](Self::publish).
    ///
    /// # Errors
    /// When the disk refuses; then nothing is visible.
    pub fn publish_bytes(&self, attempt: AttemptId, video: &[u8]) -> Result<Published, StoreError> {
        // Nothing is there: no other writer has its name, and a start leaves nothing of the one before.
        let staging = Staging::new(&self.directories.staging, attempt);
        durable::write_file(staging.path(), video, self.directories.durability)
            .map_err(failed("write", staging.path()))?;
        self.move_in(&staging)?;
        Ok(digest_of(video))
    }

    /// Moves a video that is durable to where it is looked for.
    fn move_in(&self, staging: &Staging) -> Result<(), StoreError> {
        let durability = self.directories.durability;
        let directory = self.video_directory(staging.attempt().job);
        let moving = self.moving();
        let is_new = durable::create_private_dir_in(&directory);
        if !is_new.map_err(failed("create", &directory))? {
            remove_stills(&directory, &Still::ALL, durability)?;
        }
        let path = directory.join(VIDEO_NAME);
        fs::rename(staging.path(), &path).map_err(failed("publish", &path))?;
        staging.leave();
        // The disk may take its time; the names are as they have to be.
        drop(moving);
        for path in [&directory, &self.directories.videos] {
            durable::sync_dir(path, durability).map_err(failed("sync", path))?;
        }
        Ok(())
    }

    /// Keeps the frames that a job starts from.
    ///
    /// # Errors
    /// When the disk refuses; then nothing is kept.
    pub fn put_given(&self, id: JobId, frames: &[u8]) -> Result<(), StoreError> {
        let path = self.given_path(id);
        let temporary = path.with_extension("tmp");
        let written = durable::write_file(&temporary, frames, self.directories.durability)
            .map_err(failed("write", &temporary))
            .and_then(|()| fs::rename(&temporary, &path).map_err(failed("publish", &path)));
        if written.is_err() {
            // On a disk that is full what is half there must not stay.
            let _ = durable::remove_file(&temporary);
        }
        written?;
        let inputs = &self.directories.inputs;
        durable::sync_dir(inputs, self.directories.durability).map_err(failed("sync", inputs))
    }

    /// The frames that a job starts from.
    ///
    /// # Errors
    /// When there are none, or they cannot be read.
    pub fn given(&self, id: JobId) -> Result<Vec<u8>, StoreError> {
        let path = self.given_path(id);
        fs::read(&path).map_err(failed("read", &path))
    }

    /// Keeps the video of the job `of` for a job that goes on with it, whatever becomes of that; `false`: there is none.
    /// It takes no space as long as both are there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep_prior(&self, id: JobId, of: JobId) -> Result<bool, StoreError> {
        let (video, prior) = (self.video_path(of), self.prior_path(id));
        let _moving = self.moving();
        match fs::hard_link(&video, &prior) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            linked => linked.map_err(failed("link", &prior))?,
        }
        let inputs = &self.directories.inputs;
        durable::sync_dir(inputs, self.directories.durability).map_err(failed("sync", inputs))?;
        Ok(true)
    }

    /// Where the video is that a job goes on with.
    #[must_use]
    pub fn prior_path(&self, id: JobId) -> PathBuf {
        self.input_path(id, PRIOR_EXTENSION)
    }

    /// The job has its own video, and needs the one that it went on with no more.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn drop_prior(&self, id: JobId) -> Result<(), StoreError> {
        let prior = self.prior_path(id);
        durable::remove_file(&prior)
            .map(drop)
            .map_err(failed("remove", &prior))
    }

    /// Removes everything of a job. That there is nothing is fine.
    ///
    /// # Errors
    /// When the disk refuses; then some of it may be left.
    pub fn remove(&self, id: JobId) -> Result<(), StoreError> {
        let durability = self.directories.durability;
        let video = self.video_directory(id);
        let _moving = self.moving();
        if durable::remove_dir(&video).map_err(failed("remove", &video))? {
            let videos = &self.directories.videos;
            durable::sync_dir(videos, durability).map_err(failed("sync", videos))?;
        }
        let mut removed = false;
        for input in [self.given_path(id), self.prior_path(id)] {
            removed |= durable::remove_file(&input).map_err(failed("remove", &input))?;
        }
        if removed {
            let inputs = &self.directories.inputs;
            durable::sync_dir(inputs, durability).map_err(failed("sync", inputs))?;
        }
        Ok(())
    }

    /// Where a job's published video is, or would be.
    #[must_use]
    pub fn video_path(&self, id: JobId) -> PathBuf {
        self.video_directory(id).join(VIDEO_NAME)
    }

    /// Opens a job's published video, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub fn open_video(&self, id: JobId) -> Result<Option<OpenVideo>, StoreError> {
        let path = self.video_path(id);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed("open", &path))?,
        };
        let metadata = file.metadata().map_err(failed("open", &path))?;
        Ok(Some(OpenVideo {
            file,
            bytes: metadata.len(),
        }))
    }

    /// Removes the files of every job that `known` denies, and stills without a video. Names that are no job's are left
    /// alone.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sweep(&self, known: impl Fn(JobId) -> bool) -> Result<Swept, StoreError> {
        let Directories { videos, inputs, .. } = &*self.directories;
        let mut swept = Swept::default();
        for (id, path) in entries(videos)? {
            if !known(id) {
                durable::remove_dir(&path).map_err(failed("remove", &path))?;
                swept.videos += 1;
            } else {
                swept.stills += self.remove_orphans(id)?;
            }
        }
        for (id, path) in entries(inputs)? {
            // A name with another extension was never published.
            let is_input = path
                .extension()
                .is_some_and(|ext| ext == GIVEN_EXTENSION || ext == PRIOR_EXTENSION);
            if !known(id) || !is_input {
                durable::remove_file(&path).map_err(failed("remove", &path))?;
                swept.given += 1;
            }
        }
        Ok(swept)
    }

    pub(crate) fn moving(&self) -> MutexGuard<'_, ()> {
        // It guards names on the disk, which nobody finds half done in memory.
        let moving = &self.directories.moving;
        moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn video_directory(&self, id: JobId) -> PathBuf {
        self.directories.videos.join(id.to_string())
    }

    fn given_path(&self, id: JobId) -> PathBuf {
        self.input_path(id, GIVEN_EXTENSION)
    }

    fn input_path(&self, id: JobId, extension: &str) -> PathBuf {
        let name = id.to_string();
        self.directories.inputs.join(name).with_extension(extension)
    }
}

/// Whatever was being written when an earlier run was killed is out of the way when this returns, and gone if that can
/// be: an encoder that outlived it for a moment may still be writing there. The next start tries again.
fn set_aside(directories: &Directories) -> Result<(), StoreError> {
    let staging = &directories.staging;
    let aside = directories
        .videos
        .join(format!("{STAGING_NAME}-{}", std::process::id()));
    // One that an earlier process of this number could not remove.
    let _ = durable::remove_dir(&aside);
    match fs::rename(staging, &aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("set aside", staging)(error));
        }
        _ => {}
    }
    let entries = fs::read_dir(&directories.videos).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(STAGING_NAME) {
            let _ = durable::remove_dir(&entry.path());
        }
    }
    Ok(())
}

/// The entries of a directory whose names are job ids, extensions aside.
fn entries(directory: &Path) -> Result<Vec<(JobId, PathBuf)>, StoreError> {
    let listing = fs::read_dir(directory).map_err(failed("list", directory))?;
    let mut entries = Vec::new();
    for entry in listing {
        let path = entry.map_err(failed("list", directory))?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(id) = stem.and_then(|stem| stem.parse().ok()) {
            entries.push((id, path));
        }
    }
    Ok(entries)
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError {
        action,
        path: path.into(),
        source,
    }
}
