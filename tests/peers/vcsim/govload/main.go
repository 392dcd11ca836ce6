// Command govload loads a vCenter's inventory as a Go program does: govmomi's property collector with one filter below
// the root folder, every object decoded into govmomi's types and kept. It prints one line of JSON when the full set is
// there (seconds, objects, resident bytes), goes on following changes, and ends when its standard input is closed.
//
// It is the other side of a bench: the same properties, loaded and kept.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// paths are the properties that Forklift's inventory shows, by type.
var paths = map[string][]string{
	"Folder":                 {"name", "parent", "childEntity"},
	"Datacenter":             {"name", "parent", "vmFolder", "hostFolder", "networkFolder", "datastoreFolder"},
	"ComputeResource":        {"name", "parent", "host"},
	"ClusterComputeResource": {"name", "parent", "host", "network", "datastore"},
	"HostSystem": {"name", "parent", "overallStatus", "config.product.name", "config.product.version", "summary.config.sslThumbprint",
		"config.dateTimeInfo.timeZone.name", "summary.managementServerIp", "summary.runtime.inMaintenanceMode", "summary.hardware.numCpuPkgs",
		"summary.hardware.numCpuCores", "summary.hardware.memorySize", "datastore", "network", "config.network.vswitch", "config.network.portgroup",
		"config.network.pnic", "config.network.vnic", "config.virtualNicManagerInfo.netConfig", "config.storageDevice.scsiLun",
		"config.storageDevice.hostBusAdapter", "config.storageDevice.scsiTopology.adapter", "configManager.advancedOption",
		"hardware.systemInfo.model", "hardware.systemInfo.vendor", "capability.vmotionSupported", "capability.storageVMotionSupported"},
	"Network":                        {"name", "parent", "tag"},
	"OpaqueNetwork":                  {"name", "parent", "tag", "summary"},
	"DistributedVirtualPortgroup":    {"name", "config.distributedVirtualSwitch", "config.defaultPortConfig", "tag", "key"},
	"VmwareDistributedVirtualSwitch": {"name", "parent", "config.host"},
	"Datastore": {"name", "parent", "summary.type", "summary.capacity", "summary.freeSpace", "summary.maintenanceMode", "info", "host",
		"capability.storageIORMSupported", "iormConfiguration"},
	"VirtualMachine": {"name", "parent", "config.uuid", "config.instanceUuid", "config.firmware", "config.ftInfo", "config.cpuAffinity", "config.bootOptions",
		"config.cpuHotAddEnabled", "config.cpuHotRemoveEnabled", "config.memoryHotAddEnabled", "config.hardware.numCPU",
		"config.hardware.numCoresPerSocket", "config.hardware.memoryMB", "config.hardware.device", "config.extraConfig", "config.nestedHVEnabled",
		"config.template", "config.changeTrackingEnabled", "guest.net", "guest.disk", "guest.ipStack", "guest.guestFullName", "guest.hostName",
		"guest.toolsStatus", "guest.toolsRunningStatus", "guest.toolsVersionStatus2", "summary.config.guestFullName", "summary.guest.guestId",
		"summary.guest.ipAddress", "summary.quickStats.balloonedMemory", "summary.storage.committed", "datastore", "network", "runtime.host",
		"runtime.powerState", "runtime.connectionState", "runtime.consolidationNeeded", "snapshot", "availableField", "customValue",
		"summary.config.tpmPresent"},
}

func main() {
	address := flag.String("url", "", "address of the SDK")
	user := flag.String("user", "", "account; the password is in GOVLOAD_PASSWORD")
	page := flag.Int("page", 10000, "objects in one answer")
	specs := flag.String("specs", "", "JSON file with the paths by type, instead of Forklift's")
	flag.Parse()
	if *specs != "" {
		text, err := os.ReadFile(*specs)
		check(err)
		paths = map[string][]string{}
		check(json.Unmarshal(text, &paths))
	}
	ctx := context.Background()
	u, err := url.Parse(*address)
	check(err)
	u.User = url.UserPassword(*user, os.Getenv("GOVLOAD_PASSWORD"))
	begin := time.Now()
	c, err := govmomi.NewClient(ctx, u, true)
	check(err)
	pc, err := property.DefaultCollector(c.Client).Create(ctx)
	check(err)
	spec := types.PropertyFilterSpec{ObjectSet: []types.ObjectSpec{{Obj: c.ServiceContent.RootFolder, Skip: types.NewBool(false), SelectSet: traversal()}}}
	for kind, set := range paths {
		spec.PropSet = append(spec.PropSet, types.PropertySpec{Type: kind, PathSet: set})
	}
	_, err = pc.CreateFilter(ctx, types.CreateFilter{Spec: spec})
	check(err)
	objects := map[types.ManagedObjectReference]mo.Reference{}
	var changes atomic.Int64
	req := types.WaitForUpdatesEx{This: pc.Reference(), Options: &types.WaitOptions{MaxObjectUpdates: int32(*page), MaxWaitSeconds: types.NewInt32(30)}}
	loaded := false
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		res, err := methods.WaitForUpdatesEx(ctx, c.Client, &req)
		check(err)
		if res.Returnval == nil {
			continue
		}
		req.Version = res.Returnval.Version
		for _, fs := range res.Returnval.FilterSet {
			for _, o := range fs.ObjectSet {
				apply(objects, o)
				if loaded {
					changes.Add(int64(len(o.ChangeSet)))
				}
			}
		}
		truncated := res.Returnval.Truncated != nil && *res.Returnval.Truncated
		if !truncated && !loaded {
			loaded = true
			wall := time.Since(begin)
			runtime.GC()
			debug.FreeOSMemory()
			_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"seconds": wall.Seconds(), "objects": len(objects), "rss": status("VmRSS"), "peak": status("VmHWM")})
		}
	}
}

// apply decodes an update into the object that is kept.
func apply(objects map[types.ManagedObjectReference]mo.Reference, o types.ObjectUpdate) {
	switch o.Kind {
	case types.ObjectUpdateKindLeave:
		delete(objects, o.Obj)
	case types.ObjectUpdateKindEnter:
		content := types.ObjectContent{Obj: o.Obj}
		for _, c := range o.ChangeSet {
			content.PropSet = append(content.PropSet, types.DynamicProperty{Name: c.Name, Val: c.Val})
		}
		v, err := mo.ObjectContentToType(content, true)
		check(err)
		objects[o.Obj] = v.(mo.Reference)
	case types.ObjectUpdateKindModify:
		if obj := objects[o.Obj]; obj != nil {
			mo.ApplyPropertyChange(obj, o.ChangeSet)
		}
	}
}

func traversal() []types.BaseSelectionSpec {
	step := func(name, kind, path string, next ...string) types.BaseSelectionSpec {
		t := &types.TraversalSpec{Type: kind, Path: path}
		t.Name = name
		for _, n := range next {
			t.SelectSet = append(t.SelectSet, &types.SelectionSpec{Name: n})
		}
		return t
	}
	all := []string{"folder", "dcVM", "dcHost", "dcNet", "dcStore", "host", "pool"}
	return []types.BaseSelectionSpec{
		step("folder", "Folder", "childEntity", all...), step("dcVM", "Datacenter", "vmFolder", "folder"),
		step("dcHost", "Datacenter", "hostFolder", "folder"), step("dcNet", "Datacenter", "networkFolder", "folder"),
		step("dcStore", "Datacenter", "datastoreFolder", "folder"), step("host", "ComputeResource", "host"), step("pool", "ResourcePool", "vm"),
	}
}

// status returns a size that /proc has of this process, in bytes.
func status(name string) int64 {
	text, err := os.ReadFile("/proc/self/status")
	check(err)
	for _, line := range strings.Split(string(text), "\n") {
		var kib int64
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				return kib * 1024
			}
		}
	}
	return 0
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
