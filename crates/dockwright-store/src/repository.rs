//! Repositories of the registry: which manifests, tags and blobs each one has.
//!
//! Presence in the store is not permission: a blob is visible in a repository only after a link was made, which happens when a client
//! uploaded the bytes, mounted them from a repository it may read, or pushed an image it may read from the same host.

use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::{
    blob::touch_blob,
    digest::Digest,
    manifest::{Document, media_type},
    store::{Store, StoreError},
};

/// How a manifest is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestReference {
    /// By tag.
    Tag(String),
    /// By digest.
    Digest(Digest),
}

/// A manifest of a repository. Its bytes are the blob of this digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// Its identity.
    pub digest: Digest,
    /// As it was pushed.
    pub media_type: String,
}

/// Why a manifest was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PutManifestError {
    /// It names content that the repository does not have.
    #[error("the manifest refers to content that repository `{repository}` does not have: {}", list(.missing))]
    MissingContent {
        /// The repository.
        repository: String,
        /// What it lacks.
        missing: Vec<Digest>,
    },
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn list(digests: &[Digest]) -> String {
    digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Store {
    /// Makes a blob of the store visible in a repository. False if the store does not have it. The caller has checked the permission.
    pub fn link_blob(&self, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        self.db().write("link a blob", |transaction| link_blob(transaction, repository, digest))
    }

    /// Returns the size of a blob that is visible in a repository.
    pub fn repository_blob(&self, repository: &str, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let size: Option<i64> = self.db().read("look up a blob of a repository", |db| {
            db.prepare_cached(
                "SELECT size FROM repositories JOIN repository_blobs ON repository = id JOIN blobs USING (digest)
                 WHERE name = ?1 AND digest = ?2 AND state = 0",
            )?
            .query_row((repository, digest), |row| row.get(0))
            .optional()
        })?;
        Ok(size.map(i64::cast_unsigned))
    }

    /// Returns the repositories in which a blob is visible.
    pub fn repositories_with_blob(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        self.db().read("look up a blob's repositories", |db| {
            db.prepare_cached("SELECT name FROM repository_blobs JOIN repositories ON repository = id WHERE digest = ?1 ORDER BY name")?
                .query_map([digest], |row| row.get(0))?
                .collect()
        })
    }

    /// Makes a blob invisible in a repository. False if it was not visible.
    pub fn unlink_blob(&self, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        self.change("unlink a blob", "DELETE FROM repository_blobs WHERE repository = ?1 AND digest = ?2", repository, &digest.to_string())
    }

    /// Keeps a manifest in a repository and points tags at it. All it refers to must be visible there, except for its subject and for
    /// layers that are not distributed.
    pub fn put_manifest(&self, repository: &str, document: &Document, tags: &[String]) -> Result<Digest, PutManifestError> {
        const DOING: &str = "put a manifest";
        let digest = self.put_blob(document.raw())?;
        let missing = self.db().write(DOING, |transaction| {
            let failed = StoreError::sql(DOING);
            if !touch_blob(transaction, &digest)? {
                return Err(StoreError::Missing { what: format!("blob {digest}") });
            }
            let missing = missing_content(transaction, repository, document).map_err(&failed)?;
            if missing.is_empty() {
                let id = repository_id(transaction, repository).map_err(&failed)?;
                insert_manifest(transaction, id, document).map_err(&failed)?;
                insert_tags(transaction, id, &digest, tags).map_err(&failed)?;
            }
            Ok(missing)
        })?;
        if !missing.is_empty() {
            return Err(PutManifestError::MissingContent { repository: repository.to_owned(), missing });
        }
        Ok(digest)
    }

    /// Returns a manifest of a repository.
    pub fn manifest(&self, repository: &str, reference: &ManifestReference) -> Result<Option<StoredManifest>, StoreError> {
        let by_tag =
            "SELECT digest, media_type FROM repositories JOIN tags t ON t.repository = id JOIN manifests m USING (repository, digest)
            WHERE name = ?1 AND tag = ?2";
        let by_digest = "SELECT digest, media_type FROM repositories JOIN manifests ON repository = id WHERE name = ?1 AND digest = ?2";
        let (query, key) = match reference {
            ManifestReference::Tag(tag) => (by_tag, tag.clone()),
            ManifestReference::Digest(digest) => (by_digest, digest.to_string()),
        };
        self.db().read("look up a manifest", |db| {
            db.prepare_cached(query)?
                .query_row((repository, key), |row| Ok(StoredManifest { digest: row.get(0)?, media_type: row.get(1)? }))
                .optional()
        })
    }

    /// Returns the manifests of a repository that say something about `subject`.
    pub fn referrers(&self, repository: &str, subject: &Digest) -> Result<Vec<StoredManifest>, StoreError> {
        self.db().read("look up referrers", |db| {
            db.prepare_cached(
                "SELECT digest, media_type FROM repositories JOIN manifests ON repository = id WHERE name = ?1 AND subject = ?2 ORDER BY digest",
            )?
            .query_map((repository, subject), |row| Ok(StoredManifest { digest: row.get(0)?, media_type: row.get(1)? }))?
            .collect()
        })
    }

    /// Removes a manifest and every tag that points to it. False if it was not there.
    pub fn delete_manifest(&self, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        self.change("delete a manifest", "DELETE FROM manifests WHERE repository = ?1 AND digest = ?2", repository, &digest.to_string())
    }

    /// Removes a tag; the manifest stays. False if it was not there.
    pub fn delete_tag(&self, repository: &str, tag: &str) -> Result<bool, StoreError> {
        self.change("delete a tag", "DELETE FROM tags WHERE repository = ?1 AND tag = ?2", repository, tag)
    }

    /// Returns the tags of a repository in bytewise order, or `None` if there is no such repository.
    pub fn tags(&self, repository: &str) -> Result<Option<Vec<String>>, StoreError> {
        self.db().read("list tags", |db| {
            let Some(id) = find_repository(db, repository)? else { return Ok(None) };
            let tags = db
                .prepare_cached("SELECT tag FROM tags WHERE repository = ?1 ORDER BY tag")?
                .query_map([id], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Some(tags))
        })
    }

    /// Returns the names of all repositories that have a manifest, in bytewise order.
    pub fn repositories(&self) -> Result<Vec<String>, StoreError> {
        self.db().read("list repositories", |db| {
            db.prepare_cached("SELECT name FROM repositories WHERE id IN (SELECT repository FROM manifests) ORDER BY name")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }

    /// Runs a deletion in an existing repository. True if it changed anything.
    fn change(&self, doing: &'static str, statement: &str, repository: &str, key: &str) -> Result<bool, StoreError> {
        self.db().write(doing, |transaction| {
            let failed = StoreError::sql(doing);
            let Some(id) = find_repository(transaction, repository).map_err(&failed)? else { return Ok(false) };
            Ok(transaction.execute(statement, (id, key)).map_err(&failed)? > 0)
        })
    }
}

pub(crate) fn link_blob(transaction: &Transaction<'_>, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
    if !touch_blob(transaction, digest)? {
        return Ok(false);
    }
    let insert = || {
        let id = repository_id(transaction, repository)?;
        transaction
            .prepare_cached("INSERT OR REPLACE INTO repository_blobs (repository, digest, linked_at) VALUES (?1, ?2, unixepoch())")?
            .execute((id, digest))
    };
    insert().map_err(StoreError::sql("link a blob"))?;
    Ok(true)
}

fn find_repository(db: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM repositories WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

/// Returns the repository's number, making it if there is none.
fn repository_id(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<i64> {
    transaction.prepare_cached("INSERT OR IGNORE INTO repositories (name) VALUES (?1)")?.execute([name])?;
    Ok(find_repository(transaction, name)?.expect("the repository was just made"))
}

/// What a document needs from its repository: blobs, or other manifests.
fn needs(document: &Document) -> Vec<Digest> {
    match document {
        Document::Manifest(manifest) => {
            let layers = manifest.layers.iter().filter(|layer| !media_type::is_non_distributable(&layer.media_type));
            layers.chain([&manifest.config]).map(|descriptor| descriptor.digest).collect()
        }
        Document::Index(index) => index.manifests.iter().map(|entry| entry.digest).collect(),
    }
}

fn missing_content(transaction: &Transaction<'_>, repository: &str, document: &Document) -> rusqlite::Result<Vec<Digest>> {
    let query = match document {
        Document::Manifest(_) => {
            "SELECT 1 FROM repositories JOIN repository_blobs ON repository = id JOIN blobs USING (digest)
             WHERE name = ?1 AND digest = ?2 AND state = 0"
        }
        Document::Index(_) => "SELECT 1 FROM repositories JOIN manifests ON repository = id WHERE name = ?1 AND digest = ?2",
    };
    let mut statement = transaction.prepare_cached(query)?;
    let mut missing = Vec::new();
    for digest in needs(document) {
        if !statement.exists((repository, digest))? {
            missing.push(digest);
        }
    }
    Ok(missing)
}

fn insert_manifest(transaction: &Transaction<'_>, repository: i64, document: &Document) -> rusqlite::Result<()> {
    let subject = match document {
        Document::Manifest(manifest) => manifest.subject.as_ref(),
        Document::Index(index) => index.subject.as_ref(),
    };
    transaction
        .prepare_cached(
            "INSERT INTO manifests (repository, digest, media_type, subject, pushed_at) VALUES (?1, ?2, ?3, ?4, unixepoch())
             ON CONFLICT DO UPDATE SET media_type = excluded.media_type, pushed_at = excluded.pushed_at",
        )?
        .execute((repository, document.digest(), document.media_type(), subject.map(|subject| subject.digest)))?;
    let mut insert =
        transaction.prepare_cached("INSERT OR IGNORE INTO manifest_refs (repository, manifest, digest) VALUES (?1, ?2, ?3)")?;
    for digest in needs(document) {
        insert.execute((repository, document.digest(), digest))?;
    }
    Ok(())
}

fn insert_tags(transaction: &Transaction<'_>, repository: i64, digest: &Digest, tags: &[String]) -> rusqlite::Result<()> {
    let mut insert =
        transaction.prepare_cached("INSERT OR REPLACE INTO tags (repository, tag, digest, updated_at) VALUES (?1, ?2, ?3, unixepoch())")?;
    for tag in tags {
        insert.execute((repository, tag, digest))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Depth, GcPolicy,
        manifest::{Descriptor, Family, Manifest},
    };

    const NO_GRACE: GcPolicy = GcPolicy { grace_secs: 0, cache_idle_secs: 1000, upload_idle_secs: 1000 };

    fn manifest(content: &[u8]) -> Document {
        Document::Manifest(Manifest::build(
            Family::Docker,
            Descriptor::new(media_type::DOCKER_CONFIG, Digest::of(content), content.len() as u64),
            Vec::new(),
        ))
    }

    #[test]
    fn a_blob_is_visible_only_where_it_was_linked() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let blob = store.put_blob(b"config").unwrap();
        assert!(store.link_blob("a", &blob).unwrap());
        assert!(!store.link_blob("a", &Digest::of(b"absent")).unwrap());
        assert_eq!((store.repository_blob("a", &blob).unwrap(), store.repository_blob("b", &blob).unwrap()), (Some(6), None));
        assert_eq!(store.repositories_with_blob(&blob).unwrap(), ["a"]);
        let error = store.put_manifest("b", &manifest(b"config"), &[]).unwrap_err();
        assert!(matches!(error, PutManifestError::MissingContent { missing, .. } if missing == [blob]));
        assert!(store.unlink_blob("a", &blob).unwrap() && !store.unlink_blob("a", &blob).unwrap());
        assert_eq!(store.repository_blob("a", &blob).unwrap(), None);
    }

    #[test]
    fn tags_follow_their_manifests() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let blob = store.put_blob(b"config").unwrap();
        store.link_blob("a/b", &blob).unwrap();
        let document = manifest(b"config");
        let digest = store.put_manifest("a/b", &document, &["2".to_owned(), "10".to_owned()]).unwrap();
        assert_eq!(store.tags("a/b").unwrap().unwrap(), ["10", "2"]);
        assert_eq!(store.tags("a").unwrap(), None);
        let found = store.manifest("a/b", &ManifestReference::Tag("2".to_owned())).unwrap().unwrap();
        assert_eq!((found.digest, found.media_type.as_str()), (digest, media_type::DOCKER_MANIFEST));
        assert!(store.delete_tag("a/b", "2").unwrap() && !store.delete_tag("a/b", "2").unwrap());
        store.gc(&NO_GRACE).unwrap();
        assert!(store.has_blob(&blob).unwrap() && store.has_blob(&digest).unwrap());
        assert!(store.delete_manifest("a/b", &digest).unwrap());
        assert_eq!(store.tags("a/b").unwrap().unwrap(), Vec::<String>::new());
        assert_eq!(store.gc(&NO_GRACE).unwrap().blobs, 2);
        assert_eq!(store.verify(Depth::Digests).unwrap(), []);
    }
}
