-- The job of another pipeline that started this one.
ALTER TABLE pipelines ADD COLUMN bridge_id INTEGER REFERENCES jobs (id) ON DELETE SET NULL;
-- Of a child pipeline. JSON: for each entry of `trigger:include`, the job in whose archive its file is, or null.
ALTER TABLE pipelines ADD COLUMN archives TEXT;
CREATE INDEX pipelines_by_bridge ON pipelines (bridge_id) WHERE bridge_id IS NOT NULL;

-- The job has `trigger`: no runner gets it.
ALTER TABLE jobs ADD COLUMN is_bridge INTEGER NOT NULL DEFAULT 0;
CREATE INDEX bridges_by_status ON jobs (status, id) WHERE is_latest AND is_bridge;
