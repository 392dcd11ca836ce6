//! The records of the last run, on disk for a fast start.
//!
//! ```text
//! forklift-inventory 1 <type> <uid> <seconds since 1970>⏎
//! gzip of lines:  facts ⏎  record ⏎ …  {"end": <number of records>} ⏎
//! ```
//! A file is written beside the old one and takes its place when it is whole and
//! durable: a crash at any moment leaves one or the other. Nothing depends on it: a
//! file that is damaged, of another version or of another provider is told in the
//! log and left alone until the next one replaces it. The source is always read
//! anew; until then the records are shown as what they are (`Store::restored`).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::{Draft, Inventory, Record, Store, Verdict};

const MAGIC: &str = "forklift-inventory";
/// Raised with each change of the format; other versions are not read.
const VERSION: u32 = 1;
/// A line that is longer is damage.
const LONGEST: u64 = 64 * 1024 * 1024;

/// One record's line.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    kind: std::borrow::Cow<'a, str>,
    id: String,
    name: String,
    path: String,
    revision: u64,
    seen: u64,
    policy: i64,
    concerns: Vec<Value>,
    #[serde(borrow)]
    it: &'a RawValue,
}

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// Writes a store's records; returns how many.
pub(crate) fn save(store: &Store, file: &Path) -> io::Result<usize> {
    let fresh = file.with_extension("new");
    // what a killed program left there may have another mode
    let _ = std::fs::remove_file(&fresh);
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let mut out = BufWriter::new(opened);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    writeln!(out, "{MAGIC} {VERSION} {} {} {now}", store.spec().provider_type, store.provider_uid())?;
    let mut out = GzEncoder::new(out, Compression::fast());
    writeln!(out, "{}", Value::Object(store.all_facts()))?;
    let mut count = 0;
    for kind in store.spec().kinds.iter().filter(|kind| kind.restore.is_some()) {
        for record in store.list(kind.name).iter() {
            let Some(it) = record.resource().save().and_then(|text| RawValue::from_string(text).ok()) else {
                continue;
            };
            let line = Line {
                kind: kind.name.into(),
                id: record.id.to_string(),
                name: record.name.to_string(),
                path: record.path.to_string(),
                revision: record.revision,
                seen: record.verdict.revision,
                policy: record.verdict.policy_version,
                concerns: record.verdict.concerns.to_vec(),
                it: &it,
            };
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?;
            count += 1;
        }
    }
    writeln!(out, "{{\"end\":{count}}}")?;
    let written = out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    written.sync_all()?;
    std::fs::rename(&fresh, file)?;
    // the name is durable when its folder is
    if let Some(folder) = file.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(count)
}

/// Reads a file into a store that has no records yet; returns how many there were.
pub(crate) fn load(store: &Store, file: &Path) -> io::Result<usize> {
    let mut input = BufReader::new(File::open(file)?);
    let mut line = String::new();
    io::Read::take(&mut input, 1024).read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_default();
    if word() != MAGIC {
        return Err(bad("it is no inventory"));
    }
    if word() != VERSION.to_string() {
        return Err(bad("it is of another version"));
    }
    if word() != store.spec().provider_type || word() != store.provider_uid() {
        return Err(bad("it is another provider's"));
    }
    let taken = word().parse().map_err(|_| bad("its time cannot be read"))?;
    let taken = SystemTime::UNIX_EPOCH + Duration::from_secs(taken);

    let mut input = BufReader::with_capacity(256 * 1024, GzDecoder::new(input));
    let next = |input: &mut BufReader<GzDecoder<BufReader<File>>>, line: &mut String| {
        line.clear();
        let length = io::Read::take(&mut *input, LONGEST).read_line(line)?;
        if length == 0 || !line.ends_with('\n') { Err(bad("it ends in the middle")) } else { Ok(()) }
    };
    next(&mut input, &mut line)?;
    let facts: Map<String, Value> = serde_json::from_str(&line)?;
    let mut records = Vec::new();
    loop {
        next(&mut input, &mut line)?;
        if let Some(count) = line.strip_prefix("{\"end\":") {
            if count.trim_end().trim_end_matches('}') != records.len().to_string() {
                return Err(bad("records are missing"));
            }
            break;
        }
        let line: Line<'_> = serde_json::from_str(&line)?;
        let Some(kind) = store.spec().kind(&line.kind) else { continue };
        let restored = kind.restore.and_then(|restore| restore(line.it.get()));
        let Some(resource) = restored else { return Err(bad("a record cannot be read")) };
        let draft = Draft { id: line.id, name: line.name, path: line.path, resource };
        let verdict = Verdict {
            revision: line.seen,
            policy_version: line.policy,
            concerns: store.shared_concerns(line.concerns),
        };
        records.push((kind.name, Record::new(draft, line.revision).with_verdict(verdict)));
    }
    // reads the checksum too
    line.clear();
    if input.read_line(&mut line)? > 0 {
        return Err(bad("something follows its end"));
    }
    let count = records.len();
    store.restore(taken, records, facts);
    Ok(count)
}

/// A folder with a file for each provider.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// What was written last, by provider: the store's version.
    written: Mutex<HashMap<String, String>>,
}

impl Folder {
    pub fn new(path: PathBuf) -> Self {
        Self { path, written: Mutex::default() }
    }

    fn file(&self, uid: &str) -> Option<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (!uid.is_empty() && uid.chars().all(plain)).then(|| self.path.join(format!("{uid}.inventory")))
    }

    /// Fills an empty store with what is known of its provider. Blocks.
    pub fn load(&self, store: &Store) {
        let Some(file) = self.file(store.provider_uid()) else { return };
        match load(store, &file) {
            Ok(records) => tracing::info!(provider = store.provider_uid(), records, "known from the last run"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the last run's inventory is not used");
            }
        }
    }

    /// Writes a store's records if they are current and not written yet. Blocks.
    pub fn save(&self, store: &Store) {
        let (uid, version) = (store.provider_uid(), store.version());
        let Some(file) = self.file(uid).filter(|_| store.has_parity()) else { return };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.get(uid) == Some(&version) {
            return;
        }
        let made = std::fs::create_dir_all(&self.path).and_then(|()| save(store, &file));
        match made {
            Ok(records) => {
                tracing::debug!(provider = uid, records, "kept for the next run");
                written.insert(uid.to_owned(), version);
            }
            Err(error) => tracing::warn!(file = %file.display(), %error, "the inventory cannot be kept"),
        }
    }

    /// Removes what is kept of a provider.
    pub fn forget(&self, uid: &str) {
        if let Some(file) = self.file(uid) {
            // mostly there is none
            let _ = std::fs::remove_file(file);
        }
    }
}

/// How often changed inventories are written. The source is read anew at the start, so that an older one does as well.
const EVERY: Duration = Duration::from_secs(600);

impl Inventory {
    /// Writes each provider's records soon after they are loaded and every ten
    /// minutes while they change, until the inventory is dropped.
    pub(crate) fn write_now_and_then(&self) {
        let weak = self.downgrade();
        tokio::spawn(async move {
            // the first time soon, so that a run of a minute leaves something
            let mut wait = Duration::from_secs(15);
            loop {
                tokio::time::sleep(wait).await;
                let Some(inventory) = weak.upgrade() else { return };
                let all = inventory.list();
                let unwritten = all.iter().any(|entry| !entry.store().has_parity());
                inventory.save().await;
                wait = if unwritten { Duration::from_secs(15) } else { EVERY };
            }
        });
    }

    /// Writes each provider's records if they are current and not written yet; for the end of the program.
    pub async fn save(&self) {
        let Some(folder) = self.folder() else { return };
        let stores: Vec<Arc<Store>> = self.list().iter().map(|entry| entry.store().clone()).collect();
        let done = tokio::task::spawn_blocking(move || stores.iter().for_each(|store| folder.save(store)));
        if let Err(error) = done.await {
            tracing::error!(%error, "writing the inventory panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Json, KindSpec, ProviderSpec, Rules, Writer, restore};
    use serde_json::json;

    static SPEC: ProviderSpec = ProviderSpec {
        provider_type: "test",
        kinds: &[
            KindSpec { name: "vms", validated: true, restore: Some(restore::<Json>), ..KindSpec::PLAIN },
            KindSpec { name: "live", ..KindSpec::PLAIN },
        ],
        workloads: Some("vms"),
        ..ProviderSpec::PLAIN
    };

    struct One;
    impl Rules for One {
        fn version(&self, _: &str) -> i64 {
            3
        }
        fn concerns(&self, _: &str, _: &Value) -> Result<Vec<Value>, String> {
            Ok(vec![json!({"id": "c"})])
        }
    }

    fn draft(id: &str, name: &str) -> Draft {
        Draft::new(id, name, "/p", Json(json!({"id": id, "name": name, "revision": 0})))
    }

    async fn filled() -> Writer {
        let writer = Writer::new(Arc::new(Store::new(&SPEC, "u-1")), Some(Arc::new(One)));
        for (id, name) in [("1", "a"), ("2", "b"), ("2", "bb"), ("3", "c")] {
            writer.upsert("vms", draft(id, name));
        }
        writer.upsert("live", draft("1", "not kept"));
        writer.facts(vec![("product", "vCenter".into())]);
        writer.loaded();
        for id in ["1", "2", "3"] {
            writer.store().settled("vms", id, Duration::from_secs(20)).await.expect("stored");
        }
        writer
    }

    fn told(store: &Store) -> Vec<String> {
        let line = |r: &Arc<Record>| format!("{} {} {} {:?}", r.id, r.name, r.revision, r.verdict);
        store.list("vms").iter().map(line).collect()
    }

    #[tokio::test]
    async fn records_of_the_last_run_are_known_until_the_source_says_otherwise() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let kept = Folder::new(folder.path().join("inventory"));
        let old = filled().await;
        kept.save(old.store());

        let writer = Writer::new(Arc::new(Store::new(&SPEC, "u-1")), Some(Arc::new(One)));
        let store = writer.store().clone();
        kept.load(&store);
        assert_eq!(told(&store), told(old.store()));
        assert_eq!((store.count("live"), store.has_parity(), store.restored().is_some()), (0, false, true));
        assert_eq!(store.fact("product"), Some("vCenter".into()));
        let (one, two) = (store.get("vms", "1").expect("known"), store.get("vms", "2").expect("known"));
        assert!(Arc::ptr_eq(&one.verdict.concerns, &two.verdict.concerns));

        // the same, changed, gone, new
        writer.upsert("vms", draft("1", "a"));
        writer.upsert("vms", draft("2", "bbb"));
        writer.upsert("vms", draft("4", "d"));
        assert_eq!(store.count("vms"), 4, "nothing is missing while the source is read");
        writer.loaded();
        let names: Vec<(String, u64)> = store.list("vms").iter().map(|r| (r.name.to_string(), r.revision)).collect();
        assert_eq!(names, [("a".to_owned(), 1), ("bbb".to_owned(), 3), ("d".to_owned(), 1)]);
        assert_eq!((store.has_parity(), store.restored()), (true, None));

        kept.forget("u-1");
        let empty = Store::new(&SPEC, "u-1");
        kept.load(&empty);
        assert_eq!((empty.count("vms"), empty.restored()), (0, None));
    }

    #[tokio::test]
    async fn a_damaged_file_is_not_used() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("u-1.inventory");
        let old = filled().await;
        assert_eq!(save(old.store(), &file).expect("written"), 3);
        let whole = std::fs::read(&file).expect("readable");
        let header = whole.iter().position(|byte| *byte == b'\n').expect("a header") + 1;
        let refused = |bytes: &[u8]| {
            std::fs::write(&file, bytes).expect("writable");
            let store = Store::new(&SPEC, "u-1");
            let error = load(&store, &file).err().map(|error| error.to_string());
            assert!(error.is_none() || (store.count("vms") == 0 && store.restored().is_none()), "half a file is used");
            error
        };
        assert_eq!(refused(&whole), None);
        for length in 0..whole.len() {
            assert!(refused(whole.get(..length).expect("shorter")).is_some(), "cut at {length}");
        }
        let mut flipped = 0;
        for at in header..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            // bytes of gzip's own header that mean nothing to it (time, system) may be anything
            flipped += usize::from(refused(&bytes).is_some());
        }
        assert!(flipped + 8 >= whole.len() - header, "{flipped} of {}", whole.len() - header);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let changed = |from: &str, to: &str| {
            let header = text(whole.get(..header).expect("a header")).replace(from, to);
            [header.as_bytes(), whole.get(header.len()..).unwrap_or_default()].concat()
        };
        assert_eq!(refused(&changed("inventory 1", "inventory 2")).as_deref(), Some("it is of another version"));
        assert_eq!(refused(&changed("u-1", "u-2")).as_deref(), Some("it is another provider's"));
        // a file that was being written when the program was killed
        std::fs::write(file.with_extension("new"), b"half").expect("writable");
        assert_eq!(save(old.store(), &file).expect("written"), 3);
        assert!(!file.with_extension("new").exists());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
