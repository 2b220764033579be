//! What is kept of a worker's death: one file per incident under `<data>/incidents`, the newest ones only.
//!
//! It holds how the worker ended, what it printed last, what it had noted in its flight recorder, and which attempts it
//! had. Prompts only where the operator wants them.

use reel_domain::{AttemptId, Fault};
use reel_process::Exit;
use reel_process::worker::describe;
use reel_protocol::flight::{Entry, Note, monotonic_us};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Notes of the flight recorder that an incident keeps.
const NOTES_MAX: usize = 256;
/// Incidents that are kept where nobody says otherwise.
pub const KEPT: usize = 100;
const EXTENSION: &str = "json";

/// Where incidents go, and how many stay.
#[derive(Debug, Clone)]
pub struct Incidents {
    /// The directory.
    pub directory: PathBuf,
    /// Incidents that are kept.
    pub keep: usize,
    /// Write prompts down, too.
    pub prompts: bool,
}

/// One death.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// The name of its file, without extension.
    pub id: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The class of the fault.
    pub class: String,
    /// The fault with its details.
    pub fault: String,
    /// What the worker itself, or whoever noticed, said.
    pub reason: Option<String>,
    /// How the process ended.
    pub exit: String,
    /// What might have been behind it.
    pub hint: Option<String>,
    /// The worker, as in the log.
    pub worker: String,
    /// Its process id.
    pub pid: u32,
    /// Its slot.
    pub slot: String,
    /// Its device.
    pub device: String,
    /// Its bundle: model and shape.
    pub bundle: String,
    /// The bundle's content address.
    pub bundle_id: String,
    /// How long it had lived, in milliseconds.
    pub lived_ms: u64,
    /// What it had to do.
    pub attempts: Vec<IncidentAttempt>,
    /// The last lines that it printed.
    pub output: Vec<String>,
    /// What it did last, the newest last.
    pub flight: Vec<IncidentNote>,
}

/// An attempt that a worker had when it died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentAttempt {
    /// The job.
    pub job: String,
    /// Which try it was.
    pub attempt: u32,
    /// The stage that was reported last.
    pub stage: Option<String>,
    /// Denoising steps that were reported.
    pub step: u32,
    /// Denoising steps in all.
    pub steps: u32,
    /// The step that the next attempt can go on from.
    pub checkpoint: Option<u32>,
    /// How long the prompt is, in characters.
    pub prompt_chars: usize,
    /// The prompt, where the operator wants it kept.
    pub prompt: Option<String>,
}

/// A note of the flight recorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentNote {
    /// How long before the death was noticed, in microseconds.
    pub before_us: u64,
    /// What.
    pub what: String,
}

/// What the supervisor knows of a worker that died.
#[derive(Debug)]
pub(crate) struct Death<'a> {
    pub(crate) at_ms: u64,
    pub(crate) fault: Fault,
    pub(crate) reason: Option<String>,
    pub(crate) exit: &'a Exit,
    pub(crate) worker: String,
    pub(crate) pid: u32,
    pub(crate) slot: String,
    pub(crate) device: String,
    pub(crate) bundle: String,
    pub(crate) bundle_id: String,
    pub(crate) lived_ms: u64,
    pub(crate) attempts: Vec<IncidentAttempt>,
}

impl Incident {
    pub(crate) fn of(death: Death<'_>) -> Self {
        let exit = describe(death.exit.status);
        Self {
            id: format!("{:013}-{}", death.at_ms, death.worker),
            at_ms: death.at_ms,
            class: death.fault.class().to_string(),
            fault: death.fault.to_string(),
            reason: death.reason,
            hint: hint(death.fault, death.exit),
            exit,
            worker: death.worker,
            pid: death.pid,
            slot: death.slot,
            device: death.device,
            bundle: death.bundle,
            bundle_id: death.bundle_id,
            lived_ms: death.lived_ms,
            attempts: death.attempts,
            output: death.exit.tail.clone(),
            flight: notes(&death.exit.flight),
        }
    }
}

/// Who kills with SIGKILL and leaves no word is most often the kernel.
fn hint(fault: Fault, exit: &Exit) -> Option<String> {
    let unasked = exit.rung < reel_process::Rung::Terminated;
    match fault {
        Fault::Crash { signal: Some(9) } if unasked => Some(
            "SIGKILL from outside: the kernel's OOM killer? `dmesg | grep -i oom` says so".into(),
        ),
        Fault::Crash { signal: Some(4) } => Some(
            "an instruction that this processor does not have: was the bundle baked elsewhere?"
                .into(),
        ),
        _ => None,
    }
}

fn notes(flight: &[Entry]) -> Vec<IncidentNote> {
    let now = monotonic_us();
    let last = &flight[flight.len().saturating_sub(NOTES_MAX)..];
    last.iter()
        .map(|entry| IncidentNote {
            before_us: now.saturating_sub(entry.at_us),
            what: words(entry.note),
        })
        .collect()
}

fn words(note: Note) -> String {
    match note {
        Note::Booting(phase) => format!("boot: {phase:?}").to_lowercase(),
        Note::Told(told, None) => format!("told: {told:?}").to_lowercase(),
        Note::Told(told, Some(attempt)) => format!("told: {} {attempt}", lower(told)),
        Note::Enters(attempt, stage) => format!("enters {} of {attempt}", stage.as_str()),
        Note::At {
            attempt,
            stage,
            step,
            of,
        } => format!("{} {step}/{of} of {attempt}", stage.as_str()),
        Note::Memory(memory) => format!(
            "memory: {} bytes, {} at most",
            memory.resident_bytes, memory.peak_bytes
        ),
        Note::Failed(class) => format!("failed: {class:?}").to_lowercase(),
    }
}

fn lower(told: impl std::fmt::Debug) -> String {
    format!("{told:?}").to_lowercase()
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

impl IncidentAttempt {
    pub(crate) fn id(attempt: AttemptId) -> (String, u32) {
        (attempt.job.to_string(), attempt.number)
    }
}

impl Incidents {
    /// The newest hundred, without prompts.
    #[must_use]
    pub fn in_data_dir(data_dir: &Path) -> Self {
        Self {
            directory: data_dir.join("incidents"),
            keep: KEPT,
            prompts: false,
        }
    }

    /// Writes one down, and removes the oldest beyond what is kept. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, incident: &Incident) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        let path = self.path(&incident.id);
        let temporary = path.with_extension("new");
        let bytes = serde_json::to_vec_pretty(incident)?;
        let written = write_private(&temporary, &bytes);
        if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
            // On a disk that is full what is half there must not stay.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        let ids = self.ids()?;
        let surplus = ids.len().saturating_sub(self.keep);
        for id in &ids[..surplus] {
            fs::remove_file(self.path(id))?;
        }
        Ok(())
    }

    /// The names of all incidents, the oldest first.
    ///
    /// # Errors
    /// When the directory cannot be read; that there is none is fine.
    pub fn ids(&self) -> io::Result<Vec<String>> {
        let listing = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing?,
        };
        let mut ids = Vec::new();
        for entry in listing {
            let path = entry?.path();
            let is_incident = path.extension().is_some_and(|ext| ext == EXTENSION);
            if let Some(id) = path.file_stem().and_then(|stem| stem.to_str())
                && is_incident
            {
                ids.push(id.to_owned());
            }
        }
        // Names begin with the time, in as many digits.
        ids.sort();
        Ok(ids)
    }

    /// One incident.
    ///
    /// # Errors
    /// When there is none of that name, or the file is not one.
    pub fn read(&self, id: &str) -> io::Result<Incident> {
        // An id is a name in this directory, never a way out of it.
        if Path::new(id).file_name() != Some(id.as_ref()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(serde_json::from_slice(&fs::read(self.path(id))?)?)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(id).with_extension(EXTENSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn exit() -> Exit {
        Exit {
            status: ExitStatus::from_raw(9),
            rung: reel_process::Rung::Untouched,
            tail: vec!["last words".into()],
            flight: Vec::new(),
        }
    }

    fn incident(at_ms: u64) -> Incident {
        Incident::of(Death {
            at_ms,
            fault: Fault::Crash { signal: Some(9) },
            reason: None,
            exit: &exit(),
            worker: "w3".into(),
            pid: 7,
            slot: "0.1".into(),
            device: "cpu:0".into(),
            bundle: "tiny/64x64@17f".into(),
            bundle_id: "b".into(),
            lived_ms: 5,
            attempts: Vec::new(),
        })
    }

    #[test]
    fn the_newest_incidents_are_kept_and_can_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let incidents = Incidents {
            directory: folder.path().join("incidents"),
            keep: 2,
            prompts: false,
        };
        assert_eq!(incidents.ids().expect("none yet"), Vec::<String>::new());
        for at_ms in [1, 3, 2] {
            incidents.write(&incident(at_ms)).expect("written");
        }
        let ids = incidents.ids().expect("a listing");
        assert_eq!(ids, ["0000000000002-w3", "0000000000003-w3"]);
        let read = incidents.read(&ids[1]).expect("an incident");
        assert_eq!(read, incident(3));
        assert!(read.hint.expect("a hint").contains("OOM killer"));
        assert!(incidents.read("../incidents/0000000000003-w3").is_err());
    }
}
