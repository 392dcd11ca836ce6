package main

import (
	"bytes"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// machine is one of the prepared virtual machines: a shape and the words that replace its marks.
type machine struct {
	ref   string
	name  string
	shape int
	words *strings.Replacer
	// set holds what changes have set since: path -> encoded value
	set map[string][]byte
}

// change is one line of the log of changes.
type change struct {
	vm   int
	path string
	val  []byte
	at   time.Time
}

type store struct {
	mu       sync.Mutex
	shapes   []*mo.VirtualMachine
	machines []*machine
	others   []mo.Reference // everything that is no virtual machine
	log      []change
	wake     chan struct{} // closed and made anew with every change
	rate     int
	random   *rand.Rand
	counter  int64
}

// spec is what a filter asks for: types with their paths, the most derived type of an object first.
type spec struct {
	paths map[string][]string
	vm    []string
	cache [][][2][]byte // shape -> path and encoded value with marks
}

// parents are the base types that a filter may name instead of the type itself.
var parents = map[string][]string{
	"VmwareDistributedVirtualSwitch": {"DistributedVirtualSwitch"}, "ClusterComputeResource": {"ComputeResource"}, "VirtualApp": {"ResourcePool"},
	"DistributedVirtualPortgroup": {"Network"}, "OpaqueNetwork": {"Network"}, "StoragePod": {"Folder"},
}

func newSpec(set []types.PropertySpec) *spec {
	s := &spec{paths: map[string][]string{}}
	for _, p := range set {
		s.paths[p.Type] = append(s.paths[p.Type], p.PathSet...)
	}
	s.vm = s.of("VirtualMachine")
	return s
}

func (s *spec) of(kind string) []string {
	if p, ok := s.paths[kind]; ok {
		return p
	}
	for _, base := range append(parents[kind], "ManagedEntity") {
		if p, ok := s.paths[base]; ok {
			return p
		}
	}
	return nil
}

// prepare encodes every shape once.
func (s *spec) prepare(shapes []*mo.VirtualMachine) {
	for _, vm := range shapes {
		var list [][2][]byte
		for _, path := range s.vm {
			list = append(list, [2][]byte{[]byte(path), encode("val", value(vm, path))})
		}
		s.cache = append(s.cache, list)
	}
}

func (s *spec) wants(path string) bool {
	for _, p := range s.vm {
		if p == path {
			return true
		}
	}
	return false
}

// count is how many objects a filter of this spec has.
func (st *store) objects(s *spec) (others []mo.Reference, machines int) {
	for _, o := range st.others {
		if s.of(o.Reference().Type) != nil {
			others = append(others, o)
		}
	}
	if s.vm != nil {
		machines = len(st.machines)
	}
	return others, machines
}

// object writes an object's properties, each between `before` and `after` with its name.
type style struct{ before, between, after string }

var (
	asContent = style{"<propSet><name>", "</name>", "</propSet>"}
	asChange  = style{"<changeSet><name>", "</name><op>assign</op>", "</changeSet>"}
)

func (st style) write(b *bytes.Buffer, path, val []byte) {
	if len(val) == 0 {
		return
	}
	b.WriteString(st.before)
	b.Write(path)
	b.WriteString(st.between)
	b.Write(val)
	b.WriteString(st.after)
}

func (st *store) writeOther(b *bytes.Buffer, s *spec, o mo.Reference, how style) {
	obj := managed(o)
	for _, path := range s.of(o.Reference().Type) {
		how.write(b, []byte(path), encode("val", value(obj, path)))
	}
}

// writeMachine is called with the lock held.
func (st *store) writeMachine(b *bytes.Buffer, s *spec, m *machine, how style) {
	var raw bytes.Buffer
	for _, p := range s.cache[m.shape] {
		val := p[1]
		if set, ok := m.set[string(p[0])]; ok {
			val = set
		}
		how.write(&raw, p[0], val)
	}
	_, _ = m.words.WriteString(b, raw.String())
}

// change makes one change as guests and administrators do.
func (st *store) change() {
	st.counter++
	n := st.random.Intn(len(st.machines))
	m := st.machines[n]
	var path string
	var val any
	switch st.random.Intn(8) {
	case 0:
		path, val = "runtime.powerState", []types.VirtualMachinePowerState{types.VirtualMachinePowerStatePoweredOn, types.VirtualMachinePowerStatePoweredOff}[st.random.Intn(2)]
	case 1:
		path, val = "config.hardware.memoryMB", int32(1024*(1+st.random.Intn(64)))
	case 2:
		path, val = "guest.hostName", fmt.Sprintf("host-%d.example.com", st.counter)
	case 3:
		path, val = "summary.storage.committed", st.random.Int63n(1<<40)
	case 4:
		path, val = "name", fmt.Sprintf("renamed-%d", st.counter)
	case 5:
		path, val = "config.hardware.numCPU", int32(1+st.random.Intn(16))
	default:
		path, val = "summary.quickStats.balloonedMemory", int32(st.random.Intn(4096))
	}
	c := change{n, path, encode("val", val), time.Now()}
	m.set[path] = c.val
	st.log = append(st.log, c)
}

// run makes changes at the rate, in ten portions a second.
func (st *store) run() {
	owed := 0.0
	last := time.Now()
	for range time.Tick(100 * time.Millisecond) {
		st.mu.Lock()
		now := time.Now()
		owed += float64(st.rate) * now.Sub(last).Seconds()
		last = now
		if owed >= 1 {
			for ; owed >= 1; owed-- {
				st.change()
			}
			close(st.wake)
			st.wake = make(chan struct{})
		}
		st.mu.Unlock()
	}
}
