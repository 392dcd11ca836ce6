//! What is neither disk nor network: agent channel, TPM, randomness, input, watchdog, balloon.

use forklift_kubevirt_types::kubevirt::{Input, VirtualMachineInstanceSpec};

use super::{Builder, Facts, PRIVATE_DIR, Refusal, STATE_DIR};

impl Builder {
    pub(super) fn devices(&mut self, spec: &VirtualMachineInstanceSpec, facts: &Facts) -> Result<(), Refusal> {
        let devices = &spec.domain.devices;
        // the guest agent's channel, as libvirt names it
        self.controller("virtio-serial-pci", "serial");
        self.arg("-chardev", format!("socket,id=agent,path={PRIVATE_DIR}/agent.sock,server=on,wait=off"));
        self.device("virtserialport,bus=serial.0,chardev=agent,id=agent,name=org.qemu.guest_agent.0");
        if devices.rng.is_some() {
            let port = self.port();
            self.arg("-object", "rng-random,id=rng0,filename=/dev/urandom");
            self.device(format!("virtio-rng-pci,rng=rng0{port}"));
        }
        if devices.autoattach_mem_balloon != Some(false) {
            let port = self.port();
            self.device(format!("virtio-balloon-pci,id=balloon0{port}"));
        }
        self.tpm(spec, facts)?;
        let attached = (devices.inputs.is_empty() && devices.autoattach_input_device == Some(true)).then(|| Input {
            name: "default".into(),
            type_: "tablet".into(),
            ..Input::default()
        });
        for input in devices.inputs.iter().chain(&attached) {
            match (input.type_.as_str(), input.bus.as_deref()) {
                ("tablet" | "", Some("virtio")) => {
                    let port = self.port();
                    self.device(format!("virtio-tablet-pci{port}"));
                }
                ("tablet" | "", None | Some("usb")) => {
                    self.controller("qemu-xhci", "usb");
                    self.device("usb-tablet,bus=usb.0");
                }
                (kind, bus) => self.note(format!(
                    "input {} is left out: the embedded node has tablets on usb and virtio, no {kind} on {}",
                    input.name,
                    bus.unwrap_or("usb")
                )),
            }
        }
        if let Some(watchdog) = &devices.watchdog {
            match &watchdog.i6300esb {
                Some(dog) => {
                    let action = match dog.action.as_deref().unwrap_or("reset") {
                        action @ ("poweroff" | "reset" | "shutdown") => action,
                        other => {
                            return Err(format!(
                                "watchdog {} has the unknown action {other}; use poweroff, reset or shutdown",
                                watchdog.name
                            )
                            .into());
                        }
                    };
                    self.device("i6300esb");
                    self.arg("-action", format!("watchdog={action}"));
                }
                None => self.note(format!("watchdog {} is left out: only i6300esb is offered", watchdog.name)),
            }
        }
        Ok(())
    }

    /// A TPM 2.0 is swtpm in a side-car; its state is lost with the pod unless it is persistent.
    fn tpm(&mut self, spec: &VirtualMachineInstanceSpec, facts: &Facts) -> Result<(), Refusal> {
        let Some(tpm) = spec.domain.devices.tpm.as_ref().filter(|tpm| tpm.enabled != Some(false)) else {
            return Ok(());
        };
        if !facts.has("swtpm") || !facts.has("swtpm_setup") {
            return Err("the machine has a TPM, whose program is not on this machine: install the packages swtpm and swtpm-tools".into());
        }
        let root = if tpm.persistent == Some(true) && facts.state.is_some() { STATE_DIR } else { PRIVATE_DIR };
        let dir = format!("{root}/tpm");
        self.prepare.push(format!(
            "mkdir -p {dir}; swtpm_setup --tpm2 --tpmstate {dir} --createek --not-overwrite --logfile {PRIVATE_DIR}/tpm-setup.log"
        ));
        self.tpm = Some(format!(
            "exec swtpm socket --tpm2 --tpmstate dir={dir} --ctrl type=unixio,path={PRIVATE_DIR}/tpm.sock"
        ));
        self.arg("-chardev", format!("socket,id=tpm0,path={PRIVATE_DIR}/tpm.sock"));
        self.arg("-tpmdev", "emulator,id=tpm0,chardev=tpm0");
        self.device("tpm-crb,tpmdev=tpm0");
        Ok(())
    }
}
