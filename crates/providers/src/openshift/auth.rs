//! Who may read the inventory, as the cluster's API server decides it.
//!
//! A token is reviewed (TokenReview), then the user's right on the Provider
//! object (SubjectAccessReview). Good answers are remembered for ten seconds,
//! each by itself: one slow review does not hold up others. Tokens are kept only
//! as digests and never logged.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use forklift_inventory::rest::{Access, Authorizer, Denied, User};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};

/// How long a good answer holds.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Asks the cluster that we run on.
pub struct ClusterAuthorizer {
    client: kube::Client,
    users: Memory<[u8; 32], User>,
    permits: Memory<(User, Access), ()>,
}

impl ClusterAuthorizer {
    /// Returns an authorizer that asks through a client.
    pub fn new(client: kube::Client) -> Self {
        Self { client, users: Memory::default(), permits: Memory::default() }
    }
}

#[async_trait]
impl Authorizer for ClusterAuthorizer {
    async fn authenticate(&self, token: Option<&str>) -> Result<User, Denied> {
        let token = token.ok_or(Denied::Unauthenticated)?;
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(user) = self.users.get(&key) {
            return Ok(user);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let review = api.create(&PostParams::default(), &review).await.map_err(failed)?;
        let status = review.status.unwrap_or_default();
        let known = status.authenticated.unwrap_or(false);
        let reviewed = status.user.filter(|_| known).ok_or(Denied::Unauthenticated)?;
        let user = User {
            name: reviewed.username.unwrap_or_default(),
            uid: reviewed.uid.unwrap_or_default(),
            groups: reviewed.groups.unwrap_or_default(),
            extra: reviewed.extra.unwrap_or_default(),
        };
        self.users.put(key, user.clone());
        Ok(user)
    }

    async fn permit(&self, user: &User, access: &Access) -> Result<(), Denied> {
        let key = (user.clone(), access.clone());
        if self.permits.get(&key).is_some() {
            return Ok(());
        }
        let (verb, namespace, name) = match access {
            Access::Provider { namespace, name } => ("get", namespace, Some(name.clone())),
            Access::List { namespace } => ("list", namespace, None),
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("forklift.konveyor.io".to_owned()),
                    resource: Some("providers".to_owned()),
                    verb: Some(verb.to_owned()),
                    namespace: Some(namespace.clone()),
                    name,
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = api.create(&PostParams::default(), &review).await.map_err(failed)?;
        if !review.status.is_some_and(|s| s.allowed) {
            let user = &user.name;
            return Err(Denied::Forbidden(format!(
                "providers.forklift.konveyor.io is forbidden: User {user:?} cannot {verb} resource \"providers\" in API group \"forklift.konveyor.io\" in the namespace {namespace:?}"
            )));
        }
        self.permits.put(key, ());
        Ok(())
    }
}

fn failed(error: kube::Error) -> Denied {
    Denied::Failed(error.to_string())
}

/// Answers with the time they were given at.
struct Memory<K, V> {
    answers: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self { answers: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> Memory<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(key).filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, value)| value.clone())
    }

    fn put(&self, key: K, value: V) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        answers.insert(key, (Instant::now(), value));
    }
}
