-- When artifacts are erased, and that they were. Their rows stay: a job that needs them has to learn it.
ALTER TABLE artifacts ADD COLUMN expires_at TEXT;
ALTER TABLE artifacts ADD COLUMN is_erased INTEGER NOT NULL DEFAULT 0;
