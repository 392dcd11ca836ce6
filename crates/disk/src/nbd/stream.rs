//! How a server is reached: TCP, a Unix socket, TLS over TCP.

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::uri::{Address, Uri};
use super::wire::{Connection, greet, start_tls};

/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(20);
/// The longest wait for a word of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The longest wait for an answer; servers read from slow storage.
const ANSWER: Duration = Duration::from_secs(60);

/// Any of the ways.
pub(super) enum Stream {
    Tcp(BufReader<TcpStream>),
    Unix(BufReader<UnixStream>),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Sets the longest wait for bytes.
    fn wait(&self, longest: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.get_ref().set_read_timeout(Some(longest)),
            Self::Unix(stream) => stream.get_ref().set_read_timeout(Some(longest)),
            Self::Tls(stream) => stream.sock.set_read_timeout(Some(longest)),
        }
    }
}

/// Headers of replies are short: without a buffer each would cost calls of its own. Data past the
/// buffer's size goes around it.
const BUFFER: usize = 4096;

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.get_mut().write(bytes),
            Self::Unix(stream) => stream.get_mut().write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.get_mut().flush(),
            Self::Unix(stream) => stream.get_mut().flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(HANDSHAKE))?;
                stream.set_write_timeout(Some(ANSWER))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects and negotiates the export.
pub(super) fn connect(uri: &Uri, tls: Option<&Arc<ClientConfig>>) -> io::Result<Connection<Stream>> {
    let mut stream = match &uri.address {
        Address::Tcp { host, port } => Stream::Tcp(BufReader::with_capacity(BUFFER, tcp(host, *port)?)),
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(HANDSHAKE))?;
            stream.set_write_timeout(Some(ANSWER))?;
            Stream::Unix(BufReader::with_capacity(BUFFER, stream))
        }
    };
    let no_zeroes = greet(&mut stream)?;
    if let Some(config) = tls {
        start_tls(&mut stream)?;
        stream = encrypt(stream, uri, config)?;
    }
    let connection = Connection::open(stream, &uri.export, no_zeroes)?;
    connection.stream().wait(ANSWER)?;
    Ok(connection)
}

fn encrypt(stream: Stream, uri: &Uri, config: &Arc<ClientConfig>) -> io::Result<Stream> {
    let (Stream::Tcp(stream), Address::Tcp { host, .. }) = (stream, &uri.address) else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "TLS is spoken over TCP only"));
    };
    // nothing may come in the clear after the server agreed, it would be taken for encrypted
    if !stream.buffer().is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "NBD protocol: bytes before the TLS handshake"));
    }
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    Ok(Stream::Tls(Box::new(StreamOwned::new(connection, stream.into_inner()))))
}
