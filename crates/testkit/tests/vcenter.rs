//! The simulated vCenter keeps bytes as vSphere does: snapshots freeze them, removal keeps what was written since.

use std::time::Duration;

use forklift_testkit::peers::vcenter::{Fault, Options, Vcenter};
use forklift_testkit::wait_for;

const MIB: u64 = 1 << 20;

#[test]
fn snapshots_freeze_bytes_and_their_removal_keeps_what_was_written() {
    let options = Options { names: vec!["web 01".into()], vms: 1, disks: 2, disk_size: 8 * MIB, ..Options::default() };
    let Some(vcenter) = Vcenter::start(options) else { return };
    let raw = std::env::temp_dir().join(format!("forklift-testkit-vcenter-{}.raw", std::process::id()));
    std::fs::write(&raw, vec![7; 3 * MIB as usize]).expect("a file");
    vcenter.put_disk("web 01", 1, &raw).expect("a disk can be put");
    assert_eq!(vcenter.read_disk("web 01", 1, None).expect("a digest").1, 3 * MIB);

    vcenter.snapshot("web 01", "first").expect("a snapshot");
    let frozen = vcenter.read_disk("web 01", 1, Some("first")).expect("a digest");
    vcenter.write("web 01", 1, 2 * MIB - 3, b"written").expect("a guest writes");
    vcenter.snapshot("web 01", "second").expect("a snapshot");
    vcenter.write("web 01", 1, 0, b"later").expect("a guest writes");
    assert_eq!(vcenter.read_disk("web 01", 1, Some("first")).expect("a digest"), frozen);
    assert_eq!(vcenter.read_bytes("web 01", 1, Some("second"), 2 * MIB - 3, 7).expect("bytes"), b"written");
    assert_eq!(vcenter.read_bytes("web 01", 1, Some("second"), 0, 5).expect("bytes"), [7; 5]);

    let second = vcenter.read_disk("web 01", 1, Some("second")).expect("a digest");
    vcenter.remove_snapshot("web 01", "first").expect("it is there");
    assert_eq!(vcenter.snapshots("web 01").expect("names"), ["second"]);
    assert_eq!(vcenter.read_disk("web 01", 1, Some("second")).expect("a digest"), second);
    let now = vcenter.read_disk("web 01", 1, None).expect("a digest");
    vcenter.remove_snapshot("web 01", "second").expect("it is there");
    assert_eq!(vcenter.read_disk("web 01", 1, None).expect("a digest"), now);
    let machine = vcenter.machine("web 01").expect("it is there");
    assert_eq!(machine["disks"][1]["layers"], 1);
    assert_eq!(machine["disks"][1]["file"], machine["disks"][1]["base"]);
    vcenter.dump_disk("web 01", 1, None, &raw).expect("a dump");
    assert_eq!(&std::fs::read(&raw).expect("the dump")[..5], b"later");
    std::fs::remove_file(&raw).expect("the dump");
}

#[test]
fn a_guest_writes_until_it_is_off_and_faults_reach_their_place() {
    let Some(vcenter) = Vcenter::start(Options { vms: 1, ..Options::default() }) else { return };
    let vm = vcenter.machines().expect("a list")[0]["id"].as_str().expect("a reference").to_owned();
    let empty = vcenter.read_disk(&vm, 0, None).expect("a digest");
    vcenter.keep_writing(&vm, 0, 1, 4096, 0, Duration::from_millis(1)).expect("a guest");
    wait_for("the guest writes", Duration::from_secs(20), || {
        let now = vcenter.read_disk(&vm, 0, None).map_err(|error| error.to_string())?;
        (now != empty).then_some(()).ok_or_else(|| "nothing yet".to_owned())
    });
    vcenter.power(&vm, false).expect("it is on");
    let off = vcenter.read_disk(&vm, 0, None).expect("a digest");
    assert!(vcenter.write(&vm, 0, 0, b"x").is_err(), "nobody writes to a machine that is off");
    assert_eq!(vcenter.read_disk(&vm, 0, None).expect("a digest"), off);

    vcenter.fault(&Fault::FailTask("CreateSnapshot_Task".into(), "FileFault".into())).expect("a rule");
    assert!(vcenter.snapshot(&vm, "one").is_err(), "the task was told to fail");
    vcenter.snapshot(&vm, "one").expect("only once");
    let properties = serde_json::json!({"config.guestId": "rhel9_64Guest", "runtime.connectionState": "disconnected"});
    vcenter.set("VirtualMachine", &vm, &properties).expect("known properties");
    assert!(vcenter.set("VirtualMachine", &vm, &serde_json::json!({"config.nonsense": 1})).is_err());
    let calls = vcenter.calls().expect("counters");
    assert_eq!((calls.sessions(), calls.invalid_logins(), calls.of("CreateSnapshot_Task")), (0, 0, 0));
    vcenter.fault(&Fault::ExpireSessions).expect("nothing to expire is fine");
}
