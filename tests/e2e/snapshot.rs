//! A snapshot of a running stack becomes another stack.

use std::path::Path;
use std::process::Command;

use forklift_testkit::program;
use forklift_testkit::stack::Stack;

/// Runs forklift; returns whether it succeeded, and what it said.
fn forklift(args: &[&str]) -> (bool, String) {
    let output = Command::new(program("forklift")).args(args).output().expect("forklift can be started");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_snapshot_of_a_running_stack_starts_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two, file) =
        (folder.path().join("one"), folder.path().join("two"), folder.path().join("objects.snapshot"));
    std::fs::create_dir_all(&one).expect("a folder");
    std::fs::create_dir_all(&two).expect("a folder");
    let stack = Stack::start(&one);
    stack.kubectl(&["create", "configmap", "kept", "--from-literal=k=v"]);
    let data = stack.data();
    let (good, said) = forklift(&["snapshot", "--data-dir", text(&data), text(&file)]);
    assert!(good && said.contains("objects at revision"), "{said}");
    let (good, said) = forklift(&["snapshot", "--data-dir", text(&data), text(&file)]);
    assert!(!good && said.contains("exists already: choose another name"), "{said}");
    stack.kubectl(&["create", "configmap", "later", "--from-literal=k=v"]);
    let before = stack.get("configmap", "default", "later").expect("it was made");
    let (good, said) =
        forklift(&["up", "--listen", "127.0.0.1:0", "--data-dir", text(&data), "--restore", text(&file)]);
    assert!(!good && said.contains("another server"), "a running stack is not overwritten: {said}");
    drop(stack);
    let (good, said) =
        forklift(&["up", "--listen", "127.0.0.1:0", "--data-dir", text(&data), "--restore", text(&file)]);
    assert!(!good && said.contains("has a store already"), "{said}");

    let restored = Stack::start_with(&two, &["--restore", text(&file)]);
    let kept = restored.get("configmap", "default", "kept").expect("it is in the snapshot");
    assert_eq!(kept["data"]["k"], "v");
    assert!(restored.get("configmap", "default", "later").is_none(), "it was made after the snapshot");
    restored.kubectl(&["create", "configmap", "new", "--from-literal=k=v"]);
    let new = restored.get("configmap", "default", "new").expect("it was made");
    let revision =
        |o: &serde_json::Value| o["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse::<u64>().ok());
    assert!(revision(&new) > revision(&before), "{new:#}");
}
