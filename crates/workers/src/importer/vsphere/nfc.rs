//! Export leases (`HttpNfcLease`): one streamOptimized VMDK for each disk, from the host that runs the VM.
//!
//! ```text
//! ExportVm │ ExportSnapshot ─► ready ─► GET the disk's URL ═══════════════► end of stream ─► complete
//!                                │      progress every few seconds              │ breaks off
//!                                └─► another export of the VM runs: wait        └─► abort, a new lease
//! ```
//!
//! A lease has every disk of the VM and is used for one. Its host's certificate is pinned by the thumbprint that the
//! lease tells; without one the endpoint's rules hold. A lease that nobody ends (kill -9) is ended by the server.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forklift_disk::Watch;
use forklift_disk::http::Http;
use forklift_disk::patience;
use forklift_disk::stream::Export;
use forklift_providers::vsphere::vim::{Lease, LeaseInfo, Tls, VimError};
use reqwest::Url;
use tokio::task::JoinHandle;

use super::Note;
use super::machine::Machine;
use super::session::{Session, io_error};

/// How long a lease may take to get ready: the host opens all files of the VM.
const READY: Duration = Duration::from_secs(120);
/// The longest pause between two reports of progress.
const REPORT: Duration = Duration::from_secs(15);
/// How often it is tried to export a VM that another export holds.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a stream that broke off waits for a new lease: the server needs a while to notice.
const REGAIN: Duration = Duration::from_secs(600);

/// The export of a disk.
pub(super) struct Nfc {
    session: Session,
    machine: Machine,
    watch: Watch,
    note: Note,
    active: Mutex<Option<Active>>,
    name: String,
}

/// A lease that is kept alive until it is dropped.
struct Active {
    lease: Lease,
    info: LeaseInfo,
    report: JoinHandle<()>,
    /// Whether its URL was read from.
    used: bool,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.report.abort();
    }
}

impl Nfc {
    /// Begins the export, and waits for other exports of the VM; ends early where the copy is cancelled.
    pub(super) async fn begin(
        session: &Session,
        machine: &Machine,
        watch: &Watch,
        note: &Note,
    ) -> Result<Arc<Self>, VimError> {
        let nfc = Self {
            session: session.clone(),
            machine: machine.clone(),
            watch: watch.clone(),
            note: note.clone(),
            active: Mutex::new(None),
            name: format!("export of {}", machine.file()),
        };
        let active = nfc.acquire(None).await?;
        *nfc.lock() = Some(active);
        Ok(Arc::new(nfc))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets a lease; without a limit, for as long as other exports hold the VM.
    async fn acquire(&self, limit: Option<Duration>) -> Result<Active, VimError> {
        let began = Instant::now();
        loop {
            let client = &self.session.client;
            let exported = async {
                let lease = match &self.machine.snapshot {
                    Some(snapshot) => client.export_snapshot(snapshot).await?,
                    None => client.export_vm(&self.machine.vm).await?,
                };
                let info = lease.ready(READY).await?;
                Ok::<_, VimError>((lease, info))
            };
            let error = match exported.await {
                Ok((lease, info)) => {
                    let report = self.session.spawn(report(lease.clone(), info.timeout, self.watch.clone()));
                    return Ok(Active { lease, info, report, used: false });
                }
                Err(error) => error,
            };
            let busy = ["TaskInProgress", "ResourceInUse", "InvalidState"].iter().any(|kind| error.is_fault(kind));
            let over = limit.is_some_and(|limit| began.elapsed() >= limit);
            if !busy || over || self.watch.cancel().is_cancelled() {
                return Err(error);
            }
            self.note.say("waiting: another export of the VM, or too many of its host, run");
            tracing::info!(%error, "the export has to wait");
            // whoever waits lives: the watchdog is for hosts that do not answer
            patience::alive();
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Ends the lease: well, or early.
    pub(super) async fn end(&self, whole: bool) {
        let Some(active) = self.lock().take() else {
            return;
        };
        let ended = match whole {
            true => active.lease.complete().await,
            false => active.lease.abort("the copy ended early").await,
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "the lease is left to its end");
        }
    }

    /// Returns the disk's address and whom to trust there.
    fn disk(&self, info: &LeaseInfo) -> io::Result<(Url, Tls)> {
        let missing = |what: String| io::Error::new(io::ErrorKind::Unsupported, what);
        let found = self.machine.of_lease(&info.devices);
        let found = found.ok_or_else(|| missing(format!("the lease has no file for {}", self.machine.file())))?;
        let url =
            Url::parse(&found.url).map_err(|error| missing(format!("the lease names {:?}: {error}", found.url)))?;
        let own = &self.session.client.endpoint().tls;
        let tls = match &found.thumbprint {
            Some(thumbprint) => Tls { thumbprint: Some(thumbprint.clone()), ..Tls::default() },
            None => own.clone(),
        };
        Ok((url, tls))
    }
}

/// Tells the server how far the copy is until it is aborted, which keeps the lease alive.
async fn report(lease: Lease, timeout: Duration, watch: Watch) {
    let pause = REPORT.min(timeout / 4).max(Duration::from_millis(100));
    loop {
        let copy = watch.copy().snapshot();
        let percent = copy.done.saturating_mul(100).checked_div(copy.total).unwrap_or(0);
        if let Err(error) = lease.progress(u8::try_from(percent).unwrap_or(100)).await {
            tracing::debug!(%error, "no progress could be reported");
        }
        tokio::time::sleep(pause).await;
    }
}

impl Export for Nfc {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&self) -> io::Result<Box<dyn Read + Send>> {
        let stale = {
            let mut active = self.lock();
            active.take_if(|active| active.used)
        };
        if let Some(stale) = stale {
            // what broke off may be gone with its lease, and a lease that lives holds the VM
            let _ = self.session.wait(stale.lease.abort("its connection broke off"));
        }
        let none = self.lock().is_none();
        if none {
            let active = self.session.wait(self.acquire(Some(REGAIN)))?;
            *self.lock() = Some(active);
        }
        let (url, tls) = {
            let mut active = self.lock();
            let active = active.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            active.used = true;
            self.disk(&active.info)?
        };
        let access = self.session.access_with(&tls).map_err(|error| io_error(&error))?;
        self.note.say(format!("export lease, from {}", url.host_str().unwrap_or_default()));
        let http = Http::new(&url, &access).map_err(|error| io::Error::other(error.chain()))?;
        http.stream(&url)
    }

    fn stamp(&self) -> io::Result<String> {
        self.session.wait(self.machine.state(&self.session.client))
    }
}
