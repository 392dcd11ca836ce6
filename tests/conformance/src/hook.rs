//! A webhook server for cases: loopback, TLS with a certificate of its own, and an answer made by a function.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Largest request that is read, in bytes.
const LARGEST: usize = 8 << 20;

type Answer = dyn Fn(&Value) -> Value + Send + Sync;

/// A running webhook; ends when dropped.
pub struct Hook {
    url: String,
    ca: String,
    seen: Arc<Mutex<Vec<Value>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hook {
    /// Answers every review's `request` with the `response` that the function makes; the `uid` is put in.
    pub async fn start(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Result<Self> {
        let key = KeyPair::generate()?;
        let names = vec!["localhost".to_string(), "127.0.0.1".into(), "hook.hooks.svc".into()];
        let certificate = CertificateParams::new(names)?.self_signed(&key)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| anyhow::anyhow!("the key: {e}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, private)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("https://127.0.0.1:{}", listener.local_addr()?.port());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (acceptor, answer): (_, Arc<Answer>) = (TlsAcceptor::from(Arc::new(config)), Arc::new(answer));
        let kept = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer, kept) = (acceptor.clone(), answer.clone(), kept.clone());
                // a client that breaks off is its own matter
                tokio::spawn(async move { serve(acceptor, stream, &*answer, &kept).await.ok() });
            }
        });
        Ok(Self { url, ca: STANDARD.encode(certificate.pem()), seen, task })
    }

    /// A webhook that allows everything.
    pub async fn allowing() -> Result<Self> {
        Self::start(|_| json!({"allowed": true})).await
    }

    /// `clientConfig` for the path.
    pub fn client(&self, path: &str) -> Value {
        json!({"url": format!("{}{path}", self.url), "caBundle": self.ca})
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().and_then(|p| p.parse().ok()).unwrap_or(0)
    }

    /// The certificate, as `caBundle` has it.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The requests of all reviews so far.
    pub fn requests(&self) -> Vec<Value> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, answer: &Answer, seen: &Mutex<Vec<Value>>) -> Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut bytes = Vec::new();
    loop {
        if let Some((head, body)) = split(&bytes)
            && body.len() >= length(head)?
        {
            break;
        }
        anyhow::ensure!(bytes.len() < LARGEST, "the request is too large");
        let mut part = [0; 16 << 10];
        let count = stream.read(&mut part).await?;
        anyhow::ensure!(count > 0, "the client broke off");
        bytes.extend_from_slice(&part[..count]);
    }
    let (_, body) = split(&bytes).context("no head")?;
    let mut review: Value = serde_json::from_slice(body)?;
    let request = review["request"].take();
    let mut response = answer(&request);
    response["uid"] = request["uid"].clone();
    seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(request);
    let text = json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    Some((&bytes[..at], &bytes[at + 4..]))
}

fn length(head: &[u8]) -> Result<usize> {
    let text = String::from_utf8_lossy(head).to_lowercase();
    let line = text.lines().find_map(|l| l.strip_prefix("content-length:"));
    Ok(line.context("no content-length")?.trim().parse()?)
}
