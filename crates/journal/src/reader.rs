//! Reading, beside the writer and never behind it.

use crate::recent::Recent;
use crate::record::{COLUMNS, JobRecord, RowError, tenant};
use crate::schema;
use crate::statements;
use reel_domain::{IdempotencyKey, JobId, TenantName};
use rusqlite::{Connection, Params};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Idle connections that are kept open for the next read. More may be open while reads run.
const CONNECTIONS_KEPT_MAX: usize = 4;

/// Blobs that sort before and after every id.
const BEFORE_ALL: &[u8] = &[];
const AFTER_ALL: &[u8] = &[0xff; 17];

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk or SQLite refused.
    #[error("the journal could not be read: {0}")]
    Storage(#[from] rusqlite::Error),
    /// A row makes no sense.
    #[error("the journal could not be read: {0}")]
    Row(#[from] RowError),
}

/// In which order jobs are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// A completed job whose video is going to be removed. Times in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiring {
    /// Which job.
    pub id: JobId,
    /// When it was finished.
    pub finished_at_ms: u64,
    /// When its video's time is up.
    pub expires_at_ms: u64,
}

/// The end of a job that somebody wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// Which job.
    pub id: JobId,
    /// Whose.
    pub tenant: TenantName,
    /// Tries that did not get through.
    pub tries: u32,
    /// When to try, in milliseconds since the Unix epoch.
    pub due_ms: u64,
}

/// Some jobs, and whether more follow them.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The jobs, in the order asked for.
    pub records: Vec<JobRecord>,
    /// More jobs follow in that order.
    pub has_more: bool,
}

/// Read-only connections to the journal. Cheap to clone. Calls block on the disk.
#[derive(Debug, Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    recent: Arc<Recent>,
    idle: Mutex<Vec<Connection>>,
}

impl Reader {
    pub(crate) fn new(path: &Path, recent: Arc<Recent>) -> Self {
        let shared = Shared {
            path: path.into(),
            recent,
            idle: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// One job.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn get(&self, id: JobId) -> Result<Option<JobRecord>, ReadError> {
        if let Some(recent) = self.recent(id) {
            return Ok(Some((*recent).clone()));
        }
        let taken = self.shared.recent.taken();
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1");
        let record = self.query(&sql, [id.as_bytes()])?.pop();
        if let Some(record) = &record {
            self.shared.recent.was_read(record, taken);
        }
        Ok(record)
    }

    /// A job that has ended, if its row is at hand: the one call that does not block on the disk. `None` says nothing.
    #[must_use]
    pub fn recent(&self, id: JobId) -> Option<Arc<JobRecord>> {
        self.shared.recent.get(id)
    }

    /// At most `limit` jobs that come after the job `after` (which need not exist any more) in `order`, of one
    /// tenant or of all.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn list(
        &self,
        tenant: Option<&TenantName>,
        after: Option<JobId>,
        limit: usize,
        order: Order,
    ) -> Result<Page, ReadError> {
        let (comparison, direction, beyond) = match order {
            Order::Ascending => (">", "ASC", BEFORE_ALL),
            Order::Descending => ("<", "DESC", AFTER_ALL),
        };
        let whose = tenant.map_or("", |_| "tenant = ?3 AND");
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE {whose} id {comparison} ?1 ORDER BY id {direction} LIMIT ?2"
        );
        let bound = after.map_or(beyond.to_vec(), |id| id.as_bytes().to_vec());
        // One more than asked for tells whether there is more.
        let rows = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        let mut records = match tenant {
            None => self.query(&sql, (bound, rows))?,
            Some(tenant) => self.query(&sql, (bound, rows, tenant.as_str()))?,
        };
        let has_more = records.len() > limit;
        records.truncate(limit);
        Ok(Page { records, has_more })
    }

    /// Every job that is not terminal, oldest first: what a start has to take up again.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn unfinished(&self) -> Result<Vec<JobRecord>, ReadError> {
        let sql =
            format!("SELECT {COLUMNS} FROM jobs WHERE finished_at_ms IS NULL ORDER BY place, id");
        self.query(&sql, [])
    }

    /// The completed job whose video is to be removed first.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn first_to_expire(&self) -> Result<Option<Expiring>, ReadError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE status = 'completed' AND expires_at_ms IS NOT NULL \
             ORDER BY expires_at_ms LIMIT 1"
        );
        let first = self.query(&sql, [])?.pop();
        Ok(first.and_then(|record| {
            Some(Expiring {
                id: record.job.id,
                finished_at_ms: record.finished_at_ms?,
                expires_at_ms: record.expires_at_ms?,
            })
        }))
    }

    /// When the job ended that ended first and has no video any more, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn first_end(&self) -> Result<Option<u64>, ReadError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE finished_at_ms IS NOT NULL AND status <> 'completed' \
             ORDER BY finished_at_ms LIMIT 1"
        );
        let first = self.query(&sql, [])?.pop();
        Ok(first.and_then(|record| record.finished_at_ms))
    }

    /// Jobs that ended before a time (in milliseconds since the Unix epoch), at most so many. A video that is not
    /// expired keeps its job.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn ended_before(&self, at_ms: u64, limit: usize) -> Result<Vec<JobId>, ReadError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE finished_at_ms IS NOT NULL AND finished_at_ms < ?1 AND status <> 'completed' \
             ORDER BY finished_at_ms LIMIT ?2"
        );
        let at_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let records = self.query(&sql, (at_ms, limit))?;
        Ok(records.into_iter().map(|record| record.job.id).collect())
    }

    /// The job that a tenant's key stands for, and the digest of what it asked for.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn keyed(
        &self,
        tenant: &TenantName,
        key: &IdempotencyKey,
    ) -> Result<Option<(JobId, [u8; 32])>, ReadError> {
        let connection = self.take()?;
        let found = statements::keyed(&connection, tenant.as_str(), key.as_str())?;
        self.give_back(connection);
        Ok(found)
    }

    /// Callbacks that are due at `now_ms`, at most `limit`: the first of each tenant, then the second of each, and so on.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn callbacks(&self, now_ms: u64, limit: usize) -> Result<Vec<Callback>, ReadError> {
        let connection = self.take()?;
        let owed = due(&connection, now_ms, limit)?;
        self.give_back(connection);
        Ok(owed)
    }

    /// When the first callback is due that is not at `now_ms`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn next_callback(&self, now_ms: u64) -> Result<Option<u64>, ReadError> {
        let connection = self.take()?;
        let next: Option<i64> = connection
            .prepare_cached("SELECT min(due_ms) FROM callbacks WHERE due_ms > ?1")?
            .query_row([signed(now_ms)], |row| row.get(0))?;
        self.give_back(connection);
        Ok(next.map(i64::unsigned_abs))
    }

    fn query(&self, sql: &str, parameters: impl Params) -> Result<Vec<JobRecord>, ReadError> {
        let connection = self.take()?;
        let records = select(&connection, sql, parameters)?;
        self.give_back(connection);
        Ok(records)
    }

    fn take(&self) -> Result<Connection, ReadError> {
        let idle = self.idle().pop();
        match idle {
            Some(connection) => Ok(connection),
            None => Ok(schema::open_reader(&self.shared.path)?),
        }
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() < CONNECTIONS_KEPT_MAX {
            idle.push(connection);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        let idle = self.shared.idle.lock();
        idle.unwrap_or_else(PoisonError::into_inner)
    }
}

fn select(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> Result<Vec<JobRecord>, ReadError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(JobRecord::from_row(row)?);
    }
    Ok(records)
}

fn due(connection: &Connection, now_ms: u64, limit: usize) -> Result<Vec<Callback>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT job_id, tries, due_ms, tenant FROM (SELECT job_id, tries, due_ms, tenant, \
         row_number() OVER (PARTITION BY tenant ORDER BY due_ms, job_id) AS turn \
         FROM callbacks JOIN jobs ON jobs.id = job_id WHERE due_ms <= ?1) \
         ORDER BY turn, due_ms, job_id LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query([signed(now_ms), limit])?;
    let mut owed = Vec::new();
    while let Some(row) = rows.next()? {
        owed.push(Callback {
            id: JobId::from_bytes(row.get(0)?),
            tries: row.get(1)?,
            due_ms: row.get::<_, i64>(2)?.unsigned_abs(),
            tenant: tenant(row)?,
        });
    }
    Ok(owed)
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
