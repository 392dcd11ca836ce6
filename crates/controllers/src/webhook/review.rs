//! The wire of admission: the request that is read, the answer that is written. `admission.k8s.io/v1`.
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What the API server asks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// Returned in the answer.
    pub uid: String,
    /// Kind of the object, for the log.
    #[serde(skip)]
    pub kind: String,
    /// Name of the object; empty while the server has yet to make one.
    pub name: String,
    /// Namespace of the object.
    pub namespace: String,
    /// `CREATE` or `UPDATE`.
    pub operation: String,
    /// Who asks.
    pub user_info: UserInfo,
    /// The object as it shall become.
    pub object: Value,
    /// The object as it is, on updates.
    pub old_object: Value,
    /// Nothing is stored: nothing may be done.
    pub dry_run: Option<bool>,
}

/// Who asks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct UserInfo {
    /// Name.
    pub username: String,
    /// UID.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Further facts.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Request {
    /// Reads an AdmissionReview.
    pub fn read(mut review: Value) -> Result<Self, String> {
        let kind = review["request"]["kind"]["kind"].as_str().unwrap_or_default().to_owned();
        let mut request: Self =
            serde_json::from_value(review["request"].take()).map_err(|error| format!("its request: {error}"))?;
        if request.uid.is_empty() {
            return Err("its request has no uid".to_owned());
        }
        request.kind = kind;
        Ok(request)
    }

    /// Whether the object is made.
    pub fn creates(&self) -> bool {
        self.operation == "CREATE"
    }

    /// Reads the object.
    pub fn object<T: DeserializeOwned>(&self) -> Result<T, Answer> {
        serde_json::from_value(self.object.clone()).map_err(|error| Answer::bad(format!("the object: {error}")))
    }
}

/// One change of an object, RFC 6902.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PatchOperation {
    op: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

impl PatchOperation {
    /// Sets what these keys lead to; the keys above have to be there.
    pub fn set(keys: &[&str], value: Value) -> Self {
        Self { op: "add", path: pointer(keys), value: Some(value) }
    }

    /// Takes away what these keys lead to.
    pub fn remove(keys: &[&str]) -> Self {
        Self { op: "remove", path: pointer(keys), value: None }
    }
}

fn pointer(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect()
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The object may be stored.
    Allow {
        /// Changes.
        patch: Vec<PatchOperation>,
        /// What the user is told besides.
        warnings: Vec<String>,
    },
    /// It may not.
    Deny {
        /// HTTP status.
        code: u16,
        /// Why.
        message: String,
    },
}

impl Answer {
    /// Allows without a word.
    pub fn allow() -> Self {
        Self::Allow { patch: Vec::new(), warnings: Vec::new() }
    }

    /// Allows with changes.
    pub fn patch(patch: Vec<PatchOperation>) -> Self {
        Self::Allow { patch, warnings: Vec::new() }
    }

    /// Refuses what the user wrote.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::Deny { code: 400, message: message.into() }
    }

    /// Refuses what the user may not, or a source does not let in.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::Deny { code: 403, message: message.into() }
    }

    /// Returns the AdmissionReview that answers a request.
    pub fn review(&self, request: &Request) -> Value {
        let mut response = json!({"uid": request.uid, "allowed": matches!(self, Self::Allow { .. })});
        match self {
            Self::Allow { patch, warnings } => {
                if !patch.is_empty() {
                    let text = serde_json::to_vec(patch).unwrap_or_default();
                    response["patchType"] = json!("JSONPatch");
                    response["patch"] = json!(STANDARD.encode(text));
                }
                if !warnings.is_empty() {
                    response["warnings"] = json!(warnings);
                }
            }
            Self::Deny { code, message } => response["status"] = json!({"code": code, "message": message}),
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_are_read_and_answered() {
        let review = json!({"request": {"uid": "u", "kind": {"kind": "Plan"}, "operation": "CREATE", "object": {"a": 1},
            "oldObject": null, "userInfo": {"username": "me", "groups": ["g"]}, "dryRun": false}});
        let request = Request::read(review).expect("a review");
        assert!(request.creates() && request.old_object.is_null());
        assert_eq!((request.kind.as_str(), request.user_info.groups.as_slice()), ("Plan", &["g".to_owned()][..]));
        let keys = ["metadata", "annotations", "a.b/c~d"];
        let answer = Answer::patch(vec![PatchOperation::set(&keys, json!("x"))]).review(&request);
        assert_eq!((&answer["response"]["uid"], &answer["response"]["allowed"]), (&json!("u"), &json!(true)));
        let patch = STANDARD.decode(answer["response"]["patch"].as_str().unwrap_or_default()).expect("base64");
        assert_eq!(
            serde_json::from_slice::<Value>(&patch).ok(),
            Some(json!([{"op": "add", "path": "/metadata/annotations/a.b~1c~0d", "value": "x"}]))
        );
        let refusal = Answer::forbidden("no").review(&request);
        assert_eq!(refusal["response"]["status"], json!({"code": 403, "message": "no"}));
        assert!(Request::read(json!({})).is_err());
        assert!(Request::read(json!({"request": {"uid": 3}})).is_err());
    }
}
