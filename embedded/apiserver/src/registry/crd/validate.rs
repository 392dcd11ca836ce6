//! What is wrong with a definition: names, versions, columns, subresources, conversion, schemas.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::{schemas, strings, versions};
use crate::error::Cause;
use crate::meta;
use crate::registry::{Registry, field_path};
use crate::schema::{Schema, Type};

static LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^[a-z]([-a-z0-9]*[a-z0-9])?$").ok());
static COLUMN_PATH: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(\.[A-Za-z0-9_\\/-]+(\\\.[A-Za-z0-9_\\/-]+)*|\[[^\]]+\]|\.\*)+$").ok());

const LABEL_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const COLUMN_TYPES: &str = "boolean,date,integer,number,string";
const COLUMN_FORMATS: &str = "byte,date,date-time,double,float,int32,int64,password";
const APPROVED: &str = "api-approved.kubernetes.io";

/// What is wrong with the definition.
pub fn validate(crd: &Value, registry: &Registry) -> Vec<Cause> {
    let mut causes = Vec::new();
    group_and_scope(crd, registry, &mut causes);
    names(crd, &mut causes);
    if crd.pointer("/spec/preserveUnknownFields").and_then(Value::as_bool) == Some(true) {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        causes.push(Cause::invalid("spec.preserveUnknownFields", &true.into(), why));
    }
    let found: Vec<&str> = versions(crd).map(|v| meta::text(v, "/name")).collect();
    let storage = versions(crd).filter(|v| v.get("storage").and_then(Value::as_bool) == Some(true)).count();
    let shown = crd.pointer("/spec/versions").cloned().unwrap_or_default();
    if storage != 1 {
        causes.push(Cause::invalid("spec.versions", &shown, "must have exactly one version marked as storage version"));
    }
    if found.iter().enumerate().any(|(i, name)| found[..i].contains(name)) {
        causes.push(Cause::invalid("spec.versions", &shown, "must contain unique version names"));
    }
    for (index, version) in versions(crd).enumerate() {
        one_version(crd, index, version, &mut causes);
    }
    conversion(crd, &mut causes);
    causes
}

/// Where a part of a version is shown: when all versions have the same, it counts as the definition's own.
fn place(crd: &Value, index: usize, part: &str) -> String {
    let all: Vec<Option<&Value>> = versions(crd).map(|v| v.get(part)).collect();
    if all.windows(2).all(|pair| pair[0] == pair[1]) {
        format!("spec.{part}")
    } else {
        format!("spec.versions[{index}].{part}")
    }
}

fn group_and_scope(crd: &Value, registry: &Registry, causes: &mut Vec<Cause>) {
    let (group, plural) = (meta::text(crd, "/spec/group"), meta::text(crd, "/spec/names/plural"));
    if meta::name(crd) != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &meta::name(crd).into(), why));
    }
    if !group.contains('.') {
        causes.push(Cause::invalid("spec.group", &group.into(), "should be a domain with at least one dot"));
    }
    let approved = crd.pointer("/metadata/annotations").is_some_and(|a| a.get(APPROVED).is_some());
    if (group.ends_with(".k8s.io") || group.ends_with(".kubernetes.io")) && !approved {
        let why = format!(
            "protected groups must have approval annotation \"{APPROVED}\", see https://github.com/kubernetes/enhancements/pull/1111"
        );
        causes.push(Cause::required(format!("metadata.annotations[{APPROVED}]"), &why));
    }
    match meta::text(crd, "/spec/scope") {
        "Namespaced" | "Cluster" => {}
        "" => causes.push(Cause::required("spec.scope", "")),
        scope => causes.push(Cause::unsupported("spec.scope", &scope.into(), &["Cluster".into(), "Namespaced".into()])),
    }
    if registry.all().iter().any(|r| !r.custom && r.group == group) {
        causes.push(Cause::invalid("spec.group", &group.into(), "is a group of built-in resources"));
    }
}

fn names(crd: &Value, causes: &mut Vec<Cause>) {
    let label = |text: &str| LABEL.as_ref().is_some_and(|r| r.is_match(text)) && text.len() <= 63;
    for (field, mixed) in [("plural", false), ("singular", false), ("kind", true), ("listKind", true)] {
        let (at, name) = (format!("spec.names.{field}"), meta::text(crd, &format!("/spec/names/{field}")));
        if name.is_empty() || field == "listKind" && name == "List" {
            causes.push(Cause::required(at, ""));
        } else if mixed && !label(&name.to_lowercase()) {
            let why = format!("may have mixed case, but should otherwise match: {LABEL_RULE}");
            causes.push(Cause::invalid(at, &name.into(), &why));
        } else if !mixed && !label(name) {
            causes.push(Cause::invalid(at, &name.into(), LABEL_RULE));
        }
    }
    let kind = meta::text(crd, "/spec/names/kind");
    if !kind.is_empty() && kind == meta::text(crd, "/spec/names/listKind") {
        causes.push(Cause::invalid("spec.names.listKind", &kind.into(), "kind and listKind may not be the same"));
    }
    for field in ["shortNames", "categories"] {
        for (index, name) in strings(crd.pointer(&format!("/spec/names/{field}"))).into_iter().enumerate() {
            if !label(&name) {
                causes.push(Cause::invalid(format!("spec.names.{field}[{index}]"), &name.into(), LABEL_RULE));
            }
        }
    }
}

fn one_version(crd: &Value, index: usize, version: &Value, causes: &mut Vec<Cause>) {
    let at = format!("spec.versions[{index}]");
    let name = meta::text(version, "/name");
    if !LABEL.as_ref().is_some_and(|r| r.is_match(name)) {
        causes.push(Cause::invalid(format!("{at}.name"), &name.into(), LABEL_RULE));
    }
    if let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) {
        let below = format!("{at}.deprecationWarning");
        if version.get("deprecated").and_then(Value::as_bool) != Some(true) {
            causes.push(Cause::invalid(below, &warning.into(), "can only be set for deprecated versions"));
        } else if warning.is_empty() {
            causes.push(Cause::invalid(below, &warning.into(), "must not be an empty string"));
        }
    }
    let own = |part: &str| place(crd, index, part);
    // what all versions share is told once
    let told = |part: &str| index > 0 && own(part) == format!("spec.{part}");
    let schema_at = match own("schema") {
        shared if shared == "spec.schema" => "spec.validation.openAPIV3Schema".to_string(),
        own => format!("{own}.openAPIV3Schema"),
    };
    let mut shape = None;
    match version.pointer("/schema/openAPIV3Schema") {
        None => causes.push(Cause::required(format!("{at}.schema.openAPIV3Schema"), "schemas are required")),
        Some(schema) => {
            let read = Schema::root(schema);
            shape = read.as_ref().ok().cloned();
            if !told("schema") {
                let found = schemas::faults(schema, &schema_at, shape.as_deref());
                if let (Err(why), true) = (read, found.is_empty()) {
                    causes.push(Cause::invalid(schema_at, &Value::Null, &why));
                }
                causes.extend(found);
            }
        }
    }
    if !told("subresources") {
        scale(version, &own("subresources"), causes);
    }
    if !told("additionalPrinterColumns") {
        columns(version, &own("additionalPrinterColumns"), causes);
    }
    if let Some(shape) = shape
        && !told("selectableFields")
    {
        selectable(version, &own("selectableFields"), &shape, causes);
    }
}

fn scale(version: &Value, at: &str, causes: &mut Vec<Cause>) {
    let Some(scale) = version.pointer("/subresources/scale") else { return };
    for (field, below, optional) in [
        ("specReplicasPath", &[".spec."][..], false),
        ("statusReplicasPath", &[".status."][..], false),
        ("labelSelectorPath", &[".spec.", ".status."][..], true),
    ] {
        let (place, path) = (format!("{at}.scale.{field}"), meta::text(scale, &format!("/{field}")));
        if path.is_empty() {
            if !optional {
                causes.push(Cause::required(place, ""));
            }
        } else if !below.iter().any(|b| path.starts_with(b)) {
            let roots: Vec<&str> = below.iter().map(|b| b.trim_end_matches('.')).collect();
            causes.push(Cause::invalid(
                place,
                &path.into(),
                &format!("should be a json path under {}", roots.join(" or ")),
            ));
        }
    }
}

fn columns(version: &Value, at: &str, causes: &mut Vec<Cause>) {
    let columns = version.get("additionalPrinterColumns").and_then(Value::as_array).into_iter().flatten();
    for (index, column) in columns.enumerate() {
        let at = |field: &str| format!("{at}[{index}].{field}");
        let of = |field: &str| meta::text(column, &format!("/{field}"));
        if of("name").is_empty() {
            causes.push(Cause::required(at("name"), ""));
        }
        match of("type") {
            "" => causes.push(Cause::required(at("type"), &format!("must be one of {COLUMN_TYPES}"))),
            kind if COLUMN_TYPES.split(',').any(|k| k == kind) => {}
            kind => causes.push(Cause::invalid(at("type"), &kind.into(), &format!("must be one of {COLUMN_TYPES}"))),
        }
        let format = of("format");
        if !format.is_empty() && !COLUMN_FORMATS.split(',').any(|f| f == format) {
            causes.push(Cause::invalid(at("format"), &format.into(), &format!("must be one of {COLUMN_FORMATS}")));
        }
        match of("jsonPath") {
            "" => causes.push(Cause::required(at("JSONPath"), "")),
            path if COLUMN_PATH.as_ref().is_some_and(|r| r.is_match(path)) => {}
            path => {
                causes.push(Cause::invalid(at("JSONPath"), &path.into(), "must be a simple json path starting with ."));
            }
        }
    }
}

fn selectable(version: &Value, at: &str, shape: &Schema, causes: &mut Vec<Cause>) {
    let fields = version.get("selectableFields").and_then(Value::as_array).into_iter().flatten();
    let mut seen: Vec<&str> = Vec::new();
    for (index, field) in fields.enumerate() {
        let (place, path) = (format!("{at}[{index}].jsonPath"), meta::text(field, "/jsonPath"));
        let metadata = path.starts_with(".metadata");
        match field_path(path, shape).filter(|_| !metadata) {
            _ if path.is_empty() => causes.push(Cause::required(place, "")),
            None => {
                causes.push(Cause::invalid(place, &path.into(), "is an invalid path: does not refer to a valid field"));
            }
            Some(found) if !matches!(found.kind, Type::String | Type::Boolean | Type::Integer) => {
                let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                causes.push(Cause::invalid(place, &path.into(), why));
            }
            Some(_) if seen.contains(&path) => causes.push(Cause::duplicate(place, &path.into())),
            Some(_) => seen.push(path),
        }
    }
}

fn conversion(crd: &Value, causes: &mut Vec<Cause>) {
    match meta::text(crd, "/spec/conversion/strategy") {
        "" | "None" => return,
        "Webhook" => {}
        other => {
            let allowed = ["None".into(), "Webhook".into()];
            return causes.push(Cause::unsupported("spec.conversion.strategy", &other.into(), &allowed));
        }
    }
    let at = "spec.conversion.webhookClientConfig";
    match crd.pointer("/spec/conversion/webhook/clientConfig") {
        None => causes.push(Cause::required(at, "required when strategy is set to Webhook")),
        Some(client) => causes.extend(crate::admission::validate_client(client, at)),
    }
    let reviews = strings(crd.pointer("/spec/conversion/webhook/conversionReviewVersions"));
    let at = "spec.conversion.conversionReviewVersions";
    if reviews.is_empty() {
        causes.push(Cause::required(at, ""));
    } else if !reviews.iter().any(|r| r == "v1" || r == "v1beta1") {
        let quoted: Vec<String> = reviews.iter().map(|r| format!("{r:?}")).collect();
        let shown = format!("[]string{{{}}}", quoted.join(", "));
        causes.push(Cause::invalid_shown(at, &shown, "must include at least one of v1, v1beta1"));
    }
}
