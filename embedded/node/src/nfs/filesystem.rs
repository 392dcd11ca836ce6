//! The file system that the kernel asks through FUSE.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEntry, Request,
};
use nfs3_client::nfs3_types::nfs3::{READLINK3args, fattr3, ftype3, nfsstat3};

use super::client::{Client, READ};

/// How long the kernel may keep what it was told; appliances are replaced, not edited.
const TTL: Duration = Duration::from_secs(2);

/// What FUSE asks, answered by the server.
pub(super) struct Export {
    client: Client,
}

impl Export {
    /// Shows an export.
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }
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

/// The kind of a file.
pub(super) fn file_type(kind: &ftype3) -> FileType {
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

/// What the kernel wants to know of a file.
pub(super) fn attributes(number: INodeNo, known: &fattr3) -> FileAttr {
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

/// What the kernel calls an error of the server.
pub(super) fn errno(status: nfsstat3) -> Errno {
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
