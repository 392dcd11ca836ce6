//! Appliances made on the spot, for tests.

use std::path::Path;
use std::time::{Duration, SystemTime};

use sha2::Digest;

/// A small appliance; each field is something that a test may want to break.
pub struct Sample {
    /// The system's id.
    pub id: &'static str,
    /// The VM's name.
    pub name: &'static str,
    /// The disk's reference.
    pub href: &'static str,
    /// The disk's size as the descriptor says.
    pub declared_size: u64,
    /// The disk's bytes.
    pub disk: Vec<u8>,
    /// A member that is not written.
    pub leave_out: Option<&'static str>,
    /// Written after the descriptor, unknown to the manifest.
    pub descriptor_suffix: &'static str,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            id: "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
            name: "web",
            href: "disk1.vmdk",
            declared_size: 600,
            disk: vec![7; 600],
            leave_out: None,
            descriptor_suffix: "",
        }
    }
}

impl Sample {
    /// The descriptor, as VMware writes it.
    pub fn descriptor(&self) -> String {
        let Self { id, name, href, declared_size, .. } = self;
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References><File ovf:href="{href}" ovf:id="file1" ovf:size="{declared_size}"/></References>
  <DiskSection><Info/><Disk ovf:capacity="1" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized" ovf:populatedSize="4096"/></DiskSection>
  <NetworkSection><Info/><Network ovf:name="VM Network"><Description>The network</Description></Network></NetworkSection>
  <VirtualSystem ovf:id="{id}">
    <Info/><Name>{name}</Name>
    <OperatingSystemSection ovf:id="96" vmw:osType="debian12_64Guest"><Info/></OperatingSystemSection>
    <VirtualHardwareSection><Info/>
      <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity><rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits><vmw:CoresPerSocket>2</vmw:CoresPerSocket></Item>
      <Item><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>1024</rasd:VirtualQuantity><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits></Item>
      <Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType><rasd:ElementName>SCSI Controller 0</rasd:ElementName></Item>
      <Item><rasd:InstanceID>4</rasd:InstanceID><rasd:ResourceType>17</rasd:ResourceType><rasd:ElementName>Hard Disk 1</rasd:ElementName><rasd:Parent>3</rasd:Parent><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource></Item>
      <Item><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceType>10</rasd:ResourceType><rasd:ElementName>Network adapter 1</rasd:ElementName><rasd:Connection>VM Network</rasd:Connection><rasd:Address>00:50:56:01:02:03</rasd:Address><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType></Item>
      <vmw:Config vmw:key="firmware" vmw:value="efi"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#
        )
    }
}

/// The appliance as an archive, with a manifest.
pub fn ova(sample: &Sample) -> Vec<u8> {
    let descriptor = sample.descriptor();
    let digest = |bytes: &[u8]| sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let manifest =
        format!("SHA256(vm.ovf)= {}\nSHA256(disk1.vmdk)= {}\n", digest(descriptor.as_bytes()), digest(&sample.disk));
    let stored = format!("{descriptor}{}", sample.descriptor_suffix);
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in
        [("vm.ovf", stored.as_bytes()), ("vm.mf", manifest.as_bytes()), ("disk1.vmdk", sample.disk.as_slice())]
    {
        if sample.leave_out == Some(name) {
            continue;
        }
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).expect("memory does not fail");
    }
    builder.into_inner().expect("memory does not fail")
}

/// Makes a file as old as one that nobody is writing to any more.
pub fn old(path: &Path) {
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    std::fs::File::options().append(true).open(path).and_then(|f| f.set_modified(past)).expect("writable");
}
