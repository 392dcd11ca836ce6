//! Leader election by a `Lease`: only its holder applies effects.
//!
//! ```text
//! follower ──(lease free, expired or ours)──► leader ──(renewal fails longer than the lease lasts)──► stopped
//! ```
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

/// How the lease is held.
#[derive(Clone, Debug)]
pub struct LeaderConfig {
    /// Name of the lease.
    pub name: String,
    /// Who asks; unique per process (pod name).
    pub identity: String,
    /// How long a lease lasts without renewal.
    pub duration: Duration,
}

impl LeaderConfig {
    /// Returns upstream's lease name with a 15 s lease.
    pub fn new(identity: impl Into<String>) -> Self {
        Self {
            name: "forklift-controller-leader".to_owned(),
            identity: identity.into(),
            duration: Duration::from_secs(15),
        }
    }
}

/// A lease that is held: renewed in the background until it is dropped or lost.
pub struct Leadership {
    /// Cancelled when the lease was lost: whoever works must stop.
    pub lost: CancellationToken,
    stop: CancellationToken,
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Waits until the lease is ours; `None` when `cancel` came first.
pub async fn acquire(
    client: Client,
    namespace: &str,
    config: LeaderConfig,
    cancel: &CancellationToken,
) -> Option<Leadership> {
    let api: Api<Lease> = Api::namespaced(client, namespace);
    let every = config.duration / 3;
    loop {
        match attempt(&api, &config).await {
            Ok(true) => break,
            Ok(false) => tracing::debug!(lease = config.name, "another controller leads"),
            Err(error) => tracing::warn!(lease = config.name, %error, "cannot take the leader lease"),
        }
        tokio::select! {
            () = cancel.cancelled() => return None,
            () = tokio::time::sleep(every) => {}
        }
    }
    let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(renew(api, config, every, lost.clone(), stop.clone()));
    Some(Leadership { lost, stop })
}

async fn renew(
    api: Api<Lease>,
    config: LeaderConfig,
    every: Duration,
    lost: CancellationToken,
    stop: CancellationToken,
) {
    let mut renewed = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(every) => {}
        }
        match attempt(&api, &config).await {
            Ok(true) => renewed = tokio::time::Instant::now(),
            Ok(false) => break,
            Err(error) => {
                tracing::warn!(lease = config.name, %error, "cannot renew the leader lease");
                if renewed.elapsed() + every > config.duration {
                    break;
                }
            }
        }
    }
    if stop.is_cancelled() {
        release(&api, &config).await;
    } else {
        tracing::error!(lease = config.name, "leader lease lost");
    }
    lost.cancel();
}

/// Takes or renews the lease; false when somebody else holds it.
async fn attempt(api: &Api<Lease>, config: &LeaderConfig) -> Result<bool, kube::Error> {
    let now = Timestamp::now();
    let Some(mut lease) = api.get_opt(&config.name).await? else {
        let lease = Lease {
            metadata: ObjectMeta { name: Some(config.name.clone()), ..ObjectMeta::default() },
            spec: Some(taken(config, None, now)),
        };
        return won(api.create(&PostParams::default(), &lease).await);
    };
    let old = lease.spec.take();
    if !may_take(old.as_ref(), &config.identity, now) {
        return Ok(false);
    }
    lease.spec = Some(taken(config, old.as_ref(), now));
    // The resourceVersion that was read lets only one of two candidates win.
    won(api.replace(&config.name, &PostParams::default(), &lease).await)
}

fn won<T>(result: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Decides whether a candidate may take the lease: it is free, ours, or not renewed in time.
fn may_take(lease: Option<&LeaseSpec>, identity: &str, now: Timestamp) -> bool {
    let Some(lease) = lease else { return true };
    let holder = lease.holder_identity.as_deref().unwrap_or_default();
    if holder.is_empty() || holder == identity {
        return true;
    }
    let lasts = SignedDuration::from_secs(lease.lease_duration_seconds.unwrap_or(0).into());
    lease.renew_time.as_ref().is_none_or(|renewed| renewed.0 + lasts < now)
}

fn taken(config: &LeaderConfig, old: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
    let kept = old.filter(|old| old.holder_identity.as_deref() == Some(config.identity.as_str()));
    LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: i32::try_from(config.duration.as_secs()).ok(),
        acquire_time: kept.and_then(|old| old.acquire_time.clone()).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(
            old.and_then(|old| old.lease_transitions).unwrap_or(0) + i32::from(old.is_some() && kept.is_none()),
        ),
        ..LeaseSpec::default()
    }
}

/// Gives the lease back, so that the next controller need not wait until it expires.
async fn release(api: &Api<Lease>, config: &LeaderConfig) {
    let Ok(Some(mut lease)) = api.get_opt(&config.name).await else { return };
    let Some(spec) = lease.spec.as_mut() else { return };
    if spec.holder_identity.as_deref() == Some(config.identity.as_str()) {
        spec.holder_identity = None;
        let _ = api.replace(&config.name, &PostParams::default(), &lease).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Timestamp::from_second(renewed).ok().map(MicroTime),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_when_free_ours_or_expired() {
        let now = Timestamp::from_second(100).expect("in range");
        let may = |lease: &LeaseSpec| may_take(Some(lease), "a", now);
        assert!(may_take(None, "a", now));
        assert!(may(&lease("", 99)));
        assert!(may(&lease("a", 99)));
        assert!(!may(&lease("b", 99)));
        assert!(may(&lease("b", 80)));
    }
}
