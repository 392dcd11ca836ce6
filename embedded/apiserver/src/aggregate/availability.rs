//! Whether other servers answer: their `APIService`'s condition Available, and what they serve.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::{HeaderValue, header};
use serde_json::{Value, json};

use super::{RESOURCE, Remote, Shared, backend};
use crate::handlers::pipeline;
use crate::meta;
use crate::request::Context;

/// How often a server that answers is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How often one is asked that does not.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Largest discovery document.
const LARGEST: usize = 4 << 20;

/// Asks all servers when something about them changes, and now and then.
pub async fn run(server: Shared) {
    let mut events = server.store.listen();
    loop {
        let all_answer = sweep(&server).await;
        let pause = tokio::time::sleep(if all_answer { ASK_AGAIN } else { TRY_AGAIN });
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = server.stop.cancelled() => return,
                () = &mut pause => break,
                event = events.recv() => match event {
                    None => return,
                    Some(event) => {
                        let about = &*event.object.key.resource;
                        let service = matches!(about, "/services" | "/endpoints" | "discovery.k8s.io/endpointslices");
                        // our own word about a server is no news
                        let spec = |value: Option<Value>| value.and_then(|value| value.get("spec").cloned());
                        let changed = about == RESOURCE
                            && spec(Some(event.object.value())) != spec(event.previous.as_ref().map(|old| old.value()))
                            || about == RESOURCE && event.kind == crate::storage::EventKind::Deleted;
                        if changed || service && !server.aggregator.names().is_empty() {
                            break;
                        }
                    }
                },
            }
        }
    }
}

async fn sweep(server: &Shared) -> bool {
    let objects = server.store.list(RESOURCE, None).0;
    for gone in server.aggregator.names() {
        if !objects.iter().any(|object| object.key.name == gone) {
            server.aggregator.set(&gone, None);
        }
    }
    let mut all_answer = true;
    for object in objects {
        let name = &object.key.name;
        let value = object.value();
        let Some(mut remote) = super::read(&value) else {
            server.aggregator.set(name, None);
            report(server, name, &value, true, ("Local", "Local APIServices are always available".into())).await;
            continue;
        };
        let outcome = discover(server, &remote).await;
        let known = server.aggregator.find(&remote.group, &remote.version);
        let (available, why) = match outcome {
            Ok(resources) => {
                remote.resources = Some(resources);
                (true, ("Passed", "all checks passed".into()))
            }
            Err(why) => {
                remote.resources = known.and_then(|known| known.resources);
                (false, why)
            }
        };
        remote.available = available;
        all_answer &= available;
        server.aggregator.set(name, Some(remote));
        report(server, name, &value, available, why).await;
    }
    all_answer
}

/// Asks a server what it serves.
async fn discover(server: &Shared, remote: &Remote) -> Result<Vec<Value>, backend::Unreachable> {
    let path = format!("/apis/{}/{}", remote.group, remote.version);
    let failed = |why: &dyn std::fmt::Display| ("FailedDiscoveryCheck", format!("no discovery from {path}: {why}"));
    let mut sender = backend::connect(server, remote).await?;
    let request = Request::get(&path)
        .header(header::HOST, format!("{}.{}.svc", remote.service.1, remote.service.0))
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .header("x-remote-user", "system:kube-aggregator")
        .header("x-remote-group", "system:masters")
        .body(Body::empty())
        .map_err(|error| failed(&error))?;
    let answer = tokio::time::timeout(Duration::from_secs(5), sender.send_request(request)).await;
    let answer = answer.map_err(|_| failed(&"no answer within 5 s"))?.map_err(|error| failed(&error))?;
    if !answer.status().is_success() {
        return Err(failed(&format_args!("it answers {}", answer.status())));
    }
    let body = axum::body::to_bytes(Body::new(answer.into_body()), LARGEST).await.map_err(|error| failed(&error))?;
    let list: Value = serde_json::from_slice(&body).map_err(|error| failed(&error))?;
    let resources = list.get("resources").and_then(Value::as_array).ok_or_else(|| failed(&"it lists no resources"))?;
    Ok(aggregated(resources, &remote.group, &remote.version))
}

/// `APIResource`s as `APIResourceDiscovery`: subresources under their resource, which is made up when only they are served.
fn aggregated(resources: &[Value], group: &str, version: &str) -> Vec<Value> {
    let kind = |resource: &Value| {
        let own = |field: &str, default: &str| match meta::text(resource, field) {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        json!({"group": own("/group", group), "version": own("/version", version), "kind": own("/kind", "")})
    };
    let scope = |resource: &Value| {
        let namespaced = resource.get("namespaced").and_then(Value::as_bool) == Some(true);
        if namespaced { "Namespaced" } else { "Cluster" }
    };
    let mut found: Vec<Value> = Vec::new();
    let position = |found: &[Value], name: &str| found.iter().position(|one| meta::text(one, "/resource") == name);
    for resource in resources {
        let (name, sub) = match meta::text(resource, "/name").split_once('/') {
            Some((name, sub)) => (name, Some(sub)),
            None => (meta::text(resource, "/name"), None),
        };
        let at = position(&found, name).unwrap_or_else(|| {
            found.push(json!({"resource": name, "responseKind": {"group": "", "version": "", "kind": ""}, "scope": scope(resource), "singularResource": "", "verbs": []}));
            found.len() - 1
        });
        let Some(entry) = found.get_mut(at) else { continue };
        let verbs = resource.get("verbs").cloned().unwrap_or_else(|| json!([]));
        match sub {
            None => {
                entry["responseKind"] = kind(resource);
                entry["singularResource"] = resource.get("singularName").cloned().unwrap_or_default();
                entry["verbs"] = verbs;
                for field in ["shortNames", "categories"] {
                    if let Some(list) = resource.get(field) {
                        entry[field] = list.clone();
                    }
                }
            }
            Some(sub) => {
                let one = json!({"subresource": sub, "responseKind": kind(resource), "verbs": verbs});
                match entry.get_mut("subresources").and_then(Value::as_array_mut) {
                    Some(list) => list.push(one),
                    None => entry["subresources"] = json!([one]),
                }
            }
        }
    }
    found
}

/// Writes the condition Available when it is new.
async fn report(server: &Shared, name: &str, value: &Value, available: bool, (reason, message): (&str, String)) {
    let status = if available { "True" } else { "False" };
    let conditions = value.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let old = conditions.iter().find(|one| meta::text(one, "/type") == "Available");
    if old.is_some_and(|old| {
        meta::text(old, "/status") == status
            && meta::text(old, "/reason") == reason
            && meta::text(old, "/message") == message
    }) {
        return;
    }
    let since = old
        .filter(|old| meta::text(old, "/status") == status)
        .map(|old| meta::text(old, "/lastTransitionTime").to_owned());
    let condition = json!({"type": "Available", "status": status, "reason": reason, "message": message,
                           "lastTransitionTime": since.unwrap_or_else(meta::now)});
    let Some(resource) = server.registry.find("apiregistration.k8s.io", "v1", "apiservices") else { return };
    let mut context = Context::internal(resource, "", name);
    context.target.subresource = "status".into();
    let result = pipeline::change(server, &context, |old| {
        let mut value = old.clone();
        let others = value.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut list: Vec<Value> = others.into_iter().filter(|one| meta::text(one, "/type") != "Available").collect();
        list.push(condition.clone());
        value["status"]["conditions"] = Value::Array(list);
        Ok(pipeline::Change { value, applied: false })
    })
    .await;
    if let Err(error) = result
        && error.reason != "NotFound"
    {
        tracing::warn!(%error, name, "the condition of an API service is not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subresources_without_their_resource_get_a_place() {
        let list = [
            json!({"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"], "shortNames": ["th"]}),
            json!({"name": "things/scale", "namespaced": true, "kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": ["get"]}),
            json!({"name": "machines/start", "namespaced": true, "kind": "Machine", "verbs": ["update"]}),
        ];
        let found = aggregated(&list, "x.io", "v1");
        expect_test::expect![[r#"
            {"resource":"things","responseKind":{"group":"x.io","version":"v1","kind":"Thing"},"scope":"Namespaced","singularResource":"thing","verbs":["get"],"shortNames":["th"],"subresources":[{"subresource":"scale","responseKind":{"group":"autoscaling","version":"v1","kind":"Scale"},"verbs":["get"]}]}
            {"resource":"machines","responseKind":{"group":"","version":"","kind":""},"scope":"Namespaced","singularResource":"","verbs":[],"subresources":[{"subresource":"start","responseKind":{"group":"x.io","version":"v1","kind":"Machine"},"verbs":["update"]}]}
        "#]].assert_eq(&found.iter().map(|one| format!("{one}\n")).collect::<String>());
    }
}
