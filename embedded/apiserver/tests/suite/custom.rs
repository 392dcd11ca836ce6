use serde_json::{Value, json};

use crate::Fixture;

pub fn crd() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.ex.io"},
        "spec": {
            "group": "ex.io", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
                    "spec": {"type": "object", "description": "what it should be", "required": ["size"], "properties": {
                        "size": {"type": "integer", "minimum": 1},
                        "mode": {"type": "string", "default": "cold", "enum": ["cold", "warm"]},
                        "disks": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                                  "items": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "bus": {"type": "string"}}}},
                    }},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }}},
            }],
        },
    })
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/ex.io/v1/namespaces/default/widgets";

fn widget(spec: Value) -> Value {
    json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec})
}

#[tokio::test]
async fn a_definition_is_served_at_once_and_checks_its_objects() {
    let f = Fixture::start().await;
    let (code, made) = f.post(DEFINITIONS, &crd()).await;
    assert_eq!(code, 201, "{made}");
    assert!(
        made["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["type"] == "Established" && c["status"] == "True")
    );
    let (_, resources) = f.get("/apis/ex.io/v1").await;
    let names: Vec<&str> =
        resources["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["widgets", "widgets/status"]);

    let (code, made) = f.post(WIDGETS, &widget(json!({"size": 2, "oops": 1}))).await;
    assert_eq!(
        (code, &made["spec"], made["metadata"]["generation"].as_i64()),
        (201, &json!({"size": 2, "mode": "cold"}), Some(1))
    );
    let (code, status) = f.post(WIDGETS, &widget(json!({"size": 0, "mode": "hot"}))).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["message"],
        "Widget.ex.io \"w\" is invalid: [spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1, \
         spec.mode: Unsupported value: \"hot\": supported values: \"cold\", \"warm\"]"
    );
    assert_eq!(status["details"]["causes"][1]["reason"], "FieldValueNotSupported");

    let (_, after) = f
        .send(
            "PATCH",
            &format!("{WIDGETS}/w/status"),
            "application/merge-patch+json",
            Some(&json!({"status": {"free": {"a": 1}}, "spec": {"size": 9}})),
        )
        .await;
    assert_eq!(
        (&after["status"], &after["spec"]["size"], after["metadata"]["generation"].as_i64()),
        (&json!({"free": {"a": 1}}), &json!(2), Some(1))
    );
    let (_, after) = f
        .send(
            "PATCH",
            &format!("{WIDGETS}/w"),
            "application/merge-patch+json",
            Some(&json!({"spec": {"size": 3}, "status": null})),
        )
        .await;
    assert_eq!((after["status"]["free"]["a"].as_i64(), after["metadata"]["generation"].as_i64()), (Some(1), Some(2)));
}

#[tokio::test]
async fn custom_objects_are_applied_with_their_lists() {
    let f = Fixture::start().await;
    f.post(DEFINITIONS, &crd()).await;
    let path = format!("{WIDGETS}/w");
    let (code, made) = f.apply(&path, "a", &widget(json!({"size": 1, "disks": [{"id": "x", "bus": "sata"}]}))).await;
    assert_eq!(code, 201, "{made}");
    let (code, both) = f.apply(&path, "b", &json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"disks": [{"id": "y"}]}})).await;
    assert_eq!((code, both["spec"]["disks"].as_array().unwrap().len()), (200, 2), "{both}");
    let (code, status) =
        f.apply(&path, "b", &widget(json!({"size": 1, "disks": [{"id": "x", "bus": "virtio"}]}))).await;
    assert_eq!(
        (code, status["message"].as_str()),
        (409, Some("Apply failed with 1 conflict: conflict with \"a\": .spec.disks[id=\"x\"].bus"))
    );
    assert_eq!(
        status["details"]["causes"][0],
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".spec.disks[id=\"x\"].bus"})
    );
    let (_, after) = f.apply(&path, "b", &widget(json!({"size": 1}))).await;
    assert_eq!(after["spec"]["disks"], json!([{"id": "x", "bus": "sata"}]));
    // applied again unchanged: nothing is written
    let (_, again) = f.apply(&path, "b", &widget(json!({"size": 1}))).await;
    assert_eq!(again["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"]);
    let status =
        json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": "w"}, "status": {"phase": "Done"}});
    let (code, after) = f.apply(&format!("{path}/status"), "ctl", &status).await;
    assert_eq!((code, after["status"]["phase"].as_str(), after["spec"]["size"].as_i64()), (200, Some("Done"), Some(1)));
    assert!(
        after["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .iter()
            .any(|m| m["manager"] == "ctl" && m["subresource"] == "status")
    );
}

#[tokio::test]
async fn tables_and_discovery_show_custom_resources() {
    let f = Fixture::start().await;
    f.post(DEFINITIONS, &crd()).await;
    f.post(WIDGETS, &widget(json!({"size": 2}))).await;
    let ask = |path: &str, accept: &str| {
        let request = f
            .http
            .get(format!("{}{path}", f.server.url()))
            .bearer_auth(f.server.admin_token())
            .header("accept", accept.to_string());
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    let table = ask(WIDGETS, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").await;
    assert_eq!(table["rows"][0]["cells"], json!(["w", 2]));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let groups = ask("/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList").await;
    let group = groups["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "ex.io").unwrap();
    assert_eq!(group["versions"][0]["resources"][0]["shortNames"], json!(["wd"]));
    let api = ask("/openapi/v3/apis/ex.io/v1", "application/json").await;
    assert_eq!(
        api["components"]["schemas"]["io.ex.v1.Widget"]["properties"]["spec"]["description"],
        "what it should be"
    );
    let partial = ask(WIDGETS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await;
    assert_eq!((partial["kind"].as_str(), partial["items"][0].get("spec")), (Some("PartialObjectMetadataList"), None));
}

#[tokio::test]
async fn deleting_a_definition_deletes_its_objects() {
    let f = Fixture::start().await;
    f.post(DEFINITIONS, &crd()).await;
    f.post(WIDGETS, &widget(json!({"size": 2}))).await;
    f.delete(&format!("{DEFINITIONS}/widgets.ex.io")).await;
    f.until(&format!("{DEFINITIONS}/widgets.ex.io"), "the definition goes", |code, _| code == 404).await;
    assert_eq!(f.get(WIDGETS).await.0, 404);
    f.post(DEFINITIONS, &crd()).await;
    assert_eq!(f.get(WIDGETS).await.1["items"], json!([]));
}
