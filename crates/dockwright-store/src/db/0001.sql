-- Digests are kept as text (`sha256:…`): a store can then be examined with any SQLite client.
-- `state`: 0 there, 1 being collected (invisible to readers; its files may already be gone).
-- `used_at`: seconds since 1970 of the last write or reference; collection leaves what is younger than its grace period.

CREATE TABLE blobs (
    digest  TEXT PRIMARY KEY,
    size    INTEGER NOT NULL,
    state   INTEGER NOT NULL DEFAULT 0,
    used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE layers (
    diff_id TEXT PRIMARY KEY,
    size    INTEGER NOT NULL,          -- of the uncompressed tar
    state   INTEGER NOT NULL DEFAULT 0,
    used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Compressed forms of layers. A row may outlive either side; readers join with `blobs`.
CREATE TABLE layer_blobs (
    diff_id    TEXT NOT NULL,
    blob       TEXT NOT NULL,
    media_type TEXT NOT NULL,
    PRIMARY KEY (diff_id, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX layer_blobs_by_blob ON layer_blobs (blob);

CREATE TABLE images (
    image   TEXT PRIMARY KEY,
    size    INTEGER NOT NULL,
    used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE image_layers (
    image    TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id  TEXT NOT NULL,
    PRIMARY KEY (image, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_layers_by_layer ON image_layers (diff_id);

CREATE TABLE names (
    name  TEXT PRIMARY KEY,
    image TEXT NOT NULL REFERENCES images
) STRICT, WITHOUT ROWID;

-- `kind` here and in cache_refs: 0 blob, 1 layer, 2 image. `owner` names the lock file of a process.
CREATE TABLE leases (
    owner  TEXT NOT NULL,
    lease  INTEGER NOT NULL,
    kind   INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (owner, lease, kind, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE cache (
    scope   TEXT NOT NULL,
    key     TEXT NOT NULL,
    value   BLOB NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE cache_refs (
    scope  TEXT NOT NULL,
    key    TEXT NOT NULL,
    kind   INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (scope, key, kind, digest),
    FOREIGN KEY (scope, key) REFERENCES cache ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The registry. A blob is visible in a repository only through `repository_blobs`.
CREATE TABLE repositories (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE repository_blobs (
    repository INTEGER NOT NULL REFERENCES repositories ON DELETE CASCADE,
    digest     TEXT NOT NULL,
    linked_at  INTEGER NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest);

CREATE TABLE manifests (
    repository INTEGER NOT NULL REFERENCES repositories ON DELETE CASCADE,
    digest     TEXT NOT NULL,
    media_type TEXT NOT NULL,
    subject    TEXT,
    pushed_at  INTEGER NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;

-- What a manifest needs: blobs, and other manifests of the same repository.
CREATE TABLE manifest_refs (
    repository INTEGER NOT NULL,
    manifest   TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (repository, manifest, digest),
    FOREIGN KEY (repository, manifest) REFERENCES manifests ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE tags (
    repository INTEGER NOT NULL,
    tag        TEXT NOT NULL,
    digest     TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (repository, tag),
    FOREIGN KEY (repository, digest) REFERENCES manifests ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE uploads (
    upload     TEXT PRIMARY KEY,
    repository TEXT NOT NULL,
    principal  TEXT NOT NULL,
    touched_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
