//! The writer: one thread, one connection, group commit.

use crate::lock;
use crate::reader::Reader;
use crate::record::Ending;
use crate::schema::{self, OpenError};
use crate::statements;
use reel_domain::{Durability, Idempotency, Job, JobId, JobStatus};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Most writes that share one transaction, so that the first of them is not kept waiting for ever.
pub const WRITES_PER_COMMIT_MAX: usize = 256;

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
    SetStatus(JobId, u32, JobStatus),
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
        let (messages, inbox) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || run(connection, &inbox, lock))
            .map_err(|source| io_error(path, source))?;
        let inner = Inner {
            messages,
            start,
            thread: Mutex::new(Some(thread)),
        };
        let journal = Self {
            inner: Arc::new(inner),
        };
        Ok((journal, Reader::new(path)))
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
        self.write(Write::SetStatus(id, attempt, status), done);
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

// Takes the lock by value: it is held as long as the thread lives.
fn run(mut connection: Connection, inbox: &Receiver<Message>, _lock: File) {
    while let Ok(first) = inbox.recv() {
        let (batch, closing) = gather(first, inbox);
        commit(&mut connection, batch);
        if closing {
            refuse_the_rest(inbox);
            break;
        }
    }
}

/// What waits right now, up to one transaction's worth, and whether it ended with a request to close.
fn gather(first: Message, inbox: &Receiver<Message>) -> (Vec<(Write, Done)>, bool) {
    let mut batch = Vec::new();
    let mut next = Some(first);
    while let Some(message) = next {
        match message {
            Message::Close => return (batch, true),
            Message::Write(write, done) => batch.push((*write, done)),
        }
        if batch.len() == WRITES_PER_COMMIT_MAX {
            break;
        }
        next = inbox.try_recv().ok();
    }
    (batch, false)
}

fn commit(connection: &mut Connection, batch: Vec<(Write, Done)>) {
    let (writes, dones): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    match apply_all(connection, &writes) {
        Ok(results) => {
            for (done, result) in dones.into_iter().zip(results) {
                done(result);
            }
        }
        Err(error) => {
            for done in dones {
                done(Err(error.clone()));
            }
        }
    }
}

/// Runs all writes in one transaction. `Err` means that none of them happened.
fn apply_all(
    connection: &mut Connection,
    writes: &[Write],
) -> Result<Vec<Result<(), WriteError>>, WriteError> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let results = writes
        .iter()
        .map(|write| apply(&transaction, write))
        .collect();
    // A full disk rolls the transaction back inside a statement; then this commit fails for everybody.
    transaction.commit()?;
    Ok(results)
}

fn apply(connection: &Connection, write: &Write) -> Result<(), WriteError> {
    match write {
        Write::Insert(job, None) => statements::insert(connection, job),
        Write::Insert(job, Some(idempotency)) => {
            statements::insert_once(connection, job, idempotency)
        }
        Write::SetStatus(id, attempt, status) => {
            statements::set_status(connection, *id, *attempt, *status)
        }
        Write::Finish(id, attempt, ending) => statements::finish(connection, *id, *attempt, ending),
        Write::Expire(id) => statements::expire(connection, *id),
        Write::Delete(id) => statements::delete(connection, *id),
        Write::DelayCallback(id, due_ms) => statements::delay_callback(connection, *id, *due_ms),
        Write::SettleCallback(id) => statements::settle_callback(connection, *id),
    }
}

fn refuse_the_rest(inbox: &Receiver<Message>) {
    while let Ok(message) = inbox.try_recv() {
        if let Message::Write(_, done) = message {
            done(Err(WriteError::Closed));
        }
    }
}
