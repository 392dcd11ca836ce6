package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// control is what tests do behind the client's back; it listens on loopback without authentication.
func (w *world) control() http.Handler {
	mux := http.NewServeMux()
	add := func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			out, err := f(r)
			if err != nil {
				http.Error(rw, err.Error(), http.StatusConflict)
				return
			}
			if b, ok := out.([]byte); ok {
				_, _ = rw.Write(b)
				return
			}
			_ = json.NewEncoder(rw).Encode(out)
		})
	}
	add("POST /write", w.doWrite)
	add("POST /writer", w.doWriter)
	add("POST /put", w.doPut)
	add("GET /read", w.doRead)
	add("POST /set", w.doSet)
	add("POST /reconfigure", w.doReconfigure)
	add("POST /guest", w.doGuest)
	add("POST /power", w.doPower)
	add("POST /snapshot", w.doSnapshot)
	add("POST /remove-snapshot", w.doRemoveSnapshot)
	add("POST /disk", w.doDisk)
	add("GET /vms", w.doList)
	add("GET /calls", w.doCalls)
	add("POST /reset-calls", w.doResetCalls)
	add("POST /fault", w.doFault)
	add("POST /certificate", w.doCertificate)
	add("GET /hosts", w.doHosts)
	add("POST /host-password", w.doHostPassword)
	return mux
}

func number(r *http.Request, name string) int64 {
	n, _ := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	return n
}

func (w *world) pick(r *http.Request) (*simulator.VirtualMachine, attached, error) {
	vm, err := w.vm(r.URL.Query().Get("vm"))
	if err != nil {
		return nil, attached{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	d, err := w.nth(vm, int(number(r, "disk")))
	return vm, d, err
}

// ?vm=&disk=&offset=, the bytes in the body: written as the guest would.
func (w *world) doWrite(r *http.Request) (any, error) {
	vm, d, err := w.pick(r)
	if err != nil {
		return nil, err
	}
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn && r.URL.Query().Get("force") == "" {
		return nil, fmt.Errorf("%s is off: nobody writes to its disks", vm.Name)
	}
	p, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return map[string]any{"key": d.key}, d.write(p, number(r, "offset"))
}

// ?vm=&disk=&seed=&each=&span=&pause= (bytes, bytes, milliseconds): a guest that writes until it goes off.
func (w *world) doWriter(r *http.Request) (any, error) {
	vm, d, err := w.pick(r)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		return nil, fmt.Errorf("%s is off", vm.Name)
	}
	g := w.guest(vm.Self)
	g.writers = append(g.writers, startWriter(d.disk, number(r, "seed"), number(r, "each"), number(r, "span"),
		time.Duration(max(1, number(r, "pause")))*time.Millisecond))
	return map[string]any{}, nil
}

// ?vm=&disk=&path=: a raw file becomes the disk's content, and its size the disk's.
func (w *world) doPut(r *http.Request) (any, error) {
	vm, d, err := w.pick(r)
	if err != nil {
		return nil, err
	}
	if err = d.put(r.URL.Query().Get("path")); err != nil {
		return nil, err
	}
	c := w.context()
	c.WithLock(vm, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.showDisks(c, vm)
	})
	return map[string]any{"size": d.size}, nil
}

// ?vm=&disk=[&snapshot=NAME][&offset=&length=|&path=]: bytes, a raw file, or the digest and the size.
func (w *world) doRead(r *http.Request) (any, error) {
	vm, d, err := w.pick(r)
	if err != nil {
		return nil, err
	}
	v := view{d.disk, d.top()}
	q := r.URL.Query()
	if name := q.Get("snapshot"); name != "" {
		s := findByName(vm, name)
		w.mu.Lock()
		l := w.frozen[s][d.dev.Key]
		w.mu.Unlock()
		if l == nil {
			return nil, fmt.Errorf("%s has no snapshot %s with this disk", vm.Name, name)
		}
		v.l = l
	}
	if path := q.Get("path"); path != "" {
		return map[string]any{"size": v.size()}, v.dump(path)
	}
	if q.Get("length") != "" {
		p := make([]byte, number(r, "length"))
		n, err := v.ReadAt(p, number(r, "offset"))
		if err == io.EOF {
			err = nil
		}
		return p[:n], err
	}
	sum, err := v.sha()
	return map[string]any{"sha256": sum, "size": v.size(), "file": v.l.name, "changeId": v.l.id, "layers": len(d.chain)}, err
}

func findByName(vm *simulator.VirtualMachine, name string) (out types.ManagedObjectReference) {
	var walk func([]types.VirtualMachineSnapshotTree)
	walk = func(tree []types.VirtualMachineSnapshotTree) {
		for _, s := range tree {
			if s.Name == name {
				out = s.Snapshot
			}
			walk(s.ChildSnapshotList)
		}
	}
	if vm.Snapshot != nil {
		walk(vm.Snapshot.RootSnapshotList)
	}
	return out
}

// ?type=VirtualMachine&name=, {"config.guestId": "…", "runtime.connectionState": "disconnected", …}: any property by its
// path, in the JSON of vSphere's own JSON protocol.
func (w *world) doSet(r *http.Request) (any, error) {
	q := r.URL.Query()
	ref, err := w.object(q.Get("type"), q.Get("name"))
	if err != nil {
		return nil, err
	}
	var changes map[string]json.RawMessage
	if err = json.NewDecoder(r.Body).Decode(&changes); err != nil {
		return nil, err
	}
	obj := w.model.Map().Get(ref)
	var list []types.PropertyChange
	for path, raw := range changes {
		val, err := decodeAt(obj, path, raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, types.PropertyChange{Name: path, Val: val})
	}
	w.update(ref, list...)
	return map[string]any{"object": ref.Value}, nil
}

func (w *world) object(kind, name string) (types.ManagedObjectReference, error) {
	if kind == "" {
		kind = "VirtualMachine"
	}
	for _, o := range w.model.Map().All(kind) {
		self := o.Reference()
		if self.Value == name || o.Entity().Name == name {
			return self, nil
		}
		if d, ok := o.(*simulator.Datastore); ok && d.Name == name {
			return self, nil
		}
		if d, ok := o.(*simulator.DistributedVirtualPortgroup); ok && d.Name == name {
			return self, nil
		}
	}
	return types.ManagedObjectReference{}, fmt.Errorf("no %s %s", kind, name)
}

// decodeAt decodes a value as the type of the property at a path.
func decodeAt(obj mo.Reference, path string, raw json.RawMessage) (any, error) {
	t := reflect.TypeOf(obj).Elem()
	for _, part := range strings.Split(path, ".") {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return nil, fmt.Errorf("nothing below %s", t)
		}
		f, ok := t.FieldByName(strings.ToUpper(part[:1]) + part[1:])
		if !ok {
			return nil, fmt.Errorf("%s has no %s", t, part)
		}
		t = f.Type
	}
	if string(raw) == "null" {
		return nil, nil
	}
	v := reflect.New(t)
	if err := types.NewJSONDecoder(strings.NewReader(string(raw))).Decode(v.Interface()); err != nil {
		return nil, err
	}
	// an optional scalar is a pointer in the object and a value in an update
	if v = v.Elem(); v.Kind() == reflect.Pointer && v.Elem().Kind() != reflect.Struct {
		v = v.Elem()
	}
	return v.Interface(), nil
}

// ?vm=, a VirtualMachineConfigSpec as JSON: devices come and go as a user would have it.
func (w *world) doReconfigure(r *http.Request) (any, error) {
	vm, err := w.vm(r.URL.Query().Get("vm"))
	if err != nil {
		return nil, err
	}
	var spec types.VirtualMachineConfigSpec
	if err = types.NewJSONDecoder(r.Body).Decode(&spec); err != nil {
		return nil, err
	}
	task, err := object.NewVirtualMachine(w.client, vm.Self).Reconfigure(context.Background(), spec)
	if err == nil {
		err = task.Wait(context.Background())
	}
	return map[string]any{}, err
}

// ?vm=&tools=true|false&hang=true|false&consolidate=true|false
func (w *world) doGuest(r *http.Request) (any, error) {
	vm, err := w.vm(r.URL.Query().Get("vm"))
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	w.mu.Lock()
	g := w.guest(vm.Self)
	for name, field := range map[string]*bool{"tools": &g.tools, "hang": &g.hang, "consolidate": &g.consolidate} {
		if v := q.Get(name); v != "" {
			*field = v == "true"
		}
	}
	changes := w.toolsProperties(vm, g.tools, vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn, -1)
	w.mu.Unlock()
	w.update(vm.Self, changes...)
	return map[string]any{}, nil
}

// ?vm=&on=true|false
func (w *world) doPower(r *http.Request) (any, error) {
	vm, err := w.vm(r.URL.Query().Get("vm"))
	if err != nil {
		return nil, err
	}
	o := object.NewVirtualMachine(w.client, vm.Self)
	var task *object.Task
	if r.URL.Query().Get("on") == "true" {
		task, err = o.PowerOn(context.Background())
	} else {
		task, err = o.PowerOff(context.Background())
	}
	if err == nil {
		err = task.Wait(context.Background())
	}
	return map[string]any{}, err
}

// ?vm=&name=: a snapshot of somebody else.
func (w *world) doSnapshot(r *http.Request) (any, error) {
	vm, err := w.vm(r.URL.Query().Get("vm"))
	if err != nil {
		return nil, err
	}
	task, err := object.NewVirtualMachine(w.client, vm.Self).CreateSnapshot(context.Background(), r.URL.Query().Get("name"), "", false, false)
	if err == nil {
		err = task.Wait(context.Background())
	}
	return map[string]any{}, err
}

// ?vm=&name=
func (w *world) doRemoveSnapshot(r *http.Request) (any, error) {
	vm, err := w.vm(r.URL.Query().Get("vm"))
	if err != nil {
		return nil, err
	}
	ref := findByName(vm, r.URL.Query().Get("name"))
	if ref.Value == "" {
		return nil, fmt.Errorf("%s has no snapshot %s", vm.Name, r.URL.Query().Get("name"))
	}
	consolidate := true
	task, err := object.NewVirtualMachine(w.client, vm.Self).RemoveSnapshot(context.Background(), ref.Value, false, &consolidate)
	if err == nil {
		err = task.Wait(context.Background())
	}
	return map[string]any{}, err
}

// ?vm=&disk=&mode=independent_persistent|persistent|…&sharing=sharingMultiWriter|…&rdm=physicalMode|virtualMode&change=reset
// &capacity=BYTES as the configuration tells it &file=[store] another machine's disk, which both have from then on
func (w *world) doDisk(r *http.Request) (any, error) {
	vm, d, err := w.pick(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	if q.Get("change") == "reset" {
		d.mu.Lock()
		d.resetTracking()
		d.mu.Unlock()
		return map[string]any{}, nil
	}
	if q.Get("file") != "" {
		w.mu.Lock()
		delete(w.disks, fmt.Sprintf("%s/%d", vm.Self.Value, d.dev.Key))
		w.mu.Unlock()
	}
	c := w.context()
	c.WithLock(vm, func() {
		devices := append([]types.BaseVirtualDevice{}, vm.Config.Hardware.Device...)
		for n, o := range devices {
			if v, b := flat(o); b != nil && v.Key == d.dev.Key {
				nv, nb := *v, *b
				if m := q.Get("mode"); m != "" {
					nb.DiskMode = m
				}
				if s := q.Get("sharing"); s != "" {
					nb.Sharing = s
				}
				if f := q.Get("file"); f != "" {
					nb.FileName, nb.Parent = f, nil
				}
				if q.Get("capacity") != "" {
					nv.CapacityInBytes = number(r, "capacity")
					nv.CapacityInKB = nv.CapacityInBytes / 1024
				}
				nv.Backing = &nb
				if m := q.Get("rdm"); m != "" {
					nv.Backing = &types.VirtualDiskRawDiskMappingVer1BackingInfo{
						VirtualDeviceFileBackingInfo: nb.VirtualDeviceFileBackingInfo, LunUuid: "0200000000" + nb.Uuid,
						DeviceName: "vml.02000000006000c29", CompatibilityMode: m, DiskMode: nb.DiskMode, Uuid: nb.Uuid}
				}
				devices[n] = &nv
			}
		}
		c.Update(vm, []types.PropertyChange{{Name: "config.hardware.device", Val: devices}})
	})
	return map[string]any{}, nil
}

func (w *world) doList(*http.Request) (any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []any
	for _, vm := range w.ordered() {
		var disks []any
		all, err := w.attachedDisks(vm)
		if err != nil {
			return nil, err
		}
		for _, d := range all {
			disks = append(disks, map[string]any{"key": d.dev.Key, "file": d.backing.FileName, "base": d.chain[0].name, "size": d.size,
				"changeId": d.backing.ChangeId, "layers": len(d.chain)})
		}
		snapshots := []string{}
		var walk func([]types.VirtualMachineSnapshotTree)
		walk = func(tree []types.VirtualMachineSnapshotTree) {
			for _, s := range tree {
				snapshots = append(snapshots, s.Name)
				walk(s.ChildSnapshotList)
			}
		}
		if vm.Snapshot != nil {
			walk(vm.Snapshot.RootSnapshotList)
		}
		_, host := w.host(vm.Runtime.Host)
		out = append(out, map[string]any{"id": vm.Self.Value, "name": vm.Name, "uuid": vm.Config.Uuid, "instanceUuid": vm.Config.InstanceUuid,
			"power": vm.Runtime.PowerState, "host": host, "disks": disks, "snapshots": snapshots,
			"tracking": vm.Config.ChangeTrackingEnabled != nil && *vm.Config.ChangeTrackingEnabled})
	}
	return out, nil
}

func (w *world) doCalls(*http.Request) (any, error) {
	sessions := len(w.sessions())
	w.mu.Lock()
	defer w.mu.Unlock()
	most := map[string]int{}
	for name, h := range w.hosts {
		most[name] = h.most
	}
	active := 0
	for _, l := range w.leases {
		if l.active() {
			active++
		}
	}
	doors := map[string]any{}
	for name, calls := range w.doorCalls {
		own := *calls
		own.Methods = copyOf(calls.Methods)
		doors[name] = own
	}
	return map[string]any{"methods": copyOf(w.calls), "bytes": copyOf(w.bytes), "requests": copyOf(w.requests), "logins": w.logins,
		"invalidLogins": w.invalid, "sessions": sessions, "leases": active, "mostLeases": most, "hosts": doors}, nil
}

func copyOf(m map[string]int64) map[string]int64 {
	out := map[string]int64{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

func (w *world) doResetCalls(*http.Request) (any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.calls)
	clear(w.bytes)
	clear(w.requests)
	w.logins, w.invalid = 0, 0
	for _, calls := range w.doorCalls {
		*calls = doorCalls{Methods: map[string]int64{}}
	}
	return map[string]any{}, nil
}

type order struct {
	Expire      bool     `json:"expireSessions"`
	AbortLeases bool     `json:"abortLeases"`
	ResetCBT    string   `json:"resetCbt"` // a machine
	Rule        *rule    `json:"rule"`
	ClearRules  bool     `json:"clearRules"`
	Deny        []string `json:"deny"` // privileges; the list replaces the one before
	Password    string   `json:"password"`
	NoRanges    []string `json:"noRanges"` // datastore types
	Host        *struct {
		Name   string `json:"name"` // empty for all
		Rate   int64  `json:"rate"`
		Millis int    `json:"millis"`
		Fail   bool   `json:"fail"`
	} `json:"host"`
	TaskDelay map[string]int `json:"taskDelay"` // task name -> milliseconds
	Lease     int            `json:"leaseMillis"`
	Slots     *int           `json:"leaseSlots"`
	Page      int            `json:"areasPage"`
}

// doFault breaks things, or mends them.
func (w *world) doFault(r *http.Request) (any, error) {
	var o order
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return nil, err
	}
	out := map[string]any{}
	if o.ResetCBT != "" {
		vm, err := w.vm(o.ResetCBT)
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		all, err := w.attachedDisks(vm)
		w.mu.Unlock()
		if err != nil {
			return nil, err
		}
		for _, d := range all {
			d.mu.Lock()
			d.resetTracking()
			d.mu.Unlock()
		}
	}
	w.mu.Lock()
	if o.ClearRules {
		w.rules = nil
	}
	if o.Rule != nil {
		w.rules = append(w.rules, o.Rule)
	}
	if o.Deny != nil {
		clear(w.denied)
		for _, id := range o.Deny {
			w.denied[id] = true
		}
	}
	if o.Password != "" {
		w.options.password = o.Password
	}
	if o.NoRanges != nil {
		clear(w.noRanges)
		for _, kind := range o.NoRanges {
			w.noRanges[strings.ToLower(kind)] = true
		}
	}
	if o.Host != nil {
		for _, h := range w.model.Map().All("HostSystem") {
			self := h.Reference()
			if state, name := w.host(&self); o.Host.Name == "" || o.Host.Name == name {
				state.rate, state.delay, state.fail = o.Host.Rate, time.Duration(o.Host.Millis)*time.Millisecond, o.Host.Fail
			}
		}
	}
	if o.TaskDelay != nil {
		delays := map[string]int{"LockHandoff": 0}
		for k, v := range o.TaskDelay {
			delays[k] = v
		}
		simulator.TaskDelay.MethodDelay = delays
	}
	if o.Lease > 0 {
		w.options.leaseTimeout = time.Duration(o.Lease) * time.Millisecond
	}
	if o.Slots != nil {
		w.options.leaseSlots = *o.Slots
	}
	if o.Page > 0 {
		w.options.page = o.Page
	}
	w.mu.Unlock()
	if o.Expire {
		out["sessions"] = w.expire()
	}
	if o.AbortLeases {
		out["leases"] = w.abortLeases("aborted")
	}
	return out, nil
}
