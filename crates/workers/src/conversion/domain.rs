//! The libvirt domain that tells virt-v2v-in-place which overlays make up the guest.

use std::fmt::Write;
use std::path::Path;

use super::config::Nic;

/// Writes the domain's XML. The disks are the overlays, so their format is always qcow2.
pub fn xml(name: &str, overlays: &[&Path], nics: &[Nic]) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "<domain type='kvm'>\n  <name>{}</name>\n  <memory unit='MiB'>1024</memory>\n  <vcpu>1</vcpu>\n  \
         <os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>\n  <features><acpi/><apic/></features>\n  <devices>\n",
        escape(name)
    );
    for (index, overlay) in overlays.iter().enumerate() {
        let _ = write!(
            text,
            "    <disk type='file' device='disk'>\n      <driver name='qemu' type='qcow2'/>\n      \
             <source file='{}'/>\n      <target dev='{}' bus='scsi'/>\n    </disk>\n",
            escape(&overlay.to_string_lossy()),
            device_name("sd", index)
        );
    }
    for mac in nics.iter().filter_map(|n| n.mac.as_deref()) {
        let _ = write!(
            text,
            "    <interface type='network'>\n      <mac address='{}'/>\n      <source network='default'/>\n      \
             <model type='vmxnet3'/>\n    </interface>\n",
            escape(mac)
        );
    }
    text.push_str("  </devices>\n</domain>\n");
    text
}

/// The name of the n-th disk: sda … sdz, sdaa, sdab …
pub fn device_name(prefix: &str, index: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = index + 1;
    while rest > 0 {
        rest -= 1;
        letters.push(b'a' + u8::try_from(rest % 26).unwrap_or(0));
        rest /= 26;
    }
    letters.reverse();
    format!("{prefix}{}", String::from_utf8_lossy(&letters))
}

pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn two_disks_and_a_card() {
        let nics = [Nic { mac: Some("00:50:56:a4:2b:1c".into()), addresses: vec![] }, Nic::default()];
        let overlays = [Path::new("/a/disk.img.overlay.qcow2"), Path::new("/b & c/disk.img.overlay.qcow2")];
        expect![[r"
            <domain type='kvm'>
              <name>web&lt;1&gt;</name>
              <memory unit='MiB'>1024</memory>
              <vcpu>1</vcpu>
              <os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>
              <features><acpi/><apic/></features>
              <devices>
                <disk type='file' device='disk'>
                  <driver name='qemu' type='qcow2'/>
                  <source file='/a/disk.img.overlay.qcow2'/>
                  <target dev='sda' bus='scsi'/>
                </disk>
                <disk type='file' device='disk'>
                  <driver name='qemu' type='qcow2'/>
                  <source file='/b &amp; c/disk.img.overlay.qcow2'/>
                  <target dev='sdb' bus='scsi'/>
                </disk>
                <interface type='network'>
                  <mac address='00:50:56:a4:2b:1c'/>
                  <source network='default'/>
                  <model type='vmxnet3'/>
                </interface>
              </devices>
            </domain>
        "]]
        .assert_eq(&xml("web<1>", &overlays, &nics));
    }

    #[test]
    fn disk_letters_go_on_after_z() {
        assert_eq!(
            [0, 25, 26, 27, 701, 702].map(|n| device_name("sd", n)),
            ["sda", "sdz", "sdaa", "sdab", "sdzz", "sdaaa"]
        );
    }
}
