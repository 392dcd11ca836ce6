//! Network interfaces: QEMU's user network for the pod network, the node's switches for Multus networks.

use forklift_kubevirt_types::kubevirt::{Interface, Network};
use forklift_kubevirt_types::vmi::VirtualMachineInstance;
use serde_json::json;

use super::{Builder, Facts, PRIVATE_DIR, Refusal, escape};

/// The models of KubeVirt, by whether they are PCI Express devices.
const MODELS: [(&str, &str, bool); 6] = [
    ("virtio", "virtio-net-pci", true),
    ("e1000", "e1000", false),
    ("e1000e", "e1000e", true),
    ("rtl8139", "rtl8139", false),
    ("ne2k_pci", "ne2k_pci", false),
    ("pcnet", "pcnet", false),
];

impl Builder {
    pub(super) fn interfaces(&mut self, vmi: &VirtualMachineInstance, facts: &Facts) -> Result<(), Refusal> {
        for (position, interface) in vmi.spec.domain.devices.interfaces.iter().enumerate() {
            let network = vmi
                .spec
                .networks
                .iter()
                .find(|network| network.name == interface.name)
                .ok_or_else(|| format!("interface {} has no network of that name", interface.name))?;
            if interface.state.as_deref() == Some("absent") {
                continue;
            }
            let backend = self.backend_of(interface, network, position, facts)?;
            self.arg("-netdev", backend);
            let wanted = interface.model.as_deref().unwrap_or("virtio");
            let Some((_, model, express)) = MODELS.iter().find(|(name, ..)| *name == wanted) else {
                let names = MODELS.map(|(name, ..)| name).join(", ");
                return Err(
                    format!("interface {} has the unknown model {wanted}; use one of {names}", interface.name).into()
                );
            };
            // conventional PCI devices stay on the root bus
            let port = if *express { self.port() } else { String::new() };
            let mut device = format!("{model},netdev=net{position},id=nic{position},mac={}{port}", mac(vmi, interface));
            if let Some(index) = interface.acpi_index {
                device += &format!(",acpi-index={index}");
            }
            match interface.boot_order {
                Some(order) => device += &format!(",bootindex={order}"),
                // no time is lost with network boot that nobody asked for
                None => device += ",romfile=",
            }
            self.device(device);
        }
        Ok(())
    }

    fn backend_of(
        &mut self,
        interface: &Interface,
        network: &Network,
        position: usize,
        facts: &Facts,
    ) -> Result<String, Refusal> {
        let name = &interface.name;
        if let Some(pod) = &network.pod {
            let binding = interface.binding.as_ref().map(|binding| binding.name.as_str());
            let stand_in = match (interface.bridge.is_some(), interface.sriov.is_some(), binding) {
                (true, ..) => Some("bridge".to_owned()),
                (_, true, _) => Some("sriov".to_owned()),
                (_, _, Some(binding)) => Some(format!("the binding plug-in {binding}")),
                _ => None,
            };
            if let Some(what) = stand_in {
                self.note(format!(
                    "interface {name} is on QEMU's user network instead of {what}: the guest gets out, and its ports are reached at the pod's address"
                ));
            }
            let mut backend = format!("user,id=net{position}");
            if let Some(range) = pod.vm_network_cidr.as_deref() {
                backend += &format!(",net={}", escape(range));
            }
            return Ok(backend + &forwards(interface));
        }
        let Some(multus) = &network.multus else {
            return Err(format!("network {name} is neither pod nor multus").into());
        };
        let Some(segment) = facts.segments.get(name) else {
            let message =
                format!("network-attachment-definition \"{}\" of interface {name} not found", multus.network_name);
            return Err(Refusal { reason: "FailedCreate", message });
        };
        if interface.bridge.is_none() {
            self.note(format!(
                "interface {name} is bridged: Multus networks are Ethernet switches of the embedded node"
            ));
        }
        let (volume, dir) = (format!("kubevirt-net{position}"), format!("{PRIVATE_DIR}/net{position}"));
        self.volumes.push(json!({"name": volume, "hostPath": {"path": segment.dir, "type": "Directory"}}));
        self.mounts.push(json!({"name": volume, "mountPath": dir}));
        Ok(format!("stream,id=net{position},server=off,addr.type=unix,addr.path={dir}/switch.sock"))
    }
}

/// The address of an interface; one that the object does not give is derived from the names.
pub fn mac(vmi: &VirtualMachineInstance, interface: &Interface) -> String {
    interface.mac_address.clone().map(|mac| mac.replace('-', ":").to_lowercase()).unwrap_or_else(|| {
        let seed = format!("{:?}/{:?}/{}", vmi.metadata.namespace, vmi.metadata.name, interface.name);
        let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes());
        let [a, b, c, d, e, ..] = *id.as_bytes();
        format!("02:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}")
    })
}

/// Ports of the pod's address that lead into the guest: the listed ones, or ssh.
fn forwards(interface: &Interface) -> String {
    let mut ports: Vec<(String, u16)> = interface
        .ports
        .iter()
        .map(|port| (port.protocol.as_deref().unwrap_or("TCP").to_lowercase(), port.port))
        .filter(|(protocol, port)| *port > 0 && matches!(protocol.as_str(), "tcp" | "udp"))
        .collect();
    if ports.is_empty() {
        ports.push(("tcp".into(), 22));
    }
    ports.sort();
    ports.dedup();
    ports.iter().map(|(protocol, port)| format!(",hostfwd={protocol}:$(POD_IP):{port}-:{port}")).collect()
}
