//! The audit log: who did what when, as `audit.k8s.io/v1` events, one JSON object a line.
//! <https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>
//!
//! ```text
//!  request ─► policy (first rule that fits) ─► event ─► bounded queue ─► writer thread ─► audit.log, rotated by size
//! ```
//! Bodies are recorded at level Request, and never those that carry secrets. A full queue drops events and counts
//! them (`apiserver_audit_error_total`) instead of holding up requests.

mod log;
mod policy;

use std::path::PathBuf;

use http::HeaderMap;
use serde_json::{Value, json};

pub use log::Log;
pub use policy::{GroupResources, Level, Policy, Rule};

use crate::auth::User;
use crate::request::Info;

/// Where audit events go, and which.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// What is recorded.
    pub policy: Policy,
    /// File of the log; None is `audit.log` in the data directory.
    pub path: Option<PathBuf>,
    /// Size in bytes above which the file is put aside.
    pub max_bytes: u64,
    /// Files kept beside the current one.
    pub keep: usize,
}

impl Default for AuditConfig {
    /// Changes with their metadata, 32 MiB a file, four files kept.
    fn default() -> Self {
        Self { policy: Policy::changes(), path: None, max_bytes: 32 << 20, keep: 4 }
    }
}

/// What admission noted of a request, in the extensions of its response.
#[derive(Clone)]
pub struct Notes(pub Vec<(String, String)>);

/// What is known of a request when its event is written.
pub struct Record {
    /// How much is recorded.
    pub level: Level,
    /// Identity of the request, in the `Audit-ID` header too.
    pub id: String,
    /// Path and query.
    pub uri: String,
    /// Verb and object.
    pub info: Info,
    /// Who asked.
    pub user: User,
    /// Whom they acted as.
    pub impersonated: Option<User>,
    /// Client's address.
    pub source: String,
    /// `User-Agent`.
    pub agent: String,
    /// Body, at level Request.
    pub body: Option<Value>,
    /// Whether it was allowed, and RBAC's reason.
    pub decision: Option<(bool, String)>,
    /// What admission noted.
    pub notes: Vec<(String, String)>,
    /// When it came in.
    pub received: jiff::Timestamp,
}

fn micro(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

impl Record {
    /// The event of a stage (`ResponseStarted` or `ResponseComplete`) with the response's code.
    pub fn event(&self, stage: &str, code: u16, now: jiff::Timestamp) -> Value {
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": self.level.name(), "auditID": self.id,
            "stage": stage, "requestURI": self.uri, "verb": self.info.verb, "user": self.user.info(),
        });
        if let Some(user) = &self.impersonated {
            event["impersonatedUser"] = user.info();
        }
        event["sourceIPs"] = json!([self.source]);
        event["userAgent"] = self.agent.clone().into();
        if let Some(target) = &self.info.target {
            let mut object = json!({"resource": target.plural});
            let fields = [
                ("namespace", &target.namespace),
                ("name", &target.name),
                ("apiGroup", &target.group),
                ("apiVersion", &target.version),
                ("subresource", &target.subresource),
            ];
            for (field, text) in fields.into_iter().filter(|(_, text)| !text.is_empty()) {
                object[field] = text.clone().into();
            }
            event["objectRef"] = object;
        }
        event["responseStatus"] = json!({"metadata": {}, "code": code});
        if let Some(body) = &self.body {
            event["requestObject"] = body.clone();
        }
        event["requestReceivedTimestamp"] = micro(self.received).into();
        event["stageTimestamp"] = micro(now).into();
        if let Some((allowed, reason)) = &self.decision {
            let decision = if *allowed { "allow" } else { "forbid" };
            event["annotations"] =
                json!({"authorization.k8s.io/decision": decision, "authorization.k8s.io/reason": reason});
        }
        for (key, value) in &self.notes {
            event["annotations"][key.as_str()] = value.clone().into();
        }
        event
    }
}

/// Whether the body of such a request may be recorded: secrets, tokens and what may hold them may not.
pub fn may_record_body(info: &Info) -> bool {
    let Some(target) = &info.target else { return false };
    let secret = match (target.group.as_str(), target.plural.as_str()) {
        ("", "secrets" | "configmaps") | ("authentication.k8s.io", _) => true,
        ("", "serviceaccounts") => target.subresource == "token",
        _ => false,
    };
    !secret
}

/// The client's identity of the request when it gave a sane one, else a new one.
pub fn id_of(headers: &HeaderMap) -> String {
    let given = headers.get("audit-id").and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty() && v.len() <= 64);
    given.map_or_else(|| uuid::Uuid::new_v4().to_string(), String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_with_secrets_are_never_recorded() {
        let info = |path: &str| Info::of(&http::Method::POST, &path.parse().unwrap());
        assert!(may_record_body(&info("/api/v1/namespaces/a/pods")));
        for path in [
            "/api/v1/namespaces/a/secrets",
            "/api/v1/namespaces/a/serviceaccounts/b/token",
            "/apis/authentication.k8s.io/v1/tokenreviews",
        ] {
            assert!(!may_record_body(&info(path)), "{path}");
        }
    }
}
