//! Manifests from a user's view: signed, checked by the command, and never valid for other bytes.

mod support;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::*;

const SIZE: u64 = 18 * MIB;

/// The command as a user runs it.
fn disk(args: &[&str]) -> Output {
    Command::new(example()).args(args).output().expect("runs")
}

/// Returns the example that is the command alone; cargo builds it with the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("is running");
    let folder = test.parent().and_then(Path::parent).expect("has a folder");
    folder.join("examples").join("disk")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn keys(folder: &Path) -> (PathBuf, PathBuf) {
    let (key, public) = (folder.join("key.pem"), folder.join("public.pem"));
    run("openssl", &["genpkey", "-algorithm", "ed25519", "-out", text(&key)]);
    run("openssl", &["pkey", "-in", text(&key), "-pubout", "-out", text(&public)]);
    (key, public)
}

#[test]
fn a_signed_copy_is_checked_and_a_changed_byte_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| dir.path().join(name);
    let bytes = pattern(&path("source"), SIZE, 95);
    let (key, public) = keys(dir.path());
    let (source, target, manifest) = (path("source"), path("disk.img"), path("disk.img.manifest.json"));
    let output = disk(&["copy", text(&source), text(&target), "--sign-key", text(&key), "-o", "json"]);
    assert!(output.status.success(), "{}", said(&output));
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    assert_eq!((outcome["verified"].as_bool(), outcome["virtualSize"].as_u64()), (Some(true), Some(SIZE)));
    let check = ["verify", text(&target), text(&manifest), "--verify-key", text(&public)];
    let output = disk(&check);
    assert!(output.status.success() && said(&output).contains("the signature fits"), "{}", said(&output));

    // another key
    let other = path("other");
    std::fs::create_dir(&other).expect("makes");
    let (_, another) = keys(&other);
    let output = disk(&["verify", text(&target), "--verify-key", text(&another)]);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains("SignatureInvalid") && said(&output).contains("another key"), "{}", said(&output));

    // a byte of the disk
    let at = bytes.iter().rposition(|byte| *byte != 0).expect("has data");
    let file = std::fs::File::options().write(true).open(&target).expect("opens");
    file.write_all_at(&[bytes[at] ^ 4], at as u64).expect("flips a bit");
    let output = disk(&["verify", text(&target), "--source", text(&source)]);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains(&format!("at offset {at} ")), "{at}: {}", said(&output));

    // the manifest itself
    let text_of = std::fs::read_to_string(&manifest).expect("reads");
    std::fs::write(&manifest, text_of.replace("\"format\": \"raw\"", "\"format\": \"qcow2\"")).expect("writes");
    let output = disk(&check);
    assert!(said(&output).contains("the signature does not fit"), "{}", said(&output));
    std::fs::write(&manifest, text_of.replacen("\"chunks\": [", "\"chunks\": [{\"zeros\": 1},", 1)).expect("writes");
    let output = disk(&check);
    assert!(said(&output).contains("code: Malformed"), "{}", said(&output));
}

#[test]
fn a_command_that_cannot_work_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| dir.path().join(name);
    pattern(&path("source"), SIZE, 96);
    let (source, target) = (path("source"), path("disk.img"));
    let copy = |more: &[&str]| {
        let output = disk(&[&["copy", text(&source), text(&target)], more].concat());
        (output.status.code(), said(&output))
    };
    for (args, words) in [
        (&["--resume"] as &[&str], "there is no copy to go on with"),
        (&["--limit", "fast"], "write e.g. \"08:00-18:00=20MiB/s"),
        (&["--limit", "1M", "--limit-zone", "Nowhere/City"], "Nowhere/City"),
        (&["--sign-key", text(&source)], "is not a readable PEM file"),
        (&["--changed-ranges", text(&source)], "changed"),
        (&["--digest", "sha256:00"], "its manifest says 00"),
    ] {
        let (status, said) = copy(args);
        let words = if args[0] == "--changed-ranges" { "ranges at offset 0" } else { words };
        assert!(status == Some(3) && said.contains(words) && said.contains("\nhint: "), "{args:?}: {status:?} {said}");
    }
    std::fs::write(path("ranges"), r#"{"baseChangeId":"1","changeId":"2","ranges":[]}"#).expect("writes");
    let (status, said) = copy(&["--changed-ranges", text(&path("ranges"))]);
    assert!(status == Some(3) && said.contains("BaseMismatch"), "{said}");
}
