//! Lists: selectors, pages, resource versions and their matching rules, and what a list carries.

use serde_json::{Value, json};

use crate::case::{Case, Chapter, case};

/// The chapter.
pub fn chapter() -> Chapter {
    let mut cases = selectors();
    cases.extend(pages());
    cases.extend(versions());
    Chapter { name: "lists", cases }
}

/// Secrets a, b, c… with the labels; no controller makes secrets, so lists hold nothing else.
async fn secrets(c: &Case, labels: &[Value]) -> anyhow::Result<()> {
    for (name, labels) in ('a'..).zip(labels) {
        let body =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name.to_string(), "labels": labels}});
        c.make(&c.core("secrets"), &body).await?;
    }
    Ok(())
}

async fn some(c: &Case, count: usize) -> anyhow::Result<()> {
    secrets(c, &vec![json!({}); count]).await
}

fn selectors() -> Vec<crate::Test> {
    vec![
        case("a list has kind, version and revision; its items have neither kind nor version", |c| async move {
            some(&c, 1).await?;
            let a = c.get(&c.core("secrets")).await?;
            a.lists(&["a"])?.is("/kind", "SecretList")?.is("/apiVersion", "v1")?.has("/metadata/resourceVersion")?;
            a.lacks("/items/0/kind")?.lacks("/items/0/apiVersion")?.lacks("/metadata/continue")?;
            Ok(())
        }),
        case("an empty list has an empty array", |c| async move {
            c.get(&c.core("secrets")).await?.status(200)?.is("/items", json!([]))?;
            Ok(())
        }),
        case("items come in the order of their names", |c| async move {
            for name in ["m", "a", "z", "a-1", "a.1"] {
                let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
                c.make(&c.core("secrets"), &body).await?;
            }
            c.get(&c.core("secrets")).await?.lists(&["a", "a-1", "a.1", "m", "z"])?;
            Ok(())
        }),
        case("label selectors: equality, inequality, sets and existence", |c| async move {
            secrets(&c, &[json!({"x": "1"}), json!({"x": "2", "y": ""}), json!({})]).await?;
            for (selector, wanted) in [
                ("x=1", vec!["a"]),
                ("x==1", vec!["a"]),
                ("x!=1", vec!["b", "c"]),
                ("x in (1,2)", vec!["a", "b"]),
                ("x in ( 1 )", vec!["a"]),
                ("x notin (1)", vec!["b", "c"]),
                ("x", vec!["a", "b"]),
                ("!x", vec!["c"]),
                ("! x", vec!["c"]),
                ("y=", vec!["b"]),
                ("x,!y", vec!["a"]),
                ("x in (1,2),x notin (2)", vec!["a"]),
                ("x>1", vec!["b"]),
                ("x<2", vec!["a"]),
                ("", vec!["a", "b", "c"]),
            ] {
                let path = format!("{}?labelSelector={}", c.core("secrets"), quote(selector));
                c.get(&path).await?.lists(&wanted)?;
            }
            Ok(())
        }),
        case("a label selector that cannot be read answers 400", |c| async move {
            for (selector, text) in [
                ("x in (", "unable to parse requirement"),
                ("a b", "found 'b'"),
                ("=x", "found '='"),
                ("x=y=z", "found '='"),
                ("x=-y", "Invalid value"),
                ("-x=y", "Invalid value"),
            ] {
                let path = format!("{}?labelSelector={}", c.core("secrets"), quote(selector));
                let a = c.get(&path).await?;
                a.failed(400, "BadRequest")?.contains("/message", text)?;
            }
            Ok(())
        }),
        case("field selectors by name and namespace, equal and not", |c| async move {
            some(&c, 3).await?;
            let path = |selector: &str| format!("{}?fieldSelector={}", c.core("secrets"), quote(selector));
            c.get(&path("metadata.name=b")).await?.lists(&["b"])?;
            c.get(&path("metadata.name==b")).await?.lists(&["b"])?;
            c.get(&path("metadata.name!=b")).await?.lists(&["a", "c"])?;
            c.get(&path(&format!("metadata.namespace={},metadata.name=a", c.ns()))).await?.lists(&["a"])?;
            c.get(&path("metadata.namespace=other")).await?.lists(&[])?;
            Ok(())
        }),
        case("field selectors of a kind's own fields", |c| async move {
            for (name, kind) in [("a", "Opaque"), ("b", "example.com/x")] {
                let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind});
                c.make(&c.core("secrets"), &body).await?;
            }
            c.get(&format!("{}?fieldSelector=type%3DOpaque", c.core("secrets"))).await?.lists(&["a"])?;
            c.get(&format!("{}?fieldSelector=type%21%3DOpaque", c.core("secrets"))).await?.lists(&["b"])?;
            Ok(())
        }),
        case("an unknown field in a selector answers 400", |c| async move {
            let a = c.get(&format!("{}?fieldSelector=data.x%3D1", c.core("secrets"))).await?;
            a.failed(400, "BadRequest")?.contains("/message", "field label not supported: data.x")?;
            let a = c.get(&format!("{}?fieldSelector=nonsense", c.core("secrets"))).await?;
            a.failed(400, "BadRequest")?;
            Ok(())
        }),
        case("a list over all namespaces has every namespace's objects", |c| async move {
            let label = json!({"everywhere": c.ns()});
            secrets(&c, std::slice::from_ref(&label)).await?;
            let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other", "labels": label}});
            c.make("/api/v1/namespaces/default/secrets", &body).await?;
            let a = c.get(&format!("/api/v1/secrets?labelSelector=everywhere%3D{}", c.ns())).await?;
            a.status(200)?;
            let mut names = a.names();
            names.sort_unstable();
            a.holds(names == ["a", "other"], "both objects")?;
            c.delete("/api/v1/namespaces/default/secrets/other").await?.status(200)?;
            Ok(())
        }),
        case("a list in a namespace that does not exist is empty", |c| async move {
            c.get("/api/v1/namespaces/no-such-namespace/secrets").await?.status(200)?.is("/items", json!([]))?;
            Ok(())
        }),
    ]
}

/// Percent-encodes what a query value may not have.
fn quote(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b == b'.' { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn pages() -> Vec<crate::Test> {
    vec![
        case("limit and continue walk through the list at one revision", |c| async move {
            some(&c, 5).await?;
            let path = c.core("secrets");
            let first = c.get(&format!("{path}?limit=2")).await?;
            first.lists(&["a", "b"])?.has("/metadata/continue")?.is("/metadata/remainingItemCount", 3)?;
            // what happens meanwhile is not in the pages that follow
            c.delete(&c.core("secrets/c")).await?.status(200)?;
            let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bb"}});
            c.make(&path, &body).await?;
            let next = quote(first.text("/metadata/continue"));
            let second = c.get(&format!("{path}?limit=2&continue={next}")).await?;
            second.lists(&["c", "d"])?.is("/metadata/resourceVersion", first.version())?;
            second.is("/metadata/remainingItemCount", 1)?;
            let next = quote(second.text("/metadata/continue"));
            let last = c.get(&format!("{path}?limit=2&continue={next}")).await?;
            last.lists(&["e"])?.lacks("/metadata/continue")?.lacks("/metadata/remainingItemCount")?;
            last.is("/metadata/resourceVersion", first.version())?;
            Ok(())
        }),
        case("a limit that takes in everything gives no continue", |c| async move {
            some(&c, 2).await?;
            for limit in [2, 3, 0] {
                let a = c.get(&format!("{}?limit={limit}", c.core("secrets"))).await?;
                a.lists(&["a", "b"])?.lacks("/metadata/continue")?.lacks("/metadata/remainingItemCount")?;
            }
            Ok(())
        }),
        case("with a selector the remaining count is left out", |c| async move {
            secrets(&c, &vec![json!({"x": "1"}); 3]).await?;
            let a = c.get(&format!("{}?limit=1&labelSelector=x", c.core("secrets"))).await?;
            a.lists(&["a"])?.has("/metadata/continue")?.lacks("/metadata/remainingItemCount")?;
            let next = quote(a.text("/metadata/continue"));
            c.get(&format!("{}?limit=5&labelSelector=x&continue={next}", c.core("secrets")))
                .await?
                .lists(&["b", "c"])?;
            Ok(())
        }),
        case("continue without a limit gives the rest", |c| async move {
            some(&c, 4).await?;
            let a = c.get(&format!("{}?limit=1", c.core("secrets"))).await?;
            let next = quote(a.text("/metadata/continue"));
            c.get(&format!("{}?continue={next}", c.core("secrets"))).await?.lists(&["b", "c", "d"])?;
            Ok(())
        }),
        case("pages over all namespaces", |c| async move {
            let labels = json!({"paged": c.ns()});
            secrets(&c, &vec![labels; 3]).await?;
            let path = format!("/api/v1/secrets?limit=2&labelSelector=paged%3D{}", c.ns());
            let a = c.get(&path).await?;
            a.lists(&["a", "b"])?;
            let next = quote(a.text("/metadata/continue"));
            c.get(&format!("{path}&continue={next}")).await?.lists(&["c"])?;
            Ok(())
        }),
        case("a continue that cannot be read answers 400", |c| async move {
            let a = c.get(&format!("{}?limit=1&continue=nonsense", c.core("secrets"))).await?;
            a.failed(400, "BadRequest")?.contains("/message", "continue key is not valid")?;
            Ok(())
        }),
        case("continue with a resource version answers 400", |c| async move {
            some(&c, 2).await?;
            let a = c.get(&format!("{}?limit=1", c.core("secrets"))).await?;
            let next = quote(a.text("/metadata/continue"));
            let path = format!("{}?limit=1&continue={next}&resourceVersion={}", c.core("secrets"), a.version());
            c.get(&path).await?.failed(400, "BadRequest")?;
            Ok(())
        }),
        case("a limit that is no number answers 400", |c| async move {
            c.get(&format!("{}?limit=x", c.core("secrets"))).await?.failed(400, "BadRequest")?;
            Ok(())
        }),
    ]
}

fn versions() -> Vec<crate::Test> {
    vec![
        case("resourceVersion 0 answers any state", |c| async move {
            some(&c, 1).await?;
            c.until(&format!("{}?resourceVersion=0", c.core("secrets")), "the cache has it", |a| a.names() == ["a"])
                .await?;
            Ok(())
        }),
        case("NotOlderThan answers a state that is at least as new", |c| async move {
            some(&c, 2).await?;
            let list = c.get(&c.core("secrets")).await?;
            let version = list.version();
            for query in [
                format!("resourceVersion={version}"),
                format!("resourceVersion={version}&resourceVersionMatch=NotOlderThan"),
            ] {
                c.get(&format!("{}?{query}", c.core("secrets"))).await?.lists(&["a", "b"])?;
            }
            Ok(())
        }),
        case("Exact answers the state of that revision", |c| async move {
            some(&c, 2).await?;
            let list = c.get(&c.core("secrets")).await?;
            c.delete(&c.core("secrets/a")).await?.status(200)?;
            c.merge(&c.core("secrets/b"), &json!({"metadata": {"labels": {"new": ""}}})).await?.status(200)?;
            let path = format!("{}?resourceVersionMatch=Exact&resourceVersion={}", c.core("secrets"), list.version());
            let old = c.get(&path).await?;
            old.lists(&["a", "b"])?.is("/metadata/resourceVersion", list.version())?;
            old.lacks("/items/1/metadata/labels")?;
            Ok(())
        }),
        case("a limit with a resource version answers the state of that revision", |c| async move {
            some(&c, 2).await?;
            let list = c.get(&c.core("secrets")).await?;
            c.delete(&c.core("secrets/a")).await?.status(200)?;
            let path =
                format!("{}?limit=1&resourceVersion={}&resourceVersionMatch=Exact", c.core("secrets"), list.version());
            let a = c.get(&path).await?;
            a.lists(&["a"])?;
            let next = quote(a.text("/metadata/continue"));
            c.get(&format!("{}?continue={next}", c.core("secrets"))).await?.lists(&["b"])?;
            Ok(())
        }),
        case("resourceVersionMatch without a resource version answers 422", |c| async move {
            let a = c.get(&format!("{}?resourceVersionMatch=Exact", c.core("secrets"))).await?;
            a.invalid("resourceVersionMatch", "FieldValueForbidden")?;
            a.contains("/message", "resourceVersionMatch is forbidden unless resourceVersion is provided")?;
            Ok(())
        }),
        case("an unknown resourceVersionMatch answers 422", |c| async move {
            let a = c.get(&format!("{}?resourceVersion=1&resourceVersionMatch=Sometimes", c.core("secrets"))).await?;
            a.invalid("resourceVersionMatch", "FieldValueNotSupported")?;
            Ok(())
        }),
        case("Exact at revision 0 answers 422", |c| async move {
            let a = c.get(&format!("{}?resourceVersion=0&resourceVersionMatch=Exact", c.core("secrets"))).await?;
            a.invalid("resourceVersionMatch", "FieldValueForbidden")?;
            Ok(())
        }),
        case("a resource version that is no number answers 400", |c| async move {
            let a = c.get(&format!("{}?resourceVersion=x", c.core("secrets"))).await?;
            a.failed(400, "BadRequest")?.contains("/message", "Invalid value")?;
            Ok(())
        }),
        case("a resource version of the future answers 504 with a cause", |c| async move {
            let a = c.get(&format!("{}?resourceVersion=999999999", c.core("secrets"))).await?;
            a.failed(504, "Timeout")?.contains("/message", "Too large resource version: 999999999, current: ")?;
            a.is("/details/causes/0/reason", "ResourceVersionTooLarge")?;
            Ok(())
        }),
        case("get takes a resource version as the oldest state that is wanted", |c| async move {
            some(&c, 1).await?;
            let a = c.get(&c.core("secrets/a")).await?;
            c.get(&format!("{}?resourceVersion={}", c.core("secrets/a"), a.version())).await?.status(200)?;
            c.get(&format!("{}?resourceVersion=0", c.core("secrets/a"))).await?.status(200)?;
            c.get(&format!("{}?resourceVersion=999999999", c.core("secrets/a"))).await?.failed(504, "Timeout")?;
            Ok(())
        }),
        case("a list is as new as the last write", |c| async move {
            for n in 0..20 {
                let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s-{n}")}});
                let made = c.make(&c.core("secrets"), &body).await?;
                let a = c.get(&c.core("secrets")).await?;
                let number = |text: &str| text.parse::<u64>().unwrap_or_default();
                let version = made["metadata"]["resourceVersion"].as_str().unwrap_or_default();
                a.holds(a.names().len() == n + 1, "the new object is in the list")?;
                a.holds(number(a.version()) >= number(version), "the list is not older than the object")?;
            }
            Ok(())
        }),
        case("metadata only: a list of PartialObjectMetadata", |c| async move {
            some(&c, 2).await?;
            let a = c
                .get_as(&c.core("secrets"), "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
                .await?;
            a.lists(&["a", "b"])?.is("/kind", "PartialObjectMetadataList")?.is("/apiVersion", "meta.k8s.io/v1")?;
            a.has("/metadata/resourceVersion")?.lacks("/items/0/type")?;
            Ok(())
        }),
    ]
}
