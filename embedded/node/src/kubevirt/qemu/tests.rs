//! Whole command lines and pods.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

fn facts() -> Facts {
    let claim = |block, size| Claim { block, device: false, size };
    Facts {
        claims: [
            ("root".to_owned(), claim(false, 0)),
            ("data".to_owned(), claim(true, 0)),
            ("blank".to_owned(), claim(false, 1 << 30)),
        ]
        .into(),
        firmware: FirmwareFiles {
            plain: Some(("/f/code".into(), "/f/vars".into())),
            secure: Some(("/f/code.secure".into(), "/f/vars.secure".into())),
        },
        images: [("quay.io/disks/demo:1".to_owned(), DiskImage { path: "/images/demo.qcow2".into(), format: "qcow2" })]
            .into(),
        segments: [("lan".to_owned(), Segment { dir: "/data/networks/x".into() })].into(),
        seeds: Some("web-seed".into()),
        programs: vec!["swtpm", "swtpm_setup", "xorriso", "qemu-img"],
        ..Facts::default()
    }
}

fn machine(domain: Value, volumes: Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "apps", "uid": "u-1"},
        "spec": {
            "domain": domain,
            "networks": [{"name": "default", "pod": {}}, {"name": "lan", "multus": {"networkName": "apps/lan"}}],
            "volumes": volumes,
        },
    }))
    .expect("a machine")
}

/// Shows all containers' commands, the volumes, and the notes.
fn show(vmi: &VirtualMachineInstance, facts: &Facts, expected: Expect) {
    let launcher = launcher(vmi, facts).expect("a pod");
    let spec = launcher.pod.spec.expect("a spec");
    let mut text = String::new();
    for container in spec.init_containers.iter().flatten().filter(|container| container.name != CONSOLE) {
        let script = container.command.as_ref().and_then(|command| command.last()).expect("a script");
        text += &format!("[{}]\n{}\n", container.name, script.replace("; ", ";\n"));
    }
    let command = spec.containers[0].command.clone().expect("a command");
    let program = command.iter().position(|word| word.starts_with("qemu-system")).expect("QEMU");
    text += &format!("[{}]\n{}", spec.containers[0].name, command[program]);
    for word in &command[program + 1..] {
        text += if word.starts_with('-') { "\n" } else { " " };
        text += word;
    }
    text += "\n";
    for variable in spec.containers[0].env.iter().flatten().filter(|variable| variable.name != "POD_IP") {
        text += &format!("env: {}={}\n", variable.name, variable.value.clone().unwrap_or_default());
    }
    for volume in spec.volumes.iter().flatten().skip(1) {
        text += &format!("volume: {}\n", serde_json::to_string(volume).expect("JSON"));
    }
    for note in launcher.notes {
        text += &format!("note: {note}\n");
    }
    expected.assert_eq(&text);
}

#[test]
fn a_small_machine() {
    let vmi = machine(
        json!({
            "memory": {"guest": "512Mi"},
            "devices": {
                "disks": [{"name": "root", "disk": {"bus": "virtio"}}],
                "interfaces": [{"name": "default", "masquerade": {}, "model": "virtio", "macAddress": "02-00-00-00-00-0A"}],
            },
        }),
        json!([{"name": "root", "persistentVolumeClaim": {"claimName": "root"}}]),
    );
    show(
        &vmi,
        &facts(),
        expect![[r#"
        [compute]
        qemu-system-x86_64
        -name guest=apps_web,debug-threads=on
        -nodefaults
        -no-user-config
        -display none
        -machine q35,accel=tcg
        -cpu max
        -smp 1,sockets=1,cores=1,threads=1
        -m 512M
        -uuid 69cbdc01-5630-5f04-847a-ed0f78fb2bd0
        -smbios type=1,manufacturer=KubeVirt,product=None,family=KubeVirt,uuid=69cbdc01-5630-5f04-847a-ed0f78fb2bd0
        -rtc base=utc,driftfix=slew
        -vga std
        -vnc unix:/var/run/kubevirt-private/vnc.sock
        -chardev socket,id=serial0,path=/var/run/kubevirt-private/serial.sock,server=on,wait=off,logfile=/var/run/kubevirt-private/serial.log,logappend=on
        -serial chardev:serial0
        -qmp unix:/var/run/kubevirt-private/qmp.sock,server=on,wait=off
        -qmp unix:/var/run/kubevirt-private/events.sock,server=on,wait=off
        -device pcie-root-port,id=rp0,bus=pcie.0,chassis=1,addr=0x10.0,multifunction=on,io-reserve=0
        -device virtio-serial-pci,id=serial,bus=rp0
        -chardev socket,id=agent,path=/var/run/kubevirt-private/agent.sock,server=on,wait=off
        -device virtserialport,bus=serial.0,chardev=agent,id=agent,name=org.qemu.guest_agent.0
        -device pcie-root-port,id=rp1,bus=pcie.0,chassis=2,addr=0x10.1,io-reserve=0
        -device virtio-balloon-pci,id=balloon0,bus=rp1
        -device pcie-root-port,id=rp2,bus=pcie.0,chassis=3,addr=0x10.2,io-reserve=0
        -device virtio-scsi-pci,id=scsi0,bus=rp2
        -blockdev driver=raw,node-name=disk0,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/vmi-disks/root/disk.img
        -device pcie-root-port,id=rp3,bus=pcie.0,chassis=4,addr=0x10.3,io-reserve=0
        -device virtio-blk-pci,bus=rp3,drive=disk0,id=dev-disk0,bootindex=1
        -netdev user,id=net0,hostfwd=tcp:$(POD_IP):22-:22
        -device pcie-root-port,id=rp4,bus=pcie.0,chassis=5,addr=0x10.4,io-reserve=0
        -device virtio-net-pci,netdev=net0,id=nic0,mac=02:00:00:00:00:0a,bus=rp4,romfile=
        -device pcie-root-port,id=hp0,bus=pcie.0,chassis=6,addr=0x10.5,io-reserve=0
        -device pcie-root-port,id=hp1,bus=pcie.0,chassis=7,addr=0x10.6,io-reserve=0
        -device pcie-root-port,id=hp2,bus=pcie.0,chassis=8,addr=0x10.7,io-reserve=0
        -device pcie-root-port,id=hp3,bus=pcie.0,chassis=9,addr=0x11.0,multifunction=on,io-reserve=0
        -device pcie-root-port,id=hp4,bus=pcie.0,chassis=10,addr=0x11.1,io-reserve=0
        -device pcie-root-port,id=hp5,bus=pcie.0,chassis=11,addr=0x11.2,io-reserve=0
        -device pcie-root-port,id=hp6,bus=pcie.0,chassis=12,addr=0x11.3,io-reserve=0
        -device pcie-root-port,id=hp7,bus=pcie.0,chassis=13,addr=0x11.4,io-reserve=0
        volume: {"name":"root","persistentVolumeClaim":{"claimName":"root","readOnly":false}}
    "#]],
    );
}

#[test]
fn a_machine_with_everything() {
    let mut vmi = machine(
        json!({
            "cpu": {"sockets": 2, "cores": 4, "model": "Skylake-Server", "dedicatedCpuPlacement": true,
                    "features": [{"name": "vmx", "policy": "disable"}, {"name": "sse4.2"}]},
            "resources": {"requests": {"memory": "2Gi"}},
            "memory": {"hugepages": {"pageSize": "2Mi"}},
            "clock": {"timezone": "Europe/Berlin", "timer": {"hpet": {"present": false}, "rtc": {"tickPolicy": "catchup"}}},
            "chassis": {"manufacturer": "Forge", "serial": "c,1", "asset": "A7"},
            "features": {"acpi": {}, "smm": {"enabled": true}, "hyperv": {"relaxed": {}}},
            "firmware": {"bootloader": {"efi": {"persistent": true}}, "serial": "VMware-42",
                         "uuid": "11111111-2222-3333-4444-555555555555"},
            "devices": {
                "video": {"type": "virtio"}, "sound": {"name": "s"},
                "watchdog": {"name": "dog", "i6300esb": {"action": "poweroff"}},
                "disks": [
                    {"name": "root", "disk": {"bus": "sata"}, "serial": "abc,d", "bootOrder": 2, "cache": "none", "io": "native"},
                    {"name": "data", "lun": {}, "bootOrder": 1, "cache": "writethrough"},
                    {"name": "blank", "disk": {"bus": "virtio"}, "blockSize": {"custom": {"logical": 4096, "physical": 4096}}, "errorPolicy": "report"},
                    {"name": "init", "cdrom": {"bus": "sata"}},
                    {"name": "demo", "disk": {"bus": "usb"}},
                    {"name": "drive", "cdrom": {"bus": "scsi"}},
                ],
                "interfaces": [
                    {"name": "lan", "bridge": {}, "model": "e1000e", "macAddress": "02:00:00:00:00:02"},
                    {"name": "default", "masquerade": {}, "macAddress": "02:00:00:00:00:03", "bootOrder": 3,
                     "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]},
                ],
                "rng": {}, "tpm": {"persistent": true}, "inputs": [{"name": "t", "type": "tablet", "bus": "usb"}],
                "holograms": true,
            },
        }),
        json!([
            {"name": "root", "persistentVolumeClaim": {"claimName": "root"}},
            {"name": "data", "dataVolume": {"name": "data"}},
            {"name": "blank", "persistentVolumeClaim": {"claimName": "blank"}},
            {"name": "init", "cloudInitNoCloud": {"userData": "x"}},
            {"name": "demo", "containerDisk": {"image": "quay.io/disks/demo:1"}},
            {"name": "spare", "emptyDisk": {"capacity": "1Gi"}},
        ]),
    );
    vmi.spec.start_strategy = Some("Paused".into());
    show(
        &vmi,
        &Facts { state: Some("state".into()), ..facts() },
        expect![[r#"
        [prepare]
        set -e;
        [ -s /var/run/kubevirt-state/nvram.fd ] || { cp /f/vars.secure /var/run/kubevirt-state/nvram.fd.new;
        sync /var/run/kubevirt-state/nvram.fd.new;
        mv /var/run/kubevirt-state/nvram.fd.new /var/run/kubevirt-state/nvram.fd;
        };
        mkdir -p /var/run/kubevirt-state/tpm;
        swtpm_setup --tpm2 --tpmstate /var/run/kubevirt-state/tpm --createek --not-overwrite --logfile /var/run/kubevirt-private/tpm-setup.log;
        [ -e /var/run/kubevirt-private/vmi-disks/blank/disk.img ] || truncate -s 1073741824 /var/run/kubevirt-private/vmi-disks/blank/disk.img;
        mkdir -p /var/run/kubevirt-private/iso-init;
        [ ! -e /var/run/kubevirt-seed/init.meta-data ] || cp /var/run/kubevirt-seed/init.meta-data /var/run/kubevirt-private/iso-init/meta-data;
        [ ! -e /var/run/kubevirt-seed/init.user-data ] || cp /var/run/kubevirt-seed/init.user-data /var/run/kubevirt-private/iso-init/user-data;
        [ ! -e /var/run/kubevirt-seed/init.network-data ] || cp /var/run/kubevirt-seed/init.network-data /var/run/kubevirt-private/iso-init/network-data;
        xorriso -as mkisofs -quiet -volid 'cidata' -joliet -rock -o /var/run/kubevirt-private/init.iso /var/run/kubevirt-private/iso-init;
        rm -rf /var/run/kubevirt-private/iso-init;
        qemu-img create -q -f qcow2 -F qcow2 -b /var/run/kubevirt-host/demo /var/run/kubevirt-private/overlay-demo.qcow2
        [tpm]
        exec swtpm socket --tpm2 --tpmstate dir=/var/run/kubevirt-state/tpm --ctrl type=unixio,path=/var/run/kubevirt-private/tpm.sock
        [compute]
        qemu-system-x86_64
        -name guest=apps_web,debug-threads=on
        -nodefaults
        -no-user-config
        -display none
        -machine q35,accel=tcg,smm=on,hpet=off
        -cpu max,+sse4.2
        -smp 8,sockets=2,cores=4,threads=1
        -m 2048M
        -uuid 11111111-2222-3333-4444-555555555555
        -smbios type=1,manufacturer=KubeVirt,product=None,family=KubeVirt,uuid=11111111-2222-3333-4444-555555555555,serial=VMware-42
        -smbios type=3,manufacturer=Forge,serial=c,,1,asset=A7
        -rtc base=localtime,driftfix=slew
        -S
        -vga virtio
        -vnc unix:/var/run/kubevirt-private/vnc.sock
        -chardev socket,id=serial0,path=/var/run/kubevirt-private/serial.sock,server=on,wait=off,logfile=/var/run/kubevirt-private/serial.log,logappend=on
        -serial chardev:serial0
        -qmp unix:/var/run/kubevirt-private/qmp.sock,server=on,wait=off
        -qmp unix:/var/run/kubevirt-private/events.sock,server=on,wait=off
        -drive if=pflash,unit=0,format=raw,readonly=on,file=/f/code.secure
        -drive if=pflash,unit=1,format=raw,file=/var/run/kubevirt-state/nvram.fd
        -global driver=cfi.pflash01,property=secure,value=on
        -device pcie-root-port,id=rp0,bus=pcie.0,chassis=1,addr=0x10.0,multifunction=on,io-reserve=0
        -device virtio-serial-pci,id=serial,bus=rp0
        -chardev socket,id=agent,path=/var/run/kubevirt-private/agent.sock,server=on,wait=off
        -device virtserialport,bus=serial.0,chardev=agent,id=agent,name=org.qemu.guest_agent.0
        -device pcie-root-port,id=rp1,bus=pcie.0,chassis=2,addr=0x10.1,io-reserve=0
        -object rng-random,id=rng0,filename=/dev/urandom
        -device virtio-rng-pci,rng=rng0,bus=rp1
        -device pcie-root-port,id=rp2,bus=pcie.0,chassis=3,addr=0x10.2,io-reserve=0
        -device virtio-balloon-pci,id=balloon0,bus=rp2
        -chardev socket,id=tpm0,path=/var/run/kubevirt-private/tpm.sock
        -tpmdev emulator,id=tpm0,chardev=tpm0
        -device tpm-crb,tpmdev=tpm0
        -device pcie-root-port,id=rp3,bus=pcie.0,chassis=4,addr=0x10.3,io-reserve=0
        -device qemu-xhci,id=usb,bus=rp3
        -device usb-tablet,bus=usb.0
        -device i6300esb
        -action watchdog=poweroff
        -device pcie-root-port,id=rp4,bus=pcie.0,chassis=5,addr=0x10.4,io-reserve=0
        -device virtio-scsi-pci,id=scsi0,bus=rp4
        -blockdev driver=raw,node-name=disk0,read-only=off,discard=unmap,cache.direct=on,file.driver=file,file.filename=/var/run/kubevirt-private/vmi-disks/root/disk.img,file.aio=native
        -device ahci,id=sata0
        -device ide-hd,bus=sata0.0,drive=disk0,id=dev-disk0,serial=abc,,d,bootindex=2
        -blockdev driver=raw,node-name=disk1,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/dev/data
        -device scsi-hd,bus=scsi0.0,drive=disk1,id=dev-disk1,write-cache=off,bootindex=1
        -blockdev driver=raw,node-name=disk2,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/vmi-disks/blank/disk.img
        -device pcie-root-port,id=rp5,bus=pcie.0,chassis=6,addr=0x10.5,io-reserve=0
        -device virtio-blk-pci,bus=rp5,drive=disk2,id=dev-disk2,logical_block_size=4096,physical_block_size=4096,werror=report,rerror=report
        -blockdev driver=raw,node-name=disk3,read-only=on,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/init.iso
        -device ide-cd,bus=sata0.1,drive=disk3,id=dev-disk3
        -blockdev driver=qcow2,node-name=disk4,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/overlay-demo.qcow2
        -device usb-storage,bus=usb.0,drive=disk4,id=dev-disk4
        -device scsi-cd,bus=scsi0.0,id=dev-disk5
        -netdev stream,id=net0,server=off,addr.type=unix,addr.path=/var/run/kubevirt-private/net0/switch.sock
        -device pcie-root-port,id=rp6,bus=pcie.0,chassis=7,addr=0x10.6,io-reserve=0
        -device e1000e,netdev=net0,id=nic0,mac=02:00:00:00:00:02,bus=rp6,romfile=
        -netdev user,id=net1,hostfwd=tcp:$(POD_IP):80-:80,hostfwd=udp:$(POD_IP):53-:53
        -device pcie-root-port,id=rp7,bus=pcie.0,chassis=8,addr=0x10.7,io-reserve=0
        -device virtio-net-pci,netdev=net1,id=nic1,mac=02:00:00:00:00:03,bus=rp7,bootindex=3
        -device pcie-root-port,id=hp0,bus=pcie.0,chassis=9,addr=0x11.0,multifunction=on,io-reserve=0
        -device pcie-root-port,id=hp1,bus=pcie.0,chassis=10,addr=0x11.1,io-reserve=0
        -device pcie-root-port,id=hp2,bus=pcie.0,chassis=11,addr=0x11.2,io-reserve=0
        -device pcie-root-port,id=hp3,bus=pcie.0,chassis=12,addr=0x11.3,io-reserve=0
        -device pcie-root-port,id=hp4,bus=pcie.0,chassis=13,addr=0x11.4,io-reserve=0
        -device pcie-root-port,id=hp5,bus=pcie.0,chassis=14,addr=0x11.5,io-reserve=0
        -device pcie-root-port,id=hp6,bus=pcie.0,chassis=15,addr=0x11.6,io-reserve=0
        -device pcie-root-port,id=hp7,bus=pcie.0,chassis=16,addr=0x11.7,io-reserve=0
        env: TZ=Europe/Berlin
        volume: {"name":"kubevirt-state","persistentVolumeClaim":{"claimName":"state"}}
        volume: {"name":"root","persistentVolumeClaim":{"claimName":"root","readOnly":false}}
        volume: {"name":"data","persistentVolumeClaim":{"claimName":"data","readOnly":false}}
        volume: {"name":"blank","persistentVolumeClaim":{"claimName":"blank","readOnly":false}}
        volume: {"name":"kubevirt-seed","secret":{"secretName":"web-seed"}}
        volume: {"hostPath":{"path":"/images/demo.qcow2","type":"File"},"name":"demo"}
        volume: {"hostPath":{"path":"/data/networks/x","type":"Directory"},"name":"kubevirt-net0"}
        note: processor model Skylake-Server is emulated by QEMU's max: KVM cannot be used here
        note: features.hyperv is left out: it needs KVM, which cannot be used here
        note: lun data is a disk: only a block device of this machine can be passed through
        note: volume spare is left out: no disk has its name
        note: cpu.dedicatedCpuPlacement is not offered by the embedded node: processors are shared
        note: memory.hugepages is not offered by the embedded node: the guest has ordinary pages
        note: devices.sound is not offered by the embedded node: the guest has no sound card
        note: devices.holograms is not offered by the embedded node
    "#]],
    );
}

#[test]
fn volumes_of_all_kinds() {
    let disk = |name: &str| json!({"name": name, "disk": {"bus": "virtio"}});
    let names = ["overlay", "empty", "host", "map", "secret", "down", "account", "sysprep", "drive"];
    let vmi = machine(
        json!({
            "memory": {"guest": "64Mi"}, "machine": {"type": "pc"},
            "devices": {"disks": names.map(disk), "autoattachGraphicsDevice": false, "disableHotplug": true},
        }),
        json!([
            {"name": "overlay", "ephemeral": {"persistentVolumeClaim": {"claimName": "data"}}},
            {"name": "empty", "emptyDisk": {"capacity": "1Mi"}},
            {"name": "host", "hostDisk": {"path": "/srv/disk's.img", "type": "DiskOrCreate", "capacity": "1Mi"}},
            {"name": "map", "configMap": {"name": "settings", "volumeLabel": "SETTINGS"}},
            {"name": "secret", "secret": {"secretName": "key", "optional": true}},
            {"name": "down", "downwardAPI": {"fields": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"name": "account", "serviceAccount": {"serviceAccountName": "robot"}},
            {"name": "sysprep", "sysprep": {"configMap": {"name": "answers"}}},
            {"name": "drive", "cloudInitConfigDrive": {"userData": "x"}},
        ]),
    );
    show(
        &vmi,
        &facts(),
        expect![[r#"
        [prepare]
        set -e;
        qemu-img create -q -f qcow2 -F raw -b /dev/overlay /var/run/kubevirt-private/overlay-overlay.qcow2;
        truncate -s 1048576 /var/run/kubevirt-private/empty-empty.img;
        cd /var/run/kubevirt-host/host;
        [ -e './disk'\''s.img' ] || truncate -s 1048576 './disk'\''s.img';
        cd /;
        mkdir -p /var/run/kubevirt-private/iso-map;
        find /var/run/kubevirt-config/map -mindepth 1 -maxdepth 1 ! -name '.*' -exec cp -rL {} /var/run/kubevirt-private/iso-map ';';
        xorriso -as mkisofs -quiet -volid 'SETTINGS' -joliet -rock -o /var/run/kubevirt-private/map.iso /var/run/kubevirt-private/iso-map;
        rm -rf /var/run/kubevirt-private/iso-map;
        mkdir -p /var/run/kubevirt-private/iso-secret;
        find /var/run/kubevirt-config/secret -mindepth 1 -maxdepth 1 ! -name '.*' -exec cp -rL {} /var/run/kubevirt-private/iso-secret ';';
        xorriso -as mkisofs -quiet -volid 'cfgdata' -joliet -rock -o /var/run/kubevirt-private/secret.iso /var/run/kubevirt-private/iso-secret;
        rm -rf /var/run/kubevirt-private/iso-secret;
        mkdir -p /var/run/kubevirt-private/iso-down;
        find /var/run/kubevirt-config/down -mindepth 1 -maxdepth 1 ! -name '.*' -exec cp -rL {} /var/run/kubevirt-private/iso-down ';';
        xorriso -as mkisofs -quiet -volid 'cfgdata' -joliet -rock -o /var/run/kubevirt-private/down.iso /var/run/kubevirt-private/iso-down;
        rm -rf /var/run/kubevirt-private/iso-down;
        mkdir -p /var/run/kubevirt-private/iso-account;
        find /var/run/kubevirt-config/account -mindepth 1 -maxdepth 1 ! -name '.*' -exec cp -rL {} /var/run/kubevirt-private/iso-account ';';
        xorriso -as mkisofs -quiet -volid 'cfgdata' -joliet -rock -o /var/run/kubevirt-private/account.iso /var/run/kubevirt-private/iso-account;
        rm -rf /var/run/kubevirt-private/iso-account;
        mkdir -p /var/run/kubevirt-private/iso-sysprep;
        find /var/run/kubevirt-config/sysprep -mindepth 1 -maxdepth 1 ! -name '.*' -exec cp -rL {} /var/run/kubevirt-private/iso-sysprep ';';
        xorriso -as mkisofs -quiet -volid 'unattendCD' -joliet -rock -o /var/run/kubevirt-private/sysprep.iso /var/run/kubevirt-private/iso-sysprep;
        rm -rf /var/run/kubevirt-private/iso-sysprep;
        mkdir -p /var/run/kubevirt-private/iso-drive/openstack/latest;
        [ ! -e /var/run/kubevirt-seed/drive.meta-data ] || cp /var/run/kubevirt-seed/drive.meta-data /var/run/kubevirt-private/iso-drive/openstack/latest/meta_data.json;
        [ ! -e /var/run/kubevirt-seed/drive.user-data ] || cp /var/run/kubevirt-seed/drive.user-data /var/run/kubevirt-private/iso-drive/openstack/latest/user_data;
        [ ! -e /var/run/kubevirt-seed/drive.network-data ] || cp /var/run/kubevirt-seed/drive.network-data /var/run/kubevirt-private/iso-drive/openstack/latest/network_data.json;
        xorriso -as mkisofs -quiet -volid 'config-2' -joliet -rock -o /var/run/kubevirt-private/drive.iso /var/run/kubevirt-private/iso-drive;
        rm -rf /var/run/kubevirt-private/iso-drive
        [compute]
        qemu-system-x86_64
        -name guest=apps_web,debug-threads=on
        -nodefaults
        -no-user-config
        -display none
        -machine pc,accel=tcg
        -cpu max
        -smp 1,sockets=1,cores=1,threads=1
        -m 64M
        -uuid 69cbdc01-5630-5f04-847a-ed0f78fb2bd0
        -smbios type=1,manufacturer=KubeVirt,product=None,family=KubeVirt,uuid=69cbdc01-5630-5f04-847a-ed0f78fb2bd0
        -rtc base=utc,driftfix=slew
        -chardev socket,id=serial0,path=/var/run/kubevirt-private/serial.sock,server=on,wait=off,logfile=/var/run/kubevirt-private/serial.log,logappend=on
        -serial chardev:serial0
        -qmp unix:/var/run/kubevirt-private/qmp.sock,server=on,wait=off
        -qmp unix:/var/run/kubevirt-private/events.sock,server=on,wait=off
        -device virtio-serial-pci,id=serial
        -chardev socket,id=agent,path=/var/run/kubevirt-private/agent.sock,server=on,wait=off
        -device virtserialport,bus=serial.0,chardev=agent,id=agent,name=org.qemu.guest_agent.0
        -device virtio-balloon-pci,id=balloon0
        -blockdev driver=qcow2,node-name=disk0,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/overlay-overlay.qcow2
        -device virtio-blk-pci,drive=disk0,id=dev-disk0,bootindex=1
        -blockdev driver=raw,node-name=disk1,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/empty-empty.img
        -device virtio-blk-pci,drive=disk1,id=dev-disk1,bootindex=2
        -blockdev driver=raw,node-name=disk2,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-host/host/disk's.img
        -device virtio-blk-pci,drive=disk2,id=dev-disk2,bootindex=3
        -blockdev driver=raw,node-name=disk3,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/map.iso
        -device virtio-blk-pci,drive=disk3,id=dev-disk3,bootindex=4
        -blockdev driver=raw,node-name=disk4,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/secret.iso
        -device virtio-blk-pci,drive=disk4,id=dev-disk4,bootindex=5
        -blockdev driver=raw,node-name=disk5,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/down.iso
        -device virtio-blk-pci,drive=disk5,id=dev-disk5,bootindex=6
        -blockdev driver=raw,node-name=disk6,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/account.iso
        -device virtio-blk-pci,drive=disk6,id=dev-disk6,bootindex=7
        -blockdev driver=raw,node-name=disk7,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/sysprep.iso
        -device virtio-blk-pci,drive=disk7,id=dev-disk7,bootindex=8
        -blockdev driver=raw,node-name=disk8,read-only=off,discard=unmap,cache.direct=off,file.driver=file,file.filename=/var/run/kubevirt-private/drive.iso
        -device virtio-blk-pci,drive=disk8,id=dev-disk8,bootindex=9
        volume: {"name":"overlay","persistentVolumeClaim":{"claimName":"data","readOnly":true}}
        volume: {"hostPath":{"path":"/srv","type":"DirectoryOrCreate"},"name":"host"}
        volume: {"configMap":{"name":"settings"},"name":"map"}
        volume: {"name":"secret","secret":{"optional":true,"secretName":"key"}}
        volume: {"downwardAPI":{"items":[{"fieldRef":{"fieldPath":"metadata.labels"},"path":"labels"}]},"name":"down"}
        volume: {"name":"account","projected":{"sources":[{"serviceAccountToken":{"path":"token"}},{"configMap":{"items":[{"key":"ca.crt","path":"ca.crt"}],"name":"kube-root-ca.crt","optional":true}},{"downwardAPI":{"items":[{"fieldRef":{"fieldPath":"metadata.namespace"},"path":"namespace"}]}}]}}
        volume: {"configMap":{"name":"answers"},"name":"sysprep"}
        volume: {"name":"kubevirt-seed","secret":{"secretName":"web-seed"}}
    "#]],
    );
}

#[test]
fn what_cannot_run_is_refused_with_the_reason() {
    let volumes = json!([
        {"name": "gone", "persistentVolumeClaim": {"claimName": "gone"}},
        {"name": "far", "containerDisk": {"image": "quay.io/far/away"}},
        {"name": "root", "persistentVolumeClaim": {"claimName": "root"}},
    ]);
    let mut all = String::new();
    let memory = json!({"guest": "1Gi"});
    for (domain, facts) in [
        (json!({}), facts()),
        (json!({"memory": memory, "devices": {"disks": [{"name": "gone", "disk": {}}]}}), facts()),
        (json!({"memory": memory, "devices": {"disks": [{"name": "far", "disk": {}}]}}), facts()),
        (json!({"memory": memory, "devices": {"disks": [{"name": "nowhere", "disk": {}}]}}), facts()),
        (json!({"memory": memory, "devices": {"disks": [{"name": "root", "cdrom": {"bus": "virtio"}}]}}), facts()),
        (
            json!({"memory": memory, "devices": {"disks": [{"name": "root", "disk": {"bus": "sata", "readonly": true}}]}}),
            facts(),
        ),
        (json!({"memory": memory, "firmware": {"bootloader": {"efi": {"secureBoot": true}}}}), Facts::default()),
        (json!({"memory": memory, "machine": {"type": "pc"}, "firmware": {"bootloader": {"efi": {}}}}), facts()),
        (json!({"memory": memory, "devices": {"interfaces": [{"name": "default", "model": "x"}]}}), facts()),
        (json!({"memory": memory, "devices": {"interfaces": [{"name": "lan", "bridge": {}}]}}), Facts::default()),
        (json!({"memory": memory, "devices": {"tpm": {}}}), Facts::default()),
        (json!({"memory": memory, "devices": {"gpus": [{"name": "g", "deviceName": "nvidia.com/A100"}]}}), facts()),
        (json!({"memory": memory, "cpu": {"features": [{"name": "a,b"}]}}), facts()),
    ] {
        let refusal = launcher(&machine(domain, volumes.clone()), &facts).expect_err("refused");
        all += &format!("{}: {}\n", refusal.reason, refusal.message);
    }
    expect![[r#"
        Unschedulable: the machine has no memory: set spec.domain.memory.guest
        FailedPvcNotFound: persistentvolumeclaim "gone" not found
        ErrImagePull: containerDisk quay.io/far/away: nothing is pulled, and no local file stands for this image; give it a row with `disk` in the node's image table
        Unschedulable: disk nowhere has no volume of that name
        Unschedulable: CD drive root cannot be on the bus virtio; use sata, scsi or usb
        Unschedulable: disk root can only be read, which the bus sata does not offer; use virtio or scsi
        Unschedulable: the machine asks for secure boot, whose firmware is not on this machine: install the package ovmf
        Unschedulable: the machine boots by EFI, which needs the machine type q35
        Unschedulable: interface default has the unknown model x; use one of virtio, e1000, e1000e, rtl8139, ne2k_pci, pcnet
        FailedCreate: network-attachment-definition "apps/lan" of interface lan not found
        Unschedulable: the machine has a TPM, whose program is not on this machine: install the packages swtpm and swtpm-tools
        Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/A100 (device g).
        Unschedulable: processor feature "a,b" has letters that no feature has
    "#]].assert_eq(&all);
}

#[test]
fn many_devices_get_ports_of_their_own() {
    let names: Vec<String> = (0..60).map(|number| format!("d{number}")).collect();
    let disks: Vec<Value> = names.iter().map(|name| json!({"name": name, "disk": {"bus": "virtio"}})).collect();
    let volumes: Vec<Value> =
        names.iter().map(|name| json!({"name": name, "emptyDisk": {"capacity": "1Mi"}})).collect();
    let vmi = machine(json!({"memory": {"guest": "64Mi"}, "devices": {"disks": disks}}), json!(volumes));
    let pod = launcher(&vmi, &facts()).expect("a pod").pod;
    let command = pod.spec.expect("a spec").containers[0].command.clone().expect("a command");
    let mut places: Vec<&str> = command
        .iter()
        .filter(|word| word.starts_with("pcie-root-port"))
        .filter_map(|word| word.split(",addr=").nth(1)?.split(',').next())
        .collect();
    let all = places.len();
    places.sort_unstable();
    places.dedup();
    // 60 disks, the serial, SCSI and balloon devices, and the spare ones
    assert_eq!((all, places.len()), (60 + 3 + SPARE_PORTS, all));
    assert!(places.iter().all(|place| place.starts_with("0x1") && !place.starts_with("0x1f")), "{places:?}");
}

#[test]
fn seeds_hold_what_cloud_init_reads() {
    let vmi: VirtualMachineInstance = serde_json::from_value(json!({
        "metadata": {"name": "web.1", "namespace": "apps", "uid": "u-1"},
        "spec": {
            "accessCredentials": [{"sshPublicKey": {"source": {"secret": {"secretName": "keys"}}, "propagationMethod": {"noCloud": {}}}}],
            "volumes": [
                {"name": "plain", "cloudInitNoCloud": {"userData": "#cloud-config", "networkDataBase64": "dmVyc2lvbjogMg=="}},
                {"name": "secret", "cloudInitConfigDrive": {"secretRef": {"name": "user"}}},
            ],
        },
    }))
    .expect("a machine");
    assert_eq!(seed_secrets(&vmi.spec), ["keys", "user"]);
    let secret = |key: &str, value: &str| [(key.to_owned(), value.as_bytes().to_vec())].into();
    let mut secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    assert_eq!(
        seed(&vmi, &secrets).expect_err("refused").message,
        "secret \"user\" with the userData of volume secret not found"
    );
    secrets.insert("user".into(), secret("userdata", "#!/bin/sh"));
    secrets.insert("keys".into(), secret("id", "ssh-ed25519 AAAA me\n"));
    let files = seed(&vmi, &secrets).expect("files").expect("some");
    let text: String =
        files.iter().map(|(name, content)| format!("{name}: {}\n", String::from_utf8_lossy(content))).collect();
    expect![[r#"
        plain.meta-data: {"instance-id":"af24bba0-0ec7-58f5-a256-28569e74bda6","local-hostname":"web","public-keys":{"0":"ssh-ed25519 AAAA me"}}
        plain.network-data: version: 2
        plain.user-data: #cloud-config
        secret.meta-data: {"instance_id":"af24bba0-0ec7-58f5-a256-28569e74bda6","local_hostname":"web","hostname":"web","uuid":"af24bba0-0ec7-58f5-a256-28569e74bda6","public_keys":{"0":"ssh-ed25519 AAAA me"}}
        secret.user-data: #!/bin/sh
    "#]].assert_eq(&text);
}
