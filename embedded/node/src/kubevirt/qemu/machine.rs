//! Machine type, processors, memory, clock, identity, consoles.

use std::collections::BTreeMap;

use forklift_kubevirt_types::kubevirt::{Clock, Cpu, Domain, FeatureState, VirtualMachineInstanceSpec};
use forklift_kubevirt_types::vmi::VirtualMachineInstance;

use super::{Builder, Facts, PRIVATE_DIR, Refusal, escape, firmware};
use crate::quantity;

/// Whether the machine has PCI Express: all but the old `pc`.
pub fn is_express(spec: &VirtualMachineInstanceSpec) -> bool {
    let kind = spec.domain.machine.as_ref().and_then(|machine| machine.type_.as_deref()).unwrap_or("q35");
    kind != "pc" && !kind.starts_with("pc-i440fx")
}

/// Sockets, cores and threads: as said, else one core for each processor that is asked for.
pub fn topology(domain: &Domain) -> (u32, u32, u32) {
    match &domain.cpu {
        Some(cpu) if cpu.sockets.is_some() || cpu.cores.is_some() || cpu.threads.is_some() => {
            (cpu.sockets.unwrap_or(1).max(1), cpu.cores.unwrap_or(1).max(1), cpu.threads.unwrap_or(1).max(1))
        }
        Some(_) | None => {
            let asked = |amounts: &BTreeMap<String, _>| quantity_of(amounts, "cpu");
            let resources = domain.resources.as_ref();
            let cpus = resources.and_then(|all| asked(&all.limits).or_else(|| asked(&all.requests)));
            (cpus.map_or(1, |cpus| cpus.ceil().max(1.0) as u32), 1, 1)
        }
    }
}

fn quantity_of(
    amounts: &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    what: &str,
) -> Option<f64> {
    quantity::parse(&amounts.get(what)?.0)
}

/// Bytes that the guest sees: as said, else what is asked for.
pub fn memory(domain: &Domain) -> Option<f64> {
    let guest = domain.memory.as_ref().and_then(|memory| quantity::parse(&memory.guest.as_ref()?.0));
    let resources = domain.resources.as_ref();
    guest.or_else(|| quantity_of(&resources?.requests, "memory")).or_else(|| quantity_of(&resources?.limits, "memory"))
}

fn on(state: Option<&FeatureState>) -> bool {
    state.is_some_and(|state| state.enabled != Some(false))
}

fn off(state: Option<&FeatureState>) -> bool {
    state.is_some_and(|state| state.enabled == Some(false))
}

impl Builder {
    pub(super) fn machine(&mut self, vmi: &VirtualMachineInstance, facts: &Facts) -> Result<(), Refusal> {
        let domain = &vmi.spec.domain;
        let name = vmi.metadata.name.clone().unwrap_or_default();
        let namespace = vmi.metadata.namespace.clone().unwrap_or_default();
        self.arg("-name", format!("guest={namespace}_{name},debug-threads=on"));
        self.args.extend(["-nodefaults", "-no-user-config", "-display", "none"].map(String::from));
        self.secure = firmware::is_secure(domain, facts);
        self.kind(domain, facts);
        self.processors(domain, facts)?;
        let memory = memory(domain).ok_or("the machine has no memory: set spec.domain.memory.guest")?;
        self.arg("-m", format!("{}M", (memory / 1_048_576.0).ceil().max(1.0)));
        self.identity(domain, &format!("{namespace}/{name}"));
        self.clock(domain.clock.as_ref());
        if vmi.spec.start_strategy.as_deref() == Some("Paused") {
            self.args.push("-S".into());
        }
        if domain.reboot_policy.as_deref() == Some("Terminate") {
            self.args.push("-no-reboot".into());
        }
        self.consoles(domain);
        Ok(())
    }

    fn kind(&mut self, domain: &Domain, facts: &Facts) {
        let mut kind = String::from(if self.express { "q35" } else { "pc" });
        kind += if facts.kvm { ",accel=kvm" } else { ",accel=tcg" };
        let features = domain.features.clone().unwrap_or_default();
        if self.express && (self.secure || on(features.smm.as_ref())) {
            kind += ",smm=on";
        }
        if off(features.acpi.as_ref()) {
            kind += ",acpi=off";
        }
        let bootloader = domain.firmware.as_ref().and_then(|firmware| firmware.bootloader.as_ref());
        if bootloader.and_then(|loader| loader.bios.as_ref()).is_some_and(|bios| bios.use_serial == Some(true)) {
            // SeaBIOS then speaks on the serial console
            kind += ",graphics=off";
        }
        let timers = domain.clock.as_ref().and_then(|clock| clock.timer.clone()).unwrap_or_default();
        if timers.hpet.is_some_and(|hpet| hpet.present == Some(false)) {
            kind += ",hpet=off";
        }
        self.arg("-machine", kind);
        if timers.pit.and_then(|pit| pit.tick_policy).as_deref() == Some("delay") && facts.kvm {
            self.arg("-global", "kvm-pit.lost_tick_policy=delay");
        }
    }

    fn processors(&mut self, domain: &Domain, facts: &Facts) -> Result<(), Refusal> {
        let cpu = domain.cpu.clone().unwrap_or_default();
        let model = self.model(&cpu, facts);
        let features = self.features(&cpu, domain, facts)?;
        self.arg("-cpu", model + &features);
        let (sockets, cores, threads) = topology(domain);
        let total = sockets.saturating_mul(cores).saturating_mul(threads);
        self.arg("-smp", format!("{total},sockets={sockets},cores={cores},threads={threads}"));
        Ok(())
    }

    fn model(&mut self, cpu: &Cpu, facts: &Facts) -> String {
        let best = super::super::probe::processor(facts.kvm);
        match cpu.model.as_deref() {
            None | Some("host-model" | "host-passthrough") => best.to_owned(),
            // an emulated processor has no vendor's models with all their features
            Some(model) if !facts.kvm => {
                self.note(format!("processor model {model} is emulated by QEMU's {best}: KVM cannot be used here"));
                best.to_owned()
            }
            Some(model) => escape(model),
        }
    }

    fn features(&mut self, cpu: &Cpu, domain: &Domain, facts: &Facts) -> Result<String, Refusal> {
        let mut text = String::new();
        for feature in &cpu.features {
            let name = &feature.name;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
                return Err(format!("processor feature {name:?} has letters that no feature has").into());
            }
            let sign = match feature.policy.as_deref() {
                None | Some("require" | "force" | "optional") => ",+",
                Some("disable" | "forbid") => ",-",
                Some(other) => {
                    return Err(format!(
                        "processor feature {name} has the unknown policy {other}; use force, require, optional, disable or forbid"
                    )
                    .into());
                }
            };
            // emulated processors stay as they are: Linux does not boot on QEMU 7.2's without svm (its first mount
            // namespaces fail with EBUSY), and nobody runs guests within emulated guests
            if facts.kvm || !matches!(name.as_str(), "vmx" | "svm") {
                text += sign;
                text += name;
            }
        }
        let features = domain.features.clone().unwrap_or_default();
        if features.kvm.is_some_and(|kvm| kvm.hidden == Some(true)) {
            text += ",kvm=off";
        }
        if let Some(hyperv) = features.hyperv.as_ref().and_then(|hyperv| hyperv.as_object()) {
            let wanted = hyperv.iter().filter(|(_, state)| state.get("enabled") != Some(&false.into()));
            let mut known = String::new();
            for (name, state) in wanted {
                match hyperv_option(name, state) {
                    Some(option) => known += &option,
                    None => self.note(format!("features.hyperv.{name} is not offered by the embedded node")),
                }
            }
            if facts.kvm {
                text += &known;
            } else if !known.is_empty() {
                self.note("features.hyperv is left out: it needs KVM, which cannot be used here");
            }
        }
        if features.hyperv_passthrough.is_some() {
            if facts.kvm {
                text += ",hv-passthrough=on";
            } else {
                self.note("features.hypervPassthrough is left out: it needs KVM, which cannot be used here");
            }
        }
        Ok(text)
    }

    /// SMBIOS types 1 and 3.
    fn identity(&mut self, domain: &Domain, id: &str) {
        let firmware = domain.firmware.clone().unwrap_or_default();
        let uuid =
            firmware.uuid.unwrap_or_else(|| uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, id.as_bytes()).to_string());
        self.arg("-uuid", escape(&uuid));
        let serial = firmware.serial.map(|serial| format!(",serial={}", escape(&serial))).unwrap_or_default();
        self.arg(
            "-smbios",
            format!("type=1,manufacturer=KubeVirt,product=None,family=KubeVirt,uuid={}{serial}", escape(&uuid)),
        );
        if let Some(chassis) = &domain.chassis {
            let fields = [
                ("manufacturer", &chassis.manufacturer),
                ("version", &chassis.version),
                ("serial", &chassis.serial),
                ("asset", &chassis.asset),
                ("sku", &chassis.sku),
            ];
            let given = fields.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
            let text: String = given.map(|(name, value)| format!(",{name}={}", escape(value))).collect();
            self.arg("-smbios", format!("type=3{text}"));
        }
    }

    /// The clock shows UTC, or what QEMU's `localtime` is by the container's TZ.
    fn clock(&mut self, clock: Option<&Clock>) {
        let clock = clock.cloned().unwrap_or_default();
        let offset = clock.utc.and_then(|utc| utc.offset_seconds).filter(|&seconds| seconds != 0);
        let zone = match (clock.timezone, offset) {
            (Some(zone), _) => Some(zone),
            (None, Some(seconds)) => Some(posix_zone(seconds)),
            (None, None) => None,
        };
        let base = if zone.is_some() { "localtime" } else { "utc" };
        if let Some(zone) = zone {
            self.env.insert("TZ", zone);
        }
        let policy = clock.timer.and_then(|timer| timer.rtc?.tick_policy);
        let drift = if policy.as_deref() == Some("delay") { "" } else { ",driftfix=slew" };
        self.arg("-rtc", format!("base={base}{drift}"));
    }

    fn consoles(&mut self, domain: &Domain) {
        if domain.devices.autoattach_graphics_device != Some(false) {
            let kind = domain.devices.video.as_ref().and_then(|video| video.type_.as_deref());
            match kind.unwrap_or("vga") {
                "vga" => self.arg("-vga", "std"),
                kind @ ("virtio" | "cirrus") => self.arg("-vga", kind),
                "bochs" => self.device("bochs-display"),
                "ramfb" => self.device("ramfb"),
                other => {
                    self.note(format!("video type {other} is not offered by the embedded node: the machine has vga"));
                    self.arg("-vga", "std");
                }
            }
            self.arg("-vnc", format!("unix:{PRIVATE_DIR}/vnc.sock"));
        }
        if domain.devices.autoattach_serial_console != Some(false) {
            self.arg("-chardev", format!(
                "socket,id=serial0,path={PRIVATE_DIR}/serial.sock,server=on,wait=off,logfile={PRIVATE_DIR}/serial.log,logappend=on"
            ));
            self.arg("-serial", "chardev:serial0");
        }
        // one for commands, one that hears what happens: each serves one at a time
        self.arg("-qmp", format!("unix:{PRIVATE_DIR}/qmp.sock,server=on,wait=off"));
        self.arg("-qmp", format!("unix:{PRIVATE_DIR}/events.sock,server=on,wait=off"));
    }
}

/// A time zone that is so many seconds ahead of UTC, as POSIX writes it: with the sign the other way.
fn posix_zone(seconds: i64) -> String {
    let sign = if seconds > 0 { '-' } else { '+' };
    let left = seconds.unsigned_abs();
    format!("<GUEST>{sign}{:02}:{:02}:{:02}", left / 3600, left / 60 % 60, left % 60)
}

/// QEMU's name of an enlightenment: docs/system/i386/hyperv.rst.
fn hyperv_option(name: &str, state: &serde_json::Value) -> Option<String> {
    Some(match name {
        "relaxed" => ",hv-relaxed=on".into(),
        "vapic" => ",hv-vapic=on".into(),
        "spinlocks" => {
            let retries = state.get("spinlocks").and_then(serde_json::Value::as_u64).unwrap_or(4096);
            format!(",hv-spinlocks={retries:#x}")
        }
        "vpindex" => ",hv-vpindex=on".into(),
        "runtime" => ",hv-runtime=on".into(),
        "synic" => ",hv-synic=on".into(),
        "synictimer" => ",hv-time=on,hv-stimer=on".into(),
        "reset" => ",hv-reset=on".into(),
        "frequencies" => ",hv-frequencies=on".into(),
        "reenlightenment" => ",hv-reenlightenment=on".into(),
        "tlbflush" => ",hv-tlbflush=on".into(),
        "ipi" => ",hv-ipi=on".into(),
        "evmcs" => ",hv-evmcs=on".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::posix_zone;

    #[test]
    fn offsets_become_zones() {
        assert_eq!(posix_zone(5400), "<GUEST>-01:30:00");
        assert_eq!(posix_zone(-3600), "<GUEST>+01:00:00");
    }
}
