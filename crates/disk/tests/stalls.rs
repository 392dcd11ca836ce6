//! A server that stops in the middle: the copy ends with an error instead of waiting for ever, and
//! goes on where it was when the server answers again.

#[path = "support/server.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod server;
mod support;

use std::time::{Duration, Instant};

use forklift_disk::Watch;
use forklift_disk::limit::Limit;
use server::Server;
use support::*;

const SIZE: u64 = 40 * MIB;

#[test]
fn a_server_that_stops_is_told_and_the_copy_goes_on_later() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let raw = dir.path().join("raw");
    let bytes = pattern(&raw, SIZE, 97);
    let server = Server::nbdkit(dir.path(), &["-r", "file", text(&raw)]);
    let mut job = job(&server.uri(""), &dir.path().join("disk.img"));
    job.copy.patience.stalled = Duration::from_secs(1);
    job.copy.limit = Limit::rate(8 * MIB);
    let watch = Watch::new();
    let signal = |name: &str| {
        let pid = server.pid().to_string();
        run("kill", &["-s", name, &pid]);
    };
    std::thread::scope(|scope| {
        let running = scope.spawn(|| job.run(&watch));
        let deadline = Instant::now() + Duration::from_secs(60);
        while watch.copy().snapshot().done < 8 * MIB && Instant::now() < deadline {
            std::thread::yield_now();
        }
        signal("STOP");
        let error = running.join().expect("no panic").expect_err("nobody answers");
        assert!(error.retryable(), "{error}");
        assert_eq!(error.code(), "SourceStalled", "{error}");
    });
    // the target's lock is held until the worker that was left behind gets its answer
    signal("CONT");
    job.copy.limit = Limit::default();
    let deadline = Instant::now() + Duration::from_secs(60);
    let outcome = loop {
        match job.run(&Watch::new()) {
            Err(error) if error.code() == "TargetBusy" && Instant::now() < deadline => std::thread::yield_now(),
            result => break result.expect("goes on"),
        }
    };
    assert!(outcome.resumed > 0, "{outcome:?}");
    assert_same(&std::fs::read(dir.path().join("disk.img")).expect("reads"), &bytes, "after the stall");
}
