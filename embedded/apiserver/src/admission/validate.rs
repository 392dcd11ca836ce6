//! What is wrong with the configuration of a webhook's client.

use serde_json::Value;

use crate::error::Cause;
use crate::meta;

/// Checks `clientConfig`, which is at `at`.
pub fn validate_client(config: &Value, at: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (url, service) = (config.get("url").filter(|u| !u.is_null()), config.get("service").filter(|s| !s.is_null()));
    match (url, service) {
        (None, None) | (Some(_), Some(_)) => {
            causes.push(Cause::required(at, "exactly one of url or service is required"));
        }
        (Some(url), None) => {
            const FORM: &str = "; desired format: https://host[/path]";
            let text = url.as_str().unwrap_or_default();
            let at = format!("{at}.url");
            match text.split_once("://") {
                Some(("https", rest)) if rest.starts_with('/') || rest.is_empty() => {
                    causes.push(Cause::invalid(at, &"".into(), &format!("host must be specified{FORM}")));
                }
                Some(("https", rest)) => {
                    let authority = rest.split('/').next().unwrap_or_default();
                    for (mark, within, what) in [
                        ('@', authority, "user information is not permitted in the URL"),
                        ('#', rest, "fragments are not permitted in the URL"),
                        ('?', rest, "query parameters are not permitted in the URL"),
                    ] {
                        if let Some((part, tail)) = within.split_once(mark) {
                            let shown = if mark == '@' { part } else { tail };
                            causes.push(Cause::invalid(at.clone(), &shown.into(), what));
                        }
                    }
                }
                scheme => {
                    let shown = scheme.map_or("", |s| s.0);
                    let why = format!("'https' is the only allowed URL scheme{FORM}");
                    causes.push(Cause::invalid(at, &shown.into(), &why));
                }
            }
        }
        (None, Some(service)) => {
            for field in ["name", "namespace"] {
                if meta::text(service, &format!("/{field}")).is_empty() {
                    causes.push(Cause::required(
                        format!("{at}.service.{field}"),
                        &format!("service {field} is required"),
                    ));
                }
            }
            let port = service.get("port").and_then(Value::as_i64).unwrap_or(443);
            if !(1..=65535).contains(&port) {
                let why = "port is not valid: must be between 1 and 65535, inclusive";
                causes.push(Cause::invalid(format!("{at}.service.port"), &port.into(), why));
            }
        }
    }
    causes
}
