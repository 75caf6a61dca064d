//! The store's database: connections, format version, and how our types are written in it.
//!
//! SQLite in WAL mode, so that several processes read and write at once. Every write is one immediate transaction: the write lock is taken
//! at its start, so what it has read stays true until it ends.

use std::{path::Path, sync::Mutex, time::Duration};

use rusqlite::{
    Connection, ToSql, Transaction, TransactionBehavior,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use crate::{
    digest::{DiffId, Digest, ImageId},
    store::StoreError,
};

const BUSY_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections kept for reuse; more are opened when more threads ask at once.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// One script per format version; the version is `PRAGMA user_version`.
const MIGRATIONS: &[&str] = &[include_str!("db/0001.sql")];

/// Why a store's database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A newer Dockwright wrote it.
    #[error("the store has format {found}, and this version of dockwright knows formats up to {known}")]
    TooNew {
        /// The version in the database.
        found: usize,
        /// The newest version we know.
        known: usize,
    },
    /// SQLite refused.
    #[error("prepare the store's database")]
    Sqlite(#[from] rusqlite::Error),
}

/// A pool of connections to one database.
pub(crate) struct Database {
    path: std::path::PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Connections whose commits may be lost with the machine's power, though not with the process.
    idle_volatile: Mutex<Vec<Connection>>,
}

impl Database {
    /// Opens the database and brings it to the current format.
    pub(crate) fn open(path: &Path) -> Result<Self, FormatError> {
        let mut connection = connect(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        migrate(&mut connection)?;
        Ok(Self { path: path.to_owned(), idle: Mutex::new(vec![connection]), idle_volatile: Mutex::default() })
    }

    /// Runs `work` on a connection, for reading.
    pub(crate) fn read<T>(&self, doing: &'static str, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let connection = self.take(&self.idle, "FULL").map_err(StoreError::sql(doing))?;
        let outcome = work(&connection).map_err(StoreError::sql(doing));
        give_back(&self.idle, connection);
        outcome
    }

    /// Runs `work` in one write transaction; an error rolls it back. When this returns, the change survives a loss of power.
    pub(crate) fn write<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.take(&self.idle, "FULL").map_err(StoreError::sql(doing))?;
        let outcome = in_transaction(&mut connection, doing, work);
        give_back(&self.idle, connection);
        outcome
    }

    /// As [`write`](Self::write), but does not wait for the disk: for what means nothing after a restart, such as leases and times of use.
    pub(crate) fn write_volatile<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.take(&self.idle_volatile, "NORMAL").map_err(StoreError::sql(doing))?;
        let outcome = in_transaction(&mut connection, doing, work);
        give_back(&self.idle_volatile, connection);
        outcome
    }

    fn take(&self, pool: &Mutex<Vec<Connection>>, synchronous: &str) -> rusqlite::Result<Connection> {
        let idle = pool.lock().expect("no holder of this lock panics").pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let connection = connect(&self.path)?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        Ok(connection)
    }
}

fn give_back(pool: &Mutex<Vec<Connection>>, connection: Connection) {
    let mut idle = pool.lock().expect("no holder of this lock panics");
    if idle.len() < IDLE_CONNECTIONS_MAX {
        idle.push(connection);
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    doing: &'static str,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StoreError::sql(doing))?;
    let value = work(&transaction)?;
    transaction.commit().map_err(StoreError::sql(doing))?;
    Ok(value)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), FormatError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: usize = transaction.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).map(|found| found as usize)?;
    let pending = MIGRATIONS.get(found..).ok_or(FormatError::TooNew { found, known: MIGRATIONS.len() })?;
    for script in pending {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    Ok(transaction.commit()?)
}

impl ToSql for Digest {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Digest {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

/// The newtypes are written as the digest they hold.
macro_rules! sql_as_digest {
    ($name:ident) => {
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.0.to_sql()
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                Digest::column_result(value).map(Self)
            }
        }
    };
}

sql_as_digest!(DiffId);
sql_as_digest!(ImageId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_with_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sqlite");
        drop(Database::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Database::open(&path).err().unwrap();
        assert_eq!(error.to_string(), "the store has format 99, and this version of dockwright knows formats up to 1");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("db.sqlite")).unwrap();
        let insert = |transaction: &Transaction<'_>| {
            transaction
                .execute("INSERT INTO repositories (name) VALUES ('a')", [])
                .map_err(|source| StoreError::Database { doing: "test", source })
        };
        let refused: Result<(), _> = database.write("test", |transaction| {
            insert(transaction)?;
            Err(StoreError::Missing { what: "x".to_owned() })
        });
        assert!(refused.is_err());
        let count: i64 = database.read("test", |db| db.query_row("SELECT count(*) FROM repositories", [], |row| row.get(0))).unwrap();
        assert_eq!(count, 0);
    }
}
