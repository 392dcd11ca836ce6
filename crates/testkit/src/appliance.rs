//! Small appliances for tests: a disk that boots and says a word on the serial port, packed as VMware packs an OVA.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

/// What is wrong with an appliance, if anything should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing: it can be migrated.
    #[default]
    None,
    /// The manifest's digest is not the disk's.
    Digest,
    /// The disk's end is missing, and so is the OVA's.
    Truncated,
}

/// An appliance to be made.
#[derive(Clone, Debug)]
pub struct Appliance {
    /// Name of the virtual machine, and of the file.
    pub name: String,
    /// Size of its one disk in bytes, a multiple of 512.
    pub size: u64,
    /// How much of the disk holds data, in bytes; the rest is never written.
    pub data: u64,
    /// What the guest prints on its serial port when it runs.
    pub marker: String,
    /// Networks it is connected to.
    pub networks: Vec<String>,
    /// What is wrong with it.
    pub flaw: Flaw,
}

impl Appliance {
    /// Returns an appliance of 64 MiB, 8 MiB of it data, on one network.
    pub fn new(name: &str) -> Self {
        Appliance {
            name: name.into(),
            size: 64 << 20,
            data: 8 << 20,
            marker: format!("{name} is running"),
            networks: vec!["VM Network".into()],
            flaw: Flaw::None,
        }
    }

    /// Makes `<folder>/<name>.ova`; the raw disk it was made from stays beside it as `<name>.raw`.
    pub fn make(&self, folder: &Path) -> Result<PathBuf> {
        let raw = folder.join(format!("{}.raw", self.name));
        self.write_disk(&raw)?;
        let vmdk = folder.join(format!("{}-disk1.vmdk", self.name));
        let status = Command::new("qemu-img")
            .args(["convert", "-q", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"])
            .args([&raw, &vmdk])
            .status()
            .context("cannot run qemu-img: install qemu-utils")?;
        ensure!(status.success(), "qemu-img convert failed");
        let mut disk = std::fs::read(&vmdk)?;
        std::fs::remove_file(&vmdk)?;
        let mut digest = hex(&Sha256::digest(&disk));
        match self.flaw {
            Flaw::None => {}
            Flaw::Digest => digest = "0".repeat(64),
            Flaw::Truncated => disk.truncate(disk.len() / 2),
        }
        let (disk_name, ovf_name) = (format!("{}-disk1.vmdk", self.name), format!("{}.ovf", self.name));
        let ovf = self.descriptor(&disk_name, disk.len());
        let manifest =
            format!("SHA256({ovf_name})= {}\nSHA256({disk_name})= {digest}\n", hex(&Sha256::digest(ovf.as_bytes())));

        let path = folder.join(format!("{}.ova", self.name));
        // written beside and renamed, so that a scan never sees half an appliance
        let part = path.with_extension("part");
        let mut archive = tar::Builder::new(File::create(&part)?);
        let manifest_name = format!("{}.mf", self.name);
        for (name, bytes) in [(&ovf_name, ovf.as_bytes()), (&manifest_name, manifest.as_bytes()), (&disk_name, &disk)] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, bytes)?;
        }
        archive.into_inner()?.sync_all()?;
        std::fs::rename(&part, &path)?;
        Ok(path)
    }

    /// Writes the raw disk: it boots, says its marker, and holds the data behind it.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write_disk(&self, raw: &Path) -> Result<()> {
        let mut file = File::create(raw)?;
        file.set_len(self.size)?;
        file.write_all(&boot_sector(&self.marker))?;
        // incompressible data, so that the copy has something to do
        file.seek(SeekFrom::Start(1 << 20))?;
        std::io::copy(&mut File::open("/dev/urandom")?.take(self.data), &mut file)?;
        file.sync_all()?;
        Ok(())
    }

    fn descriptor(&self, disk: &str, length: usize) -> String {
        let networks: String =
            self.networks.iter().map(|name| format!("<Network ovf:name=\"{name}\"><Description/></Network>")).collect();
        let nics: String = self.networks.iter().enumerate().map(|(index, network)| format!(
            "<Item><rasd:AddressOnParent>{a}</rasd:AddressOnParent><rasd:Connection>{network}</rasd:Connection><rasd:ElementName>Ethernet {n}</rasd:ElementName>\
             <rasd:InstanceID>{id}</rasd:InstanceID><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>",
            a = 7 + index, n = index + 1, id = 5 + index)).collect();
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope vmw:buildId="build-20395099" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References><File ovf:href="{disk}" ovf:id="file1" ovf:size="{length}"/></References>
  <DiskSection><Info>Virtual disks</Info>
    <Disk ovf:capacity="{size}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection><Info>Networks</Info>{networks}</NetworkSection>
  <VirtualSystem ovf:id="{name}"><Info>A virtual machine</Info><Name>{name}</Name>
    <OperatingSystemSection ovf:id="94" vmw:osType="other3xLinux64Guest"><Info>OS</Info><Description>Other Linux</Description></OperatingSystemSection>
    <VirtualHardwareSection><Info>Hardware</Info>
      <System><vssd:ElementName>Virtual Hardware Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier><vssd:VirtualSystemType>vmx-19</vssd:VirtualSystemType></System>
      <Item><rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits><rasd:ElementName>1 virtual CPU(s)</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>64MB of memory</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
      <Item><rasd:Address>0</rasd:Address><rasd:ElementName>SCSI Controller 0</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>Hard Disk 1</rasd:ElementName><rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
      {nics}
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="bios"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#,
            size = self.size,
            name = self.name,
        )
    }
}

/// Returns a BIOS boot sector that writes `marker` and a line end to the first serial port, then halts.
fn boot_sector(marker: &str) -> [u8; 512] {
    #[rustfmt::skip]
    const CODE: [u8; 22] = [
        0xFA,             // cli
        0x31, 0xC0,       // xor ax, ax
        0x8E, 0xD8,       // mov ds, ax
        0xBE, 0x16, 0x7C, // mov si, 0x7C16: the text after the code
        0xBA, 0xF8, 0x03, // mov dx, 0x3F8: COM1
        0xAC,             // next: lodsb
        0x84, 0xC0,       // test al, al
        0x74, 0x03,       // jz halt
        0xEE,             // out dx, al
        0xEB, 0xF8,       // jmp next
        0xF4,             // halt: hlt
        0xEB, 0xFD,       // jmp halt
    ];
    let mut sector = [0; 512];
    sector[..CODE.len()].copy_from_slice(&CODE);
    let text = format!("{marker}\r\n");
    sector[CODE.len()..CODE.len() + text.len()].copy_from_slice(text.as_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    sector
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
