package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// xvm answers what govmomi's virtual machine does not, or not with bytes.
type xvm struct {
	*simulator.VirtualMachine
	w *world
}

// xsnapshot does so for a snapshot.
type xsnapshot struct {
	*simulator.VirtualMachineSnapshot
	w *world
}

// snapshotLevels is the longest chain that vSphere takes.
const snapshotLevels = 32

func (x *xvm) QueryChangedDiskAreas(ctx *simulator.Context, req *types.QueryChangedDiskAreas) soap.HasFault {
	body := &methods.QueryChangedDiskAreasBody{}
	res, f := x.w.areas(x.VirtualMachine, req)
	if f != nil {
		body.Fault_ = simulator.Fault("", f)
	} else {
		body.Res = &types.QueryChangedDiskAreasResponse{Returnval: *res}
	}
	return body
}

func (w *world) areas(vm *simulator.VirtualMachine, req *types.QueryChangedDiskAreas) (*types.DiskChangeInfo, types.BaseMethodFault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.disks[fmt.Sprintf("%s/%d", vm.Self.Value, req.DeviceKey)]
	if d == nil {
		return nil, &types.InvalidArgument{InvalidProperty: "deviceKey"}
	}
	if req.StartOffset < 0 || req.StartOffset > d.size {
		return nil, &types.InvalidArgument{InvalidProperty: "startOffset"}
	}
	l := d.top()
	upto := d.gen
	if req.Snapshot != nil {
		layers, ok := w.frozen[*req.Snapshot]
		if !ok {
			return nil, &types.ManagedObjectNotFound{Obj: *req.Snapshot}
		}
		if l = layers[req.DeviceKey]; l == nil {
			return nil, &types.InvalidArgument{InvalidProperty: "deviceKey"}
		}
		upto = l.gen
	} else if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
		return nil, &types.InvalidArgument{InvalidProperty: "snapshot"} // a running disk has no state to compare with
	}
	stale := &types.FileFault{File: l.name}
	if !d.tracked {
		return nil, stale
	}
	var grains []int64
	if req.ChangeId == "*" {
		grains = view{d, l}.allocated()
	} else {
		i := strings.LastIndex(req.ChangeId, "/")
		if i < 0 {
			return nil, &types.InvalidArgument{InvalidProperty: "changeId"}
		}
		if req.ChangeId[:i] != d.uuid || req.Snapshot != nil && !strings.HasPrefix(l.id, d.uuid+"/") {
			return nil, stale
		}
		since, err := strconv.ParseInt(req.ChangeId[i+1:], 10, 64)
		if err != nil || since > upto {
			return nil, &types.InvalidArgument{InvalidProperty: "changeId"}
		}
		grains = d.changedSince(since, upto)
	}
	info := &types.DiskChangeInfo{StartOffset: req.StartOffset, Length: d.size - req.StartOffset}
	for _, g := range grains {
		begin, end := g*grain, min((g+1)*grain, d.size)
		if end <= req.StartOffset {
			continue
		}
		begin = max(begin, req.StartOffset)
		k := len(info.ChangedArea) - 1
		if k >= 0 && info.ChangedArea[k].Start+info.ChangedArea[k].Length == begin {
			info.ChangedArea[k].Length += end - begin
		} else if len(info.ChangedArea) == w.options.page { // like vCenter, answer in pages
			info.Length = begin - req.StartOffset
			break
		} else {
			info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: begin, Length: end - begin})
		}
	}
	return info, nil
}

func (x *xvm) CreateSnapshotTask(ctx *simulator.Context, req *types.CreateSnapshot_Task) soap.HasFault {
	return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{
		Returnval: x.snapshot(ctx, req.Name, req.Description, req.Memory, req.Quiesce)}}
}

func (x *xvm) CreateSnapshotExTask(ctx *simulator.Context, req *types.CreateSnapshotEx_Task) soap.HasFault {
	return &methods.CreateSnapshotEx_TaskBody{Res: &types.CreateSnapshotEx_TaskResponse{
		Returnval: x.snapshot(ctx, req.Name, req.Description, req.Memory, req.QuiesceSpec != nil)}}
}

func (x *xvm) snapshot(ctx *simulator.Context, name, description string, memory, quiesce bool) types.ManagedObjectReference {
	w, vm := x.w, x.VirtualMachine
	return simulator.CreateTask(vm, "createSnapshot", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if f := w.takeRule("CreateSnapshot_Task", "task"); f != nil {
			return nil, fault(f.Kind, f.Message)
		}
		if w.guest(vm.Self).export != nil {
			return nil, &types.TaskInProgress{}
		}
		if vm.Snapshot != nil && depth(vm.Snapshot.RootSnapshotList) >= snapshotLevels {
			return nil, &types.TooManySnapshotLevels{}
		}
		disks, err := w.attachedDisks(vm)
		if err != nil {
			return nil, &types.SystemErrorFault{Reason: err.Error()}
		}
		tracked := vm.Config.ChangeTrackingEnabled != nil && *vm.Config.ChangeTrackingEnabled
		layers := map[int32]*layer{}
		for _, d := range disks {
			if strings.HasPrefix(d.backing.DiskMode, "independent") {
				continue
			}
			l, err := d.freeze(tracked)
			if err != nil {
				return nil, &types.SystemErrorFault{Reason: err.Error()}
			}
			layers[d.dev.Key] = l
		}
		s := &simulator.VirtualMachineSnapshot{}
		s.Vm = vm.Self
		s.Config = copyConfig(vm.Config)
		kept := s.Config.Hardware.Device[:0]
		for _, o := range s.Config.Hardware.Device {
			if v, b := flat(o); b == nil || layers[v.Key] != nil {
				kept = append(kept, o)
			}
		}
		s.Config.Hardware.Device = kept
		ctx.Map.Put(s)
		w.frozen[s.Self] = layers
		w.retain(ctx)
		state := vm.Runtime.PowerState
		if !memory {
			state = types.VirtualMachinePowerStatePoweredOff
		}
		w.sid++
		item := types.VirtualMachineSnapshotTree{Snapshot: s.Self, Vm: vm.Self, Name: name, Description: description, Id: w.sid,
			CreateTime: time.Now(), State: state, Quiesced: quiesce, ReplaySupported: types.NewBool(false)}
		info := types.VirtualMachineSnapshotInfo{CurrentSnapshot: &s.Self}
		roots := append([]types.ManagedObjectReference{}, vm.RootSnapshot...)
		if vm.Snapshot != nil && vm.Snapshot.CurrentSnapshot != nil {
			info.RootSnapshotList = grow(vm.Snapshot.RootSnapshotList, *vm.Snapshot.CurrentSnapshot, item)
			if parent, ok := ctx.Map.Get(*vm.Snapshot.CurrentSnapshot).(*simulator.VirtualMachineSnapshot); ok {
				parent.ChildSnapshot = append(parent.ChildSnapshot, s.Self)
			}
		} else {
			info.RootSnapshotList = []types.VirtualMachineSnapshotTree{item}
			roots = append(roots, s.Self)
		}
		w.showDisks(ctx, vm)
		ctx.Update(vm, []types.PropertyChange{{Name: "snapshot", Val: &info}, {Name: "rootSnapshot", Val: roots}})
		return s.Self, nil
	}).Run(ctx)
}

func (x *xsnapshot) RemoveSnapshotTask(ctx *simulator.Context, req *types.RemoveSnapshot_Task) soap.HasFault {
	w := x.w
	task := simulator.CreateTask(x.Vm, "removeSnapshot", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, w.remove(ctx, x.Vm, req.This, req.RemoveChildren)
	})
	return &methods.RemoveSnapshot_TaskBody{Res: &types.RemoveSnapshot_TaskResponse{Returnval: task.Run(ctx)}}
}

func (x *xvm) RemoveAllSnapshotsTask(ctx *simulator.Context, req *types.RemoveAllSnapshots_Task) soap.HasFault {
	w, vm := x.w, x.VirtualMachine
	task := simulator.CreateTask(vm, "removeAllSnapshots", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		for vm.Snapshot != nil && len(vm.Snapshot.RootSnapshotList) > 0 {
			if f := w.remove(ctx, vm.Self, vm.Snapshot.RootSnapshotList[0].Snapshot, true); f != nil {
				return nil, f
			}
		}
		return nil, nil
	})
	return &methods.RemoveAllSnapshots_TaskBody{Res: &types.RemoveAllSnapshots_TaskResponse{Returnval: task.Run(ctx)}}
}

func (x *xsnapshot) RevertToSnapshotTask(ctx *simulator.Context, req *types.RevertToSnapshot_Task) soap.HasFault {
	task := simulator.CreateTask(x.Vm, "revertToSnapshot", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, &types.NotSupported{} // the chains are straight lines
	})
	return &methods.RevertToSnapshot_TaskBody{Res: &types.RevertToSnapshot_TaskResponse{Returnval: task.Run(ctx)}}
}

// remove takes a snapshot (and those below it) away and consolidates its deltas. The machine's lock is held.
func (w *world) remove(ctx *simulator.Context, ref, snapshot types.ManagedObjectReference, children bool) types.BaseMethodFault {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.takeRule("RemoveSnapshot_Task", "task"); f != nil {
		return fault(f.Kind, f.Message)
	}
	vm := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if vm.Snapshot == nil {
		return &types.ManagedObjectNotFound{Obj: snapshot}
	}
	tree, gone, parent := prune(vm.Snapshot.RootSnapshotList, snapshot, children, nil)
	if len(gone) == 0 {
		return &types.ManagedObjectNotFound{Obj: snapshot}
	}
	for _, l := range w.leases {
		for _, s := range gone {
			if l.snapshot == s && l.active() {
				return &types.TaskInProgress{}
			}
		}
	}
	g := w.guest(ref)
	for i := len(gone) - 1; i >= 0; i-- { // the youngest first, so that each delta has one reader below it
		for key, l := range w.frozen[gone[i]] {
			d := w.disks[fmt.Sprintf("%s/%d", ref.Value, key)]
			if d == nil {
				continue
			}
			if g.consolidate {
				g.pending = append(g.pending, pending{d, l})
			} else if err := w.mergeDown(d, l); err != nil {
				return &types.SystemErrorFault{Reason: err.Error()}
			}
		}
		delete(w.frozen, gone[i])
		ctx.Map.Remove(ctx, gone[i])
	}
	w.retain(ctx)
	w.showDisks(ctx, vm)
	var changes []types.PropertyChange
	if len(tree) == 0 {
		changes = []types.PropertyChange{{Name: "snapshot", Val: nil}, {Name: "rootSnapshot", Val: nil}}
	} else {
		info := types.VirtualMachineSnapshotInfo{CurrentSnapshot: vm.Snapshot.CurrentSnapshot, RootSnapshotList: tree}
		for _, s := range gone {
			if info.CurrentSnapshot != nil && *info.CurrentSnapshot == s {
				info.CurrentSnapshot = parent
			}
		}
		roots := make([]types.ManagedObjectReference, len(tree))
		for i := range tree {
			roots[i] = tree[i].Snapshot
		}
		changes = []types.PropertyChange{{Name: "snapshot", Val: &info}, {Name: "rootSnapshot", Val: roots}}
	}
	if g.consolidate {
		changes = append(changes, types.PropertyChange{Name: "runtime.consolidationNeeded", Val: true})
	}
	ctx.Update(vm, changes)
	return nil
}

// mergeDown consolidates and lets the snapshots that read the delta read what it went into.
func (w *world) mergeDown(d *disk, l *layer) error {
	i := view{d, l}.index()
	if i < 0 || i+1 >= len(d.chain) {
		return fmt.Errorf("%s is not in its chain", l.name)
	}
	child := d.chain[i+1]
	if err := d.merge(l); err != nil {
		return err
	}
	for _, layers := range w.frozen {
		for key, other := range layers {
			if other == child {
				layers[key] = l
			}
		}
	}
	for _, g := range w.vms {
		for n := range g.pending {
			if g.pending[n].l == child {
				g.pending[n].l = l
			}
		}
	}
	return nil
}

func (x *xvm) ConsolidateVMDisksTask(ctx *simulator.Context, req *types.ConsolidateVMDisks_Task) soap.HasFault {
	w, vm := x.w, x.VirtualMachine
	task := simulator.CreateTask(vm, "consolidateDisks", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		w.mu.Lock()
		defer w.mu.Unlock()
		g := w.guest(vm.Self)
		for _, p := range g.pending {
			if err := w.mergeDown(p.d, p.l); err != nil {
				return nil, &types.SystemErrorFault{Reason: err.Error()}
			}
		}
		g.pending, g.consolidate = nil, false
		w.retain(ctx)
		w.showDisks(ctx, vm)
		ctx.Update(vm, []types.PropertyChange{{Name: "runtime.consolidationNeeded", Val: false}})
		return nil, nil
	})
	return &methods.ConsolidateVMDisks_TaskBody{Res: &types.ConsolidateVMDisks_TaskResponse{Returnval: task.Run(ctx)}}
}

func depth(tree []types.VirtualMachineSnapshotTree) int {
	most := 0
	for _, s := range tree {
		most = max(most, 1+depth(s.ChildSnapshotList))
	}
	return most
}

// grow returns a copy of the tree with an item below a parent.
func grow(tree []types.VirtualMachineSnapshotTree, parent types.ManagedObjectReference, item types.VirtualMachineSnapshotTree) []types.VirtualMachineSnapshotTree {
	out := append([]types.VirtualMachineSnapshotTree{}, tree...)
	for i := range out {
		below := out[i].ChildSnapshotList
		if out[i].Snapshot == parent {
			out[i].ChildSnapshotList = append(append([]types.VirtualMachineSnapshotTree{}, below...), item)
		} else {
			out[i].ChildSnapshotList = grow(below, parent, item)
		}
	}
	return out
}

// prune returns a copy of the tree without a snapshot, what is gone (parents first), and the parent of the first of it.
func prune(tree []types.VirtualMachineSnapshotTree, target types.ManagedObjectReference, children bool, above *types.ManagedObjectReference) (
	out []types.VirtualMachineSnapshotTree, gone []types.ManagedObjectReference, parent *types.ManagedObjectReference) {
	for _, s := range tree {
		if s.Snapshot == target {
			gone, parent = append(gone, target), above
			if children {
				gone = append(gone, all(s.ChildSnapshotList)...)
			} else {
				out = append(out, s.ChildSnapshotList...)
			}
			continue
		}
		self := s.Snapshot
		below, g, p := prune(s.ChildSnapshotList, target, children, &self)
		if len(g) > 0 {
			s.ChildSnapshotList, gone, parent = below, g, p
		}
		out = append(out, s)
	}
	return out, gone, parent
}

func all(tree []types.VirtualMachineSnapshotTree) (out []types.ManagedObjectReference) {
	for _, s := range tree {
		out = append(append(out, s.Snapshot), all(s.ChildSnapshotList)...)
	}
	return out
}

func copyConfig(c *types.VirtualMachineConfigInfo) (out types.VirtualMachineConfigInfo) {
	var b bytes.Buffer
	if err := types.NewJSONEncoder(&b).Encode(c); err != nil {
		panic(err)
	}
	if err := types.NewJSONDecoder(&b).Decode(&out); err != nil {
		panic(err)
	}
	return out
}
