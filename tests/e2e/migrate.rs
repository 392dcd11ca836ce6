//! `forklift migrate`: one command, no cluster.

use std::process::Command;

use forklift_testkit::appliance::Appliance;
use forklift_testkit::program;

#[test]
fn one_command_migrates_and_boots() {
    let folder = tempfile::tempdir().expect("a folder");
    let ova = Appliance::new("tiny").make(folder.path()).expect("an appliance");
    let out = folder.path().join("out");
    let output = Command::new(program("forklift"))
        .args(["migrate", "--raw", "--boot", "--until", "tiny is running", "--to"])
        .args([&out, &ova])
        .output()
        .expect("forklift can be started");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("tiny is running"), "{stdout}\n{stderr}");
    assert!(out.join("tiny.yaml").exists(), "{stdout}\n{stderr}");
    // the disk is the appliance's, byte for byte: the guest writes nothing
    let copied = std::fs::read(out.join("tiny-disk0.img")).expect("the disk is there");
    let original = std::fs::read(folder.path().join("tiny.raw")).expect("the original");
    assert!(copied == original, "the disk differs from the appliance's");
}
