-- When a video is removed; NULL: never. And the order of acceptance, which no clock can turn round.
ALTER TABLE jobs ADD COLUMN expires_at_ms INTEGER;
ALTER TABLE jobs ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
CREATE INDEX jobs_expiring ON jobs (expires_at_ms) WHERE status = 'completed' AND expires_at_ms IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (finished_at_ms) WHERE finished_at_ms IS NOT NULL AND status <> 'completed';
CREATE INDEX jobs_place ON jobs (place);
