//! The coordinator's database. A commit is on the disk before anybody hears of it.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::ServerError;

/// One script per format version; the version is `PRAGMA user_version`.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql"), include_str!("artifacts_expiry.sql"), include_str!("bridges.sql")];

/// Opens the database and brings it to the current format.
pub(super) fn open(path: &Path) -> Result<Connection, ServerError> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    migrate(&mut connection)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), ServerError> {
    let transaction = begin(connection)?;
    let found: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > MIGRATIONS.len() {
        return Err(ServerError::TooNew { found, known: MIGRATIONS.len() });
    }
    for script in &MIGRATIONS[found..] {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
    Ok(transaction.commit()?)
}

/// Begins a change. What is not committed has not happened.
pub(super) fn begin(connection: &mut Connection) -> Result<Transaction<'_>, ServerError> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}
