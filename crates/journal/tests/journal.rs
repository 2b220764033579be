//! The journal as the supervisor and the gateway use it, over real files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use reel_domain::{
    BundleKey, Durability, Durations, Failure, FailureCode, Fps, Guidance, Idempotency, Job, JobId,
    JobStatus, Mode, Origin, Outcome, Priority, Prompt, Sampling, Seed, Sharing, Steps,
};
use reel_journal::{
    Ending, JobRecord, Journal, OpenError, Order, Reader, VideoMeta, WRITES_PER_COMMIT_MAX,
    WriteError,
};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use tempfile::TempDir;

struct Fixture {
    journal: Journal,
    reader: Reader,
    directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (journal, reader) = Journal::open(&path(directory.path())).unwrap();
        Self {
            journal,
            reader,
            directory,
        }
    }

    /// Ends the writer, as a stop does, and starts again on the same file.
    fn restart(self) -> Self {
        let Self {
            journal,
            reader,
            directory,
        } = self;
        journal.close();
        drop(reader);
        let (journal, reader) = Journal::open(&path(directory.path())).unwrap();
        Self {
            journal,
            reader,
            directory,
        }
    }

    fn insert(&self, number: u8) -> JobId {
        let job = job(number);
        wait(|done| self.journal.insert(&job, done)).unwrap();
        job.id
    }

    fn set_status(&self, id: JobId, attempt: u32, status: JobStatus) -> Result<(), WriteError> {
        wait(|done| self.journal.set_status(id, attempt, status, done))
    }

    fn finish(&self, id: JobId, attempt: u32, ending: Ending) -> Result<(), WriteError> {
        wait(|done| self.journal.finish(id, attempt, ending, done))
    }

    fn get(&self, id: JobId) -> JobRecord {
        self.reader.get(id).unwrap().unwrap()
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("journal.sqlite")
}

type Done = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

fn wait(write: impl FnOnce(Done)) -> Result<(), WriteError> {
    let (sender, receiver) = mpsc::channel();
    write(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().unwrap()
}

fn job(number: u8) -> Job {
    Job {
        id: JobId::from_bytes([number; 16]),
        bundle: BundleKey {
            model: "tiny-shapes".parse().unwrap(),
            shape: "64x96@17f".parse().unwrap(),
        },
        mode: Mode::I2v,
        conditioning_frames: 1,
        sampling: Sampling {
            prompt: Prompt::new("ein „roter“ Kreis\0\u{1f534}".into()).unwrap(),
            negative_prompt: Prompt::optional(String::new()).unwrap(),
            seed: Seed::new(i64::MAX as u64).unwrap(),
            steps: Steps::new(200).unwrap(),
            guidance: Guidance::new(3.3).unwrap(),
            fps: Fps::new(8).unwrap(),
        },
        sharing: Sharing {
            tenant: "team-a".parse().unwrap(),
            priority: Priority::Batch,
            alone: true,
            begin_by_ms: Some(1_800_000_000_000),
        },
        origin: Some(Origin::Extension {
            of: JobId::from_bytes([9; 16]),
            frames: 33,
        }),
        callback: Some("https://example.com/hook".parse().unwrap()),
        trace: None,
        created_at_ms: 1_700_000_000_000 + u64::from(number),
    }
}

fn completed() -> Ending {
    Ending {
        outcome: Outcome::Completed,
        finished_at_ms: 1_800_000_000_000,
        video: Some(VideoMeta {
            bytes: 12_345,
            sha256: "ab".repeat(32),
        }),
        expires_at_ms: Some(1_800_000_500_000),
        sequence: 7,
        device: Some("cpu:0".into()),
        durations: Durations {
            queue_ms: 1,
            spawn_ms: 2,
            text_ms: 3,
            denoise_ms: 4,
            decode_ms: 5,
            encode_ms: 6,
        },
    }
}

fn failed() -> Ending {
    let failure = Failure {
        code: FailureCode::WorkerLost,
        message: "the worker died three times".into(),
    };
    Ending {
        outcome: Outcome::Failed(failure),
        finished_at_ms: 1_800_000_000_000,
        video: None,
        expires_at_ms: Some(1_800_000_500_000),
        sequence: 7,
        device: Some("cpu:0".into()),
        durations: Durations {
            queue_ms: 1,
            spawn_ms: 2,
            text_ms: 3,
            denoise_ms: 4,
            decode_ms: 5,
            encode_ms: 6,
        },
    }
}

#[test]
fn a_job_comes_back_exactly_as_it_was_accepted() {
    let fixture = Fixture::new();
    let id = fixture.insert(1);
    let record = fixture.get(id);
    assert_eq!(record.job, job(1));
    assert_eq!((record.status, record.attempts), (JobStatus::Queued, 0));
    assert_eq!(
        (record.failure, record.video, record.finished_at_ms),
        (None, None, None)
    );
}

#[test]
fn a_job_is_inserted_once() {
    let fixture = Fixture::new();
    let id = fixture.insert(1);
    let again = wait(|done| fixture.journal.insert(&job(1), done));
    assert!(matches!(again, Err(WriteError::Duplicate(twin)) if twin == id));
}

#[test]
fn what_was_answered_is_there_after_a_restart_and_only_the_unfinished_is_taken_up() {
    let fixture = Fixture::new();
    let [queued, running, over, lost] = [4, 3, 2, 1].map(|number| fixture.insert(number));
    fixture
        .set_status(running, 2, JobStatus::InProgress)
        .unwrap();
    fixture.finish(over, 1, completed()).unwrap();
    fixture.finish(lost, 3, failed()).unwrap();

    let fixture = fixture.restart();
    let unfinished = fixture.reader.unfinished().unwrap();
    let ids: Vec<_> = unfinished.iter().map(|record| record.job.id).collect();
    assert_eq!(ids, [queued, running], "oldest first");
    assert_eq!(unfinished[1].attempts, 2);
    assert_eq!(fixture.get(over).video, completed().video);
    assert_eq!(
        fixture.get(lost).failure.unwrap().code,
        FailureCode::WorkerLost
    );
}

#[test]
fn starting_to_generate_sets_the_time_and_requeueing_keeps_it() {
    let fixture = Fixture::new();
    let id = fixture.insert(1);
    fixture.set_status(id, 1, JobStatus::Starting).unwrap();
    assert_eq!(fixture.get(id).started_at_ms, None);
    fixture.set_status(id, 1, JobStatus::InProgress).unwrap();
    let started_at_ms = fixture.get(id).started_at_ms;
    assert!(started_at_ms.is_some());
    fixture.set_status(id, 1, JobStatus::Queued).unwrap();
    let record = fixture.get(id);
    assert_eq!(
        (record.status, record.started_at_ms),
        (JobStatus::Queued, started_at_ms)
    );
}

#[test]
fn an_older_attempt_changes_nothing() {
    let fixture = Fixture::new();
    let id = fixture.insert(1);
    fixture.set_status(id, 2, JobStatus::Starting).unwrap();
    fixture.set_status(id, 1, JobStatus::Encoding).unwrap();
    let stale = fixture.finish(id, 1, completed());
    assert!(matches!(
        stale,
        Err(WriteError::StaleAttempt {
            attempt: 1,
            stored: 2
        })
    ));
    let record = fixture.get(id);
    assert_eq!((record.status, record.attempts), (JobStatus::Starting, 2));
}

#[test]
fn the_first_ending_stands() {
    let fixture = Fixture::new();
    let id = fixture.insert(1);
    fixture.finish(id, 1, completed()).unwrap();
    for again in [
        fixture.finish(id, 1, failed()),
        fixture.finish(id, 9, completed()),
        fixture.set_status(id, 9, JobStatus::Queued),
    ] {
        assert!(
            matches!(again, Err(WriteError::AlreadyTerminal(_))),
            "{again:?}"
        );
    }
    assert_eq!(fixture.get(id).status, JobStatus::Completed);
}

#[test]
fn a_terminal_status_needs_an_ending() {
    let fixture = Fixture::new();
    let id = fixture.insert(1);
    let refused = fixture.set_status(id, 1, JobStatus::Completed);
    assert!(matches!(refused, Err(WriteError::NotAnEnding(_))));
    assert_eq!(fixture.get(id).status, JobStatus::Queued);
}

#[test]
fn writes_about_a_job_that_is_not_there_say_so() {
    let fixture = Fixture::new();
    let id = JobId::from_bytes([9; 16]);
    for refused in [
        fixture.set_status(id, 1, JobStatus::Starting),
        fixture.finish(id, 1, completed()),
        wait(|done| fixture.journal.delete(id, done)),
    ] {
        assert!(
            matches!(refused, Err(WriteError::Unknown(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn a_deleted_job_is_gone() {
    let fixture = Fixture::new();
    let id = fixture.insert(1);
    wait(|done| fixture.journal.delete(id, done)).unwrap();
    assert_eq!(fixture.reader.get(id).unwrap(), None);
}

#[test]
fn lists_go_page_by_page_in_both_directions() {
    let fixture = Fixture::new();
    let ids = [1, 2, 3, 4, 5].map(|number| fixture.insert(number));
    let list = |after, limit, order| {
        let page = fixture.reader.list(None, after, limit, order).unwrap();
        let ids: Vec<_> = page.records.iter().map(|record| record.job.id).collect();
        (ids, page.has_more)
    };
    let (newest, oldest) = (Order::Descending, Order::Ascending);
    assert_eq!(list(None, 2, newest), (vec![ids[4], ids[3]], true));
    assert_eq!(list(Some(ids[3]), 2, newest), (vec![ids[2], ids[1]], true));
    assert_eq!(list(Some(ids[1]), 2, newest), (vec![ids[0]], false));
    assert_eq!(list(None, 5, oldest), (ids.to_vec(), false));
    assert_eq!(list(Some(ids[3]), 5, oldest), (vec![ids[4]], false));
    assert_eq!(list(None, 0, oldest), (vec![], true));
}

#[test]
fn a_flood_of_writes_is_answered_in_order_and_completely() {
    let fixture = Fixture::new();
    let id = fixture.insert(1);
    let writes = WRITES_PER_COMMIT_MAX as u32 * 4;
    let (sender, receiver) = mpsc::channel();
    for attempt in 1..=writes {
        let sender = sender.clone();
        let done = move |result: Result<(), WriteError>| {
            result.unwrap();
            sender.send(attempt).unwrap();
        };
        fixture
            .journal
            .set_status(id, attempt, JobStatus::Starting, done);
    }
    drop(sender);
    let answered: Vec<u32> = receiver.iter().collect();
    assert_eq!(answered, (1..=writes).collect::<Vec<_>>());
    assert_eq!(fixture.get(id).attempts, writes);
}

#[test]
fn one_refused_write_does_not_harm_the_others_of_its_commit() {
    let fixture = Fixture::new();
    let (sender, receiver) = mpsc::channel();
    for number in [1, 2, 2, 3] {
        let sender = sender.clone();
        let done = move |result: Result<(), WriteError>| sender.send(result.is_ok()).unwrap();
        fixture.journal.insert(&job(number), done);
    }
    drop(sender);
    assert_eq!(
        receiver.iter().collect::<Vec<_>>(),
        [true, true, false, true]
    );
    assert_eq!(fixture.reader.unfinished().unwrap().len(), 3);
}

#[test]
fn closing_flushes_what_waits_and_refuses_what_comes_after() {
    let fixture = Fixture::new();
    let other = fixture.journal.clone();
    let (sender, receiver) = mpsc::channel();
    for number in 1..=100 {
        let sender = sender.clone();
        fixture.journal.insert(&job(number), move |result| {
            sender.send(result.is_ok()).unwrap();
        });
    }
    drop(sender);
    fixture.journal.close();
    assert_eq!(receiver.iter().filter(|ok| *ok).count(), 100);
    let late = wait(|done| other.insert(&job(200), done));
    assert!(matches!(late, Err(WriteError::Closed)));
}

#[test]
fn the_last_handle_may_live_in_a_callback() {
    let Fixture {
        journal, directory, ..
    } = Fixture::new();
    let handle = journal.clone();
    let (sender, receiver) = mpsc::channel();
    journal.insert(&job(1), move |result| {
        drop(handle);
        sender.send(result.is_ok()).unwrap();
    });
    drop(journal);
    assert!(receiver.recv().unwrap());
    drop(directory);
}

#[test]
fn a_journal_in_use_is_refused() {
    let fixture = Fixture::new();
    let second = Journal::open(&path(fixture.directory.path()));
    let error = second.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
}

#[test]
fn a_damaged_file_is_refused_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(directory.path());
    std::fs::write(&path, "this is not a database, whatever it is ".repeat(100)).unwrap();
    let error = Journal::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("move it away"), "{error}");
}

#[test]
fn a_file_with_a_damaged_page_is_refused() {
    let fixture = Fixture::new();
    for number in 1..=200 {
        fixture.insert(number);
    }
    let Fixture {
        journal,
        reader,
        directory,
    } = fixture;
    journal.close();
    drop(reader);
    let path = path(directory.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4_096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let error = Journal::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[test]
fn a_database_of_another_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(directory.path());
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.pragma_update(None, "user_version", 7).unwrap();
    foreign.execute_batch("CREATE TABLE things (x)").unwrap();
    drop(foreign);
    let error = Journal::open(&path).unwrap_err();
    assert!(error.to_string().contains("another program"), "{error}");
}

#[test]
fn a_journal_of_a_later_release_is_refused() {
    let fixture = Fixture::new();
    let path = path(fixture.directory.path());
    fixture.journal.close();
    let later = rusqlite::Connection::open(&path).unwrap();
    later.pragma_update(None, "user_version", 99).unwrap();
    drop(later);
    let error = Journal::open(&path).unwrap_err();
    assert!(
        matches!(error, OpenError::Newer { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn a_journal_of_the_first_version_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(directory.path());
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../src/migrations/0001_jobs.sql"))
        .unwrap();
    old.pragma_update(None, "application_id", 0x5265_656c)
        .unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    old.execute_batch(
        "INSERT INTO jobs (id, model, width, height, frames, mode, conditioning_frames, prompt, \
         negative_prompt, seed, steps, guidance, fps, created_at_ms, status, attempts) VALUES \
         (zeroblob(16), 'tiny-shapes', 64, 64, 17, 't2v', 0, 'a', '', 1, 20, 2.0, 8, 1, 'queued', 0)",
    )
    .unwrap();
    drop(old);
    let (_journal, reader) = Journal::open(&path).unwrap();
    let [record] = <[_; 1]>::try_from(reader.unfinished().unwrap()).unwrap();
    assert_eq!(record.job.sharing, Sharing::default());
}

#[test]
fn nobody_but_the_owner_reads_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    fixture.insert(1);
    for entry in std::fs::read_dir(fixture.directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.path());
    }
}

#[test]
fn unfinished_jobs_come_in_the_order_of_acceptance_whatever_the_clock_did() {
    let fixture = Fixture::new();
    // Ids are made of the time: this one was turned back in between.
    let ids = [3, 1, 2].map(|number| fixture.insert(number));
    let unfinished = fixture.restart().reader.unfinished().unwrap();
    let found: Vec<_> = unfinished.into_iter().map(|record| record.job.id).collect();
    assert_eq!(found, ids);
}

#[test]
fn a_video_expires_once_and_its_job_is_remembered() {
    let fixture = Fixture::new();
    let [done, running] = [1, 2].map(|number| fixture.insert(number));
    fixture.finish(done, 1, completed()).unwrap();
    let first = fixture.reader.first_to_expire().unwrap();
    let expected = reel_journal::Expiring {
        id: done,
        finished_at_ms: 1_800_000_000_000,
        expires_at_ms: 1_800_000_500_000,
    };
    assert_eq!(first, Some(expected));
    let expire = |id| wait(|done| fixture.journal.expire(id, done));
    expire(done).unwrap();
    assert!(matches!(expire(done), Err(WriteError::Unknown(_))));
    assert!(matches!(expire(running), Err(WriteError::Unknown(_))));
    let record = fixture.get(done);
    assert_eq!(record.status, JobStatus::Expired);
    assert!(record.video.is_some(), "what it was stays known");
    assert_eq!(fixture.reader.first_to_expire().unwrap(), None);
}

#[test]
fn what_ended_long_ago_is_found_unless_its_video_is_kept() {
    let fixture = Fixture::new();
    let [kept, gone, running] = [1, 2, 3].map(|number| fixture.insert(number));
    fixture.finish(kept, 1, completed()).unwrap();
    fixture.finish(gone, 1, failed()).unwrap();
    let _ = running;
    let ended = |at_ms| fixture.reader.ended_before(at_ms, 10).unwrap();
    assert_eq!(ended(1_800_000_000_000), []);
    assert_eq!(ended(1_800_000_000_001), [gone]);
    assert_eq!(fixture.reader.first_end().unwrap(), Some(1_800_000_000_000));
}

fn named(key: &str, digest: u8) -> Idempotency {
    Idempotency {
        key: key.parse().unwrap(),
        digest: [digest; 32],
    }
}

#[test]
fn a_key_stands_for_one_job_of_its_tenant_until_that_is_deleted() {
    let fixture = Fixture::new();
    let insert = |number, idempotency| {
        wait(|done| fixture.journal.insert_once(&job(number), idempotency, done))
    };
    insert(1, named("a", 1)).unwrap();
    let first = job(1).id;
    for (digest, expected) in [(1, true), (2, false)] {
        let again = insert(2, named("a", digest)).unwrap_err();
        assert!(
            matches!(again, WriteError::Repeated { id, same } if id == first && same == expected),
            "{again}"
        );
    }
    assert!(fixture.reader.get(job(2).id).unwrap().is_none());
    let tenant = &job(1).sharing.tenant;
    let keyed = |key: &str| fixture.reader.keyed(tenant, &key.parse().unwrap()).unwrap();
    assert_eq!(keyed("a"), Some((first, [1; 32])));
    assert_eq!(keyed("b"), None);
    wait(|done| fixture.journal.delete(first, done)).unwrap();
    assert_eq!(keyed("a"), None);
    insert(2, named("a", 2)).unwrap();
}

#[test]
fn two_requests_of_one_key_in_one_commit_are_one_job() {
    let fixture = Fixture::new();
    let (sender, receiver) = mpsc::channel();
    for number in 1..=20 {
        let sender = sender.clone();
        let done = move |result| sender.send(result).unwrap();
        let key = named("a", 1);
        fixture.journal.insert_once(&job(number), key, done);
    }
    drop(sender);
    assert_eq!(receiver.iter().filter(Result::is_ok).count(), 1);
}

#[test]
fn a_callback_is_owed_from_the_end_until_it_is_settled() {
    let fixture = Fixture::new();
    let id = fixture.insert(1);
    let owed = |now_ms| fixture.reader.callbacks(now_ms, 9).unwrap();
    assert_eq!(owed(u64::MAX), []);
    assert_eq!(fixture.reader.next_callback(0).unwrap(), None);
    fixture.finish(id, 1, completed()).unwrap();
    let fixture = fixture.restart();
    let next = || fixture.reader.callbacks(u64::MAX, 9).unwrap().pop();
    let owed = next().unwrap();
    assert_eq!((owed.id, owed.tries), (id, 0));
    wait(|done| fixture.journal.delay_callback(id, owed.due_ms + 5, done)).unwrap();
    let later = next().unwrap();
    assert_eq!((later.tries, later.due_ms), (1, owed.due_ms + 5));
    let before = later.due_ms - 1;
    assert_eq!(fixture.reader.callbacks(before, 9).unwrap(), []);
    let due_ms = Some(later.due_ms);
    assert_eq!(fixture.reader.next_callback(before).unwrap(), due_ms);
    assert_eq!(fixture.reader.next_callback(later.due_ms).unwrap(), None);
    wait(|done| fixture.journal.settle_callback(id, done)).unwrap();
    assert_eq!(next(), None);
}

#[test]
fn the_callbacks_of_tenants_take_turns() {
    let fixture = Fixture::new();
    let end = |number: u8, tenant: &str| {
        let mut job = job(number);
        job.sharing.tenant = tenant.parse().unwrap();
        wait(|done| fixture.journal.insert(&job, done)).unwrap();
        fixture.finish(job.id, 1, completed()).unwrap();
    };
    for number in 1..=5 {
        end(number, "a");
    }
    end(6, "b");
    let owed = fixture.reader.callbacks(u64::MAX, 3).unwrap();
    let tenants: Vec<_> = owed.iter().map(|owed| owed.tenant.as_str()).collect();
    assert_eq!(tenants, ["a", "b", "a"]);
}

#[test]
fn each_start_has_a_higher_number() {
    let fixture = Fixture::new();
    let first = fixture.journal.start();
    let fixture = fixture.restart();
    assert_eq!(fixture.journal.start(), first + 1);
}

#[test]
fn a_tenant_lists_its_own_jobs() {
    let fixture = Fixture::new();
    let id = fixture.insert(1);
    let list = |tenant: &str| {
        let tenant = tenant.parse().unwrap();
        let page = fixture
            .reader
            .list(Some(&tenant), None, 10, Order::Descending);
        page.unwrap().records.len()
    };
    assert_eq!(fixture.get(id).job.sharing.tenant.as_str(), "team-a");
    assert_eq!((list("team-a"), list("team-b")), (1, 0));
}

#[test]
fn without_syncing_what_was_answered_for_is_still_there_for_whoever_comes_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(directory.path());
    let (journal, reader) = Journal::open_with(&path, Durability::Off).unwrap();
    let job = job(1);
    wait(|done| journal.insert(&job, done)).unwrap();
    assert_eq!(reader.get(job.id).unwrap().unwrap().job, job);
    journal.close();
    let (_, reader) = Journal::open(&path).unwrap();
    assert_eq!(reader.unfinished().unwrap().len(), 1);
}

#[test]
fn what_waited_for_company_ends_in_the_row_as_if_each_had_gone_alone() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.insert(1), fixture.insert(2));
    let (done, results) = mpsc::channel();
    let mut asked = 0;
    let mut note = || {
        asked += 1;
        let done = done.clone();
        move |result| done.send(result).unwrap()
    };
    // One job that ends at once, and one that an older attempt speaks of behind a newer one.
    let journal = &fixture.journal;
    journal.set_status(second, 2, JobStatus::Encoding, note());
    journal.set_status(second, 1, JobStatus::Queued, note());
    journal.set_status(first, 1, JobStatus::InProgress, note());
    journal.set_status(first, 1, JobStatus::Encoding, note());
    journal.finish(first, 1, completed(), note());
    for _ in 0..asked {
        results.recv().unwrap().unwrap();
    }
    let row = fixture.reader.get(first).unwrap().unwrap();
    assert_eq!((row.status, row.attempts), (JobStatus::Completed, 1));
    assert!(row.started_at_ms.is_some());
    let row = fixture.reader.get(second).unwrap().unwrap();
    assert_eq!((row.status, row.attempts), (JobStatus::Encoding, 2));
}

#[test]
fn a_row_at_hand_goes_with_the_job_and_changes_with_it() {
    let fixture = Fixture::new();
    let id = fixture.insert(1);
    assert!(fixture.reader.get(id).unwrap().is_some());
    assert!(fixture.reader.recent(id).is_none(), "it may still change");
    fixture.finish(id, 1, completed()).unwrap();
    let at_hand = fixture.reader.recent(id).unwrap();
    let other = Reader::clone(&fixture.reader);
    assert_eq!(other.get(id).unwrap().unwrap(), *at_hand);
    wait(|done| fixture.journal.expire(id, done)).unwrap();
    assert!(fixture.reader.recent(id).is_none());
    let row = fixture.reader.get(id).unwrap().unwrap();
    assert_eq!(row.status, JobStatus::Expired);
    assert_eq!(*fixture.reader.recent(id).unwrap(), row, "it was read");
    wait(|done| fixture.journal.delete(id, done)).unwrap();
    assert!(fixture.reader.recent(id).is_none());
    assert!(fixture.reader.get(id).unwrap().is_none());
}
