//! The certificate of a source, shown to those who may ask.
use std::sync::Arc;
use std::time::Duration;

use forklift_controllers::certificate;
use forklift_inventory::rest::{Access, Authorizer, Denied, User};
use tokio_util::sync::CancellationToken;

/// Knows one token.
struct Known;

#[async_trait::async_trait]
impl Authorizer for Known {
    async fn authenticate(&self, token: Option<&str>) -> Result<User, Denied> {
        if token == Some("good") { Ok(User::default()) } else { Err(Denied::Unauthenticated) }
    }

    async fn permit(&self, _: &User, _: &Access) -> Result<(), Denied> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_shown_to_those_who_may_ask() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().expect("a directory");
    let server = apiserver::start(apiserver::Config::new(directory.path())).await.expect("the API server starts");
    let names = ["127.0.0.1".to_owned()];
    let (cert, key) = server.issue_certificate(&names).expect("a certificate");
    let source = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = source.local_addr().expect("an address");
    let stop = CancellationToken::new();
    let (served, stopped) = (cert.clone(), stop.clone());
    tokio::spawn(
        async move { forklift_controllers::tls::serve(source, &served, &key, axum::Router::new(), stopped).await },
    );

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = listener.local_addr().expect("an address");
    let router = certificate::router(Arc::new(Known), Duration::from_secs(5));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let ask = async |query: &str, token: &str| {
        let request = reqwest::Client::new().get(format!("http://{here}/tls-certificate{query}")).bearer_auth(token);
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    };
    let url = format!("?URL=https://{at}/sdk");
    let (status, pem) = ask(&url, "good").await;
    assert_eq!(status, 200);
    let leaf = cert.split_inclusive("-----END CERTIFICATE-----").next().unwrap_or_default();
    let packed = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    assert_eq!(packed(&pem), packed(leaf));
    assert_eq!(ask(&url, "bad").await.0, 401);
    assert_eq!(ask("", "good").await.0, 400);
    assert_eq!(ask("?URL=http://127.0.0.1:80", "good").await.0, 400);
    assert_eq!(ask("?URL=file:///etc/passwd", "good").await.0, 400);
    stop.cancel();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = free.local_addr().expect("an address");
    drop(free);
    assert_eq!(ask(&format!("?URL=https://{nobody}"), "good").await.0, 500);
}
