//! What the embedded node does not offer, by name: refused where the guest could not do without, else noted.

use forklift_kubevirt_types::Other;
use forklift_kubevirt_types::kubevirt::VirtualMachineInstanceSpec;

use super::Refusal;

/// Refuses what a scheduler would find no node for.
pub fn refuse(spec: &VirtualMachineInstanceSpec) -> Result<(), Refusal> {
    let devices = &spec.domain.devices;
    if let Some(device) = devices.gpus.iter().chain(&devices.host_devices).next() {
        let resource = device.device_name.as_deref().unwrap_or("a resource claim");
        return Err(format!("0/1 nodes are available: 1 Insufficient {resource} (device {}).", device.name).into());
    }
    if spec.domain.launch_security.is_some() {
        return Err("0/1 nodes are available: launchSecurity needs a processor with confidential computing.".into());
    }
    if spec.domain.firmware.as_ref().is_some_and(|firmware| firmware.kernel_boot.is_some()) {
        return Err("firmware.kernelBoot is not offered by the embedded node; boot from a disk".into());
    }
    let other = spec.architecture.as_deref().filter(|name| !matches!(*name, "amd64" | ""));
    if let Some(architecture) = other {
        return Err(format!("0/1 nodes are available: the architecture is amd64, not {architecture}.").into());
    }
    Ok(())
}

/// Names what is left out.
pub fn notes(spec: &VirtualMachineInstanceSpec) -> Vec<String> {
    let (domain, devices) = (&spec.domain, &spec.domain.devices);
    let cpu = domain.cpu.clone().unwrap_or_default();
    let memory = domain.memory.clone().unwrap_or_default();
    let mut found: Vec<(String, &str)> = Vec::new();
    let mut check = |holds: bool, name: &str, why: &'static str| {
        if holds {
            found.push((name.to_owned(), why));
        }
    };
    check(cpu.dedicated_cpu_placement == Some(true), "cpu.dedicatedCpuPlacement", "processors are shared");
    check(cpu.isolate_emulator_thread == Some(true), "cpu.isolateEmulatorThread", "processors are shared");
    check(cpu.numa.is_some(), "cpu.numa", "the guest has one memory node");
    check(cpu.realtime.is_some(), "cpu.realtime", "processors are shared");
    check(cpu.max_sockets.is_some(), "cpu.maxSockets", "processors are not plugged in");
    check(memory.hugepages.is_some(), "memory.hugepages", "the guest has ordinary pages");
    check(memory.max_guest.is_some(), "memory.maxGuest", "memory is not plugged in");
    check(domain.io_threads_policy.is_some(), "ioThreadsPolicy", "disks share QEMU's main thread");
    check(domain.io_threads.is_some(), "ioThreads", "disks share QEMU's main thread");
    check(
        domain.firmware.as_ref().is_some_and(|firmware| firmware.acpi.is_some()),
        "firmware.acpi",
        "the guest has QEMU's tables",
    );
    check(devices.sound.is_some(), "devices.sound", "the guest has no sound card");
    check(devices.autoattach_vsock == Some(true), "devices.autoattachVSOCK", "the guest has no VSOCK device");
    check(devices.use_virtio_transitional == Some(true), "devices.useVirtioTransitional", "devices are virtio 1.0");
    check(devices.client_passthrough.is_some(), "devices.clientPassthrough", "no USB devices are passed through");
    check(devices.downward_metrics.is_some(), "devices.downwardMetrics", "there are no metrics of the node");
    check(!devices.panic_devices.is_empty(), "devices.panicDevices", "nobody hears of a panic");
    check(!devices.filesystems.is_empty(), "devices.filesystems", "there is no virtiofs");
    check(
        devices.network_interface_multiqueue == Some(true),
        "devices.networkInterfaceMultiqueue",
        "interfaces have one queue",
    );
    check(devices.block_multi_queue == Some(true), "devices.blockMultiQueue", "QEMU chooses the number of queues");
    check(spec.affinity.is_some(), "affinity", "there is one node");
    check(!spec.topology_spread_constraints.is_empty(), "topologySpreadConstraints", "there is one node");
    check(spec.priority_class_name.is_some(), "priorityClassName", "nothing is preempted");
    check(
        spec.dns_policy.is_some() || spec.dns_config.is_some(),
        "dnsPolicy",
        "the guest asks this machine's name servers",
    );
    for disk in &devices.disks {
        let address = disk.disk.as_ref().is_some_and(|target| target.pci_address.is_some());
        check(address, &format!("pciAddress of disk {}", disk.name), "QEMU's ports are numbered in order");
        check(
            disk.dedicated_io_thread == Some(true),
            &format!("dedicatedIOThread of disk {}", disk.name),
            "disks share QEMU's main thread",
        );
        let reserved = disk.lun.as_ref().is_some_and(|target| target.reservation == Some(true));
        check(reserved, &format!("reservation of lun {}", disk.name), "there is no reservation helper");
    }
    for interface in &devices.interfaces {
        let name = &interface.name;
        check(
            interface.pci_address.is_some(),
            &format!("pciAddress of interface {name}"),
            "QEMU's ports are numbered in order",
        );
        check(
            interface.dhcp_options.is_some(),
            &format!("dhcpOptions of interface {name}"),
            "QEMU's DHCP server has its own",
        );
        check(interface.state.as_deref() == Some("down"), &format!("state of interface {name}"), "its link is up");
    }
    let mut notes: Vec<String> =
        found.into_iter().map(|(name, why)| format!("{name} is not offered by the embedded node: {why}")).collect();
    let mut unknown = |place: &str, other: &Other| {
        notes.extend(other.keys().map(|key| format!("{place}{key} is not offered by the embedded node")));
    };
    unknown("", &spec.other);
    unknown("domain.", &domain.other);
    unknown("devices.", &devices.other);
    unknown("cpu.", &cpu.other);
    unknown("memory.", &memory.other);
    if let Some(features) = &domain.features {
        unknown("features.", &features.other);
    }
    for disk in &devices.disks {
        unknown(&format!("disk {}: ", disk.name), &disk.other);
    }
    for interface in &devices.interfaces {
        unknown(&format!("interface {}: ", interface.name), &interface.other);
    }
    notes
}
