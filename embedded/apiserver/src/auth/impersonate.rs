//! Impersonation: a user who may `impersonate` acts as another, by request headers.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>

use std::collections::BTreeMap;

use http::HeaderMap;

use super::{User, rbac};
use crate::error::{ApiError, ApiResult};
use crate::storage::Store;

const EXTRA: &str = "impersonate-extra-";

/// The user that the headers ask for, when `user` may become it; None without such headers.
pub fn impersonated(store: &Store, user: &User, headers: &HeaderMap) -> ApiResult<Option<User>> {
    let texts = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .filter(|v| !v.is_empty())
            .map(String::from)
            .collect()
    };
    let name = texts("impersonate-user").into_iter().next().unwrap_or_default();
    let mut groups = texts("impersonate-group");
    let uid = texts("impersonate-uid").into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in headers.keys().filter_map(|k| k.as_str().strip_prefix(EXTRA)) {
        extra.insert(unescape(key), texts(&format!("{EXTRA}{key}")));
    }
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        return Err(ApiError::internal("groups, a UID or extra fields are impersonated without impersonating a user"));
    }
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let wanted =
            rbac::Attributes { verb: "impersonate", group, resource, subresource, namespace, name, path: None };
        let decision = rbac::decide(store, user, &wanted);
        if decision.allowed {
            return Ok(());
        }
        Err(ApiError::forbidden(group, resource, name, &rbac::refusal(user, &wanted, &decision)))
    };
    match account {
        Some((namespace, name)) => may("", "serviceaccounts", "", namespace, name)?,
        None => may("", "users", "", "", &name)?,
    }
    for group in &groups {
        may("", "groups", "", "", group)?;
    }
    for (key, values) in &extra {
        for value in values {
            may("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    if !uid.is_empty() {
        may("authentication.k8s.io", "uids", "", "", &uid)?;
    }
    if groups.is_empty()
        && let Some((namespace, _)) = account
    {
        groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    }
    let kind = if name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    if !groups.iter().any(|g| g == "system:authenticated" || g == "system:unauthenticated") {
        groups.push(kind.into());
    }
    Ok(Some(User { name, uid, groups, extra }))
}

/// Header names carry keys percent-encoded.
fn unescape(key: &str) -> String {
    crate::request::decode_segment(key)
}

/// Whether this header is about who asks, so that it is not passed on.
pub fn is_credential(name: &str) -> bool {
    name.starts_with("impersonate-") || name == "authorization"
}
