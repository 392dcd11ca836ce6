//! NFS exports without the kernel's client: a read-only NFSv3 client behind FUSE.
//!
//! Kernels of small machines and sandboxes often have FUSE but no NFS. A volume that names an export is then mounted
//! here, and whoever reads it sees ordinary files. Reads go to the server in the size that it prefers, over as many
//! connections as there are readers. RFC 1813 (NFS version 3) is the source of the protocol's facts; servers that speak
//! only version 4 need a kernel with its client.

mod client;
mod filesystem;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fuser::{BackgroundSession, Config, MountOption};

use client::Client;
use filesystem::Export;

/// Threads that serve the kernel, and so the connections that a busy mount uses.
const THREADS: usize = 4;

/// Why an export could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum NfsError {
    /// The name of the server has no address.
    #[error("cannot find the address of the NFS server {0}")]
    Address(String),
    /// The server could not be reached, or refused.
    #[error("cannot mount {export} of the NFS server {server}: {reason}")]
    Refused {
        /// Name of the server.
        server: String,
        /// The export.
        export: String,
        /// What the server or the network said.
        reason: String,
    },
    /// FUSE did not mount.
    #[error("cannot mount through FUSE at {path}: {source}")]
    Fuse {
        /// Where it should have been.
        path: String,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// A mounted export; unmounted when dropped.
pub struct Mount {
    _session: BackgroundSession,
}

/// Says whether this kernel can mount NFS itself.
pub fn kernel_client() -> bool {
    std::fs::read_to_string("/proc/filesystems")
        .is_ok_and(|text| text.lines().any(|line| line.trim_start_matches("nodev").trim() == "nfs"))
}

/// Mounts `export` of `server` read-only at `path`, a folder. Blocks until the server has answered.
pub fn mount(server: &str, export: &str, path: &Path) -> Result<Mount, NfsError> {
    let client = Client::connect(server, export)?;
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::RO, MountOption::FSName(format!("{server}:{export}")), MountOption::Subtype("nfs".into())];
    config.n_threads = Some(THREADS);
    let session = fuser::spawn_mount(Export::new(client), path, &config);
    let session = session.map_err(|source| NfsError::Fuse { path: path.display().to_string(), source })?;
    Ok(Mount { _session: session })
}

static KEPT: Mutex<Option<HashMap<PathBuf, Mount>>> = Mutex::new(None);

/// Mounts an export at a folder for as long as this process lives, unless it is mounted there already. What an earlier
/// process left there, a mount without a client, is taken away first.
pub fn keep(server: &str, export: &str, path: &Path) -> Result<(), NfsError> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_default();
    if kept.contains_key(path) && std::fs::read_dir(path).is_ok() {
        return Ok(());
    }
    kept.remove(path);
    // nothing mounted there is the usual case
    let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
    kept.insert(path.to_owned(), mount(server, export, path)?);
    Ok(())
}

/// Unmounts what [`keep`] mounted at a folder, if it did.
pub fn forget(path: &Path) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    drop(kept.as_mut().and_then(|kept| kept.remove(path)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    /// A network of its own, so that the machine's rpcbind and ports do not matter.
    const INSIDE: &str = "NFS_TEST_INSIDE";

    /// A server that ends with the test.
    struct Server(Child);

    impl Server {
        fn start(program: &str, args: &[&str]) -> Self {
            let child = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            Server(child.unwrap_or_else(|error| panic!("cannot start {program}: {error}; `./x test` installs it")))
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn files_of_a_real_server_are_read_as_they_are() {
        if std::env::var_os(INSIDE).is_none() {
            let this = std::env::current_exe().expect("a test has a path");
            let output = Command::new("unshare")
                .args(["--net", "--mount", "--"])
                .arg(this)
                .args(["--exact", "nfs::tests::files_of_a_real_server_are_read_as_they_are", "--nocapture"])
                .env(INSIDE, "1")
                .output()
                .expect("unshare is there");
            assert!(
                output.status.success(),
                "{}\n{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (export, at) = (folder.path().join("export"), folder.path().join("at"));
        for path in [&export, &export.join("sub"), &at] {
            std::fs::create_dir(path).expect("a folder");
        }
        // larger than one answer, and not a multiple of anything
        let content: Vec<u8> = (0..5_000_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        std::fs::write(export.join("sub/disk.bin"), &content).expect("a file");
        for n in 0..300 {
            std::fs::write(export.join(format!("file-{n:03}")), b"x").expect("a file");
        }
        let config = folder.path().join("ganesha.conf");
        std::fs::write(&config, format!(
            "NFS_CORE_PARAM {{ NFS_Port = 20490; MNT_Port = 20481; Protocols = 3; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; }}\n\
             EXPORT {{ Export_Id = 1; Path = {0}; Pseudo = /export; Protocols = 3; Transports = TCP; Access_Type = RO; Squash = No_Root_Squash; SecType = sys; FSAL {{ Name = VFS; }} }}\n",
            export.display(),
        )).expect("a file");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip is there");
        assert!(up.success());
        let _rpcbind = Server::start("rpcbind", &["-f"]);
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", 111)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "rpcbind does not answer");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let text = |path: &Path| path.display().to_string();
        let log = text(&folder.path().join("log"));
        let (config, pid) = (text(&config), text(&folder.path().join("pid")));
        let _ganesha = Server::start("ganesha.nfsd", &["-F", "-f", &config, "-L", &log, "-p", &pid]);

        let start = Instant::now();
        let mount = loop {
            match mount("127.0.0.1", &text(&export), &at) {
                Ok(mount) => break mount,
                Err(error) if start.elapsed() > Duration::from_secs(30) => {
                    panic!("{error}\n{}", std::fs::read_to_string(&log).unwrap_or_default())
                }
                Err(_) => std::thread::park_timeout(Duration::from_millis(100)),
            }
        };
        assert_eq!(std::fs::read(at.join("sub/disk.bin")).expect("it can be read"), content);
        let mut names: Vec<_> =
            std::fs::read_dir(&at).expect("it can be listed").flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!((names.len(), names[0].to_str(), names[300].to_str()), (301, Some("file-000"), Some("sub")));
        let metadata = std::fs::metadata(at.join("sub/disk.bin")).expect("it has attributes");
        let original = std::fs::metadata(export.join("sub/disk.bin")).expect("it has attributes");
        assert_eq!((metadata.len(), metadata.modified().ok()), (original.len(), original.modified().ok()));
        assert_eq!(
            std::fs::read(at.join("nothing")).expect_err("it is not there").kind(),
            std::io::ErrorKind::NotFound
        );
        assert!(std::fs::write(at.join("new"), b"x").is_err(), "the mount can be written to");
        drop(mount);
        assert!(std::fs::read(at.join("file-000")).is_err(), "it is still mounted");
    }

    #[test]
    fn an_unknown_server_is_named() {
        let error = mount("no-such-server.invalid", "/x", Path::new("/nowhere")).err().expect("it cannot be mounted");
        assert_eq!(error.to_string(), "cannot find the address of the NFS server no-such-server.invalid");
    }
}
