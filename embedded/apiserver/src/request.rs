//! What a request asks: path, verb, options, wanted form of the answer.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::Query;
use http::{HeaderMap, Method, Uri, header};

use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::registry::Resource;

/// A path below `/api/v1` or `/apis/G/V`, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// API group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural.
    pub plural: String,
    /// Namespace, empty when none is named.
    pub namespace: String,
    /// Object name, empty for the collection.
    pub name: String,
    /// Subresource, empty for the object itself.
    pub subresource: String,
}

impl Target {
    /// Takes the path apart; None when it is not the path of a resource.
    pub fn parse(path: &str) -> Option<Self> {
        let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(decode_segment).collect();
        let (group, version, rest) = match segments.first()?.as_str() {
            "api" => ("", segments.get(1)?.as_str(), segments.get(2..)?),
            "apis" => (segments.get(1)?.as_str(), segments.get(2)?.as_str(), segments.get(3..)?),
            _ => return None,
        };
        let mut target = Self { group: group.into(), version: version.into(), ..Self::default() };
        let part = |n: usize| rest.get(n).cloned().unwrap_or_default();
        let in_namespace = rest.len() > 2
            && part(0) == "namespaces"
            && !(group.is_empty() && matches!(part(2).as_str(), "status" | "finalize"));
        let from = if in_namespace {
            target.namespace = part(1);
            2
        } else {
            0
        };
        target.plural = part(from);
        target.name = part(from + 1);
        target.subresource = rest.get(from + 2..).map(|s| s.join("/")).unwrap_or_default();
        (!target.plural.is_empty()).then_some(target)
    }
}

/// Undoes percent-encoding.
pub fn decode_segment(text: &str) -> String {
    if !text.contains('%') {
        return text.to_string();
    }
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a request is about, before it is known whether anybody serves it.
#[derive(Clone, Debug)]
pub struct Info {
    /// Kubernetes' verb; the method in small letters when it is not about a resource.
    pub verb: &'static str,
    /// The resource or object; None for other paths.
    pub target: Option<Target>,
    /// The path.
    pub path: String,
    /// Whether nothing is to be stored.
    pub dry_run: bool,
    /// Whether the client wants to be told as things happen.
    pub follow: bool,
}

impl Info {
    /// Reads method, path and query.
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let path = uri.path().to_string();
        let mut target = Target::parse(&path);
        let query = uri.query().unwrap_or_default();
        let parameters = || query.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
        let flag = |name: &str| parameters().any(|(k, v)| k == name && is_true(v));
        let verb = match &target {
            Some(target) => verb(method, !target.name.is_empty(), flag("watch")),
            None => match method.as_str() {
                "GET" => "get",
                "HEAD" => "head",
                "POST" => "post",
                "PUT" => "put",
                "PATCH" => "patch",
                "DELETE" => "delete",
                "OPTIONS" => "options",
                _ => "",
            },
        };
        // a rule for one object by name holds for a list or watch of just this object too
        if let Some(target) = &mut target
            && target.name.is_empty()
            && matches!(verb, "list" | "watch" | "deletecollection")
        {
            let selector = parameters().find(|(k, _)| *k == "fieldSelector").map(|(_, v)| decode_segment(v));
            let name =
                selector.as_deref().unwrap_or_default().split(',').find_map(|s| s.strip_prefix("metadata.name="));
            target.name = name.unwrap_or_default().trim_start_matches('=').to_string();
        }
        Self { verb, target, path, dry_run: parameters().any(|(k, _)| k == "dryRun"), follow: flag("follow") }
    }

    /// Whether the request may stay open for as long as the client likes.
    pub fn is_long_running(&self) -> bool {
        let Some(target) = &self.target else { return false };
        let log = target.subresource == "log" && self.follow;
        self.verb == "watch" || log || crate::handlers::is_connect(target)
    }

    /// Whether the request may change something.
    pub fn is_mutating(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch" | "head" | "options")
    }
}

/// Kubernetes' verb for a method on a resource.
pub fn verb(method: &Method, named: bool, watch: bool) -> &'static str {
    match method.as_str() {
        "GET" | "HEAD" if watch => "watch",
        "GET" | "HEAD" if named => "get",
        "GET" | "HEAD" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if named => "delete",
        "DELETE" => "deletecollection",
        _ => "",
    }
}

fn is_true(text: &str) -> bool {
    matches!(text, "" | "1" | "t" | "T" | "true" | "True" | "TRUE")
}

/// Query parameters.
#[derive(Clone, Debug, Default)]
pub struct Params(HashMap<String, String>);

impl Params {
    /// Reads the query string.
    pub fn parse(uri: &Uri) -> ApiResult<Self> {
        let Query(map) = Query::<HashMap<String, String>>::try_from_uri(uri)
            .map_err(|e| ApiError::bad_request(format!("cannot read the query: {e}")))?;
        Ok(Self(map))
    }

    /// The parameter, empty when absent.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Whether the parameter is set to true.
    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|v| is_true(v))
    }

    /// Whether the parameter is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The parameter as a number.
    pub fn number(&self, name: &str) -> ApiResult<Option<i64>> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| ApiError::bad_request(format!("{name}: {text:?} is not a number")))
    }

    /// Whether nothing must be stored.
    pub fn dry_run(&self) -> ApiResult<bool> {
        match self.text("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => {
                Err(ApiError::bad_request(format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"")))
            }
        }
    }
}

/// The form in which objects are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    #[default]
    Object,
    /// As table.
    Table,
    /// Only their metadata.
    Metadata,
}

/// Chooses the form from the Accept header, and whether it is wanted as YAML; `list` where the answer is one.
pub fn form(headers: &HeaderMap, list: bool) -> ApiResult<(Form, bool)> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    for item in accept.split(',') {
        let mut pieces = item.split(';').map(str::trim);
        let media = pieces.next().unwrap_or_default();
        if !matches!(media, "application/json" | "*/*" | "application/*" | "" | "application/yaml") {
            continue;
        }
        let yaml = media == "application/yaml";
        let parameters: Vec<(&str, &str)> = pieces.filter_map(|p| p.split_once('=')).collect();
        let get = |name: &str| parameters.iter().find(|(k, _)| *k == name).map(|(_, v)| *v);
        let meta = get("g").is_none_or(|g| g == "meta.k8s.io") && get("v").is_none_or(|v| v == "v1" || v == "v1beta1");
        match get("as") {
            None => return Ok((Form::Object, yaml)),
            Some("Table") if meta => return Ok((Form::Table, yaml)),
            Some("PartialObjectMetadata") if meta && list => {
                return Err(ApiError::not_acceptable(
                    "you requested PartialObjectMetadata, but the requested object is a list",
                ));
            }
            Some("PartialObjectMetadataList") if meta && !list => {
                let why = "you requested PartialObjectMetadataList, but the requested object is not a list";
                return Err(ApiError::not_acceptable(why));
            }
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if meta => return Ok((Form::Metadata, yaml)),
            // the next alternative may fit
            Some(_) => {}
        }
    }
    Err(ApiError::not_acceptable("only the following media types are accepted: application/json, application/yaml"))
}

/// One request for a resource.
pub struct Context {
    /// The resource.
    pub resource: Arc<Resource>,
    /// The path.
    pub target: Target,
    /// HTTP method.
    pub method: Method,
    /// Options.
    pub params: Params,
    /// Who asks.
    pub user: User,
    /// Wanted form.
    pub form: Form,
    /// Whether it is wanted as YAML.
    pub yaml: bool,
    /// Field manager: the parameter, or the program in the user agent.
    pub manager: String,
    /// Body's media type.
    pub content_type: String,
    /// Warnings to send back.
    pub warnings: std::sync::Mutex<Vec<String>>,
    /// What admission wants noted in the audit log.
    pub annotations: std::sync::Mutex<Vec<(String, String)>>,
    /// Fields that the body has twice, as messages tell them.
    pub duplicates: std::sync::Mutex<Vec<String>>,
}

impl Context {
    /// Puts the pieces together.
    pub fn new(
        resource: Arc<Resource>,
        target: Target,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        user: User,
    ) -> ApiResult<Self> {
        let params = Params::parse(uri)?;
        let text =
            |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
        let manager = match params.text("fieldManager") {
            "" => text(header::USER_AGENT).split('/').next().filter(|m| !m.is_empty()).unwrap_or("unknown").to_string(),
            named => named.to_string(),
        };
        let content_type = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_string();
        let list = target.name.is_empty() && method != Method::POST && !params.flag("watch");
        let (form, yaml) = form(headers, list)?;
        let include = params.text("includeObject");
        if form == Form::Table && !matches!(include, "" | "None" | "Metadata" | "Object") {
            return Err(ApiError::bad_request(format!("unrecognized includeObject value: {include:?}")));
        }
        Ok(Self {
            resource,
            target,
            method,
            form,
            yaml,
            params,
            user,
            manager,
            content_type,
            warnings: std::sync::Mutex::default(),
            annotations: std::sync::Mutex::default(),
            duplicates: std::sync::Mutex::default(),
        })
    }

    /// Adds a warning that clients show.
    pub fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(text.into());
    }

    /// Adds an annotation to the event in the audit log.
    pub fn annotate(&self, key: String, value: &str) {
        self.annotations.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((key, value.to_string()));
    }

    /// 404 about the object of this request.
    pub fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.resource.group, &self.resource.plural, &self.target.name)
    }

    /// 422 about an object.
    pub fn invalid(&self, name: &str, causes: Vec<crate::error::Cause>) -> ApiError {
        ApiError::invalid(&self.resource.group, &self.resource.kind, name, causes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let show = |path: &str| {
            let t = Target::parse(path).unwrap();
            format!("{}|{}|{}|{}|{}|{}", t.group, t.version, t.plural, t.namespace, t.name, t.subresource)
        };
        assert_eq!(show("/api/v1/namespaces"), "|v1|namespaces|||");
        assert_eq!(show("/api/v1/namespaces/a"), "|v1|namespaces||a|");
        assert_eq!(show("/api/v1/namespaces/a/status"), "|v1|namespaces||a|status");
        assert_eq!(show("/api/v1/namespaces/a/pods/p/log"), "|v1|pods|a|p|log");
        assert_eq!(show("/apis/x.io/v1/namespaces/a/things/t"), "x.io|v1|things|a|t|");
        assert_eq!(show("/apis/x.io/v1/things"), "x.io|v1|things|||");
        assert_eq!(show("/api/v1/namespaces/a/pods/a%3Ab"), "|v1|pods|a|a:b|");
        assert!(Target::parse("/apis/x.io/v1").is_none());
        assert!(Target::parse("/healthz").is_none());
    }
}
