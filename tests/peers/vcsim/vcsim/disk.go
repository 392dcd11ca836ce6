package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"

	"github.com/vmware/govmomi/vim25/types"
)

// grain is the unit of deltas, of change tracking and of stream-optimized files, in bytes.
const grain = 64 * 1024

// layer is one file of a disk's chain: the base holds every byte, a delta the grains written since it was made.
type layer struct {
	name  string // datastore path, "[ds] folder/disk-000001.vmdk"
	file  *os.File
	has   map[int64]bool // grains of a delta; nil for the base
	gen   int64          // generation of the disk when the layer was frozen; 0 while it is written to
	id    string         // change ID of the frozen layer, empty where changes were not tracked
	stamp int64          // changes with every write, for caches
}

// disk is one virtual disk: its chain, the base first and the one that the guest writes to last, and its change tracking.
type disk struct {
	mu      sync.RWMutex
	folder  string
	key     int32
	size    int64
	chain   []*layer
	next    int // number of the next delta
	tracked bool
	uuid    string
	gen     int64
	changed map[int64]map[int64]bool // generation -> grains written in it
	files   int
	stamps  int64
}

func newDisk(folder, name string, key int32, size int64) (*disk, error) {
	d := &disk{folder: folder, key: key, size: size, next: 1}
	d.resetTracking()
	base, err := d.file(name)
	if err != nil {
		return nil, err
	}
	d.chain = []*layer{base}
	return d, base.file.Truncate(size)
}

// resetTracking forgets all changes, as a host does that crashed or a VM that was moved: older change IDs mean nothing then.
func (d *disk) resetTracking() {
	d.uuid = fmt.Sprintf("52 %02x %02x %02x %02x %02x %02x %02x-%02x %02x %02x %02x %02x %02x %02x %02x", bytes16()...)
	d.gen = 1
	d.changed = map[int64]map[int64]bool{}
}

func bytes16() []any {
	out := make([]any, 15)
	for i := range out {
		out[i] = rand.Intn(256)
	}
	return out
}

func (d *disk) file(name string) (*layer, error) {
	d.files++
	f, err := os.Create(filepath.Join(d.folder, fmt.Sprintf("layer-%d", d.files)))
	if err != nil {
		return nil, err
	}
	d.stamps++
	return &layer{name: name, file: f, stamp: d.stamps}, nil
}

func (l *layer) drop() {
	l.file.Close()
	os.Remove(l.file.Name())
}

func (d *disk) top() *layer { return d.chain[len(d.chain)-1] }

// at reads what a reader of the layer with this index sees. The lock is held by the caller.
func (d *disk) at(index int, p []byte, off int64) (int, error) {
	if off >= d.size {
		return 0, io.EOF
	}
	short := false
	if rest := d.size - off; int64(len(p)) > rest {
		p, short = p[:rest], true
	}
	done := 0
	for done < len(p) {
		g := (off + int64(done)) / grain
		n := int((g+1)*grain - off - int64(done))
		if n > len(p)-done {
			n = len(p) - done
		}
		l := d.chain[0]
		for i := index; i > 0; i-- {
			if d.chain[i].has[g] {
				l = d.chain[i]
				break
			}
		}
		k, err := l.file.ReadAt(p[done:done+n], off+int64(done))
		if err == io.EOF { // a delta's file ends with its last grain
			clear(p[done+k : done+n])
		} else if err != nil {
			return done, err
		}
		done += n
	}
	if short {
		return done, io.EOF
	}
	return done, nil
}

// view reads a layer as it was frozen, or as it is while it is the running one.
type view struct {
	d *disk
	l *layer
}

func (v view) index() int {
	for i, l := range v.d.chain {
		if l == v.l {
			return i
		}
	}
	return -1
}

func (v view) ReadAt(p []byte, off int64) (int, error) {
	v.d.mu.RLock()
	defer v.d.mu.RUnlock()
	i := v.index()
	if i < 0 {
		return 0, fmt.Errorf("%s is gone: its snapshot was removed", v.l.name)
	}
	return v.d.at(i, p, off)
}

func (v view) size() int64 { return v.d.size }

// allocated returns the grains that hold data, in order.
func (v view) allocated() []int64 {
	v.d.mu.RLock()
	defer v.d.mu.RUnlock()
	set := map[int64]bool{}
	base := v.d.chain[0].file
	for off := int64(0); off < v.d.size; {
		begin, err := syscall.Seek(int(base.Fd()), off, 3) // SEEK_DATA
		if err != nil {
			break
		}
		end, err := syscall.Seek(int(base.Fd()), begin, 4) // SEEK_HOLE
		if err != nil {
			break
		}
		for g := begin / grain; g*grain < end; g++ {
			set[g] = true
		}
		off = end
	}
	for i := v.index(); i > 0; i-- {
		for g := range v.d.chain[i].has {
			set[g] = true
		}
	}
	return sorted(set)
}

func sorted(set map[int64]bool) []int64 {
	out := make([]int64, 0, len(set))
	for g := range set {
		out = append(out, g)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// write is what the guest does.
func (d *disk) write(p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off < 0 || off+int64(len(p)) > d.size {
		return fmt.Errorf("bytes %d to %d lie outside the disk of %d", off, off+int64(len(p)), d.size)
	}
	l, last := d.top(), len(d.chain)-1
	buf := make([]byte, grain)
	for g := off / grain; g*grain < off+int64(len(p)); g++ {
		if l.has != nil && !l.has[g] {
			n, err := d.at(last, buf, g*grain)
			if err != nil && err != io.EOF {
				return err
			}
			if _, err = l.file.WriteAt(buf[:n], g*grain); err != nil {
				return err
			}
			l.has[g] = true
		}
		d.mark(g)
	}
	d.stamps++
	l.stamp = d.stamps
	_, err := l.file.WriteAt(p, off)
	return err
}

func (d *disk) mark(g int64) {
	set := d.changed[d.gen]
	if set == nil {
		set = map[int64]bool{}
		d.changed[d.gen] = set
	}
	set[g] = true
}

// put makes a raw file the content of the running disk, whose size becomes the file's.
func (d *disk) put(from string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.chain) > 1 {
		return fmt.Errorf("the disk has snapshots")
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	d.size = (st.Size() + 511) / 512 * 512
	l := d.chain[0]
	if err = l.file.Truncate(0); err == nil {
		err = l.file.Truncate(d.size)
	}
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for off := int64(0); off < st.Size(); {
		begin, err := syscall.Seek(int(in.Fd()), off, 3)
		if err != nil {
			break
		}
		end, err := syscall.Seek(int(in.Fd()), begin, 4)
		if err != nil {
			return err
		}
		for off = begin; off < end; {
			n, err := in.ReadAt(buf[:min(int64(len(buf)), end-off)], off)
			if n == 0 {
				return err
			}
			if _, err = l.file.WriteAt(buf[:n], off); err != nil {
				return err
			}
			for g := off / grain; g*grain < off+int64(n); g++ {
				d.mark(g)
			}
			off += int64(n)
		}
	}
	d.stamps++
	l.stamp = d.stamps
	return nil
}

// freeze lets the guest go on in a new delta and returns the layer that stays as it is.
func (d *disk) freeze(track bool) (*layer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	frozen := d.top()
	if track && !d.tracked { // tracking begins with the stun of this snapshot
		d.resetTracking()
	}
	d.tracked = track
	frozen.gen, frozen.id = d.gen, ""
	if track {
		frozen.id = fmt.Sprintf("%s/%d", d.uuid, d.gen)
	}
	d.gen++
	ext := path.Ext(d.chain[0].name)
	l, err := d.file(fmt.Sprintf("%s-%06d%s", strings.TrimSuffix(d.chain[0].name, ext), d.next, ext))
	if err != nil {
		return nil, err
	}
	d.next++
	l.has = map[int64]bool{}
	d.chain = append(d.chain, l)
	return frozen, nil
}

// merge consolidates the delta above a layer into it, as the removal of the layer's snapshot does.
func (d *disk) merge(l *layer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := view{d, l}.index()
	if i < 0 || i == len(d.chain)-1 {
		return fmt.Errorf("%s is no frozen layer", l.name)
	}
	child := d.chain[i+1]
	buf := make([]byte, grain)
	for g := range child.has {
		n := min(grain, d.size-g*grain)
		k, err := child.file.ReadAt(buf[:n], g*grain)
		if err != nil && err != io.EOF {
			return err
		}
		clear(buf[k:n])
		if _, err = l.file.WriteAt(buf[:n], g*grain); err != nil {
			return err
		}
		if l.has != nil {
			l.has[g] = true
		}
	}
	d.stamps++
	l.gen, l.id, l.stamp = child.gen, child.id, d.stamps
	d.chain = append(d.chain[:i+1], d.chain[i+2:]...)
	child.drop()
	return nil
}

// changedSince returns the grains written after the state `since` up to the state `upto`, in order.
func (d *disk) changedSince(since, upto int64) []int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	set := map[int64]bool{}
	for gen, grains := range d.changed {
		if gen > since && gen <= upto {
			for g := range grains {
				set[g] = true
			}
		}
	}
	return sorted(set)
}

func (v view) sha() (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, io.NewSectionReader(v, 0, v.size()))
	return hex.EncodeToString(h.Sum(nil)), err
}

// dump writes the view to a sparse raw file.
func (v view) dump(to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	if err = f.Truncate(v.size()); err != nil {
		return err
	}
	buf := make([]byte, grain)
	for _, g := range v.allocated() {
		n, err := v.ReadAt(buf, g*grain)
		if err != nil && err != io.EOF {
			return err
		}
		if _, err = f.WriteAt(buf[:n], g*grain); err != nil {
			return err
		}
	}
	return f.Close()
}

func flat(o types.BaseVirtualDevice) (*types.VirtualDisk, *types.VirtualDiskFlatVer2BackingInfo) {
	v, ok := o.(*types.VirtualDisk)
	if !ok {
		return nil, nil
	}
	b, _ := v.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	return v, b
}
