-- Whose a job is, how urgent, and whether it is computed by itself.
ALTER TABLE jobs ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
ALTER TABLE jobs ADD COLUMN priority TEXT NOT NULL DEFAULT 'interactive';
ALTER TABLE jobs ADD COLUMN alone INTEGER NOT NULL DEFAULT 0;
