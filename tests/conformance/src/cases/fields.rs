//! Field validation, dry runs, printer columns, selectable fields.

use serde_json::json;

use super::definitions::{DEFINITIONS, Definition};
use crate::answer::Answer;
use crate::case::{Case, Chapter, case, config_map};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn warnings(a: &Answer) -> Vec<String> {
    a.headers.get_all("warning").iter().filter_map(|v| v.to_str().ok().map(String::from)).collect()
}

fn thing(c: &Case) -> Definition {
    Definition::new(c, json!({"type": "object", "properties": {"n": {"type": "integer"}, "mode": {"type": "string"}}}))
}

async fn raw(c: &Case, path: &str, body: &str) -> anyhow::Result<Answer> {
    c.request("POST", path).body("application/json", body.to_string()).send().await
}

/// The chapter.
#[expect(clippy::too_many_lines, reason = "one list of cases")]
pub fn chapter() -> Chapter {
    Chapter {
        name: "fields",
        cases: vec![
            case("unknown fields are warned about, refused or ignored, as asked", |c| async move {
                let d = thing(&c).serve(&c).await?;
                let path = d.things(&c, "");
                let body = d.thing(json!({"n": 1, "zz": 1}));
                let a = c.post(&format!("{path}?dryRun=All"), &body).await?;
                a.status(201)?
                    .is("/spec", json!({"n": 1}))?
                    .header_starts("warning", "299 - \"unknown field \\\"spec.zz\\\"\"")?;
                let a = c.post(&format!("{path}?dryRun=All&fieldValidation=Ignore"), &body).await?;
                a.status(201)?.holds(warnings(&a).is_empty(), "no warning")?;
                let a = c.post(&format!("{path}?dryRun=All&fieldValidation=Strict"), &body).await?;
                a.failed(400, "BadRequest")?
                    .says("Thing in version \"v1\" cannot be handled as a Thing: strict decoding error: unknown field \"spec.zz\"")?;
                Ok(())
            }),
            case("fields that are there twice are told with those that are unknown", |c| async move {
                let d = thing(&c).serve(&c).await?;
                let path = d.things(&c, "");
                let body = format!(
                    r#"{{"apiVersion":"{}/v1","kind":"Thing","metadata":{{"name":"a"}},"spec":{{"n":2,"n":3,"zz":1}}}}"#,
                    d.group
                );
                let a = raw(&c, &format!("{path}?dryRun=All"), &body).await?;
                a.status(201)?.is("/spec/n", 3)?;
                let told = warnings(&a);
                a.holds(
                    told == ["299 - \"duplicate field \\\"spec.n\\\"\"", "299 - \"unknown field \\\"spec.zz\\\"\""],
                    format_args!("warnings {told:?}"),
                )?;
                let a = raw(&c, &format!("{path}?dryRun=All&fieldValidation=Strict"), &body).await?;
                a.failed(400, "BadRequest")?.contains(
                    "/message",
                    "strict decoding error: duplicate field \"spec.n\", unknown field \"spec.zz\"",
                )?;
                Ok(())
            }),
            case("built-in kinds are validated alike", |c| async move {
                let body =
                    r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"1","a":"2"},"yy":1}"#;
                let path = c.core("configmaps?dryRun=All");
                let a = raw(&c, &path, body).await?;
                let told = warnings(&a);
                a.status(201)?.holds(
                    told.len() == 2 && told.iter().any(|w| w.contains("duplicate field \\\"data.a\\\"")),
                    format_args!("warnings {told:?}"),
                )?;
                let a = raw(&c, &format!("{path}&fieldValidation=Strict"), body).await?;
                a.failed(400, "BadRequest")?.contains(
                    "/message",
                    "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: ",
                )?;
                Ok(())
            }),
            case("unknown fields of containers are named with their index", |c| async move {
                let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                    "spec": {"containers": [{"name": "x", "image": "i", "imagePullPolic": "a"}], "foo": 1}});
                let a = c.post(&c.core("pods?dryRun=All&fieldValidation=Strict"), &body).await?;
                a.failed(400, "BadRequest")?
                    .contains("/message", "unknown field \"spec.containers[0].imagePullPolic\"")?
                    .contains("/message", "unknown field \"spec.foo\"")?;
                Ok(())
            }),
            case("unknown fields of the metadata are told", |c| async move {
                let d = thing(&c).serve(&c).await?;
                let mut body = d.thing(json!({}));
                body["metadata"]["zz"] = 1.into();
                let a = c.post(&format!("{}?dryRun=All&fieldValidation=Strict", d.things(&c, "")), &body).await?;
                a.failed(400, "BadRequest")?
                    .contains("/message", "strict decoding error: unknown field \"metadata.zz\"")?;
                Ok(())
            }),
            case("patches are validated as asked", |c| async move {
                let d = thing(&c).serve(&c).await?;
                c.make(&d.things(&c, ""), &d.thing(json!({"n": 1}))).await?;
                let path = d.things(&c, "a");
                let patch = json!({"spec": {"zz": 1}});
                c.merge(&format!("{path}?fieldValidation=Strict"), &patch)
                    .await?
                    .contains("/message", "unknown field \"spec.zz\"")?;
                let a = c.merge(&path, &patch).await?;
                a.status(200)?.header_starts("warning", "299 - \"unknown field")?;
                Ok(())
            }),
            case("another word for the validation is refused", |c| async move {
                let a = c.post(&c.core("configmaps?fieldValidation=Foo"), &config_map("a", json!({}))).await?;
                a.invalid("fieldValidation", "FieldValueNotSupported")?.says(
                    "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Foo\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
                )?;
                Ok(())
            }),
            case("dry runs of every verb answer and store nothing", |c| async move {
                let path = c.core("configmaps");
                let a = c.post(&format!("{path}?dryRun=All"), &config_map("a", json!({"k": "1"}))).await?;
                a.status(201)?
                    .has("/metadata/uid")?
                    .has("/metadata/creationTimestamp")?
                    .lacks("/metadata/resourceVersion")?;
                c.get(&format!("{path}/a")).await?.failed(404, "NotFound")?;
                let made = c.config_map("a", json!({"k": "1"})).await?;
                let mut next = made.clone();
                next["data"]["k"] = "2".into();
                c.put(&format!("{path}/a?dryRun=All"), &next)
                    .await?
                    .status(200)?
                    .is("/data/k", "2")?
                    .is("/metadata/resourceVersion", made["metadata"]["resourceVersion"].clone())?;
                c.merge(&format!("{path}/a?dryRun=All"), &json!({"data": {"k": "3"}}))
                    .await?
                    .status(200)?
                    .is("/data/k", "3")?;
                c.patch(
                    &format!("{path}/a?dryRun=All&fieldManager=me&force=true"),
                    "apply-patch+yaml",
                    &config_map("a", json!({"k": "4"})),
                )
                .await?
                .status(200)?
                .is("/data/k", "4")?;
                c.delete(&format!("{path}/a?dryRun=All")).await?.status(200)?;
                let a = c.get(&format!("{path}/a")).await?;
                a.is("/data/k", "1")?.is("/metadata/resourceVersion", made["metadata"]["resourceVersion"].clone())?;
                Ok(())
            }),
            case("a dry run fails as the real one would", |c| async move {
                c.config_map("a", json!({})).await?;
                c.post(&c.core("configmaps?dryRun=All"), &config_map("a", json!({})))
                    .await?
                    .failed(409, "AlreadyExists")?;
                c.post(&c.core("configmaps?dryRun=All"), &config_map("A_B", json!({})))
                    .await?
                    .invalid("metadata.name", "FieldValueInvalid")?;
                c.merge(&c.core("configmaps/none?dryRun=All"), &json!({})).await?.failed(404, "NotFound")?;
                Ok(())
            }),
            case("a dry definition is not served", |c| async move {
                let d = thing(&c);
                c.post(&format!("{DEFINITIONS}?dryRun=All"), &d.json).await?.status(201)?;
                c.get(&d.path()).await?.failed(404, "NotFound")?;
                c.get(&d.things(&c, "")).await?.status(404)?;
                Ok(())
            }),
            case("printer columns make the table", |c| async move {
                let d = thing(&c)
                    .with(json!({"additionalPrinterColumns": [
                    {"name": "N", "type": "integer", "jsonPath": ".spec.n", "description": "how many"},
                    {"name": "Mode", "type": "string", "jsonPath": ".spec.mode", "priority": 1},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]}))
                    .serve(&c)
                    .await?;
                c.make(&d.things(&c, ""), &d.thing(json!({"n": 2, "mode": "x"}))).await?;
                c.make(&d.things(&c, ""), &d.named("b", json!({}))).await?;
                let a = c.get_as(&d.things(&c, ""), TABLE).await?;
                a.status(200)?.is("/kind", "Table")?;
                let columns = a.at("/columnDefinitions").as_array().cloned().unwrap_or_default();
                let names: Vec<&str> = columns.iter().filter_map(|x| x["name"].as_str()).collect();
                a.holds(names == ["Name", "N", "Mode", "Age"], format_args!("columns {names:?}"))?
                    .is("/columnDefinitions/1/description", "how many")?
                    .is("/columnDefinitions/2/priority", 1)?
                    .is("/rows/0/cells/0", "a")?
                    .is("/rows/0/cells/1", 2)?
                    .is("/rows/0/cells/2", "x")?
                    .is("/rows/1/cells/1", json!(null))?;
                Ok(())
            }),
            case("without printer columns a table has name and age", |c| async move {
                let d = thing(&c).serve(&c).await?;
                c.make(&d.things(&c, ""), &d.thing(json!({}))).await?;
                let a = c.get_as(&d.things(&c, "a"), TABLE).await?;
                let columns = a.at("/columnDefinitions").as_array().cloned().unwrap_or_default();
                let names: Vec<&str> = columns.iter().filter_map(|x| x["name"].as_str()).collect();
                a.holds(names == ["Name", "Age"], format_args!("columns {names:?}"))?.is("/rows/0/cells/0", "a")?;
                Ok(())
            }),
            case("printer columns are checked", |c| async move {
                for (column, field, reason) in [
                    (json!({"name": "a", "type": "foo", "jsonPath": ".spec"}), "type", "FieldValueInvalid"),
                    (json!({"name": "a", "type": "string", "jsonPath": "spec"}), "JSONPath", "FieldValueInvalid"),
                    (
                        json!({"name": "a", "type": "string", "format": "zz", "jsonPath": ".spec"}),
                        "format",
                        "FieldValueInvalid",
                    ),
                    (json!({"name": "", "type": "string", "jsonPath": ".spec"}), "name", "FieldValueRequired"),
                ] {
                    let d = thing(&c).with(json!({"additionalPrinterColumns": [column]}));
                    let a = c.post(&format!("{DEFINITIONS}?dryRun=All"), &d.json).await?;
                    a.invalid(&format!("spec.additionalPrinterColumns[0].{field}"), reason)?;
                }
                Ok(())
            }),
            case("selectable fields select in lists, watches and collections", |c| async move {
                let d = thing(&c)
                    .with(json!({"selectableFields": [{"jsonPath": ".spec.mode"}, {"jsonPath": ".spec.n"}]}))
                    .serve(&c)
                    .await?;
                c.make(&d.things(&c, ""), &d.thing(json!({"mode": "x", "n": 1}))).await?;
                c.make(&d.things(&c, ""), &d.named("b", json!({"mode": "y"}))).await?;
                let path = d.things(&c, "");
                c.get(&format!("{path}?fieldSelector=spec.mode%3Dx")).await?.lists(&["a"])?;
                c.get(&format!("{path}?fieldSelector=spec.mode!%3Dx")).await?.lists(&["b"])?;
                c.get(&format!("{path}?fieldSelector=spec.n%3D1")).await?.lists(&["a"])?;
                let mut w = c.watch(&format!("{path}?fieldSelector=spec.mode%3Dx")).await?;
                w.expect(&["ADDED a"]).await?;
                c.merge(&d.things(&c, "b"), &json!({"spec": {"mode": "x"}})).await?.status(200)?;
                c.merge(&d.things(&c, "a"), &json!({"spec": {"mode": "z"}})).await?.status(200)?;
                w.expect(&["ADDED b", "DELETED a"]).await?;
                c.get(&format!("{path}?fieldSelector=spec.other%3Dx")).await?.failed(400, "BadRequest")?;
                c.delete(&format!("{path}?fieldSelector=spec.mode%3Dz")).await?.status(200)?;
                c.get(&path).await?.lists(&["b"])?;
                Ok(())
            }),
            case("selectable fields are checked", |c| async move {
                for path in [".spec.nope", ".spec", ".metadata.name"] {
                    let d = thing(&c).with(json!({"selectableFields": [{"jsonPath": path}]}));
                    let a = c.post(&format!("{DEFINITIONS}?dryRun=All"), &d.json).await?;
                    a.invalid("spec.selectableFields[0].jsonPath", "FieldValueInvalid")?;
                }
                Ok(())
            }),
        ],
    }
}
