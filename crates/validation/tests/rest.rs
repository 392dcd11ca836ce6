//! The service over HTTP: OPA's answers, byte for byte where clients see them.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use expect_test::{Expect, expect};
use forklift_validation::{RuleFile, Validator, rest};
use serde_json::{Value, json};
use tower::ServiceExt;

const OVA: &str = "/v1/data/io/konveyor/forklift/ova";

async fn send(validator: &Validator, method: &str, path: &str, content: &str, body: &str) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content)
        .body(Body::from(body.to_owned()))
        .expect("valid");
    let response = rest::router(validator.clone()).oneshot(request).await.expect("infallible");
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 64 << 20).await.expect("a body");
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn check(method: &str, path: &str, body: &str, expected: Expect) {
    let (status, body) = send(&Validator::new(), method, path, "application/json", body).await;
    expected.assert_eq(&format!("{} {body}", status.as_u16()));
}

#[tokio::test]
async fn the_inventorys_requests_are_answered_as_by_opa() {
    check(
        "GET",
        &format!("{OVA}/rules_version"),
        "",
        expect![[r#"
        200 {"result":{"rules_version":5}}
    "#]],
    )
    .await;
    check("POST", &format!("{OVA}/validate"), r#"{"input":{"name":"a_b","exportSource":"VMware"}}"#, expect![[r#"
        200 {"result":{"concerns":[{"assessment":"The name is not a valid name for a VM of the target platform (RFC 1123: at most 63 letters, digits, hyphens and periods, beginning and ending with a letter or digit). It is changed automatically during the migration, unless a target name is given in the plan.","category":"Warning","id":"ova.name.invalid","label":"Invalid VM Name"}],"errors":[],"rules_version":5}}
    "#]]).await;
    check(
        "POST",
        &format!("{OVA}/validate/concerns"),
        r#"{"input":{"name":"a"}}"#,
        expect![[r#"
        200 {"result":[]}
    "#]],
    )
    .await;
    check(
        "GET",
        &format!("{OVA}/nothing"),
        "",
        expect![[r#"
        200 {}
    "#]],
    )
    .await;
    check(
        "GET",
        "/v1/data/io/konveyor/forklift/unknown/validate",
        "",
        expect![[r#"
        200 {}
    "#]],
    )
    .await;
}

#[tokio::test]
async fn requests_without_or_with_odd_input_are_answered_as_by_opa() {
    let validate = format!("{OVA}/validate");
    let missing = r#"{"result":{"concerns":[],"errors":["No VM name found in input body"],"rules_version":5},"warning":{"code":"api_usage_warning","message":"'input' key missing from the request"}}"#;
    for body in ["", "{}", "null", r#"{"input":null}"#] {
        let (status, answer) = send(&Validator::new(), "POST", &validate, "application/json", body).await;
        assert_eq!((status, answer.trim_end()), (StatusCode::OK, missing), "{body}");
    }
    check(
        "POST",
        &validate,
        r#"{"input":1} x"#,
        expect![[r#"
        200 {"result":{"concerns":[],"errors":["No VM name found in input body"],"rules_version":5}}
    "#]],
    )
    .await;
    check(
        "POST",
        &validate,
        "{",
        expect![[r#"
        400 {
          "code": "invalid_parameter",
          "message": "body contains malformed input document: unexpected EOF"
        }
    "#]],
    )
    .await;
    check("POST", &validate, "[1]", expect![[r#"
        400 {
          "code": "invalid_parameter",
          "message": "body contains malformed input document: json: cannot unmarshal array into Go value of type types.DataRequestV1"
        }
    "#]]).await;
    check(
        "GET",
        &format!("{OVA}/valid_vm?input=%7B%22name%22:%22x%22%7D"),
        "",
        expect![[r#"
        200 {"result":true}
    "#]],
    )
    .await;
    check(
        "GET",
        &format!("{OVA}/valid_vm?input=%7B"),
        "",
        expect![[r#"
        400 {
          "code": "invalid_parameter",
          "message": "parameter contains malformed input document: unexpected EOF"
        }
    "#]],
    )
    .await;
    check(
        "GET",
        &format!("{OVA}/rules_version?pretty=true&provenance=true"),
        "",
        expect![[r#"
        200 {
          "result": {
            "rules_version": 5
          }
        }
    "#]],
    )
    .await;
    let large = format!("{{\"input\":\"{}\"}}", "x".repeat(rest::LARGEST));
    check(
        "POST",
        &validate,
        &large,
        expect![[r#"
        413 {
          "code": "invalid_parameter",
          "message": "the request is larger than 16 MiB"
        }
    "#]],
    )
    .await;
}

#[tokio::test]
async fn older_and_other_endpoints_are_there() {
    check(
        "POST",
        "/v0/data/io/konveyor/forklift/ova/rules_version",
        "{}",
        expect![[r#"
        200 {"rules_version":5}
    "#]],
    )
    .await;
    check(
        "POST",
        "/v0/data/io/konveyor/forklift/ova/nothing",
        "{}",
        expect![[r#"
        404 {
          "code": "undefined_document",
          "message": "document missing: data.io.konveyor.forklift.ova.nothing"
        }
    "#]],
    )
    .await;
    check(
        "GET",
        "/health",
        "",
        expect![[r#"
        200 {}
    "#]],
    )
    .await;
    check(
        "GET",
        "/v1/policies/nope",
        "",
        expect![[r#"
        404 {
          "code": "resource_not_found",
          "message": "storage_not_found_error: policy id \"nope\""
        }
    "#]],
    )
    .await;
    check(
        "PUT",
        &format!("{OVA}/x"),
        "{}",
        expect![[r#"
        405 {
          "code": "read_only",
          "message": "data cannot be changed over HTTP: put rules into the ConfigMap or the folder of the service"
        }
    "#]],
    )
    .await;
}

#[tokio::test]
async fn policies_are_listed_with_the_users() {
    let text = "package io.konveyor.forklift.ova\nimport rego.v1\nconcerns contains {\"id\": \"x\"} if input.x\n";
    let validator = Validator::with_files(&[RuleFile::new("mine.rego", text), RuleFile::new("bad.rego", "package")]);
    let (_, list) = send(&validator, "GET", "/v1/policies", "", "").await;
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let ids: Vec<&str> = list["result"].as_array().expect("a list").iter().filter_map(|p| p["id"].as_str()).collect();
    assert!(ids.contains(&"io/konveyor/forklift/ova/validate.rego") && ids.contains(&"mine.rego"), "{ids:?}");
    assert!(!ids.contains(&"bad.rego"), "a file that is left out is not in use");
    let (status, one) = send(&validator, "GET", "/v1/policies/mine.rego", "", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(serde_json::from_str::<Value>(&one).expect("JSON")["result"]["raw"], json!(text));
}

#[tokio::test]
async fn many_vms_are_answered_in_their_order() {
    let validator = Validator::new();
    let names: Vec<String> = (0..500).map(|i| if i % 2 == 0 { format!("vm-{i}") } else { format!("vm_{i}") }).collect();
    let inputs: Vec<Value> = names.iter().map(|n| json!({"name": n, "exportSource": "VMware"})).collect();
    let lines: String = inputs.iter().map(|input| format!("{input}\n")).collect();
    let (status, text) = send(&validator, "POST", "/v1/bulk/ova", "application/x-ndjson", &lines).await;
    assert_eq!(status, StatusCode::OK);
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), 500);
    for (i, answer) in answers.iter().enumerate() {
        let found = answer["result"]["concerns"].as_array().expect("a list").len();
        assert_eq!(found, i % 2, "{answer}");
    }
    let body = json!({ "inputs": inputs }).to_string();
    let (_, text) = send(&validator, "POST", "/v1/bulk/ova", "application/json", &body).await;
    let list: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(list["results"].as_array().expect("a list"), &answers);

    let (_, text) = send(&validator, "POST", "/v1/bulk/ova", "application/x-ndjson", "{\"name\":\"a\"}\n\n{\n").await;
    assert_eq!(
        text.lines().nth(1),
        Some(
            r#"{"error":{"code":"invalid_parameter","message":"the line contains malformed input document: unexpected EOF"}}"#
        )
    );
    // the provider's type is taken as well as its package
    let (_, text) = send(&validator, "POST", "/v1/bulk/vsphere", "application/x-ndjson", "{\"name\":\"a\"}\n").await;
    assert!(text.contains("\"rules_version\":5"), "{text}");
}

#[tokio::test]
async fn requests_and_workloads_are_counted() {
    let validator = Validator::new();
    let app = rest::router(validator);
    let request = |method: &str, path: String, body: &str| {
        Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).expect("valid")
    };
    for _ in 0..3 {
        let sent = request("POST", format!("{OVA}/validate"), r#"{"input":{"name":"a"}}"#);
        assert_eq!(app.clone().oneshot(sent).await.expect("infallible").status(), StatusCode::OK);
    }
    let response = app.oneshot(request("GET", "/metrics".to_owned(), "")).await.expect("infallible");
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    let text = String::from_utf8_lossy(&body);
    assert!(
        text.contains(r#"http_request_duration_seconds_count{code="200",handler="v1/data",method="post"} 3"#),
        "{text}"
    );
    assert!(text.contains("forklift_validation_workloads_total 3"), "{text}");
    assert!(text.contains("forklift_validation_rules_left_out 0"), "{text}");
}
