use std::time::Duration;

use forklift_api::worker::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;

const SIZE: usize = 20 << 20;

struct Fixture {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let bytes: Vec<u8> = (0..SIZE as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        std::fs::write(dir.path().join("disk.raw"), &bytes).expect("writes the source");
        Self { dir, bytes }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("temporary paths are text").to_owned()
    }

    fn spec(&self) -> ImportSpec {
        ImportSpec {
            source: ImportSource::File {
                path: self.path("disk.raw"),
                member: None,
                format: Some("raw".into()),
                compression: None,
                digest: None,
            },
            target: self.path("disk.img"),
            volume_mode: VolumeMode::Filesystem,
            virtual_size: Some(SIZE as u64),
            identity: "disk.raw of the test".into(),
            verify: Verify::Full,
            bandwidth: None,
            options: Default::default(),
        }
    }

    fn target(&self) -> Vec<u8> {
        std::fs::read(self.path("disk.img")).expect("reads the target")
    }
}

async fn import_now(spec: ImportSpec) -> ImportResult {
    import(spec, None, std::future::pending()).await
}

fn error(result: ImportResult) -> WorkerError {
    result.error.expect("fails")
}

async fn get_progress(address: SocketAddr) -> ImportProgress {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(b"GET /progress HTTP/1.0\r\n\r\n").await.expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answers");
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("has a body");
    serde_json::from_str(body).expect("is an ImportProgress")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_import_is_not_repeated() {
    let fixture = Fixture::new();
    let first = import_now(fixture.spec()).await;
    assert_eq!(first.error, None);
    assert_eq!((first.bytes_total, first.bytes_written, first.verified), (SIZE as u64, SIZE as u64, true));
    assert!(first.digest.as_deref().is_some_and(|digest| digest.starts_with("blake3:")));
    assert!(fixture.target() == fixture.bytes, "the target is the source");
    // not even the source is needed any more
    std::fs::remove_file(fixture.path("disk.raw")).expect("removes");
    let second = import_now(fixture.spec()).await;
    assert_eq!((second.bytes_written, second.digest, second.error), (0, first.digest, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_served_and_an_ended_import_goes_on() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec();
    // the first chunk is let through, the others would need half an hour each
    spec.bandwidth = Some(2 << 10);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("has an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(import(spec, Some(listener), async move {
        let _ = stopped.await;
    }));
    let seen = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let progress = get_progress(address).await;
            // one whole chunk: a part of one would be copied again
            if progress.bytes_done >= 4 << 20 {
                return progress;
            }
            tokio::task::yield_now().await;
        }
    });
    let seen = seen.await.expect("makes progress");
    assert_eq!((seen.phase, seen.bytes_total), (ImportPhase::Copying, SIZE as u64));
    assert!(seen.bytes_written > 0 && seen.bytes_written < SIZE as u64, "{seen:?}");
    // as SIGTERM does
    stop.send(()).expect("still runs");
    let ended = error(running.await.expect("ends"));
    assert_eq!((ended.code.as_str(), ended.retryable), ("Cancelled", true));
    assert!(std::fs::exists(fixture.path("disk.img.chunks")).expect("looks"), "the chunk map is kept");
    let result = import_now(fixture.spec()).await;
    assert_eq!(result.error, None);
    assert!(result.bytes_resumed > 0, "{result:?}");
    assert_eq!(result.bytes_resumed + result.bytes_written, SIZE as u64);
    assert!(fixture.target() == fixture.bytes, "the target is the source");
    assert!(!std::fs::exists(fixture.path("disk.img.chunks")).expect("looks"), "the chunk map is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_volume_keeps_its_size() {
    let fixture = Fixture::new();
    let device = fixture.path("device");
    std::fs::write(&device, vec![0xee; SIZE + (1 << 20)]).expect("makes the device");
    let spec = ImportSpec { target: device.clone(), volume_mode: VolumeMode::Block, ..fixture.spec() };
    let result = import_now(spec.clone()).await;
    assert_eq!(result.error, None);
    let found = std::fs::read(&device).expect("reads");
    assert_eq!(found.len(), SIZE + (1 << 20));
    assert!(found[..SIZE] == fixture.bytes, "the device holds the source");
    // one that is too small
    let small = fixture.path("small");
    std::fs::write(&small, vec![0; SIZE - 512]).expect("makes the device");
    let refused = error(import_now(ImportSpec { target: small, ..spec }).await);
    assert_eq!((refused.code.as_str(), refused.retryable), ("TargetTooSmall", false));
    assert!(refused.message.contains(&(SIZE - 512).to_string()), "{}", refused.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_is_permanent() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec();
    let ImportSource::File { digest, .. } = &mut spec.source else { unreachable!("the fixture is a file") };
    *digest = Some(Digest { algorithm: "SHA256".into(), hex: "00".repeat(32) });
    let refused = error(import_now(spec).await);
    assert_eq!((refused.code.as_str(), refused.retryable), ("DigestMismatch", false));
    assert!(refused.hint.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_cannot_be_carried_out_are_permanent() {
    let fixture = Fixture::new();
    let with = |change: fn(&mut ImportSource)| {
        let mut spec = fixture.spec();
        change(&mut spec.source);
        spec
    };
    let format = with(|source| {
        if let ImportSource::File { format, .. } = source {
            *format = Some("vdi".into());
        }
    });
    let compression = with(|source| {
        if let ImportSource::File { compression, .. } = source {
            *compression = Some("bzip2".into());
        }
    });
    let missing = with(|source| {
        if let ImportSource::File { member, .. } = source {
            *member = Some("disk.vmdk".into());
        }
    });
    let small = ImportSpec { virtual_size: Some(1 << 20), ..fixture.spec() };
    for (spec, code) in [
        (format, "UnsupportedFormat"),
        (compression, "UnsupportedFormat"),
        (missing, "Malformed"),
        (small, "TargetTooSmall"),
        (with(|source| *source = ImportSource::Http { url: "http://[".into() }), "UnsupportedFormat"),
    ] {
        let refused = error(import_now(spec).await);
        assert_eq!((refused.code.as_str(), refused.retryable), (code, false), "{}", refused.message);
    }
    assert_eq!(read_spec(None).expect_err("no order").code, "InvalidOrder");
    assert_eq!(read_spec(Some("{".into())).expect_err("no JSON").code, "InvalidOrder");
}

#[test]
fn the_termination_message_is_whole_json() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("log");
    let result = failed(Instant::now(), &Watch::new(), invalid("ä".repeat(5000)));
    leave(&path, &result);
    let text = std::fs::read(&path).expect("reads");
    assert!(text.len() <= MESSAGE);
    let left: ImportResult = serde_json::from_slice(&text).expect("is JSON");
    assert_eq!(left.error.expect("has the error").code, "InvalidOrder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_of_changes_reads_only_these_and_needs_its_base() {
    use std::os::unix::fs::FileExt;
    let mut fixture = Fixture::new();
    let mut spec = fixture.spec();
    spec.options.change_id = Some("1".into());
    let whole = import_now(spec).await;
    assert_eq!((whole.error, whole.change_id.as_deref()), (None, Some("1")));
    let source = std::fs::File::options().write(true).open(fixture.path("disk.raw")).expect("opens");
    source.write_all_at(&[0x5a; 4096], 9 << 20).expect("changes");
    fixture.bytes[9 << 20..][..4096].fill(0x5a);
    let ranges = r#"{"baseChangeId":"BASE","changeId":"2","ranges":[{"start":9437184,"length":4096}]}"#;
    let round = |base: &str| {
        std::fs::write(fixture.path("ranges"), ranges.replace("BASE", base)).expect("writes");
        let mut spec = fixture.spec();
        spec.options.changed_ranges = Some(fixture.path("ranges"));
        spec.options.limit = Some("00:00-24:00=1G/s, else pause".into());
        import_now(spec)
    };
    let other = error(round("7").await);
    assert_eq!((other.code.as_str(), other.retryable), ("BaseMismatch", false));
    let result = round("1").await;
    assert_eq!((&result.error, result.change_id.as_deref()), (&None, Some("2")));
    // besides a look at the first and last sector, which tell the format
    assert!(result.bytes_written == 4096 && (4096..=5120).contains(&result.bytes_read), "{result:?}");
    assert!(fixture.target() == fixture.bytes, "the target is the source");
    let mut spec = fixture.spec();
    spec.options.limit = Some("fast".into());
    assert_eq!(error(import_now(spec).await).code, "Usage");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_copied_as_the_bytes_that_it_is() {
    let mut fixture = Fixture::new();
    // a guest may write what looks like an image's header into its first sector
    fixture.bytes[..4].copy_from_slice(b"QFI\xfb");
    std::fs::write(fixture.path("disk.raw"), &fixture.bytes).expect("writes the source");
    let socket = fixture.path("nbd.sock");
    let server = std::process::Command::new("nbdkit")
        .args([
            "--foreground",
            "--exit-with-parent",
            "--readonly",
            "--unix",
            &socket,
            "file",
            &fixture.path("disk.raw"),
        ])
        .spawn();
    let Ok(mut server) = server else {
        assert!(std::env::var_os("REQUIRE_PEERS").is_none(), "nbdkit is missing");
        return eprintln!("skipped: nbdkit is not installed");
    };
    let listens = tokio::time::timeout(Duration::from_secs(30), async {
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    listens.await.expect("nbdkit listens");
    let uri = format!("nbd+unix:///?socket={socket}");
    let result = import_now(ImportSpec { source: ImportSource::Nbd { uri }, ..fixture.spec() }).await;
    server.kill().and_then(|()| server.wait()).expect("ends");
    assert_eq!((result.error, result.verified), (None, true));
    assert!(fixture.target() == fixture.bytes, "the target is the export");
}
