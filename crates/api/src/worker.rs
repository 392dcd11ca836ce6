//! What workers in pods are told and what they answer: the importer's and the conversion's JSON.
//!
//! A worker reads its order from an environment variable, shows its progress over HTTP while it runs, and leaves
//! its result in the pod's termination message.

use serde::{Deserialize, Serialize};

use crate::conversion::{InspectionConcern, InspectionFilesystem, InspectionMountpoint, InspectionResult, OSInfo};

/// The environment variable with the importer's [`ImportSpec`].
pub const IMPORT_ENV: &str = "FORKLIFT_IMPORT";
/// The environment variable with the address that a worker listens on.
pub const POD_IP_ENV: &str = "POD_IP";
/// The environment variable with the path of the termination message.
pub const TERMINATION_LOG_ENV: &str = "TERMINATION_LOG";
/// The path of the termination message when nothing else is said.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
/// Where an importer's volume is mounted, when it is a file system.
pub const DISK_MOUNT: &str = "/mnt/disk";
/// Where an importer's volume is, when it is a block device.
pub const DISK_DEVICE: &str = "/dev/block";
/// The image's name in a volume that is a file system, by KubeVirt's convention.
pub const DISK_IMAGE: &str = "disk.img";
/// Where the secret with the source's credentials is mounted.
pub const SECRET_MOUNT: &str = "/etc/secret";
/// The environment variable with the folder of the source's credentials, where it is not [`SECRET_MOUNT`].
pub const SECRET_DIR_ENV: &str = "FORKLIFT_SECRET_DIR";
/// The environment variable with the folder of the user's VDDK, where it is mounted.
pub const VDDK_DIR_ENV: &str = "FORKLIFT_VDDK_DIR";
/// Where the user's VDDK is mounted.
pub const VDDK_MOUNT: &str = "/opt/vmware-vix-disklib-distrib";
/// Where the share of the bandwidth is mounted.
pub const LIMIT_MOUNT: &str = "/etc/forklift-limit";
/// The file with the share, a rate of bytes a second (`1048576/s`).
pub const LIMIT_FILE: &str = "limit";
/// Where appliances are mounted.
pub const OVA_MOUNT: &str = "/ova";
/// The port on which workers answer.
pub const PORT: u16 = 8080;
/// The path under which workers show their progress.
pub const PROGRESS_PATH: &str = "/progress";
/// The path under which an inspection says that its results are there.
pub const READY_PATH: &str = "/ready";
/// The path under which an inspection gives its results.
pub const RESULTS_PATH: &str = "/results";
/// The environment variable with the moRef of the VM that is inspected.
pub const VM_MOREF_ENV: &str = "VM_MOREF";
/// The exit code of an error that a repetition would meet again.
pub const EXIT_PERMANENT: u8 = 3;
/// The exit code of an error that a repetition may not meet.
pub const EXIT_RETRYABLE: u8 = 1;

/// The order of an importer: one disk, from where, to where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportSpec {
    /// Where the bytes come from.
    pub source: ImportSource,
    /// Path of the target file or device.
    pub target: String,
    /// Whether the target is a file in a volume or a block device.
    pub volume_mode: VolumeMode,
    /// Size of the disk in bytes, as the descriptor says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
    /// Stable identity of the source disk (path, size, time, digest …): a finished copy of the same identity is kept.
    pub identity: String,
    /// How much of the copy is read back.
    #[serde(default)]
    pub verify: Verify,
    /// Bytes a second at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
    /// What most copies do not need.
    #[serde(default, skip_serializing_if = "ImportOptions::is_default")]
    pub options: ImportOptions,
}

/// Rounds of changes, limits that follow the clock, signatures: what an importer does when it is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportOptions {
    /// State of the source (change ID) that the copy brings: the one of `snapshot` in a warm migration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_id: Option<String>,
    /// Id of the source's snapshot whose state is read; none for the disk of a VM that is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Name of that snapshot: where the VM has one of this name it is the one, whatever its id. An ESXi host and its
    /// vCenter have ids of their own for one snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_name: Option<String>,
    /// State of the source (change ID) that the target has: only what changed since is read, and the importer asks
    /// the source what that is. None for the whole disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_change_id: Option<String>,
    /// Path of a file with the ranges that changed since the state on the target: only these are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_ranges: Option<String>,
    /// A limit by the time of day, `08:00-18:00=20MiB/s, else unlimited`, or `@` and the path of a file with one,
    /// which is followed while the copy runs. It goes before `bandwidth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Time zone of the limit's hours, e.g. `Europe/Berlin`; none for the pod's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_zone: Option<String>,
    /// Folder that all copies of this source have: they share the limit and take turns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// How many copies of this source run at once, with `share`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_slots: Option<usize>,
    /// Path of a PEM file with the Ed25519 key that signs the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_key: Option<String>,
    /// Path of a file with headers for an HTTP source, a line `Name: value` each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_file: Option<String>,
    /// Path of a PEM file with the authorities whose servers are trusted; none for those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Whether any certificate of a server is taken.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// Path of the manifest, for a block volume, which has no place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// Seconds after which a read without an answer fails the copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stalled_seconds: Option<u64>,
}

impl ImportOptions {
    /// Returns whether nothing is told.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where an importer reads from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ImportSource {
    /// A file, or a member of a tar archive (OVA) that is read in place.
    File {
        /// Path of the file or archive.
        path: String,
        /// Name of the archive's member; none for a plain file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member: Option<String>,
        /// `vmdk`, `raw`, `qcow2` …; none to find out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        format: Option<String>,
        /// `gzip` for the compressed references of OVF 1.x.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        compression: Option<String>,
        /// What the OVF manifest says of the file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
    },
    /// An NBD export.
    Nbd {
        /// `nbd://…` or `nbd+unix://…`.
        uri: String,
    },
    /// A file behind HTTP.
    Http {
        /// Address of the file.
        url: String,
    },
    /// A disk of a VM in vSphere. The credentials (`user`, `password`, `ca.crt` or `cacert`, `insecureSkipVerify`)
    /// are in the folder [`SECRET_MOUNT`].
    Vsphere(VsphereDisk),
}

/// A disk of a VM in vSphere, and how it may be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VsphereDisk {
    /// Address of the SDK, `https://vcenter/sdk`; that of the ESXi host where a Host object names one.
    pub url: String,
    /// moRef of the VM at `url`'s server; looked up by the instance UUID where it is empty.
    pub vm: String,
    /// Instance UUID of the VM, compared before anything is read.
    pub instance_uuid: String,
    /// Key of the disk's device (2000 …).
    pub key: i32,
    /// The disk's base file, `[datastore] folder/name.vmdk`.
    pub file: String,
    /// SHA-1 or SHA-256 thumbprint that the server's certificate is pinned to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thumbprint: Option<String>,
    /// The reader: `nfc`, `ranges` or `vddk`; none to probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Folder with the user's VDDK (`lib64/libvixDiskLib.so`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vddk: Option<String>,
    /// Path of VDDK's configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vddk_config: Option<String>,
    /// VDDK's ways to the bytes, in their order, by colons; none for `nbdssl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vddk_transports: Option<String>,
}

/// How a volume is presented to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum VolumeMode {
    /// A directory that holds `disk.img`.
    #[default]
    Filesystem,
    /// A block device.
    Block,
}

/// How much of a copy is read back and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Verify {
    /// All of it.
    #[default]
    Full,
    /// A sample.
    Sampled,
    /// Nothing.
    None,
}

/// A digest from an OVF manifest; a mismatch is a permanent error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Digest {
    /// `SHA1`, `SHA256` or `SHA512`.
    pub algorithm: String,
    /// The digest in hexadecimal.
    pub hex: String,
}

/// What an importer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ImportPhase {
    /// Opening source and target, reading the chunk map.
    #[default]
    Preparing,
    /// Copying.
    Copying,
    /// Reading the copy back.
    Verifying,
    /// Finished well.
    Done,
    /// Finished badly.
    Failed,
}

/// How far an importer is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportProgress {
    /// What is going on.
    pub phase: ImportPhase,
    /// Size of the disk.
    pub bytes_total: u64,
    /// How much of the disk is dealt with.
    pub bytes_done: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Bytes written to the target.
    pub bytes_written: u64,
    /// Bytes that were zero or unallocated and need no copy.
    pub bytes_skipped: u64,
    /// Bytes that an earlier run had copied already.
    pub bytes_resumed: u64,
    /// Bytes a second, smoothed.
    pub rate: f64,
    /// Seconds left at this rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// How the disk is read, where there are several ways: `nfc`, `ranges` or `vddk`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Why it is read in this way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method_reason: Option<String>,
    /// What to tell a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How an importer ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportResult {
    /// Size of the disk.
    pub bytes_total: u64,
    /// Bytes written by this run.
    pub bytes_written: u64,
    /// Bytes that an earlier run had copied already.
    pub bytes_resumed: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Reads of the source that were tried again.
    pub retries: u64,
    /// State of the source that the target holds now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_id: Option<String>,
    /// How the disk was read, where there are several ways: `nfc`, `ranges` or `vddk`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Why it was read in this way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method_reason: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// `blake3:<hex>` of the whole disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether the copy was read back and found equal.
    pub verified: bool,
    /// What went wrong, if something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WorkerError>,
}

/// How far a conversion is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConversionProgress {
    /// `Preparing`, `Converting`, `Checking`, `Committing`, `Done` or `Failed`.
    pub phase: String,
    /// How much is done, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f32>,
    /// What to tell a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a conversion ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConversionResult {
    /// What did not work out as well as it should.
    pub warnings: Vec<Warning>,
    /// What was found in the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspection: Option<serde_json::Value>,
    /// The text that upstream's `/vm` gives (YAML or XML).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// `bios` or `uefi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// What went wrong, if something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WorkerError>,
}

/// A warning of a conversion, as upstream's `/warnings` gives them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Warning {
    /// Why.
    pub reason: String,
    /// What to tell a person.
    pub message: String,
}

/// What an inspection gives under [`RESULTS_PATH`]: upstream's fields, and the bytes it read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectionReport {
    /// Whether there is no concern.
    pub passed: bool,
    /// The same, as upstream's documentation calls it.
    pub all_checks_passed: bool,
    /// The concerns.
    pub all_concerns: Vec<InspectionConcern>,
    /// The guest's system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_info: Option<ReportedOs>,
    /// The guest's file systems.
    pub filesystems: Vec<InspectionFilesystem>,
    /// Where those are mounted.
    pub mountpoints: Vec<ReportedMountpoint>,
    /// Bytes that were read from the source.
    pub bytes_read: u64,
}

/// A guest's system, as an inspection reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportedOs {
    /// What the system calls itself.
    pub name: String,
    /// `debian`, `rhel`, `windows` …
    pub distro: String,
    /// Major version.
    pub major_version: String,
    /// `x86_64` …
    pub architecture: String,
}

/// Where a file system is mounted, as an inspection reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportedMountpoint {
    /// Its device.
    pub device: String,
    /// Where.
    pub mount_point: String,
}

impl From<InspectionReport> for InspectionResult {
    fn from(report: InspectionReport) -> Self {
        Self {
            all_checks_passed: report.passed || report.all_checks_passed,
            os_info: report.os_info.map(|os| OSInfo {
                name: os.name,
                distro: os.distro,
                version: os.major_version,
                arch: os.architecture,
            }),
            concerns: report.all_concerns,
            filesystems: report.filesystems,
            mountpoints: report
                .mountpoints
                .into_iter()
                .map(|point| InspectionMountpoint { device: point.device, mount_point: point.mount_point })
                .collect(),
            bytes_read: i64::try_from(report.bytes_read).unwrap_or(i64::MAX),
        }
    }
}

/// Why a worker failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkerError {
    /// A stable code, e.g. `DigestMismatch`, `NoSpace`, `UnsupportedFormat`, `UnknownOs`, `ToolMissing`,
    /// `VerifyFailed`, `SourceChanged`, `SourceUnreadable`.
    pub code: String,
    /// What failed and on what.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether another attempt may go well.
    pub retryable: bool,
}

impl WorkerError {
    /// Returns an error; an empty hint is none.
    pub fn new(code: &str, message: String, hint: &str, retryable: bool) -> Self {
        Self { code: code.to_owned(), message, hint: Some(hint.to_owned()).filter(|hint| !hint.is_empty()), retryable }
    }
}
