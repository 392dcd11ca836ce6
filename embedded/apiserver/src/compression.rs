//! gzip of large answers, as kube-apiserver does it: over 128 KiB, level 1, when the client accepts it.
//! <https://github.com/kubernetes/kubernetes/blob/v1.33.0/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/writers.go>

use std::io::Write;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, header};

/// Answers up to this size in bytes go as they are.
pub const THRESHOLD: u64 = 128 << 10;

/// Whether the client takes gzip.
pub fn accepted(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    offers.flat_map(|v| v.split(',')).any(|offer| {
        let mut pieces = offer.split(';').map(str::trim);
        let gzip = pieces.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        gzip && !pieces.any(|p| matches!(p, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// The answer, compressed when it is large and whole.
pub async fn compress(response: Response) -> Response {
    let whole = response.body().size_hint().exact().is_some_and(|bytes| bytes > THRESHOLD);
    if !whole || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        // bodies of known size are in memory already
        return Response::from_parts(parts, Body::empty());
    };
    let plain = bytes.clone();
    let packed = tokio::task::spawn_blocking(move || {
        let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 6), Compression::new(1));
        encoder.write_all(&plain)?;
        encoder.finish()
    })
    .await;
    match packed {
        Ok(Ok(packed)) => {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, packed.into())
        }
        // uncompressed is right too
        Ok(Err(_)) | Err(_) => Response::from_parts(parts, bytes.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_when_offered() {
        let takes = |text: &'static str| {
            accepted(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(text))]))
        };
        assert!(takes("gzip") && takes("deflate, gzip;q=0.5"));
        assert!(!takes("deflate") && !takes("gzip;q=0") && !accepted(&HeaderMap::new()));
    }
}
