//! SPDY 3.1 as far as port-forward needs it: streams that carry connections, over any byte stream.
//!
//! `kubectl port-forward` opens for each connection an `error` and a `data` stream with the same `requestID`, and the
//! port in a header. Frames are those of <https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>; as with
//! Kubernetes' own implementation there is no flow control. Since version 1.31 kubectl carries all of it in the messages
//! of a WebSocket.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::forward::refusal;

/// The sub-protocol of SPDY in a WebSocket.
pub(super) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const FIN: u8 = 1;
/// Bytes of headers after which a peer is no client of ours.
const MOST_HEADERS: usize = 64 << 10;
/// Frames that wait for a slow client.
const WAITING: usize = 64;

/// What happens to a stream's connection.
enum Input {
    Bytes(Vec<u8>),
    End,
}

/// Serves connections to a pod's address until the peer closes.
pub(super) async fn serve(peer: impl AsyncRead + AsyncWrite + Send + 'static, address: Ipv4Addr) -> io::Result<()> {
    let (mut read, mut write) = tokio::io::split(peer);
    let (out, mut outbox) = mpsc::channel::<Vec<u8>>(WAITING);
    let writer = tokio::spawn(async move {
        while let Some(frame) = outbox.recv().await {
            if write.write_all(&frame).await.is_err() {
                return;
            }
        }
    });
    let mut session = Session {
        out,
        headers: Headers::new(),
        errors: HashMap::new(),
        inputs: HashMap::new(),
        tasks: tokio::task::JoinSet::new(),
        address,
    };
    let result = session.run(&mut read).await;
    drop(session);
    writer.abort();
    result
}

struct Session {
    out: mpsc::Sender<Vec<u8>>,
    headers: Headers,
    /// Error streams by request, until their data stream comes.
    errors: HashMap<String, u32>,
    inputs: HashMap<u32, mpsc::Sender<Input>>,
    tasks: tokio::task::JoinSet<()>,
    address: Ipv4Addr,
}

impl Session {
    async fn run(&mut self, read: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        loop {
            let mut head = [0; 8];
            match read.read_exact(&mut head).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => drop(other?),
            }
            while self.tasks.try_join_next().is_some() {}
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
            let mut body = vec![0; length];
            read.read_exact(&mut body).await?;
            if head[0] & 0x80 == 0 {
                let id = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
                self.data(id, head[4], body).await;
                continue;
            }
            match u16::from_be_bytes([head[2], head[3]]) {
                SYN_STREAM => self.open(&body).await?,
                PING => self.send(control(PING, 0, &body)).await,
                GO_AWAY => return Ok(()),
                RST_STREAM => {
                    if let Some(id) = number(&body, 0) {
                        self.inputs.remove(&id);
                    }
                }
                _ => {}
            }
        }
    }

    async fn send(&self, frame: Vec<u8>) {
        // the writer ends with the peer, which the reader notices
        let _ = self.out.send(frame).await;
    }

    async fn data(&mut self, id: u32, flags: u8, bytes: Vec<u8>) {
        let Some(input) = self.inputs.get(&id) else { return };
        // a connection that has ended takes nothing more
        if !bytes.is_empty() {
            let _ = input.send(Input::Bytes(bytes)).await;
        }
        if flags & FIN != 0 {
            let _ = input.send(Input::End).await;
            self.inputs.remove(&id);
        }
    }

    /// A new stream: the second of a pair makes the connection.
    async fn open(&mut self, body: &[u8]) -> io::Result<()> {
        let malformed = || io::Error::other("a malformed SYN_STREAM");
        let id = number(body, 0).ok_or_else(malformed)? & 0x7fff_ffff;
        let headers = self.headers.read(body.get(10..).ok_or_else(malformed)?)?;
        let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let block = self.headers.write_none()?;
        self.send(control(SYN_REPLY, 0, &[&id.to_be_bytes()[..], &block].concat())).await;
        let request = header("requestid").unwrap_or_default();
        match header("streamtype").as_deref() {
            Some("error") => {
                self.errors.insert(request, id);
            }
            Some("data") => {
                let port = header("port").and_then(|port| port.parse().ok()).ok_or_else(malformed)?;
                let errors = self.errors.remove(&request);
                let (sender, input) = mpsc::channel(WAITING);
                self.inputs.insert(id, sender);
                self.tasks.spawn(connection(self.address, port, id, errors, input, self.out.clone()));
            }
            _ => self.send(control(RST_STREAM, 0, &[id.to_be_bytes(), 1_u32.to_be_bytes()].concat())).await,
        }
        Ok(())
    }
}

async fn connection(
    address: Ipv4Addr,
    port: u16,
    id: u32,
    errors: Option<u32>,
    mut input: mpsc::Receiver<Input>,
    out: mpsc::Sender<Vec<u8>>,
) {
    // in all that follows a failed send means that the client has gone
    match TcpStream::connect((address, port)).await {
        Ok(stream) => {
            let (mut read, mut write) = stream.into_split();
            let reading = async {
                let mut buffer = vec![0; 32 << 10];
                while let Ok(count @ 1..) = read.read(&mut buffer).await {
                    if out.send(data(id, 0, &buffer[..count])).await.is_err() {
                        return;
                    }
                }
            };
            let writing = async {
                while let Some(input) = input.recv().await {
                    let done = match input {
                        Input::Bytes(bytes) => write.write_all(&bytes).await,
                        Input::End => write.shutdown().await,
                    };
                    if done.is_err() {
                        return;
                    }
                }
            };
            tokio::pin!(reading, writing);
            tokio::select! {
                () = &mut reading => {}
                () = &mut writing => reading.await,
            }
        }
        Err(error) => {
            if let Some(errors) = errors {
                let _ = out.send(data(errors, 0, refusal(address, port, &error).as_bytes())).await;
            }
        }
    }
    for stream in [Some(id), errors].into_iter().flatten() {
        let _ = out.send(data(stream, FIN, &[])).await;
    }
}

fn number(body: &[u8], at: usize) -> Option<u32> {
    body.get(at..at.checked_add(4)?).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (body.len() as u32).to_be_bytes();
    let [d, e] = kind.to_be_bytes();
    [&[0x80, 3, d, e, flags, a, b, c], body].concat()
}

fn data(id: u32, flags: u8, body: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (body.len() as u32).to_be_bytes();
    [&id.to_be_bytes()[..], &[flags, a, b, c], body].concat()
}

/// Header blocks: all of one direction are one zlib stream with the protocol's dictionary.
struct Headers {
    dictionary: Vec<u8>,
    inflate: Decompress,
    deflate: Compress,
}

impl Headers {
    fn new() -> Self {
        let dictionary = dictionary();
        let mut deflate = Compress::new(Compression::default(), true);
        // fails for an empty dictionary only
        let _ = deflate.set_dictionary(&dictionary);
        Self { dictionary, inflate: Decompress::new(true), deflate }
    }

    fn read(&mut self, mut block: &[u8]) -> io::Result<Vec<(String, String)>> {
        let mut plain = Vec::with_capacity(4096);
        loop {
            if plain.len() > MOST_HEADERS {
                return Err(io::Error::other("the headers of a stream are too long"));
            }
            plain.reserve(4096);
            let before = (self.inflate.total_in(), plain.len());
            let done = self.inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync);
            let used = (self.inflate.total_in() - before.0) as usize;
            block = block.get(used..).unwrap_or_default();
            match done {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(&self.dictionary).map_err(io::Error::other)?;
                }
                Err(error) => return Err(io::Error::other(error)),
                Ok(Status::StreamEnd) => break,
                Ok(_) if block.is_empty() && plain.len() < plain.capacity() => break,
                Ok(_) if used == 0 && plain.len() == before.1 => break,
                Ok(_) => {}
            }
        }
        pairs(&plain).ok_or_else(|| io::Error::other("malformed headers of a stream"))
    }

    /// A block without headers.
    fn write_none(&mut self) -> io::Result<Vec<u8>> {
        let mut block = Vec::with_capacity(256);
        self.deflate.compress_vec(&[0; 4], &mut block, FlushCompress::Sync).map_err(io::Error::other)?;
        Ok(block)
    }
}

fn pairs(plain: &[u8]) -> Option<Vec<(String, String)>> {
    let mut at = 4;
    let mut text = || {
        let length = number(plain, at)? as usize;
        let found = plain.get(at + 4..(at + 4).checked_add(length)?)?;
        at += 4 + length;
        Some(String::from_utf8_lossy(found).into_owned())
    };
    let count = number(plain, 0)?;
    (0..count).map(|_| Some((text()?.to_lowercase(), text()?))).collect()
}

/// The words that the protocol's dictionary begins with, each after its length.
const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];
/// What follows them.
const PHRASES: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Au",
    "thoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidd",
    "en404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr Ma",
    "y Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,imag",
    "e/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicpri",
    "vatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
);

fn dictionary() -> Vec<u8> {
    let words = WORDS.iter().flat_map(|word| {
        let length = (word.len() as u32).to_be_bytes();
        length.into_iter().chain(word.bytes())
    });
    words.chain(PHRASES.bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_protocols() {
        // the Adler-32 sum that every header block of a peer names
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in dictionary() {
            a = (a + u32::from(byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!((dictionary().len(), (b << 16) | a), (1423, 0xe3c6a7c2));
    }

    #[tokio::test]
    async fn a_pair_of_streams_is_a_connection() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let (near, mut peer) = tokio::io::duplex(64 << 10);
        let serving = tokio::spawn(serve(near, Ipv4Addr::LOCALHOST));
        let mut deflate = Compress::new(Compression::default(), true);
        deflate.set_dictionary(&dictionary()).expect("a dictionary");
        for (id, kind) in [(1_u32, "error"), (3, "data")] {
            let mut plain = 3_u32.to_be_bytes().to_vec();
            for text in ["streamtype", kind, "port", &port.to_string(), "requestid", "0"] {
                plain.extend((text.len() as u32).to_be_bytes());
                plain.extend(text.bytes());
            }
            let mut block = Vec::with_capacity(512);
            deflate.compress_vec(&plain, &mut block, FlushCompress::Sync).expect("compressed");
            let body = [&id.to_be_bytes()[..], &[0; 6], &block].concat();
            peer.write_all(&control(SYN_STREAM, 0, &body)).await.expect("sent");
        }
        peer.write_all(&data(3, FIN, b"question")).await.expect("sent");
        let (mut server, _) = listener.accept().await.expect("a connection");
        let mut asked = String::new();
        server.read_to_string(&mut asked).await.expect("read");
        assert_eq!(asked, "question");
        server.write_all(b"answer").await.expect("sent");
        drop(server);
        let (mut replies, mut ends, mut answer) = (Vec::new(), Vec::new(), Vec::new());
        while ends.len() < 2 {
            let mut head = [0; 8];
            peer.read_exact(&mut head).await.expect("a frame");
            let mut body = vec![0; u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize];
            peer.read_exact(&mut body).await.expect("a frame");
            if head[0] == 0x80 {
                replies.push((head[3], number(&body, 0)));
            } else if head[4] == FIN {
                ends.push(head[3]);
            } else {
                answer.extend(body);
            }
        }
        assert_eq!(replies, [(2, Some(1)), (2, Some(3))]);
        assert_eq!((answer.as_slice(), ends), (&b"answer"[..], vec![3, 1]));
        drop(peer);
        serving.await.expect("no panic").expect("ended well");
    }
}
