//! Custom resource definitions: what is refused, their life, versions, subresources, names.

use serde_json::{Value, json};

use super::definitions::{DEFINITIONS, Definition, condition};
use crate::case::{Case, Chapter, Outcome, case};

/// Posts the definition and expects it to be refused for the field.
async fn refused(c: &Case, d: &Definition, field: &str, reason: &str) -> Outcome {
    let a = c.post(&format!("{DEFINITIONS}?dryRun=All"), &d.json).await?;
    a.invalid(field, reason)?;
    Ok(())
}

/// Expects a schema of `spec` to be refused for a field below it.
async fn bad_schema(c: &Case, spec: Value, below: &str, reason: &str) -> Outcome {
    let field = format!("spec.validation.openAPIV3Schema.properties[spec]{below}");
    refused(c, &Definition::new(c, spec), &field, reason).await
}

/// The chapter.
#[expect(clippy::too_many_lines, reason = "one list of cases")]
pub fn chapter() -> Chapter {
    Chapter {
        name: "crds",
        cases: vec![
            case(
                "a definition gets its names, its conversion, its conditions and its stored versions",
                |c| async move {
                    let d = Definition::new(&c, json!({"type": "object"})).serve(&c).await?;
                    let a = c.get(&d.path()).await?;
                    a.is(
                        "/spec/names",
                        json!({"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}),
                    )?
                    .is(
                        "/status/acceptedNames",
                        json!({"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}),
                    )?
                    .is("/spec/conversion", json!({"strategy": "None"}))?
                    .is("/status/storedVersions", json!(["v1"]))?
                    .is("/metadata/generation", 1)?
                    .holds(condition(&a.json, "NamesAccepted") == "True", "names are accepted")?;
                    let conditions = a.at("/status/conditions").as_array().cloned().unwrap_or_default();
                    a.holds(conditions.iter().any(|x| x["reason"] == "InitialNamesAccepted"), "a reason")?;
                    Ok(())
                },
            ),
            case("a definition's kind that another has is not accepted", |c| async move {
                let d = Definition::new(&c, json!({"type": "object"})).serve(&c).await?;
                let mut second = d.json.clone();
                second["metadata"]["name"] = format!("others.{}", d.group).into();
                second["spec"]["names"] = json!({"plural": "others", "kind": "Thing"});
                c.make(DEFINITIONS, &second).await?;
                let path = format!("{DEFINITIONS}/others.{}", d.group);
                let a =
                    c.until(&path, "the conflict is told", |a| condition(&a.json, "NamesAccepted") == "False").await?;
                a.holds(condition(&a.json, "Established") == "False", "it is not established")?;
                let shown = a.at("/status/conditions").to_string();
                a.holds(shown.contains("is already in use"), "the conflict's text")?;
                c.delete(&d.path()).await?.status(200)?;
                c.until(&path, "the names are free", |a| condition(&a.json, "Established") == "True").await?;
                Ok(())
            }),
            case("objects of a deleted definition go, and its paths with them", |c| async move {
                let d = Definition::new(&c, json!({"type": "object"})).serve(&c).await?;
                c.make(&d.things(&c, ""), &d.thing(json!({}))).await?;
                c.delete(&d.path()).await?.status(200)?;
                c.until_gone(&d.path()).await?;
                c.until(&d.things(&c, ""), "the objects' path is gone", |a| a.status == 404).await?;
                let d = d.serve(&c).await?;
                c.get(&d.things(&c, "")).await?.lists(&[])?;
                Ok(())
            }),
            case("an object's finalizer keeps its deleted definition", |c| async move {
                let d = Definition::new(&c, json!({"type": "object"})).serve(&c).await?;
                let mut thing = d.thing(json!({}));
                thing["metadata"]["finalizers"] = json!(["example.com/keep"]);
                c.make(&d.things(&c, ""), &thing).await?;
                c.delete(&d.path()).await?.status(200)?;
                let a =
                    c.until(&d.path(), "it is terminating", |a| condition(&a.json, "Terminating") == "True").await?;
                a.has("/metadata/deletionTimestamp")?
                    .is("/metadata/finalizers", json!(["customresourcecleanup.apiextensions.k8s.io"]))?;
                c.until(&d.things(&c, "a"), "the object is being deleted", |a| {
                    !a.at("/metadata/deletionTimestamp").is_null()
                })
                .await?;
                c.merge(&d.things(&c, "a"), &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
                c.until_gone(&d.path()).await?;
                Ok(())
            }),
            case("status is a resource of its own: either path changes its part only", |c| async move {
                let d = Definition::new(&c, json!({"type": "object", "properties": {"n": {"type": "integer"}}}));
                let mut d = d.with(json!({"subresources": {"status": {}}}));
                d.version()["schema"]["openAPIV3Schema"]["properties"]["status"] =
                    json!({"type": "object", "properties": {"m": {"type": "integer"}}});
                let d = d.serve(&c).await?;
                let mut thing = d.thing(json!({"n": 1}));
                thing["status"] = json!({"m": 1});
                let made = c.make(&d.things(&c, ""), &thing).await?;
                anyhow::ensure!(made.get("status").is_none(), "the status is not taken at creation: {made}");
                let both = json!({"spec": {"n": 2}, "status": {"m": 2}});
                let a = c.merge(&d.things(&c, "a/status"), &both).await?;
                a.status(200)?.is("/spec/n", 1)?.is("/status/m", 2)?.is("/metadata/generation", 1)?;
                let a = c.merge(&d.things(&c, "a"), &json!({"spec": {"n": 3}, "status": {"m": 3}})).await?;
                a.status(200)?.is("/spec/n", 3)?.is("/status/m", 2)?.is("/metadata/generation", 2)?;
                Ok(())
            }),
            case("without the status subresource the status is a field like others", |c| async move {
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.version()["schema"]["openAPIV3Schema"]["properties"]["status"] =
                    json!({"type": "object", "properties": {"m": {"type": "integer"}}});
                let d = d.serve(&c).await?;
                let mut thing = d.thing(json!({}));
                thing["status"] = json!({"m": 1});
                c.post(&d.things(&c, ""), &thing).await?.status(201)?.is("/status/m", 1)?;
                let a = c.merge(&d.things(&c, "a"), &json!({"status": {"m": 2}})).await?;
                a.status(200)?.is("/status/m", 2)?.is("/metadata/generation", 2)?;
                c.get(&d.things(&c, "a/status")).await?.status(404)?;
                Ok(())
            }),
            case("scale reads and writes the paths that the definition names", |c| async move {
                let spec = json!({"type": "object", "properties": {"n": {"type": "integer", "maximum": 5}}});
                let mut d = Definition::new(&c, spec).with(json!({"subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n", "labelSelectorPath": ".status.s"}}}));
                d.version()["schema"]["openAPIV3Schema"]["properties"]["status"] =
                    json!({"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}});
                let d = d.serve(&c).await?;
                c.make(&d.things(&c, ""), &d.thing(json!({"n": 2}))).await?;
                c.merge(&d.things(&c, "a/status"), &json!({"status": {"n": 1, "s": "app=a"}})).await?.status(200)?;
                let a = c.get(&d.things(&c, "a/scale")).await?;
                a.status(200)?
                    .is("/kind", "Scale")?
                    .is("/apiVersion", "autoscaling/v1")?
                    .is("/spec/replicas", 2)?
                    .is("/status", json!({"replicas": 1, "selector": "app=a"}))?
                    .is("/metadata/name", "a")?;
                let a = c.merge(&d.things(&c, "a/scale"), &json!({"spec": {"replicas": 4}})).await?;
                a.status(200)?.is("/spec/replicas", 4)?;
                c.get(&d.things(&c, "a")).await?.is("/spec/n", 4)?.is("/metadata/generation", 2)?;
                let a = c.merge(&d.things(&c, "a/scale"), &json!({"spec": {"replicas": 9}})).await?;
                a.invalid("spec.n", "FieldValueInvalid")?;
                Ok(())
            }),
            case("short names and categories are in discovery", |c| async move {
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.json["spec"]["names"]["shortNames"] = json!(["th"]);
                d.json["spec"]["names"]["categories"] = json!(["all", "own"]);
                let d = d.serve(&c).await?;
                let a = c.get(&format!("/apis/{}/v1", d.group)).await?;
                a.is("/resources/0/name", "things")?
                    .is("/resources/0/singularName", "thing")?
                    .is("/resources/0/shortNames", json!(["th"]))?
                    .is("/resources/0/categories", json!(["all", "own"]))?
                    .is("/resources/0/namespaced", true)?;
                Ok(())
            }),
            case("an object is served in every version that is served, and stored in one", |c| async move {
                let mut d = Definition::new(&c, json!({"type": "object", "properties": {"n": {"type": "integer"}}}));
                let mut second = d.version().clone();
                second["name"] = "v2".into();
                second["storage"] = false.into();
                second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["m"] =
                    json!({"type": "integer", "default": 7});
                if let Some(versions) = d.json["spec"]["versions"].as_array_mut() {
                    versions.push(second);
                }
                let d = d.serve(&c).await?;
                c.make(&d.things(&c, ""), &d.thing(json!({"n": 1}))).await?;
                let v2 = c.group(&format!("{}/v2", d.group), "things/a");
                let a = c.until(&v2, "v2 is served", |a| a.status == 200).await?;
                a.is("/apiVersion", format!("{}/v2", d.group))?.is("/spec", json!({"n": 1}))?;
                c.get(&d.things(&c, "a")).await?.is("/spec", json!({"n": 1}))?;
                Ok(())
            }),
            case("a version that is not served any more answers 404", |c| async move {
                let mut d = Definition::new(&c, json!({"type": "object"}));
                let mut second = d.version().clone();
                second["name"] = "v2".into();
                second["storage"] = false.into();
                if let Some(versions) = d.json["spec"]["versions"].as_array_mut() {
                    versions.push(second);
                }
                let d = d.serve(&c).await?;
                let v2 = c.group(&format!("{}/v2", d.group), "things");
                c.until(&v2, "v2 is served", |a| a.status == 200).await?;
                let patch = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]);
                c.patch(&d.path(), "json-patch+json", &patch).await?.status(200)?;
                c.until(&v2, "v2 is gone", |a| a.status == 404).await?;
                Ok(())
            }),
            case("a new storage version is added to the stored versions", |c| async move {
                let mut d = Definition::new(&c, json!({"type": "object"}));
                let mut second = d.version().clone();
                second["name"] = "v2".into();
                second["storage"] = false.into();
                if let Some(versions) = d.json["spec"]["versions"].as_array_mut() {
                    versions.push(second);
                }
                let d = d.serve(&c).await?;
                let patch = json!([
                    {"op": "replace", "path": "/spec/versions/0/storage", "value": false},
                    {"op": "replace", "path": "/spec/versions/1/storage", "value": true},
                ]);
                let a = c.patch(&d.path(), "json-patch+json", &patch).await?;
                a.status(200)?.is("/status/storedVersions", json!(["v1", "v2"]))?;
                Ok(())
            }),
            case("a schema that becomes stricter leaves unchanged faults alone", |c| async move {
                let d = Definition::new(
                    &c,
                    json!({"type": "object", "properties": {"n": {"type": "integer"}, "m": {"type": "integer"}}}),
                );
                let d = d.serve(&c).await?;
                c.make(&d.things(&c, ""), &d.thing(json!({"n": 1}))).await?;
                let at = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/n/minimum";
                let patch = json!([{"op": "add", "path": at, "value": 5}]);
                c.patch(&d.path(), "json-patch+json", &patch).await?.status(200)?;
                let twin = format!("{}?dryRun=All", d.things(&c, ""));
                let path = twin.clone();
                let body = d.named("b", json!({"n": 1}));
                for _ in 0..200 {
                    if c.post(&path, &body).await?.status == 422 {
                        break;
                    }
                }
                c.post(&twin, &body).await?.invalid("spec.n", "FieldValueInvalid")?;
                c.merge(&d.things(&c, "a"), &json!({"spec": {"m": 1}})).await?.status(200)?;
                c.merge(&d.things(&c, "a"), &json!({"spec": {"n": 2}}))
                    .await?
                    .invalid("spec.n", "FieldValueInvalid")?;
                Ok(())
            }),
            case("group and scope do not change", |c| async move {
                let d = Definition::new(&c, json!({"type": "object"})).serve(&c).await?;
                let a = c.merge(&d.path(), &json!({"spec": {"scope": "Cluster"}})).await?;
                a.invalid("spec.scope", "FieldValueInvalid")?;
                Ok(())
            }),
            case("the kind of an object is checked", |c| async move {
                let d = Definition::new(&c, json!({"type": "object"})).serve(&c).await?;
                let mut thing = d.thing(json!({}));
                thing["kind"] = "Other".into();
                c.post(&d.things(&c, ""), &thing).await?.invalid("kind", "FieldValueInvalid")?;
                Ok(())
            }),
            case("names, scope and group are held against their rules", |c| async move {
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.json["metadata"]["name"] = "wrong.example.com".into();
                refused(&c, &d, "metadata.name", "FieldValueInvalid").await?;
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.json["spec"]["scope"] = "Zed".into();
                refused(&c, &d, "spec.scope", "FieldValueNotSupported").await?;
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.json["spec"]["names"]["kind"] = "thing_x".into();
                refused(&c, &d, "spec.names.kind", "FieldValueInvalid").await?;
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.json["spec"]["names"]["listKind"] = "Thing".into();
                refused(&c, &d, "spec.names.listKind", "FieldValueInvalid").await?;
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.json["spec"]["names"]["shortNames"] = json!(["A_B"]);
                refused(&c, &d, "spec.names.shortNames[0]", "FieldValueInvalid").await?;
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.json["spec"]["group"] = "plain".into();
                d.json["metadata"]["name"] = "things.plain".into();
                refused(&c, &d, "spec.group", "FieldValueInvalid").await
            }),
            case("a protected group needs an approval", |c| async move {
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.json["spec"]["group"] = "foo.k8s.io".into();
                d.json["metadata"]["name"] = "things.foo.k8s.io".into();
                refused(&c, &d, "metadata.annotations[api-approved.kubernetes.io]", "FieldValueRequired").await
            }),
            case("one version is the storage version, and names are unique", |c| async move {
                let d = Definition::new(&c, json!({"type": "object"})).with(json!({"storage": false}));
                refused(&c, &d, "spec.versions", "FieldValueInvalid").await?;
                let d = Definition::new(&c, json!({"type": "object"})).with(json!({"name": "V_1"}));
                refused(&c, &d, "spec.versions[0].name", "FieldValueInvalid").await?;
                let mut d = Definition::new(&c, json!({"type": "object"}));
                let mut twin = d.version().clone();
                twin["storage"] = false.into();
                if let Some(versions) = d.json["spec"]["versions"].as_array_mut() {
                    versions.push(twin);
                }
                refused(&c, &d, "spec.versions", "FieldValueInvalid").await
            }),
            case("a schema is required", |c| async move {
                let mut d = Definition::new(&c, json!({"type": "object"}));
                if let Some(version) = d.version().as_object_mut() {
                    version.remove("schema");
                }
                refused(&c, &d, "spec.versions[0].schema.openAPIV3Schema", "FieldValueRequired").await
            }),
            case("every field has a type that exists", |c| async move {
                bad_schema(&c, json!({"properties": {"a": {"type": "string"}}}), ".type", "FieldValueRequired").await?;
                bad_schema(&c, json!({"type": "foo"}), ".type", "FieldValueNotSupported").await?;
                bad_schema(&c, json!({"type": "array"}), ".items", "FieldValueRequired").await?;
                bad_schema(&c, json!({"type": "array", "items": {}}), ".items.type", "FieldValueRequired").await?;
                let list = json!({"type": "array", "items": [{"type": "string"}]});
                bad_schema(&c, list, ".items", "FieldValueForbidden").await
            }),
            case("properties and additionalProperties exclude each other", |c| async move {
                let both = json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}});
                bad_schema(&c, both, ".additionalProperties", "FieldValueForbidden").await
            }),
            case("keywords that Kubernetes does not take are refused", |c| async move {
                bad_schema(&c, json!({"$ref": "x"}), ".$ref", "FieldValueForbidden").await?;
                let unique = json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}});
                bad_schema(&c, unique, ".uniqueItems", "FieldValueForbidden").await?;
                let patterns = json!({"type": "object", "patternProperties": {"a": {"type": "string"}}});
                bad_schema(&c, patterns, ".patternProperties", "FieldValueForbidden").await?;
                bad_schema(&c, json!({"type": "string", "pattern": "("}), ".pattern", "FieldValueInvalid").await
            }),
            case("combinations restrict values and say nothing of the structure", |c| async move {
                let typed = json!({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"properties": {"a": {"type": "string"}}}]});
                bad_schema(&c, typed, ".anyOf[0].properties[a].type", "FieldValueForbidden").await?;
                bad_schema(&c, json!({"type": "object", "not": {"default": 1}}), ".not.default", "FieldValueForbidden")
                    .await?;
                let described = json!({"type": "object", "allOf": [{"description": "x"}]});
                bad_schema(&c, described, ".allOf[0].description", "FieldValueForbidden").await
            }),
            case("lists with keys name properties that are always there", |c| async move {
                let items = json!({"type": "object", "properties": {"a": {"type": "string"}}});
                let list = |keys: Value| json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys, "items": items.clone()});
                bad_schema(&c, list(json!([])), ".x-kubernetes-list-map-keys", "FieldValueRequired").await?;
                bad_schema(&c, list(json!(["b"])), ".x-kubernetes-list-map-keys", "FieldValueInvalid").await?;
                bad_schema(&c, list(json!(["a"])), ".items.properties[a].default", "FieldValueRequired").await?;
                let scalar = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"], "items": {"type": "string"}});
                bad_schema(&c, scalar, ".items.type", "FieldValueInvalid").await
            }),
            case("list and map types are known and fit the type", |c| async move {
                let bag = json!({"type": "array", "x-kubernetes-list-type": "bag", "items": {"type": "string"}});
                bad_schema(&c, bag, ".x-kubernetes-list-type", "FieldValueNotSupported").await?;
                bad_schema(
                    &c,
                    json!({"type": "object", "x-kubernetes-list-type": "set"}),
                    ".type",
                    "FieldValueInvalid",
                )
                .await?;
                bad_schema(
                    &c,
                    json!({"type": "object", "x-kubernetes-map-type": "bag"}),
                    ".x-kubernetes-map-type",
                    "FieldValueNotSupported",
                )
                .await?;
                let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object", "properties": {"a": {"type": "string"}}}});
                bad_schema(&c, set, ".items.x-kubernetes-map-type", "FieldValueInvalid").await
            }),
            case("defaults fit their schema", |c| async move {
                let wrong = json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}});
                bad_schema(&c, wrong, ".properties[a].default", "FieldValueTypeInvalid").await?;
                let low =
                    json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 5, "default": 1}}});
                bad_schema(&c, low, ".properties[a].default", "FieldValueInvalid").await?;
                let unknown = json!({"type": "object", "properties": {"a": {"type": "object", "default": {"zz": 1}, "properties": {"b": {"type": "string"}}}}});
                bad_schema(&c, unknown, ".properties[a].default", "FieldValueInvalid").await
            }),
            case("embedded resources are objects with fields", |c| async move {
                let bare = json!({"type": "object", "x-kubernetes-embedded-resource": true});
                bad_schema(&c, bare, ".properties", "FieldValueRequired").await?;
                let preserve = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false});
                bad_schema(&c, preserve, ".x-kubernetes-preserve-unknown-fields", "FieldValueInvalid").await
            }),
            case("the root is an object whose metadata is known", |c| async move {
                let root = "spec.validation.openAPIV3Schema";
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.version()["schema"]["openAPIV3Schema"]["type"] = "array".into();
                refused(&c, &d, &format!("{root}.type"), "FieldValueInvalid").await?;
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.version()["schema"]["openAPIV3Schema"]["properties"]["metadata"] =
                    json!({"type": "object", "properties": {"labels": {"type": "object"}}});
                refused(&c, &d, &format!("{root}.properties[metadata]"), "FieldValueForbidden").await
            }),
            case("scale paths are below spec and status", |c| async move {
                let scale = json!({"scale": {"specReplicasPath": ".status.x", "statusReplicasPath": ".spec.x"}});
                let d = Definition::new(&c, json!({"type": "object"})).with(json!({"subresources": scale}));
                refused(&c, &d, "spec.subresources.scale.specReplicasPath", "FieldValueInvalid").await?;
                refused(&c, &d, "spec.subresources.scale.statusReplicasPath", "FieldValueInvalid").await
            }),
            case("a conversion webhook has a client and versions", |c| async move {
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.json["spec"]["conversion"] = json!({"strategy": "Webhook"});
                refused(&c, &d, "spec.conversion.webhookClientConfig", "FieldValueRequired").await?;
                d.json["spec"]["conversion"] = json!({"strategy": "Foo"});
                refused(&c, &d, "spec.conversion.strategy", "FieldValueNotSupported").await?;
                d.json["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
                    "clientConfig": {"url": "http://x"}, "conversionReviewVersions": ["v9"]}});
                refused(&c, &d, "spec.conversion.webhookClientConfig.url", "FieldValueInvalid").await?;
                refused(&c, &d, "spec.conversion.conversionReviewVersions", "FieldValueInvalid").await
            }),
        ],
    }
}
