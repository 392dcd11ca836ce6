//! The virt-launcher pod of a virtual machine: QEMU's command line and its volumes.
//!
//! ```text
//! VirtualMachineInstance + Facts ──launcher()──► Pod: prepare → [tpm] → guest-console-log → compute (QEMU)
//!        machine · firmware · disks · volumes · network · devices, each one file          + notes
//! ```
//! [`launcher`] is a function of values. What the stack cannot offer is either refused with the
//! reason, or left out with a note, when the guest runs without it as well.

mod bus;
mod devices;
mod disks;
mod facts;
mod firmware;
mod machine;
mod network;
mod pod;
mod unsupported;
mod volumes;

use std::collections::BTreeMap;

use forklift_kubevirt_types::vmi::VirtualMachineInstance;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

pub use disks::hot_id;
pub use facts::{Claim, DiskImage, Facts, FirmwareFiles, Segment};
pub use machine::topology;
pub use network::mac;
pub use pod::pod_name;
pub use volumes::{claim_of, claims, needs_state, seed, seed_secrets};

/// The image of the pods that run QEMU.
pub const IMAGE: &str = "node.embedded/virt-launcher";
/// The container that runs QEMU.
pub const COMPUTE: &str = "compute";
/// The container whose log is the serial console.
pub const CONSOLE: &str = "guest-console-log";
/// The container that runs the TPM.
pub const TPM: &str = "tpm";
/// The volume with QEMU's sockets.
pub const PRIVATE: &str = "private";
/// Where that volume is mounted.
const PRIVATE_DIR: &str = "/var/run/kubevirt-private";
/// Where the machine's persistent state is mounted.
const STATE_DIR: &str = "/var/run/kubevirt-state";
/// Slots for devices that are plugged in later.
pub const SPARE_PORTS: usize = 8;

/// A pod to create, and what the guest has to do without.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The virt-launcher pod.
    pub pod: Pod,
    /// What was left out.
    pub notes: Vec<String>,
}

/// Why a machine cannot be run here, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The word for it in conditions and events.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self { reason: super::vmi::REFUSED, message }
    }
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

/// Makes the pod that runs a machine, or says why it cannot be run here.
pub fn launcher(vmi: &VirtualMachineInstance, facts: &Facts) -> Result<Launcher, Refusal> {
    let mut builder = Builder { express: machine::is_express(&vmi.spec), ..Builder::default() };
    unsupported::refuse(&vmi.spec)?;
    builder.machine(vmi, facts)?;
    builder.firmware(&vmi.spec, facts)?;
    builder.devices(&vmi.spec, facts)?;
    builder.disks(&vmi.spec, facts)?;
    builder.interfaces(vmi, facts)?;
    builder.spare_ports(&vmi.spec);
    builder.notes.extend(unsupported::notes(&vmi.spec));
    builder.pod(vmi, facts.state.as_deref())
}

/// What comes together from all parts of the specification.
#[derive(Default)]
struct Builder {
    args: Vec<String>,
    env: BTreeMap<&'static str, String>,
    mounts: Vec<Value>,
    devices: Vec<Value>,
    volumes: Vec<Value>,
    prepare: Vec<String>,
    prepare_mounts: Vec<Value>,
    prepare_devices: Vec<Value>,
    service_account: Option<String>,
    notes: Vec<String>,
    controllers: Vec<String>,
    express: bool,
    ports: usize,
    secure: bool,
    sata_ports: usize,
    tpm: Option<String>,
}

impl Builder {
    fn arg(&mut self, option: &str, value: impl Into<String>) {
        self.args.extend([option.to_owned(), value.into()]);
    }

    fn device(&mut self, value: impl Into<String>) {
        self.arg("-device", value);
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// A comma in a value of QEMU's is written twice.
pub fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

/// A word of the shell's.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
