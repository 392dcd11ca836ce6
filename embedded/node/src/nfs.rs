//! NFS exports without the kernel's client: a read-only NFSv3 client behind FUSE.
//!
//! Kernels of small machines and sandboxes often have FUSE but no NFS. A volume that names an export is then mounted
//! here, and whoever reads it sees ordinary files. Reads go to the server in the size that it prefers, over as many
//! connections as there are readers. RFC 1813 (NFS version 3) is the source of the protocol's facts; servers that speak
//! only version 4 need a kernel with its client.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner,
    MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, Request,
};
use nfs3_client::nfs3_types::nfs3::{
    GETATTR3args, LOOKUP3args, Nfs3Option, Nfs3Result, READ3args, READDIRPLUS3args, READLINK3args, cookie3,
    cookieverf3, diropargs3, fattr3, filename3, ftype3, nfs_fh3, nfsstat3,
};
use nfs3_client::nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use nfs3_client::tokio::{TokioConnector, TokioIo};
use nfs3_client::{Nfs3Connection, Nfs3ConnectionBuilder, RpcError};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// How long the kernel may keep what it was told; appliances are replaced, not edited.
const TTL: Duration = Duration::from_secs(2);
/// A server that does not answer for this long is asked again over a new connection.
const ANSWER: Duration = Duration::from_secs(30);
/// Bytes asked for at once; servers answer with fewer where they prefer to.
const READ: u32 = 1 << 20;
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
    let session = fuser::spawn_mount(Export { client }, path, &config);
    let session = session.map_err(|source| NfsError::Fuse { path: path.display().to_string(), source })?;
    Ok(Mount { _session: session })
}

/// Mounts an export at a folder for as long as this process lives, unless it is mounted there already. What an earlier
/// process left there, a mount without a client, is taken away first.
pub fn keep(server: &str, export: &str, path: &Path) -> Result<(), NfsError> {
    static KEPT: Mutex<Option<HashMap<PathBuf, Mount>>> = Mutex::new(None);
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

type Connection = Nfs3Connection<TokioIo<TcpStream>>;

/// The server, as many connections to it as are in use, and what the inode numbers stand for.
struct Client {
    runtime: Runtime,
    address: IpAddr,
    export: String,
    idle: Mutex<Vec<Connection>>,
    inodes: Mutex<Inodes>,
}

/// Inode numbers are ours: a server's file ids may collide with FUSE's root.
#[derive(Default)]
struct Inodes {
    handles: HashMap<u64, nfs_fh3>,
    numbers: HashMap<Vec<u8>, u64>,
    listings: HashMap<u64, Arc<Vec<(u64, FileType, Vec<u8>)>>>,
}

impl Inodes {
    fn number(&mut self, handle: nfs_fh3) -> u64 {
        if let Some(number) = self.numbers.get(handle.data.as_ref()) {
            return *number;
        }
        let number = self.handles.len() as u64 + u64::from(INodeNo::ROOT);
        self.numbers.insert(handle.data.to_vec(), number);
        self.handles.insert(number, handle);
        number
    }
}

/// An operation's failure, as FUSE wants it.
type Outcome<T> = Result<T, Errno>;

impl Client {
    fn connect(server: &str, export: &str) -> Result<Self, NfsError> {
        let unknown = || NfsError::Address(server.into());
        let name = server.trim_start_matches('[').trim_end_matches(']');
        let address = (name, 0).to_socket_addrs().map_err(|_| unknown())?.next().ok_or_else(unknown)?.ip();
        let refused = |reason: String| NfsError::Refused { server: server.into(), export: export.into(), reason };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().thread_name("nfs").build();
        let runtime = runtime.map_err(|error| refused(error.to_string()))?;
        let client =
            Client { runtime, address, export: export.into(), idle: Mutex::default(), inodes: Mutex::default() };
        let connection = client.runtime.block_on(client.dial()).map_err(refused)?;
        client.inodes().number(connection.root_nfs_fh3());
        client.give_back(connection);
        Ok(client)
    }

    async fn dial(&self) -> Result<Connection, String> {
        let credential = auth_unix {
            machinename: Opaque::borrowed(b"forklift"),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            ..auth_unix::default()
        };
        // exports are "secure" by default: they want a port that only root may use
        let privileged = rustix::process::geteuid().is_root();
        let builder = Nfs3ConnectionBuilder::new(TokioConnector, self.address.to_string(), &self.export)
            .credential(opaque_auth::auth_unix(&credential))
            .connect_from_privileged_port(privileged);
        match tokio::time::timeout(ANSWER, builder.mount()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
        }
    }

    fn inodes(&self) -> MutexGuard<'_, Inodes> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    fn handle(&self, number: INodeNo) -> Outcome<nfs_fh3> {
        self.inodes().handles.get(&u64::from(number)).cloned().ok_or(Errno::ESTALE)
    }

    /// Calls the server; a broken connection is replaced once.
    fn call<T, E>(&self, what: impl AsyncFn(&mut Connection) -> Result<Nfs3Result<T, E>, RpcError>) -> Outcome<T> {
        self.runtime.block_on(async {
            for fresh in [false, true] {
                let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut connection = match idle.filter(|_| !fresh) {
                    Some(connection) => connection,
                    None => self.dial().await.map_err(|reason| {
                        tracing::warn!(server = %self.address, export = self.export, reason, "the NFS server cannot be reached");
                        Errno::EIO
                    })?,
                };
                match tokio::time::timeout(ANSWER, what(&mut connection)).await {
                    Ok(Ok(answer)) => {
                        self.give_back(connection);
                        return match answer {
                            Nfs3Result::Ok(value) => Ok(value),
                            Nfs3Result::Err((status, _)) => Err(errno(status)),
                        };
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "an NFS connection broke"),
                    Err(_) => tracing::debug!("an NFS server did not answer in time"),
                }
            }
            Err(Errno::EIO)
        })
    }

    fn attributes(&self, number: INodeNo) -> Outcome<FileAttr> {
        let args = GETATTR3args { object: self.handle(number)? };
        let answer = self.call(async |connection| connection.getattr(&args).await)?;
        Ok(attributes(number, &answer.obj_attributes))
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Outcome<FileAttr> {
        let what = diropargs3 { dir: self.handle(parent)?, name: filename3(Opaque::borrowed(name.as_bytes())) };
        let args = LOOKUP3args { what };
        let found = self.call(async |connection| connection.lookup(&args).await)?;
        let number = INodeNo(self.inodes().number(found.object));
        match found.obj_attributes {
            Nfs3Option::Some(known) => Ok(attributes(number, &known)),
            Nfs3Option::None => self.attributes(number),
        }
    }

    fn bytes(&self, number: INodeNo, offset: u64, size: u32) -> Outcome<Vec<u8>> {
        let file = self.handle(number)?;
        let mut bytes = Vec::with_capacity(size as usize);
        // servers may answer with less than was asked for
        while bytes.len() < size as usize {
            let args = READ3args {
                file: file.clone(),
                offset: offset + bytes.len() as u64,
                count: (size - bytes.len() as u32).min(READ),
            };
            let answer = self.call(async |connection| connection.read(&args).await)?;
            bytes.extend_from_slice(answer.data.as_ref());
            if answer.eof || answer.data.is_empty() {
                break;
            }
        }
        Ok(bytes)
    }

    fn list(&self, number: INodeNo) -> Outcome<Arc<Vec<(u64, FileType, Vec<u8>)>>> {
        let dir = self.handle(number)?;
        let (mut cookie, mut cookieverf) = (cookie3::default(), cookieverf3::default());
        let mut listing = Vec::new();
        loop {
            let args =
                READDIRPLUS3args { dir: dir.clone(), cookie, cookieverf, dircount: 64 << 10, maxcount: 256 << 10 };
            let answer = self.call(async |connection| connection.readdirplus(&args).await)?;
            cookieverf = answer.cookieverf;
            let entries = answer.reply.entries.into_inner();
            let (empty, eof) = (entries.is_empty(), answer.reply.eof);
            for entry in entries {
                cookie = entry.cookie;
                let name = entry.name.0.as_ref().to_vec();
                let kind = match entry.name_attributes {
                    Nfs3Option::Some(known) => file_type(&known.type_),
                    Nfs3Option::None => FileType::RegularFile,
                };
                listing.push((entry.fileid, kind, name));
            }
            if eof || empty {
                let listing = Arc::new(listing);
                self.inodes().listings.insert(u64::from(number), listing.clone());
                return Ok(listing);
            }
        }
    }
}

/// What FUSE asks, answered by the server.
struct Export {
    client: Client,
}

impl Filesystem for Export {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.client.find(parent, name) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.client.attributes(number) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        let target = self.client.handle(number).and_then(|symlink| {
            let args = READLINK3args { symlink };
            self.client.call(async |connection| connection.readlink(&args).await)
        });
        match target {
            Ok(target) => reply.data(target.data.0.as_ref()),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.client.bytes(number, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        // the pages of one listing come from one answer of the server
        let kept = if offset == 0 { None } else { self.client.inodes().listings.get(&u64::from(number)).cloned() };
        let listing = match kept.map_or_else(|| self.client.list(number), Ok) {
            Ok(listing) => listing,
            Err(errno) => return reply.error(errno),
        };
        for (index, (id, kind, name)) in listing.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*id), index as u64 + 1, *kind, OsStr::from_bytes(name)) {
                break;
            }
        }
        reply.ok();
    }
}

fn file_type(kind: &ftype3) -> FileType {
    match kind {
        ftype3::NF3REG => FileType::RegularFile,
        ftype3::NF3DIR => FileType::Directory,
        ftype3::NF3BLK => FileType::BlockDevice,
        ftype3::NF3CHR => FileType::CharDevice,
        ftype3::NF3LNK => FileType::Symlink,
        ftype3::NF3SOCK => FileType::Socket,
        ftype3::NF3FIFO => FileType::NamedPipe,
    }
}

fn attributes(number: INodeNo, known: &fattr3) -> FileAttr {
    let time = |seconds: u32, nanos: u32| -> SystemTime {
        UNIX_EPOCH + Duration::new(u64::from(seconds), nanos.min(999_999_999))
    };
    let modified = time(known.mtime.seconds, known.mtime.nseconds);
    FileAttr {
        ino: number,
        size: known.size,
        blocks: known.used.div_ceil(512),
        atime: modified,
        mtime: modified,
        ctime: time(known.ctime.seconds, known.ctime.nseconds),
        crtime: modified,
        kind: file_type(&known.type_),
        perm: (known.mode & 0o7777) as u16,
        nlink: known.nlink,
        uid: known.uid,
        gid: known.gid,
        rdev: 0,
        blksize: READ,
        flags: 0,
    }
}

fn errno(status: nfsstat3) -> Errno {
    match status {
        nfsstat3::NFS3ERR_NOENT => Errno::ENOENT,
        nfsstat3::NFS3ERR_ACCES | nfsstat3::NFS3ERR_PERM => Errno::EACCES,
        nfsstat3::NFS3ERR_NOTDIR => Errno::ENOTDIR,
        nfsstat3::NFS3ERR_ISDIR => Errno::EISDIR,
        nfsstat3::NFS3ERR_STALE | nfsstat3::NFS3ERR_BADHANDLE => Errno::ESTALE,
        nfsstat3::NFS3ERR_NAMETOOLONG => Errno::ENAMETOOLONG,
        nfsstat3::NFS3ERR_INVAL => Errno::EINVAL,
        _ => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

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
