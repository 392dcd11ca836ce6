//! Watches: from a revision, from any, from now; bookmarks and streaming lists; selectors; how they end.

use serde_json::json;

use crate::case::{Chapter, case, config_map, pod};

/// The chapter.
pub fn chapter() -> Chapter {
    Chapter {
        name: "watches",
        cases: vec![
            case("a watch from a list's revision shows what came after", |c| async move {
                c.config_map("before", json!({})).await?;
                let list = c.get(&c.core("configmaps")).await?;
                let mut w = c.watch(&c.core(&format!("configmaps?resourceVersion={}", list.version()))).await?;
                c.config_map("a", json!({"k": "1"})).await?;
                c.merge(&c.core("configmaps/a"), &json!({"data": {"k": "2"}})).await?.status(200)?;
                c.delete(&c.core("configmaps/a")).await?.status(200)?;
                let events = w.expect(&["ADDED a", "MODIFIED a", "DELETED a"]).await?;
                w.holds(events[0].at("/kind") == "ConfigMap", "objects carry their kind")?;
                w.holds(events[2].at("/data/k") == "2", "a deletion shows the last state")?;
                Ok(())
            }),
            case("a watch from 0 begins with what is there", |c| async move {
                c.config_map("a", json!({})).await?;
                let mut w = c.watch(&c.core("configmaps?resourceVersion=0&fieldSelector=metadata.name%3Da")).await?;
                w.expect(&["ADDED a"]).await?;
                c.delete(&c.core("configmaps/a")).await?.status(200)?;
                w.expect(&["DELETED a"]).await?;
                Ok(())
            }),
            case("a watch without a revision begins with what is there", |c| async move {
                c.config_map("a", json!({})).await?;
                let mut w = c.watch(&c.core("configmaps?fieldSelector=metadata.name%3Da")).await?;
                w.expect(&["ADDED a"]).await?;
                Ok(())
            }),
            case("a deletion's event has a newer resource version than the object had", |c| async move {
                let made = c.config_map("a", json!({})).await?;
                let version = made["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string();
                let mut w = c.watch(&c.core(&format!("configmaps?resourceVersion={version}"))).await?;
                c.delete(&c.core("configmaps/a")).await?.status(200)?;
                let events = w.expect(&["DELETED a"]).await?;
                w.holds(events[0].version() > version.as_str(), "a newer version")?;
                Ok(())
            }),
            case("an object that starts to match is ADDED, one that stops is DELETED", |c| async move {
                let mut w = c.watch(&c.core("configmaps?labelSelector=app%3Dx")).await?;
                c.config_map("a", json!({})).await?;
                c.merge(&c.core("configmaps/a"), &json!({"metadata": {"labels": {"app": "x"}}})).await?.status(200)?;
                c.merge(&c.core("configmaps/a"), &json!({"data": {"k": "v"}})).await?.status(200)?;
                c.merge(&c.core("configmaps/a"), &json!({"metadata": {"labels": {"app": "y"}}})).await?.status(200)?;
                c.delete(&c.core("configmaps/a")).await?.status(200)?;
                c.make(
                    &c.core("configmaps"),
                    &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "labels": {"app": "x"}}}),
                )
                .await?;
                w.expect(&["ADDED a", "MODIFIED a", "DELETED a", "ADDED b"]).await?;
                Ok(())
            }),
            case("sendInitialEvents ends the list with a marked bookmark", |c| async move {
                c.config_map("a", json!({})).await?;
                let mut w = c
                    .watch(&c.core(
                        "configmaps?sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan",
                    ))
                    .await?;
                let mark = w.until("the marked bookmark", |e| e.kind == "BOOKMARK").await?;
                w.holds(
                    mark.at("/metadata/annotations/k8s.io~1initial-events-end") == "true",
                    "the bookmark is marked",
                )?;
                w.holds(w.seen.iter().any(|e| e.brief() == "ADDED a"), "the object came before the bookmark")?;
                Ok(())
            }),
            case("timeoutSeconds ends the watch", |c| async move {
                let mut w = c.watch(&c.core("configmaps?resourceVersion=0&timeoutSeconds=1")).await?;
                w.end().await?;
                Ok(())
            }),
            case("a revision that is not reached yet is refused in the answer or as an event", |c| async move {
                let a = c.get(&c.core("configmaps?watch=true&resourceVersion=999999999&timeoutSeconds=1")).await?;
                let code = if a.status == 200 { a.at("/object/code") } else { a.at("/code") };
                a.holds(code == 504 || a.bytes.is_empty(), "504 or an empty watch expected")?;
                Ok(())
            }),
            case("two watches see the same order", |c| async move {
                let path = c.core("configmaps?labelSelector=order");
                let (mut one, mut two) = (c.watch(&path).await?, c.watch(&path).await?);
                for name in ["a", "b", "c"] {
                    let mut body = config_map(name, json!({}));
                    body["metadata"]["labels"] = json!({"order": "x"});
                    c.make(&c.core("configmaps"), &body).await?;
                }
                let wanted = ["ADDED a", "ADDED b", "ADDED c"];
                let (first, second) = (one.expect(&wanted).await?, two.expect(&wanted).await?);
                one.holds(first == second, "equal events")?;
                Ok(())
            }),
        ]
        .into_iter()
        .chain(resuming())
        .chain(forms())
        .collect(),
    }
}

fn labelled(name: &str, value: &str) -> serde_json::Value {
    let mut body = config_map(name, json!({}));
    body["metadata"]["labels"] = json!({"app": value});
    body
}

fn resuming() -> Vec<crate::Test> {
    vec![
        case("a watch that is resumed misses nothing and repeats nothing", |c| async move {
            let start = c.get(&c.core("configmaps")).await?;
            let from = |version: &str| c.core(&format!("configmaps?labelSelector=app&resourceVersion={version}"));
            for name in ["a", "b", "c"] {
                c.make(&c.core("configmaps"), &labelled(name, "x")).await?;
            }
            let mut first = c.watch(&from(start.version())).await?;
            let events = first.expect(&["ADDED a", "ADDED b"]).await?;
            drop(first);
            c.delete(&c.core("configmaps/a")).await?.status(200)?;
            let mut second = c.watch(&from(events[1].version())).await?;
            second.expect(&["ADDED c", "DELETED a"]).await?;
            Ok(())
        }),
        case("versions of events rise and are those of the objects", |c| async move {
            let mut w = c.watch(&c.core("configmaps?labelSelector=app")).await?;
            c.make(&c.core("configmaps"), &labelled("a", "x")).await?;
            let mut versions = Vec::new();
            for n in 0..5 {
                let a = c.merge(&c.core("configmaps/a"), &json!({"data": {"n": n.to_string()}})).await?;
                versions.push(a.version().to_string());
            }
            w.expect(&["ADDED a"]).await?;
            for version in versions {
                let events = w.expect(&["MODIFIED a"]).await?;
                w.holds(events[0].version() == version, format_args!("version {version} expected"))?;
            }
            Ok(())
        }),
        case("an update without a change gives no event", |c| async move {
            let mut w = c.watch(&c.core("configmaps?labelSelector=app")).await?;
            let made = c.make(&c.core("configmaps"), &labelled("a", "x")).await?;
            c.put(&c.core("configmaps/a"), &made).await?.status(200)?;
            c.delete(&c.core("configmaps/a")).await?.status(200)?;
            w.expect(&["ADDED a", "DELETED a"]).await?;
            Ok(())
        }),
        case("a deletion that waits for finalizers is MODIFIED, then DELETED", |c| async move {
            let mut w = c.watch(&c.core("configmaps?labelSelector=app")).await?;
            let mut body = labelled("a", "x");
            body["metadata"]["finalizers"] = json!(["x.io/a"]);
            c.make(&c.core("configmaps"), &body).await?;
            c.delete(&c.core("configmaps/a")).await?.status(200)?;
            c.merge(&c.core("configmaps/a"), &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
            let events = w.expect(&["ADDED a", "MODIFIED a", "DELETED a"]).await?;
            w.holds(!events[1].at("/metadata/deletionTimestamp").is_null(), "the time of the deletion")?;
            Ok(())
        }),
        case("a field that stops to match makes an object DELETED", |c| async move {
            c.pod(&pod("a")).await?;
            let mut w = c.watch(&c.core("pods?fieldSelector=status.phase%3DPending")).await?;
            c.merge(&c.core("pods/a/status"), &json!({"status": {"phase": "Running"}})).await?.status(200)?;
            c.merge(&c.core("pods/a/status"), &json!({"status": {"phase": "Succeeded"}})).await?.status(200)?;
            c.merge(&c.core("pods/a/status"), &json!({"status": {"phase": "Pending"}})).await?.status(200)?;
            w.expect(&["ADDED a", "DELETED a", "ADDED a"]).await?;
            Ok(())
        }),
        case("a watch over all namespaces sees each", |c| async move {
            let mut w = c.watch(&format!("/api/v1/configmaps?labelSelector=app%3D{}", c.ns())).await?;
            c.make(&c.core("configmaps"), &labelled("a", c.ns())).await?;
            c.make("/api/v1/namespaces/default/configmaps", &labelled(&c.name("b"), c.ns())).await?;
            let first = w.change().await?;
            let second = w.change().await?;
            w.holds(first.at("/metadata/namespace") == c.ns(), "the case's namespace")?;
            w.holds(second.at("/metadata/namespace") == "default", "another namespace")?;
            Ok(())
        }),
        case("deletecollection gives an event for each object", |c| async move {
            let mut w = c.watch(&c.core("configmaps?labelSelector=app")).await?;
            for name in ["a", "b"] {
                c.make(&c.core("configmaps"), &labelled(name, "x")).await?;
            }
            c.delete(&c.core("configmaps?labelSelector=app")).await?.status(200)?;
            w.expect(&["ADDED a", "ADDED b"]).await?;
            let mut gone = vec![w.change().await?.brief(), w.change().await?.brief()];
            gone.sort();
            w.holds(gone == ["DELETED a", "DELETED b"], "both deletions")?;
            Ok(())
        }),
        case("a revision that is not kept ends the watch with an event 410", |c| async move {
            let mut w = c.watch(&c.core("configmaps?resourceVersion=1&timeoutSeconds=3")).await?;
            let events = w.end().await?;
            // a server that kept everything since its start shows everything
            if let Some(error) = events.iter().find(|e| e.kind == "ERROR") {
                w.holds(error.at("/code") == 410, "code 410")?;
                w.holds(error.at("/kind") == "Status" && error.at("/reason") == "Expired", "a Status, Expired")?;
            }
            Ok(())
        }),
        case("a watch of a custom resource", |c| async move {
            let group = format!("{}.example.com", c.ns());
            let crd = json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("things.{group}")},
                "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "things", "singular": "thing", "kind": "Thing"}, "versions": [
                    {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
                ]},
            });
            c.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd).await?;
            let path = c.group(&format!("{group}/v1"), "things");
            c.until(&path, "the resource is served", |a| a.status == 200).await?;
            let mut w = c.watch(&path).await?;
            c.make(&path, &json!({"apiVersion": format!("{group}/v1"), "kind": "Thing", "metadata": {"name": "a"}}))
                .await?;
            c.delete(&format!("{path}/a")).await?.status(200)?;
            let events = w.expect(&["ADDED a", "DELETED a"]).await?;
            w.holds(events[0].at("/kind") == "Thing", "the kind")?;
            Ok(())
        }),
    ]
}

fn forms() -> Vec<crate::Test> {
    const STREAM: &str = "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    vec![
        case("a streaming list selects, ends in a bookmark, and goes on as a watch", |c| async move {
            c.make(&c.core("configmaps"), &labelled("a", "x")).await?;
            c.make(&c.core("configmaps"), &labelled("b", "y")).await?;
            let mut w = c.watch(&c.core(&format!("configmaps?labelSelector=app%3Dx&{STREAM}"))).await?;
            let first = w.next().await?;
            w.holds(first.brief() == "ADDED a", "the selected object first")?;
            let mark = w.next().await?;
            w.holds(mark.kind == "BOOKMARK" && mark.at("/kind") == "ConfigMap", "then the bookmark")?;
            c.make(&c.core("configmaps"), &labelled("d", "x")).await?;
            let event = w.change().await?;
            w.holds(event.brief() == "ADDED d", "then what happens")?;
            Ok(())
        }),
        case("a streaming list from a revision is not older than it", |c| async move {
            let made = c.make(&c.core("configmaps"), &labelled("a", "x")).await?;
            let version = made["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            let mut w =
                c.watch(&c.core(&format!("configmaps?labelSelector=app&{STREAM}&resourceVersion={version}"))).await?;
            let first = w.next().await?;
            w.holds(first.brief() == "ADDED a", "the object")?;
            let mark = w.until("the bookmark", |e| e.kind == "BOOKMARK").await?;
            let number = |text: &str| text.parse::<u64>().unwrap_or_default();
            w.holds(number(mark.version()) >= number(version), "a bookmark that is not older")?;
            Ok(())
        }),
        case("sendInitialEvents needs resourceVersionMatch, and the other way round", |c| async move {
            let a = c.get(&c.core("configmaps?watch=true&sendInitialEvents=true")).await?;
            a.invalid("resourceVersionMatch", "FieldValueForbidden")?;
            a.contains("/message", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")?;
            let a = c.get(&c.core("configmaps?watch=true&resourceVersionMatch=NotOlderThan&resourceVersion=0")).await?;
            a.invalid("resourceVersionMatch", "FieldValueForbidden")?;
            let a = c
                .get(
                    &c.core(
                        "configmaps?watch=true&sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1",
                    ),
                )
                .await?;
            a.failed(422, "Invalid")?;
            let a = c
                .get(&c.core("configmaps?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0"))
                .await?;
            a.invalid("sendInitialEvents", "FieldValueForbidden")?;
            Ok(())
        }),
        case("a selector that cannot be read answers 400 and opens no watch", |c| async move {
            c.get(&c.core("configmaps?watch=true&labelSelector=a%20b")).await?.failed(400, "BadRequest")?;
            c.get(&c.core("configmaps?watch=true&fieldSelector=spec.x%3D1")).await?.failed(400, "BadRequest")?;
            Ok(())
        }),
        case("a bookmark comes before the watch times out", |c| async move {
            let mut w = c
                .watch(
                    &c.core("configmaps?resourceVersion=0&allowWatchBookmarks=true&timeoutSeconds=4&labelSelector=app"),
                )
                .await?;
            c.make(&c.core("configmaps"), &labelled("a", "x")).await?;
            let events = w.end().await?;
            let mark = events.iter().rfind(|e| e.kind == "BOOKMARK");
            let added = events.iter().find(|e| e.brief() == "ADDED a");
            let (Some(mark), Some(added)) = (mark, added) else { return w.fail("an event and a bookmark expected") };
            let number = |text: &str| text.parse::<u64>().unwrap_or_default();
            w.holds(number(mark.version()) >= number(added.version()), "the bookmark is not older than the event")?;
            w.holds(
                mark.at("/kind") == "ConfigMap" && mark.at("/metadata/name").is_null(),
                "only a version and a kind",
            )?;
            Ok(())
        }),
        case("a watch of metadata shows only metadata", |c| async move {
            let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
            let mut w = c.watch_as(&c.core("configmaps?labelSelector=app"), accept).await?;
            let mut body = labelled("a", "x");
            body["data"] = json!({"k": "v"});
            c.make(&c.core("configmaps"), &body).await?;
            let event = w.change().await?;
            w.holds(
                event.at("/kind") == "PartialObjectMetadata" && event.at("/apiVersion") == "meta.k8s.io/v1",
                "the kind",
            )?;
            w.holds(event.name() == "a" && event.at("/data").is_null(), "metadata without data")?;
            Ok(())
        }),
        case("a watch as tables has the columns in its first event only", |c| async move {
            let accept = "application/json;as=Table;g=meta.k8s.io;v=v1";
            let mut w = c.watch_as(&c.core("configmaps?labelSelector=app"), accept).await?;
            for name in ["a", "b"] {
                c.make(&c.core("configmaps"), &labelled(name, "x")).await?;
            }
            let (first, second) = (w.next().await?, w.next().await?);
            w.holds(first.kind == "ADDED" && first.at("/kind") == "Table", "a table")?;
            w.holds(first.at("/columnDefinitions/0/name") == "Name", "columns first")?;
            w.holds(first.at("/rows/0/cells/0") == "a" && second.at("/rows/0/cells/0") == "b", "a row each")?;
            w.holds(second.at("/columnDefinitions/0").is_null(), "no columns afterwards")?;
            Ok(())
        }),
        case("a watch answers JSON in pieces", |c| async move {
            let response = c.request("GET", &c.core("configmaps?watch=true&timeoutSeconds=1")).open().await?;
            let kind =
                response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
            anyhow::ensure!(
                response.status().as_u16() == 200 && kind == "application/json",
                "200 application/json expected, got {kind}"
            );
            Ok(())
        }),
    ]
}
