// Command vcprepared is a vCenter with very many virtual machines that answers at once: the property collector's
// answers over the whole inventory are put together from prepared pieces, everything else (login, privileges, tags,
// single objects) is left to govmomi's simulator, which holds the hosts, datastores, networks and folders.
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
	"math/rand"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"

	"vcsim/pki"

	_ "github.com/vmware/govmomi/pbm/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator"
)

func main() {
	listen := flag.String("l", "127.0.0.1:0", "listen address")
	vms := flag.Int("vms", 10000, "virtual machines")
	hosts := flag.Int("hosts", 64, "hosts in the cluster")
	stores := flag.Int("datastores", 16, "datastores")
	nets := flag.Int("networks", 24, "distributed port groups")
	folders := flag.Int("folders", 40, "folders of virtual machines")
	rate := flag.Int("changes", 0, "property changes a second")
	seed := flag.Int64("seed", 1, "seed of the changes")
	user := flag.String("user", "administrator@vsphere.local", "account")
	password := flag.String("password", "secret", "its password")
	flag.Parse()
	begin := time.Now()

	model := simulator.VPX()
	about := &model.ServiceContent.About
	about.Version, about.ApiVersion, about.Build = "8.0.3", "8.0.3.0", "24022515"
	about.FullName = "VMware vCenter Server 8.0.3 build-24022515"
	model.ClusterHost, model.Host, model.Datastore, model.Portgroup, model.Machine = *hosts, 0, *stores, *nets, 1
	check(model.Create())
	defer model.Remove()
	st := &store{wake: make(chan struct{}), rate: *rate, random: rand.New(rand.NewSource(*seed))}
	check(st.fill(model, *vms, *folders))

	authority, err := pki.New("vCenter CA")
	check(err)
	server, err := authority.Server("vcenter")
	check(err)
	model.Service.RegisterEndpoints = true
	model.Service.Listen = &url.URL{Host: *listen, User: url.UserPassword(*user, *password)}
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{server.TLS}}
	s := model.Service.NewServer()
	front := &service{store: st, next: model.Service.ServeMux, collectors: map[string]*collector{}, pages: map[string]*page{}, calls: map[string]int64{}}
	s.Server.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Server.Config.Handler = front
	control, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() { _ = http.Serve(control, front.control()) }()
	go st.run()

	u := *s.URL
	u.User = nil
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"url": u.String(), "control": control.Addr().String(), "user": *user, "password": *password, "ca": authority.PEM,
		"thumbprint": server.SHA1, "sha256": server.SHA256, "instanceUuid": about.InstanceUuid, "vms": len(st.machines),
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

// fill takes the simulator's objects and puts the virtual machines among them.
func (st *store) fill(model *simulator.Model, vms, folders int) error {
	ctx := context.Background()
	client, err := vim25.NewClient(ctx, model.Service)
	if err != nil {
		return err
	}
	dc, err := find.NewFinder(client).DefaultDatacenter(ctx)
	if err != nil {
		return err
	}
	tree, err := dc.Folders(ctx)
	if err != nil {
		return err
	}
	var homes []*simulator.Folder
	for n := 0; n < folders; n++ {
		parent := tree.VmFolder
		if n >= 8 { // some lie deeper
			parent = object.NewFolder(client, homes[n%8].Self)
		}
		f, err := parent.CreateFolder(ctx, fmt.Sprintf("Department %02d", n))
		if err != nil {
			return err
		}
		homes = append(homes, model.Map().Get(f.Reference()).(*simulator.Folder))
	}
	registry := model.Map()
	first := registry.Any("VirtualMachine").(*simulator.VirtualMachine)
	var hostList []*simulator.HostSystem
	var storeList []*simulator.Datastore
	var networks []types.ManagedObjectReference
	for _, o := range registry.All("") {
		switch o := o.(type) {
		case *simulator.HostSystem:
			o.Vm = nil
			hostList = append(hostList, o)
		case *simulator.Datastore:
			o.Vm = nil
			storeList = append(storeList, o)
		case *simulator.DistributedVirtualPortgroup:
			o.Vm = nil
			if !strings.Contains(o.Name, "DVUplinks") {
				networks = append(networks, o.Self)
			}
		case *simulator.VirtualMachine:
			continue
		}
		st.others = append(st.others, o)
	}
	sort.Slice(networks, func(i, j int) bool { return networks[i].Value < networks[j].Value })
	sort.Slice(st.others, func(i, j int) bool { return st.others[i].Reference().Value < st.others[j].Reference().Value })
	for n := 0; n < 104; n++ {
		st.shapes = append(st.shapes, shape(n, first.VirtualMachine, networks))
	}
	vmFolder := registry.Get(tree.VmFolder.Reference()).(*simulator.Folder)
	kept := vmFolder.ChildEntity[:0]
	for _, c := range vmFolder.ChildEntity {
		if c.Type != "VirtualMachine" {
			kept = append(kept, c)
		}
	}
	vmFolder.ChildEntity = kept
	for n := 0; n < vms; n++ {
		ref := types.ManagedObjectReference{Type: "VirtualMachine", Value: fmt.Sprintf("vm-%d", 10000+n)}
		host, ds, home := hostList[n%len(hostList)], storeList[n%len(storeList)], homes[n%len(homes)]
		host.Vm, ds.Vm, home.ChildEntity = append(host.Vm, ref), append(ds.Vm, ref), append(home.ChildEntity, ref)
		name := fmt.Sprintf("%s%05d", []string{"web", "db", "app", "file", "build"}[n%5], n)
		st.machines = append(st.machines, &machine{ref: ref.Value, name: name, shape: n % len(st.shapes), set: map[string][]byte{}, words: strings.NewReplacer(
			"@V@", ref.Value, "@N@", name, "@U@", fmt.Sprintf("42%06x-0c1b-9a7e-55aa-%012x", n, n*7919), "@I@", fmt.Sprintf("50%06x-6f2d-4e11-8c3b-%012x", n, n*104729),
			"@H@", host.Self.Value, "@F@", home.Self.Value, "@D@", ds.Self.Value, "@S@", ds.Name, "@A@", fmt.Sprintf("%d.%d", n/250%250, n%250+2),
			"@M@", fmt.Sprintf("%02x:%02x", n>>8&0xff, n&0xff))})
	}
	return nil
}

func (s *service) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /changes", func(rw http.ResponseWriter, r *http.Request) { // ?rate=
		n, err := strconv.Atoi(r.URL.Query().Get("rate"))
		if err != nil {
			http.Error(rw, "rate", http.StatusConflict)
			return
		}
		s.store.mu.Lock()
		s.store.rate = n
		s.store.mu.Unlock()
		_, _ = io.WriteString(rw, "{}")
	})
	mux.HandleFunc("GET /changes", func(rw http.ResponseWriter, r *http.Request) {
		s.store.mu.Lock()
		defer s.store.mu.Unlock()
		out := map[string]any{"made": len(s.store.log), "delivered": s.delivered}
		if s.delivered < len(s.store.log) {
			out["behindSeconds"] = time.Since(s.store.log[s.delivered].at).Seconds()
		} else {
			out["behindSeconds"] = 0.0
		}
		_ = json.NewEncoder(rw).Encode(out)
	})
	mux.HandleFunc("GET /vms", func(rw http.ResponseWriter, r *http.Request) { // what changes have set: reference -> path -> value as text
		s.store.mu.Lock()
		defer s.store.mu.Unlock()
		out := map[string]map[string]string{}
		for _, m := range s.store.machines {
			if len(m.set) == 0 {
				continue
			}
			out[m.ref] = map[string]string{}
			for path, val := range m.set {
				text := string(val)
				text = text[strings.Index(text, ">")+1:]
				out[m.ref][path] = text[:strings.LastIndex(text, "<")]
			}
		}
		_ = json.NewEncoder(rw).Encode(out)
	})
	mux.HandleFunc("GET /calls", func(rw http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(rw).Encode(map[string]any{"methods": s.calls, "bytes": map[string]int64{}, "requests": map[string]int64{}})
	})
	return mux
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
