//! `forklift policy` as a program: the service with a folder of rules that changes, and its exit codes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_forklift");
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::yield_now();
    }
}

/// Asks for the concerns of a VM, by HTTP/1.0: the answer ends with the connection.
fn concerns(address: &str) -> Option<String> {
    let body = r#"{"input":{"name":"vm","exportSource":"VMware"}}"#;
    let mut stream = TcpStream::connect(address).ok()?;
    let path = "/v1/data/io/konveyor/forklift/ova/validate";
    write!(stream, "POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

#[test]
fn the_service_takes_rules_while_it_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (rules, ready) = (folder.path().join("rules"), folder.path().join("ready"));
    std::fs::create_dir(&rules).expect("writable");
    let child = Command::new(PROGRAM)
        .args(["policy", "serve", "--listen", "127.0.0.1:0", "--rules"])
        .arg(&rules)
        .arg("--ready-file")
        .arg(&ready)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let _service = Service(child);
    let url = until("the address", || std::fs::read_to_string(&ready).ok().filter(|url| !url.is_empty()));
    let address = url.trim_start_matches("http://");
    let first = until("an answer", || concerns(address));
    assert_eq!(first.trim_end(), r#"{"result":{"concerns":[],"errors":[],"rules_version":5}}"#);
    let text = "package io.konveyor.forklift.ova\nconcerns[c] { input.name; c := {\"id\": \"site\"} }\n";
    std::fs::write(rules.join("site.rego"), text).expect("writable");
    let answer = until("the new rule", || concerns(address).filter(|answer| answer.contains("\"site\"")));
    assert!(!answer.contains("\"rules_version\":5}"), "the version tells that the rules changed: {answer}");
    std::fs::remove_file(rules.join("site.rego")).expect("removable");
    until("the bundled rules", || concerns(address).filter(|answer| *answer == first));
}

#[test]
fn exit_codes_tell_what_happened() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let test = |text: &str| {
        let path = folder.path().join("a_test.rego");
        std::fs::write(&path, format!("package io.konveyor.forklift.ova\nimport rego.v1\n{text}\n")).expect("writable");
        code(&["policy", "test", path.to_str().expect("UTF-8")], folder.path())
    };
    assert_eq!(test("test_yes if 1 == 1"), Some(0));
    assert_eq!(test("test_no if 1 == 2"), Some(1));
    assert_eq!(code(&["policy", "test", "/nowhere"], folder.path()), Some(2));
    assert_eq!(code(&["policy", "eval", "-p", "ova", "--inventory", "http://127.0.0.1:9"], folder.path()), Some(2));
}

fn code(arguments: &[&str], folder: &Path) -> Option<i32> {
    let output = Command::new(PROGRAM).args(arguments).current_dir(folder).output().expect("it runs");
    output.status.code()
}
