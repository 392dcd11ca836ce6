package main

import (
	"math/rand"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ShutdownGuest needs tools in the guest; it returns at once and the guest goes down later, or never.
func (x *xvm) ShutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) soap.HasFault {
	body := &methods.ShutdownGuestBody{}
	if x.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		body.Fault_ = simulator.Fault("", &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: x.Runtime.PowerState})
		return body
	}
	x.w.mu.Lock()
	g := x.w.guest(x.Self)
	tools, hang := g.tools, g.hang
	x.w.mu.Unlock()
	if !tools {
		body.Fault_ = simulator.Fault("", &types.ToolsUnavailable{})
		return body
	}
	body.Res = &types.ShutdownGuestResponse{}
	if hang {
		return body
	}
	x.w.guestOff(ctx, x.VirtualMachine)
	return x.VirtualMachine.ShutdownGuest(ctx, req)
}

func (x *xvm) PowerOffVMTask(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	x.w.guestOff(ctx, x.VirtualMachine)
	return x.VirtualMachine.PowerOffVMTask(ctx, req)
}

func (x *xvm) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	x.w.mu.Lock()
	g := x.w.guest(x.Self)
	exported, tools := g.export != nil, g.tools
	x.w.mu.Unlock()
	if exported {
		return &methods.PowerOnVM_TaskBody{Fault_: simulator.Fault("the machine is being exported", &types.TaskInProgress{})}
	}
	ctx.Update(x.VirtualMachine, x.w.toolsProperties(x.VirtualMachine, tools, true, -1))
	return x.VirtualMachine.PowerOnVMTask(ctx, req)
}

// guestOff ends what the guest does before its machine goes off: nothing is written after that.
func (w *world) guestOff(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	w.mu.Lock()
	g := w.guest(vm.Self)
	writers := g.writers
	g.writers = nil
	tools := g.tools
	w.mu.Unlock()
	for _, r := range writers {
		r.stop()
	}
	ctx.Update(vm, w.toolsProperties(vm, tools, false, -1))
}

// writer is a guest that writes random bytes at random places.
type writer struct {
	quit chan struct{}
	done chan struct{}
	once sync.Once
	n    int64
}

func (r *writer) stop() {
	r.once.Do(func() { close(r.quit) })
	<-r.done
}

// startWriter writes `each` bytes at most every `pause`, in the first `span` bytes of the disk, from a seed.
func startWriter(d *disk, seed int64, each, span int64, pause time.Duration) *writer {
	r := &writer{quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		random := rand.New(rand.NewSource(seed))
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-r.quit:
				return
			case <-tick.C:
			}
			d.mu.RLock()
			size := d.size
			d.mu.RUnlock()
			if span > 0 && span < size {
				size = span
			}
			n := (1 + random.Int63n(max(1, each/sector))) * sector
			off := random.Int63n(max(1, (size-n)/sector+1)) * sector
			p := make([]byte, n)
			if random.Intn(8) > 0 { // now and then a guest writes zeros
				_, _ = random.Read(p)
			}
			if d.write(p, off) == nil {
				r.n += n
			}
		}
	}()
	return r
}
