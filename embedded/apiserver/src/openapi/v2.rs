//! OpenAPI v2 (Swagger): all groups in one document, made from the same definitions as version 3. Made when asked and
//! not kept: it is large, and few ask.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{document, handlers_json, path_of, v2_protobuf};
use crate::error::{ApiError, ApiResult};
use crate::server::Server;

/// GET /openapi/v2, as JSON or in protobuf form.
pub fn v2(server: &Server, headers: &HeaderMap) -> ApiResult<Response> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    let known = accept.split(',').find_map(|item| {
        let media = item.split(';').next().unwrap_or_default().trim();
        let v2 = media.strip_prefix("application/com.github.proto-openapi.spec.v2");
        match (media, v2) {
            ("" | "*/*" | "application/*" | "application/json", _) => Some(false),
            (_, Some(version)) if version.ends_with("+json") => Some(false),
            (_, Some("@v1.0+protobuf" | ".v1.0+protobuf")) => Some(true),
            _ => None,
        }
    });
    let Some(protobuf) = known else {
        let media = v2_protobuf::MEDIA_TYPE;
        let told = format!("only the following media types are accepted: application/json, {media}");
        return Err(ApiError::not_acceptable(told));
    };
    let mut response = if protobuf {
        let mut response = Response::new(v2_protobuf::encode(&whole(server)).into());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(v2_protobuf::MEDIA_TYPE));
        response
    } else {
        handlers_json(StatusCode::OK, whole(server).to_string())
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

fn whole(server: &Server) -> Value {
    let all = server.registry.all();
    let mut groups: Vec<String> = all.iter().map(|r| path_of(r)).collect();
    groups.dedup();
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for group in groups {
        let resources: Vec<_> = all.iter().filter(|r| path_of(r) == group).cloned().collect();
        let mut part = document(&resources);
        if let Some(Value::Object(map)) = part.get_mut("paths").map(Value::take) {
            paths.extend(map.into_iter().map(|(path, item)| (path, older_path(item))));
        }
        if let Some(Value::Object(map)) = part.pointer_mut("/components/schemas").map(Value::take) {
            for (name, schema) in map {
                // a kind that another group refers to has its own group's marks there only
                let marked = schema.get("x-kubernetes-group-version-kind").is_some();
                if marked || !definitions.contains_key(&name) {
                    definitions.insert(name, older(schema));
                }
            }
        }
    }
    json!({
        "swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.33.0"}, "paths": paths, "definitions": definitions,
        "securityDefinitions": {"BearerToken": {"description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey"}},
        "security": [{"BearerToken": []}],
    })
}

/// References point elsewhere and stand alone, and what version 2 cannot say is left out.
fn older(node: Value) -> Value {
    match node {
        Value::Object(mut map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                return json!({"$ref": reference.replace("#/components/schemas/", "#/definitions/")});
            }
            // a reference that carries a description
            if let Some(Value::Array(list)) = map.get("allOf")
                && let [only] = list.as_slice()
                && let Some(reference) = only.get("$ref").and_then(Value::as_str)
            {
                let mut out = json!({"$ref": reference.replace("#/components/schemas/", "#/definitions/")});
                if let Some(text) = map.shift_remove("description") {
                    out["description"] = text;
                }
                return out;
            }
            for field in ["oneOf", "anyOf", "not", "allOf", "nullable"] {
                map.shift_remove(field);
            }
            let inside = |(key, value): (String, Value)| match value {
                // below `properties` the keys are names, whatever they are
                Value::Object(fields) if key == "properties" => {
                    (key, Value::Object(fields.into_iter().map(|(name, field)| (name, older(field))).collect()))
                }
                value => (key, older(value)),
            };
            Value::Object(map.into_iter().map(inside).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(older).collect()),
        other => other,
    }
}

/// Bodies are parameters, and media types stand beside the answers.
fn older_path(item: Value) -> Value {
    let Value::Object(methods) = item else { return item };
    let method = |(name, operation): (String, Value)| {
        let Value::Object(mut operation) = operation else { return (name, operation) };
        let mut parameters = Vec::new();
        for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
            let text = |field: &str| parameter.get(field).cloned().unwrap_or_default();
            parameters.push(json!({
                "name": text("name"), "in": text("in"), "description": text("description"), "type": "string", "uniqueItems": true,
            }));
        }
        if let Some(body) = operation.shift_remove("requestBody")
            && let Some(content) = body.get("content").and_then(Value::as_object)
        {
            let schema = content.values().next().and_then(|c| c.get("schema")).cloned().unwrap_or_default();
            parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": older(schema)}));
            operation.insert("consumes".into(), content.keys().cloned().collect());
        }
        operation.insert("parameters".into(), parameters.into());
        operation.insert("produces".into(), json!(["application/json"]));
        let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
        for response in responses.into_iter().flat_map(|r| r.values_mut()) {
            let schema = response.pointer("/content/application~1json/schema").cloned().unwrap_or_default();
            let description = response.get("description").cloned().unwrap_or_default();
            *response = json!({"description": description, "schema": older(schema)});
        }
        (name, Value::Object(operation))
    };
    Value::Object(methods.into_iter().map(method).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_bodies_take_the_older_form() {
        let schema = json!({"properties": {"a": {"description": "A", "allOf": [{"$ref": "#/components/schemas/x.A"}]}, "b": {"oneOf": [], "type": "string"}}});
        assert_eq!(
            older(schema),
            json!({"properties": {"a": {"$ref": "#/definitions/x.A", "description": "A"}, "b": {"type": "string"}}})
        );
        let path = json!({"post": {"parameters": [], "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/x.A"}}}}},
            "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/x.A"}}}}}});
        let post = older_path(path)["post"].clone();
        assert_eq!(post["parameters"][0]["schema"], json!({"$ref": "#/definitions/x.A"}));
        assert_eq!(post["responses"]["200"]["schema"], json!({"$ref": "#/definitions/x.A"}));
        assert_eq!(post["consumes"], json!(["application/json"]));
    }
}
