//! The database file: one row per write, the newest row of a key being the object.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, params};

use super::object::{Key, Object};
use super::state::State;

/// In the table of compactions: the revision below which nothing is known of any resource, set by a restore.
const EVERYTHING: &str = "*";

/// How long to wait for a snapshot that holds the database for a moment.
const BUSY: Duration = Duration::from_secs(30);

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS journal (
  revision INTEGER PRIMARY KEY,
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  deleted INTEGER NOT NULL, value BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS journal_key ON journal (resource, namespace, name, revision);
CREATE TABLE IF NOT EXISTS compaction (resource TEXT PRIMARY KEY, revision INTEGER NOT NULL);
";

/// The open database.
pub struct Journal {
    connection: Connection,
}

/// One change, ready to be written.
pub struct Row {
    /// The object after the change.
    pub object: Arc<Object>,
    /// Whether the change removes it.
    pub deleted: bool,
}

impl Journal {
    /// Opens the database and reads all of it.
    pub fn open(path: &Path, history: usize) -> anyhow::Result<(Self, State)> {
        let connection = Connection::open(path).with_context(|| format!("cannot open the store {}", path.display()))?;
        // not locked as a whole: a snapshot reads beside the writer. Other servers are kept out by the store's lock
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -2048)?;
        connection.execute_batch(SCHEMA).with_context(|| format!("cannot use the store {}", path.display()))?;
        let state = load(&connection, history).with_context(|| format!("cannot read the store {}", path.display()))?;
        Ok((Self { connection }, state))
    }

    /// Makes the rows durable in one transaction.
    pub fn append(&mut self, rows: &[Row]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO journal (revision, resource, namespace, name, deleted, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
            for Row { object, deleted } in rows {
                let key = &object.key;
                let revision = i64::try_from(object.revision).unwrap_or(i64::MAX);
                insert.execute(params![
                    revision,
                    &*key.resource,
                    key.namespace,
                    key.name,
                    deleted,
                    &object.json[..]
                ])?;
            }
        }
        transaction.commit()
    }

    /// Forgets versions of the resource's objects that were superseded up to `revision`.
    pub fn compact(&mut self, resource: &str, revision: u64) -> rusqlite::Result<()> {
        let revision = i64::try_from(revision).unwrap_or(i64::MAX);
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "INSERT OR REPLACE INTO compaction (resource, revision) VALUES (?1, ?2)",
            params![resource, revision],
        )?;
        transaction.execute(
            "DELETE FROM journal WHERE resource = ?1 AND revision <= ?2 AND (deleted OR EXISTS (SELECT 1 FROM journal n
               WHERE n.resource = journal.resource AND n.namespace = journal.namespace AND n.name = journal.name AND n.revision > journal.revision))",
            params![resource, revision],
        )?;
        transaction.commit()
    }
}

/// Forgets everything but the live objects, and sets the revision that the next write follows.
pub fn restart(connection: &mut Connection, revision: u64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute(
        "DELETE FROM journal WHERE deleted OR EXISTS (SELECT 1 FROM journal n
           WHERE n.resource = journal.resource AND n.namespace = journal.namespace AND n.name = journal.name AND n.revision > journal.revision)",
        [],
    )?;
    transaction.execute("DELETE FROM compaction", [])?;
    transaction.execute(
        "INSERT INTO compaction (resource, revision) VALUES (?1, ?2)",
        params![EVERYTHING, i64::try_from(revision).unwrap_or(i64::MAX)],
    )?;
    transaction.commit()
}

fn load(connection: &Connection, history: usize) -> anyhow::Result<State> {
    let mut state = State::new(history);
    let mut compactions = connection.prepare("SELECT resource, revision FROM compaction")?;
    let mut rows = compactions.query([])?;
    while let Some(row) = rows.next()? {
        let (resource, revision): (String, i64) = (row.get(0)?, row.get(1)?);
        match resource.as_str() {
            EVERYTHING => state.set_floor(u64::try_from(revision)?),
            resource => state.set_compacted(resource, u64::try_from(revision)?),
        }
    }
    let mut names: HashMap<String, Arc<str>> = HashMap::new();
    let mut journal = connection
        .prepare("SELECT revision, resource, namespace, name, deleted, value FROM journal ORDER BY revision")?;
    let mut rows = journal.query([])?;
    while let Some(row) = rows.next()? {
        let revision = u64::try_from(row.get::<_, i64>(0)?)?;
        let resource: String = row.get(1)?;
        let resource = names.entry(resource).or_insert_with_key(|r| r.as_str().into()).clone();
        let key = Key { resource, namespace: row.get(2)?, name: row.get(3)? };
        let deleted: bool = row.get(4)?;
        let object =
            Object::decode(key, revision, row.get(5)?).with_context(|| format!("row {revision} is damaged"))?;
        let kept = state.kept(&object.key.resource, revision);
        let event = state.apply(Arc::new(object), deleted);
        if kept {
            // compaction asked for here happens again with the next write
            state.remember(event);
        }
    }
    Ok(state)
}
