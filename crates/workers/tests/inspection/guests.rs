//! Guests for inspections: made once by libguestfs' small machine, and kept in the user's cache.
//!
//! | disk | holds |
//! |---|---|
//! | `lvm-a`, `lvm-b` | one volume group over a partition and a whole disk; its root is on both, and so is Debian |
//! | `windows` | an NTFS volume with what libguestfs looks for: `cmd.exe`, two hives of the registry |
//! | `luks-right`, `luks-wrong` | ext4 behind LUKS, with a passphrase each |

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use forklift_testkit::{peers, wait_for};

use super::hive;

/// The passphrase of `luks-right`.
pub const PASSPHRASE: &str = "correct horse";
/// Changed whenever what is made below changes.
const VERSION: &str = "1";
/// What libguestfs' small machine is told; `lvm-a`, `lvm-b` and `windows` are its disks.
const MAKE: &str = "
run
part-disk /dev/sda mbr
pvcreate /dev/sda1
pvcreate /dev/sdb
vgcreate vg '/dev/sda1 /dev/sdb'
lvcreate root vg 150
lvcreate data vg 20
mkfs ext4 /dev/vg/root label:root
mkfs ext4 /dev/vg/data
mount /dev/vg/root /
tar-in linux.tar /
umount-all
part-init /dev/sdc mbr
part-add /dev/sdc primary 2048 -2048
part-set-mbr-id /dev/sdc 1 7
mkfs ntfs /dev/sdc1
mount /dev/sdc1 /
tar-in windows.tar /
umount-all
";
const FSTAB: &str = "\
# <file system> <mount point> <type> <options> <dump> <pass>
/dev/mapper/vg-root / ext4 errors=remount-ro 0 1
/dev/vg/data /var ext4 defaults 0 2
/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:2:0-part1 /srv ext4 defaults 0 2
UUID=00000000-0000-4000-8000-000000000000 /old xfs nofail 0 2
";
const SOFTWARE: (&str, &str) = (
    "Microsoft\\Windows NT\\CurrentVersion",
    "\"ProductName\"=\"Windows Server 2019 Standard\"\n\"CurrentVersion\"=\"6.3\"\n\"CurrentBuild\"=\"17763\"\n\
     \"CurrentMajorVersionNumber\"=dword:0000000a\n\"CurrentMinorVersionNumber\"=dword:00000000\n\
     \"InstallationType\"=\"Server\"\n\"EditionID\"=\"ServerStandard\"\n",
);
const SYSTEM: [(&str, &str); 2] = [
    ("Select", "\"Current\"=dword:00000001\n"),
    ("ControlSet001\\Services\\Tcpip\\Parameters", "\"Hostname\"=\"win2019\"\n"),
];

/// Returns the folder with the disks, `<name>.raw`; none where a program is missing.
pub fn folder() -> Option<PathBuf> {
    for program in ["guestfish", "hivexregedit", "mke2fs", "qemu-img", "tar"] {
        peers::program(program)?;
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::home_dir()?;
        Some(home.join(".cache"))
    })?;
    let cache = cache.join("forklift");
    std::fs::create_dir_all(&cache).expect("makes the cache");
    let folder = cache.join(format!("inspection-{VERSION}"));
    // tests run at once
    let lock = std::fs::File::create(cache.join(".inspection.lock")).expect("makes a lock");
    lock.lock().expect("locks the cache");
    if !folder.is_dir() {
        let making = tempfile::tempdir_in(&cache).expect("makes a folder");
        make(making.path());
        std::fs::rename(making.keep(), &folder).expect("keeps the guests");
    }
    Some(folder)
}

fn run(folder: &Path, program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).current_dir(folder).output().expect("the program runs");
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn make(folder: &Path) {
    for (name, mib) in [("lvm-a", 96), ("lvm-b", 96), ("windows", 132)] {
        let disk = std::fs::File::create(folder.join(format!("{name}.raw"))).expect("makes a disk");
        disk.set_len(mib << 20).expect("gives it a size");
    }
    linux(&folder.join("linux"));
    windows(&folder.join("windows"));
    for name in ["linux", "windows"] {
        run(folder, "tar", &["-C", name, "--owner=0", "--group=0", "-cf", &format!("{name}.tar"), "."]);
    }
    let mut child = Command::new("guestfish")
        .args(["--format=raw", "-a", "lvm-a.raw", "-a", "lvm-b.raw", "-a", "windows.raw"])
        .current_dir(folder)
        .envs(libguestfs())
        .stdin(Stdio::piped())
        .spawn()
        .expect("guestfish runs");
    child.stdin.take().expect("a pipe").write_all(MAKE.as_bytes()).expect("is told");
    assert!(child.wait().expect("it ends").success(), "libguestfs makes the guests");
    run(folder, "mke2fs", &["-q", "-t", "ext4", "-L", "vault", "-d", "linux", "plain.raw", "16M"]);
    for (name, passphrase) in [("luks-right", PASSPHRASE), ("luks-wrong", "another one")] {
        let secret = format!("secret,id=key,data={passphrase}");
        let disk = format!("{name}.raw");
        let options = ["-f", "raw", "-O", "luks", "-o", "key-secret=key,iter-time=10", "plain.raw", &disk];
        // it measures how fast keys are derived, by a clock that on some machines stands still for so short a time
        wait_for("an encrypted disk", Duration::from_secs(60), || {
            let mut convert = Command::new("qemu-img");
            convert.args(["convert", "--object", &secret]).args(options).current_dir(folder);
            let made = convert.output().expect("qemu-img runs");
            if made.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&made.stderr).into_owned()) }
        });
    }
    for left in ["linux.tar", "windows.tar", "plain.raw"] {
        std::fs::remove_file(folder.join(left)).expect("removes it");
    }
}

/// A Debian, as far as libguestfs looks at it.
fn linux(root: &Path) {
    for path in ["etc", "bin", "usr/bin", "var/lib/dpkg", "boot", "srv", "old", "data"] {
        std::fs::create_dir_all(root.join(path)).expect("makes a folder");
    }
    std::fs::write(root.join("etc/fstab"), FSTAB).expect("writes");
    std::fs::write(root.join("etc/debian_version"), "12.15\n").expect("writes");
    std::fs::write(root.join("etc/hostname"), "lvm\n").expect("writes");
    let release = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
    std::fs::write(root.join("etc/os-release"), release).expect("writes");
    // its architecture tells that of the guest
    std::fs::copy("/bin/true", root.join("bin/ls")).expect("copies a program");
}

/// A Windows, as far as libguestfs looks at it.
fn windows(root: &Path) {
    let config = root.join("Windows/System32/config");
    std::fs::create_dir_all(&config).expect("makes a folder");
    hive::write(&config.join("SOFTWARE"), "SOFTWARE", &[SOFTWARE]);
    hive::write(&config.join("SYSTEM"), "SYSTEM", &SYSTEM);
    std::fs::write(root.join("Windows/System32/cmd.exe"), program()).expect("writes");
}

/// The headers of a program for the console of a 64-bit Windows: "PE Format", Microsoft Learn.
fn program() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x80;
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    bytes[0x84..0x86].copy_from_slice(&0x8664u16.to_le_bytes()); // x86-64
    bytes[0x94..0x96].copy_from_slice(&0xf0u16.to_le_bytes()); // size of the optional header
    bytes[0x96..0x98].copy_from_slice(&0x22u16.to_le_bytes()); // executable, large addresses
    bytes[0x98..0x9a].copy_from_slice(&0x20bu16.to_le_bytes()); // PE32+
    bytes[0xdc..0xde].copy_from_slice(&3u16.to_le_bytes()); // console
    bytes
}

/// The environment for libguestfs: no libvirt, and KVM only where somebody says that it works.
pub fn libguestfs() -> Vec<(String, std::ffi::OsString)> {
    let mut env = vec![("LIBGUESTFS_BACKEND".to_owned(), "direct".into())];
    if std::env::var_os("FORKLIFT_KVM").is_none_or(|told| told != "1") {
        env.push(("LIBGUESTFS_BACKEND_SETTINGS".to_owned(), "force_tcg".into()));
    }
    env
}
