//! A webhook behind a service, on the embedded server only: there the service's endpoints are loopback addresses, which a
//! cluster does not take.

use std::sync::Arc;

use conformance::{Case, Hook, Server};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_found_by_the_endpoints_of_its_service() {
    let server = Arc::new(Server::ours().await.expect("the embedded server starts"));
    let case = Case::open(server).await.unwrap();
    let hook = Hook::start(|_| json!({"allowed": false, "status": {"message": "by the service"}})).await.unwrap();
    let make = |path: &'static str, body: serde_json::Value| {
        let case = case.clone();
        async move { case.make(path, &body).await.unwrap() }
    };
    make("/api/v1/namespaces", json!({"metadata": {"name": "hooks"}})).await;
    let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "https", "port": 443}]}});
    make("/api/v1/namespaces/hooks/services", service).await;
    let subsets = json!([{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "https", "port": hook.port()}]}]);
    let endpoints = json!({"metadata": {"name": "hook"}, "subsets": subsets});
    let configuration = json!({"metadata": {"name": "by-service"}, "webhooks": [{
        "name": "checks.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"service": {"namespace": "hooks", "name": "hook", "path": "/check"}, "caBundle": hook.ca()},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": case.ns()}},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
    }]});
    make("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", configuration).await;
    let body = json!({"metadata": {"name": "a"}});
    let path = case.core("configmaps");
    make("/api/v1/namespaces/hooks/endpoints", endpoints).await;
    let answer = case.post(&path, &body).await.unwrap();
    answer
        .status(400)
        .unwrap()
        .says("admission webhook \"checks.example.com\" denied the request: by the service")
        .unwrap();
    case.delete("/api/v1/namespaces/hooks/services/hook").await.unwrap().status(200).unwrap();
    let answer = case.post(&path, &body).await.unwrap();
    answer
        .failed(500, "InternalError")
        .unwrap()
        .contains("/message", "Post \"https://hook.hooks.svc:443/check?timeout=10s\": service \"hook\" not found")
        .unwrap();
}
