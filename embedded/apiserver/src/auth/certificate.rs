//! The user that a client certificate names: the common name is the user, the organisations are the groups, as
//! kube-apiserver reads them. Whether the certificate is genuine was settled by the TLS handshake.
//!
//! Only the subject is read (RFC 5280, 4.1), so a walk over four levels of DER takes the place of an X.509 library:
//! `x509-parser` was tried, its derive macros make the whole tree's macros compile with more features.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::User;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANISATION: &[u8] = &[0x55, 4, 10];

/// The user in the subject of a DER certificate; None when it names nobody.
pub fn user_of(der: &[u8]) -> Option<User> {
    let (mut name, mut groups) = (String::new(), Vec::new());
    for (kind, text) in subject(der)? {
        match kind {
            COMMON_NAME => name = text,
            ORGANISATION => groups.push(text),
            _ => {}
        }
    }
    groups.push("system:authenticated".into());
    let digest = Sha256::digest(der).iter().fold(String::new(), |mut text, byte| {
        // writing to a String cannot fail
        let _ = write!(text, "{byte:02x}");
        text
    });
    let extra = [("authentication.kubernetes.io/credential-id".to_string(), vec![format!("X509SHA256={digest}")])];
    (!name.is_empty()).then(|| User { name, uid: String::new(), groups, extra: extra.into() })
}

/// Attributes of the subject: object identifier and text.
fn subject(der: &[u8]) -> Option<Vec<(&[u8], String)>> {
    let mut certificate = der;
    let mut outer = expect(&mut certificate, SEQUENCE)?;
    let mut body = expect(&mut outer, SEQUENCE)?;
    if body.first() == Some(&VERSION) {
        element(&mut body)?;
    }
    // serial number, signature algorithm, issuer, validity
    for _ in 0..4 {
        element(&mut body)?;
    }
    let mut names = expect(&mut body, SEQUENCE)?;
    let mut found = Vec::new();
    while !names.is_empty() {
        let mut set = expect(&mut names, SET)?;
        while !set.is_empty() {
            let mut pair = expect(&mut set, SEQUENCE)?;
            let (_, kind) = element(&mut pair)?;
            let (tag, text) = element(&mut pair)?;
            // UTF8String, PrintableString, IA5String; others name nobody here
            if matches!(tag, 0x0c | 0x13 | 0x16) {
                found.push((kind, std::str::from_utf8(text).ok()?.to_string()));
            }
        }
    }
    Some(found)
}

fn expect<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, content) = element(input)?;
    (found == tag).then_some(content)
}

/// The next element: its tag and content.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(b, _)| b.len() <= 4)?;
        rest = after;
        bytes.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte))
    };
    let (content, after) = rest.split_at_checked(length)?;
    *input = after;
    Some((tag, content))
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn the_subject_is_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let authority = crate::tls::Authority::load(dir.path()).unwrap();
        let (pem, _) = authority.issue_client("zoë", Some("system:masters"), 1).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let user = user_of(&der).unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups),
            ("zoë", vec!["system:masters".into(), "system:authenticated".into()])
        );
        // nothing that is cut off is read, and nothing panics
        assert!((0..der.len()).all(|end| user_of(&der[..end]).is_none()));
    }
}
