// Command vcsim is a vCenter (or an ESXi host) with bytes: govmomi's simulator used as a library, with what migration
// needs beside it: disks with content, snapshots that freeze it, change tracking, leases that serve stream-optimized
// disks, datastore files with ranges, and a door for tests by which they write to running disks and break things.
//
// It prints one line of JSON when it is ready and ends at SIGTERM, or when its standard input is closed.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"

	"vcsim/pki"

	_ "github.com/vmware/govmomi/pbm/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator"
)

type options struct {
	user, password, names, guest, version string
	esx, nvram                            bool
	disks, page, leaseSlots               int
	size, memory                          int64
	leaseTimeout                          time.Duration
}

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	var o options
	listen := flag.String("l", "127.0.0.1:0", "listen address")
	hosts := flag.Int("hosts", 2, "hosts in the cluster")
	stores := flag.Int("datastores", 1, "datastores")
	vms := flag.Int("vms", 2, "virtual machines")
	centers := flag.Int("datacenters", 1, "datacenters")
	folders := flag.Int("folders", 0, "folders")
	off := flag.Bool("off", false, "leave the machines powered off")
	doors := flag.Bool("host-addresses", false, "give every host of the vCenter an address, an account and references of its own")
	idle := flag.Duration("session-timeout", 0, "how long a session lives without a call, 0 for ever")
	oldTLS := flag.Bool("old-tls", false, "TLS 1.1 at most, as vCenter before 6.5 has it")
	flag.StringVar(&o.names, "names", "", "names of the first machines, separated by commas")
	flag.StringVar(&o.guest, "guest", "debian12_64Guest", "guest OS id of the machines")
	flag.StringVar(&o.version, "version", "8.0.3", "version of the product and of its API")
	flag.StringVar(&o.user, "user", "administrator@vsphere.local", "account")
	flag.StringVar(&o.password, "password", "secret", "its password")
	flag.BoolVar(&o.esx, "esx", false, "be an ESXi host")
	flag.BoolVar(&o.nvram, "nvram", true, "leases have a file that is no disk")
	flag.IntVar(&o.disks, "disks", 1, "disks of each machine")
	flag.Int64Var(&o.size, "disk-size", 64<<20, "size of each disk, bytes")
	flag.Int64Var(&o.memory, "memory", 1024, "memory of each machine, MiB (a Linux guest does not boot with the simulator's own 32)")
	flag.IntVar(&o.page, "areas-page", 2000, "changed areas in one answer")
	flag.IntVar(&o.leaseSlots, "lease-slots", 0, "leases at once on a host, 0 for any number")
	flag.DurationVar(&o.leaseTimeout, "lease-timeout", 5*time.Minute, "how long a lease lives without progress")
	flag.Parse()
	begin := time.Now()

	model := simulator.VPX()
	if o.esx {
		model = simulator.ESX()
	} else {
		model.Datacenter, model.ClusterHost, model.Host, model.Folder = *centers, *hosts, 0, *folders
		about := &model.ServiceContent.About
		about.Version, about.ApiVersion, about.Build = o.version, o.version+".0", "24022515"
		about.FullName = fmt.Sprintf("VMware vCenter Server %s build-%s", about.Version, about.Build)
	}
	model.Datastore, model.Machine, model.Autostart = *stores, *vms, !*off
	check(model.Create())
	defer model.Remove()

	authority, err := pki.New("vCenter CA")
	check(err)
	server, err := authority.Server("vcenter")
	check(err)
	var none *pki.Authority
	host, err := none.Server("esxi") // hosts have certificates of their own: their thumbprint is in the lease
	check(err)
	folder, err := os.MkdirTemp("", "vcsim-disks-")
	check(err)
	defer os.RemoveAll(folder)

	nfc, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	w := &world{model: model, folder: folder, options: o, nfc: host, nfcHost: nfc.Addr().String(),
		disks: map[string]*disk{}, frozen: map[types.ManagedObjectReference]map[int32]*layer{}, vms: map[string]*guest{},
		hosts: map[string]*hostState{}, leases: map[string]*lease{}, denied: map[string]bool{}, expiry: make(chan struct{}),
		cookies: map[string]bool{}, calls: map[string]int64{}, bytes: map[string]int64{}, requests: map[string]int64{}, noRanges: map[string]bool{},
		tickets: map[string]ticket{}, doorCookies: map[string]string{}, doorCalls: map[string]*doorCalls{}}

	service := model.Service
	service.RegisterEndpoints = true
	service.Listen = &url.URL{Host: *listen, User: url.UserPassword(o.user, o.password)}
	w.authority = authority
	w.certificate.Store(server)
	service.TLS = &tls.Config{Certificates: []tls.Certificate{server.TLS}}
	service.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := service.TLS.Clone()
		c.GetConfigForClient, c.Certificates = nil, []tls.Certificate{w.certificate.Load().TLS}
		return c, nil
	}
	if *oldTLS {
		service.TLS.MinVersion, service.TLS.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	}
	model.Map().SessionManager().ValidLogin = func(l *types.Login) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return l.UserName == w.options.user && l.Password == w.options.password
	}
	if *idle > 0 {
		options := model.Map().OptionManager()
		options.Setting = append(options.Setting, &types.OptionValue{Key: "config.vmacore.soap.sessionTimeout", Value: idle.String()})
	}
	// tasks leave the lock of their object to others while they wait
	simulator.TaskDelay.MethodDelay = map[string]int{"LockHandoff": 0}
	s := service.NewServer()
	w.client, err = vim25.NewClient(context.Background(), service)
	check(err)
	model.Map().Handler = w.handle
	check(w.dress())
	quiet := log.New(io.Discard, "", 0) // connections that tests break off
	s.Server.Config.ErrorLog = quiet
	own := w.serve(service.ServeMux)
	s.Server.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.foreign(r, "") {
			r.Header.Del("Cookie")
		}
		own.ServeHTTP(rw, r)
	})
	w.server = s.Server.Config
	if *doors {
		check(w.openDoors(service.ServeMux, host, quiet))
	}
	go func() {
		h := &http.Server{Handler: w.serve(http.NotFoundHandler()), ErrorLog: quiet,
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{host.TLS}}}
		_ = h.ServeTLS(nfc, "", "")
	}()
	control, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() { _ = http.Serve(control, w.control()) }()

	u := *s.URL
	u.User = nil
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"url": u.String(), "control": control.Addr().String(), "user": o.user, "password": o.password, "ca": authority.PEM,
		"thumbprint": server.SHA1, "sha256": server.SHA256, "hostThumbprint": host.SHA1, "hostCertificate": host.PEM,
		"nfc": nfc.Addr().String(), "instanceUuid": strings.ToLower(w.client.ServiceContent.About.InstanceUuid),
		"seconds": time.Since(begin).Seconds(),
	})
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGINT, syscall.SIGTERM)
	go func() { // the parent is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		sig <- syscall.SIGTERM
	}()
	<-sig
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
