//! Where devices are plugged: PCI Express root ports, and controllers that several disks share.
//!
//! Each PCI device has a root port of its own, so that it can be unplugged and that there is room for
//! a hundred of them. The ports are functions of the slots 0x10 and up; what the chipset brings along
//! and conventional PCI devices stay below. No port reserves I/O space, of which there is room for
//! few: virtio devices behind PCI Express need none.

use forklift_kubevirt_types::kubevirt::VirtualMachineInstanceSpec;

use super::{Builder, SPARE_PORTS};

/// The first slot of root ports on the root bus.
const FIRST_SLOT: usize = 0x10;
/// Functions of a slot.
const FUNCTIONS: usize = 8;

impl Builder {
    /// Makes a root port; returns the `,bus=…` of the device that comes into it.
    pub(super) fn port(&mut self) -> String {
        let name = format!("rp{}", self.ports);
        self.root_port(&name)
    }

    /// Makes the ports into which devices are plugged later.
    pub(super) fn spare_ports(&mut self, spec: &VirtualMachineInstanceSpec) {
        if self.express && spec.domain.devices.disable_hotplug != Some(true) {
            for spare in 0..SPARE_PORTS {
                self.root_port(&format!("hp{spare}"));
            }
        }
    }

    fn root_port(&mut self, name: &str) -> String {
        if !self.express {
            return String::new();
        }
        let (slot, function) = (FIRST_SLOT + self.ports / FUNCTIONS, self.ports % FUNCTIONS);
        let first = if function == 0 { ",multifunction=on" } else { "" };
        self.ports += 1;
        self.device(format!(
            "pcie-root-port,id={name},bus=pcie.0,chassis={},addr={slot:#x}.{function}{first},io-reserve=0",
            self.ports
        ));
        format!(",bus={name}")
    }

    /// Makes a controller, unless it is there.
    pub(super) fn controller(&mut self, model: &str, id: &str) {
        if self.controllers.iter().any(|known| known == id) {
            return;
        }
        self.controllers.push(id.to_owned());
        let bus = if model == "ahci" { String::new() } else { self.port() };
        self.device(format!("{model},id={id}{bus}"));
    }
}
