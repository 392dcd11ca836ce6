//! Admission webhooks of both kinds, conversion webhooks, admission policies: a webhook server runs inside of the test.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::definitions::Definition;
use crate::answer::Answer;
use crate::case::{Case, Chapter, Outcome, PATIENCE, case, config_map};
use crate::hook::Hook;

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";

/// A webhook about config maps of the case's namespace.
fn webhook(c: &Case, hook: &Hook, more: Value) -> Value {
    let mut webhook = json!({
        "name": "checks.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 10,
        "clientConfig": hook.client("/check"),
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": c.ns()}},
        "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
    });
    for (name, value) in more.as_object().cloned().unwrap_or_default() {
        webhook[name] = value;
    }
    webhook
}

/// A registered configuration; its name is the case's own.
struct Registered {
    path: String,
}

/// Registers webhooks, `kind` being `Validating` or `Mutating`.
async fn register(c: &Case, kind: &str, webhooks: Vec<Value>) -> Result<Registered> {
    let name = c.name("hooks");
    let body = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
        "metadata": {"name": name}, "webhooks": webhooks});
    let path = format!("{CONFIGURATIONS}/{}webhookconfigurations", kind.to_lowercase());
    c.make(&path, &body).await?;
    Ok(Registered { path: format!("{path}/{name}") })
}

/// Posts dry config maps until the answer is as wanted: a configuration is in force a moment after it was written.
async fn effective(c: &Case, wanted: impl Fn(&Answer) -> bool) -> Result<Answer> {
    posted_until(c, &config_map("probe", json!({})), wanted).await
}

async fn posted_until(c: &Case, body: &Value, wanted: impl Fn(&Answer) -> bool) -> Result<Answer> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let a = c.post(&c.core("configmaps?dryRun=All"), body).await?;
        if wanted(&a) {
            return Ok(a);
        }
        ensure!(Instant::now() < deadline, "the webhook is not in force\n{}", a.shown());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn asked(c: &Case, hook: &Hook) -> Result<()> {
    effective(c, |_| !hook.requests().is_empty()).await.map(|_| ())
}

fn patch(operations: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

/// Expects a validating webhook with these changes to be refused for the field.
async fn refused(c: &Case, more: Value, field: &str, reason: &str) -> Outcome {
    let hook = json!({"name": "a.b.io", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {"url": "https://127.0.0.1:1/x"},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]});
    let mut hook = hook;
    for (name, value) in more.as_object().cloned().unwrap_or_default() {
        hook[name] = value;
    }
    let body = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": c.name("refused")}, "webhooks": [hook]});
    let a = c.post(&format!("{CONFIGURATIONS}/validatingwebhookconfigurations?dryRun=All"), &body).await?;
    a.invalid(&format!("webhooks[0].{field}"), reason)?;
    Ok(())
}

/// Registers a policy about config maps of the case's namespace and its binding.
async fn policy(c: &Case, spec: Value, actions: Value) -> Result<()> {
    let name = c.name("policy");
    let mut full = json!({"matchConstraints": {"resourceRules": [
        {"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]}});
    for (field, value) in spec.as_object().cloned().unwrap_or_default() {
        full[field] = value;
    }
    let api = "admissionregistration.k8s.io/v1";
    let body =
        json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": full});
    c.make(&format!("{CONFIGURATIONS}/validatingadmissionpolicies"), &body).await?;
    let body = json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": actions,
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": c.ns()}}}}});
    c.make(&format!("{CONFIGURATIONS}/validatingadmissionpolicybindings"), &body).await?;
    Ok(())
}

/// The chapter.
#[expect(clippy::too_many_lines, reason = "one list of cases")]
pub fn chapter() -> Chapter {
    Chapter {
        name: "admission",
        cases: vec![
            case("a webhook gets its defaults", |c| async move {
                let hook = Hook::allowing().await?;
                let mut plain = webhook(&c, &hook, json!({}));
                for field in ["namespaceSelector", "timeoutSeconds"] {
                    plain.as_object_mut().map(|w| w.remove(field));
                }
                plain["namespaceSelector"] = json!({"matchLabels": {"none": "such"}});
                let r = register(&c, "Mutating", vec![plain]).await?;
                let a = c.get(&r.path).await?;
                a.is("/webhooks/0/failurePolicy", "Fail")?
                    .is("/webhooks/0/matchPolicy", "Equivalent")?
                    .is("/webhooks/0/timeoutSeconds", 10)?
                    .is("/webhooks/0/reinvocationPolicy", "Never")?
                    .is("/webhooks/0/objectSelector", json!({}))?
                    .is("/webhooks/0/rules/0/scope", "*")?;
                Ok(())
            }),
            case("a webhook sees what a secret will hold, not stringData", |c| async move {
                let hook = Hook::allowing().await?;
                let rules = json!({"rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"]}]});
                let _r = register(&c, "Validating", vec![webhook(&c, &hook, rules)]).await?;
                let secret = |name: &str, text: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"k": text}});
                let deadline = Instant::now() + PATIENCE;
                while hook.requests().is_empty() {
                    ensure!(Instant::now() < deadline, "the webhook is not in force");
                    c.post(&c.core("secrets?dryRun=All"), &secret("probe", "0")).await?.status(201)?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                c.post(&c.core("secrets"), &secret("a", "1")).await?.status(201)?;
                c.merge(&c.core("secrets/a"), &json!({"stringData": {"k": "2"}})).await?.status(200)?;
                for (operation, wanted) in [("CREATE", "MQ=="), ("UPDATE", "Mg==")] {
                    let seen = hook.requests();
                    let found = seen.iter().find(|r| r["operation"] == operation && r["name"] == "a");
                    let object = &found.ok_or_else(|| anyhow::anyhow!("no {operation} was seen: {seen:?}"))?["object"];
                    crate::answer::same("data", &object["data"], &json!({"k": wanted}))?;
                    ensure!(object.get("stringData").is_none(), "stringData was shown");
                }
                Ok(())
            }),
            case("a review tells what is done, to what, by whom", |c| async move {
                let hook = Hook::allowing().await?;
                let _r = register(&c, "Validating", vec![webhook(&c, &hook, json!({}))]).await?;
                asked(&c, &hook).await?;
                c.post(&c.core("configmaps?fieldManager=me"), &config_map("a", json!({"k": "1"})))
                    .await?
                    .status(201)?;
                c.merge(&c.core("configmaps/a"), &json!({"data": {"k": "2"}})).await?.status(200)?;
                c.delete(&c.core("configmaps/a")).await?.status(200)?;
                let seen = hook.requests();
                let of = |operation: &str| {
                    let found = seen.iter().find(|r| r["operation"] == operation && r["name"] == "a");
                    found.cloned().ok_or_else(|| anyhow::anyhow!("no {operation} was seen: {seen:?}"))
                };
                let (create, update, delete) = (of("CREATE")?, of("UPDATE")?, of("DELETE")?);
                for (field, wanted) in [
                    ("kind", json!({"group": "", "version": "v1", "kind": "ConfigMap"})),
                    ("resource", json!({"group": "", "version": "v1", "resource": "configmaps"})),
                    ("requestKind", json!({"group": "", "version": "v1", "kind": "ConfigMap"})),
                    ("namespace", c.ns().into()),
                    ("dryRun", false.into()),
                ] {
                    crate::answer::same(field, &create[field], &wanted)?;
                }
                ensure!(create["object"]["data"]["k"] == "1" && create["oldObject"].is_null(), "create: {create}");
                ensure!(
                    create["options"]["kind"] == "CreateOptions" && create["options"]["fieldManager"] == "me",
                    "{create}"
                );
                ensure!(create["userInfo"]["groups"].to_string().contains("system:masters"), "{create}");
                ensure!(
                    update["object"]["data"]["k"] == "2" && update["oldObject"]["data"]["k"] == "1",
                    "update: {update}"
                );
                ensure!(update["options"]["kind"] == "UpdateOptions", "{update}");
                ensure!(delete["object"].is_null() && delete["oldObject"]["data"]["k"] == "2", "delete: {delete}");
                ensure!(delete["options"]["kind"] == "DeleteOptions", "{delete}");
                Ok(())
            }),
            case("a webhook that refuses is named, with its message and code", |c| async move {
                let hook = Hook::start(|_| json!({"allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "not here"}})).await?;
                let _r = register(&c, "Validating", vec![webhook(&c, &hook, json!({}))]).await?;
                let a = effective(&c, |a| a.status != 201).await?;
                a.failed(403, "Forbidden")?
                    .says("admission webhook \"checks.example.com\" denied the request: not here")?;
                Ok(())
            }),
            case("a webhook that refuses without a word", |c| async move {
                let hook = Hook::start(|_| json!({"allowed": false})).await?;
                let _r = register(&c, "Validating", vec![webhook(&c, &hook, json!({}))]).await?;
                let a = effective(&c, |a| a.status != 201).await?;
                a.status(400)?
                    .says("admission webhook \"checks.example.com\" denied the request without explanation")?;
                Ok(())
            }),
            case("a webhook warns", |c| async move {
                let hook = Hook::start(|_| json!({"allowed": true, "warnings": ["mind the gap"]})).await?;
                let _r = register(&c, "Validating", vec![webhook(&c, &hook, json!({}))]).await?;
                let a = effective(&c, |a| !a.header("warning").is_empty()).await?;
                a.status(201)?.header_starts("warning", "299 - \"mind the gap\"")?;
                Ok(())
            }),
            case("a mutating webhook patches what is stored", |c| async move {
                let hook = Hook::start(|r| match r["operation"].as_str() {
                    Some("CREATE") => patch(&json!([{"op": "add", "path": "/data", "value": {"by": "hook"}}, {"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}}])),
                    _ => json!({"allowed": true}),
                }).await?;
                let _r = register(&c, "Mutating", vec![webhook(&c, &hook, json!({}))]).await?;
                effective(&c, |a| a.at("/data/by") == "hook").await?;
                c.config_map("a", json!({"k": "1"})).await?;
                c.get(&c.core("configmaps/a"))
                    .await?
                    .is("/data", json!({"by": "hook"}))?
                    .is("/metadata/labels/seen", "yes")?;
                Ok(())
            }),
            case("mutating webhooks follow one another, before the validating ones", |c| async move {
                let add = |key: &'static str| {
                    move |r: &Value| {
                        let had = r["object"]["data"]["order"].as_str().unwrap_or_default().to_string();
                        patch(&json!([{"op": "add", "path": "/data/order", "value": format!("{had}{key}")}]))
                    }
                };
                let (first, second) = (Hook::start(add("1")).await?, Hook::start(add("2")).await?);
                let last = Hook::start(|r| json!({"allowed": r["object"]["data"]["order"] == "12"})).await?;
                let one = webhook(&c, &first, json!({"name": "one.example.com"}));
                let two = webhook(&c, &second, json!({"name": "two.example.com"}));
                let _m = register(&c, "Mutating", vec![one, two]).await?;
                let _v = register(&c, "Validating", vec![webhook(&c, &last, json!({}))]).await?;
                let body = config_map("probe", json!({"k": "1"}));
                let a = posted_until(&c, &body, |a| a.status == 201 && a.at("/data/order") == "12").await?;
                a.status(201)?;
                ensure!(!last.requests().is_empty() || a.status == 201, "the validating webhook was asked");
                Ok(())
            }),
            case("a webhook that asks for it is called again after another changed the object", |c| async move {
                let count = Hook::start(|r| {
                    let had: i64 = r["object"]["data"]["calls"].as_str().and_then(|t| t.parse().ok()).unwrap_or(0);
                    patch(&json!([{"op": "add", "path": "/data/calls", "value": (had + 1).to_string()}]))
                })
                .await?;
                let other =
                    Hook::start(|_| patch(&json!([{"op": "add", "path": "/data/other", "value": "x"}]))).await?;
                let again = webhook(&c, &count, json!({"name": "again.example.com", "reinvocationPolicy": "IfNeeded"}));
                let once = webhook(&c, &other, json!({"name": "once.example.com"}));
                let _r = register(&c, "Mutating", vec![again, once]).await?;
                let a =
                    posted_until(&c, &config_map("probe", json!({"k": "1"})), |a| a.at("/data/other") == "x").await?;
                a.is("/data/calls", "2")?;
                Ok(())
            }),
            case("a webhook that cannot be reached fails the request, or is ignored", |c| async move {
                let hook = Hook::allowing().await?;
                let gone = json!({"clientConfig": {"url": "https://127.0.0.1:1/none"}, "timeoutSeconds": 1});
                let mut ignored = gone.clone();
                ignored["failurePolicy"] = "Ignore".into();
                let r = register(&c, "Validating", vec![webhook(&c, &hook, gone)]).await?;
                let a = effective(&c, |a| a.status == 500).await?;
                a.failed(500, "InternalError")?.contains(
                    "/message",
                    "Internal error occurred: failed calling webhook \"checks.example.com\": failed to call webhook: Post \"https://127.0.0.1:1/none?timeout=1s\": ",
                )?;
                c.delete(&r.path).await?.status(200)?;
                effective(&c, |a| a.status == 201).await?;
                let marker = webhook(&c, &hook, json!({"name": "marker.example.com"}));
                let _r = register(&c, "Validating", vec![webhook(&c, &hook, ignored), marker]).await?;
                asked(&c, &hook).await?;
                effective(&c, |a| a.status == 201).await?;
                Ok(())
            }),
            case("a webhook that takes too long fails the request", |c| async move {
                let hook = Hook::start(|_| {
                    std::thread::sleep(Duration::from_millis(1500));
                    json!({"allowed": true})
                })
                .await?;
                let _r = register(&c, "Validating", vec![webhook(&c, &hook, json!({"timeoutSeconds": 1}))]).await?;
                let a = effective(&c, |a| a.status != 201).await?;
                a.failed(500, "InternalError")?
                    .contains("/message", "failed calling webhook \"checks.example.com\"")?
                    .contains("/message", "context deadline exceeded")?;
                Ok(())
            }),
            case("objects and conditions choose what a webhook sees", |c| async move {
                let hook = Hook::start(|_| json!({"allowed": false})).await?;
                let more = json!({"objectSelector": {"matchLabels": {"check": "yes"}},
                    "matchConditions": [{"name": "not-mine", "expression": "object.metadata.name != 'mine'"}]});
                let _r = register(&c, "Validating", vec![webhook(&c, &hook, more)]).await?;
                let labelled = |name: &str| {
                    let mut body = config_map(name, json!({}));
                    body["metadata"]["labels"] = json!({"check": "yes"});
                    body
                };
                posted_until(&c, &labelled("probe"), |a| a.status == 400).await?;
                c.post(&c.core("configmaps"), &config_map("plain", json!({}))).await?.status(201)?;
                c.post(&c.core("configmaps"), &labelled("mine")).await?.status(201)?;
                c.post(&c.core("configmaps"), &labelled("other")).await?.status(400)?;
                Ok(())
            }),
            case("operations and subresources are chosen by rules", |c| async move {
                let hook = Hook::start(|_| json!({"allowed": false})).await?;
                let rules = json!([{"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/scale"]},
                    {"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
                let _r = register(&c, "Validating", vec![webhook(&c, &hook, json!({"rules": rules}))]).await?;
                c.config_map("a", json!({})).await?;
                let template =
                    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "m", "image": "i"}]}});
                let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
                    "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}});
                c.make(&c.group("apps/v1", "deployments"), &body).await?;
                let deadline = Instant::now() + PATIENCE;
                while c.delete(&c.core("configmaps/a?dryRun=All")).await?.status != 400 {
                    ensure!(Instant::now() < deadline, "the deletion is not refused");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                c.merge(&c.core("configmaps/a"), &json!({"data": {"k": "v"}})).await?.status(200)?;
                c.merge(&c.group("apps/v1", "deployments/d"), &json!({"spec": {"replicas": 2}})).await?.status(200)?;
                // a review gets the old object of the cache, which may be behind
                let cached = c.group("apps/v1", "deployments/d?resourceVersion=0");
                while c.get(&cached).await?.json["spec"]["replicas"] != 2 {
                    ensure!(Instant::now() < deadline, "the cache stays behind");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                c.merge(&c.group("apps/v1", "deployments/d/scale"), &json!({"spec": {"replicas": 3}}))
                    .await?
                    .status(400)?;
                let scale = hook.requests().into_iter().find(|r| r["subResource"] == "scale");
                let scale = scale.ok_or_else(|| anyhow::anyhow!("no review of the scale"))?;
                ensure!(scale["kind"] == json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}), "{scale}");
                ensure!(
                    scale["object"]["spec"]["replicas"] == 3 && scale["oldObject"]["spec"]["replicas"] == 2,
                    "{scale}"
                );
                Ok(())
            }),
            case("a dry run is told to the webhook", |c| async move {
                let hook = Hook::allowing().await?;
                let _r = register(&c, "Validating", vec![webhook(&c, &hook, json!({}))]).await?;
                asked(&c, &hook).await?;
                let seen = hook.requests();
                ensure!(
                    seen.iter().all(|r| r["dryRun"] == true && r["options"]["dryRun"] == json!(["All"])),
                    "{seen:?}"
                );
                Ok(())
            }),
            case("a webhook of another version of the resource sees it in that version", |c| async move {
                let mut d = Definition::new(&c, json!({"type": "object", "properties": {"n": {"type": "integer"}}}));
                let mut second = d.version().clone();
                (second["name"], second["storage"]) = ("v2".into(), false.into());
                if let Some(versions) = d.json["spec"]["versions"].as_array_mut() {
                    versions.push(second);
                }
                let d = d.serve(&c).await?;
                let hook = Hook::start(|_| json!({"allowed": false})).await?;
                let rules = json!([{"operations": ["CREATE"], "apiGroups": [d.group], "apiVersions": ["v2"], "resources": ["things"]}]);
                let _r = register(&c, "Validating", vec![webhook(&c, &hook, json!({"rules": rules}))]).await?;
                let deadline = Instant::now() + PATIENCE;
                while c.post(&format!("{}?dryRun=All", d.things(&c, "")), &d.thing(json!({"n": 1}))).await?.status
                    != 400
                {
                    ensure!(Instant::now() < deadline, "the webhook is not in force");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let seen = hook.requests().pop().unwrap_or_default();
                ensure!(seen["kind"]["version"] == "v2" && seen["requestKind"]["version"] == "v1", "{seen}");
                ensure!(seen["object"]["apiVersion"] == format!("{}/v2", d.group), "{seen}");
                Ok(())
            }),
            case("configurations of webhooks are checked", |c| async move {
                refused(&c, json!({"name": "a.b"}), "name", "FieldValueInvalid").await?;
                refused(&c, json!({"sideEffects": "Some"}), "sideEffects", "FieldValueNotSupported").await?;
                refused(&c, json!({"admissionReviewVersions": ["v9"]}), "admissionReviewVersions", "FieldValueInvalid")
                    .await?;
                refused(&c, json!({"admissionReviewVersions": []}), "admissionReviewVersions", "FieldValueRequired")
                    .await?;
                refused(&c, json!({"clientConfig": {}}), "clientConfig", "FieldValueRequired").await?;
                refused(&c, json!({"clientConfig": {"url": "http://a/b"}}), "clientConfig.url", "FieldValueInvalid")
                    .await?;
                refused(&c, json!({"timeoutSeconds": 31}), "timeoutSeconds", "FieldValueInvalid").await?;
                refused(&c, json!({"failurePolicy": "Foo"}), "failurePolicy", "FieldValueNotSupported").await?;
                let operations =
                    json!([{"operations": ["FOO"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
                refused(&c, json!({"rules": operations}), "rules[0].operations[0]", "FieldValueNotSupported").await?;
                let condition = json!([{"name": "a", "expression": "request.foo == 'a'"}]);
                refused(&c, json!({"matchConditions": condition}), "matchConditions[0].expression", "FieldValueInvalid")
                    .await
            }),
            case("a conversion webhook converts what is read in another version", |c| async move {
                let hook = Hook::start(|r| {
                    let wanted = r["desiredAPIVersion"].clone();
                    let objects = r["objects"].as_array().cloned().unwrap_or_default();
                    let convert = |mut object: Value| {
                        let (from, to) = if wanted.as_str().is_some_and(|w| w.ends_with("/v2")) {
                            ("n", "number")
                        } else {
                            ("number", "n")
                        };
                        let value = object["spec"].as_object_mut().and_then(|s| s.remove(from)).unwrap_or_default();
                        object["spec"][to] = value;
                        object["apiVersion"] = wanted.clone();
                        object
                    };
                    let converted: Vec<Value> = objects.into_iter().map(convert).collect();
                    json!({"convertedObjects": converted, "result": {"status": "Success"}})
                })
                .await?;
                let mut d = Definition::new(&c, json!({"type": "object", "properties": {"n": {"type": "integer"}}}));
                let mut second = d.version().clone();
                (second["name"], second["storage"]) = ("v2".into(), false.into());
                second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] =
                    json!({"number": {"type": "integer"}});
                if let Some(versions) = d.json["spec"]["versions"].as_array_mut() {
                    versions.push(second);
                }
                d.json["spec"]["conversion"] = json!({"strategy": "Webhook",
                    "webhook": {"clientConfig": hook.client("/convert"), "conversionReviewVersions": ["v1"]}});
                let d = d.serve(&c).await?;
                c.make(&d.things(&c, ""), &d.thing(json!({"n": 5}))).await?;
                let v2 = c.group(&format!("{}/v2", d.group), "things");
                let a = c.until(&format!("{v2}/a"), "v2 is served", |a| a.status == 200).await?;
                a.is("/apiVersion", format!("{}/v2", d.group))?.is("/spec", json!({"number": 5}))?;
                c.get(&v2).await?.lists(&["a"])?.is("/items/0/spec", json!({"number": 5}))?;
                let mut other = d.named("b", json!({"number": 6}));
                other["apiVersion"] = format!("{}/v2", d.group).into();
                c.make(&v2, &other).await?;
                c.get(&d.things(&c, "b")).await?.is("/spec", json!({"n": 6}))?;
                c.merge(&format!("{v2}/b"), &json!({"spec": {"number": 7}}))
                    .await?
                    .status(200)?
                    .is("/spec/number", 7)?;
                c.get(&d.things(&c, "b")).await?.is("/spec", json!({"n": 7}))?;
                Ok(())
            }),
            case("a conversion that fails is told", |c| async move {
                let hook = Hook::start(|_| json!({"result": {"status": "Failure", "message": "no way"}})).await?;
                let mut d = Definition::new(&c, json!({"type": "object"}));
                let mut second = d.version().clone();
                (second["name"], second["storage"]) = ("v2".into(), false.into());
                if let Some(versions) = d.json["spec"]["versions"].as_array_mut() {
                    versions.push(second);
                }
                d.json["spec"]["conversion"] = json!({"strategy": "Webhook",
                    "webhook": {"clientConfig": hook.client("/convert"), "conversionReviewVersions": ["v1"]}});
                let d = d.serve(&c).await?;
                c.make(&d.things(&c, ""), &d.thing(json!({}))).await?;
                let v2 = c.group(&format!("{}/v2", d.group), "things/a");
                let a = c.until(&v2, "the failure is told", |a| a.status == 500).await?;
                a.contains("/message", &format!("conversion webhook for {}/v1, Kind=Thing failed: no way", d.group))?;
                Ok(())
            }),
            case("a policy that is bound refuses", |c| async move {
                let validations = json!([{"expression": "object.metadata.name != 'no'"},
                    {"expression": "object.metadata.name != 'exp'", "messageExpression": "'name is ' + object.metadata.name", "reason": "Forbidden"}]);
                policy(&c, json!({"validations": validations}), json!(["Deny"])).await?;
                let a = posted_until(&c, &config_map("no", json!({})), |a| a.status != 201).await?;
                a.failed(422, "Invalid")?
                    .contains("/message", "configmaps \"no\" is forbidden: ValidatingAdmissionPolicy '")?
                    .contains("/message", " denied request: failed expression: object.metadata.name != 'no'")?;
                let a = c.post(&c.core("configmaps"), &config_map("exp", json!({}))).await?;
                a.failed(403, "Forbidden")?.contains("/message", " denied request: name is exp")?;
                c.config_map("yes", json!({})).await?;
                Ok(())
            }),
            case("a policy warns", |c| async move {
                policy(&c, json!({"validations": [{"expression": "false", "message": "never"}]}), json!(["Warn"]))
                    .await?;
                let a = effective(&c, |a| !a.header("warning").is_empty()).await?;
                a.status(201)?.holds(a.header("warning").contains("never"), "the warning's text")?;
                Ok(())
            }),
            case("a policy has variables and conditions", |c| async move {
                let spec = json!({
                    "variables": [{"name": "size", "expression": "has(object.data) ? object.data.size() : 0"}],
                    "matchConditions": [{"name": "not-free", "expression": "object.metadata.name != 'free'"}],
                    "validations": [{"expression": "variables.size < 2", "message": "too much"}],
                });
                policy(&c, spec, json!(["Deny"])).await?;
                let much = |name: &str| config_map(name, json!({"a": "1", "b": "2"}));
                let a = posted_until(&c, &much("probe"), |a| a.status != 201).await?;
                a.failed(422, "Invalid")?.contains("/message", "too much")?;
                c.post(&c.core("configmaps"), &much("free")).await?.status(201)?;
                c.config_map("small", json!({"a": "1"})).await?;
                Ok(())
            }),
            case("a limit range gives what a container does not say, and refuses what is too much", |c| async move {
                c.until(&c.core("serviceaccounts/default"), "pods may be made", |a| a.status == 200).await?;
                let limits = json!([{"type": "Container", "max": {"cpu": "2"}, "default": {"memory": "1Gi"}, "defaultRequest": {"cpu": "500m"}}]);
                let body = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": limits}});
                let made = c.make(&c.core("limitranges"), &body).await?;
                ensure!(
                    made["spec"]["limits"][0]["default"] == json!({"memory": "1Gi", "cpu": "2"}),
                    "defaults: {made}"
                );
                let deadline = Instant::now() + PATIENCE;
                let resources =
                    json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}});
                loop {
                    let a = c.post(&c.core("pods?dryRun=All"), &crate::case::pod("a")).await?;
                    if a.status == 201 && *a.at("/spec/containers/0/resources") == resources {
                        break;
                    }
                    ensure!(Instant::now() < deadline, "no defaults\n{}", a.shown());
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let mut large = crate::case::pod("b");
                large["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "3"}});
                let a = c.post(&c.core("pods"), &large).await?;
                a.failed(403, "Forbidden")?
                    .says("pods \"b\" is forbidden: maximum cpu usage per Container is 2, but limit is 3")?;
                Ok(())
            }),
            case("a policy's expressions are checked", |c| async move {
                for (validation, field) in [
                    (json!({"expression": "object.x >"}), "expression"),
                    (json!({"expression": "1"}), "expression"),
                    (json!({"expression": "true", "reason": "Foo"}), "reason"),
                    (json!({"expression": "true", "messageExpression": "1"}), "messageExpression"),
                    (json!({"expression": "params.x == 1"}), "expression"),
                ] {
                    let body = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
                        "metadata": {"name": c.name("refused")}, "spec": {"validations": [validation], "matchConstraints": {"resourceRules": [
                            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]}}});
                    let a = c.post(&format!("{CONFIGURATIONS}/validatingadmissionpolicies?dryRun=All"), &body).await?;
                    a.failed(422, "Invalid")?.contains("/message", &format!("spec.validations[0].{field}: "))?;
                }
                Ok(())
            }),
        ],
    }
}
