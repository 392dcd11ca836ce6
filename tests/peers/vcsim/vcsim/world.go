package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"

	"vcsim/pki"
)

// world is what the simulator knows beside govmomi's: the bytes, the leases, the faults, the counters.
type world struct {
	model   *simulator.Model
	client  *vim25.Client
	folder  string // of the disks' layers
	options options
	nfc     *pki.Server
	nfcHost string // host:port of the hosts' transfers

	mu       sync.Mutex
	disks    map[string]*disk                                  // "vm-42/2000"
	frozen   map[types.ManagedObjectReference]map[int32]*layer // snapshot -> device key -> its frozen layer
	vms      map[string]*guest
	hosts    map[string]*hostState
	leases   map[string]*lease
	rules    []*rule
	denied   map[string]bool // privileges that the account lacks
	expiry   chan struct{}   // closed when sessions are expired
	cookies  map[string]bool // sessions that basic authentication of /folder made
	calls    map[string]int64
	bytes    map[string]int64
	requests map[string]int64
	invalid  int64 // logins refused
	logins   int64
	sid      int32
	noRanges map[string]bool // datastore types whose disks cannot be read through /folder

	authority   *pki.Authority
	certificate atomic.Pointer[pki.Server] // that the vCenter shows
	server      *http.Server

	doors       []*door           // the hosts' own addresses
	doorCookies map[string]string // session -> name of the host that it is one of
	doorCalls   map[string]*doorCalls
	tickets     map[string]ticket
}

// guest is what runs in a virtual machine.
type guest struct {
	tools       bool
	hang        bool // a shutdown through tools is never done
	consolidate bool // a removed snapshot leaves its delta until the disks are consolidated
	export      *lease
	writers     []*writer
	pending     []pending // deltas that wait for consolidation
}

type pending struct {
	d *disk
	l *layer
}

// hostState is what the tests do to a host.
type hostState struct {
	rate   int64         // bytes a second of each transfer, 0 for no limit
	delay  time.Duration // before each answer
	fail   bool          // transfers are refused
	leases int           // active now
	most   int           // active at once at most
}

func (w *world) vm(name string) (*simulator.VirtualMachine, error) {
	for _, o := range w.model.Map().All("VirtualMachine") {
		if v := o.(*simulator.VirtualMachine); v.Name == name || v.Self.Value == name {
			return v, nil
		}
	}
	return nil, fmt.Errorf("no virtual machine %s", name)
}

func (w *world) guest(vm types.ManagedObjectReference) *guest {
	g := w.vms[vm.Value]
	if g == nil {
		g = &guest{tools: true}
		w.vms[vm.Value] = g
	}
	return g
}

func (w *world) host(ref *types.ManagedObjectReference) (*hostState, string) {
	name := ""
	if ref != nil {
		if h, ok := w.model.Map().Get(*ref).(*simulator.HostSystem); ok {
			name = h.Name
		}
	}
	h := w.hosts[name]
	if h == nil {
		h = &hostState{}
		w.hosts[name] = h
	}
	return h, name
}

// disk finds or makes the bytes of a device. w.mu is held by the caller.
func (w *world) disk(vm types.ManagedObjectReference, v *types.VirtualDisk, b *types.VirtualDiskFlatVer2BackingInfo) (*disk, error) {
	key := fmt.Sprintf("%s/%d", vm.Value, v.Key)
	if d := w.disks[key]; d != nil {
		return d, nil
	}
	for _, d := range w.disks { // a disk that several machines share has one content
		if d.chain[0].name == b.FileName {
			w.disks[key] = d
			return d, nil
		}
	}
	size := v.CapacityInBytes
	if size == 0 {
		size = v.CapacityInKB * 1024
	}
	folder := filepath.Join(w.folder, strings.ReplaceAll(key, "/", "-"))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	d, err := newDisk(folder, b.FileName, v.Key, size)
	if err == nil {
		w.disks[key] = d
	}
	return d, err
}

// attached is a disk in its place.
type attached struct {
	*disk
	dev     *types.VirtualDisk
	backing *types.VirtualDiskFlatVer2BackingInfo
}

// attachedDisks returns a machine's disks with bytes, in the order of its devices. w.mu is held by the caller.
func (w *world) attachedDisks(vm *simulator.VirtualMachine) (out []attached, err error) {
	for _, o := range vm.Config.Hardware.Device {
		v, b := flat(o)
		if b == nil {
			continue
		}
		d, err := w.disk(vm.Self, v, b)
		if err != nil {
			return nil, err
		}
		out = append(out, attached{d, v, b})
	}
	return out, nil
}

func (w *world) nth(vm *simulator.VirtualMachine, index int) (attached, error) {
	all, err := w.attachedDisks(vm)
	if err != nil {
		return attached{}, err
	}
	if index < 0 || index >= len(all) {
		return attached{}, fmt.Errorf("%s has %d disks", vm.Name, len(all))
	}
	return all[index], nil
}

// showDisks writes the names of the running layers into the machine's configuration. The machine's lock is held.
func (w *world) showDisks(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	devices := append([]types.BaseVirtualDevice{}, vm.Config.Hardware.Device...)
	for n, o := range devices {
		v, b := flat(o)
		if b == nil {
			continue
		}
		d, err := w.disk(vm.Self, v, b)
		if err != nil {
			continue
		}
		nv := *v
		nb := w.backing(d, len(d.chain)-1, b)
		nv.Backing, nv.CapacityInBytes, nv.CapacityInKB = nb, d.size, (d.size+1023)/1024
		if i, ok := nv.DeviceInfo.(*types.Description); ok && i != nil {
			nv.DeviceInfo = &types.Description{Label: i.Label, Summary: fmt.Sprintf("%d KB", nv.CapacityInKB)}
		}
		devices[n] = &nv
	}
	ctx.Update(vm, []types.PropertyChange{{Name: "config.hardware.device", Val: devices}})
}

// backing describes a layer and those below it.
func (w *world) backing(d *disk, index int, like *types.VirtualDiskFlatVer2BackingInfo) *types.VirtualDiskFlatVer2BackingInfo {
	b := *like
	l := d.chain[index]
	b.FileName, b.Parent, b.ChangeId = l.name, nil, l.id
	if index == len(d.chain)-1 && d.tracked {
		b.ChangeId = fmt.Sprintf("%s/%d", d.uuid, d.gen)
	}
	if index > 0 {
		b.Parent = w.backing(d, index-1, like)
	}
	return &b
}

// retain brings the configurations of the remaining snapshots in line with the chains. w.mu is held.
func (w *world) retain(ctx *simulator.Context) {
	for ref, layers := range w.frozen {
		s, ok := w.model.Map().Get(ref).(*simulator.VirtualMachineSnapshot)
		if !ok {
			continue
		}
		for n, o := range s.Config.Hardware.Device {
			v, b := flat(o)
			if b == nil || layers[v.Key] == nil {
				continue
			}
			d := w.disks[fmt.Sprintf("%s/%d", s.Vm.Value, v.Key)]
			if d == nil {
				continue
			}
			if i := (view{d, layers[v.Key]}).index(); i >= 0 {
				nv := *v
				nv.Backing = w.backing(d, i, b)
				s.Config.Hardware.Device[n] = &nv
			}
		}
	}
}

// update changes properties by path under the object's lock.
func (w *world) update(ref types.ManagedObjectReference, changes ...types.PropertyChange) {
	ctx := w.context()
	obj := w.model.Map().Get(ref)
	ctx.WithLock(obj, func() { ctx.Update(obj, changes) })
}

// context returns a context of its own for each use: it owns locks.
func (w *world) context() *simulator.Context {
	c := *w.model.Service.Context
	return &c
}

// fault makes a fault of a kind by its name.
func fault(kind, message string) types.BaseMethodFault {
	t, ok := types.TypeFunc()(kind)
	if ok {
		if f, ok := reflect.New(t).Interface().(types.BaseMethodFault); ok {
			return f
		}
	}
	return &types.SystemErrorFault{Reason: kind + " " + message}
}

func (w *world) datastore(name string) *simulator.Datastore {
	for _, o := range w.model.Map().All("Datastore") {
		if d := o.(*simulator.Datastore); d.Name == name {
			return d
		}
	}
	return nil
}

// dress gives every machine its disks, tools and thumbprints.
func (w *world) dress() error {
	ctx := context.Background()
	names := strings.Split(w.options.names, ",")
	for i, o := range w.ordered() {
		vm := object.NewVirtualMachine(w.client, o.Self)
		spec := types.VirtualMachineConfigSpec{GuestId: w.options.guest, Annotation: "made by the simulator", MemoryMB: w.options.memory}
		if i < len(names) && names[i] != "" {
			spec.Name = names[i]
		}
		devices, err := vm.Device(ctx)
		if err != nil {
			return err
		}
		scsi, err := devices.FindDiskController("scsi")
		if err != nil {
			return err
		}
		dir := path.Dir(strings.SplitN(o.Config.Files.VmPathName, "] ", 2)[1])
		ds := strings.SplitN(o.Config.Files.VmPathName, "] ", 2)[0] + "] "
		for n := 1; n < w.options.disks; n++ {
			d := devices.CreateDisk(scsi, types.ManagedObjectReference{}, fmt.Sprintf("%s%s/disk%d.vmdk", ds, dir, n+1))
			d.CapacityInKB = w.options.size / 1024
			devices = append(devices, d)
			spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
				Operation: types.VirtualDeviceConfigSpecOperationAdd, FileOperation: types.VirtualDeviceConfigSpecFileOperationCreate, Device: d,
			})
		}
		task, err := vm.Reconfigure(ctx, spec)
		if err == nil {
			err = task.Wait(ctx)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", o.Name, err)
		}
		c := w.context()
		c.WithLock(o, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			renumber(c, o)
			var all []attached
			if all, err = w.attachedDisks(o); err == nil {
				for _, d := range all {
					if w.options.size > 0 {
						d.size = w.options.size
						err = d.top().file.Truncate(d.size)
					}
				}
				w.showDisks(c, o)
				c.Update(o, w.toolsProperties(o, w.guest(o.Self).tools, o.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn, i))
			}
		})
		if err != nil {
			return err
		}
	}
	for _, o := range w.model.Map().All("HostSystem") {
		w.update(o.Reference(), types.PropertyChange{Name: "summary.config.sslThumbprint", Val: w.nfc.SHA1},
			types.PropertyChange{Name: "config.certificate", Val: []byte(w.nfc.PEM)})
	}
	return nil
}

// renumber gives devices the keys that vSphere gives them: controllers from 1000, disks from 2000, network cards from 4000.
func renumber(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	old := vm.Config.Hardware.Device
	keys, next := map[int32]int32{}, map[int32]int32{}
	for _, o := range old {
		first := int32(0)
		switch o.(type) {
		case types.BaseVirtualSCSIController:
			first = 1000
		case *types.VirtualDisk:
			first = 2000
		case types.BaseVirtualEthernetCard:
			first = 4000
		default:
			continue
		}
		keys[o.GetVirtualDevice().Key] = first + next[first]
		next[first]++
	}
	replace := func(key *int32) {
		if k, ok := keys[*key]; ok {
			*key = k
		}
	}
	devices := copyConfig(vm.Config).Hardware.Device
	for _, o := range devices {
		d := o.GetVirtualDevice()
		replace(&d.Key)
		replace(&d.ControllerKey)
		if c, ok := o.(types.BaseVirtualController); ok {
			for i := range c.GetVirtualController().Device {
				replace(&c.GetVirtualController().Device[i])
			}
		}
	}
	ctx.Update(vm, []types.PropertyChange{{Name: "config.hardware.device", Val: devices}})
}

// toolsProperties is what VMware Tools report of a guest.
func (w *world) toolsProperties(vm *simulator.VirtualMachine, tools, on bool, n int) []types.PropertyChange {
	running, status, state := types.VirtualMachineToolsRunningStatusGuestToolsNotRunning, types.VirtualMachineToolsStatusToolsNotRunning, "notRunning"
	if !tools {
		status = types.VirtualMachineToolsStatusToolsNotInstalled
	} else if on {
		running, status = types.VirtualMachineToolsRunningStatusGuestToolsRunning, types.VirtualMachineToolsStatusToolsOk
	}
	if on {
		state = "running"
	}
	out := []types.PropertyChange{
		{Name: "guest.toolsRunningStatus", Val: string(running)},
		{Name: "guest.toolsStatus", Val: status},
		{Name: "guest.guestState", Val: state},
		{Name: "summary.guest.toolsRunningStatus", Val: string(running)},
		{Name: "summary.guest.toolsStatus", Val: status},
	}
	if tools && on {
		out = append(out, types.PropertyChange{Name: "guest.toolsVersion", Val: "12352"},
			types.PropertyChange{Name: "guest.toolsVersionStatus2", Val: string(types.VirtualMachineToolsVersionStatusGuestToolsCurrent)},
			types.PropertyChange{Name: "guest.hostName", Val: strings.ToLower(vm.Name)})
		if n >= 0 {
			out = append(out, types.PropertyChange{Name: "guest.ipAddress", Val: fmt.Sprintf("10.20.%d.%d", n/250, n%250+2)})
		}
	}
	return out
}

func (w *world) ordered() []*simulator.VirtualMachine {
	var out []*simulator.VirtualMachine
	for _, o := range w.model.Map().All("VirtualMachine") {
		out = append(out, o.(*simulator.VirtualMachine))
	}
	for i := range out { // a handful: by the number at the end of the reference
		for j := i + 1; j < len(out); j++ {
			if a, b := out[i].Self.Value, out[j].Self.Value; len(b) < len(a) || len(a) == len(b) && b < a {
				out[i], out[j] = out[j], out[i]
			}
		}
	}
	return out
}
