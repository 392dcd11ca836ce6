//! What operators and tools look at: OpenAPI documents, health, metrics, version, tunnels that cannot be.

use serde_json::{Value, json};

use crate::case::{Chapter, case, pod};

fn definition<'a>(document: &'a Value, group: &str, version: &str, kind: &str) -> Option<&'a Value> {
    let of = |pointer: &str| document.pointer(pointer).and_then(Value::as_object);
    let all = of("/components/schemas").or_else(|| of("/definitions"))?;
    all.values().find(|schema| {
        schema["x-kubernetes-group-version-kind"]
            .as_array()
            .is_some_and(|kinds| kinds.contains(&json!({"group": group, "version": version, "kind": kind})))
    })
}

/// The chapter.
pub fn chapter() -> Chapter {
    let mut cases = openapi();
    cases.extend(health());
    cases.extend(tunnels());
    Chapter { name: "operation", cases }
}

fn openapi() -> Vec<crate::case::Test> {
    vec![
        case("the index of OpenAPI v3 names groups with hashes", |c| async move {
            let a = c.get("/openapi/v3").await?;
            a.status(200)?;
            for group in ["api/v1", "apis/apps/v1", "apis/batch/v1", "apis/rbac.authorization.k8s.io/v1"] {
                let url = a.at("/paths")[group]["serverRelativeURL"].as_str().unwrap_or_default();
                a.holds(
                    url.starts_with(&format!("/openapi/v3/{group}?hash=")),
                    format_args!("{group} with a hash expected"),
                )?;
            }
            Ok(())
        }),
        case("a document with its hash may be kept for ever", |c| async move {
            let index = c.get("/openapi/v3").await?;
            let url = index.at("/paths/apis~1apps~1v1/serverRelativeURL").as_str().unwrap_or_default().to_string();
            let a = c.get(&url).await?;
            a.status(200)?.is("/openapi", "3.0.0")?;
            a.holds(a.header("cache-control").contains("immutable"), "immutable expected")?;
            a.holds(!a.header("etag").is_empty(), "an ETag expected")?;
            Ok(())
        }),
        case("a wrong hash leads to the right one", |c| async move {
            // the client follows the redirect
            let a = c.get("/openapi/v3/apis/apps/v1?hash=00").await?;
            a.status(200)?.is("/openapi", "3.0.0")?;
            Ok(())
        }),
        case("a group's document has its kinds with their fields", |c| async move {
            let a = c.get("/openapi/v3/apis/apps/v1").await?;
            a.status(200)?;
            for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"] {
                let schema = definition(&a.json, "apps", "v1", kind);
                let described =
                    schema.is_some_and(|s| s["properties"]["spec"].is_object() && s["description"].is_string());
                a.holds(described, format_args!("{kind} with spec and description expected"))?;
            }
            Ok(())
        }),
        case("paths carry the action and the kind", |c| async move {
            let a = c.get("/openapi/v3/api/v1").await?;
            a.status(200)?;
            let list = &a.at("/paths")["/api/v1/namespaces/{namespace}/configmaps"]["get"];
            a.holds(list["x-kubernetes-action"] == "list", "the action list expected")?;
            let one = &a.at("/paths")["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
            let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
            a.holds(one["x-kubernetes-group-version-kind"] == kind, "the kind ConfigMap expected")?;
            let strategic = &one["requestBody"]["content"]["application/strategic-merge-patch+json"];
            a.holds(strategic.is_object(), "strategic merge patches expected")?;
            Ok(())
        }),
        case("a group that is not there has no document", |c| async move {
            c.get("/openapi/v3/apis/none.example/v1").await?.status(404)?;
            Ok(())
        }),
        case("OpenAPI v2 has the kinds of all groups", |c| async move {
            let a = c.get_as("/openapi/v2", "application/json").await?;
            a.status(200)?.is("/swagger", "2.0")?;
            for (group, version, kind) in [
                ("", "v1", "Pod"),
                ("apps", "v1", "Deployment"),
                ("batch", "v1", "Job"),
                ("storage.k8s.io", "v1", "StorageClass"),
            ] {
                let schema = definition(&a.json, group, version, kind);
                a.holds(
                    schema.is_some_and(|s| s["properties"].is_object()),
                    format_args!("{kind} with fields expected"),
                )?;
            }
            let spec = &a.json["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"]["$ref"];
            a.holds(spec == "#/definitions/io.k8s.api.core.v1.PodSpec", "a reference to PodSpec expected")?;
            let create = &a.at("/paths")["/api/v1/namespaces/{namespace}/pods"]["post"]["parameters"];
            let body = create.as_array().is_some_and(|list| list.iter().any(|p| p["in"] == "body"));
            a.holds(body, "a body parameter expected")?;
            Ok(())
        }),
        case("the version tells major, minor and platform", |c| async move {
            let a = c.get("/version").await?;
            a.status(200)?.is("/major", "1")?.is("/minor", "33")?.has("/platform")?.has("/goVersion")?;
            a.holds(a.text("/gitVersion").starts_with("v1.33."), "v1.33 expected")?;
            Ok(())
        }),
    ]
}

fn health() -> Vec<crate::case::Test> {
    vec![
        case("health answers ok", |c| async move {
            for path in ["/livez", "/readyz", "/healthz", "/livez/ping", "/readyz/ping", "/readyz/etcd"] {
                let a = c.get(path).await?;
                a.status(200)?.holds(&a.bytes[..] == b"ok", "ok expected")?;
                a.header_starts("content-type", "text/plain; charset=utf-8")?;
            }
            Ok(())
        }),
        case("verbose health lists its checks", |c| async move {
            for endpoint in ["livez", "readyz", "healthz"] {
                let a = c.get(&format!("/{endpoint}?verbose")).await?;
                let text = String::from_utf8_lossy(&a.bytes).into_owned();
                a.status(200)?
                    .holds(text.starts_with("[+]ping ok\n[+]log ok\n[+]etcd ok\n"), "the usual first checks expected")?
                    .holds(text.ends_with(&format!("{endpoint} check passed\n")), "the verdict expected")?;
            }
            Ok(())
        }),
        case("a check can be left out", |c| async move {
            let a = c.get("/readyz?verbose&exclude=etcd").await?;
            let text = String::from_utf8_lossy(&a.bytes).into_owned();
            a.status(200)?.holds(text.contains("[+]etcd excluded: ok\n"), "etcd excluded expected")?;
            Ok(())
        }),
        case("readiness looks at shutdown, life does not", |c| async move {
            let ready = c.get("/readyz?verbose").await?;
            ready.holds(
                String::from_utf8_lossy(&ready.bytes).contains("[+]shutdown ok"),
                "the check shutdown expected",
            )?;
            let live = c.get("/livez?verbose").await?;
            live.holds(!String::from_utf8_lossy(&live.bytes).contains("]shutdown"), "no check shutdown expected")?;
            Ok(())
        }),
        case("a check that is not there answers 404", |c| async move {
            c.get("/livez/none").await?.status(404)?;
            Ok(())
        }),
        case("requests are counted by verb, resource and code", |c| async move {
            c.get(&c.core("limitranges/none")).await?.status(404)?;
            let wanted = "apiserver_request_total{code=\"404\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"limitranges\",scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\"}";
            let a = c
                .until("/metrics", "the request is counted", |a| String::from_utf8_lossy(&a.bytes).contains(wanted))
                .await?;
            a.header_starts("content-type", "text/plain; version=0.0.4")?;
            Ok(())
        }),
        case("metrics have the names that dashboards read", |c| async move {
            c.watch(&c.core("configmaps?timeoutSeconds=1")).await?;
            let a = c.get("/metrics").await?;
            let text = String::from_utf8_lossy(&a.bytes).into_owned();
            for (name, kind) in [
                ("apiserver_request_total", "counter"),
                ("apiserver_request_duration_seconds", "histogram"),
                ("apiserver_current_inflight_requests", "gauge"),
                ("apiserver_longrunning_requests", "gauge"),
                ("apiserver_storage_objects", "gauge"),
                ("process_resident_memory_bytes", "gauge"),
                ("process_cpu_seconds_total", "counter"),
                ("process_open_fds", "gauge"),
                ("process_start_time_seconds", "gauge"),
            ] {
                a.holds(text.contains(&format!("# TYPE {name} {kind}\n")), format_args!("{name}, a {kind}, expected"))?;
            }
            for line in [
                "apiserver_current_inflight_requests{request_kind=\"mutating\"}",
                "apiserver_current_inflight_requests{request_kind=\"readOnly\"}",
                "le=\"0.005\"",
                "le=\"60\"",
                "le=\"+Inf\"",
            ] {
                a.holds(text.contains(line), format_args!("{line} expected"))?;
            }
            Ok(())
        }),
    ]
}

fn tunnels() -> Vec<crate::case::Test> {
    vec![
        case("pods have their tunnels in discovery", |c| async move {
            let a = c.get("/api/v1").await?;
            for (name, kind) in [
                ("pods/exec", "PodExecOptions"),
                ("pods/attach", "PodAttachOptions"),
                ("pods/portforward", "PodPortForwardOptions"),
            ] {
                let found = a.at("/resources").as_array().into_iter().flatten().find(|r| r["name"] == name).cloned();
                let fits = found.is_some_and(|r| r["kind"] == kind && r["verbs"] == json!(["create", "get"]));
                a.holds(fits, format_args!("{name} expected"))?;
            }
            Ok(())
        }),
        case("exec in a pod that is not there answers 404", |c| async move {
            let a = c.get(&c.core("pods/none/exec?command=ls")).await?;
            a.failed(404, "NotFound")?.says("pods \"none\" not found")?;
            Ok(())
        }),
        case("exec in a pod without a node answers 400", |c| async move {
            c.make(&c.core("pods"), &pod("p")).await?;
            let a = c.get(&c.core("pods/p/exec?command=ls")).await?;
            a.failed(400, "BadRequest")?.says("pod p does not have a host assigned")?;
            Ok(())
        }),
        case("exec in an unknown container answers 400", |c| async move {
            c.make(&c.core("pods"), &pod("p")).await?;
            let a = c.get(&c.core("pods/p/exec?command=ls&container=none")).await?;
            a.failed(400, "BadRequest")?.says("container none is not valid for pod p")?;
            Ok(())
        }),
        case("exec needs a container's name where there are two", |c| async move {
            let mut two = pod("p");
            two["spec"]["containers"] = json!([{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]);
            c.make(&c.core("pods"), &two).await?;
            let a = c.get(&c.core("pods/p/exec?command=ls")).await?;
            a.failed(400, "BadRequest")?.says("a container name must be specified for pod p, choose one of: [a b]")?;
            Ok(())
        }),
        case("exec needs a rule of its own", |c| async move {
            let request = c.request("GET", &c.core("pods/none/exec?command=ls")).header("impersonate-user", "bob");
            let a = request.send().await?;
            a.failed(403, "Forbidden")?.contains("/message", "cannot get resource \"pods/exec\"")?;
            Ok(())
        }),
    ]
}
