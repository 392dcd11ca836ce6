//! The ways to read a disk, opened and run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forklift_api::vddk::Transports;
use forklift_api::worker::{VsphereDisk, WorkerError};
use forklift_disk::open::{Disk, Options, State};
use forklift_disk::{Error, Format, Job, Origin, Outcome, Watch};
use forklift_providers::vsphere::vim::{thumbprints, trusted_certificate};

use super::machine::Machine;
use super::nfc::Nfc;
use super::ranges::Files;
use super::session::Session;
use super::vddk::{Helper, Open, READS, Vddk};
use super::{Method, Note, What, broken, refused};
use crate::importer::worker_error;

/// Connections to one server for one disk.
const CONNECTIONS: usize = 6;
/// How long the server may take to show its certificate.
const CERTIFICATE: Duration = Duration::from_secs(20);

/// The code of a disk that is no file of its datastore, or is none any more.
pub(super) const NO_FILE: &str = "SourceFileMissing";

/// An open way to a disk.
pub(super) enum Reader {
    Vddk(Arc<Vddk>),
    Ranges(Arc<Files>, Mutex<Option<Disk>>),
    Nfc(Arc<Nfc>),
}

impl Reader {
    /// Opens the disk in this way, which tells whether it is one.
    pub(super) async fn open(
        method: Method,
        machine: &Machine,
        (disk, helper): (&VsphereDisk, &Helper),
        session: &Session,
        watch: &Watch,
        note: &Note,
    ) -> Result<Self, WorkerError> {
        match method {
            Method::Ranges => {
                if let Some(obstacle) = &machine.obstacle {
                    let text = format!("{}: {obstacle}", machine.file());
                    return Err(WorkerError::new(
                        "UnsupportedSource",
                        text,
                        "let the disk be exported: copy method nfc",
                        false,
                    ));
                }
                let client = &session.client;
                let store = Machine::split(machine.file()).map_or("", |(store, _)| store);
                let datacenter = machine.datacenter(client, store).await;
                let datacenter = datacenter.map_err(|error| refused(machine.file(), &error))?.unwrap_or_default();
                let access = session.access().map_err(|error| refused(machine.file(), &error))?;
                let files = Files::new(machine, &client.endpoint().url, &datacenter, &access);
                let files = Arc::new(files.map_err(|error| worker_error(&error))?);
                let opened = files.clone();
                let opened = tokio::task::spawn_blocking(move || opened.open()).await.map_err(broken)?;
                let opened = opened.map_err(|error| match &error {
                    Error::Source { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                        // maybe it was moved meanwhile: another attempt looks for it anew
                        WorkerError { code: NO_FILE.into(), ..worker_error(&error) }
                    }
                    _ => worker_error(&error),
                })?;
                if opened.size() != machine.capacity {
                    let text =
                        format!("{} has {} bytes, the VM's disk {}", machine.file(), opened.size(), machine.capacity);
                    return Err(WorkerError::new(
                        "SourceChanged",
                        text,
                        "let the disk be exported: copy method nfc",
                        false,
                    ));
                }
                Ok(Self::Ranges(files, Mutex::new(Some(opened))))
            }
            Method::Nfc => {
                let nfc = Nfc::begin(session, machine, watch, note).await;
                nfc.map(Self::Nfc).map_err(|error| refused(machine.file(), &error))
            }
            Method::Vddk => {
                let folder = disk.vddk.as_deref().unwrap_or_default();
                let transports = Transports::parse(disk.vddk_transports.as_deref().unwrap_or_default());
                let transports = transports.map_err(|error| {
                    WorkerError::new(
                        "Usage",
                        error,
                        "name ways of VDDK in the provider's setting, or leave it out",
                        false,
                    )
                })?;
                let endpoint = session.client.endpoint();
                // the library pins the certificate: it is the one that our own rules trust
                let shown = trusted_certificate(&endpoint.url, &endpoint.tls, CERTIFICATE).await;
                let shown = shown.map_err(|error| refused(machine.file(), &error))?;
                let order = Open {
                    folder: folder.into(),
                    config: disk.vddk_config.clone(),
                    server: endpoint.url.host_str().unwrap_or_default().into(),
                    port: endpoint.url.port().map_or(0, u32::from),
                    user: endpoint.user.clone(),
                    password: endpoint.password.expose().into(),
                    thumbprint: thumbprints(&shown).sha1,
                    vm: format!("moref={}", machine.vm.value),
                    snapshot: machine.snapshot.as_ref().map(|snapshot| snapshot.value.clone()),
                    file: machine.file().into(),
                    transports: transports.to_string(),
                };
                let state = machine.state(&session.client).await.map_err(|error| refused(machine.file(), &error))?;
                let helper = helper.clone();
                let opened = tokio::task::spawn_blocking(move || Vddk::open(helper, order, state));
                let vddk = opened.await.map_err(broken)?.map_err(|error| {
                    let hint = "see the library's messages in the pod's log; copies go without VDDK too";
                    WorkerError::new("VddkFailed", format!("{}: {error}", machine.file()), hint, true)
                })?;
                note.say(vddk.way());
                note.how(vddk.transport());
                Ok(Self::Vddk(Arc::new(vddk)))
            }
        }
    }

    /// Runs the job over the open disk.
    pub(super) async fn run(
        &self,
        job: &Job,
        what: &What,
        machine: &Machine,
        session: &Session,
        watch: &Watch,
        note: &Note,
    ) -> Result<Outcome, Error> {
        let mut job = job.clone();
        if let What::Round(ranges) = what {
            job.changed = Some(ranges.clone());
            job.compare = false;
            job.start_over = false;
        }
        match self {
            Self::Vddk(vddk) => {
                // what the library was never told to write needs no read; a round has its own list
                let written = match what {
                    What::Whole(_) => {
                        let asked = vddk.clone();
                        let found = tokio::task::spawn_blocking(move || asked.allocated()).await;
                        found.ok().and_then(|found| {
                            let known = |error: &_| tracing::info!(%error, "all of the disk is read");
                            found.inspect_err(known).ok()
                        })
                    }
                    What::Round(_) => None,
                };
                // they wait for the host together, as the library's buffers allow it
                job.copy.workers = Some(job.copy.workers.unwrap_or(READS));
                let (vddk, state) = (vddk.clone(), state(machine, session));
                job.origin = Some(Origin::Disk(Arc::new(move || {
                    let options = Options { format: Some(Format::Raw), ..Options::default() };
                    let disk = Disk::over(vddk.clone(), &options)?.in_state(state.clone());
                    Ok(match &written {
                        Some(ranges) => disk.within(ranges.clone()),
                        None => disk,
                    })
                })));
            }
            Self::Ranges(files, opened) => {
                note.say("datastore ranges");
                job.copy.workers = Some(job.copy.workers.unwrap_or(CONNECTIONS));
                let written = match what {
                    What::Whole(written) => written.clone(),
                    What::Round(_) => None,
                };
                let first = Mutex::new(opened.lock().unwrap_or_else(PoisonError::into_inner).take());
                let (files, state) = (files.clone(), state(machine, session));
                job.origin = Some(Origin::Disk(Arc::new(move || {
                    let taken = first.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let disk = taken.map_or_else(|| reopened(&files), Ok)?.in_state(state.clone());
                    Ok(match &written {
                        Some(ranges) => disk.within(ranges.clone()),
                        None => disk,
                    })
                })));
            }
            Self::Nfc(nfc) => job.origin = Some(Origin::Stream(nfc.clone())),
        }
        let watch = watch.clone();
        match tokio::task::spawn_blocking(move || job.run(&watch)).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Error::Usage { what: format!("the copy broke off: {error}") }),
        }
    }

    /// Gives back what the way holds at the source.
    pub(super) async fn end(&self, whole: bool) {
        match self {
            Self::Nfc(nfc) => nfc.end(whole).await,
            Self::Vddk(_) | Self::Ranges(..) => {}
        }
    }
}

/// Returns what tells the state of the disk to the copy.
fn state(machine: &Machine, session: &Session) -> State {
    let (machine, session) = (machine.clone(), session.clone());
    Arc::new(move || session.wait(machine.state(&session.client)))
}

/// Opens the files of a disk once more, to read back what was written or to go over it again; one connection that breaks
/// off does not end the copy.
fn reopened(files: &Files) -> Result<Disk, Error> {
    let mut tries = 1;
    loop {
        match files.open() {
            Err(error) if error.retryable() && tries < super::TRIES => {
                tracing::warn!(error = error.chain(), "opening the disk again");
                std::thread::sleep(super::PAUSE);
                tries += 1;
            }
            opened => return opened,
        }
    }
}
