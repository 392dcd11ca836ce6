//! BIOS, EFI and secure boot.

use forklift_kubevirt_types::kubevirt::{Domain, VirtualMachineInstanceSpec};

use super::{Builder, Facts, PRIVATE_DIR, Refusal, STATE_DIR, escape};

/// KubeVirt's default for EFI is secure boot; without its firmware only a wish for it is refused.
pub fn is_secure(domain: &Domain, facts: &Facts) -> bool {
    let bootloader = domain.firmware.as_ref().and_then(|firmware| firmware.bootloader.as_ref());
    let efi = bootloader.and_then(|loader| loader.efi.as_ref());
    efi.is_some_and(|efi| efi.secure_boot != Some(false)) && facts.firmware.secure.is_some()
}

impl Builder {
    pub(super) fn firmware(&mut self, spec: &VirtualMachineInstanceSpec, facts: &Facts) -> Result<(), Refusal> {
        let bootloader = spec.domain.firmware.as_ref().and_then(|firmware| firmware.bootloader.as_ref());
        let Some(efi) = bootloader.and_then(|loader| loader.efi.as_ref()) else { return Ok(()) };
        if !self.express {
            return Err("the machine boots by EFI, which needs the machine type q35".into());
        }
        if efi.secure_boot == Some(true) && !self.secure {
            return Err(
                "the machine asks for secure boot, whose firmware is not on this machine: install the package ovmf"
                    .into(),
            );
        }
        let (code, empty) = if self.secure { facts.firmware.secure.as_ref() } else { facts.firmware.plain.as_ref() }
            .ok_or("the machine boots by EFI, whose firmware is not on this machine: install the package ovmf")?;
        let variables = match (&facts.state, efi.persistent) {
            (Some(_), Some(true)) => {
                let kept = format!("{STATE_DIR}/nvram.fd");
                // whole or not at all, so that a crash leaves no half of it
                self.prepare.push(format!(
                    "[ -s {kept} ] || {{ cp {empty} {kept}.new; sync {kept}.new; mv {kept}.new {kept}; }}"
                ));
                kept
            }
            _ => {
                self.prepare.push(format!("cp {empty} {PRIVATE_DIR}/vars.fd"));
                format!("{PRIVATE_DIR}/vars.fd")
            }
        };
        self.arg("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={}", escape(code)));
        self.arg("-drive", format!("if=pflash,unit=1,format=raw,file={variables}"));
        if self.secure {
            self.arg("-global", "driver=cfi.pflash01,property=secure,value=on");
        }
        Ok(())
    }
}
