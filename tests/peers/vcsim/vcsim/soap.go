package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// rule makes calls fail: those of a SOAP method, or of a path that begins so, as often as its count says.
type rule struct {
	Method  string `json:"method"` // "CreateSnapshot_Task", "*", or empty where Path is given
	Path    string `json:"path"`   // "/folder/", "/nfc/", "/rest/"
	Action  string `json:"action"` // fault, task, status, close, lose, delay
	Kind    string `json:"kind"`   // of the fault
	Message string `json:"message"`
	Status  int    `json:"status"`
	Millis  int    `json:"millis"`
	After   int    `json:"after"` // calls that pass before the first one fails
	Count   int    `json:"count"` // 0 for once, -1 for ever
}

// takeRule returns the next rule for a method and action and counts it. w.mu is held.
func (w *world) takeRule(method string, actions ...string) *rule { return w.take(method, "", actions) }

func (w *world) take(method, path string, actions []string) *rule {
	for i, r := range w.rules {
		fits := r.Method != "" && (r.Method == method || r.Method == "*" && method != "") ||
			r.Path != "" && path != "" && strings.HasPrefix(path, r.Path)
		if !fits || !contains(actions, r.Action) {
			continue
		}
		if r.After > 0 {
			r.After--
			continue
		}
		if r.Count >= 0 {
			if r.Count--; r.Count <= 0 {
				w.rules = append(w.rules[:i:i], w.rules[i+1:]...)
			}
		}
		return r
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, o := range list {
		if o == s {
			return true
		}
	}
	return false
}

// open are the methods that need no session.
var open = []string{"Login", "LoginByToken", "LoginExtensionByCertificate", "CloneSession", "RetrieveServiceContent",
	"RetrieveInternalContent", "PbmRetrieveServiceContent"}

// own are the methods that the simulator's own wrappers answer.
var own = []string{"QueryChangedDiskAreas", "CreateSnapshot_Task", "CreateSnapshotEx_Task", "RemoveAllSnapshots_Task", "ConsolidateVMDisks_Task",
	"ExportVm", "ShutdownGuest", "PowerOffVM_Task", "PowerOnVM_Task", "RemoveSnapshot_Task", "ExportSnapshot", "RevertToSnapshot_Task"}

// needed names the privilege that a method wants.
var needed = map[string]string{
	"CreateSnapshot_Task": "VirtualMachine.State.CreateSnapshot", "CreateSnapshotEx_Task": "VirtualMachine.State.CreateSnapshot",
	"RemoveSnapshot_Task": "VirtualMachine.State.RemoveSnapshot", "PowerOnVM_Task": "VirtualMachine.Interact.PowerOn",
	"PowerOffVM_Task": "VirtualMachine.Interact.PowerOff", "ShutdownGuest": "VirtualMachine.Interact.PowerOff",
	"QueryChangedDiskAreas": "VirtualMachine.Provisioning.DiskRandomRead", "ExportVm": "VApp.Export", "ExportSnapshot": "VApp.Export",
}

// handle stands before govmomi's handlers: it counts, checks the session, fails what a test wants to fail.
func (w *world) handle(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if ctx.Session != nil && ctx.Session.UserName == "" { // the simulator itself
		return w.wrapper(ctx, m), nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[m.Name]++
	if ctx.Session == nil && !contains(open, m.Name) {
		return nil, &types.NotAuthenticated{NoPermission: types.NoPermission{Object: &m.This, PrivilegeId: "System.View"}}
	}
	if r := w.takeRule(m.Name, "fault"); r != nil {
		return nil, fault(r.Kind, r.Message)
	}
	if p := needed[m.Name]; p != "" && w.denied[p] {
		this := m.This
		return nil, &types.NoPermission{Object: &this, PrivilegeId: p}
	}
	switch m.Name {
	case "Login":
		if req, ok := m.Body.(*types.Login); ok {
			if req.UserName == w.options.user && req.Password == w.options.password {
				w.logins++
			} else {
				w.invalid++
			}
		}
	case "TerminateSession":
		if req, ok := m.Body.(*types.TerminateSession); ok {
			for _, l := range w.leases {
				if contains(req.SessionId, l.session) {
					go l.end(types.HttpNfcLeaseStateError, &types.RequestCanceled{}, "the session was terminated")
				}
			}
		}
	case "Logout":
		for _, l := range w.leases {
			if l.session == ctx.Session.Key {
				go l.end(types.HttpNfcLeaseStateError, &types.RequestCanceled{}, "the session was closed")
			}
		}
	}
	return w.wrapper(ctx, m), nil
}

// wrapper returns the object that answers instead of govmomi's, or nothing. The call is sent to it by giving the
// method a reference that no registry holds: a session's registry would go before the handler.
func (w *world) wrapper(ctx *simulator.Context, m *simulator.Method) mo.Reference {
	var h mo.Reference
	switch o := ctx.Map.Get(m.This).(type) {
	case *simulator.VirtualMachine:
		if contains(own, m.Name) {
			h = &xvm{o, w}
		}
	case *simulator.VirtualMachineSnapshot:
		if contains(own, m.Name) {
			h = &xsnapshot{o, w}
		}
	case *simulator.AuthorizationManager:
		if strings.Contains(m.Name, "Privilege") {
			h = &xauth{o, w}
		}
	}
	if h == nil {
		return nil
	}
	m.This = types.ManagedObjectReference{Type: "Wrapper", Value: m.This.Value}
	return h
}

// xauth answers which privileges the account has.
type xauth struct {
	*simulator.AuthorizationManager
	w *world
}

func (x *xauth) granted(id string) bool {
	x.w.mu.Lock()
	defer x.w.mu.Unlock()
	return !x.w.denied[id]
}

func (x *xauth) HasPrivilegeOnEntity(req *types.HasPrivilegeOnEntity) soap.HasFault {
	res := &types.HasPrivilegeOnEntityResponse{}
	for _, id := range req.PrivId {
		res.Returnval = append(res.Returnval, x.granted(id))
	}
	return &methods.HasPrivilegeOnEntityBody{Res: res}
}

func (x *xauth) entities(refs []types.ManagedObjectReference, ids []string) (out []types.EntityPrivilege) {
	for _, e := range refs {
		p := types.EntityPrivilege{Entity: e}
		for _, id := range ids {
			p.PrivAvailability = append(p.PrivAvailability, types.PrivilegeAvailability{PrivId: id, IsGranted: x.granted(id)})
		}
		out = append(out, p)
	}
	return out
}

func (x *xauth) HasPrivilegeOnEntities(req *types.HasPrivilegeOnEntities) soap.HasFault {
	return &methods.HasPrivilegeOnEntitiesBody{Res: &types.HasPrivilegeOnEntitiesResponse{Returnval: x.entities(req.Entity, req.PrivId)}}
}

func (x *xauth) HasUserPrivilegeOnEntities(req *types.HasUserPrivilegeOnEntities) soap.HasFault {
	return &methods.HasUserPrivilegeOnEntitiesBody{Res: &types.HasUserPrivilegeOnEntitiesResponse{Returnval: x.entities(req.Entities, req.PrivId)}}
}

func (x *xauth) FetchUserPrivilegeOnEntities(req *types.FetchUserPrivilegeOnEntities) soap.HasFault {
	body := x.AuthorizationManager.FetchUserPrivilegeOnEntities(req).(*methods.FetchUserPrivilegeOnEntitiesBody)
	for i := range body.Res.Returnval {
		var kept []string
		for _, id := range body.Res.Returnval[i].Privileges {
			if x.granted(id) {
				kept = append(kept, id)
			}
		}
		body.Res.Returnval[i].Privileges = kept
	}
	return body
}

// session says whether a SOAP session with this key is alive.
func (w *world) session(key string) bool {
	for _, s := range w.sessions() {
		if s.Key == key {
			return true
		}
	}
	return false
}

func (w *world) sessions() []types.UserSession {
	c := w.model.Service.Context
	m := c.Session.Get(*w.client.ServiceContent.SessionManager).(*simulator.SessionManager)
	return m.SessionList
}

// expire ends all sessions, what hangs on them and the calls that wait.
func (w *world) expire() int {
	var keys []string
	for _, s := range w.sessions() {
		keys = append(keys, s.Key)
	}
	c := w.context()
	m := w.model.Map().SessionManager()
	m.TerminateSession(c, &types.TerminateSession{SessionId: keys})
	w.mu.Lock()
	close(w.expiry)
	w.expiry = make(chan struct{})
	clear(w.cookies)
	w.mu.Unlock()
	w.abortLeases("the session expired")
	return len(keys)
}

func (w *world) abortLeases(why string) int {
	w.mu.Lock()
	var all []*lease
	for _, l := range w.leases {
		all = append(all, l)
	}
	w.mu.Unlock()
	for _, l := range all {
		l.end(types.HttpNfcLeaseStateError, &types.RequestCanceled{}, why)
	}
	return len(all)
}

var method = regexp.MustCompile(`<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)`)

const expired = `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>The session is not authenticated.</faultstring><detail><NotAuthenticatedFault xmlns="urn:vim25" xsi:type="NotAuthenticated"><object type="Folder">group-d1</object><privilegeId>System.View</privilegeId></NotAuthenticatedFault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>`

// buffered keeps an answer that may not be sent.
type buffered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (b *buffered) Header() http.Header         { return b.header }
func (b *buffered) WriteHeader(s int)           { b.status = s }
func (b *buffered) Write(p []byte) (int, error) { return b.body.Write(p) }

func (b *buffered) send(rw http.ResponseWriter) {
	for k, v := range b.header {
		rw.Header()[k] = v
	}
	rw.Header().Set("Content-Type", "text/xml; charset=utf-8")
	rw.WriteHeader(b.status)
	_, _ = rw.Write(b.body.Bytes())
}

// serve is the outermost handler.
func (w *world) serve(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		name := ""
		var asked []byte
		if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/sdk") {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			if found := method.FindSubmatch(body); found != nil {
				name = string(found[1])
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			asked = body
		} else {
			w.count(area(r.URL.Path))
		}
		w.mu.Lock()
		expiry := w.expiry
		f := w.take(name, r.URL.Path, []string{"status", "close", "lose", "delay"})
		w.mu.Unlock()
		if f != nil {
			switch f.Action {
			case "status":
				http.Error(rw, f.Message, f.Status)
				return
			case "close":
				panic(http.ErrAbortHandler)
			case "delay":
				time.Sleep(time.Duration(f.Millis) * time.Millisecond)
			}
		}
		lose := f != nil && f.Action == "lose"
		switch {
		case name != "":
			b := &buffered{header: http.Header{}, status: http.StatusOK}
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() {
					if p := recover(); p != nil {
						b.status = http.StatusInternalServerError
						fmt.Fprintf(&b.body, "simulator: %s: %v", name, p)
						fmt.Printf("panic in %s: %v\n", name, p)
					}
				}()
				next.ServeHTTP(b, r.Clone(r.Context()))
			}()
			select {
			case <-done:
			case <-expiry:
				if name == "WaitForUpdatesEx" {
					rw.Header().Set("Content-Type", "text/xml; charset=utf-8")
					rw.WriteHeader(http.StatusInternalServerError)
					_, _ = io.WriteString(rw, expired)
					return
				}
				<-done
			case <-r.Context().Done():
				return
			}
			if name == "AcquireGenericServiceTicket" {
				w.keepTicket(asked, b.body.Bytes(), cookieOf(r))
			}
			if lose { // done, and the answer is lost on the way
				panic(http.ErrAbortHandler)
			}
			b.send(rw)
		case strings.HasPrefix(r.URL.Path, "/nfc/"):
			w.serveNFC(rw, r)
		case strings.HasPrefix(r.URL.Path, "/folder/"):
			w.serveFolder(rw, r, next)
		default:
			next.ServeHTTP(rw, r)
		}
	})
}

func area(path string) string {
	parts := strings.SplitN(strings.TrimPrefix(path, "/"), "/", 2)
	return "/" + parts[0]
}
