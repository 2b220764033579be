//! Bringing a file: into a temporary beside its place, checked, then renamed. Nobody ever sees half of one.

use super::api::Api;
use super::failure::Failure;
use super::interrupts::Interrupts;
use sha2::{Digest, Sha256};
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::NamedTempFile;
use ureq::http::{HeaderMap, HeaderName, header};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Tries, when connections break.
const TRIES_MAX: u32 = 3;
/// Pause between two tries.
const TRY_PAUSE: Duration = Duration::from_millis(500);
/// What a new file may be for others is the umask's to say.
const FILE_MODE: u32 = 0o666;

/// One file of one job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) id: &'a str,
    /// `None`: the video.
    pub(crate) variant: Option<&'a str>,
    /// Where to; `None`: named after the job, here.
    pub(crate) output: Option<&'a Path>,
}

/// What has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Downloaded {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// Brings it, from the beginning again when the connection breaks. `on_bytes` hears how many have come, and of how many.
pub(crate) fn download(
    api: &Api,
    wanted: Wanted<'_>,
    interrupts: &Interrupts,
    mut on_bytes: impl FnMut(u64, Option<u64>),
) -> Result<Downloaded, Failure> {
    for _ in 1..TRIES_MAX {
        match try_once(api, wanted, interrupts, &mut on_bytes) {
            Err(Failure::Unreachable { .. } | Failure::BrokenDownload { .. }) => {
                interrupts.pause(TRY_PAUSE, false);
            }
            result => return result,
        }
    }
    try_once(api, wanted, interrupts, &mut on_bytes)
}

fn try_once(
    api: &Api,
    wanted: Wanted<'_>,
    interrupts: &Interrupts,
    on_bytes: &mut impl FnMut(u64, Option<u64>),
) -> Result<Downloaded, Failure> {
    let response = api.content(wanted.id, wanted.variant)?;
    let headers = response.headers();
    let announced = text(headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let sha256 = wanted.variant.is_none().then(|| sha256(headers)).flatten();
    let path = match wanted.output {
        Some(path) => path.to_owned(),
        None => default_path(wanted.id, headers),
    };
    let mut target = Target::new(&path)?;
    let mut reader = response.into_body().into_reader();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        if interrupts.since().is_some() {
            return Err(Failure::NotFetched {
                id: wanted.id.into(),
            });
        }
        let bytes = reader
            .read(&mut chunk)
            .map_err(|error| broken(wanted.id, error.to_string()))?;
        if bytes == 0 {
            break;
        }
        target.write(&chunk[..bytes])?;
        on_bytes(target.bytes, announced);
    }
    target.check(wanted.id, announced, sha256)?;
    target.finish()
}

/// The file on its way.
struct Target<'a> {
    path: &'a Path,
    /// Removes itself when it is not finished.
    file: NamedTempFile,
    digest: Sha256,
    bytes: u64,
}

impl<'a> Target<'a> {
    fn new(path: &'a Path) -> Result<Self, Failure> {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let file = tempfile::Builder::new()
            .prefix(".reel-")
            .suffix(".part")
            .permissions(Permissions::from_mode(FILE_MODE))
            .tempfile_in(directory)
            .map_err(|error| failed(path, error))?;
        Ok(Self {
            path,
            file,
            digest: Sha256::new(),
            bytes: 0,
        })
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        self.file
            .write_all(chunk)
            .map_err(|error| failed(self.path, error))?;
        self.digest.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    fn check(
        &self,
        id: &str,
        announced: Option<u64>,
        sha256: Option<String>,
    ) -> Result<(), Failure> {
        if let Some(announced) = announced.filter(|announced| *announced != self.bytes) {
            let reason = format!("{} of {announced} bytes came", self.bytes);
            return Err(broken(id, reason));
        }
        let digest = hex::encode(self.digest.clone().finalize());
        match sha256 {
            Some(sha256) if sha256 != digest => {
                Err(broken(id, format!("its SHA-256 is {digest}, not {sha256}")))
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<Downloaded, Failure> {
        let Self {
            path, file, bytes, ..
        } = self;
        file.as_file()
            .sync_all()
            .map_err(|error| failed(path, error))?;
        file.persist(path)
            .map_err(|error| failed(path, error.error))?;
        Ok(Downloaded {
            path: path.into(),
            bytes,
        })
    }
}

/// Named after the job, and after what the server says that it is.
fn default_path(id: &str, headers: &HeaderMap) -> PathBuf {
    let kind = text(headers, header::CONTENT_TYPE).unwrap_or_default();
    let extension = match kind.split(';').next().unwrap_or_default().trim() {
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/webp" => "webp",
        _ => "mp4",
    };
    format!("{id}.{extension}").into()
}

/// The video's entity tag is its SHA-256; a tag of another form is none of ours.
fn sha256(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, header::ETAG)?.trim_matches('"');
    let is_digest = tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| tag.to_ascii_lowercase())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn broken(id: &str, reason: String) -> Failure {
    Failure::BrokenDownload {
        id: id.into(),
        reason,
    }
}

fn failed(path: &Path, source: std::io::Error) -> Failure {
    Failure::File {
        path: path.into(),
        source,
    }
}
