//! NBD against the servers that there are: nbdkit with its plugins and filters, qemu-nbd.

#[path = "support/server.rs"]
mod server;
mod support;

use std::path::Path;

use forklift_disk::nbd::{Client, Uri};
use forklift_disk::open::Options;
use forklift_disk::remote::Access;
use forklift_disk::{Disk, Format, Watch};
use server::Server;
use support::*;

const SIZE: u64 = 9 * MIB + 512;

fn disk(server: &Server, export: &str) -> Disk {
    Disk::open(&server.uri(export), &Options::default()).unwrap_or_else(|error| panic!("{}", error.chain()))
}

fn client(server: &Server) -> Client {
    let uri: Uri = text(&server.uri("")).parse().expect("a URI");
    Client::connect(&uri, &Access::default()).unwrap_or_else(|error| panic!("{}", error.chain()))
}

#[test]
fn a_file_behind_nbdkit_with_and_without_what_newer_servers_have() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let raw = dir.path().join("raw");
    let bytes = pattern(&raw, SIZE, 81);
    let file = text(&raw);
    for (number, arguments) in [
        &["-r", "file", file][..],
        // simple replies, no block status
        &["-r", "--no-sr", "file", file],
        // EXPORT_NAME instead of GO
        &["-r", "--mask-handshake=1", "file", file],
        // one connection, one request at a time
        &["-r", "-t", "1", "--filter=noparallel", "file", file, "serialize=requests"],
        // reads in blocks only
        &[
            "-r",
            "--filter=blocksize-policy",
            "file",
            file,
            "blocksize-minimum=512",
            "blocksize-maximum=65536",
            "blocksize-error-policy=error",
        ],
        &["-r", "--filter=readahead", "file", file],
    ]
    .iter()
    .enumerate()
    {
        let server = Server::nbdkit(dir.path(), arguments);
        let disk = disk(&server, "");
        assert_same(&read_all(&disk, 777_777), &bytes, &format!("{arguments:?}"));
        let target = dir.path().join(format!("disk{number}.img"));
        copy_and_compare(&job(&server.uri(""), &target), &bytes, &format!("{arguments:?}"));
    }
}

#[test]
fn holes_are_not_read() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::nbdkit(dir.path(), &["sparse-random", "256M", "seed=7", "percent=10", "runlength=262144"]);
    let disk = disk(&server, "");
    let stored = disk.data_bytes(0..disk.size()).expect("maps");
    assert!(stored > 0 && stored < 64 << 20, "{stored}");
    let target = dir.path().join("disk.img");
    let outcome = job(&server.uri(""), &target).run(&Watch::new()).expect("copies");
    assert!(outcome.read < 64 << 20, "{} bytes read", outcome.read);
    let compare = format!("nbd+unix:///?socket={}", server.socket.display());
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", text(&target), &compare]);
}

#[test]
fn servers_that_fail_and_stall_cost_only_time() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let raw = dir.path().join("raw");
    let bytes = pattern(&raw, 4 * MIB, 82);
    let errors = ["-r", "--filter=error", "file", text(&raw), "error=EIO", "error-pread-rate=2%"];
    let delay = ["-r", "--filter=delay", "file", text(&raw), "rdelay=20ms"];
    for (name, arguments) in [("errors", &errors[..]), ("delay", &delay[..])] {
        let server = Server::nbdkit(dir.path(), arguments);
        copy_and_compare(&job(&server.uri(""), &dir.path().join(name)), &bytes, name);
    }
    let server = Server::nbdkit(
        dir.path(),
        &["-r", "--filter=error", "file", text(&raw), "error=EPERM", "error-pread-rate=100%"],
    );
    let mut job = job(&server.uri(""), &dir.path().join("refused"));
    job.open.format = Some(Format::Raw);
    let error = job.run(&Watch::new()).expect_err("every read fails");
    assert_eq!((error.code(), error.retryable()), ("SourceUnreadable", false), "{}", error.chain());
}

#[test]
fn a_server_that_is_restarted_is_gone_on_with() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let raw = dir.path().join("raw");
    let bytes = pattern(&raw, 4 * MIB, 83);
    let socket = dir.path().join("again.sock");
    let start = |file: &Path| {
        // a socket of a server that crashed is in the way
        let _ = std::fs::remove_file(&socket);
        let mut command = std::process::Command::new("nbdkit");
        command.args(["-f", "--exit-with-parent", "-r", "-U"]).arg(&socket).arg("file").arg(file);
        Server::start(&socket, &mut command)
    };
    let mut server = start(&raw);
    let disk = disk(&server, "");
    let mut buf = vec![0; 1 << 20];
    disk.image().read_at(&mut buf, 0).expect("reads");
    server.kill();
    let mut server = start(&raw);
    disk.image().read_at(&mut buf, MIB).expect("reads from the new server");
    assert_same(&buf, &bytes[1 << 20..2 << 20], "after the restart");
    server.kill();
    let other = dir.path().join("other");
    std::fs::write(&other, vec![1; 1 << 20]).expect("writes");
    let _server = start(&other);
    let error = disk.image().read_at(&mut buf, 0).expect_err("another export");
    assert_eq!(error.code(), "SourceChanged", "{}", error.chain());
}

#[test]
fn images_that_qemu_nbd_exports() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (raw, image) = (dir.path().join("raw"), dir.path().join("image.qcow2"));
    let bytes = pattern(&raw, SIZE, 84);
    run("qemu-img", &["convert", "-c", "-f", "raw", "-O", "qcow2", text(&raw), text(&image)]);
    let server = Server::qemu_nbd(dir.path(), &["-r", "-f", "qcow2", "-x", "a disk", text(&image)]);
    let uri = server.uri("a%20disk");
    copy_and_compare(&job(&uri, &dir.path().join("disk.img")), &bytes, "through qemu-nbd");
    let error = Disk::open(&server.uri("other"), &Options::default()).err().expect("no such export");
    assert!(error.chain().contains("other"), "{}", error.chain());
    // the file itself, as it is stored: the format is ours to read
    let server = Server::qemu_nbd(dir.path(), &["-r", "-f", "raw", text(&image)]);
    let found = disk(&server, "");
    assert_eq!(found.format(), Format::Qcow2);
    copy_and_compare(&job(&server.uri(""), &dir.path().join("disk2.img")), &bytes, "qcow2 over NBD");
}

#[test]
fn tls_with_a_certificate_of_an_own_authority() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let raw = dir.path().join("raw");
    let bytes = pattern(&raw, 2 * MIB, 85);
    let at = |name: &str| dir.path().join(name);
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    let make = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
    let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
    let (key, cert) = (at("server-key.pem"), at("server-cert.pem"));
    // an authority, and a server's certificate by it
    let (ca_key, ca) = (at("ca-key.pem"), at("ca-cert.pem"));
    run("openssl", &[&make[..], &["-subj", "/CN=authority", "-keyout", text(&ca_key), "-out", text(&ca)]].concat());
    let by = ["-CA", text(&ca), "-CAkey", text(&ca_key), "-keyout", text(&key), "-out", text(&cert)];
    run("openssl", &[&make[..], &subject, &leaf, &by].concat());
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let number = port.to_string();
    let folder = format!("--tls-certificates={}", dir.path().display());
    let mut child = std::process::Command::new("nbdkit")
        .args([
            "-f",
            "--exit-with-parent",
            "--tls=require",
            &folder,
            "-i",
            "127.0.0.1",
            "-p",
            &number,
            "-r",
            "file",
            text(&raw),
        ])
        .spawn()
        .expect("nbdkit starts");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < deadline, "nbdkit does not listen");
        std::thread::yield_now();
    }
    let mut job = job(Path::new(&format!("nbds://localhost:{port}/")), &at("disk.img"));
    let mut access = Access::default();
    access.ca = Some(ca.clone());
    job.open.access = access;
    copy_and_compare(&job, &bytes, "over TLS");
    let plain = Disk::open(Path::new(&format!("nbd://localhost:{port}/")), &job.open).err().expect("wants TLS");
    assert!(plain.chain().contains("nbds://"), "{}", plain.chain());
    job.open.access.ca = Some(cert.clone());
    let error = Disk::open(&job.source, &job.open).err();
    assert!(error.is_none_or(|error| error.code() == "SourceUnreadable"), "a stranger's certificate is refused");
    child.kill().and_then(|()| child.wait()).expect("nbdkit ends");
}

#[test]
fn writes_zeroes_trims_and_flushes() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for arguments in [
        &["memory", "64M"][..],
        &["--filter=nozero", "memory", "64M"],
        &["--filter=nozero", "memory", "64M", "zeromode=notrim"],
        &["--filter=fua", "memory", "64M", "fuamode=emulate"],
        &["--filter=blocksize-policy", "memory", "64M", "blocksize-minimum=512", "blocksize-error-policy=error"],
    ] {
        let server = Server::nbdkit(dir.path(), arguments);
        let client = client(&server);
        client.write_at(&[0x77; 1 << 20], 3 << 20).expect("writes");
        client.zero((3 << 20) + 4096, 8192, false).expect("zeroes");
        client.zero((3 << 20) + 65_536, 512, true).expect("zeroes thickly");
        client.trim(40 << 20, 1 << 20).expect("trims");
        client.flush().expect("flushes");
        let mut wanted = vec![0x77; 1 << 20];
        wanted[4096..12_288].fill(0);
        wanted[65_536..66_048].fill(0);
        let mut found = vec![1; 1 << 20];
        client.read_at(&mut found, 3 << 20).expect("reads");
        assert_same(&found, &wanted, &format!("{arguments:?}"));
    }
    let server = Server::nbdkit(
        dir.path(),
        &["--filter=blocksize-policy", "memory", "1M", "blocksize-minimum=4096", "blocksize-error-policy=error"],
    );
    let error = client(&server).write_at(&[1; 512], 512).expect_err("not a whole block");
    assert!(error.to_string().contains("4096"), "{error}");
}

#[test]
fn a_flush_fails_where_the_server_forgot() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::nbdkit(dir.path(), &["memory", "8M"]);
    let client = client(&server);
    client.write_at(&[1; 4096], 0).expect("writes");
    server.kill();
    let error = client.write_at(&[1; 4096], 4096).expect_err("the server is gone");
    assert!(error.to_string().contains("not flushed"), "{error}");
    assert!(client.flush().is_err());
}

#[test]
fn a_disk_is_served_to_qemu_and_libnbd() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let raw = dir.path().join("raw");
    let bytes = pattern(&raw, SIZE, 83);
    let disk = Disk::open(&raw, &Options { format: Some(Format::Raw), ..Options::default() }).expect("opens");
    let socket = dir.path().join("s");
    let server = forklift_disk::nbd::serve::Server::start(&socket, disk.into_image().into()).expect("it listens");
    let copy = dir.path().join("copy");
    run(
        "qemu-img",
        &["convert", "-f", "raw", "-O", "raw", &server.uri().replace("nbd://", "nbd+unix:///"), text(&copy)],
    );
    assert_same(&std::fs::read(&copy).expect("a copy"), &bytes, "qemu-img");
    let mut nbdinfo = std::process::Command::new("nbdinfo");
    let told =
        nbdinfo.arg("--json").arg(server.uri().replace("nbd://", "nbd+unix:///")).output().expect("nbdinfo runs");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("\"is_read_only\": true") && told.contains(&SIZE.to_string()), "{told}");
    assert!(server.served() >= SIZE && server.failure().is_none());
}
