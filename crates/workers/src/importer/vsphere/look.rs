//! The disks of a snapshot, opened to be looked into: read at any offset, none copied.
//!
//! An export lease is a stream, so that disks which can only be exported are not looked into; each says why.

use std::path::Path;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use forklift_api::worker::{VsphereDisk, WorkerError};
use forklift_disk::open::{Disk, Options};
use forklift_disk::{Format, Image, Watch};
use forklift_providers::vsphere::vim::{Client, MoRef};

use super::machine::{self, Machine, Wanted};
use super::method::{Method, choose};
use super::reader::{NO_FILE, Reader};
use super::session::Session;
use super::vddk::Helper;
use super::{BUSY, Note, What, connect, patiently, refused};
use crate::importer::worker_error;

/// The disks of a snapshot.
pub(crate) struct Look {
    /// Those that can be read, in the order of the VM's disks.
    pub opened: Vec<Opened>,
    /// Those that cannot be read at any offset.
    pub unread: Vec<Unread>,
    client: Client,
}

/// A disk that can be read.
pub(crate) struct Opened {
    /// Its file, `[datastore] folder/name.vmdk`.
    pub file: String,
    /// How it is read, for people.
    pub way: &'static str,
    /// Its bytes.
    pub image: Arc<dyn Image>,
    read: Arc<AtomicU64>,
}

/// A disk that is not looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unread {
    /// Its file, or its key where that is not known.
    pub file: String,
    /// Why not.
    pub why: String,
}

impl Look {
    /// Returns the bytes that were read from the source so far.
    pub fn bytes_read(&self) -> u64 {
        self.opened.iter().map(|disk| disk.read.load(Ordering::Relaxed)).sum()
    }

    /// Returns the counters of [`Self::bytes_read`], for whoever watches.
    pub fn counters(&self) -> Vec<Arc<AtomicU64>> {
        self.opened.iter().map(|disk| disk.read.clone()).collect()
    }

    /// Ends the session; nothing is read after it.
    pub async fn close(self) {
        drop(self.opened);
        self.client.logout().await;
    }
}

/// Opens the disks of a VM at a snapshot. `order` says how the VM is reached and which it is; its disk is not looked at.
pub(crate) async fn open(
    order: &VsphereDisk,
    snapshot: &str,
    secret: &Path,
    helper: &Helper,
    say: impl Fn(String),
) -> Result<Look, WorkerError> {
    let (watch, note) = (Watch::new(), Note::default());
    let client = patiently(&watch, &note, || connect(order, secret)).await?;
    let session = Session::new(client.clone());
    let moref = MoRef::new("VirtualMachineSnapshot", snapshot);
    let devices = patiently(&watch, &note, || async {
        client.properties(&moref, &["config.hardware.device"]).await.map_err(|error| {
            if error.is_fault("ManagedObjectNotFound") {
                let hint = "the snapshot was removed: start the plan anew";
                return WorkerError::new("SnapshotMissing", format!("there is no snapshot {snapshot}"), hint, false);
            }
            refused(&format!("snapshot {snapshot}"), &error)
        })
    })
    .await?;
    let devices = devices.get("config.hardware.device").cloned().unwrap_or_default();
    let keys: Vec<i32> = devices
        .items()
        .filter(|device| device.is_a("VirtualDisk"))
        .filter_map(|device| i32::try_from(device.int("key")?).ok())
        .collect();
    let wanted = Wanted { id: Some(snapshot), name: None };
    let mut look = Look { opened: Vec::new(), unread: Vec::new(), client: client.clone() };
    for key in keys {
        let disk = VsphereDisk { key, file: String::new(), ..order.clone() };
        let machine = patiently(&watch, &note, || machine::find(&client, &disk, wanted)).await?;
        say(format!("Opening {}", machine.file()));
        match open_disk(&disk, &machine, helper, &session, &watch, &note).await {
            Ok(opened) => look.opened.push(opened),
            // a server that is away says nothing about the disk
            Err(error) if (error.retryable || error.code == BUSY) && error.code != NO_FILE => return Err(error),
            Err(error) => look.unread.push(Unread { file: machine.file().to_owned(), why: error.message }),
        }
    }
    Ok(look)
}

async fn open_disk(
    disk: &VsphereDisk,
    machine: &Machine,
    helper: &Helper,
    session: &Session,
    watch: &Watch,
    note: &Note,
) -> Result<Opened, WorkerError> {
    let mut last = WorkerError::new(
        "UnsupportedSource",
        "the provider lets disks be exported only, as a stream".into(),
        "",
        false,
    );
    let (ways, _) = choose(disk, &What::Whole(None))?;
    for method in ways.into_iter().filter(|method| *method != Method::Nfc) {
        let reader =
            patiently(watch, note, || Reader::open(method, machine, (disk, helper), session, watch, note)).await;
        let opened = match reader {
            Ok(Reader::Ranges(files, first)) => {
                let first = first.into_inner().unwrap_or_else(PoisonError::into_inner);
                match first {
                    Some(disk) => Ok(disk),
                    None => tokio::task::spawn_blocking(move || files.open()).await.map_err(super::broken)?,
                }
            }
            Ok(Reader::Vddk(vddk)) => {
                let options = Options { format: Some(Format::Raw), ..Options::default() };
                Disk::over(vddk, &options)
            }
            Ok(Reader::Nfc(_)) => continue,
            Err(error) => {
                tracing::info!(file = machine.file(), code = error.code, "{}: {}", method.name(), error.message);
                last = error;
                continue;
            }
        };
        let opened = opened.map_err(|error| worker_error(&error))?;
        let read = opened.read_counter();
        return Ok(Opened {
            file: machine.file().to_owned(),
            way: method.name(),
            image: opened.into_image().into(),
            read,
        });
    }
    Err(last)
}
