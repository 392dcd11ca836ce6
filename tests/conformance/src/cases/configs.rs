//! Config maps and secrets: keys, sizes, types, what immutable means.

use serde_json::{Value, json};

use crate::case::{Chapter, case, config_map};

/// The chapter.
pub fn chapter() -> Chapter {
    Chapter {
        name: "configs",
        cases: vec![
            case("keys are words of letters, digits, dots, dashes and underscores", |c| async move {
                c.config_map("good", json!({"a": "1", "A.b-c_d": "2", ".hidden": "3"})).await?;
                for key in ["a b", "a/b", "", "..", ".", "..a", "ä"] {
                    let a = c.post(&c.core("configmaps"), &config_map("a", json!({key: "x"}))).await?;
                    a.invalid(&format!("data[{key}]"), "FieldValueInvalid")?;
                }
                Ok(())
            }),
            case("a key is in data or in binaryData", |c| async move {
                let mut body = config_map("a", json!({"k": "x"}));
                body["binaryData"] = json!({"k": "eA=="});
                c.post(&c.core("configmaps"), &body).await?.invalid("data[k]", "FieldValueInvalid")?;
                body["binaryData"] = json!({"l": "eA=="});
                c.make(&c.core("configmaps"), &body).await?;
                Ok(())
            }),
            case("binaryData that is no base64 answers 400", |c| async move {
                let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "binaryData": {"k": "%%"}});
                c.post(&c.core("configmaps"), &body).await?.failed(400, "BadRequest")?;
                Ok(())
            }),
            case("a config map holds at most 1 MiB", |c| async move {
                let a =
                    c.post(&c.core("configmaps"), &config_map("a", json!({"k": "x".repeat((1 << 20) + 1)}))).await?;
                a.failed(422, "Invalid")?.contains("/message", "Too long: may not be more than 1048576 bytes")?;
                c.config_map("b", json!({"k": "x".repeat(1 << 20)})).await?;
                Ok(())
            }),
            case("an immutable config map keeps its data", |c| async move {
                let mut body = config_map("a", json!({"k": "1"}));
                body["immutable"] = true.into();
                c.make(&c.core("configmaps"), &body).await?;
                let path = c.core("configmaps/a");
                let a = c.merge(&path, &json!({"data": {"k": "2"}})).await?;
                a.invalid("data", "FieldValueForbidden")?
                    .contains("/message", "field is immutable when `immutable` is set")?;
                c.merge(&path, &json!({"immutable": false})).await?.invalid("immutable", "FieldValueForbidden")?;
                c.merge(&path, &json!({"metadata": {"labels": {"a": "b"}}})).await?.status(200)?;
                c.delete(&path).await?.status(200)?;
                Ok(())
            }),
            case("stringData becomes data and is not shown", |c| async move {
                let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"x": "MQ==", "y": "MQ=="}, "stringData": {"x": "2"}});
                let a = c.post(&c.core("secrets"), &body).await?;
                a.status(201)?
                    .is("/data", json!({"x": "Mg==", "y": "MQ=="}))?
                    .lacks("/stringData")?
                    .is("/type", "Opaque")?;
                let a = c.merge(&c.core("secrets/a"), &json!({"stringData": {"y": "3"}})).await?;
                a.status(200)?.is("/data", json!({"x": "Mg==", "y": "Mw=="}))?;
                Ok(())
            }),
            case("a secret's type cannot be changed", |c| async move {
                let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "type": "x.io/a"});
                c.make(&c.core("secrets"), &body).await?;
                let a = c.merge(&c.core("secrets/a"), &json!({"type": "x.io/b"})).await?;
                a.invalid("type", "FieldValueInvalid")?;
                Ok(())
            }),
            case("an immutable secret keeps its data", |c| async move {
                let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"x": "MQ=="}, "immutable": true});
                c.make(&c.core("secrets"), &body).await?;
                c.merge(&c.core("secrets/a"), &json!({"data": {"x": "Mg=="}}))
                    .await?
                    .invalid("data", "FieldValueForbidden")?;
                Ok(())
            }),
            case("secrets of published types need their keys", |c| async move {
                for (kind, fields) in [
                    ("kubernetes.io/tls", vec!["data[tls.crt]", "data[tls.key]"]),
                    ("kubernetes.io/ssh-auth", vec!["data[ssh-privatekey]"]),
                    ("kubernetes.io/basic-auth", vec!["data[username]", "data[password]"]),
                    ("kubernetes.io/dockerconfigjson", vec!["data[.dockerconfigjson]"]),
                ] {
                    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "type": kind});
                    let a = c.post(&c.core("secrets"), &body).await?;
                    for field in fields {
                        a.invalid(field, "FieldValueRequired")?;
                    }
                }
                Ok(())
            }),
            case("a docker config that is no JSON is refused without showing it", |c| async move {
                let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "type": "kubernetes.io/dockerconfigjson",
                    "stringData": {".dockerconfigjson": "hidden"}});
                let a = c.post(&c.core("secrets"), &body).await?;
                a.invalid("data[.dockerconfigjson]", "FieldValueInvalid")?;
                a.holds(!a.text("/message").contains("hidden"), "the content is not in the message")?;
                Ok(())
            }),
            case("a secret's data that is no base64 answers 400", |c| async move {
                let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"x": "*"}});
                c.post(&c.core("secrets"), &body).await?.failed(400, "BadRequest")?;
                Ok(())
            }),
            case("null data is no data", |c| async move {
                let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": null}, "data": null});
                let a = c.post(&c.core("configmaps"), &body).await?;
                a.status(201)?.lacks("/data")?.lacks("/metadata/labels")?;
                a.holds(
                    !a.json.as_object().is_some_and(|o: &serde_json::Map<String, Value>| o.contains_key("data")),
                    "no data at all",
                )?;
                Ok(())
            }),
        ],
    }
}
