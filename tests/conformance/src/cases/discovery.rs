//! Discovery: what is served, in the old form and the aggregated one; what unknown paths, methods and forms answer.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::answer::{Answer, same};
use crate::case::{Case, Chapter, case};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The chapter.
pub fn chapter() -> Chapter {
    let mut cases = plain();
    cases.extend(aggregated());
    cases.extend(refusals());
    Chapter { name: "discovery", cases }
}

fn entry<'a>(a: &'a Answer, list: &str, field: &str, wanted: &str) -> Result<&'a Value> {
    let found = a.at(list).as_array().and_then(|l| l.iter().find(|e| e[field] == wanted));
    found.with_context(|| format!("no {field} {wanted} in {list}\n{}", a.shown()))
}

fn plain() -> Vec<crate::Test> {
    vec![
        case("/api names the versions of the core group", |c| async move {
            let a = c.get("/api").await?;
            a.status(200)?.is("/kind", "APIVersions")?.is("/versions", json!(["v1"]))?;
            a.has("/serverAddressByClientCIDRs/0/serverAddress")?;
            Ok(())
        }),
        case("/apis names every group with its versions and the preferred one", |c| async move {
            let a = c.get("/apis").await?;
            a.status(200)?.is("/kind", "APIGroupList")?.is("/apiVersion", "v1")?;
            let apps = entry(&a, "/groups", "name", "apps")?;
            let version = json!({"groupVersion": "apps/v1", "version": "v1"});
            same("apps", apps, &json!({"name": "apps", "versions": [version], "preferredVersion": version}))?;
            let nameless = a.at("/groups").as_array().is_some_and(|g| g.iter().any(|g| g["name"] == ""));
            a.holds(!nameless, "the core group is not in this list")?;
            Ok(())
        }),
        case("/apis/GROUP is the group's entry with kind and version", |c| async move {
            let a = c.get("/apis/batch").await?;
            a.status(200)?.is("/kind", "APIGroup")?.is("/apiVersion", "v1")?.is("/name", "batch")?;
            a.is("/preferredVersion/groupVersion", "batch/v1")?;
            Ok(())
        }),
        case("a resource's entry has names, scope, kind, verbs and categories", |c| async move {
            let a = c.get("/api/v1").await?;
            a.status(200)?.is("/kind", "APIResourceList")?.is("/groupVersion", "v1")?;
            let mut pods = entry(&a, "/resources", "name", "pods")?.clone();
            pods.as_object_mut().map(|p| p.remove("storageVersionHash"));
            let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
            same(
                "pods",
                &pods,
                &json!({
                    "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": verbs,
                    "shortNames": ["po"], "categories": ["all"],
                }),
            )
        }),
        case("a group's resource list carries apiVersion and groupVersion", |c| async move {
            let a = c.get("/apis/apps/v1").await?;
            a.status(200)?.is("/kind", "APIResourceList")?.is("/apiVersion", "v1")?.is("/groupVersion", "apps/v1")?;
            Ok(())
        }),
        case("a status subresource has get, patch and update", |c| async move {
            let a = c.get("/apis/apps/v1").await?;
            same(
                "status",
                entry(&a, "/resources", "name", "deployments/status")?,
                &json!({
                    "name": "deployments/status", "singularName": "", "namespaced": true, "kind": "Deployment",
                    "verbs": ["get", "patch", "update"],
                }),
            )
        }),
        case("a scale subresource names group, version and kind of its body", |c| async move {
            let a = c.get("/apis/apps/v1").await?;
            same(
                "scale",
                entry(&a, "/resources", "name", "statefulsets/scale")?,
                &json!({
                    "name": "statefulsets/scale", "singularName": "", "namespaced": true, "group": "autoscaling",
                    "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"],
                }),
            )
        }),
        case("pods have eviction and binding to create, log to get", |c| async move {
            let a = c.get("/api/v1").await?;
            let eviction = entry(&a, "/resources", "name", "pods/eviction")?;
            same("group", &eviction["group"], &"policy".into())?;
            same("kind", &eviction["kind"], &"Eviction".into())?;
            same("verbs", &eviction["verbs"], &json!(["create"]))?;
            same("log", &entry(&a, "/resources", "name", "pods/log")?["verbs"], &json!(["get"]))?;
            same("binding", &entry(&a, "/resources", "name", "pods/binding")?["verbs"], &json!(["create"]))
        }),
        case("namespaces have finalize and no deletecollection", |c| async move {
            let a = c.get("/api/v1").await?;
            let verbs = &entry(&a, "/resources", "name", "namespaces")?["verbs"];
            same("verbs", verbs, &json!(["create", "delete", "get", "list", "patch", "update", "watch"]))?;
            same("finalize", &entry(&a, "/resources", "name", "namespaces/finalize")?["verbs"], &json!(["update"]))
        }),
        case("reviews can be created only", |c| async move {
            for (path, name) in [
                ("/apis/authorization.k8s.io/v1", "selfsubjectaccessreviews"),
                ("/apis/authorization.k8s.io/v1", "subjectaccessreviews"),
                ("/apis/authentication.k8s.io/v1", "tokenreviews"),
            ] {
                let a = c.get(path).await?;
                same(name, &entry(&a, "/resources", "name", name)?["verbs"], &json!(["create"]))?;
            }
            Ok(())
        }),
        case("short names are those that kubectl users know", |c| async move {
            for (path, name, short) in [
                ("/api/v1", "persistentvolumeclaims", "pvc"),
                ("/api/v1", "configmaps", "cm"),
                ("/api/v1", "serviceaccounts", "sa"),
                ("/apis/apps/v1", "deployments", "deploy"),
                ("/apis/batch/v1", "cronjobs", "cj"),
                ("/apis/storage.k8s.io/v1", "storageclasses", "sc"),
                ("/apis/networking.k8s.io/v1", "ingresses", "ing"),
                ("/apis/policy/v1", "poddisruptionbudgets", "pdb"),
            ] {
                let a = c.get(path).await?;
                same(name, &entry(&a, "/resources", "name", name)?["shortNames"], &json!([short]))?;
            }
            Ok(())
        }),
        case("the root lists the served paths", |c| async move {
            let a = c.get("/").await?;
            let paths = a.status(200)?.at("/paths").as_array().cloned().unwrap_or_default();
            for wanted in
                ["/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/openapi/v3", "/version"]
            {
                a.holds(paths.iter().any(|p| p == wanted), format_args!("{wanted} in the list"))?;
            }
            Ok(())
        }),
        case("/version tells the Kubernetes version that is spoken", |c| async move {
            let a = c.get("/version").await?;
            a.status(200)?.is("/major", "1")?.is("/minor", "33")?;
            a.holds(a.text("/gitVersion").starts_with("v1.33"), "gitVersion v1.33")?;
            a.has("/platform")?.has("/goVersion")?.has("/buildDate")?;
            Ok(())
        }),
        case("health endpoints answer ok as text", |c| async move {
            for path in ["/healthz", "/livez", "/readyz", "/livez/ping"] {
                let a = c.get(path).await?;
                a.status(200)?.header_starts("content-type", "text/plain")?;
                a.holds(&a.bytes[..] == b"ok", "the text ok")?;
            }
            Ok(())
        }),
    ]
}

fn aggregated() -> Vec<crate::Test> {
    vec![
        case("the aggregated form is told in the content type", |c| async move {
            let a = c.get_as("/apis", AGGREGATED).await?;
            a.status(200)?.is("/kind", "APIGroupDiscoveryList")?.is("/apiVersion", "apidiscovery.k8s.io/v2")?;
            a.header_starts("content-type", AGGREGATED)?;
            Ok(())
        }),
        case("the aggregated form is chosen before plain JSON when both are accepted", |c| async move {
            let a = c.get_as("/apis", &format!("{AGGREGATED},application/json")).await?;
            a.status(200)?.is("/kind", "APIGroupDiscoveryList")?;
            Ok(())
        }),
        case("the aggregated core group has no name", |c| async move {
            let a = c.get_as("/api", AGGREGATED).await?;
            a.status(200)?.lacks("/items/0/metadata/name")?.is("/items/0/versions/0/version", "v1")?;
            a.is("/items/0/versions/0/freshness", "Current")?;
            let pods = entry(&a, "/items/0/versions/0/resources", "resource", "pods")?;
            same("kind", &pods["responseKind"]["kind"], &"Pod".into())?;
            same("scope", &pods["scope"], &"Namespaced".into())?;
            same("singular", &pods["singularResource"], &"pod".into())?;
            let nodes = entry(&a, "/items/0/versions/0/resources", "resource", "nodes")?;
            same("scope", &nodes["scope"], &"Cluster".into())
        }),
        case("aggregated subresources are below their resource", |c| async move {
            let a = c.get_as("/apis", AGGREGATED).await?;
            let apps = entry(&a, "/items", "metadata", "").ok().cloned();
            a.holds(apps.is_none(), "metadata is an object")?;
            let items = a.at("/items").as_array().cloned().unwrap_or_default();
            let apps = items.iter().find(|g| g["metadata"]["name"] == "apps").context("group apps")?;
            let resources = apps["versions"][0]["resources"].as_array().cloned().unwrap_or_default();
            let deployments = resources.iter().find(|r| r["resource"] == "deployments").context("deployments")?;
            let below = deployments["subresources"].as_array().cloned().unwrap_or_default();
            let scale = below.iter().find(|s| s["subresource"] == "scale").context("scale")?;
            let kind = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
            same("kind", &scale["responseKind"], &kind)?;
            same("verbs", &scale["verbs"], &json!(["get", "patch", "update"]))
        }),
        case("aggregated discovery has an entity tag that can be asked with", |c| async move {
            let a = c.get_as("/apis", AGGREGATED).await?;
            let tag = a.header("etag").to_string();
            a.holds(!tag.is_empty(), "an ETag")?;
            let again =
                c.request("GET", "/apis").header("accept", AGGREGATED).header("if-none-match", &tag).send().await?;
            // other cases make CRDs meanwhile, then the tag has changed
            again.holds(again.status == 304 || again.header("etag") != tag, "304 for an unchanged list")?;
            Ok(())
        }),
        case("a new CRD's group is in both forms", |c| async move {
            let group = format!("{}.example.com", c.ns());
            let names = json!({"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "shortNames": ["gd"], "categories": ["all"]});
            let crd = json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("gadgets.{group}")},
                "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [
                    {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}, "subresources": {"status": {}}},
                ]},
            });
            c.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd).await?;
            let path = format!("/apis/{group}/v1");
            let a = c
                .until(&path, "the group is served", |a| a.status == 200 && a.at("/resources/1") != &Value::Null)
                .await?;
            let mut gadgets = entry(&a, "/resources", "name", "gadgets")?.clone();
            gadgets.as_object_mut().map(|p| p.remove("storageVersionHash"));
            let verbs = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
            same(
                "gadgets",
                &gadgets,
                &json!({
                    "name": "gadgets", "singularName": "gadget", "namespaced": true, "kind": "Gadget", "verbs": verbs,
                    "shortNames": ["gd"], "categories": ["all"],
                }),
            )?;
            let listed = |a: &Answer| {
                a.at("/items").as_array().is_some_and(|items| items.iter().any(|g| g["metadata"]["name"] == group))
            };
            seen_in_aggregated(&c, listed).await
        }),
    ]
}

async fn seen_in_aggregated(c: &Case, listed: impl Fn(&Answer) -> bool) -> Result<()> {
    let deadline = std::time::Instant::now() + crate::case::PATIENCE;
    loop {
        let a = c.get_as("/apis", AGGREGATED).await?;
        if listed(&a) {
            return Ok(());
        }
        a.holds(std::time::Instant::now() < deadline, "the group comes up in the aggregated form")?;
        tokio::task::yield_now().await;
    }
}

fn refusals() -> Vec<crate::Test> {
    vec![
        case("an unknown resource answers 404 with empty details", |c| async move {
            let a = c.get("/api/v1/nonsense").await?;
            a.failed(404, "NotFound")?.says("the server could not find the requested resource")?;
            a.is("/details", json!({}))?.header_starts("content-type", "application/json")?;
            Ok(())
        }),
        case("an unknown version answers 404", |c| async move {
            c.get("/apis/apps/v9").await?.failed(404, "NotFound")?;
            c.get("/apis/apps/v9/deployments").await?.failed(404, "NotFound")?;
            Ok(())
        }),
        case("an unknown group or path answers 404 as text", |c| async move {
            for path in ["/apis/nonsense", "/nonsense", "/apis/nonsense/v1/things"] {
                let a = c.get(path).await?;
                a.status(404)?.header_starts("content-type", "text/plain")?;
                a.holds(a.bytes.starts_with(b"404 page not found"), "the text")?;
            }
            Ok(())
        }),
        case("an unknown subresource answers 404", |c| async move {
            c.config_map("a", json!({})).await?;
            c.get(&c.core("configmaps/a/status")).await?.failed(404, "NotFound")?;
            c.get(&c.core("configmaps/a/nonsense")).await?.failed(404, "NotFound")?;
            Ok(())
        }),
        case("a method that a path does not have answers 405", |c| async move {
            let text = "the server does not allow this method on the requested resource";
            let a = c.put(&c.core("configmaps"), &json!({})).await?;
            a.failed(405, "MethodNotAllowed")?.says(text)?.is("/details", json!({}))?;
            c.post(&c.core("configmaps/a"), &json!({})).await?.failed(405, "MethodNotAllowed")?;
            c.delete("/api/v1/namespaces").await?.failed(405, "MethodNotAllowed")?;
            c.get("/apis/authentication.k8s.io/v1/tokenreviews").await?.failed(405, "MethodNotAllowed")?;
            Ok(())
        }),
        case("a form that is not served answers 406", |c| async move {
            c.config_map("a", json!({})).await?;
            let path = c.core("configmaps/a");
            c.get_as(&path, "text/plain").await?.failed(406, "NotAcceptable")?;
            let a = c.get_as(&path, "application/json;as=Nonsense;g=meta.k8s.io;v=v1").await?;
            a.failed(406, "NotAcceptable")?.contains("/message", "only the following media types are accepted")?;
            Ok(())
        }),
        case("a list of accepted forms is taken in its order", |c| async move {
            c.config_map("a", json!({})).await?;
            let accept = "application/json;as=Table;g=meta.k8s.io;v=v9,application/json;as=Table;g=meta.k8s.io;v=v1,application/json";
            c.get_as(&c.core("configmaps/a"), accept).await?.status(200)?.is("/kind", "Table")?;
            Ok(())
        }),
        case("YAML is answered where it is asked for", |c| async move {
            c.config_map("a", json!({"k": "v"})).await?;
            let a = c.get_as(&c.core("configmaps/a"), "application/yaml").await?;
            a.status(200)?.header_starts("content-type", "application/yaml")?;
            let text = String::from_utf8_lossy(&a.bytes).into_owned();
            a.holds(text.contains("kind: ConfigMap\n"), "a YAML document")?;
            Ok(())
        }),
    ]
}
