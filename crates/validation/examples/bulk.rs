//! How long one VM takes, from text to text: `bulk PROVIDER FILE`, a file with one workload a line.
//!
//! In bulk, and as requests for one VM each, without sockets.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use forklift_validation::{Validator, package_of, rest};
use tower::ServiceExt;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(provider), Some(file)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: bulk PROVIDER FILE");
        return;
    };
    let text = match std::fs::read(&file) {
        Ok(text) => Bytes::from(text),
        Err(error) => return eprintln!("cannot read {file}: {error}"),
    };
    let start = Instant::now();
    let validator = Validator::new();
    let version = validator.rules_version(&provider);
    println!("load and compile: {:.1} ms (rules version {version})", start.elapsed().as_secs_f64() * 1e3);
    let service = rest::router(validator);
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / lines.len() as f64;
    for _ in 0..5 {
        let start = Instant::now();
        let answer = ask(&service, &format!("/v1/bulk/{provider}"), "application/x-ndjson", text.clone()).await;
        let bulk = start.elapsed();
        let path = format!("/v1/data/io/konveyor/forklift/{}/validate", package_of(&provider));
        let requests: Vec<Bytes> = lines.iter().map(|line| [b"{\"input\":", *line, b"}"].concat().into()).collect();
        let start = Instant::now();
        for request in requests {
            ask(&service, &path, "application/json", request).await;
        }
        println!(
            "{} VMs, answers of {} bytes: in bulk {:.1} µs a VM, one by one {:.1} µs",
            lines.len(),
            answer.len(),
            each(bulk),
            each(start.elapsed()),
        );
    }
}

async fn ask(service: &Router, path: &str, kind: &str, body: Bytes) -> Bytes {
    let request = Request::post(path).header("content-type", kind).body(Body::from(body));
    let Ok(response) = service.clone().oneshot(request.unwrap_or_default()).await;
    axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default()
}
