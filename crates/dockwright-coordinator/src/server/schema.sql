CREATE TABLE projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL UNIQUE,
    repository TEXT NOT NULL,
    created_at TEXT NOT NULL
);

-- The state of refs at the last look, for those who watch them.
CREATE TABLE seen_refs (
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    sha TEXT NOT NULL,
    PRIMARY KEY (project_id, name)
);

CREATE TABLE runners (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- SHA-256: whoever reads the database does not become a runner.
    token_digest TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    tags TEXT NOT NULL,
    run_untagged INTEGER NOT NULL,
    locked INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    ref_protected INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    contacted_at TEXT
);

CREATE TABLE pipelines (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    iid INTEGER NOT NULL,
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    ref TEXT NOT NULL,
    is_tag INTEGER NOT NULL,
    sha TEXT NOT NULL,
    before_sha TEXT,
    default_branch TEXT NOT NULL,
    source TEXT NOT NULL,
    -- JSON: what the pipeline was started with.
    variables TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    finished_at TEXT
);

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline_id INTEGER NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    -- Place in the evaluated pipeline; a retry keeps it.
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    stage TEXT NOT NULL,
    tags TEXT NOT NULL,
    status TEXT NOT NULL,
    is_latest INTEGER NOT NULL DEFAULT 1,
    tries INTEGER NOT NULL DEFAULT 1,
    is_allowed_to_fail INTEGER NOT NULL DEFAULT 0,
    is_canceling INTEGER NOT NULL DEFAULT 0,
    -- Payloads of later jobs hold it, so it is kept as it is.
    token TEXT NOT NULL,
    runner_id INTEGER,
    -- A runner that was given the job has said that it has it.
    is_acknowledged INTEGER NOT NULL DEFAULT 0,
    cancels_gracefully INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    queued_at TEXT,
    -- When a delayed job is to be started.
    due_at TEXT,
    started_at TEXT,
    finished_at TEXT,
    failure_reason TEXT,
    exit_code INTEGER
);
CREATE INDEX jobs_by_pipeline ON jobs (pipeline_id, position);
CREATE INDEX jobs_by_status ON jobs (status, id) WHERE is_latest;

CREATE TABLE artifacts (
    job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    type TEXT NOT NULL,
    filename TEXT NOT NULL,
    format TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (job_id, type)
);
