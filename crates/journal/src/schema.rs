//! Opening, checking and migrating the file.

use reel_domain::Durability;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for a lock of the file. Only a backup tool ever holds one, and only for moments.
pub(crate) const BUSY_DEADLINE: Duration = Duration::from_secs(5);

/// Pages of the log before they are copied into the file, where nothing waits for the disk: the same pages are written
/// again and again, and each of them is copied once. Where the disk is waited for, more at a time is a longer pause for
/// whoever is next, and SQLite's own 1,000 stays.
const UNSYNCED_CHECKPOINT_PAGES: u32 = 4_096;

/// Marks the file as a journal of Reel (SQLite's `application_id`): "Reel" in ASCII.
const APPLICATION_ID: i64 = 0x5265_656c;

/// One script per version; the file's `user_version` counts how many were run.
const MIGRATIONS: [&str; 5] = [
    include_str!("migrations/0001_jobs.sql"),
    include_str!("migrations/0002_sharing.sql"),
    include_str!("migrations/0003_begin_by.sql"),
    include_str!("migrations/0004_expiry.sql"),
    include_str!("migrations/0005_gateway.sql"),
];

/// Why the journal cannot be used. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file or its lock cannot be created or opened.
    #[error("journal {path}: {source}")]
    Io {
        /// The journal.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "journal {path} is in use by another process: stop that one or choose another data directory"
    )]
    InUse {
        /// The journal.
        path: PathBuf,
    },
    /// It is damaged, or not a journal at all.
    #[error(
        "journal {path} is damaged or not a journal ({reason}): restore a backup, or move it away together \
         with its -wal and -shm files to start with an empty one"
    )]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A later release wrote it.
    #[error(
        "journal {path} has version {found}, this release knows up to {known}: run the release that wrote it, \
         or choose another data directory"
    )]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// SQLite refused for another reason.
    #[error("journal {path}: {source}")]
    Storage {
        /// The journal.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// The writing connection, on a file that is whole and of the newest version, and how often it was opened.
pub(crate) fn open_writer(
    path: &Path,
    durability: Durability,
) -> Result<(Connection, u64), OpenError> {
    create_private(path).map_err(|source| OpenError::Io {
        path: path.into(),
        source,
    })?;
    let mut connection = connect(path, durability).map_err(|error| explain(path, error))?;
    refuse_foreign(path, &connection)?;
    check(path, &connection)?;
    migrate(path, &mut connection)?;
    let start = count_start(&connection).map_err(|error| explain(path, error))?;
    Ok((connection, start))
}

/// A reading connection. The file must exist.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_DEADLINE)?;
    Ok(connection)
}

// Prompts are private: nobody but the owner reads the file. SQLite gives its side files the same mode.
fn create_private(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn connect(path: &Path, durability: Durability) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_DEADLINE)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // FULL syncs the log at every commit: an answered job survives a power cut. OFF leaves that to the kernel.
    connection.pragma_update(None, "synchronous", durability.as_str())?;
    if !durability.syncs() {
        connection.pragma_update(None, "wal_autocheckpoint", UNSYNCED_CHECKPOINT_PAGES)?;
    }
    Ok(connection)
}

fn refuse_foreign(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let (application, version) = header(connection).map_err(|error| explain(path, error))?;
    let known = MIGRATIONS.len() as i64;
    match application {
        APPLICATION_ID if version > known => Err(OpenError::Newer {
            path: path.into(),
            found: version,
            known,
        }),
        APPLICATION_ID => Ok(()),
        0 if version == 0 => Ok(()),
        _ => Err(corrupt(path, "it belongs to another program")),
    }
}

fn header(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

fn check(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| explain(path, error))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(corrupt(path, &verdict)),
    }
}

fn migrate(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    run_migrations(connection).map_err(|error| explain(path, error))
}

fn run_migrations(connection: &mut Connection) -> rusqlite::Result<()> {
    let (_, version) = header(connection)?;
    let done = usize::try_from(version).unwrap_or_default();
    for (index, script) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(script)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", index as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

fn count_start(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = connection.query_row(
        "UPDATE starts SET count = count + 1 RETURNING count",
        [],
        |row| row.get(0),
    )?;
    Ok(count.unsigned_abs())
}

fn explain(path: &Path, source: rusqlite::Error) -> OpenError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            corrupt(path, &source.to_string())
        }
        _ => OpenError::Storage {
            path: path.into(),
            source,
        },
    }
}

fn corrupt(path: &Path, reason: &str) -> OpenError {
    OpenError::Corrupt {
        path: path.into(),
        reason: reason.into(),
    }
}
