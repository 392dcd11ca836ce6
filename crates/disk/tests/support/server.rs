//! Servers that the tests talk to: child processes that end with their test, and an HTTP server
//! whose faults are set.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A server process behind a Unix socket.
pub struct Server {
    child: Child,
    /// The socket.
    pub socket: PathBuf,
}

impl Server {
    /// Starts a program and waits until its socket takes connections.
    pub fn start(socket: &Path, command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut server = Self { child, socket: socket.to_owned() };
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            assert!(Instant::now() < deadline, "{command:?} does not listen");
            assert!(server.child.try_wait().expect("waits").is_none(), "{command:?} ended");
            std::thread::yield_now();
        }
        server
    }

    /// nbdkit with a plugin, filters and their parameters.
    pub fn nbdkit(folder: &Path, arguments: &[&str]) -> Self {
        let socket = folder.join(format!("nbdkit{}.sock", unique()));
        let mut command = Command::new("nbdkit");
        command.args(["-f", "--exit-with-parent", "-U"]).arg(&socket).args(arguments);
        Self::start(&socket, &mut command)
    }

    /// qemu-nbd with its arguments, for any number of clients.
    pub fn qemu_nbd(folder: &Path, arguments: &[&str]) -> Self {
        let socket = folder.join(format!("qemu{}.sock", unique()));
        let mut command = Command::new("qemu-nbd");
        command.args(["-t", "-e", "16", "-k"]).arg(&socket).args(arguments);
        Self::start(&socket, &mut command)
    }

    /// The URI of an export.
    pub fn uri(&self, export: &str) -> PathBuf {
        format!("nbd+unix:///{export}?socket={}", self.socket.display()).into()
    }

    /// The process, for signals.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        // it may have ended already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn unique() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// How the HTTP server behaves.
#[derive(Clone)]
pub struct Behaviour {
    /// Whether it knows ranges.
    pub ranges: bool,
    /// Its ETag; none to send none.
    pub etag: Option<String>,
    /// Each so-many-th answer is cut in the middle.
    pub cut_every: usize,
    /// Each so-many-th request is answered 503.
    pub busy_every: usize,
    /// A header that requests need.
    pub authorization: Option<String>,
    /// Requests for files are redirected to this prefix.
    pub redirect: Option<String>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            ranges: true,
            etag: Some("\"one\"".into()),
            cut_every: 0,
            busy_every: 0,
            authorization: None,
            redirect: None,
        }
    }
}

/// An HTTP server on loopback that serves files from memory.
pub struct Http {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    files: Mutex<BTreeMap<String, Arc<Vec<u8>>>>,
    behaviour: Mutex<Behaviour>,
    requests: AtomicUsize,
    /// Headers of all requests, for what must not have been sent.
    seen: Mutex<Vec<String>>,
}

impl Http {
    /// Starts it.
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State {
            files: Mutex::default(),
            behaviour: Mutex::new(behaviour),
            requests: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || while let Some(true) = serve(&stream, &state) {});
            }
        });
        Self { address, state }
    }

    /// Puts a file there.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.state.files.lock().expect("files").insert(format!("/{name}"), Arc::new(bytes));
    }

    /// Changes how it behaves.
    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state.behaviour.lock().expect("behaviour"));
    }

    /// The URL of a file.
    pub fn url(&self, name: &str) -> PathBuf {
        format!("http://{}/{name}", self.address).into()
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Whether a request had this text in its headers.
    pub fn saw(&self, text: &str) -> bool {
        self.state.seen.lock().expect("seen").iter().any(|line| line.contains(text))
    }
}

/// Answers one request; none at the end of the connection, false to end it.
fn serve(stream: &TcpStream, state: &State) -> Option<bool> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    state.seen.lock().expect("seen").extend(lines.iter().cloned());
    let header = |name: &str| {
        lines.iter().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let number = state.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let behaviour = state.behaviour.lock().expect("behaviour").clone();
    let path = lines.first()?.split(' ').nth(1)?.to_owned();
    let every = |count: usize| count > 0 && number % count == 0;
    let mut out = stream;
    let mut answer =
        |head: String, body: &[u8]| out.write_all(head.as_bytes()).and_then(|()| out.write_all(body)).is_ok();
    let empty = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\n\r\n");
    if let Some(prefix) = &behaviour.redirect {
        return Some(answer(empty("302 Found", &format!("Location: {prefix}{path}\r\n")), &[]));
    }
    if behaviour.authorization.is_some() && header("authorization") != behaviour.authorization {
        return Some(answer(empty("401 Unauthorized", ""), &[]));
    }
    if every(behaviour.busy_every) {
        return Some(answer(empty("503 Service Unavailable", ""), &[]));
    }
    let Some(file) = state.files.lock().expect("files").get(&path).cloned() else {
        return Some(answer(empty("404 Not Found", ""), &[]));
    };
    let etag = behaviour.etag.clone().map(|etag| format!("ETag: {etag}\r\n")).unwrap_or_default();
    let condition = header("if-range").is_none_or(|wanted| Some(wanted) == behaviour.etag);
    let range = header("range").filter(|_| behaviour.ranges && condition).and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?.min(file.len() - 1)))
    });
    let (status, body) = match range {
        Some((first, last)) => (
            format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/{}", file.len()),
            file.get(first..=last).unwrap_or_default(),
        ),
        None => ("200 OK".to_owned(), file.as_slice()),
    };
    let head = format!("HTTP/1.1 {status}\r\n{etag}Content-Length: {}\r\n\r\n", body.len());
    if every(behaviour.cut_every) && body.len() > 1 {
        let _ = answer(head, &body[..body.len() / 2]);
        return Some(false);
    }
    Some(answer(head, body))
}
