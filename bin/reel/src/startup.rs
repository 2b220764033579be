//! What must be there before a port opens: programs, devices, directories, the jobs of the last run.

use crate::config::{Config, Devices};
use anyhow::Context;
use reel_artifacts::Store;
use reel_domain::{Durability, JobStatus};
use reel_gateway::Keys;
use reel_journal::{JobRecord, Journal, Order, Reader};
use reel_keys::{KeyFile, KeyRingEvent, SharedKeyRing, UrlSigner};
use reel_media::ImageDecoder;
use reel_process::{Cgroups, Layers, orphans, sandbox};
use reel_supervisor::{Device, devices, memory};
use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What recordings are called.
const RECORDING_EXTENSION: &str = "reelrec";

/// Something that the operator can mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// A model cannot be used.
    #[error("model {}: {source}", path.display())]
    Model {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The worker program is not there.
    #[error("no worker program at {}: run `make build`, or name it with --worker", .0.display())]
    Worker(PathBuf),
    /// A value makes no sense.
    #[error("{0}")]
    Value(String),
    /// The encoder is not there.
    #[error(transparent)]
    Ffmpeg(#[from] reel_media::MediaError),
    /// Anybody could ask for anything.
    #[error(
        "refusing to listen on {0}: there are no API keys, so everybody who reaches it could ask for videos and read \
         everybody's. Make a key with `reel key create --tenant NAME`, or listen on 127.0.0.1 (--listen)"
    )]
    NoKeys(SocketAddr),
    /// GPUs were demanded.
    #[error("pool.devices is \"gpu\", but no GPU was found (NVML sees none)")]
    NoGpu,
}

/// What an earlier run of this data directory left, and where this one writes.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) journal: Journal,
    pub(crate) reader: Reader,
    pub(crate) store: Store,
    pub(crate) unfinished: Vec<JobRecord>,
    pub(crate) scratch_dir: PathBuf,
}

/// Opens the data directory. One supervisor at a time: the journal is locked.
pub(crate) fn open_storage(data_dir: &Path, durability: Durability) -> anyhow::Result<Storage> {
    let named = || format!("data directory {}", data_dir.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .with_context(named)?;
    // First the lock: what lies here may belong to a server that runs.
    let (journal, reader) = Journal::open_with(&data_dir.join("journal.sqlite"), durability)?;
    let store = Store::open_with(data_dir, durability).with_context(named)?;
    let unfinished = reader.unfinished()?;
    sweep(&store, &reader)?;
    let scratch_dir = data_dir.join("scratch");
    // The workers of the last run died with it; what they left is nobody's.
    let _ = std::fs::remove_dir_all(&scratch_dir);
    Ok(Storage {
        journal,
        reader,
        store,
        unfinished,
        scratch_dir: std::path::absolute(scratch_dir)?,
    })
}

/// This very program decodes images, in a child without rights. Its file may be replaced while it runs.
pub(crate) fn image_decoder() -> ImageDecoder {
    let layers = Layers::of_kernel();
    if !(layers.landlock && layers.seccomp) {
        tracing::warn!(
            landlock = layers.landlock,
            seccomp = layers.seccomp,
            "the kernel cannot take every right from the child that decodes images"
        );
    }
    ImageDecoder::new("/proc/self/exe".into())
}

/// The keys of the data directory, which are followed from now on. Where there are none, only this machine may ask.
pub(crate) fn open_keys(config: &Config) -> anyhow::Result<Keys> {
    let (data_dir, server) = (&config.paths.data_dir, &config.server);
    let mut addresses = [Some(server.listen), server.admin_listen]
        .into_iter()
        .flatten();
    let now = Instant::now();
    let ring = SharedKeyRing::open(KeyFile::of(data_dir).path(), now, tell_of_keys)?;
    let keys = ring.ring(now);
    if keys.is_empty()
        && let Some(open) = addresses.find(|address| !address.ip().is_loopback())
    {
        return Err(UsageError::NoKeys(open).into());
    }
    if let Some(exposure) = keys.exposure() {
        tracing::warn!("{exposure}");
    }
    tracing::info!(keys = keys.keys().len(), "API keys");
    Ok(Keys {
        ring: Arc::new(ring),
        signer: UrlSigner::open(data_dir)?,
    })
}

fn tell_of_keys(event: KeyRingEvent) {
    match event {
        KeyRingEvent::Reloaded { keys, exposure } => {
            tracing::info!(keys, "API keys were read again");
            if let Some(exposure) = exposure {
                tracing::warn!("{exposure}");
            }
        }
        KeyRingEvent::Refused(error) => {
            tracing::error!(%error, "API keys stay as they were");
        }
    }
}

/// Removes files of jobs that the journal does not know: they were deleted, or refused while a server was killed. Not
/// where it knows none at all: then it is the journal that was lost, and the videos may be all that is left.
fn sweep(store: &Store, reader: &Reader) -> anyhow::Result<()> {
    if reader
        .list(None, None, 1, Order::Ascending)?
        .records
        .is_empty()
    {
        tracing::info!("the journal is empty: no files are removed");
        return Ok(());
    }
    let swept = store.sweep(|id| match reader.get(id) {
        // Its file went, or was about to.
        Ok(Some(record)) => record.status != JobStatus::Expired,
        Ok(None) => false,
        Err(_) => true,
    })?;
    tracing::debug!(?swept, "files of unknown jobs");
    Ok(())
}

/// Control groups for workers, or one line that says why there are none.
pub(crate) fn find_cgroups() -> Option<Cgroups> {
    match Cgroups::find() {
        Ok(cgroups) => {
            tracing::info!(under = %cgroups.path().display(), "each worker gets a control group");
            Some(cgroups)
        }
        Err(error) => {
            tracing::info!(%error, "no control groups for workers; process groups have to do");
            None
        }
    }
}

/// Whether workers are sandboxed, or one line that says why not.
pub(crate) fn can_sandbox(config: &Config) -> bool {
    match (config.pool.sandbox, sandbox::kernel_version()) {
        (false, _) => {
            tracing::info!("workers are not sandboxed: pool.sandbox = false");
            false
        }
        (true, None) => {
            tracing::info!(
                "workers are not sandboxed: this kernel has no Landlock, or it is switched off"
            );
            false
        }
        (true, Some(version)) => {
            tracing::info!(landlock = version, "workers are sandboxed");
            true
        }
    }
}

/// Ends workers that an earlier run of this data directory has left, and says what this run's carry as a mark. The
/// directory's lock must be held.
pub(crate) fn end_orphans(data_dir: &Path, cgroups: Option<&Cgroups>) -> anyhow::Result<String> {
    let prefix = orphans::marker_prefix(data_dir)
        .with_context(|| format!("data directory {}", data_dir.display()))?;
    if let Some(cgroups) = cgroups {
        cgroups.sweep(&prefix);
    }
    let found = orphans::end_orphans(&prefix);
    if !found.ended.is_empty() {
        tracing::warn!(pids = ?found.ended, "processes of an earlier run were ended");
    }
    if !found.left.is_empty() {
        tracing::error!(pids = ?found.left, "processes of an earlier run do not end: they may hold memory");
    }
    Ok(prefix)
}

/// Where this run is recorded, if it is. Older recordings beyond what is kept are removed.
pub(crate) fn recording(config: &Config) -> anyhow::Result<Option<(PathBuf, u64)>> {
    if !config.recording.enabled {
        return Ok(None);
    }
    let folder = config.paths.data_dir.join("recordings");
    let named = || format!("recordings in {}", folder.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(named)?;
    let mut older = Vec::new();
    for entry in fs::read_dir(&folder).with_context(named)? {
        let path = entry.with_context(named)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == RECORDING_EXTENSION)
        {
            older.push(path);
        }
    }
    // Names begin with the time, in as many digits.
    older.sort();
    let surplus = (older.len() + 1).saturating_sub(config.recording.keep);
    for path in &older[..surplus] {
        fs::remove_file(path).with_context(named)?;
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let name = format!("{:013}.{RECORDING_EXTENSION}", now.as_millis());
    Ok(Some((folder.join(name), config.recording.bytes_max)))
}

/// The worker program: as configured, or beside this one.
pub(crate) fn find_worker(config: &Config) -> anyhow::Result<PathBuf> {
    let path = match &config.paths.worker {
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_exe()?.with_file_name("reel-worker"),
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(UsageError::Worker(path).into())
    }
}

/// The devices that the configuration asks for.
pub(crate) fn find_devices(config: &Config) -> Result<Vec<Device>, UsageError> {
    let gpus = || devices::gpus(std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref());
    let share = memory::of_this_machine() / u64::from(config.pool.cpu_devices);
    let cpus = || {
        let indices = 0..config.pool.cpu_devices;
        indices.map(|index| Device::cpu(index, share)).collect()
    };
    match config.pool.devices {
        Devices::Cpu => Ok(cpus()),
        Devices::Gpu => Some(gpus())
            .filter(|gpus| !gpus.is_empty())
            .ok_or(UsageError::NoGpu),
        Devices::Auto => Ok(Some(gpus())
            .filter(|gpus| !gpus.is_empty())
            .unwrap_or_else(cpus)),
    }
}
