//! Texts in other alphabets, and digests of them.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

use super::{Builtin, Outcome, ours, yes};
use crate::rego::limits::Budget;
use crate::rego::value::Value;

/// As Go decodes: bits that are left over may be anything, the padding may not.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const URL_BARE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT.with_encode_padding(false));

pub const ALL: &[Builtin] = &[
    ours("base64.encode", 1, |b, a| encoded(b, a, |text| STANDARD.encode(text))),
    ours("base64.decode", 1, |b, a| decoded(b, a, |text| decode(&STANDARD, text))),
    ours("base64.is_valid", 1, |_, a| yes(a[0].as_str().is_some_and(|text| decode(&STANDARD, text).is_some()))),
    ours("base64url.encode", 1, |b, a| encoded(b, a, |text| URL.encode(text))),
    ours("base64url.encode_no_pad", 1, |b, a| encoded(b, a, |text| URL_BARE.encode(text))),
    ours("base64url.decode", 1, |b, a| {
        decoded(b, a, |text| {
            let padding = match text.len() % 4 {
                _ if text.ends_with('=') => "",
                0 => "",
                1 => return None,
                2 => "==",
                _ => "=",
            };
            decode(&URL, &format!("{text}{padding}"))
        })
    }),
    ours("hex.encode", 1, |b, a| encoded(b, a, |text| digits(text.as_bytes()))),
    ours("hex.decode", 1, |b, a| {
        decoded(b, a, |text| {
            let pairs = text.as_bytes().chunks(2).map(|pair| {
                let (&[high, low], true) = (pair, pair.is_ascii()) else { return None };
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()
            });
            pairs.collect()
        })
    }),
    ours("urlquery.encode", 1, |b, a| encoded(b, a, query)),
    ours("urlquery.decode", 1, |b, a| decoded(b, a, from_query)),
    ours("urlquery.encode_object", 1, |budget, a| {
        let Value::Object(members) = a[0] else { return Ok(None) };
        let mut pairs = Vec::new();
        for (key, value) in members.iter() {
            let Some(key) = key.as_str() else { return Ok(None) };
            let texts: &[Value] = match value {
                Value::String(_) => std::slice::from_ref(value),
                Value::Array(items) | Value::Set(items) => items,
                _ => return Ok(None),
            };
            for text in texts {
                let Some(text) = text.as_str() else { return Ok(None) };
                budget.charge((key.len() + text.len()) * 3 + 2)?;
                pairs.push(format!("{}={}", query(key), query(text)));
            }
        }
        Ok(Some(Value::string(pairs.join("&"))))
    }),
    ours("crypto.md5", 1, |b, a| encoded(b, a, |text| digits(&Md5::digest(text)))),
    ours("crypto.sha1", 1, |b, a| encoded(b, a, |text| digits(&Sha1::digest(text)))),
    ours("crypto.sha256", 1, |b, a| encoded(b, a, |text| digits(&Sha256::digest(text)))),
];

fn encoded(budget: &mut Budget, arguments: &[&Value], work: impl FnOnce(&str) -> String) -> Outcome {
    let Some(text) = arguments[0].as_str() else { return Ok(None) };
    budget.charge(text.len() * 3 + 64)?;
    Ok(Some(Value::string(work(text))))
}

fn decoded(budget: &mut Budget, arguments: &[&Value], work: impl FnOnce(&str) -> Option<Vec<u8>>) -> Outcome {
    let Some(text) = arguments[0].as_str() else { return Ok(None) };
    budget.charge(text.len() * 3 + 32)?;
    Ok(work(text).map(|bytes| Value::string(letters(&bytes))))
}

/// Line ends mean nothing in Go's decoder.
fn decode(engine: &GeneralPurpose, text: &str) -> Option<Vec<u8>> {
    engine.decode(text.replace(['\r', '\n'], "")).ok()
}

/// A text of bytes as Go writes it to JSON: each byte that is no letter becomes a replacement character.
fn letters(mut bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    loop {
        match std::str::from_utf8(bytes) {
            Ok(rest) => return text + rest,
            Err(error) => {
                let (good, bad) = bytes.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(good));
                text.push('\u{fffd}');
                bytes = bad.get(1..).unwrap_or_default();
            }
        }
    }
}

fn digits(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // writing to a String does not fail
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A text in the query of a URL, as Go escapes it.
fn query(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len() + 8), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => {
                out.push('%');
                out.push_str(&digits(&[byte]).to_uppercase());
            }
        }
        out
    })
}

fn from_query(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(out)
}
