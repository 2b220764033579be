-- Where a job comes from, whom its end is told, and the trace that it belongs to.
ALTER TABLE jobs ADD COLUMN origin TEXT;
ALTER TABLE jobs ADD COLUMN origin_id BLOB;
ALTER TABLE jobs ADD COLUMN prior_frames INTEGER;
ALTER TABLE jobs ADD COLUMN callback_url TEXT;
ALTER TABLE jobs ADD COLUMN trace TEXT;
-- How it went.
ALTER TABLE jobs ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN device TEXT;
ALTER TABLE jobs ADD COLUMN queue_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN spawn_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN text_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN denoise_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN decode_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN encode_ms INTEGER NOT NULL DEFAULT 0;
CREATE INDEX jobs_of_tenant ON jobs (tenant, id);

-- Requests that say that they are the same one. A key lives as long as its job.
CREATE TABLE idempotency_keys (
    tenant TEXT NOT NULL,
    key    TEXT NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    job_id BLOB NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_of_job ON idempotency_keys (job_id);

-- Ends of jobs that somebody wants to be told and has not been yet.
CREATE TABLE callbacks (
    job_id BLOB    NOT NULL PRIMARY KEY,
    tries  INTEGER NOT NULL DEFAULT 0,
    due_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX callbacks_due ON callbacks (due_ms);

-- How often this journal was opened: numbers of one run are higher than all of the runs before.
CREATE TABLE starts (count INTEGER NOT NULL) STRICT;
INSERT INTO starts (count) VALUES (0);
