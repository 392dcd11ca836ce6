//! URLs, read as Go's `net/url` reads a request's: absolute, or an absolute path.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::eval::Fault;
use super::super::value::{Key, Value};
use super::{Answer, truth};

/// A URL in its parts.
#[derive(Debug, PartialEq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
    text: String,
}

/// Reads a URL; None when it is none.
pub fn parse(text: &str) -> Option<Url> {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
        return None;
    }
    let (rest, _fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let url = |scheme: &str, host: &str, path: &str| Url {
        scheme: scheme.to_lowercase(),
        host: host.into(),
        path: path.into(),
        query: query.into(),
        text: text.into(),
    };
    if rest.starts_with('/') && !rest.starts_with("//") {
        return Some(url("", "", rest));
    }
    let (scheme, rest) = rest.split_once(':')?;
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(letters) {
        return None;
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return rest.starts_with('/').then(|| url(scheme, "", rest));
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let port =
        host.rsplit_once(':').filter(|(before, _)| !before.contains('[') || before.ends_with(']')).map(|(_, p)| p);
    let sound = port.is_none_or(|p| p.chars().all(|c| c.is_ascii_digit()))
        && (!host.contains('[') || host.starts_with('[') && host.contains(']'));
    sound.then(|| url(scheme, host, path))
}

impl Url {
    fn port(&self) -> &str {
        let after = self.host.rsplit(']').next().unwrap_or_default();
        after.rsplit_once(':').map_or("", |(_, port)| port)
    }

    fn hostname(&self) -> &str {
        let without = self.host.strip_suffix(self.port()).unwrap_or(&self.host);
        let name = if self.port().is_empty() { without } else { without.strip_suffix(':').unwrap_or(without) };
        name.trim_start_matches('[').trim_end_matches(']')
    }
}

pub fn call(name: &str, args: &[Value]) -> Answer {
    let text = |text: &str| Some(Ok(Value::text(text)));
    match (name, args) {
        ("url", [Value::Text(source)]) => Some(match parse(source) {
            Some(url) => Ok(Value::Url(Arc::new(url))),
            None => Fault::new(format!(
                "URL parse error during conversion from string: parse {source:?}: invalid URI for request"
            )),
        }),
        ("isURL", [Value::Text(source)]) => truth(parse(source).is_some()),
        ("getScheme", [Value::Url(url)]) => text(&url.scheme),
        ("getHost", [Value::Url(url)]) => text(&url.host),
        ("getHostname", [Value::Url(url)]) => text(url.hostname()),
        ("getPort", [Value::Url(url)]) => text(url.port()),
        ("getEscapedPath", [Value::Url(url)]) => text(&url.path),
        ("getQuery", [Value::Url(url)]) => Some(Ok(query(&url.query))),
        _ => None,
    }
}

fn query(text: &str) -> Value {
    let mut found: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        found.entry(Key::Text(Arc::from(unescape(name)))).or_default().push(Value::text(unescape(value)));
    }
    Value::map(found.into_iter().map(|(k, v)| (k, Value::list(v))).collect())
}

fn unescape(text: &str) -> String {
    let plain = text.replace('+', " ");
    let bytes = plain.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()).filter(|_| byte == b'%') {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
