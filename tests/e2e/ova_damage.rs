//! Damage to copied bytes is never called success.

use std::os::unix::fs::FileExt;

use forklift_testkit::appliance::Appliance;
use forklift_testkit::stack::{Stack, has_condition};
use forklift_testkit::wait_for;

use crate::{NS, SHORT, disks, ready, slow_provider, step, vm};

const MIB: u64 = 1 << 20;

#[test]
fn a_flipped_byte_never_reaches_the_vm() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = folder.path().join("catalog");
    std::fs::create_dir(&catalog).expect("a catalog");
    Appliance { size: 320 * MIB, data: 256 * MIB, ..Appliance::new("big") }.make(&catalog).expect("an appliance");
    let mut stack = Stack::start(folder.path());
    slow_provider(&stack, "appliances", &catalog, 24 * MIB);
    stack.mtv(&[
        "create",
        "plan",
        "damage",
        "--source",
        "appliances",
        "--target",
        "host",
        "--vms",
        "big",
        "--target-namespace",
        "damage",
        "--skip-guest-conversion",
        "-n",
        NS,
    ]);
    ready(&stack, "damage");
    stack.mtv(&["start", "plan", "damage", "-n", NS]);
    wait_for("128 MiB are copied", SHORT, || {
        let plan = stack.get("plan", NS, "damage").ok_or("no plan")?;
        let done = vm(&plan, "big")
            .and_then(|vm| step(vm, "DiskTransfer"))
            .and_then(|step| step["progress"]["completed"].as_u64())
            .unwrap_or(0);
        if done >= 128 { Ok(()) } else { Err(format!("{done} MiB")) }
    });
    stack.kill();

    // a byte that was copied and recorded changes on the disk while nobody looks, in a chunk that is seldom among
    // those which a resumed copy looks at first (the first marked one, the last and two between): verification finds it
    let disks = disks(&stack);
    let [disk] = disks.as_slice() else { panic!("one disk expected: {disks:?}") };
    let file = std::fs::File::options().read(true).write(true).open(disk).expect("the disk can be opened");
    let (at, mut byte) = (6 * MIB + 4711, [0]);
    file.read_exact_at(&mut byte, at).expect("the disk can be read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("the disk can be written");

    stack.up();
    let plan = stack
        .wait("plan", NS, "damage", SHORT, |plan| has_condition(plan, "Failed") || has_condition(plan, "Succeeded"));
    if has_condition(&plan, "Succeeded") {
        // the chunk was among those that a resumed copy looks at, after all: then the copy has started over
        let mut now = [0];
        let file = std::fs::File::open(disk).expect("the disk is there");
        file.read_exact_at(&mut now, at).expect("the disk can be read");
        assert_eq!(now, byte, "a damaged disk passed: {plan:#}");
        return;
    }
    let reason = vm(&plan, "big").expect("the vm")["error"]["reasons"].to_string();
    assert!(reason.contains("verif"), "{reason}");
    assert!(stack.list("virtualmachines", "damage").is_empty(), "a VM was made of a damaged disk");
    println!("reason: {reason}");
}
