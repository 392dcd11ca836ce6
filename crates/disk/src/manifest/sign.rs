//! Signatures of manifests: Ed25519 (RFC 8032) with a key that the user gives.
//!
//! ```sh
//! openssl genpkey -algorithm ed25519 -out key.pem          # --sign-key: PKCS #8 (RFC 8410)
//! openssl pkey -in key.pem -pubout -out public.pem         # --verify-key: SubjectPublicKeyInfo
//! ```
//!
//! What is signed is a text, one line for each field, so that it does not depend on how JSON is laid
//! out; the chunk digests are covered by the root:
//!
//! ```text
//! forklift disk manifest 1
//! identity "…"            strings as JSON
//! format "raw"
//! targetFormat "raw"
//! size 1073741824
//! algorithm "blake3"
//! chunkSize 4194304
//! root "<hex>"
//! created "2026-11-21T04:00:00Z"
//! changeId null
//! baseChangeId null
//! ```

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};

use super::Manifest;
use crate::error::{Error, Result};

/// What precedes the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The signature in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// `ed25519`.
    pub algorithm: String,
    /// The signer's public key, base64 of 32 bytes: to find the key, not to trust it.
    pub public_key: String,
    /// The signature, base64 of 64 bytes.
    pub value: String,
}

/// A key that signs.
#[derive(Debug)]
pub struct SignKey(Ed25519KeyPair);

/// A key that signatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyKey(Vec<u8>);

fn refused(path: &Path, reason: impl Into<String>) -> Error {
    Error::Signature { path: path.to_owned(), reason: reason.into() }
}

impl SignKey {
    /// Reads a PEM file with a PKCS #8 key. What the file holds is never part of a message.
    pub fn read(path: &Path) -> Result<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_file(path)
            .map_err(|_| refused(path, "is not a readable PEM file with a PRIVATE KEY"))?;
        // keys of openssl come without their public half
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map(Self)
            .map_err(|_| refused(path, "is not an Ed25519 key"))
    }

    /// Returns the key that the signatures are checked with.
    pub fn public(&self) -> VerifyKey {
        VerifyKey(self.0.public_key().as_ref().to_vec())
    }

    /// Signs a manifest.
    pub fn sign(&self, manifest: &mut Manifest) {
        let value = self.0.sign(statement(manifest).as_bytes());
        manifest.signature = Some(Signature {
            algorithm: "ed25519".into(),
            public_key: STANDARD.encode(self.0.public_key()),
            value: STANDARD.encode(value),
        });
    }
}

impl VerifyKey {
    /// Reads a PEM file with a public key.
    pub fn read(path: &Path) -> Result<Self> {
        let der = SubjectPublicKeyInfoDer::from_pem_file(path)
            .map_err(|_| refused(path, "is not a readable PEM file with a PUBLIC KEY"))?;
        match der.as_ref().strip_prefix(&SPKI) {
            Some(key) if key.len() == 32 => Ok(Self(key.to_vec())),
            _ => Err(refused(path, "is not an Ed25519 key")),
        }
    }

    /// Checks the signature of a manifest; `path` is for messages. The chunks are not looked at:
    /// [`Manifest::chunks`] compares them with the signed root.
    pub fn check(&self, manifest: &Manifest, path: &Path) -> Result<()> {
        let Some(signature) = &manifest.signature else {
            return Err(refused(path, "the manifest is not signed"));
        };
        if signature.algorithm != "ed25519" {
            return Err(refused(path, format!("signature algorithm {:?} is not known", signature.algorithm)));
        }
        let value = STANDARD.decode(&signature.value).map_err(|_| refused(path, "the signature is not base64"))?;
        UnparsedPublicKey::new(&ED25519, &self.0).verify(statement(manifest).as_bytes(), &value).map_err(|_| {
            let other = STANDARD.encode(&self.0) != signature.public_key;
            let reason = if other { "the manifest is signed with another key" } else { "the signature does not fit" };
            refused(path, reason)
        })
    }
}

/// Returns the text that is signed.
fn statement(manifest: &Manifest) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let maybe = |value: &Option<String>| value.as_deref().map_or_else(|| "null".into(), text);
    let target = text(manifest.target_format.as_deref().unwrap_or("raw"));
    let mut lines = format!("forklift disk manifest {}\n", manifest.version);
    for (name, value) in [
        ("identity", text(&manifest.identity)),
        ("format", text(&manifest.format)),
        ("targetFormat", target),
        ("size", manifest.size.to_string()),
        ("algorithm", text(&manifest.algorithm)),
        ("chunkSize", manifest.chunk_size.to_string()),
        ("root", text(&manifest.root)),
        ("created", text(&manifest.created)),
        ("changeId", maybe(&manifest.change_id)),
        ("baseChangeId", maybe(&manifest.base_change_id)),
    ] {
        lines.push_str(name);
        lines.push(' ');
        lines.push_str(&value);
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::time::UNIX_EPOCH;

    struct Keys {
        dir: tempfile::TempDir,
    }

    fn pem(kind: &str, der: &[u8]) -> String {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
    }

    impl Keys {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let random = ring::rand::SystemRandom::new();
            let key = || Ed25519KeyPair::generate_pkcs8(&random).expect("makes a key");
            let public = |key: &[u8]| {
                let pair = Ed25519KeyPair::from_pkcs8(key).expect("is a key");
                pem("PUBLIC KEY", &[&SPKI, pair.public_key().as_ref()].concat())
            };
            let (ours, other) = (key(), key());
            for (name, text) in [
                ("key", pem("PRIVATE KEY", ours.as_ref())),
                ("public", public(ours.as_ref())),
                ("other", public(other.as_ref())),
                ("rubbish", "no key".into()),
            ] {
                std::fs::write(dir.path().join(name), text).expect("writes");
            }
            Self { dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }
    }

    #[test]
    fn a_signature_holds_for_its_manifest_and_key_only() {
        let keys = Keys::new();
        let key = SignKey::read(&keys.path("key")).expect("reads");
        let public = VerifyKey::read(&keys.path("public")).expect("reads");
        assert_eq!(key.public(), public);
        let mut manifest = Manifest::new("a \"disk\"", "raw", 0, &[], UNIX_EPOCH);
        let here = Path::new("disk.img.manifest.json");
        let said = |error: Error| error.to_string();
        assert!(said(public.check(&manifest, here).expect_err("unsigned")).contains("is not signed"));
        key.sign(&mut manifest);
        public.check(&manifest, here).expect("fits");
        let text = serde_json::to_string(&manifest).expect("is JSON");
        let manifest: Manifest = serde_json::from_str(&text).expect("is a manifest");
        public.check(&manifest, here).expect("fits after a way over the disk");
        let other = VerifyKey::read(&keys.path("other")).expect("reads");
        assert!(said(other.check(&manifest, here).expect_err("another key")).contains("another key"));
        for changed in [
            Manifest { identity: "another".into(), ..manifest.clone() },
            Manifest { root: "0".repeat(64), ..manifest.clone() },
            Manifest { size: 1, ..manifest.clone() },
            Manifest { change_id: Some("9".into()), ..manifest.clone() },
            Manifest { created: "2030-01-01T00:00:00Z".into(), ..manifest.clone() },
        ] {
            let error = public.check(&changed, here).expect_err("changed");
            assert_eq!((error.code(), error.retryable()), ("SignatureInvalid", false));
        }
    }

    #[test]
    fn what_is_no_key_is_named_and_not_shown() {
        let keys = Keys::new();
        for name in ["public", "rubbish", "missing"] {
            let error = SignKey::read(&keys.path(name)).expect_err("is no private key");
            assert!(error.to_string().contains(name) && !error.to_string().contains("no key"), "{error}");
        }
        VerifyKey::read(&keys.path("key")).expect_err("is no public key");
    }
}
