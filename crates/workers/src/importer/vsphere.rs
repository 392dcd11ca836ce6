//! Disks of VMs in vSphere: with the API alone, or with the user's VDDK.
//!
//! ```text
//! target holds the state already ─────────────────────────────────────────► done, nobody is asked
//! session ─► VM, its UUID, snapshot, disk ─► what to copy ─► method ─► reader ─► job
//!                                            │                         ├ vddk     where there is its library
//!                                            │                         ├ ranges   datastore files over HTTP
//!                                            │                         └ nfc      export lease, a stream
//!                                            ├ round    areas changed since the base (QueryChangedDiskAreas)
//!                                            ├ whole    an empty target
//!                                            └ compare  all is read, what differs is written: tracking was reset,
//!                                                       the target holds another state than the round begins from
//! ```
//!
//! A change is never lost: whatever is not known for certain to be unchanged is read.

mod left;
pub(crate) mod look;
mod machine;
mod method;
mod nfc;
mod ranges;
mod reader;
mod session;
pub(crate) mod vddk;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forklift_api::worker::{ImportSpec, VsphereDisk, WorkerError};
use forklift_disk::changed::{ChangedRange, ChangedRanges};
use forklift_disk::{Error, Job, Outcome, Watch};
use forklift_providers::vsphere::vim::{Client, Endpoint, VimError};

use super::Setup;
use machine::{Machine, Wanted};
use method::Method;
use reader::Reader;
use session::Session;
use vddk::Helper;

/// How long a server that cannot be reached, or is busy, is waited for before a copy begins.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a step is tried that fails for a reason that may pass.
const TRIES: u32 = 3;
/// The first pause before it is asked again, doubled each time.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(20);

/// What a person is told while the copy runs; clones are the same note.
#[derive(Debug, Clone, Default)]
pub(super) struct Note(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    now: String,
    /// How the disk is read, and why so.
    method: Option<(Method, &'static str)>,
    /// The transport that a library chose.
    how: String,
    /// Why the copy is not the usual one.
    reason: String,
}

impl Note {
    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, text: impl Into<String>) {
        self.lock().now = text.into();
    }

    /// Says why the copy takes another way, for as long as it runs.
    fn because(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::warn!(reason, "the copy takes another way");
        let mut told = self.lock();
        if !told.reason.is_empty() {
            told.reason.push_str("; ");
        }
        told.reason.push_str(&reason);
    }

    /// Says in which way the disk is read, and why.
    fn choose(&self, method: Method, why: &'static str) {
        tracing::info!(method = method.name(), why, "the disk is read");
        let mut told = self.lock();
        told.method = Some((method, why));
        told.how.clear();
    }

    /// Says which transport the way came to.
    fn how(&self, transport: String) {
        self.lock().how = transport;
    }

    /// Returns the way in which the disk is read, and why so.
    pub(super) fn method(&self) -> (Option<String>, Option<String>) {
        let told = self.lock();
        match told.method {
            Some((method, why)) => {
                let parts = [why, told.how.as_str(), told.reason.as_str()];
                let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                (Some(method.word().to_owned()), Some(parts.join("; ")).filter(|reason| !reason.is_empty()))
            }
            None => (None, None),
        }
    }

    /// Returns the text; none where nothing was said.
    pub(super) fn text(&self) -> Option<String> {
        let told = self.lock();
        let why = told.method.map_or("", |(_, why)| why);
        let reasons: Vec<&str> = [why, told.reason.as_str()].into_iter().filter(|reason| !reason.is_empty()).collect();
        let reasons = reasons.join("; ");
        match (told.now.is_empty(), reasons.is_empty()) {
            (true, true) => None,
            (false, true) => Some(told.now.clone()),
            (true, false) => Some(reasons),
            (false, false) => Some(format!("{} ({reasons})", told.now)),
        }
    }
}

/// What is copied.
enum What {
    /// All, or what differs from another state that the target holds; what of it was ever written, where that is known.
    Whole(Option<Vec<Range<u64>>>),
    /// What changed since the state that the target holds.
    Round(ChangedRanges),
}

/// Copies the disk; `job` has what does not depend on the source.
pub(super) async fn run(
    spec: &ImportSpec,
    disk: &VsphereDisk,
    mut job: Job,
    setup: &Setup,
    watch: &Watch,
    note: &Note,
) -> Result<Outcome, WorkerError> {
    let told = &spec.options;
    // without change IDs the snapshot itself is the state: another one has to be compared
    job.change_id = told.change_id.clone().or_else(|| told.snapshot.as_ref().map(|id| format!("snapshot {id}")));
    job.source = disk.file.clone().into();
    job.start_over = true;
    job.compare = true;
    let finished = job.clone();
    let finished = tokio::task::spawn_blocking(move || finished.finished()).await.map_err(broken)?;
    if let Some(outcome) = finished.map_err(|error| super::worker_error(&error))? {
        return Ok(outcome);
    }
    let client = patiently(watch, note, || connect(disk, &setup.secret)).await?;
    let left = left::Note::of(spec);
    let following = left.take_over(&client).await;
    let result = copy(spec, disk, job, &client, &setup.vddk, watch, note).await;
    client.logout().await;
    left.forget(following).await;
    result
}

async fn connect(disk: &VsphereDisk, secret: &Path) -> Result<Client, WorkerError> {
    let unreadable = |error: std::io::Error| {
        WorkerError::new(
            "CredentialsMissing",
            format!("{}: {error}", secret.display()),
            "the provider's secret is not mounted",
            false,
        )
    };
    let mut data = BTreeMap::new();
    for entry in std::fs::read_dir(secret).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // Kubernetes keeps the files behind links in hidden folders
        if let (Some(name), true) = (entry.file_name().to_str(), entry.path().is_file()) {
            data.insert(name.to_owned(), std::fs::read(entry.path()).map_err(unreadable)?);
        }
    }
    let mut endpoint = Endpoint::from_secret(&disk.url, &data).map_err(|error| refused(&disk.url, &error))?;
    let own = endpoint.tls.clone();
    if disk.thumbprint.is_some() {
        endpoint.tls.thumbprint.clone_from(&disk.thumbprint);
    }
    let connected = match Client::connect(&endpoint).await {
        // renewed since the order was written: what the secret itself says about it still holds
        Err(error @ VimError::Tls { .. }) if own.thumbprint.is_some() || own.ca_pem.is_some() && !own.insecure => {
            endpoint.tls = own;
            let again = Client::connect(&endpoint).await;
            again.inspect(|_| tracing::warn!(%error, "the server's certificate was renewed")).map_err(|_| error)
        }
        connected => connected,
    };
    connected.map_err(|error| refused(&endpoint.host(), &error))
}

/// Tries again for a while what passes by itself, and a few times what may: one connection that breaks off is no reason
/// to read in another way, or to end.
async fn patiently<T, F>(watch: &Watch, note: &Note, mut step: impl FnMut() -> F) -> Result<T, WorkerError>
where
    F: Future<Output = Result<T, WorkerError>>,
{
    let (began, mut pause) = (Instant::now(), PAUSE);
    let mut tries = 0;
    loop {
        tries += 1;
        match step().await {
            Err(error) if error.retryable && (tries < TRIES || error.code == BUSY && began.elapsed() < PATIENCE) => {
                if watch.cancel().is_cancelled() {
                    return Err(super::worker_error(&Error::Cancelled));
                }
                tracing::warn!(error = error.message, "trying again");
                note.say(format!("waiting: {}", error.message));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
            result => return result,
        }
    }
}

async fn copy(
    spec: &ImportSpec,
    disk: &VsphereDisk,
    job: Job,
    client: &Client,
    helper: &Helper,
    watch: &Watch,
    note: &Note,
) -> Result<Outcome, WorkerError> {
    let told = &spec.options;
    let wanted = Wanted { id: told.snapshot.as_deref(), name: told.snapshot_name.as_deref() };
    let machine = patiently(watch, note, || machine::find(client, disk, wanted)).await?;
    if let (Some(wanted), Some(found)) = (&told.change_id, &machine.change_id)
        && wanted != found
    {
        let text = format!("{}: the snapshot holds the state {found:?}, the order is for {wanted:?}", machine.file());
        return Err(WorkerError::new("SourceChanged", text, "this is a mistake of the controller: report it", false));
    }
    let mut what = patiently(watch, note, || changes(spec, &machine, client, note)).await?;
    let session = Session::new(client.clone());
    let (methods, why) = method::choose(disk, &what)?;
    let last = methods.len() - 1;
    let mut closed: Vec<String> = Vec::new();
    let mut again = false;
    for (number, method) in methods.into_iter().enumerate() {
        note.choose(method, if number == 0 { why } else { "" });
        let reader =
            patiently(watch, note, || Reader::open(method, &machine, (disk, helper), &session, watch, note)).await;
        let reader = match reader {
            Ok(reader) => reader,
            Err(error) if error.code == "Cancelled" => return Err(error),
            Err(mut error) if number == last => {
                // one way that may be open later is enough to try again
                error.retryable |= again;
                closed.push(error.message);
                error.message = closed.join("; ");
                return Err(error);
            }
            Err(error) => {
                again |= error.retryable;
                closed.push(format!("{} cannot be used: {}", method.name(), error.message));
                note.because(closed.last().cloned().unwrap_or_default());
                continue;
            }
        };
        let mut outcome = reader.run(&job, &what, &machine, &session, watch, note).await;
        if let (What::Round(_), Err(error)) = (&what, &outcome)
            && matches!(error, Error::BaseMismatch { .. } | Error::TargetChanged { .. } | Error::SourceChanged { .. })
        {
            // neither the areas nor the digests can be relied on
            note.because(format!("all of the disk is compared: {}", error.chain()));
            what = What::Whole(written(&machine, client).await);
            outcome = reader.run(&job, &what, &machine, &session, watch, note).await;
        }
        reader.end(outcome.is_ok()).await;
        return outcome.map_err(|error| super::worker_error(&error));
    }
    Err(WorkerError::new(
        "UnsupportedSource",
        format!("{}: there is no way to read it", machine.file()),
        "report this",
        false,
    ))
}

/// Asks what changed since the state that the order builds on.
async fn changes(spec: &ImportSpec, machine: &Machine, client: &Client, note: &Note) -> Result<What, WorkerError> {
    let told = &spec.options;
    let Some(base) = &told.base_change_id else {
        return Ok(What::Whole(written(machine, client).await));
    };
    let compare = async |reason: String| {
        note.because(format!("all of the disk is compared: {reason}"));
        Ok(What::Whole(written(machine, client).await))
    };
    let Some(change_id) = told.change_id.as_ref().or(machine.change_id.as_ref()) else {
        return compare("the snapshot has no change ID, changes are not tracked".into()).await;
    };
    // the part before the slash is another one after a reset
    let uuid = |id: &str| id.rsplit_once('/').map_or(id, |(uuid, _)| uuid).to_owned();
    if uuid(base) != uuid(change_id) {
        return compare(format!("change tracking was reset between {base:?} and {change_id:?}")).await;
    }
    let areas = client.changed_areas(&machine.vm, machine.snapshot.as_ref(), machine.key, machine.capacity, base).await;
    match areas {
        Ok(areas) => {
            let ranges = areas.into_iter().map(|(start, length)| ChangedRange { start, length }).collect();
            let (base_change_id, change_id) = (base.clone(), change_id.clone());
            Ok(What::Round(ChangedRanges { base_change_id, change_id, size: Some(machine.capacity), ranges }))
        }
        // the host knows nothing of the base any more: FileFault, NotFound, InvalidArgument of the change ID
        Err(error @ (VimError::Fault(_) | VimError::Malformed { .. })) if !error.is_transient() => {
            compare(format!("the changes since {base:?} are not known: {error}")).await
        }
        Err(error) => Err(refused(machine.file(), &error)),
    }
}

/// Returns what of the disk was ever written, where change tracking knows it.
async fn written(machine: &Machine, client: &Client) -> Option<Vec<Range<u64>>> {
    machine.change_id.as_ref()?;
    let areas = client.changed_areas(&machine.vm, machine.snapshot.as_ref(), machine.key, machine.capacity, "*").await;
    match areas {
        Ok(areas) => Some(ranges::ranges(&areas)),
        Err(error) => {
            tracing::info!(%error, "change tracking does not know what was never written");
            None
        }
    }
}

/// The code of errors that pass by themselves.
const BUSY: &str = "SourceBusy";

/// Returns the error of a call on `what`.
fn refused(what: &str, error: &VimError) -> WorkerError {
    let (code, hint) = match error {
        VimError::InvalidLogin(_) => (
            "LoginFailed",
            "correct user and password in the secret of the provider, or of the Host where there is one",
        ),
        VimError::Tls { .. } => {
            ("CertificateInvalid", "see the conditions of the provider, or of the Host where there is one")
        }
        error if error.is_transient() => (BUSY, "the copy goes on when the server answers"),
        error if error.is_fault("NoPermission") => {
            ("NoPermission", "give the provider's user the privileges of a copy")
        }
        _ => ("SourceUnreadable", "see the events of the VM in vSphere"),
    };
    WorkerError::new(code, format!("{what}: {error}"), hint, code == BUSY)
}

fn broken(error: tokio::task::JoinError) -> WorkerError {
    WorkerError::new("Internal", format!("the copy broke off: {error}"), "", true)
}
