// Reads JSON objects from standard input, one a line, and decodes each strictly into KubeVirt's own types: a field
// that KubeVirt does not know is an error. Prints one line for each: "ok", or what is wrong.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	virtv1 "kubevirt.io/api/core/v1"
	instancetypev1beta1 "kubevirt.io/api/instancetype/v1beta1"
)

func target(kind string) any {
	switch kind {
	case "VirtualMachine":
		return &virtv1.VirtualMachine{}
	case "VirtualMachineInstance":
		return &virtv1.VirtualMachineInstance{}
	case "VirtualMachineInstancetype":
		return &instancetypev1beta1.VirtualMachineInstancetype{}
	case "VirtualMachineClusterInstancetype":
		return &instancetypev1beta1.VirtualMachineClusterInstancetype{}
	case "VirtualMachinePreference":
		return &instancetypev1beta1.VirtualMachinePreference{}
	case "VirtualMachineClusterPreference":
		return &instancetypev1beta1.VirtualMachineClusterPreference{}
	case "VirtualMachineInstanceGuestAgentInfo":
		return &virtv1.VirtualMachineInstanceGuestAgentInfo{}
	case "AddVolumeOptions":
		return &virtv1.AddVolumeOptions{}
	}
	return nil
}

func check(line []byte) error {
	var meta struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(line, &meta); err != nil {
		return err
	}
	into := target(meta.Kind)
	if into == nil {
		return fmt.Errorf("unknown kind %q", meta.Kind)
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if err := check(lines.Bytes()); err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println("ok")
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
