//! Conflicts: their Status, force, sharing, kubectl's way from client-side apply.

use serde_json::json;

use super::{map, owned_by, owners, owns, path};
use crate::case::{Test, case};

/// The cases.
pub fn cases() -> Vec<Test> {
    vec![
        case("a value that another manager applied conflicts, with its text and its cause", |c| async move {
            c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?.status(201)?;
            let a = c.apply(&path(&c), "n", &map(json!({"k": "2"}))).await?;
            a.failed(409, "Conflict")?
                .says("Apply failed with 1 conflict: conflict with \"m\": .data.k")?
                .is("/details", json!({"causes": [{"reason": "FieldManagerConflict", "message": "conflict with \"m\"", "field": ".data.k"}]}))?;
            c.get(&path(&c)).await?.is("/data/k", "1")?;
            Ok(())
        }),
        case("a conflict with an updater names the version it wrote", |c| async move {
            c.post(&c.core("configmaps?fieldManager=u"), &map(json!({"k": "1"}))).await?.status(201)?;
            let a = c.apply(&path(&c), "n", &map(json!({"k": "2"}))).await?;
            a.failed(409, "Conflict")?
                .says("Apply failed with 1 conflict: conflict with \"u\" using v1: .data.k")?
                .cause(".data.k", "FieldManagerConflict")?;
            Ok(())
        }),
        case("a conflict with a subresource's manager names the subresource", |c| async move {
            c.make(&c.core("pods"), &crate::case::pod("a")).await?;
            let status = |text: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": {"message": text}});
            c.apply(&c.core("pods/a/status"), "m", &status("1")).await?.status(200)?;
            let a = c.apply(&c.core("pods/a/status"), "n", &status("2")).await?;
            a.failed(409, "Conflict")?.says(
                "Apply failed with 1 conflict: conflict with \"m\" with subresource \"status\": .status.message",
            )?;
            Ok(())
        }),
        case("several conflicts are told by manager and field", |c| async move {
            c.apply(&path(&c), "m", &map(json!({"k": "1", "l": "1"}))).await?.status(201)?;
            c.apply(&path(&c), "n", &map(json!({"j": "1"}))).await?.status(200)?;
            let a = c.apply(&path(&c), "o", &map(json!({"j": "2", "k": "2", "l": "2"}))).await?;
            a.failed(409, "Conflict")?.says(
                "Apply failed with 3 conflicts: conflicts with \"m\":\n- .data.k\n- .data.l\nconflicts with \"n\":\n- .data.j",
            )?;
            for field in [".data.j", ".data.k", ".data.l"] {
                a.cause(field, "FieldManagerConflict")?;
            }
            Ok(())
        }),
        case("force takes the field over", |c| async move {
            c.apply(&path(&c), "m", &map(json!({"k": "1", "l": "1"}))).await?.status(201)?;
            let body = map(json!({"k": "2"})).to_string();
            let request = c.request("PATCH", &format!("{}?fieldManager=n&force=true", path(&c)));
            let a = request.body("application/apply-patch+yaml", body).send().await?;
            a.status(200)?.is("/data", json!({"k": "2", "l": "1"}))?;
            owns(&a, "m Apply", &json!({"f:data": {"f:l": {}}}))?;
            owns(&a, "n Apply", &json!({"f:data": {"f:k": {}}}))?;
            Ok(())
        }),
        case("the same value is shared, not fought over", |c| async move {
            c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?.status(201)?;
            let a = c.apply(&path(&c), "n", &map(json!({"k": "1"}))).await?;
            a.status(200)?;
            let mut found = owners(&a);
            found.sort();
            a.holds(found == ["m Apply", "n Apply"], format_args!("both, got {found:?}"))?;
            let a = c.apply(&path(&c), "m", &map(json!({"k": "2"}))).await?;
            a.failed(409, "Conflict")?.says("Apply failed with 1 conflict: conflict with \"n\": .data.k")?;
            Ok(())
        }),
        case("a shared value may be let go by one and changed by the other", |c| async move {
            c.apply(&path(&c), "m", &map(json!({"k": "1", "l": "1"}))).await?.status(201)?;
            c.apply(&path(&c), "n", &map(json!({"k": "1"}))).await?.status(200)?;
            c.apply(&path(&c), "m", &map(json!({"l": "1"}))).await?.status(200)?;
            let a = c.apply(&path(&c), "n", &map(json!({"k": "2"}))).await?;
            a.status(200)?.is("/data", json!({"k": "2", "l": "1"}))?;
            Ok(())
        }),
        case(
            "an applier does not conflict with what it changed by update, except as another manager",
            |c| async move {
                c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?.status(201)?;
                c.merge(&format!("{}?fieldManager=m", path(&c)), &json!({"data": {"k": "2"}})).await?.status(200)?;
                let a = c.apply(&path(&c), "m", &map(json!({"k": "3"}))).await?;
                a.failed(409, "Conflict")?
                    .says("Apply failed with 1 conflict: conflict with \"m\" using v1: .data.k")?;
                Ok(())
            },
        ),
        case("kubectl may change by apply what client-side apply set", |c| async move {
            let last = map(json!({"k": "1"}));
            let mut body = last.clone();
            body["metadata"]["annotations"] =
                json!({"kubectl.kubernetes.io/last-applied-configuration": last.to_string()});
            c.post(&c.core("configmaps?fieldManager=kubectl-client-side-apply"), &body).await?.status(201)?;
            let other = c.apply(&path(&c), "other", &map(json!({"k": "2"}))).await?;
            other.failed(409, "Conflict")?;
            let a = c.apply(&path(&c), "kubectl", &map(json!({"k": "2"}))).await?;
            a.status(200)?.is("/data/k", "2")?;
            a.is(
                "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
                "{\"apiVersion\":\"v1\",\"data\":{\"k\":\"2\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}\n",
            )?;
            Ok(())
        }),
        case("kubectl conflicts over what somebody changed after client-side apply", |c| async move {
            let last = map(json!({"k": "1"}));
            let mut body = last.clone();
            body["metadata"]["annotations"] =
                json!({"kubectl.kubernetes.io/last-applied-configuration": last.to_string()});
            c.post(&c.core("configmaps?fieldManager=kubectl-client-side-apply"), &body).await?.status(201)?;
            c.merge(&format!("{}?fieldManager=u", path(&c)), &json!({"data": {"k": "5"}})).await?.status(200)?;
            let a = c.apply(&path(&c), "kubectl", &map(json!({"k": "2"}))).await?;
            a.failed(409, "Conflict")?.says("Apply failed with 1 conflict: conflict with \"u\" using v1: .data.k")?;
            Ok(())
        }),
        case("a dry run tells the conflict and a success, and changes nothing", |c| async move {
            let made = c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?;
            let dry = |manager: &str, value: &str| {
                let path = format!("{}?fieldManager={manager}&dryRun=All", path(&c));
                c.request("PATCH", &path).body("application/apply-patch+yaml", map(json!({"k": value})).to_string())
            };
            dry("n", "2").send().await?.failed(409, "Conflict")?;
            let a = dry("m", "2").send().await?;
            owned_by(a.status(200)?.is("/data/k", "2")?, &["m Apply"])?;
            c.get(&path(&c)).await?.is("/metadata", made.at("/metadata").clone())?.is("/data/k", "1")?;
            Ok(())
        }),
    ]
}
