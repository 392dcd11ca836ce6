//! Open Policy Agent as upstream's validation service runs it: a server with a folder of rules, plain HTTP on loopback.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{peers, process, wait_for};

/// The most that one query may take.
const ANSWER: Duration = Duration::from_secs(300);

/// A running OPA server; ended when dropped.
pub struct Opa {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Opa {
    /// Returns the program `opa`, for its other commands (`opa test`, `opa check`).
    pub fn program() -> Option<PathBuf> {
        peers::go("opa", "opa")
    }

    /// Starts a server with all rule files of these files and folders and waits until it answers.
    ///
    /// Returns nothing where the program is missing (see [`peers`]).
    ///
    /// # Panics
    /// Where it does not come up, as it does when a rule file cannot be used; its log is in the message.
    pub fn start(rules: &[&Path]) -> Option<Self> {
        let program = Self::program()?;
        // the port is taken before it is used, so another process may be quicker
        let mut last = None;
        for _ in 0..3 {
            match Self::try_start(&program, rules) {
                Ok(server) => return Some(server),
                Err(error) => last = Some(error),
            }
        }
        panic!("opa does not come up: {:#}", last.expect("three tries failed"));
    }

    fn try_start(program: &Path, rules: &[&Path]) -> Result<Self> {
        let port = peers::free_port()?;
        let log = std::env::temp_dir().join(format!("forklift-peer-opa-{}-{port}.log", std::process::id()));
        let output = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let child = Command::new(program)
            .args(["run", "--server", "--disable-telemetry", "--log-level", "error", "--ignore", "*_test.rego"])
            .args(["--addr", &format!("127.0.0.1:{port}")])
            .args(rules)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Self { child, port, log };
        wait_for("an answer of opa", Duration::from_secs(60), || match server.child.try_wait() {
            Ok(Some(status)) => Ok(Err(anyhow::anyhow!("it ended with {status}: {}", server.words()))),
            _ => match request(server.port, "GET", "/health", b"") {
                Ok(_) => Ok(Ok(())),
                Err(error) => Err(format!("{error:#}")),
            },
        })?;
        Ok(server)
    }

    /// Returns the server's address, `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the server's resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        process::resident_memory(self.pid()).unwrap_or_default()
    }

    /// Returns the document at a path such as `io/konveyor/forklift/ova/validate` for an input; `None` when undefined.
    ///
    /// # Errors
    /// Where the server cannot be reached or answers with an error, whose words are in it.
    pub fn query(&self, path: &str, input: &Value) -> Result<Option<Value>> {
        let body = serde_json::to_vec(&json!({ "input": input }))?;
        let answer = request(self.port, "POST", &format!("/v1/data/{path}"), &body)
            .with_context(|| format!("opa, asked for {path}"))?;
        let mut answer: Value = serde_json::from_slice(&answer).context("opa's answer is no JSON")?;
        Ok(answer.get_mut("result").map(Value::take))
    }

    fn words(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Opa {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

/// One request by HTTP/1.0, whose answer ends with the connection: no chunks, no lengths.
fn request(port: u16, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("the answer has no end of headers")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let body = answer.split_off(end + 4);
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(!status.is_empty(), "the answer has no status");
    if status != "200" {
        bail!("status {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}
