-- Ids are time-ordered, so the primary key is also the order of creation.
CREATE TABLE jobs (
    id                  BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    model               TEXT    NOT NULL,
    width               INTEGER NOT NULL,
    height              INTEGER NOT NULL,
    frames              INTEGER NOT NULL,
    mode                TEXT    NOT NULL,
    conditioning_frames INTEGER NOT NULL,
    prompt              TEXT    NOT NULL,
    negative_prompt     TEXT    NOT NULL,
    seed                INTEGER NOT NULL,
    steps               INTEGER NOT NULL,
    guidance            REAL    NOT NULL,
    fps                 INTEGER NOT NULL,
    created_at_ms       INTEGER NOT NULL,
    status              TEXT    NOT NULL,
    attempts            INTEGER NOT NULL,
    started_at_ms       INTEGER,
    finished_at_ms      INTEGER,
    failure_code        TEXT,
    failure_message     TEXT,
    video_bytes         INTEGER,
    video_sha256        TEXT,
    CHECK ((failure_code IS NULL) = (failure_message IS NULL)),
    CHECK ((video_bytes IS NULL) = (video_sha256 IS NULL))
) STRICT, WITHOUT ROWID;

-- What a start has to take up again; empty most of the time.
CREATE INDEX jobs_unfinished ON jobs (id) WHERE finished_at_ms IS NULL;
