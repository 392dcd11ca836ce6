//! Who makes a request: the administrator, configured tokens, and service accounts by signed tokens.

pub mod certificate;
pub mod impersonate;
pub mod rbac;
pub mod token;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use serde_json::{Value, json};

use crate::storage::{Key, Store};

/// The authenticated maker of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    /// Name, such as `system:serviceaccount:ns:name`.
    pub name: String,
    /// UID, where there is one.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Further facts that the authenticator gave, such as the token's pod.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Somebody without credentials.
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()], ..Self::default() }
    }

    /// Whether everything is allowed.
    pub fn is_admin(&self) -> bool {
        self.groups.iter().any(|g| g == "system:masters")
    }

    /// As `UserInfo` in reviews.
    pub fn info(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = self.uid.clone().into();
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

/// 256 random bits as text.
pub fn random_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// The known tokens.
pub struct Auth {
    fixed: HashMap<String, User>,
    signer: token::Signer,
}

impl Auth {
    /// Loads or makes the signing key and takes the configured tokens.
    pub fn load(dir: &Path, admin: &str, tokens: Vec<(String, String, Vec<String>)>) -> anyhow::Result<Self> {
        let key = crate::tls::keep(dir.join("service-account.key"), || Ok(random_token()))?;
        let all = |mut groups: Vec<String>| {
            groups.push("system:authenticated".into());
            groups
        };
        let mut fixed = HashMap::new();
        for (token, name, groups) in tokens {
            fixed.insert(token, User { name, groups: all(groups), ..User::default() });
        }
        fixed.insert(
            admin.trim().to_string(),
            User { name: "kubernetes-admin".into(), groups: all(vec!["system:masters".into()]), ..User::default() },
        );
        Ok(Self { fixed, signer: token::Signer::new(key.trim().as_bytes()) })
    }

    /// The user of a request: by the connection's certificate, else by its bearer token, else nobody in particular.
    /// None when a token is shown and not good.
    pub fn authenticate(&self, store: &Store, headers: &HeaderMap, certificate: Option<&User>) -> Option<User> {
        let bearer = websocket_token(headers).or_else(|| {
            let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_string())
        });
        match (certificate, bearer.filter(|t| !t.is_empty())) {
            (Some(user), _) => Some(user.clone()),
            (None, Some(token)) => self.user_of(store, &token),
            (None, None) => Some(User::anonymous()),
        }
    }

    /// The user of a token that is for this server.
    pub fn user_of(&self, store: &Store, token: &str) -> Option<User> {
        self.review(store, token, &[]).map(|(user, _)| user)
    }

    /// The user of a token and for which of the wanted audiences it is; none wanted means the server's own.
    pub fn review(&self, store: &Store, token: &str, audiences: &[String]) -> Option<(User, Vec<String>)> {
        let mut wanted = if audiences.is_empty() { vec![token::AUDIENCE.to_string()] } else { audiences.to_vec() };
        if let Some(user) = self.fixed.get(token) {
            wanted.retain(|w| w == token::AUDIENCE);
            return (!wanted.is_empty()).then(|| (user.clone(), wanted));
        }
        let claims = self.signer.verify(token, jiff::Timestamp::now().as_second())?;
        let has: Vec<&str> = claims["aud"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        wanted.retain(|w| has.contains(&w.as_str()));
        if wanted.is_empty() {
            return None;
        }
        let of = |pointer: &str| claims.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name, uid) = (
            of("/kubernetes.io/namespace"),
            of("/kubernetes.io/serviceaccount/name"),
            of("/kubernetes.io/serviceaccount/uid"),
        );
        let lives = |resource: &str, name: &str, uid: &str| {
            store.get(&Key::new(&Arc::from(resource), namespace, name)).is_some_and(|o| o.uid == uid)
        };
        if !lives("/serviceaccounts", name, uid) {
            return None;
        }
        for (resource, field) in [("/pods", "pod"), ("/secrets", "secret")] {
            let bound = of(&format!("/kubernetes.io/{field}/name"));
            if !bound.is_empty() && !lives(resource, bound, of(&format!("/kubernetes.io/{field}/uid"))) {
                return None;
            }
        }
        let mut user = service_account_user(namespace, name, uid);
        let mut add = |key: &str, value: String| {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        };
        let jti = claims.get("jti").and_then(Value::as_str).unwrap_or_default();
        if !jti.is_empty() {
            add("credential-id", format!("JTI={jti}"));
        }
        let pod = of("/kubernetes.io/pod/name");
        if !pod.is_empty() {
            add("pod-name", pod.to_string());
            add("pod-uid", of("/kubernetes.io/pod/uid").to_string());
        }
        Some((user, wanted))
    }

    /// Signs a token for a service account.
    pub fn sign(&self, claims: &Value) -> String {
        self.signer.sign(claims)
    }
}

/// Browsers cannot set headers on a WebSocket: they show the token as a sub-protocol.
/// <https://github.com/kubernetes/kubernetes/pull/47740>
fn websocket_token(headers: &HeaderMap) -> Option<String> {
    headers.get(header::UPGRADE).filter(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"))?;
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let encoded = offers.flat_map(|v| v.split(',')).find_map(|p| p.trim().strip_prefix(WEBSOCKET_TOKEN))?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

/// Begin of the sub-protocol that carries a token.
pub const WEBSOCKET_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// The user that a service account is.
pub fn service_account_user(namespace: &str, name: &str, uid: &str) -> User {
    User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        uid: uid.to_string(),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".into(),
        ],
        ..User::default()
    }
}
