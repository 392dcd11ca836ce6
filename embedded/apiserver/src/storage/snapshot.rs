//! Snapshots: the whole store at one revision in one file, taken while the server runs, and a store made from one.
//!
//! A snapshot is an SQLite database with the store's tables and a table `snapshot` that says what it holds, with a
//! digest over every row. A restored store starts at a revision far above that of the snapshot, and knows nothing of
//! what happened before: a client that saw revisions which the snapshot does not have cannot mistake later ones for
//! them, and its watches end with 410, upon which it lists again. (etcd: `snapshot restore --bump-revision
//! --mark-compacted`, <https://etcd.io/docs/v3.6/op-guide/recovery/#restoring-with-revision-bump>.)

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rusqlite::{Connection, OpenFlags, params};
use sha2::{Digest as _, Sha256};

use super::{FILE, journal, lock};

/// By how much a restored store's revision is above the snapshot's; more writes than a server makes in the time that
/// clients may remember.
const BUMP: u64 = 1_000_000_000;

/// Form of the file; another number is refused.
const FORM: i64 = 1;

const BUSY: Duration = Duration::from_secs(30);

/// What a snapshot holds, or a restored store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The newest revision in it; for a restored store the one that the next write follows.
    pub revision: u64,
    /// Number of live objects.
    pub objects: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Writes the store in the data directory `dir` to `file`, as it is at one moment; the server may be running. The file
/// is there whole or not at all, readable by this user only. It holds every object, secrets too, but neither keys nor
/// tokens of the server. An existing file is not touched.
pub fn snapshot(dir: &Path, file: &Path) -> anyhow::Result<Snapshot> {
    let store = dir.join(FILE);
    ensure!(store.is_file(), "there is no store in {}: name the data directory of an API server", dir.display());
    ensure!(!file.exists(), "{} exists already: choose another name", file.display());
    let part = part_of(file);
    let taken = take(&store, &part).with_context(|| format!("cannot take a snapshot of {}", store.display()));
    let taken = taken.and_then(|taken| put_in_place(&part, file).map(|()| taken));
    if taken.is_err() {
        // what is left of it is of no use; the error tells why
        let _ = std::fs::remove_file(&part);
    }
    taken
}

fn take(store: &Path, part: &Path) -> anyhow::Result<Snapshot> {
    // SQLite writes into an existing file only while it is empty; made here, it is private from the start
    private(part)?;
    let source = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    source.busy_timeout(BUSY)?;
    source.execute("VACUUM INTO ?1", [text(part)?]).context("cannot copy the database")?;
    drop(source);
    let copy = Connection::open_with_flags(part, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    copy.execute_batch(
        "CREATE TABLE snapshot (form INTEGER NOT NULL, revision INTEGER NOT NULL, objects INTEGER NOT NULL, digest TEXT NOT NULL)",
    )?;
    let (revision, objects, digest) = (newest(&copy)?, live(&copy)?, digest(&copy)?);
    copy.execute(
        "INSERT INTO snapshot (form, revision, objects, digest) VALUES (?1, ?2, ?3, ?4)",
        params![FORM, i64::try_from(revision)?, i64::try_from(objects)?, digest],
    )?;
    copy.close().map_err(|(_, error)| error)?;
    File::open(part)?.sync_all().context("cannot make the file durable")?;
    Ok(Snapshot { revision, objects, bytes: std::fs::metadata(part)?.len() })
}

/// Makes the store of the data directory `dir`, which may not have one yet, from the snapshot in `file`. Its revision
/// starts at the snapshot's plus a thousand million. A server may not be running on the directory.
pub fn restore(file: &Path, dir: &Path) -> anyhow::Result<Snapshot> {
    let found = check(file).with_context(|| format!("cannot restore {}", file.display()))?;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
    let store = dir.join(FILE);
    let _lock = lock::take(&store)?;
    for there in [store.clone(), store.with_extension("db-wal")] {
        ensure!(
            !there.exists(),
            "{} has a store already: choose an empty directory, or move {} and its companions away first",
            dir.display(),
            there.display()
        );
    }
    let part = part_of(&store);
    private(&part)?;
    // not `fs::copy`, which would give the copy the snapshot's mode
    let copied = || std::io::copy(&mut File::open(file)?, &mut OpenOptions::new().write(true).open(&part)?);
    copied().with_context(|| format!("cannot copy {} to {}", file.display(), part.display()))?;
    let revision = found.revision + BUMP;
    let mut copy = Connection::open_with_flags(&part, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    copy.execute_batch("DROP TABLE snapshot")?;
    journal::restart(&mut copy, revision).context("cannot set the revision of the restored store")?;
    copy.close().map_err(|(_, error)| error)?;
    File::open(&part)?.sync_all().context("cannot make the store durable")?;
    put_in_place(&part, &store)?;
    Ok(Snapshot { revision, bytes: std::fs::metadata(&store)?.len(), ..found })
}

/// Reads all of a snapshot and says what it holds.
fn check(file: &Path) -> anyhow::Result<Snapshot> {
    let bytes = std::fs::metadata(file)?.len();
    let open = || -> rusqlite::Result<(Connection, (i64, i64, i64, String))> {
        let copy = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let row = copy.query_row("SELECT form, revision, objects, digest FROM snapshot", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        Ok((copy, row))
    };
    let (copy, (form, revision, objects, wanted)) = open()
        // SQLite's words about a file that is none of its own help nobody
        .map_err(|_| anyhow::anyhow!("it is not a snapshot of a store, or damaged"))?;
    ensure!(form == FORM, "its form is {form}, and this program knows {FORM}: use the program that made it");
    let read = |what: &str| format!("it is damaged: {what}");
    let faults: String =
        copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).with_context(|| read("its pages"))?;
    if faults != "ok" {
        bail!(read(&faults));
    }
    ensure!(
        digest(&copy).with_context(|| read("its rows"))? == wanted,
        read("its rows are not those that were written")
    );
    Ok(Snapshot { revision: u64::try_from(revision)?, objects: u64::try_from(objects)?, bytes })
}

/// SHA-256 over all rows of the store's tables, hexadecimal.
fn digest(connection: &Connection) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let mut rows = connection
        .prepare("SELECT revision, resource, namespace, name, deleted, value FROM journal ORDER BY revision")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        field(&row.get::<_, i64>(0)?.to_le_bytes());
        for column in 1..=3 {
            field(row.get_ref(column)?.as_str()?.as_bytes());
        }
        field(&row.get::<_, i64>(4)?.to_le_bytes());
        field(row.get_ref(5)?.as_blob()?);
    }
    let mut rows = connection.prepare("SELECT resource, revision FROM compaction ORDER BY resource")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        field(row.get_ref(0)?.as_str()?.as_bytes());
        field(&row.get::<_, i64>(1)?.to_le_bytes());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn newest(connection: &Connection) -> anyhow::Result<u64> {
    let newest: i64 = connection.query_row(
        "SELECT max(coalesce((SELECT max(revision) FROM journal), 0), coalesce((SELECT max(revision) FROM compaction), 0))",
        [],
        |row| row.get(0),
    )?;
    Ok(u64::try_from(newest)?)
}

fn live(connection: &Connection) -> anyhow::Result<u64> {
    let live: i64 = connection.query_row(
        "SELECT count(*) FROM (SELECT deleted, max(revision) FROM journal GROUP BY resource, namespace, name) WHERE NOT deleted",
        [],
        |row| row.get(0),
    )?;
    Ok(u64::try_from(live)?)
}

/// The name under which a file is made before it is whole; one that a crash left is replaced.
fn part_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    file.with_file_name(name)
}

/// An empty file that only this user may read.
fn private(path: &Path) -> anyhow::Result<()> {
    for left in ["", "-journal"] {
        let mut name = path.as_os_str().to_os_string();
        name.push(left);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", Path::new(&name).display()));
            }
            _ => {}
        }
    }
    let made = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    made.map(drop).with_context(|| format!("cannot make {}", path.display()))
}

/// Gives a whole file its name, durably; a file that came there meanwhile is not replaced.
fn put_in_place(part: &Path, file: &Path) -> anyhow::Result<()> {
    let place = || -> std::io::Result<()> {
        match std::fs::hard_link(part, file) {
            Ok(()) => std::fs::remove_file(part)?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(error),
            // a file system without links
            Err(_) => std::fs::rename(part, file)?,
        }
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    place().with_context(|| format!("cannot write {}", file.display()))
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))
}
