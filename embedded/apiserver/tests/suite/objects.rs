use serde_json::json;

use crate::Fixture;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn objects_are_made_changed_and_deleted() {
    let f = Fixture::start().await;
    let (code, made) =
        f.post(MAPS, &json!({"metadata": {"generateName": "a-", "labels": {"x": "y"}}, "data": {"k": "1"}})).await;
    assert_eq!(code, 201, "{made}");
    let name = made["metadata"]["name"].as_str().unwrap().to_string();
    assert!(name.starts_with("a-") && name.len() == 7, "{name}");
    let path = format!("{MAPS}/{name}");

    let mut stale = made.clone();
    stale["data"]["k"] = "2".into();
    let (code, changed) = f.put(&path, &stale).await;
    assert_eq!((code, changed["data"]["k"].as_str()), (200, Some("2")));
    let (code, status) = f.put(&path, &stale).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(
        status["message"],
        format!(
            "Operation cannot be fulfilled on configmaps \"{name}\": the object has been modified; please apply your changes to the latest version and try again"
        )
    );
    // nothing changed: no new revision
    let (_, same) = f.put(&path, &changed).await;
    assert_eq!(same["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"]);

    let (code, _) = f
        .send(
            "PATCH",
            &path,
            "application/json-patch+json",
            Some(&json!([{"op": "add", "path": "/data/j", "value": "3"}])),
        )
        .await;
    assert_eq!(code, 200);
    let (_, merged) = f.send("PATCH", &path, "application/merge-patch+json", Some(&json!({"data": {"k": null}}))).await;
    assert_eq!(merged["data"], json!({"j": "3"}));

    let (code, _) =
        f.send("DELETE", &path, "application/json", Some(&json!({"preconditions": {"uid": "other"}}))).await;
    assert_eq!(code, 409);
    let (code, status) = f.delete(&path).await;
    assert_eq!((code, status["status"].as_str()), (200, Some("Success")));
    let (code, status) = f.get(&path).await;
    assert_eq!((code, status["message"].as_str()), (404, Some(format!("configmaps \"{name}\" not found").as_str())));
}

#[tokio::test]
async fn bad_requests_are_answered_as_kubernetes_does() {
    let f = Fixture::start().await;
    let cases = [
        (
            MAPS,
            json!({"metadata": {"name": "A_b"}}),
            422,
            "Invalid",
            "ConfigMap \"A_b\" is invalid: metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain",
        ),
        (
            MAPS,
            json!({"metadata": {}}),
            422,
            "Invalid",
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        (
            MAPS,
            json!({"kind": "Pod", "metadata": {"name": "a"}}),
            400,
            "BadRequest",
            "Pod in version \"v1\" cannot be handled as a ConfigMap",
        ),
        (
            MAPS,
            json!({"metadata": {"name": "a"}, "data": {"k": 1}}),
            400,
            "BadRequest",
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: data.k",
        ),
        (
            "/api/v1/namespaces/none/configmaps",
            json!({"metadata": {"name": "a"}}),
            404,
            "NotFound",
            "namespaces \"none\" not found",
        ),
        (
            "/api/v1/namespaces/default/nothings",
            json!({}),
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        (
            "/apis/batch/v1/namespaces/default/jobs",
            json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}}),
            422,
            "Invalid",
            "Job.batch \"j\" is invalid: spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
    ];
    for (path, body, code, reason, message) in cases {
        let (got, status) = f.post(path, &body).await;
        assert_eq!((got, status["reason"].as_str()), (code, Some(reason)), "{status}");
        assert!(status["message"].as_str().unwrap().starts_with(message), "{status}");
    }
    f.post(MAPS, &json!({"metadata": {"name": "a"}})).await;
    let (code, status) = f.post(MAPS, &json!({"metadata": {"name": "a"}})).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("AlreadyExists")));
    let (code, _) = f.send("PUT", MAPS, "application/json", Some(&json!({}))).await;
    assert_eq!(code, 405);
    let (code, _) = f.send("POST", MAPS, "text/plain", Some(&json!({}))).await;
    assert_eq!(code, 415);
}

#[tokio::test]
async fn dry_run_and_field_validation() {
    let f = Fixture::start().await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "b", "oops": 1}]}});
    let pods = "/api/v1/namespaces/default/pods";
    let (code, status) = f.post(&format!("{pods}?fieldValidation=Strict"), &pod).await;
    assert_eq!(code, 400);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .ends_with("strict decoding error: unknown field \"spec.containers[0].oops\""),
        "{status}"
    );
    let (code, shown) = f.post(&format!("{pods}?dryRun=All"), &pod).await;
    assert_eq!(
        (code, shown["spec"]["restartPolicy"].as_str(), shown["status"]["phase"].as_str()),
        (201, Some("Always"), Some("Pending"))
    );
    assert!(shown["spec"]["containers"][0].get("oops").is_none());
    assert_eq!(f.get(&format!("{pods}/p")).await.0, 404);
}

#[tokio::test]
async fn lists_select_and_come_in_pieces_of_one_revision() {
    let f = Fixture::start().await;
    for n in 0..5 {
        f.post(
            "/api/v1/namespaces/kube-public/configmaps",
            &json!({"metadata": {"name": format!("m{n}"), "labels": {"n": n.to_string()}}}),
        )
        .await;
    }
    let maps = "/api/v1/namespaces/kube-public/configmaps";
    let names = |list: &serde_json::Value| {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["metadata"]["name"].as_str().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    let (_, some) = f.get(&format!("{maps}?labelSelector=n%20in%20(1,3)")).await;
    assert_eq!(names(&some), ["m1", "m3"]);
    let (_, one) = f.get(&format!("{maps}?fieldSelector=metadata.name=m2")).await;
    assert_eq!(names(&one), ["m2"]);
    let (code, _) = f.get(&format!("{maps}?fieldSelector=data.x=y")).await;
    assert_eq!(code, 400);

    let (_, first) = f.get(&format!("{maps}?limit=3")).await;
    assert_eq!(
        (names(&first), first["metadata"]["remainingItemCount"].as_i64()),
        (vec!["kube-root-ca.crt".into(), "m0".into(), "m1".into()], Some(3))
    );
    f.delete(&format!("{maps}/m3")).await;
    f.post(maps, &json!({"metadata": {"name": "m9"}})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = f.get(&format!("{maps}?limit=3&continue={token}")).await;
    assert_eq!(names(&rest), ["m2", "m3", "m4"]);
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(rest["metadata"].get("continue").is_none());
    let (_, now) = f.get(maps).await;
    assert_eq!(names(&now), ["kube-root-ca.crt", "m0", "m1", "m2", "m4", "m9"]);
    let then = first["metadata"]["resourceVersion"].as_str().unwrap();
    let (_, then) = f.get(&format!("{maps}?resourceVersion={then}&resourceVersionMatch=Exact")).await;
    assert_eq!(names(&then).len(), 6);
    assert!(names(&then).contains(&"m3".to_string()));
    let (code, _) = f.get(&format!("{maps}?resourceVersion=99999")).await;
    assert_eq!(code, 504);
}

#[tokio::test]
async fn status_is_apart_from_spec() {
    let f = Fixture::start().await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Bound"}});
    f.post("/apis/storage.k8s.io/v1/storageclasses", &json!({"metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "x"})).await;
    let (_, made) = f.post(claims, &claim).await;
    assert_eq!(
        (&made["status"]["phase"], &made["spec"]["storageClassName"], &made["spec"]["volumeMode"]),
        (&json!("Pending"), &json!("standard"), &json!("Filesystem"))
    );
    let path = format!("{claims}/c");
    let patch = json!({"status": {"phase": "Bound"}, "spec": {"volumeName": "v"}});
    let (_, after) = f.send("PATCH", &format!("{path}/status"), "application/merge-patch+json", Some(&patch)).await;
    assert_eq!((&after["status"]["phase"], after["spec"].get("volumeName")), (&json!("Bound"), None));
    let (_, after) = f
        .send(
            "PATCH",
            &path,
            "application/merge-patch+json",
            Some(&json!({"status": {"phase": "Lost"}, "spec": {"volumeName": "v"}})),
        )
        .await;
    assert_eq!((&after["status"]["phase"], &after["spec"]["volumeName"]), (&json!("Bound"), &json!("v")));
    let (code, status) = f
        .send(
            "PATCH",
            &path,
            "application/merge-patch+json",
            Some(&json!({"spec": {"accessModes": ["ReadWriteMany"]}})),
        )
        .await;
    assert_eq!(code, 422, "{status}");
}

#[tokio::test]
async fn deployments_scale() {
    let f = Fixture::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    let (code, made) = f.post(deployments, &json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}})).await;
    assert_eq!((code, made["spec"]["replicas"].as_i64()), (201, Some(1)), "{made}");
    let (_, scale) = f
        .send(
            "PATCH",
            &format!("{deployments}/d/scale"),
            "application/merge-patch+json",
            Some(&json!({"spec": {"replicas": 4}})),
        )
        .await;
    assert_eq!((scale["spec"]["replicas"].as_i64(), scale["status"]["selector"].as_str()), (Some(4), Some("a=b")));
    let (_, after) = f.get(&format!("{deployments}/d")).await;
    assert_eq!((after["spec"]["replicas"].as_i64(), after["metadata"]["generation"].as_i64()), (Some(4), Some(2)));
    let (_, patched) = f
        .send(
            "PATCH",
            &format!("{deployments}/d"),
            "application/strategic-merge-patch+json",
            Some(&json!({"spec": {"template": {"spec": {"containers": [{"name": "z", "image": "y"}]}}}})),
        )
        .await;
    assert_eq!(patched["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn events_have_two_forms() {
    let f = Fixture::start().await;
    let event = json!({"metadata": {"name": "e"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "note": "hello", "reason": "R", "type": "Normal",
        "action": "A", "eventTime": "2024-01-01T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "i"});
    let (code, made) = f.post("/apis/events.k8s.io/v1/namespaces/default/events", &event).await;
    assert_eq!((code, made["note"].as_str()), (201, Some("hello")), "{made}");
    let (_, old) = f.get("/api/v1/namespaces/default/events/e").await;
    assert_eq!(
        (old["apiVersion"].as_str(), old["message"].as_str(), old["involvedObject"]["name"].as_str()),
        (Some("v1"), Some("hello"), Some("p"))
    );
    let (_, found) = f.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name=p").await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
}
