//! Service account tokens: JSON web tokens signed with HMAC-SHA-256, whose key never leaves the data directory.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Audience of tokens for this server.
pub const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// Signs and verifies.
pub struct Signer {
    inner: [u8; 64],
    outer: [u8; 64],
}

impl Signer {
    /// Prepares the key.
    pub fn new(secret: &[u8]) -> Self {
        let mut key = [0u8; 64];
        if secret.len() > 64 {
            key[..32].copy_from_slice(&Sha256::digest(secret));
        } else {
            key[..secret.len()].copy_from_slice(secret);
        }
        Self { inner: key.map(|b| b ^ 0x36), outer: key.map(|b| b ^ 0x5c) }
    }

    fn mac(&self, text: &str) -> [u8; 32] {
        let inner = Sha256::new().chain_update(self.inner).chain_update(text).finalize();
        Sha256::new().chain_update(self.outer).chain_update(inner).finalize().into()
    }

    /// Makes a token of the claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "typ": "JWT"}).to_string());
        let body = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(self.mac(&body));
        format!("{body}.{signature}")
    }

    /// The claims of a token that is genuine and, at `now` (seconds), valid.
    pub fn verify(&self, token: &str, now: i64) -> Option<Value> {
        let (body, signature) = token.rsplit_once('.')?;
        let given = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let right = self.mac(body);
        // no early exit: the time must not tell how much of a guess was right
        let difference = given.iter().zip(right).fold(given.len() ^ right.len(), |d, (a, b)| d | usize::from(a ^ b));
        if difference != 0 {
            return None;
        }
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body.split_once('.')?.1).ok()?).ok()?;
        let expired = claims.get("exp").and_then(Value::as_i64).is_some_and(|exp| exp <= now);
        (!expired).then_some(claims)
    }
}

/// Claims of a token for a service account; `bound` is a Pod or Secret (`pod`/`secret`, name, UID).
pub fn claims(
    namespace: &str,
    name: &str,
    uid: &str,
    audiences: &[String],
    expires: Option<i64>,
    now: i64,
    bound: Option<(&str, &str, &str)>,
) -> Value {
    let mut kubernetes = json!({"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}});
    if let Some((kind, name, uid)) = bound {
        kubernetes[kind] = json!({"name": name, "uid": uid});
    }
    let audiences = if audiences.is_empty() { vec![AUDIENCE.to_string()] } else { audiences.to_vec() };
    let mut claims = json!({
        "aud": audiences, "iss": AUDIENCE, "iat": now, "nbf": now, "sub": format!("system:serviceaccount:{namespace}:{name}"),
        "jti": uuid::Uuid::new_v4().to_string(), "kubernetes.io": kubernetes,
    });
    if let Some(expires) = expires {
        claims["exp"] = expires.into();
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_genuine_and_expire() {
        let signer = Signer::new(b"secret");
        let token = signer.sign(&claims("ns", "sa", "u", &[], Some(100), 50, None));
        assert_eq!(signer.verify(&token, 99).unwrap()["sub"], "system:serviceaccount:ns:sa");
        assert!(signer.verify(&token, 100).is_none());
        assert!(Signer::new(b"other").verify(&token, 99).is_none());
        assert!(signer.verify(&token.replacen('e', "f", 1), 99).is_none());
    }

    #[test]
    fn mac_is_hmac_sha256() {
        // RFC 4231, test case 2
        let hex: String =
            Signer::new(b"Jefe").mac("what do ya want for nothing?").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
