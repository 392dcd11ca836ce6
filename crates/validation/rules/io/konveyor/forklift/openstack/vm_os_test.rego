package io.konveyor.forklift.openstack

import rego.v1

test_vm_os_other_distro if {
	vm := {"name": "test", "image": {"properties": {"os_distro": "debian", "os_version": "12"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.os.unsupported"}
}

test_vm_os_other_version if {
	vm := {"name": "test", "image": {"properties": {"os_distro": "rhel", "os_version": "6.10"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.os.unsupported"}
}

test_vm_os_other_fedora if {
	vm := {"name": "test", "image": {"properties": {"os_distro": "fedora", "os_version": "40"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.os.unsupported"}
}

test_vm_os_version_of_another if {
	vm := {"name": "test", "image": {"properties": {"os_distro": "windows", "os_version": "9"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.os.unsupported"}
}

test_vm_os_not_strings if {
	vm := {"name": "test", "image": {"properties": {"os_distro": null, "os_version": 8}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.os.unsupported"}
}

test_vm_os_supported if {
	every vm in [
		{"name": "test", "image": {"properties": {"os_distro": "rhel", "os_version": "9.4"}}},
		{"name": "test", "image": {"properties": {"os_distro": "centos", "os_version": "7"}}},
		{"name": "test", "image": {"properties": {"os_distro": "centos-stream", "os_version": "8"}}},
		{"name": "test", "image": {"properties": {"os_distro": "windows", "os_version": "2k22"}}},
		{"name": "test", "image": {"properties": {"os_distro": "windows", "os_version": "Server 2019"}}},
		{"name": "test", "image": {"properties": {"os_distro": "windows", "os_version": "11"}}},
		{"name": "test", "image": {"properties": {"os_distro": "fedora", "os_version": "38"}}},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_vm_os_not_told if {
	every vm in [
		{"name": "test", "image": {"properties": {"os_distro": "debian"}}},
		{"name": "test", "image": {"properties": {"os_version": "12"}}},
		{"name": "test", "image": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
