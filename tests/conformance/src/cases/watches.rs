//! Watches: from a revision, from any, from now; bookmarks and streaming lists; selectors; how they end.

use serde_json::json;

use crate::case::{Chapter, case, config_map};

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
        ],
    }
}
