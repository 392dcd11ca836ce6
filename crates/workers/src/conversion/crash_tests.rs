//! Crash points of the overlay's life, with scripts in place of virt-v2v and guestfish: what is tested is our own
//! state machine and the real qemu-img, not virt-v2v (that is converted for real in the end-to-end tests).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;

const MIB: usize = 1 << 20;

struct Bench {
    dir: tempfile::TempDir,
    config: Config,
    tools: Tools,
}

impl Bench {
    /// Two disks of known content, and a stand-in for virt-v2v that writes into the overlays.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for n in 0..2u8 {
            let volume = root.join(format!("disks/disk{n}"));
            fs::create_dir_all(&volume).unwrap();
            fs::write(volume.join("disk.img"), vec![n + 1; 4 * MIB]).unwrap();
            fs::write(volume.join("disk.img.manifest.json"), format!("{{\"digest\":\"{n}\"}}")).unwrap();
        }
        let mut config = Config::from_env(|_| None);
        config.disks_dir = root.join("disks");
        config.block_prefix = root.join("none/block");
        config.work_dir = root.join("scratch");
        let mut bench = Self { dir, config, tools: Tools::on_path() };
        bench.tools.virt_v2v = bench.script("virt-v2v-in-place", &bench.writes("0xaa", "exit 0"));
        bench
    }

    /// Writes a pattern into each overlay that the domain names, says what an inspection says, then ends.
    fn writes(&self, pattern: &str, end: &str) -> String {
        format!(
            "case $1 in --help) exit 0;; esac\nfor last; do :; done\n\
             sed -n \"s/.*<source file='\\(.*\\)'.*/\\1/p\" \"$last\" | while read o; do\n\
             qemu-io -f qcow2 -c 'write -P {pattern} 1M 1M' \"$o\" >/dev/null || exit 9; done\n\
             echo 'i_type = windows'; echo 'i_osinfo = win2k22'; echo 'i_firmware = UEFI []'\n{end}\n"
        )
    }

    fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    async fn run(&self) -> Result<ConversionResult, ConversionError> {
        convert(&self.config, &self.tools, &Shared::default()).await
    }

    fn disk(&self, n: usize) -> PathBuf {
        self.config.disks_dir.join(format!("disk{n}/disk.img"))
    }

    fn is_copy(&self, n: u8) -> bool {
        fs::read(self.disk(n.into())).unwrap() == vec![n + 1; 4 * MIB]
    }

    fn is_converted(&self, n: u8) -> bool {
        let mut expected = vec![n + 1; 4 * MIB];
        expected[MIB..2 * MIB].fill(0xaa);
        fs::read(self.disk(n.into())).unwrap() == expected
    }

    /// The names of our files in a volume.
    fn files(&self, n: usize) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.disk(n).parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "disk.img" && name != "disk.img.manifest.json")
            .collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn a_conversion_changes_the_disks_and_leaves_only_its_marker() {
    let bench = Bench::new();
    let result = bench.run().await.unwrap();
    assert_eq!(result.firmware.as_deref(), Some("uefi"));
    assert!(bench.is_converted(0) && bench.is_converted(1));
    assert_eq!((bench.files(0), bench.files(1)), (vec!["disk.img.converted.json".into()], vec![]));
}

#[tokio::test]
async fn a_run_after_the_end_returns_the_kept_result_without_converting() {
    let mut bench = Bench::new();
    let first = bench.run().await.unwrap();
    bench.tools.virt_v2v = PathBuf::from("/nonexistent/virt-v2v");
    assert_eq!(bench.run().await.unwrap(), first);
}

#[tokio::test]
async fn disks_that_were_copied_again_are_converted_again() {
    let bench = Bench::new();
    bench.run().await.unwrap();
    fs::write(bench.disk(1), vec![2; 4 * MIB]).unwrap();
    fs::write(bench.disk(1).with_file_name("disk.img.manifest.json"), "{\"digest\":\"new\"}").unwrap();
    bench.run().await.unwrap();
    assert!(bench.is_converted(1));
}

#[tokio::test]
async fn a_failed_conversion_leaves_the_copy_byte_for_byte() {
    let mut bench = Bench::new();
    bench.tools.virt_v2v = bench.script("failing", &bench.writes("0xbb", "echo 'v2v: error: no luck'; exit 1"));
    let error = bench.run().await.unwrap_err();
    assert_eq!(error.to_string(), "virt-v2v failed: no luck");
    assert!(bench.is_copy(0) && bench.is_copy(1));
    assert_eq!((bench.files(0), bench.files(1)), (Vec::<String>::new(), Vec::<String>::new()));
}

#[tokio::test]
async fn a_killed_conversion_is_begun_anew() {
    let mut bench = Bench::new();
    let good = bench.tools.virt_v2v.clone();
    // "killed": the worker's future is dropped while virt-v2v, half done, waits
    bench.tools.virt_v2v =
        bench.script("hanging", &bench.writes("0xbb", "touch \"$(dirname $0)/half\"; exec sleep 1000"));
    {
        let run = bench.run();
        tokio::pin!(run);
        let half = bench.dir.path().join("half");
        let wait = async {
            while !half.exists() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = &mut run => panic!("it hangs"),
            seen = tokio::time::timeout(std::time::Duration::from_secs(30), wait) => seen.unwrap(),
        }
    }
    assert!(bench.is_copy(0) && bench.is_copy(1));
    assert_eq!(bench.files(0), ["disk.img.overlay.qcow2"], "left by the killed run");
    bench.tools.virt_v2v = good;
    bench.run().await.unwrap();
    assert!(bench.is_converted(0) && bench.is_converted(1));
}

/// A qemu-img that is killed in the middle of the n-th commit, with the disk half written.
fn killed_in_commit(bench: &Bench, n: usize) -> PathBuf {
    bench.script(
        "qemu-img-killed",
        &format!(
            "d=$(dirname $0)\nif [ $1 = commit ]; then echo >> $d/commits\n\
             if [ $(wc -l < $d/commits) = {n} ]; then for o; do :; done; base=${{o%.overlay.qcow2}}\n\
             printf half | dd of=\"$base\" bs=1 seek=1500000 conv=notrunc status=none; kill -9 $$; fi; fi\nexec qemu-img \"$@\"\n"
        ),
    )
}

#[tokio::test]
async fn a_killed_commit_is_redone_without_converting() {
    for n in [1, 2] {
        let mut bench = Bench::new();
        bench.tools.qemu_img = killed_in_commit(&bench, n);
        bench.run().await.unwrap_err();
        assert!(!bench.is_converted(n as u8 - 1), "half written");
        assert!(bench.files(0).contains(&"disk.img.converting.json".to_owned()));
        bench.tools.qemu_img = "qemu-img".into();
        bench.tools.virt_v2v = "/nonexistent/virt-v2v".into();
        let result = bench.run().await.unwrap();
        assert_eq!(result.firmware.as_deref(), Some("uefi"), "the result was kept");
        assert!(bench.is_converted(0) && bench.is_converted(1));
        assert_eq!((bench.files(0), bench.files(1)), (vec!["disk.img.converted.json".into()], vec![]));
    }
}

#[tokio::test]
async fn a_volume_that_is_mounted_elsewhere_goes_on_too() {
    let mut bench = Bench::new();
    bench.tools.qemu_img = killed_in_commit(&bench, 2);
    bench.run().await.unwrap_err();
    let elsewhere = bench.dir.path().join("elsewhere");
    fs::rename(&bench.config.disks_dir, &elsewhere).unwrap();
    bench.config.disks_dir = elsewhere;
    bench.tools.qemu_img = "qemu-img".into();
    bench.run().await.unwrap();
    assert!(bench.is_converted(0) && bench.is_converted(1));
}

#[tokio::test]
async fn a_half_written_disk_without_its_overlay_is_never_taken_for_good() {
    let mut bench = Bench::new();
    bench.tools.qemu_img = killed_in_commit(&bench, 1);
    bench.run().await.unwrap_err();
    fs::remove_file(bench.disk(0).with_file_name("disk.img.overlay.qcow2")).unwrap();
    bench.tools.qemu_img = "qemu-img".into();
    let error = bench.run().await.unwrap_err().to_worker_error();
    assert_eq!((error.code.as_str(), error.retryable), ("CommitLost", false));
}

/// The real virt-v2v on a disk without an operating system.
#[tokio::test]
async fn a_disk_without_a_system_is_refused_and_left_alone() {
    let bench = Bench::new();
    if !Path::new("/usr/bin/virt-v2v-in-place").exists() {
        assert!(std::env::var_os("REQUIRE_PEERS").is_none(), "virt-v2v is missing: ./x setup");
        eprintln!("skipped: virt-v2v (./x setup)");
        return;
    }
    let mut tools = Tools::on_path();
    tools.env = kvm::libguestfs_env(|key| std::env::var(key).ok()).await;
    let error = convert(&bench.config, &tools, &Shared::default()).await.unwrap_err().to_worker_error();
    assert_eq!((error.code.as_str(), error.retryable), ("UnknownOs", false), "{}", error.message);
    assert!(error.hint.unwrap().contains("raw copy"));
    assert!(bench.is_copy(0) && bench.is_copy(1));
}
