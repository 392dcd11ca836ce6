//! A client of the OVA server.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::catalog::Snapshot;
use super::wire::{GENERATION_HEADER, Generation};
use crate::ConnectError;

/// A client of one provider's OVA server.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// Returns a client of the server at a base URL.
    pub fn new(base: &str) -> Result<Self, ConnectError> {
        // the program may have chosen a provider already; then that one holds
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(15)).build();
        let http = http.map_err(|e| ConnectError::Failed(format!("cannot make an HTTP client: {e}")))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned() })
    }

    /// Tests whether the server can read its folder.
    pub async fn test(&self) -> Result<(), ConnectError> {
        let _: serde_json::Value = self.get("test_connection", Duration::from_secs(15)).await?.0;
        Ok(())
    }

    /// Returns what the folder holds, from one and the same scan.
    pub async fn snapshot(&self) -> Result<Snapshot, ConnectError> {
        // a change between the two requests shows in their generations
        for _ in 0..5 {
            let (vms, first) = self.get("vms", LIST).await?;
            let (appliances, second) = self.get("appliances", LIST).await?;
            if first == second {
                return Ok(Snapshot { generation: first, appliances, vms });
            }
        }
        Err(ConnectError::Failed("the folder changes faster than it can be read".to_owned()))
    }

    /// Waits until the generation is another, or for about half a minute; returns the present one.
    pub async fn changed(&self, since: u64) -> Result<u64, ConnectError> {
        let path = format!("watch?since={since}");
        let (generation, _): (Generation, u64) = self.get(&path, Duration::from_secs(60)).await?;
        Ok(generation.generation)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, limit: Duration) -> Result<(T, u64), ConnectError> {
        let url = format!("{}/{path}", self.base);
        let failed = |e: reqwest::Error| ConnectError::Failed(format!("cannot reach the provider's server: {e}"));
        let response = self.http.get(&url).timeout(limit).send().await.map_err(failed)?;
        let status = response.status();
        let generation = response.headers().get(GENERATION_HEADER).and_then(|v| v.to_str().ok()?.parse().ok());
        let body = response.bytes().await.map_err(failed)?;
        if !status.is_success() {
            let reason = String::from_utf8_lossy(&body).trim().to_owned();
            return Err(ConnectError::Failed(format!("the provider's server answers {status}: {reason}")));
        }
        let value = serde_json::from_slice(&body).map_err(|e| {
            ConnectError::Failed(format!("the provider's server answers something else at /{path}: {e}"))
        })?;
        Ok((value, generation.unwrap_or_default()))
    }
}

/// Scanning a slow share takes its time.
const LIST: Duration = Duration::from_secs(120);
