package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// serveFolder serves datastore files: descriptors, and the extents of disks with ranges. A disk that a running machine
// writes to is locked; the layers below it are not.
func (w *world) serveFolder(rw http.ResponseWriter, r *http.Request, next http.Handler) {
	if !w.mayRead(rw, r) {
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/folder/")
	store := r.URL.Query().Get("dsName")
	ds := w.datastore(store)
	if ds == nil {
		http.Error(rw, "no such datastore", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		next.ServeHTTP(rw, r)
		return
	}
	full := fmt.Sprintf("[%s] %s", store, name)
	w.mu.Lock()
	d, index, extent := w.find(full)
	w.mu.Unlock()
	if d == nil {
		next.ServeHTTP(rw, r)
		return
	}
	if !extent {
		w.count("folder " + full)
		text := w.descriptor(d, index, ds.Summary.Type)
		rw.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(rw, r, "", time.Time{}, strings.NewReader(text))
		return
	}
	w.mu.Lock()
	refused := w.noRanges[strings.ToLower(ds.Summary.Type)]
	h, on := w.hostOf(d)
	slow := *h
	w.mu.Unlock()
	switch {
	case refused || index > 0: // no such file there; a delta's extent is in a format of its own
		http.NotFound(rw, r)
		return
	case slow.fail:
		http.Error(rw, "the host does not answer", http.StatusServiceUnavailable)
		return
	case on && len(d.chain) == 1:
		http.Error(rw, "the file is locked", http.StatusInternalServerError)
		return
	}
	time.Sleep(slow.delay)
	key := "folder " + d.chain[0].name
	w.count(key)
	w.mu.Lock()
	expiry := w.expiry
	w.mu.Unlock()
	v := view{d, d.chain[0]}
	rw.Header().Set("Content-Type", "application/octet-stream")
	rw.Header().Set("Accept-Ranges", "bytes")
	m := &metered{w: w, out: rw, key: key, host: h, ended: expiry}
	http.ServeContent(&meteredResponse{rw, m}, r, "", time.Time{}, io.NewSectionReader(v, 0, v.size()))
}

type meteredResponse struct {
	http.ResponseWriter
	m *metered
}

func (m *meteredResponse) Write(p []byte) (int, error) { return m.m.Write(p) }

// mayRead checks the session's cookie or the basic credentials, which make a session of their own.
func (w *world) mayRead(rw http.ResponseWriter, r *http.Request) bool {
	if c, err := r.Cookie(soap.SessionCookieName); err == nil {
		value := strings.Trim(c.Value, `"`)
		w.mu.Lock()
		known := w.cookies[value]
		w.mu.Unlock()
		if known || w.session(value) {
			return true
		}
	}
	if user, password, ok := r.BasicAuth(); ok {
		if user == w.options.user && password == w.options.password {
			b := make([]byte, 20)
			_, _ = rand.Read(b)
			value := hex.EncodeToString(b)
			w.mu.Lock()
			w.cookies[value] = true
			w.logins++
			w.mu.Unlock()
			http.SetCookie(rw, &http.Cookie{Name: soap.SessionCookieName, Value: value, Path: "/", HttpOnly: true, Secure: true})
			return true
		}
		w.mu.Lock()
		w.invalid++
		w.mu.Unlock()
	}
	rw.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
	http.Error(rw, "unauthorized", http.StatusUnauthorized)
	return false
}

// find returns the disk and the layer that a file belongs to, and whether the file is the extent. w.mu is held.
func (w *world) find(full string) (*disk, int, bool) {
	ext := path.Ext(full)
	base := strings.TrimSuffix(full, ext)
	for _, d := range w.disks {
		for i, l := range d.chain {
			stem := strings.TrimSuffix(l.name, path.Ext(l.name))
			switch {
			case full == l.name:
				return d, i, false
			case i == 0 && base == stem+"-flat", i > 0 && base == stem+"-sesparse":
				return d, i, true
			}
		}
	}
	return nil, 0, false
}

func (w *world) descriptor(d *disk, index int, kind string) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	l := d.chain[index]
	file := path.Base(l.name)
	stem, sectors := strings.TrimSuffix(file, path.Ext(file)), (d.size+511)/512
	create, extent, parent, cid := "vmfs", fmt.Sprintf("RW %d VMFS \"%s-flat.vmdk\"", sectors, stem), "", "ffffffff"
	if strings.EqualFold(kind, "vsan") {
		create, extent = "vmfs", fmt.Sprintf("RW %d VMFS \"vsan://%x\"", sectors, l.name)
	}
	if index > 0 {
		create, extent = "seSparse", fmt.Sprintf("RW %d SESPARSE \"%s-sesparse.vmdk\"", sectors, stem)
		parent, cid = fmt.Sprintf("parentFileNameHint=%q\n", path.Base(d.chain[index-1].name)), "fffffffe"
	}
	return fmt.Sprintf("# Disk DescriptorFile\nversion=4\nencoding=\"UTF-8\"\nCID=fffffffe\nparentCID=%s\ncreateType=%q\n%s\n# Extent description\n%s\n\n"+
		"# The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\nddb.thinProvisioned = \"1\"\nddb.virtualHWVersion = \"19\"\n", cid, create, parent, extent)
}

// hostOf returns the host of a machine that has the disk, and whether one with it runs. w.mu is held.
func (w *world) hostOf(d *disk) (*hostState, bool) {
	var host *types.ManagedObjectReference
	on := false
	for key, other := range w.disks {
		if other != d {
			continue
		}
		ref := types.ManagedObjectReference{Type: "VirtualMachine", Value: strings.SplitN(key, "/", 2)[0]}
		if vm, ok := w.model.Map().Get(ref).(*simulator.VirtualMachine); ok {
			host = vm.Runtime.Host
			on = on || vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
		}
	}
	h, _ := w.host(host)
	return h, on
}
