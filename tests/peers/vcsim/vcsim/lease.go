package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// lease is an export of a machine or of a snapshot: URLs that serve its disks for as long as somebody reports progress.
type lease struct {
	mo.HttpNfcLease
	w        *world
	vm       types.ManagedObjectReference
	snapshot types.ManagedObjectReference // empty for a machine
	session  string
	token    string
	host     *hostState
	hostName string
	views    map[string]view // by the last part of the URL
	ended    chan struct{}
	once     sync.Once
	touched  time.Time
}

func (l *lease) active() bool {
	select {
	case <-l.ended:
		return false
	default:
		return true
	}
}

// end closes the lease once: its transfers break off, its slot is free. w.mu is not held by the caller.
func (l *lease) end(state types.HttpNfcLeaseState, why types.BaseMethodFault, message string) {
	l.once.Do(func() {
		l.w.mu.Lock()
		l.host.leases--
		if g := l.w.guest(l.vm); g.export == l {
			g.export = nil
		}
		delete(l.w.leases, l.token)
		l.w.mu.Unlock()
		close(l.ended)
		changes := []types.PropertyChange{{Name: "state", Val: state}}
		if why != nil {
			changes = append(changes, types.PropertyChange{Name: "error", Val: &types.LocalizedMethodFault{Fault: why, LocalizedMessage: message}})
		}
		ctx := l.w.context()
		ctx.WithLock(l, func() { ctx.Update(l, changes) })
	})
}

// watch ends the lease when no progress was reported for its time.
func (l *lease) watch() {
	limit := l.w.options.leaseTimeout
	t := time.NewTimer(limit)
	defer t.Stop()
	for {
		select {
		case <-l.ended:
			return
		case <-t.C:
			l.w.mu.Lock()
			rest := limit - time.Since(l.touched)
			l.w.mu.Unlock()
			if rest <= 0 {
				l.end(types.HttpNfcLeaseStateError, &types.Timedout{}, "The lease timed out: no progress was reported.")
				return
			}
			t.Reset(rest)
		}
	}
}

func (l *lease) HttpNfcLeaseProgress(ctx *simulator.Context, req *types.HttpNfcLeaseProgress) soap.HasFault {
	body := &methods.HttpNfcLeaseProgressBody{}
	if !l.active() {
		body.Fault_ = simulator.Fault("", &types.Timedout{})
		return body
	}
	l.w.mu.Lock()
	l.touched = time.Now()
	l.w.mu.Unlock()
	l.TransferProgress = req.Percent
	body.Res = &types.HttpNfcLeaseProgressResponse{}
	return body
}

func (l *lease) HttpNfcLeaseComplete(ctx *simulator.Context, req *types.HttpNfcLeaseComplete) soap.HasFault {
	body := &methods.HttpNfcLeaseCompleteBody{}
	if !l.active() {
		body.Fault_ = simulator.Fault("", &types.InvalidState{})
		return body
	}
	go func() {
		l.end(types.HttpNfcLeaseStateDone, nil, "")
	}()
	ctx.Session.Remove(ctx, req.This)
	body.Res = &types.HttpNfcLeaseCompleteResponse{}
	return body
}

func (l *lease) HttpNfcLeaseAbort(ctx *simulator.Context, req *types.HttpNfcLeaseAbort) soap.HasFault {
	go l.end(types.HttpNfcLeaseStateError, &types.RequestCanceled{}, "aborted by the client")
	ctx.Session.Remove(ctx, req.This)
	return &methods.HttpNfcLeaseAbortBody{Res: &types.HttpNfcLeaseAbortResponse{}}
}

func (l *lease) HttpNfcLeaseGetManifest(*types.HttpNfcLeaseGetManifest) soap.HasFault {
	return &methods.HttpNfcLeaseGetManifestBody{Res: &types.HttpNfcLeaseGetManifestResponse{}}
}

func (x *xvm) ExportVm(ctx *simulator.Context, req *types.ExportVm) soap.HasFault {
	body := &methods.ExportVmBody{}
	if x.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		body.Fault_ = simulator.Fault("", &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: x.Runtime.PowerState})
		return body
	}
	ref, f := x.w.export(ctx, x.VirtualMachine, types.ManagedObjectReference{}, x.Config)
	if f != nil {
		body.Fault_ = simulator.Fault("", f)
	} else {
		body.Res = &types.ExportVmResponse{Returnval: ref}
	}
	return body
}

func (x *xsnapshot) ExportSnapshot(ctx *simulator.Context, req *types.ExportSnapshot) soap.HasFault {
	body := &methods.ExportSnapshotBody{}
	vm := ctx.Map.Get(x.Vm).(*simulator.VirtualMachine)
	ref, f := x.w.export(ctx, vm, x.Self, &x.Config)
	if f != nil {
		body.Fault_ = simulator.Fault("", f)
	} else {
		body.Res = &types.ExportSnapshotResponse{Returnval: ref}
	}
	return body
}

func (w *world) export(ctx *simulator.Context, vm *simulator.VirtualMachine, snapshot types.ManagedObjectReference,
	config *types.VirtualMachineConfigInfo) (types.ManagedObjectReference, types.BaseMethodFault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.guest(vm.Self)
	if g.export != nil && snapshot.Value == "" {
		return vm.Self, &types.TaskInProgress{}
	}
	if vm.Runtime.ConnectionState != types.VirtualMachineConnectionStateConnected {
		return vm.Self, &types.InvalidState{}
	}
	h, name := w.host(vm.Runtime.Host)
	token := make([]byte, 8)
	_, _ = rand.Read(token)
	l := &lease{w: w, vm: vm.Self, snapshot: snapshot, session: ctx.Session.Key, token: "52" + hex.EncodeToString(token), host: h,
		hostName: name, views: map[string]view{}, ended: make(chan struct{}), touched: time.Now()}
	l.Self = types.ManagedObjectReference{Type: "HttpNfcLease", Value: fmt.Sprintf("session[%s]%s", ctx.Session.Key, l.token)}
	l.InitializeProgress, l.Mode, l.State = 100, string(types.HttpNfcLeaseModePushOrGet), types.HttpNfcLeaseStateInitializing
	l.Capabilities = types.HttpNfcLeaseCapabilities{CorsSupported: true, PullModeSupported: true}
	ctx.Session.Put(l)
	if w.options.leaseSlots > 0 && h.leases >= w.options.leaseSlots {
		l.once.Do(func() { close(l.ended) })
		l.State = types.HttpNfcLeaseStateError
		l.Error = &types.LocalizedMethodFault{Fault: &types.ResourceInUse{Type: "NfcService", Name: name},
			LocalizedMessage: "The host has no free slot for another transfer."}
		return l.Self, nil
	}
	h.leases++
	h.most = max(h.most, h.leases)
	var devices object.VirtualDeviceList = config.Hardware.Device
	info := &types.HttpNfcLeaseInfo{Lease: l.Self, Entity: vm.Self, LeaseTimeout: int32(max(1, w.options.leaseTimeout/time.Second))}
	n := 0
	for _, o := range devices {
		v, b := flat(o)
		if b == nil {
			continue
		}
		d, err := w.disk(vm.Self, v, b)
		if err != nil {
			h.leases--
			return l.Self, &types.SystemErrorFault{Reason: err.Error()}
		}
		at := d.top()
		if snapshot.Value != "" {
			at = w.frozen[snapshot][v.Key]
		}
		if at == nil {
			continue
		}
		unit := int32(n)
		if v.UnitNumber != nil {
			unit = *v.UnitNumber
		}
		controller, bus := "VirtualSCSIController", int32(0)
		if c := devices.FindByKey(v.ControllerKey); c != nil {
			controller = reflect.TypeOf(c).Elem().Name()
			if k, ok := c.(types.BaseVirtualController); ok {
				bus = k.GetVirtualController().BusNumber
			}
		}
		name := fmt.Sprintf("disk-%d.vmdk", n)
		l.views[name] = view{d, at}
		info.TotalDiskCapacityInKB += d.size / 1024
		info.DeviceUrl = append(info.DeviceUrl, types.HttpNfcLeaseDeviceUrl{
			Key: fmt.Sprintf("/%s/%s%d:%d", vm.Self.Value, controller, bus, unit), ImportKey: fmt.Sprintf("/%s/%s%d:%d", vm.Name, controller, bus, unit),
			Url: fmt.Sprintf("https://%s/nfc/%s/%s", w.urlHost(), l.token, name), SslThumbprint: w.nfc.SHA1, Disk: types.NewBool(true),
			TargetId: name, DatastoreKey: strings.TrimSuffix(strings.TrimPrefix(b.FileName[:strings.Index(b.FileName, "]")+1], "["), "]"),
		})
		n++
	}
	if w.options.nvram {
		info.DeviceUrl = append(info.DeviceUrl, types.HttpNfcLeaseDeviceUrl{Key: fmt.Sprintf("/%s/nvram", vm.Self.Value), ImportKey: "/nvram",
			Url: fmt.Sprintf("https://%s/nfc/%s/nvram", w.urlHost(), l.token), SslThumbprint: w.nfc.SHA1, Disk: types.NewBool(false), TargetId: "nvram"})
	}
	w.leases[l.token] = l
	if snapshot.Value == "" {
		g.export = l
	}
	go l.watch()
	c := w.context()
	go c.WithLock(l, func() { // as a host does: the lease is there before its files are opened
		if l.active() {
			c.Update(l, []types.PropertyChange{{Name: "info", Val: info}, {Name: "state", Val: types.HttpNfcLeaseStateReady}})
		}
	})
	return l.Self, nil
}

// urlHost is what lease URLs name: a host that is asked directly does not know its own name.
func (w *world) urlHost() string {
	if w.options.esx {
		_, port, _ := strings.Cut(w.nfcHost, ":")
		return "*:" + port
	}
	return w.nfcHost
}

// serveNFC serves the files of leases. Whoever knows the token may read.
func (w *world) serveNFC(rw http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) != 3 {
		http.NotFound(rw, r)
		return
	}
	w.mu.Lock()
	l := w.leases[parts[1]]
	var v view
	var known bool
	var slow hostState
	if l != nil {
		v, known = l.views[parts[2]]
		slow = *l.host
	}
	w.mu.Unlock()
	if l == nil || !known && parts[2] != "nvram" {
		http.NotFound(rw, r)
		return
	}
	if slow.fail {
		http.Error(rw, "the host is out of NFC connections", http.StatusServiceUnavailable)
		return
	}
	time.Sleep(slow.delay)
	if r.Method != http.MethodGet {
		rw.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if !known {
		_, _ = rw.Write(make([]byte, 8684))
		return
	}
	rw.Header().Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	out := &metered{w: w, out: rw, key: "nfc " + v.l.name, host: l.host, ended: l.ended}
	w.count("nfc " + v.l.name)
	if err := writeStream(out, v, path.Base(l.views[parts[2]].l.name), uint32(l.touched.UnixNano())); err != nil {
		panic(http.ErrAbortHandler) // the connection breaks off, as the reader can only tell so that bytes are missing
	}
}

func (w *world) count(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests[key]++
}

// metered counts bytes, keeps to the host's rate and breaks off when the lease ends.
type metered struct {
	w     *world
	out   io.Writer
	key   string
	host  *hostState
	ended <-chan struct{}
	begun time.Time
	sent  int64
}

func (m *metered) Write(p []byte) (int, error) {
	select {
	case <-m.ended:
		return 0, io.ErrClosedPipe
	default:
	}
	n, err := m.out.Write(p)
	m.w.mu.Lock()
	m.w.bytes[m.key] += int64(n)
	rate, fail := m.host.rate, m.host.fail
	m.w.mu.Unlock()
	if fail {
		return n, io.ErrClosedPipe
	}
	m.sent += int64(n)
	if rate > 0 {
		if m.begun.IsZero() {
			m.begun = time.Now()
		}
		if ahead := time.Duration(float64(m.sent)/float64(rate)*float64(time.Second)) - time.Since(m.begun); ahead > time.Millisecond {
			select {
			case <-m.ended:
			case <-time.After(ahead):
			}
		}
	}
	return n, err
}
