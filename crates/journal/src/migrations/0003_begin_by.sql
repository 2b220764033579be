-- When a job must have begun; NULL: it may wait for ever.
ALTER TABLE jobs ADD COLUMN begin_by_ms INTEGER;
