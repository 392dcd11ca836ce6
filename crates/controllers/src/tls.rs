//! Serves a router over TLS with HTTP/1.1 and HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A client that has not finished its handshake after this long is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Serves `router` on `listener` until `shutdown`; `cert` and `key` are PEM.
pub async fn serve(
    listener: TcpListener,
    cert: &str,
    key: &str,
    router: Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("cannot read the serving certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("cannot read the serving key")?;
    let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // an answer's last piece does not wait for the client's word on the one before
                    let _ = stream.set_nodelay(true);
                    stream
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    continue;
                }
            },
        };
        let (acceptor, service, stop) = (acceptor.clone(), TowerToHyperService::new(router.clone()), shutdown.clone());
        tokio::spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                () = stop.cancelled() => {}
            }
        });
    }
}
