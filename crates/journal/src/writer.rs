//! The writer: one thread, one connection, group commit.
//!
//! Statuses on the way wait a moment for company: nobody is answered for them, and a job that ends meanwhile takes them
//! along.

use crate::lock;
use crate::reader::Reader;
use crate::recent::Recent;
use crate::record::{Ending, JobRecord};
use crate::schema::{self, OpenError};
use crate::statements;
use reel_domain::{Durability, Idempotency, Job, JobId, JobStatus};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Most writes that share one transaction, so that the first of them is not kept waiting for ever.
pub const WRITES_PER_COMMIT_MAX: usize = 256;

/// Longest time that a status which is not terminal waits for another write to share its transaction with.
pub const STATUS_DELAY_MAX: Duration = Duration::from_millis(5);

/// Why a write did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The job ended before; the first ending stands.
    #[error("{0} is terminal already")]
    AlreadyTerminal(JobId),
    /// A later attempt owns the job.
    #[error("attempt {attempt} is stale: attempt {stored} owns the job")]
    StaleAttempt {
        /// Who wanted to write.
        attempt: u32,
        /// Whose job it is.
        stored: u32,
    },
    /// The journal has no such job.
    #[error("{0} is not in the journal")]
    Unknown(JobId),
    /// The journal has that job already.
    #[error("{0} is in the journal already")]
    Duplicate(JobId),
    /// Its client's key stands for another job already.
    #[error("the idempotency key stands for {id} already")]
    Repeated {
        /// That job.
        id: JobId,
        /// It asks for the same.
        same: bool,
    },
    /// Endings go through [`Journal::finish`].
    #[error("status {0} is terminal and needs an ending")]
    NotAnEnding(JobStatus),
    /// The disk or SQLite refused.
    #[error("the journal could not be written: {0}")]
    Storage(#[source] Arc<rusqlite::Error>),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

impl WriteError {
    /// The disk (or the quota) is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        let code = match self {
            Self::Storage(error) => error.sqlite_error_code(),
            _ => None,
        };
        code == Some(ErrorCode::DiskFull)
    }
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(Arc::new(error))
    }
}

/// The way to the writer thread. Cheap to clone; the last handle closes the journal.
///
/// The queue to the thread has no bound of its own: every entry belongs to a job that the pool has accepted,
/// and the pool bounds those.
#[derive(Debug, Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    messages: Sender<Message>,
    start: u64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

type Done = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

enum Message {
    Write(Box<Write>, Done),
    Close,
}

enum Write {
    Insert(Box<Job>, Option<Idempotency>),
    /// With the time at which it was so, in milliseconds since the Unix epoch.
    SetStatus(JobId, u32, JobStatus, u64),
    Finish(JobId, u32, Ending),
    Expire(JobId),
    Delete(JobId),
    DelayCallback(JobId, u64),
    SettleCallback(JobId),
}

impl Journal {
    /// Opens or creates the journal and starts its writer thread.
    ///
    /// # Errors
    /// When the file is damaged, foreign, newer than this release, or in use; see [`OpenError`].
    pub fn open(path: &Path) -> Result<(Self, Reader), OpenError> {
        Self::open_with(path, Durability::Full)
    }

    /// As [`open`](Self::open), with a say in what a power cut may take.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: &Path, durability: Durability) -> Result<(Self, Reader), OpenError> {
        let lock = take_lock(path)?;
        let (connection, start) = schema::open_writer(path, durability)?;
        let recent = Arc::new(Recent::default());
        let (messages, inbox) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn({
                let recent = Arc::clone(&recent);
                move || run(connection, &inbox, &recent, lock)
            })
            .map_err(|source| io_error(path, source))?;
        let inner = Inner {
            messages,
            start,
            thread: Mutex::new(Some(thread)),
        };
        let journal = Self {
            inner: Arc::new(inner),
        };
        Ok((journal, Reader::new(path, recent)))
    }

    /// Stores a new job as `queued`. `done` runs on the writer thread, after the commit.
    pub fn insert(&self, job: &Job, done: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.write(Write::Insert(Box::new(job.clone()), None), done);
    }

    /// As [`insert`](Self::insert), of a job whose client names it by a key. Another job of that key gets
    /// [`WriteError::Repeated`].
    pub fn insert_once(
        &self,
        job: &Job,
        idempotency: Idempotency,
        done: impl FnOnce(Result<(), WriteError>) + Send + 'static,
    ) {
        self.write(
            Write::Insert(Box::new(job.clone()), Some(idempotency)),
            done,
        );
    }

    /// Moves a job to a status that is not terminal. A lower attempt than the stored one changes nothing and
    /// is no error. `in_progress` also sets the time at which the job started.
    pub fn set_status(
        &self,
        id: JobId,
        attempt: u32,
        status: JobStatus,
        done: impl FnOnce(Result<(), WriteError>) + Send + 'static,
    ) {
        let at_ms = statements::now_ms();
        self.write(Write::SetStatus(id, attempt, status, at_ms), done);
    }

    /// Ends a job: the one terminal transition. A second one gets [`WriteError::AlreadyTerminal`], an older
    /// attempt [`WriteError::StaleAttempt`].
    pub fn finish(
        &self,
        id: JobId,
        attempt: u32,
        ending: Ending,
        done: impl FnOnce(Result<(), WriteError>) + Send + 'static,
    ) {
        self.write(Write::Finish(id, attempt, ending), done);
    }

    /// A completed job's video is about to be removed. A job that is not completed gets [`WriteError::Unknown`].
    pub fn expire(&self, id: JobId, done: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.write(Write::Expire(id), done);
    }

    /// A callback did not get through and is due again at `due_ms`, in milliseconds since the Unix epoch.
    pub fn delay_callback(
        &self,
        id: JobId,
        due_ms: u64,
        done: impl FnOnce(Result<(), WriteError>) + Send + 'static,
    ) {
        self.write(Write::DelayCallback(id, due_ms), done);
    }

    /// A callback got through, or never will.
    pub fn settle_callback(
        &self,
        id: JobId,
        done: impl FnOnce(Result<(), WriteError>) + Send + 'static,
    ) {
        self.write(Write::SettleCallback(id), done);
    }

    /// How often this journal was opened, this time included.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.inner.start
    }

    /// Forgets a job.
    pub fn delete(&self, id: JobId, done: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.write(Write::Delete(id), done);
    }

    /// Commits everything that was queued and ends the thread. Writes through other handles get
    /// [`WriteError::Closed`] from then on.
    pub fn close(self) {
        self.inner.close();
    }

    fn write(&self, write: Write, done: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        let message = Message::Write(Box::new(write), Box::new(done));
        if let Err(mpsc::SendError(Message::Write(_, done))) = self.inner.messages.send(message) {
            done(Err(WriteError::Closed));
        }
    }
}

impl Inner {
    fn close(&self) {
        // Nobody listens any more if the thread ended before; there is nothing left to flush then.
        let _ = self.messages.send(Message::Close);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match thread {
            // The last handle may live in a `done`, which runs on the thread itself.
            Some(thread) if thread.thread().id() != thread::current().id() => {
                let _ = thread.join();
            }
            _ => {}
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn take_lock(path: &Path) -> Result<File, OpenError> {
    lock::acquire(path)
        .map_err(|source| io_error(path, source))?
        .ok_or_else(|| OpenError::InUse { path: path.into() })
}

fn io_error(path: &Path, source: std::io::Error) -> OpenError {
    OpenError::Io {
        path: path.into(),
        source,
    }
}

/// Writes that wait for their transaction.
#[derive(Default)]
struct Batch {
    writes: Vec<(Write, Done)>,
    /// When the first of them came.
    since: Option<Instant>,
    /// Somebody waits for one of them.
    urgent: bool,
    /// A request to close came after them.
    closing: bool,
}

// Takes the lock by value: it is held as long as the thread lives.
fn run(mut connection: Connection, inbox: &Receiver<Message>, recent: &Recent, _lock: File) {
    let mut batch = Batch::default();
    while batch.gather(inbox) {
        if batch.is_due() {
            let Batch {
                writes, closing, ..
            } = std::mem::take(&mut batch);
            commit(&mut connection, recent, writes);
            if closing {
                return refuse_the_rest(inbox);
            }
        }
    }
    commit(&mut connection, recent, batch.writes);
}

impl Batch {
    /// Waits for what comes next, and takes what is there by then, up to one transaction's worth. `false`: every handle
    /// is gone.
    fn gather(&mut self, inbox: &Receiver<Message>) -> bool {
        let next = match self.since {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(since) => inbox.recv_timeout(STATUS_DELAY_MAX.saturating_sub(since.elapsed())),
        };
        let mut next = match next {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        while let Some(message) = next {
            match message {
                Message::Close => {
                    self.closing = true;
                    return true;
                }
                Message::Write(write, done) => self.add(*write, done),
            }
            if self.writes.len() == WRITES_PER_COMMIT_MAX {
                return true;
            }
            next = inbox.try_recv().ok();
        }
        true
    }

    fn add(&mut self, write: Write, done: Done) {
        self.since.get_or_insert_with(Instant::now);
        self.urgent |= !matches!(write, Write::SetStatus(..));
        self.writes.push((write, done));
    }

    fn is_due(&self) -> bool {
        let late = |since: Instant| since.elapsed() >= STATUS_DELAY_MAX;
        let full = self.writes.len() >= WRITES_PER_COMMIT_MAX;
        self.urgent || self.closing || full || self.since.is_some_and(late)
    }
}

fn commit(connection: &mut Connection, recent: &Recent, batch: Vec<(Write, Done)>) {
    let (writes, dones): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    match apply_all(connection, &writes) {
        Ok(results) => {
            for ((write, done), result) in writes.iter().zip(dones).zip(results) {
                done(result.map(|ended| remember(recent, write, ended)));
            }
        }
        Err(error) => {
            for done in dones {
                done(Err(error.clone()));
            }
        }
    }
}

/// What a committed write means for the rows that are at hand. `ended`: the row that it made terminal.
fn remember(recent: &Recent, write: &Write, ended: Option<JobRecord>) {
    match (write, ended) {
        (Write::Finish(..), Some(record)) => recent.ended(record),
        (Write::Expire(id) | Write::Delete(id), _) => recent.take_away(*id),
        _ => {}
    }
}

type Applied = Result<Option<JobRecord>, WriteError>;

/// Runs all writes in one transaction. `Err` means that none of them happened.
fn apply_all(connection: &mut Connection, writes: &[Write]) -> Result<Vec<Applied>, WriteError> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    let fates = fates(writes);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let results = writes
        .iter()
        .zip(fates)
        .map(|(write, fate)| match fate {
            Fate::Overtaken => Ok(None),
            Fate::Happens { began_at_ms } => apply(&transaction, write, began_at_ms),
        })
        .collect();
    // A full disk rolls the transaction back inside a statement; then this commit fails for everybody.
    transaction.commit()?;
    Ok(results)
}

/// What becomes of a write among those that share its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its job has moved on behind it: nothing of it would be left.
    Overtaken,
    /// It is done. The end of a job takes along when it began, if that was overtaken.
    Happens { began_at_ms: Option<u64> },
}

fn fates(writes: &[Write]) -> Vec<Fate> {
    /// The latest attempt of a job that is written of behind a place, and where its end is.
    #[derive(Default)]
    struct Behind {
        attempt: u32,
        end: Option<usize>,
    }
    let mut behind: HashMap<JobId, Behind> = HashMap::new();
    let mut fates = vec![Fate::Happens { began_at_ms: None }; writes.len()];
    for (place, write) in writes.iter().enumerate().rev() {
        let (id, attempt, end) = match write {
            Write::SetStatus(id, attempt, status, at_ms) => {
                let later = behind.get(id).filter(|later| later.attempt >= *attempt);
                match (status, later) {
                    (status, _) if status.is_terminal() => {}
                    (_, None) => {}
                    (JobStatus::InProgress, Some(Behind { end: None, .. })) => {}
                    (JobStatus::InProgress, Some(Behind { end: Some(end), .. })) => {
                        // Of several beginnings the last one stands, as it would in the row.
                        if fates[*end] == (Fate::Happens { began_at_ms: None }) {
                            fates[*end] = Fate::Happens {
                                began_at_ms: Some(*at_ms),
                            };
                        }
                        fates[place] = Fate::Overtaken;
                    }
                    (_, Some(_)) => fates[place] = Fate::Overtaken,
                }
                (*id, *attempt, None)
            }
            Write::Finish(id, attempt, _) => (*id, *attempt, Some(place)),
            _ => continue,
        };
        let later = behind.entry(id).or_default();
        later.attempt = attempt.max(later.attempt);
        later.end = end.or(later.end);
    }
    fates
}

fn apply(connection: &Connection, write: &Write, began_at_ms: Option<u64>) -> Applied {
    let done = match write {
        Write::Insert(job, None) => statements::insert(connection, job),
        Write::Insert(job, Some(idempotency)) => {
            statements::insert_once(connection, job, idempotency)
        }
        Write::SetStatus(id, attempt, status, at_ms) => {
            statements::set_status(connection, *id, *attempt, *status, *at_ms)
        }
        Write::Finish(id, attempt, ending) => {
            return statements::finish(connection, *id, *attempt, ending, began_at_ms);
        }
        Write::Expire(id) => statements::expire(connection, *id),
        Write::Delete(id) => statements::delete(connection, *id),
        Write::DelayCallback(id, due_ms) => statements::delay_callback(connection, *id, *due_ms),
        Write::SettleCallback(id) => statements::settle_callback(connection, *id),
    };
    done.map(|()| None)
}

fn refuse_the_rest(inbox: &Receiver<Message>) {
    while let Ok(message) = inbox.try_recv() {
        if let Message::Write(_, done) = message {
            done(Err(WriteError::Closed));
        }
    }
}
