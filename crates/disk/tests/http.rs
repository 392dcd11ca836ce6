//! Disks behind HTTP: ranges, faults, changes, redirects, headers.

#[path = "support/server.rs"]
mod server;
mod support;

use forklift_disk::open::Options;
use forklift_disk::remote::Access;
use forklift_disk::{Disk, Watch};
use server::{Behaviour, Http};
use support::*;

const SIZE: u64 = 9 * MIB + 512;

struct Setup {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
    http: Http,
}

/// A server with a raw disk, a stream, a qcow2 over a base and an archive.
fn setup(behaviour: Behaviour) -> Setup {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    let bytes = pattern(&at("raw"), SIZE, 91);
    write_stream(&at("s.vmdk"), &bytes, Stream { level: 1, padding: 0 });
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", text(&at("raw")), text(&at("base.qcow2"))]);
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", text(&at("top.qcow2"))]);
    run("tar", &["-C", text(dir.path()), "-cf", text(&at("a.ova")), "s.vmdk"]);
    let http = Http::start(behaviour);
    for name in ["raw", "s.vmdk", "base.qcow2", "top.qcow2", "a.ova"] {
        http.put(name, std::fs::read(at(name)).expect("reads"));
    }
    Setup { dir, bytes, http }
}

#[test]
fn every_format_is_read_by_ranges() {
    let Setup { dir, bytes, http } = setup(Behaviour::default());
    for name in ["raw", "s.vmdk", "top.qcow2"] {
        let disk = Disk::open(&http.url(name), &Options::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!disk.sequential(), "{name}");
        assert_same(&read_all(&disk, 777_777), &bytes, name);
        copy_and_compare(&job(&http.url(name), &dir.path().join(format!("{name}.img"))), &bytes, name);
    }
    let mut job = job(&http.url("a.ova"), &dir.path().join("member.img"));
    job.open.member = Some("s.vmdk".into());
    copy_and_compare(&job, &bytes, "member of an archive");
}

#[test]
fn answers_that_break_off_and_busy_servers_cost_only_time() {
    let behaviour = Behaviour { cut_every: 3, busy_every: 7, ..Behaviour::default() };
    let Setup { dir, bytes, http } = setup(behaviour);
    copy_and_compare(&job(&http.url("s.vmdk"), &dir.path().join("disk.img")), &bytes, "with faults");
    assert!(http.requests() > 12, "{} requests", http.requests());
}

#[test]
fn a_server_without_ranges_is_read_forwards() {
    let Setup { dir, bytes, http } = setup(Behaviour { ranges: false, ..Behaviour::default() });
    for name in ["raw", "s.vmdk"] {
        let disk = Disk::open(&http.url(name), &Options::default()).expect("opens");
        assert!(disk.sequential(), "{name}");
        copy_and_compare(&job(&http.url(name), &dir.path().join(format!("{name}.img"))), &bytes, name);
    }
}

#[test]
fn a_file_that_changes_is_refused() {
    let Setup { dir, http, bytes } = setup(Behaviour::default());
    let disk = Disk::open(&http.url("raw"), &Options::default()).expect("opens");
    let mut buf = vec![0; 1 << 20];
    disk.image().read_at(&mut buf, 0).expect("reads");
    http.set(|behaviour| behaviour.etag = Some("\"two\"".into()));
    let error = disk.image().read_at(&mut buf, 0).expect_err("another ETag");
    assert_eq!(error.code(), "SourceChanged", "{error}");
    assert!(error.to_string().contains("ETag"), "{error}");
    // without an ETag the size is what is left
    http.set(|behaviour| behaviour.etag = None);
    let disk = Disk::open(&http.url("raw"), &Options::default()).expect("opens");
    http.put("raw", bytes[..5 << 20].to_vec());
    let error = disk.image().read_at(&mut buf, 0).expect_err("another size");
    assert_eq!(error.code(), "SourceChanged", "{error}");
    // a copy that was begun is not gone on with
    http.set(|behaviour| behaviour.etag = Some("\"three\"".into()));
    let job = job(&http.url("s.vmdk"), &dir.path().join("disk.img"));
    let disk = Disk::open(&job.source, &job.open).expect("opens");
    let before = disk.stamp().expect("a stamp");
    http.set(|behaviour| behaviour.etag = Some("\"four\"".into()));
    assert_ne!(disk.stamp().expect("a stamp"), before);
}

#[test]
fn headers_go_to_their_host_only() {
    let Setup { dir, bytes, http } =
        setup(Behaviour { authorization: Some("Bearer secret".into()), ..Behaviour::default() });
    let error = Disk::open(&http.url("raw"), &Options::default()).err().expect("nobody");
    assert!(error.chain().contains("401") && !error.retryable(), "{}", error.chain());
    let file = dir.path().join("headers");
    std::fs::write(&file, "# for the test\nAuthorization: Bearer secret\n").expect("writes");
    let mut access = Access::default();
    access.header_file = Some(file);
    let mut copy = job(&http.url("raw"), &dir.path().join("disk.img"));
    copy.open.access = access.clone();
    copy_and_compare(&copy, &bytes, "with a header");

    // a redirect to another host: the bytes come, the secret does not go there
    let mirror = Http::start(Behaviour::default());
    mirror.put("raw", bytes.clone());
    let target = mirror.url("").display().to_string();
    http.set(|behaviour| behaviour.redirect = Some(target.trim_end_matches('/').into()));
    copy.target = dir.path().join("mirrored.img");
    copy_and_compare(&copy, &bytes, "redirected");
    assert!(mirror.requests() > 0 && !mirror.saw("secret"));
    // round and round
    let own = http.url("").display().to_string();
    http.set(|behaviour| behaviour.redirect = Some(own.trim_end_matches('/').into()));
    let error = Disk::open(&copy.source, &copy.open).err().expect("a circle");
    assert!(error.to_string().contains("redirects"), "{error}");
}

#[test]
fn what_is_not_there_or_beside_it_is_refused() {
    let Setup { http, dir, .. } = setup(Behaviour::default());
    let error = Disk::open(&http.url("missing"), &Options::default()).err().expect("is not there");
    assert!(error.chain().contains("404"), "{}", error.chain());
    let evil = dir.path().join("evil.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-u", "-b", "../../etc/passwd", "-F", "raw", text(&evil), "1M"]);
    http.put("evil.qcow2", std::fs::read(&evil).expect("reads"));
    let error = Disk::open(&http.url("evil.qcow2"), &Options::default()).err().expect("leads out");
    assert_eq!(error.code(), "UnsupportedFormat", "{error}");
    let outcome = job(&http.url("missing"), &dir.path().join("disk.img")).run(&Watch::new());
    assert_eq!(outcome.expect_err("is not there").code(), "SourceUnreadable");
}

/// A session whose number the server wants; it expires while the copy runs.
struct Session(std::sync::atomic::AtomicUsize);

impl forklift_disk::remote::Login for Session {
    fn headers(&self, refused: bool) -> std::io::Result<Vec<(String, String)>> {
        use std::sync::atomic::Ordering::SeqCst;
        let number = if refused { self.0.fetch_add(1, SeqCst) + 1 } else { self.0.load(SeqCst) };
        Ok(vec![("Authorization".into(), format!("session {number}"))])
    }
}

#[test]
fn a_session_that_expires_is_begun_anew_by_each_copy_once() {
    let behaviour = Behaviour { authorization: Some("session 2".into()), ..Behaviour::default() };
    let Setup { dir, bytes, http } = setup(behaviour);
    let session = std::sync::Arc::new(Session(1.into()));
    let mut job = job(&http.url("raw"), &dir.path().join("disk.img"));
    job.open.access.login = Some(session.clone());
    copy_and_compare(&job, &bytes, "logged in again");
    assert_eq!(session.0.load(std::sync::atomic::Ordering::SeqCst), 2, "one new session is enough");
    // who is refused with a new session too is refused
    http.set(|behaviour| behaviour.authorization = Some("session 9".into()));
    job.target = dir.path().join("other.img");
    let error = job.run(&Watch::new()).expect_err("is refused");
    assert!(error.chain().contains("401") && !error.retryable(), "{}", error.chain());
}
