package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcsim/pki"
)

// door is the address of one ESXi host of the vCenter: the same machines and bytes, with an account, sessions and
// references of its own, and nothing but the host's machines. As a host does it calls machines by bare numbers, knows
// one datacenter `ha-datacenter`, and serves leases and files itself.
type door struct {
	w              *world
	host           *simulator.HostSystem
	url            string
	user, password string
	next           http.Handler
}

// doorCalls is what was asked of a door.
type doorCalls struct {
	Methods map[string]int64 `json:"methods"`
	Logins  int64            `json:"logins"`
	Invalid int64            `json:"invalidLogins"`
	Bytes   int64            `json:"bytes"`
}

// openDoors gives every host an address. Its certificate is the one that the inventory knows.
func (w *world) openDoors(mux http.Handler, certificate *pki.Server, quiet *log.Logger) error {
	for n, o := range w.model.Map().All("HostSystem") {
		h := o.(*simulator.HostSystem)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		d := &door{w: w, host: h, url: fmt.Sprintf("https://%s/sdk", l.Addr()), user: "root", password: fmt.Sprintf("host-%d-secret", n), next: mux}
		w.doors = append(w.doors, d)
		w.doorCalls[h.Name] = &doorCalls{Methods: map[string]int64{}}
		s := &http.Server{Handler: d, ErrorLog: quiet, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate.TLS}}}
		go func() { _ = s.ServeTLS(l, "", "") }()
	}
	return nil
}

// GET /hosts: the hosts in the order of the inventory, with how they are reached.
func (w *world) doHosts(*http.Request) (any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []any{}
	for _, d := range w.doors {
		out = append(out, map[string]any{"id": d.host.Self.Value, "name": d.host.Name, "url": d.url, "user": d.user, "password": d.password})
	}
	return out, nil
}

// ?host=&password=: a host's account gets another password.
func (w *world) doHostPassword(r *http.Request) (any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.doors {
		if name := r.URL.Query().Get("host"); d.host.Name == name || d.host.Self.Value == name {
			d.password = r.URL.Query().Get("password")
			return map[string]any{}, nil
		}
	}
	return nil, fmt.Errorf("no host %s with an address", r.URL.Query().Get("host"))
}

// The vCenter shows another certificate of its authority from now on, as after a renewal.
func (w *world) doCertificate(*http.Request) (any, error) {
	next, err := w.authority.Server("vcenter")
	if err != nil {
		return nil, err
	}
	w.certificate.Store(next)
	w.server.SetKeepAlivesEnabled(false) // who is connected connects anew
	w.server.SetKeepAlivesEnabled(true)
	return map[string]any{"thumbprint": next.SHA1}, nil
}

// cookieOf returns the session that a request names.
func cookieOf(r *http.Request) string {
	c, err := r.Cookie(soap.SessionCookieName)
	if err != nil {
		return ""
	}
	return strings.Trim(c.Value, `"`)
}

// foreign says whether a request names a session of another server; name is empty for the vCenter.
func (w *world) foreign(r *http.Request, name string) bool {
	cookie := cookieOf(r)
	if cookie == "" {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.doorCookies[cookie] != name
}

var (
	vmOut        = regexp.MustCompile(`(type="VirtualMachine"[^>]*>)vm-(\d+)<`)
	vmIn         = regexp.MustCompile(`(type="VirtualMachine"[^>]*>)([^<]*)<`)
	snapshotOut  = regexp.MustCompile(`(type="VirtualMachineSnapshot"[^>]*>)snapshot-(\d+)<`)
	snapshotIn   = regexp.MustCompile(`(type="VirtualMachineSnapshot"[^>]*>)([^<]*)<`)
	foundVM      = regexp.MustCompile(`<returnval type="VirtualMachine"[^>]*>(vm-\d+)</returnval>`)
	loginUser    = regexp.MustCompile(`(<userName[^>]*>)([^<]*)<`)
	loginSecret  = regexp.MustCompile(`(<password[^>]*>)([^<]*)<`)
	plainNumber  = regexp.MustCompile(`^\d+$`)
	hostSnapshot = regexp.MustCompile(`^ha-snapshot-(\d+)$`)
)

const refusedLogin = `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>Cannot complete login due to an incorrect user name or password.</faultstring><detail><InvalidLoginFault xmlns="urn:vim25" xsi:type="InvalidLogin"/></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>`

// here says whether a machine runs on the host.
func (d *door) here(id string) bool {
	vm, ok := d.w.model.Map().Get(types.ManagedObjectReference{Type: "VirtualMachine", Value: id}).(*simulator.VirtualMachine)
	return ok && vm.Runtime.Host != nil && *vm.Runtime.Host == d.host.Self
}

func (d *door) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(ticketCookie); err == nil && strings.HasPrefix(r.URL.Path, "/folder/") {
		if !d.w.byTicket(r, c.Value) {
			http.Error(rw, "the ticket is not for this request, or was used", http.StatusUnauthorized)
			return
		}
	} else if d.w.foreign(r, d.host.Name) {
		r.Header.Del("Cookie")
	}
	if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, "/sdk") {
		if strings.HasPrefix(r.URL.Path, "/folder/") {
			q := r.URL.Query()
			if q.Get("dcPath") != "ha-datacenter" {
				http.NotFound(rw, r)
				return
			}
			r.URL.RawQuery = url.Values{"dcPath": {"DC0"}, "dsName": {q.Get("dsName")}}.Encode()
		}
		if strings.HasPrefix(r.URL.Path, "/folder/") || strings.HasPrefix(r.URL.Path, "/nfc/") {
			rw = &counted{rw, d}
		}
		d.w.serve(d.next).ServeHTTP(rw, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	name := ""
	if found := method.FindSubmatch(body); found != nil {
		name = string(found[1])
	}
	d.w.mu.Lock()
	calls := d.w.doorCalls[d.host.Name]
	calls.Methods[name]++
	user, password := d.user, d.password
	own := [2]string{d.w.options.user, d.w.options.password}
	d.w.mu.Unlock()
	if name == "Login" {
		u, p := loginUser.FindSubmatch(body), loginSecret.FindSubmatch(body)
		good := u != nil && p != nil && string(u[2]) == user && string(p[2]) == password
		d.w.mu.Lock()
		if good {
			calls.Logins++
		} else {
			calls.Invalid++
		}
		d.w.mu.Unlock()
		if !good {
			rw.Header().Set("Content-Type", "text/xml; charset=utf-8")
			rw.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(rw, refusedLogin)
			return
		}
		body = loginUser.ReplaceAll(body, []byte("${1}"+own[0]+"<"))
		body = loginSecret.ReplaceAll(body, []byte("${1}"+own[1]+"<"))
	}
	body = d.translate(body, vmIn, func(id string) string {
		if plainNumber.MatchString(id) && d.here("vm-"+id) {
			return "vm-" + id
		}
		return "not-here-" + id
	})
	body = d.translate(body, snapshotIn, func(id string) string {
		if found := hostSnapshot.FindStringSubmatch(id); found != nil {
			return "snapshot-" + found[1]
		}
		return "not-here-" + id
	})
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	b := &buffered{header: http.Header{}, status: http.StatusOK}
	d.w.serve(d.next).ServeHTTP(b, r)
	if name == "Login" {
		for _, c := range (&http.Response{Header: b.header}).Cookies() {
			if c.Name == soap.SessionCookieName {
				d.w.mu.Lock()
				d.w.doorCookies[strings.Trim(c.Value, `"`)] = d.host.Name
				d.w.mu.Unlock()
			}
		}
	}
	out := b.body.Bytes()
	if name == "FindByUuid" {
		if found := foundVM.FindSubmatch(out); found != nil && !d.here(string(found[1])) {
			out = foundVM.ReplaceAll(out, nil)
		}
	}
	out = vmOut.ReplaceAll(out, []byte("${1}${2}<"))
	out = snapshotOut.ReplaceAll(out, []byte("${1}ha-snapshot-${2}<"))
	out = bytes.ReplaceAll(out, []byte(">DC0<"), []byte(">ha-datacenter<"))
	out = bytes.ReplaceAll(out, []byte("https://"+d.w.nfcHost+"/nfc/"), []byte("https://*/nfc/"))
	if name == "RetrieveServiceContent" {
		out = bytes.ReplaceAll(out, []byte("<apiType>VirtualCenter</apiType>"), []byte("<apiType>HostAgent</apiType>"))
		out = bytes.ReplaceAll(out, []byte("<productLineId>vpx</productLineId>"), []byte("<productLineId>embeddedEsx</productLineId>"))
	}
	b.body.Reset()
	_, _ = b.body.Write(out)
	b.header.Del("Content-Length")
	b.send(rw)
}

func (d *door) translate(body []byte, of *regexp.Regexp, to func(string) string) []byte {
	return of.ReplaceAllFunc(body, func(found []byte) []byte {
		parts := of.FindSubmatch(found)
		return []byte(string(parts[1]) + to(string(parts[2])) + "<")
	})
}

// counted counts the bytes of disks that a host has served itself.
type counted struct {
	http.ResponseWriter
	d *door
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.d.w.mu.Lock()
	c.d.w.doorCalls[c.d.host.Name].Bytes += int64(n)
	c.d.w.mu.Unlock()
	return n, err
}
