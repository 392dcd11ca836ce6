//! What tests share: the program under test as a process, its clients, and appliances made on the spot.
//!
//! Used by tests only.

pub mod appliance;
pub mod peers;
pub mod process;
pub mod stack;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Returns the path of one of our programs, built beside the running test.
///
/// `./x test` builds the programs first; a test that finds none fails and says so.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests run from <target>/<profile>/deps");
    let path = profile.join(name);
    assert!(
        path.exists(),
        "{} is missing: build it first (`cargo build -p forklift -p forklift-cli`, or run `./x test`)",
        path.display()
    );
    path
}

/// Calls `probe` until it gives a value; panics with `what` and the probe's last words after `deadline`.
pub fn wait_for<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        match probe() {
            Ok(value) => return value,
            Err(last) if start.elapsed() > deadline => {
                panic!("{what}: not within {} s; last seen: {last}", deadline.as_secs())
            }
            Err(_) => {
                std::thread::park_timeout(pause);
                pause = (pause * 2).min(Duration::from_millis(500));
            }
        }
    }
}
