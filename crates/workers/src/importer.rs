//! `worker importer`: copies one disk into a volume, verifies it and leaves its manifest.
//!
//! ```text
//! FORKLIFT_IMPORT ─► job ─► copy ─► verify ─► manifest ─► termination message, exit 0
//!                     │                                   error: termination message,
//!                GET /progress                            exit 1 (may work later) or 3 (will not)
//! ```
//!
//! The volume holds all state: `disk.img.chunks` while a copy runs, `disk.img.manifest.json` once it
//! is verified. A run that is killed is gone on with; a run after a finished one ends at once. A
//! source that changed since is copied anew. Disks of vSphere have a way of their own: see `importer/vsphere.rs`.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `FORKLIFT_IMPORT` | the order, JSON of [`ImportSpec`] | – |
//! | `POD_IP` | where to serve `/progress`, port 8080 | `0.0.0.0` |
//! | `TERMINATION_LOG` | where to leave the [`ImportResult`] | `/dev/termination-log` |

pub(crate) mod vsphere;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use forklift_api::worker::{
    self, ImportPhase, ImportProgress, ImportResult, ImportSource, ImportSpec, Verify, VolumeMode, WorkerError,
};
use forklift_disk::changed::ChangedRanges;
use forklift_disk::digest::Algorithm;
use forklift_disk::limit::{Gate, Limit};
use forklift_disk::manifest::sign::SignKey;
use forklift_disk::open::{Options, References};
use forklift_disk::patience::Patience;
use forklift_disk::remote::Access;
use forklift_disk::target::Volume;
use forklift_disk::verify::Scope;
use forklift_disk::{Format, Job, Outcome, Phase, Watch, copy};
use tokio::net::TcpListener;

pub use vsphere::vddk::{Helper as VddkHelper, serve as serve_vddk};

/// How many copies of one source run at once, where they share a folder and nothing else is said.
const SLOTS: usize = 2;
/// The most bytes that a kubelet keeps of a termination message.
const MESSAGE: usize = 4096;

/// Runs the importer as the environment says.
pub async fn run() -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let log = PathBuf::from(variable(worker::TERMINATION_LOG_ENV).unwrap_or_else(|| worker::TERMINATION_LOG.into()));
    let started = Instant::now();
    let result = match read_spec(variable(worker::IMPORT_ENV)) {
        Err(error) => failed(started, &Watch::new(), error),
        Ok(spec) => {
            let address = variable(worker::POD_IP_ENV).unwrap_or_else(|| "0.0.0.0".into());
            let listener = listen(&address).await;
            import(spec, listener, crate::terminated()).await
        }
    };
    leave(&log, &result);
    match &result.error {
        None => ExitCode::SUCCESS,
        Some(error) => {
            tracing::error!(code = error.code, hint = error.hint, "{}", error.message);
            ExitCode::from(if error.retryable { worker::EXIT_RETRYABLE } else { worker::EXIT_PERMANENT })
        }
    }
}

/// Copies the disk; serves its progress where there is a listener; ends early when `stop` comes.
pub async fn import(spec: ImportSpec, listener: Option<TcpListener>, stop: impl Future<Output = ()>) -> ImportResult {
    import_with(spec, &Setup::default(), listener, stop).await
}

/// Where an importer finds what its pod gives it.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Folder with the source's credentials.
    pub secret: PathBuf,
    /// How the process with the user's VDDK is started.
    pub vddk: VddkHelper,
}

impl Default for Setup {
    fn default() -> Self {
        Self { secret: worker::SECRET_MOUNT.into(), vddk: VddkHelper::default() }
    }
}

/// As [`import`], with what the pod gives elsewhere.
pub async fn import_with(
    spec: ImportSpec,
    setup: &Setup,
    listener: Option<TcpListener>,
    stop: impl Future<Output = ()>,
) -> ImportResult {
    let started = Instant::now();
    let (watch, note) = (Watch::new(), vsphere::Note::default());
    let server = listener.map(|listener| tokio::spawn(serve(listener, watch.clone(), note.clone())));
    let work = copy(&spec, setup, &watch, &note);
    tokio::pin!(work);
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = stop => {
            tracing::info!("asked to end: what is copied is kept for the next run");
            watch.cancel().cancel();
            work.await
        }
    };
    if let Some(server) = server {
        server.abort();
    }
    let result = match outcome {
        Ok(outcome) => succeeded(started, &watch, &outcome),
        Err(error) => failed(started, &watch, error),
    };
    let (method, method_reason) = note.method();
    ImportResult { method, method_reason, ..result }
}

async fn copy(spec: &ImportSpec, setup: &Setup, watch: &Watch, note: &vsphere::Note) -> Result<Outcome, WorkerError> {
    if let ImportSource::Vsphere(disk) = &spec.source {
        return vsphere::run(spec, disk, common(spec)?, setup, watch, note).await;
    }
    let (job, watch) = (job(spec)?, watch.clone());
    match tokio::task::spawn_blocking(move || job.run(&watch)).await {
        Ok(outcome) => outcome.map_err(|error| worker_error(&error)),
        Err(error) => Err(WorkerError::new("Internal", format!("the copy broke off: {error}"), "", true)),
    }
}

fn read_spec(text: Option<String>) -> Result<ImportSpec, WorkerError> {
    let text = text.ok_or_else(|| invalid(format!("{} is not set", worker::IMPORT_ENV)))?;
    serde_json::from_str(&text).map_err(|error| invalid(format!("{}: {error}", worker::IMPORT_ENV)))
}

/// Translates the order into the engine's terms.
fn job(spec: &ImportSpec) -> Result<Job, WorkerError> {
    let told = &spec.options;
    let mut access = Access::default();
    access.header_file = told.header_file.as_ref().map(Into::into);
    access.ca = told.ca.as_ref().map(Into::into);
    access.insecure = told.insecure;
    let (path, member, format, compression, digest) = match &spec.source {
        ImportSource::File { path, member, format, compression, digest } => (path, member, format, compression, digest),
        // an export is a disk's bytes: what a guest wrote there must not be taken for an image's header
        ImportSource::Nbd { uri } => {
            let open = Options { format: Some(Format::Raw), access, ..Options::default() };
            return Ok(Job { source: uri.into(), open, ..common(spec)? });
        }
        ImportSource::Http { url } => {
            let open = Options { access, ..Options::default() };
            return Ok(Job { source: url.into(), open, ..common(spec)? });
        }
        ImportSource::Vsphere(disk) => {
            return Err(invalid(format!("{}: vSphere is not read by path", disk.file)));
        }
    };
    let format = format
        .as_deref()
        .map(|name| {
            name.parse::<Format>().map_err(|error| {
                let hint = "convert the disk first, e.g. qemu-img convert -O qcow2";
                WorkerError::new("UnsupportedFormat", format!("{path}: {error}"), hint, false)
            })
        })
        .transpose()?;
    let gzip = match compression.as_deref() {
        None | Some("" | "identity") => false,
        Some("gzip") => true,
        Some(other) => {
            let hint = "export the appliance without compressed references";
            return Err(WorkerError::new("UnsupportedFormat", format!("{path}: compression {other:?}"), hint, false));
        }
    };
    let digest = digest
        .as_ref()
        .map(|digest| match Algorithm::parse(&digest.algorithm) {
            Some(algorithm) => Ok((algorithm, digest.hex.clone())),
            None => {
                Err(invalid(format!("{path}: digest algorithm {:?} of the manifest is not known", digest.algorithm)))
            }
        })
        .transpose()?;
    let open = Options { member: member.clone(), format, gzip, references: References::Siblings, access };
    Ok(Job { source: path.into(), open, digest, ..common(spec)? })
}

/// Translates what does not depend on the source.
fn common(spec: &ImportSpec) -> Result<Job, WorkerError> {
    Ok(Job {
        identity: spec.identity.clone(),
        target: spec.target.clone().into(),
        volume: match spec.volume_mode {
            VolumeMode::Filesystem => Volume::File,
            VolumeMode::Block => Volume::Device,
        },
        room: spec.virtual_size,
        verify: match spec.verify {
            Verify::Full => Some(Scope::Full),
            Verify::Sampled => Some(Scope::Sampled),
            Verify::None => None,
        },
        ..options(spec)?
    })
}

/// Translates what most orders do not have.
fn options(spec: &ImportSpec) -> Result<Job, WorkerError> {
    let told = &spec.options;
    let refused = |error: forklift_disk::Error| worker_error(&error);
    let limit = match (&told.limit, spec.bandwidth) {
        (Some(text), _) => Limit::parse(text, told.limit_zone.as_deref()).map_err(refused)?,
        (None, Some(rate)) => Limit::rate(rate),
        (None, None) => Limit::default(),
    };
    let changed = told.changed_ranges.as_ref().map(|path| ChangedRanges::read(path.as_ref())).transpose();
    let changed = changed.map_err(refused)?;
    let mut patience = Patience::default();
    if let Some(seconds) = told.stalled_seconds {
        patience.stalled = Duration::from_secs(seconds.max(1));
    }
    let slots = told.share_slots.unwrap_or(SLOTS);
    Ok(Job {
        change_id: told.change_id.clone(),
        // a whole copy may begin anew; a round that does not fit is the controller's to decide
        start_over: changed.is_none(),
        changed,
        sign: told
            .sign_key
            .as_ref()
            .map(|path| SignKey::read(path.as_ref()))
            .transpose()
            .map_err(refused)?
            .map(Arc::new),
        manifest_at: told.manifest.as_ref().map(Into::into),
        gate: told.share.as_ref().map(|folder| Gate::new(folder.as_ref(), slots)).transpose().map_err(refused)?,
        copy: copy::Options { limit, patience, ..copy::Options::default() },
        ..Job::default()
    })
}

async fn listen(address: &str) -> Option<TcpListener> {
    let listen = async {
        let ip: IpAddr = address.parse()?;
        anyhow::Ok(TcpListener::bind(SocketAddr::new(ip, worker::PORT)).await?)
    };
    match listen.await {
        Ok(listener) => Some(listener),
        // the copy matters more than its progress
        Err(error) => {
            tracing::warn!(address, %error, "cannot serve the progress");
            None
        }
    }
}

async fn serve(listener: TcpListener, watch: Watch, note: vsphere::Note) {
    let show = |State((watch, note)): State<(Watch, vsphere::Note)>| async move { Json(progress(&watch, &note)) };
    let router = Router::new().route(worker::PROGRESS_PATH, get(show)).with_state((watch, note));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, "cannot serve the progress");
    }
}

/// Comes when the pod is asked to end.
/// Returns how far the job is.
fn progress(watch: &Watch, note: &vsphere::Note) -> ImportProgress {
    let (copy, verify) = (watch.copy().snapshot(), watch.verify().snapshot());
    let (phase, stage) = match watch.phase() {
        Phase::Waiting | Phase::Preparing => (ImportPhase::Preparing, copy),
        Phase::Copying => (ImportPhase::Copying, copy),
        Phase::Verifying => (ImportPhase::Verifying, verify),
        Phase::Done => (ImportPhase::Done, copy),
        Phase::Failed => (ImportPhase::Failed, copy),
    };
    let message = match watch.phase() {
        Phase::Waiting => Some("waiting: other copies of this source run".into()),
        Phase::Verifying => {
            let percent = verify.done.saturating_mul(100).checked_div(verify.total).unwrap_or(0);
            Some(format!("reading the copy back: {percent}%"))
        }
        Phase::Copying if copy.retries > 0 => Some(format!("{} reads were tried again", copy.retries)),
        Phase::Preparing | Phase::Copying | Phase::Done | Phase::Failed => None,
    };
    let message = match (note.text(), message) {
        (Some(note), message) if watch.phase() == Phase::Copying => {
            let rate = format!("{note}, {:.1} MiB/s", copy.rate / f64::from(1 << 20));
            Some(message.map_or(rate.clone(), |message| format!("{rate}; {message}")))
        }
        (Some(note), None) if watch.phase() == Phase::Preparing => Some(note),
        (_, message) => message,
    };
    let running = matches!(phase, ImportPhase::Copying | ImportPhase::Verifying);
    let (method, method_reason) = note.method();
    ImportProgress {
        phase,
        bytes_total: copy.total,
        bytes_done: copy.done,
        bytes_read: watch.bytes_read(),
        bytes_written: copy.written,
        bytes_skipped: copy.skipped,
        bytes_resumed: copy.resumed,
        rate: if running { stage.rate } else { 0.0 },
        eta_seconds: stage.eta.filter(|_| running).map(|eta| eta.as_secs()),
        method,
        method_reason,
        message,
    }
}

fn succeeded(started: Instant, watch: &Watch, outcome: &Outcome) -> ImportResult {
    ImportResult {
        bytes_read: outcome.read,
        retries: watch.copy().snapshot().retries,
        change_id: outcome.change_id.clone(),
        bytes_total: outcome.size,
        bytes_written: outcome.written,
        bytes_resumed: outcome.resumed,
        seconds: started.elapsed().as_secs_f64(),
        digest: Some(format!("blake3:{}", outcome.root)),
        verified: outcome.verified,
        ..ImportResult::default()
    }
}

fn failed(started: Instant, watch: &Watch, error: WorkerError) -> ImportResult {
    let copy = watch.copy().snapshot();
    ImportResult {
        bytes_total: copy.total,
        bytes_written: copy.written,
        bytes_resumed: copy.resumed,
        bytes_read: watch.bytes_read(),
        retries: copy.retries,
        seconds: started.elapsed().as_secs_f64(),
        error: Some(error),
        ..ImportResult::default()
    }
}

fn worker_error(error: &forklift_disk::Error) -> WorkerError {
    WorkerError::new(error.code(), error.chain(), error.hint(), error.retryable())
}

fn invalid(message: String) -> WorkerError {
    WorkerError::new("InvalidOrder", message, "this is a mistake of the controller: report it", false)
}

/// Leaves the result where the kubelet takes the termination message from.
fn leave(path: &Path, result: &ImportResult) {
    let mut result = result.clone();
    // a message of thousands of bytes would be cut in the middle of the JSON
    if let Some(error) = result.error.as_mut()
        && error.message.len() > MESSAGE / 2
    {
        let cut = error.message.floor_char_boundary(MESSAGE / 2);
        error.message.truncate(cut);
        error.message.push('…');
    }
    let written = serde_json::to_vec(&result).map_err(std::io::Error::from).and_then(|text| std::fs::write(path, text));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "cannot leave the result for the pod's status");
    }
}

#[cfg(test)]
mod tests;
