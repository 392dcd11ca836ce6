//! The virt-launcher pod of a virtual machine: QEMU's command line and its volumes.
//!
//! [`launcher`] is a function of the VirtualMachineInstance and a few facts. What the stack
//! cannot offer is either refused with the reason, or left out with a note, when the guest
//! runs without it as well.

use std::collections::BTreeMap;
use std::path::Path;

use forklift_kubevirt_types::kubevirt::{Disk, Efi, Interface, VirtualMachineInstanceSpec, Volume};
use forklift_kubevirt_types::vmi::VirtualMachineInstance;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::events::short_hash;
use crate::quantity;

/// The image of the pods that run QEMU.
pub const IMAGE: &str = "node.embedded/virt-launcher";
/// The container that runs QEMU.
pub const COMPUTE: &str = "compute";
/// The container whose log is the serial console.
pub const CONSOLE: &str = "guest-console-log";
/// The volume with QEMU's sockets.
pub const PRIVATE: &str = "private";
const PRIVATE_DIR: &str = "/var/run/kubevirt-private";

/// What the command line depends on besides the object.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// KVM can be used.
    pub kvm: bool,
    /// The claims that the machine uses, by name.
    pub claims: BTreeMap<String, Claim>,
    /// Firmware files of this machine.
    pub firmware: FirmwareFiles,
}

/// What is to be known of a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its volumeMode is Block.
    pub block: bool,
    /// Its volume is a real block device, not a file.
    pub device: bool,
}

/// UEFI firmware of this machine: code and the empty variable store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FirmwareFiles {
    /// Without secure boot.
    pub plain: Option<(String, String)>,
    /// With secure boot and the usual keys.
    pub secure: Option<(String, String)>,
}

impl FirmwareFiles {
    /// Looks where distributions put the files.
    pub fn find() -> Self {
        let first = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .find(|(code, vars)| Path::new(code).exists() && Path::new(vars).exists())
                .map(|(code, vars)| ((*code).to_owned(), (*vars).to_owned()))
        };
        Self {
            plain: first(&[
                ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
                ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
                ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
            ]),
            secure: first(&[
                ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
                ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"),
                ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
            ]),
        }
    }
}

/// A pod to create, and what the guest has to do without.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The virt-launcher pod.
    pub pod: Pod,
    /// What was left out.
    pub notes: Vec<String>,
}

/// Names of the claims behind a machine's volumes.
pub fn claims(spec: &VirtualMachineInstanceSpec) -> Vec<String> {
    spec.volumes.iter().filter_map(claim_of).collect()
}

fn claim_of(volume: &Volume) -> Option<String> {
    let claim = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone());
    claim.or_else(|| volume.data_volume.as_ref().map(|source| source.name.clone()))
}

/// Makes the pod that runs a machine, or says why it cannot be run here.
pub fn launcher(vmi: &VirtualMachineInstance, facts: &Facts) -> Result<Launcher, String> {
    let mut builder = Builder::default();
    builder.machine(vmi, facts)?;
    builder.firmware(&vmi.spec, facts)?;
    builder.disks(&vmi.spec, facts)?;
    builder.interfaces(vmi)?;
    builder.devices(&vmi.spec);
    builder.pod(vmi)
}

#[derive(Default)]
struct Builder {
    args: Vec<String>,
    mounts: Vec<Value>,
    devices: Vec<Value>,
    volumes: Vec<Value>,
    prepare: Vec<String>,
    notes: Vec<String>,
    controllers: Vec<&'static str>,
    secure: bool,
    sata_ports: u32,
}

impl Builder {
    fn arg(&mut self, option: &str, value: impl Into<String>) {
        self.args.extend([option.to_owned(), value.into()]);
    }

    fn machine(&mut self, vmi: &VirtualMachineInstance, facts: &Facts) -> Result<(), String> {
        let (spec, domain) = (&vmi.spec, &vmi.spec.domain);
        let name = vmi.metadata.name.clone().unwrap_or_default();
        self.arg(
            "-name",
            format!("guest={}_{name},debug-threads=on", vmi.metadata.namespace.clone().unwrap_or_default()),
        );
        self.args.extend(["-nodefaults", "-no-user-config", "-display", "none"].map(String::from));
        let bootloader = domain.firmware.as_ref().and_then(|firmware| firmware.bootloader.as_ref());
        self.secure = bootloader.and_then(|loader| loader.efi.as_ref()).is_some_and(|efi| is_secure(efi, facts));
        let kind = domain.machine.as_ref().and_then(|machine| machine.type_.as_deref()).unwrap_or("q35");
        let kind = if kind == "pc" || kind.starts_with("pc-i440fx") { "pc" } else { "q35" };
        let smm = if self.secure { ",smm=on" } else { "" };
        self.arg("-machine", format!("{kind},accel={}{smm}", if facts.kvm { "kvm" } else { "tcg" }));
        let best = super::probe::processor(facts.kvm);
        let model = domain.cpu.as_ref().and_then(|cpu| cpu.model.as_deref());
        let model = match model {
            None | Some("host-model" | "host-passthrough") => best,
            // an emulated processor has no vendor's models with all their features
            Some(_) if !facts.kvm => best,
            Some(model) => model,
        };
        self.arg("-cpu", model);
        let requests = domain.resources.as_ref().map(|resources| &resources.requests);
        let requested = |what: &str| requests.and_then(|requests| quantity::parse(&requests.get(what)?.0));
        let (sockets, cores, threads) = match &domain.cpu {
            Some(cpu) if cpu.sockets.is_some() || cpu.cores.is_some() || cpu.threads.is_some() => {
                (cpu.sockets.unwrap_or(1), cpu.cores.unwrap_or(1), cpu.threads.unwrap_or(1))
            }
            Some(_) | None => (requested("cpu").map_or(1, |cpus| cpus.ceil().max(1.0) as u32), 1, 1),
        };
        let total = sockets.saturating_mul(cores).saturating_mul(threads);
        self.arg("-smp", format!("{total},sockets={sockets},cores={cores},threads={threads}"));
        let guest = domain.memory.as_ref().and_then(|memory| quantity::parse(&memory.guest.as_ref()?.0));
        let memory = guest.or_else(|| requested("memory")).ok_or_else(|| {
            if vmi.spec.other.contains_key("instancetype") {
                "instance types are not offered by the embedded node; set domain.memory.guest".to_owned()
            } else {
                "the machine has no memory: set spec.domain.memory.guest".to_owned()
            }
        })?;
        self.arg("-m", format!("{}M", (memory / 1_048_576.0).ceil().max(1.0)));
        let firmware = domain.firmware.clone().unwrap_or_default();
        let id = format!("{}/{name}", vmi.metadata.namespace.clone().unwrap_or_default());
        let uuid = firmware
            .uuid
            .clone()
            .unwrap_or_else(|| uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, id.as_bytes()).to_string());
        self.arg("-uuid", uuid.clone());
        let serial = firmware.serial.as_deref().map(|serial| format!(",serial={}", escape(serial))).unwrap_or_default();
        self.arg("-smbios", format!("type=1,manufacturer=KubeVirt,product=None,uuid={uuid}{serial}"));
        self.arg("-rtc", "base=utc,driftfix=slew");
        if spec.domain.devices.autoattach_graphics_device != Some(false) {
            self.arg("-vga", "std");
        }
        self.arg("-chardev", format!(
            "socket,id=serial0,path={PRIVATE_DIR}/serial.sock,server=on,wait=off,logfile={PRIVATE_DIR}/serial.log,logappend=on"
        ));
        self.arg("-serial", "chardev:serial0");
        self.arg("-qmp", format!("unix:{PRIVATE_DIR}/qmp.sock,server=on,wait=off"));
        Ok(())
    }

    fn firmware(&mut self, spec: &VirtualMachineInstanceSpec, facts: &Facts) -> Result<(), String> {
        let firmware = spec.domain.firmware.as_ref();
        let Some(efi) = firmware.and_then(|firmware| firmware.bootloader.as_ref()?.efi.as_ref()) else {
            return Ok(());
        };
        let (code, vars) = if self.secure { facts.firmware.secure.as_ref() } else { facts.firmware.plain.as_ref() }
            .ok_or("the machine boots by UEFI, whose firmware is not on this machine: install the package ovmf")?;
        if efi.secure_boot == Some(true) && !self.secure {
            return Err(
                "the machine asks for secure boot, whose firmware is not on this machine: install the package ovmf"
                    .into(),
            );
        }
        if efi.persistent == Some(true) {
            self.notes.push("UEFI variables are not kept across restarts of the machine".into());
        }
        self.prepare.push(format!("cp {vars} {PRIVATE_DIR}/vars.fd"));
        self.arg("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={}", escape(code)));
        self.arg("-drive", format!("if=pflash,unit=1,format=raw,file={PRIVATE_DIR}/vars.fd"));
        if self.secure {
            self.arg("-global", "driver=cfi.pflash01,property=secure,value=on");
        }
        Ok(())
    }

    fn disks(&mut self, spec: &VirtualMachineInstanceSpec, facts: &Facts) -> Result<(), String> {
        let devices = &spec.domain.devices;
        let ordered = devices.disks.iter().any(|disk| disk.boot_order.is_some())
            || devices.interfaces.iter().any(|interface| interface.boot_order.is_some());
        for (position, disk) in devices.disks.iter().enumerate() {
            let volume = spec
                .volumes
                .iter()
                .find(|volume| volume.name == disk.name)
                .ok_or_else(|| format!("disk {} has no volume of that name", disk.name))?;
            let Some((path, driver)) = self.volume(volume, facts)? else { continue };
            let order = if ordered { disk.boot_order } else { Some(position as u32 + 1) };
            self.disk(disk, position, &path, driver, order);
        }
        Ok(())
    }

    /// Brings a volume into the pod; returns the image's path there and QEMU's driver for it.
    fn volume(&mut self, volume: &Volume, facts: &Facts) -> Result<Option<(String, &'static str)>, String> {
        let name = &volume.name;
        if let Some(claim_name) = claim_of(volume) {
            let claim = facts
                .claims
                .get(&claim_name)
                .ok_or_else(|| format!("persistentvolumeclaim \"{claim_name}\" not found"))?;
            self.volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": claim_name}}));
            if claim.block {
                let path = format!("/dev/{name}");
                self.devices.push(json!({"name": name, "devicePath": path}));
                return Ok(Some((path, if claim.device { "host_device" } else { "file" })));
            }
            let dir = format!("{PRIVATE_DIR}/vmi-disks/{name}");
            self.mounts.push(json!({"name": name, "mountPath": dir}));
            return Ok(Some((format!("{dir}/disk.img"), "file")));
        }
        if let Some(empty) = &volume.empty_disk {
            let size = empty.capacity.as_ref().and_then(|size| quantity::bytes(&size.0)).unwrap_or(0);
            let path = format!("{PRIVATE_DIR}/empty-{name}.img");
            self.prepare.push(format!("truncate -s {size} {path}"));
            return Ok(Some((path, "file")));
        }
        self.notes.push(format!(
            "volume {name} is left out: the embedded node offers persistentVolumeClaim, dataVolume and emptyDisk volumes"
        ));
        Ok(None)
    }

    fn disk(&mut self, disk: &Disk, position: usize, path: &str, driver: &str, order: Option<u32>) {
        let target = disk.disk.as_ref().map(|target| (target.bus.as_deref(), target.readonly));
        let lun = disk.lun.as_ref().map(|target| (Some(target.bus.as_deref().unwrap_or("scsi")), target.readonly));
        let cdrom = disk.cdrom.as_ref().map(|target| (target.bus.as_deref(), Some(target.readonly != Some(false))));
        let (bus, read_only) = target.or(lun).or(cdrom).unwrap_or((None, None));
        let is_cd = disk.cdrom.is_some();
        let id = format!("disk{position}");
        let read_only = if read_only == Some(true) { "on" } else { "off" };
        let share = if disk.shareable == Some(true) { ",file.locking=off" } else { "" };
        let direct = if disk.cache.as_deref() == Some("none") { "on" } else { "off" };
        self.arg("-blockdev", format!(
            "driver=raw,node-name={id},read-only={read_only},discard=unmap,cache.direct={direct},file.driver={driver},file.filename={}{share}",
            escape(path)
        ));
        let mut device = match bus.unwrap_or("sata") {
            "virtio" => "virtio-blk-pci".to_owned(),
            "scsi" => {
                self.controller("virtio-scsi-pci,id=scsi0");
                format!("scsi-{},bus=scsi0.0", if is_cd { "cd" } else { "hd" })
            }
            "usb" => {
                self.controller("qemu-xhci,id=usb");
                "usb-storage,bus=usb.0".to_owned()
            }
            _ => {
                // the chipset has six ports; more come with further controllers
                let (controller, port) = (self.sata_ports / 6, self.sata_ports % 6);
                self.sata_ports += 1;
                self.controller(
                    ["ahci,id=sata0", "ahci,id=sata1", "ahci,id=sata2", "ahci,id=sata3"][controller.min(3) as usize],
                );
                format!("ide-{},bus=sata{}.{port}", if is_cd { "cd" } else { "hd" }, controller.min(3))
            }
        };
        device += &format!(",drive={id},id=dev-{id}");
        if let Some(serial) = &disk.serial {
            device += &format!(",serial={}", escape(serial));
        }
        if disk.cache.as_deref() == Some("writethrough") {
            device += ",write-cache=off";
        }
        if disk.shareable == Some(true) {
            device += ",share-rw=on";
        }
        if let Some(order) = order {
            device += &format!(",bootindex={order}");
        }
        self.arg("-device", device);
    }

    fn controller(&mut self, device: &'static str) {
        if !self.controllers.contains(&device) {
            self.controllers.push(device);
            self.arg("-device", device);
        }
    }

    fn interfaces(&mut self, vmi: &VirtualMachineInstance) -> Result<(), String> {
        let mut forwarded = false;
        for (position, interface) in vmi.spec.domain.devices.interfaces.iter().enumerate() {
            let network = vmi
                .spec
                .networks
                .iter()
                .find(|network| network.name == interface.name)
                .ok_or_else(|| format!("interface {} has no network of that name", interface.name))?;
            let mut backend = format!("user,id=net{position}");
            if network.pod.is_some() && interface.bridge.is_none() {
                if let Some(range) = network.pod.as_ref().and_then(|pod| pod.vm_network_cidr.as_deref()) {
                    backend += &format!(",net={}", escape(range));
                }
                if !std::mem::replace(&mut forwarded, true) {
                    backend += &forwards(interface);
                }
            } else {
                backend += ",restrict=on";
                self.notes.push(format!(
                    "interface {} is isolated: the embedded node connects only the pod network by masquerade",
                    interface.name
                ));
            }
            self.arg("-netdev", backend);
            let model = match interface.model.as_deref().unwrap_or("virtio") {
                "virtio" => "virtio-net-pci",
                model @ ("e1000" | "e1000e" | "rtl8139" | "ne2k_pci" | "pcnet") => model,
                other => {
                    return Err(format!(
                        "interface {} has the unknown model {other}; use virtio, e1000, e1000e, rtl8139, ne2k_pci or pcnet",
                        interface.name
                    ));
                }
            };
            let mut device = format!("{model},netdev=net{position},mac={}", mac(vmi, interface));
            match interface.boot_order {
                Some(order) => device += &format!(",bootindex={order}"),
                // no time is lost with network boot that nobody asked for
                None => device += ",romfile=",
            }
            self.arg("-device", device);
        }
        Ok(())
    }

    fn devices(&mut self, spec: &VirtualMachineInstanceSpec) {
        let devices = &spec.domain.devices;
        if devices.rng.is_some() {
            self.arg("-device", "virtio-rng-pci");
        }
        if devices.tpm.as_ref().is_some_and(|tpm| tpm.enabled != Some(false)) {
            self.notes.push("the machine has no TPM: the embedded node does not offer one".into());
        }
        for input in devices.inputs.iter().filter(|input| input.type_ == "tablet") {
            if input.bus.as_deref() == Some("virtio") {
                self.arg("-device", "virtio-tablet-pci");
            } else {
                self.controller("qemu-xhci,id=usb");
                self.arg("-device", "usb-tablet,bus=usb.0");
            }
        }
    }

    fn pod(self, vmi: &VirtualMachineInstance) -> Result<Launcher, String> {
        let name = vmi.metadata.name.clone().unwrap_or_default();
        let uid = vmi.metadata.uid.clone().unwrap_or_default();
        let own = json!({"name": PRIVATE, "mountPath": PRIVATE_DIR});
        let mut mounts = vec![own.clone()];
        mounts.extend(self.mounts);
        let mut volumes = vec![json!({"name": PRIVATE, "emptyDir": {}})];
        volumes.extend(self.volumes);
        let mut init = Vec::new();
        if !self.prepare.is_empty() {
            let script = format!("set -e; {}", self.prepare.join("; "));
            init.push(
                json!({"name": "prepare", "image": IMAGE, "command": ["sh", "-c", script], "volumeMounts": [own]}),
            );
        }
        // ends as soon as it is asked to, after what was written last
        let log = format!("{PRIVATE_DIR}/serial.log");
        let script = format!("touch {log}; trap 'sleep 0.3; exit 0' TERM; tail -n +1 -f {log} & wait");
        init.push(json!({"name": CONSOLE, "image": IMAGE, "restartPolicy": "Always", "command": ["sh", "-c", script], "volumeMounts": [own]}));
        let mut command = vec!["qemu-system-x86_64".to_owned()];
        command.extend(self.args);
        let template = json!({
            "metadata": {
                "name": pod_name(&name, &uid),
                "namespace": vmi.metadata.namespace,
                "labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": uid, "vm.kubevirt.io/name": name},
                "annotations": {"kubevirt.io/domain": name},
                "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": name,
                    "uid": uid, "controller": true, "blockOwnerDeletion": true}],
            },
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": vmi.spec.termination_grace_period_seconds.unwrap_or(30),
                "nodeSelector": vmi.spec.node_selector,
                "initContainers": init,
                "containers": [{
                    "name": COMPUTE, "image": IMAGE, "command": command,
                    "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                    "volumeMounts": mounts, "volumeDevices": self.devices,
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                }],
                "volumes": volumes,
            },
        });
        let pod = serde_json::from_value(template).map_err(|error| error.to_string())?;
        Ok(Launcher { pod, notes: self.notes })
    }
}

/// The name of a machine's pod: the same for each attempt to create it.
pub fn pod_name(name: &str, uid: &str) -> String {
    let base: String = name.chars().take(43).collect();
    format!("virt-launcher-{base}-{}", &short_hash(uid)[..5])
}

/// The address of an interface; one that the object does not give is derived from the names.
pub fn mac(vmi: &VirtualMachineInstance, interface: &Interface) -> String {
    interface.mac_address.clone().map(|mac| mac.replace('-', ":")).unwrap_or_else(|| {
        let seed = format!("{:?}/{:?}/{}", vmi.metadata.namespace, vmi.metadata.name, interface.name);
        let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes());
        let [a, b, c, d, e, ..] = *id.as_bytes();
        format!("02:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}")
    })
}

/// KubeVirt's default for UEFI is secure boot; without its firmware only a wish for it is refused.
fn is_secure(efi: &Efi, facts: &Facts) -> bool {
    efi.secure_boot != Some(false) && facts.firmware.secure.is_some()
}

/// Ports of the pod's address that lead into the guest: the listed ones, or ssh.
fn forwards(interface: &Interface) -> String {
    let listed = interface.ports.iter().filter_map(|port| {
        let number = port.get("port")?.as_u64()?;
        let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_lowercase();
        Some((protocol, number))
    });
    let mut ports: Vec<(String, u64)> = listed.collect();
    if ports.is_empty() {
        ports.push(("tcp".into(), 22));
    }
    ports.iter().map(|(protocol, port)| format!(",hostfwd={protocol}:$(POD_IP):{port}-:{port}")).collect()
}

/// A comma in a value of QEMU's is written twice.
fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn facts() -> Facts {
        let claim = |block| Claim { block, device: false };
        Facts {
            kvm: false,
            claims: [("root".to_owned(), claim(false)), ("data".to_owned(), claim(true))].into(),
            firmware: FirmwareFiles { plain: Some(("/f/code".into(), "/f/vars".into())), secure: None },
        }
    }

    fn machine(domain: Value) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "apps", "uid": "u-1"},
            "spec": {
                "domain": domain,
                "networks": [{"name": "default", "pod": {}}, {"name": "lan", "multus": {"networkName": "apps/lan"}}],
                "volumes": [
                    {"name": "root", "persistentVolumeClaim": {"claimName": "root"}},
                    {"name": "data", "dataVolume": {"name": "data"}},
                    {"name": "gone", "persistentVolumeClaim": {"claimName": "gone"}},
                    {"name": "init", "cloudInitNoCloud": {"userData": "x"}},
                ],
            },
        }))
        .expect("a machine")
    }

    fn command(domain: Value) -> String {
        let launcher = launcher(&machine(domain), &facts()).expect("a pod");
        let spec = launcher.pod.spec.expect("a spec");
        let command = spec.containers[0].command.clone().expect("a command");
        let mut text = command[1..]
            .iter()
            .fold(command[0].clone(), |text, word| text + if word.starts_with('-') { "\n" } else { " " } + word);
        text.push('\n');
        for note in launcher.notes {
            text += &format!("note: {note}\n");
        }
        text
    }

    #[test]
    fn a_small_machine() {
        expect![[r#"
            qemu-system-x86_64
            -name guest=apps_web,debug-threads=on
            -nodefaults
            -no-user-config
            -display none
            -machine q35,accel=tcg
            -cpu max
            -smp 1,sockets=1,cores=1,threads=1
            -m 512M
            -uuid 69cbdc01-5630-5f04-847a-ed0f78fb2bd0
            -smbios type=1,manufacturer=KubeVirt,product=None,uuid=69cbdc01-5630-5f04-847a-ed0f78fb2bd0
            -rtc base=utc,driftfix=slew
            -vga std
            -chardev socket,id=serial0,path=/var/run/kubevirt-private/serial.sock,server=on,wait=off,logfile=/var/run/kubevirt-private/serial.log,logappend=on
            -serial chardev:serial0
            -qmp unix:/var/run/kubevirt-private/qmp.sock,server=on,wait=off
            -blockdev driver=raw,node-name=disk0,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/vmi-disks/root/disk.img
            -device virtio-blk-pci,drive=disk0,id=dev-disk0,bootindex=1
            -netdev user,id=net0,hostfwd=tcp:$(POD_IP):22-:22
            -device virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01,romfile=
        "#]]
        .assert_eq(&command(json!({
            "memory": {"guest": "512Mi"},
            "devices": {
                "disks": [{"name": "root", "disk": {"bus": "virtio"}}],
                "interfaces": [{"name": "default", "masquerade": {}, "model": "virtio", "macAddress": "02-00-00-00-00-01"}],
            },
        })));
    }

    #[test]
    fn a_machine_with_everything() {
        expect![[r#"
            qemu-system-x86_64
            -name guest=apps_web,debug-threads=on
            -nodefaults
            -no-user-config
            -display none
            -machine q35,accel=tcg
            -cpu max
            -smp 8,sockets=2,cores=4,threads=1
            -m 2048M
            -uuid 11111111-2222-3333-4444-555555555555
            -smbios type=1,manufacturer=KubeVirt,product=None,uuid=11111111-2222-3333-4444-555555555555,serial=VMware-42
            -rtc base=utc,driftfix=slew
            -chardev socket,id=serial0,path=/var/run/kubevirt-private/serial.sock,server=on,wait=off,logfile=/var/run/kubevirt-private/serial.log,logappend=on
            -serial chardev:serial0
            -qmp unix:/var/run/kubevirt-private/qmp.sock,server=on,wait=off
            -drive if=pflash,unit=0,format=raw,readonly=on,file=/f/code
            -drive if=pflash,unit=1,format=raw,file=/var/run/kubevirt-private/vars.fd
            -blockdev driver=raw,node-name=disk0,read-only=off,discard=unmap,cache.direct=on,file.driver=file,file.filename=/var/run/kubevirt-private/vmi-disks/root/disk.img
            -device ahci,id=sata0
            -device ide-hd,bus=sata0.0,drive=disk0,id=dev-disk0,serial=abc,,d,bootindex=2
            -blockdev driver=raw,node-name=disk1,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/dev/data
            -device virtio-scsi-pci,id=scsi0
            -device scsi-hd,bus=scsi0.0,drive=disk1,id=dev-disk1,write-cache=off,bootindex=1
            -netdev user,id=net0,restrict=on
            -device e1000e,netdev=net0,mac=02:00:00:00:00:02,romfile=
            -netdev user,id=net1,hostfwd=tcp:$(POD_IP):80-:80,hostfwd=udp:$(POD_IP):53-:53
            -device virtio-net-pci,netdev=net1,mac=02:00:00:00:00:03,bootindex=3
            -device virtio-rng-pci
            -device qemu-xhci,id=usb
            -device usb-tablet,bus=usb.0
            note: volume init is left out: the embedded node offers persistentVolumeClaim, dataVolume and emptyDisk volumes
            note: interface lan is isolated: the embedded node connects only the pod network by masquerade
            note: the machine has no TPM: the embedded node does not offer one
        "#]]
        .assert_eq(&command(json!({
            "cpu": {"sockets": 2, "cores": 4, "model": "host-model"},
            "resources": {"requests": {"memory": "2Gi"}},
            "firmware": {"bootloader": {"efi": {"secureBoot": false}}, "serial": "VMware-42",
                         "uuid": "11111111-2222-3333-4444-555555555555"},
            "devices": {
                "autoattachGraphicsDevice": false,
                "disks": [
                    {"name": "root", "disk": {"bus": "sata"}, "serial": "abc,d", "bootOrder": 2, "cache": "none"},
                    {"name": "data", "disk": {"bus": "scsi"}, "bootOrder": 1, "cache": "writethrough"},
                    {"name": "init", "cdrom": {"bus": "sata"}},
                ],
                "interfaces": [
                    {"name": "lan", "bridge": {}, "model": "e1000e", "macAddress": "02:00:00:00:00:02"},
                    {"name": "default", "masquerade": {}, "macAddress": "02:00:00:00:00:03", "bootOrder": 3,
                     "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]},
                ],
                "rng": {}, "tpm": {}, "inputs": [{"name": "t", "type": "tablet", "bus": "usb"}],
            },
        })));
    }

    #[test]
    fn what_cannot_run_is_refused_with_the_reason() {
        let refuse = |domain| launcher(&machine(domain), &facts()).expect_err("refused");
        let memory = json!({"guest": "1Gi"});
        assert_eq!(refuse(json!({})), "the machine has no memory: set spec.domain.memory.guest");
        assert_eq!(
            refuse(json!({"memory": memory, "devices": {"disks": [{"name": "gone", "disk": {}}]}})),
            "persistentvolumeclaim \"gone\" not found"
        );
        assert!(
            refuse(json!({"memory": memory, "firmware": {"bootloader": {"efi": {"secureBoot": true}}}}))
                .contains("install the package ovmf")
        );
        assert!(
            refuse(json!({"memory": memory, "devices": {"interfaces": [{"name": "default", "model": "x"}]}}))
                .contains("unknown model x")
        );
    }
}
