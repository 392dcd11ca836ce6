//! The client: connections to the server, and what the inode numbers stand for.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{Errno, FileAttr, FileType, INodeNo};
use nfs3_client::nfs3_types::nfs3::{
    GETATTR3args, LOOKUP3args, Nfs3Option, Nfs3Result, READ3args, READDIRPLUS3args, cookie3, cookieverf3, diropargs3,
    filename3, nfs_fh3,
};
use nfs3_client::nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use nfs3_client::tokio::{TokioConnector, TokioIo};
use nfs3_client::{Nfs3Connection, Nfs3ConnectionBuilder, RpcError};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::NfsError;
use super::filesystem::{attributes, errno, file_type};

/// A server that does not answer for this long is asked again over a new connection.
const ANSWER: Duration = Duration::from_secs(30);
/// Bytes asked for at once; servers answer with fewer where they prefer to.
pub(super) const READ: u32 = 1 << 20;

type Connection = Nfs3Connection<TokioIo<TcpStream>>;

/// The server, as many connections to it as are in use, and what the inode numbers stand for.
pub(super) struct Client {
    runtime: Runtime,
    address: IpAddr,
    export: String,
    idle: Mutex<Vec<Connection>>,
    inodes: Mutex<Inodes>,
}

/// Inode numbers are ours: a server's file ids may collide with FUSE's root.
#[derive(Default)]
pub(super) struct Inodes {
    handles: HashMap<u64, nfs_fh3>,
    numbers: HashMap<Vec<u8>, u64>,
    pub(super) listings: HashMap<u64, Arc<Vec<(u64, FileType, Vec<u8>)>>>,
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
pub(super) type Outcome<T> = Result<T, Errno>;

impl Client {
    /// Connects to a server and finds the export.
    pub(super) fn connect(server: &str, export: &str) -> Result<Self, NfsError> {
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

    pub(super) fn inodes(&self) -> MutexGuard<'_, Inodes> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    pub(super) fn handle(&self, number: INodeNo) -> Outcome<nfs_fh3> {
        self.inodes().handles.get(&u64::from(number)).cloned().ok_or(Errno::ESTALE)
    }

    /// Calls the server; a broken connection is replaced once.
    pub(super) fn call<T, E>(
        &self,
        what: impl AsyncFn(&mut Connection) -> Result<Nfs3Result<T, E>, RpcError>,
    ) -> Outcome<T> {
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

    pub(super) fn attributes(&self, number: INodeNo) -> Outcome<FileAttr> {
        let args = GETATTR3args { object: self.handle(number)? };
        let answer = self.call(async |connection| connection.getattr(&args).await)?;
        Ok(attributes(number, &answer.obj_attributes))
    }

    pub(super) fn find(&self, parent: INodeNo, name: &OsStr) -> Outcome<FileAttr> {
        let what = diropargs3 { dir: self.handle(parent)?, name: filename3(Opaque::borrowed(name.as_bytes())) };
        let args = LOOKUP3args { what };
        let found = self.call(async |connection| connection.lookup(&args).await)?;
        let number = INodeNo(self.inodes().number(found.object));
        match found.obj_attributes {
            Nfs3Option::Some(known) => Ok(attributes(number, &known)),
            Nfs3Option::None => self.attributes(number),
        }
    }

    pub(super) fn bytes(&self, number: INodeNo, offset: u64, size: u32) -> Outcome<Vec<u8>> {
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

    pub(super) fn list(&self, number: INodeNo) -> Outcome<Arc<Vec<(u64, FileType, Vec<u8>)>>> {
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
