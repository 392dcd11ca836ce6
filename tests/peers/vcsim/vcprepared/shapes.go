package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// guests are the operating systems that a data centre has.
var guests = []struct{ id, name string }{
	{"windows2019srv_64Guest", "Microsoft Windows Server 2019 (64-bit)"}, {"rhel8_64Guest", "Red Hat Enterprise Linux 8 (64-bit)"},
	{"rhel9_64Guest", "Red Hat Enterprise Linux 9 (64-bit)"}, {"windows2019srvNext_64Guest", "Microsoft Windows Server 2022 (64-bit)"},
	{"debian12_64Guest", "Debian GNU/Linux 12 (64-bit)"}, {"ubuntu64Guest", "Ubuntu Linux (64-bit)"},
	{"centos7_64Guest", "CentOS 7 (64-bit)"}, {"sles15_64Guest", "SUSE Linux Enterprise 15 (64-bit)"},
}

// shape makes a virtual machine like others of its kind out of the simulator's; what differs from machine to machine
// is a mark that is replaced when an answer is made: @N@ name, @V@ reference, @U@ and @I@ UUIDs, @H@ host, @F@ folder,
// @D@ datastore and @S@ its name, @A@ address, @M@ the middle of MAC addresses.
func shape(n int, from mo.VirtualMachine, networks []types.ManagedObjectReference) *mo.VirtualMachine {
	vm := from
	config := *from.Config
	vm.Config = &config
	guest := guests[n%len(guests)]
	windows := strings.HasPrefix(guest.id, "windows")
	on := n%5 != 4
	tools := n%7 != 6
	vm.Self.Value, vm.Name, config.Name = "@V@", "@N@", "@N@"
	vm.Parent = &types.ManagedObjectReference{Type: "Folder", Value: "@F@"}
	vm.Datastore = []types.ManagedObjectReference{{Type: "Datastore", Value: "@D@"}}
	vm.Runtime.Host = &types.ManagedObjectReference{Type: "HostSystem", Value: "@H@"}
	vm.Runtime.ConnectionState = types.VirtualMachineConnectionStateConnected
	vm.Runtime.ConsolidationNeeded = n%31 == 30
	vm.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOff
	if on {
		vm.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOn
	}
	config.Uuid, config.InstanceUuid, config.GuestId, config.GuestFullName = "@U@", "@I@", guest.id, guest.name
	config.Firmware = []string{"bios", "efi"}[n%2]
	config.BootOptions = &types.VirtualMachineBootOptions{EfiSecureBootEnabled: types.NewBool(n%4 == 1), NetworkBootProtocol: "ipv4"}
	config.Hardware.NumCPU = []int32{1, 2, 4, 8}[n%4]
	cores := []int32{1, 1, 2, 4}[n%4]
	config.Hardware.NumCoresPerSocket = &cores
	config.Hardware.MemoryMB = []int32{2048, 4096, 8192, 16384, 32768}[n%5]
	config.CpuHotAddEnabled, config.CpuHotRemoveEnabled = types.NewBool(n%3 == 0), types.NewBool(false)
	config.MemoryHotAddEnabled, config.NestedHVEnabled = types.NewBool(n%3 == 0), types.NewBool(n%11 == 10)
	config.ChangeTrackingEnabled, config.Template = types.NewBool(n%2 == 0), n%29 == 28
	config.ExtraConfig = []types.BaseOptionValue{
		&types.OptionValue{Key: "ctkEnabled", Value: fmt.Sprint(n%2 == 0)}, &types.OptionValue{Key: "nvram", Value: "@N@.nvram"},
		&types.OptionValue{Key: "pciBridge0.present", Value: "TRUE"}, &types.OptionValue{Key: "pciBridge0.pciSlotNumber", Value: "17"},
		&types.OptionValue{Key: "pciBridge4.present", Value: "TRUE"}, &types.OptionValue{Key: "pciBridge4.pciSlotNumber", Value: "21"},
		&types.OptionValue{Key: "pciBridge4.virtualDev", Value: "pcieRootPort"}, &types.OptionValue{Key: "pciBridge4.functions", Value: "8"},
		&types.OptionValue{Key: "disk.EnableUUID", Value: "TRUE"}, &types.OptionValue{Key: "hpet0.present", Value: "TRUE"},
		&types.OptionValue{Key: "svga.present", Value: "TRUE"}, &types.OptionValue{Key: "tools.guest.desktop.autolock", Value: "FALSE"},
		&types.OptionValue{Key: "migrate.hostLogState", Value: "none"}, &types.OptionValue{Key: "viv.moid", Value: "@I@:@V@"},
		&types.OptionValue{Key: "vmware.tools.internalversion", Value: "12352"}, &types.OptionValue{Key: "sched.cpu.latencySensitivity", Value: "normal"},
		&types.OptionValue{Key: "numa.autosize.vcpu.maxPerVirtualNode", Value: "4"}, &types.OptionValue{Key: "monitor.phys_bits_used", Value: "45"},
	}
	var devices []types.BaseVirtualDevice
	unit := func(n int32) *int32 { return &n }
	scsi := &types.ParaVirtualSCSIController{}
	scsi.Key, scsi.ControllerKey, scsi.UnitNumber, scsi.SharedBus = 1000, 100, unit(3), types.VirtualSCSISharingNoSharing
	scsi.DeviceInfo = &types.Description{Label: "SCSI controller 0", Summary: "VMware paravirtual SCSI"}
	for _, o := range from.Config.Hardware.Device {
		switch o.(type) {
		case *types.VirtualDisk, types.BaseVirtualEthernetCard, types.BaseVirtualSCSIController:
		default:
			devices = append(devices, o)
		}
	}
	devices = append(devices, scsi)
	var used int64
	for i := 0; i < 1+n%4; i++ {
		d := &types.VirtualDisk{CapacityInKB: []int64{40, 100, 250, 500}[(n+i)%4] * 1024 * 1024}
		d.CapacityInBytes = d.CapacityInKB * 1024
		used += d.CapacityInBytes / 3
		d.Key, d.ControllerKey, d.UnitNumber = int32(2000+i), 1000, unit(int32(i))
		d.DeviceInfo = &types.Description{Label: fmt.Sprintf("Hard disk %d", i+1), Summary: fmt.Sprintf("%d KB", d.CapacityInKB)}
		name := fmt.Sprintf("[@S@] @N@/@N@_%d.vmdk", i)
		if i == 0 {
			name = "[@S@] @N@/@N@.vmdk"
		}
		b := &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "persistent", ThinProvisioned: types.NewBool(true), Split: types.NewBool(false),
			WriteThrough: types.NewBool(false), Uuid: fmt.Sprintf("6000C29%d-@M@-b2d4-6e41-f0e7f9c4a54b", i), ContentId: "24f0b6cb27a9ba5ff0bd4b5cd9a1bfc8",
			Sharing: "sharingNone"}
		b.FileName, b.Datastore = name, &vm.Datastore[0]
		if config.ChangeTrackingEnabled != nil && *config.ChangeTrackingEnabled {
			b.ChangeId = "52 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95/12"
		}
		d.Backing = b
		d.Shares = &types.SharesInfo{Shares: 1000, Level: types.SharesLevelNormal}
		d.StorageIOAllocation = &types.StorageIOAllocationInfo{Limit: types.NewInt64(-1), Shares: d.Shares, Reservation: unit(0)}
		devices = append(devices, d)
	}
	vm.Network, vm.Guest = nil, &types.GuestInfo{GuestState: "notRunning", ToolsStatus: types.VirtualMachineToolsStatusToolsNotInstalled,
		ToolsRunningStatus: "guestToolsNotRunning", ToolsVersionStatus2: "guestToolsNotInstalled"}
	var nics []types.GuestNicInfo
	for i := 0; i < 1+n%3; i++ {
		network := networks[(n+i)%len(networks)]
		vm.Network = append(vm.Network, network)
		card := &types.VirtualVmxnet3{}
		card.Key, card.ControllerKey, card.UnitNumber = int32(4000+i), 100, unit(int32(7+i))
		card.MacAddress, card.AddressType, card.WakeOnLanEnabled = fmt.Sprintf("00:50:56:@M@:%02x", i), "assigned", types.NewBool(true)
		card.SlotInfo = &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: int32(192 + 32*i)}
		card.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: true, Connected: on, AllowGuestControl: true, Status: "ok"}
		card.DeviceInfo = &types.Description{Label: fmt.Sprintf("Network adapter %d", i+1), Summary: "DVSwitch: 50 1f"}
		if network.Type == "DistributedVirtualPortgroup" {
			card.Backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: types.DistributedVirtualSwitchPortConnection{
				SwitchUuid: "50 1f 2a 4b 8c 9d 11 e0-a1 b2 c3 d4 e5 f6 07 18", PortgroupKey: network.Value, PortKey: fmt.Sprint(n), ConnectionCookie: 12345}}
		} else {
			b := &types.VirtualEthernetCardNetworkBackingInfo{Network: &network}
			b.DeviceName = "VM Network"
			card.Backing = b
		}
		devices = append(devices, card)
		nics = append(nics, types.GuestNicInfo{Network: "VM Network", IpAddress: []string{fmt.Sprintf("10.%d.@A@", 20+i), "fe80::250:56ff:fe00:1"},
			MacAddress: card.MacAddress, Connected: true, DeviceConfigId: int32(4000 + i), DnsConfig: &types.NetDnsConfigInfo{
				HostName: "@N@", DomainName: "example.com", IpAddress: []string{"10.0.0.2", "10.0.0.3"}},
			IpConfig: &types.NetIpConfigInfo{IpAddress: []types.NetIpConfigInfoIpAddress{
				{IpAddress: fmt.Sprintf("10.%d.@A@", 20+i), PrefixLength: 24, Origin: "manual", State: "preferred"},
				{IpAddress: "fe80::250:56ff:fe00:1", PrefixLength: 64, Origin: "linklayer", State: "unknown"}}}})
	}
	config.Hardware.Device = devices
	vm.Summary.Config.GuestFullName, vm.Summary.Config.TpmPresent = guest.name, types.NewBool(windows && n%2 == 1)
	vm.Summary.Storage = &types.VirtualMachineStorageSummary{Committed: used, Uncommitted: 2 * used, Timestamp: time.Now()}
	vm.Summary.QuickStats.BalloonedMemory = 0
	summary := types.VirtualMachineGuestSummary{GuestId: guest.id, GuestFullName: guest.name}
	if on && tools {
		vm.Guest = &types.GuestInfo{GuestState: "running", GuestId: guest.id, GuestFullName: guest.name, HostName: "@N@.example.com", IpAddress: "10.20.@A@",
			ToolsStatus: types.VirtualMachineToolsStatusToolsOk, ToolsRunningStatus: "guestToolsRunning", ToolsVersionStatus2: "guestToolsCurrent",
			ToolsVersion: "12352", Net: nics, GuestFamily: "linuxGuest"}
		summary.IpAddress, summary.HostName = "10.20.@A@", "@N@.example.com"
		paths := []string{"/", "/boot", "/var"}
		if windows {
			paths, vm.Guest.GuestFamily = []string{`C:\`, `D:\`}, "windowsGuest"
		}
		for i, path := range paths {
			vm.Guest.Disk = append(vm.Guest.Disk, types.GuestDiskInfo{DiskPath: path, Capacity: 42 << 30, FreeSpace: 17 << 30,
				FilesystemType: []string{"xfs", "NTFS"}[map[bool]int{true: 1}[windows]],
				Mappings:       []types.GuestInfoVirtualDiskMapping{{Key: int32(2000 + i%(1+n%4))}}})
		}
		vm.Guest.IpStack = []types.GuestStackInfo{{DnsConfig: nics[0].DnsConfig, IpRouteConfig: &types.NetIpRouteConfigInfo{
			IpRoute: []types.NetIpRouteConfigInfoIpRoute{{Network: "0.0.0.0", PrefixLength: 0, Gateway: types.NetIpRouteConfigInfoGateway{IpAddress: "10.20.0.1", Device: "0"}},
				{Network: "10.20.0.0", PrefixLength: 16, Gateway: types.NetIpRouteConfigInfoGateway{Device: "0"}}}}}}
	}
	vm.Summary.Guest = &summary
	vm.Snapshot = nil
	if n%13 == 12 {
		ref := types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: "snapshot-@V@"}
		vm.Snapshot = &types.VirtualMachineSnapshotInfo{CurrentSnapshot: &ref, RootSnapshotList: []types.VirtualMachineSnapshotTree{
			{Snapshot: ref, Vm: vm.Self, Name: "before update", Id: 1, CreateTime: time.Now(), State: vm.Runtime.PowerState}}}
	}
	return &vm
}
