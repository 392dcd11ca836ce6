//! The inventory server of an OVA provider: one pod beside its store, and the service that names it.
use forklift_api::{labels, worker};
use serde_json::{Map, Value, json};

use super::{container_security, pod_ip, pod_security, store};
use crate::names;
use crate::plan::effect::TargetObject;
use crate::plan::world::{ProviderFacts, StoreFacts};

/// What an OVA provider's server is built from.
#[derive(Clone, Debug)]
pub struct OvaServer<'a> {
    /// Name of the OVAProviderServer.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// The provider it serves.
    pub provider: &'a ProviderFacts,
    /// Its files.
    pub store: &'a StoreFacts,
    /// Image with the workers.
    pub image: &'a str,
}

/// Returns the name of the server's pod, service and claim.
pub fn server_name(provider: &ProviderFacts) -> String {
    let base: String = format!("ova-server-{}", provider.name).chars().take(names::MAX - 9).collect();
    format!("{}-{}", base.trim_end_matches(['-', '.']), names::short(&[&provider.uid]))
}

/// Builds the server's volume, claim, pod and service.
pub fn ova_server(server: &OvaServer<'_>) -> Vec<TargetObject> {
    let name = server_name(server.provider);
    let namespace = &server.provider.namespace;
    let mut labels = Map::new();
    let mut label = |key: &str, value: &str| drop(labels.insert(key.to_owned(), json!(value)));
    label(labels::SERVER_APP, labels::SERVER_APP_FORKLIFT);
    label(labels::SERVER_SUBAPP, labels::SUBAPP_OVA_SERVER);
    label(labels::SERVER_PROVIDER, &server.provider.name);
    label(labels::OVA_SERVER, server.name);
    let owner = json!([{
        "apiVersion": format!("{}/{}", forklift_api::GROUP, forklift_api::VERSION), "kind": "OVAProviderServer",
        "name": server.name, "uid": server.uid, "controller": true, "blockOwnerDeletion": true
    }]);
    // the volume is cluster-wide and cannot be owned by the server: its name tells whose it is
    let volume = store::persistent_volume(&name, labels.clone(), server.store, namespace, &name);
    let mut claim = store::persistent_volume_claim(&name, labels.clone(), namespace, &name);
    claim["metadata"]["ownerReferences"] = owner.clone();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": owner},
        "spec": {
            "restartPolicy": "Always", "securityContext": pod_security(),
            "containers": [{
                "name": "ova-server", "image": server.image, "imagePullPolicy": "IfNotPresent",
                "args": ["worker", "ova-server"],
                "env": [
                    {"name": "CATALOG_PATH", "value": store::MOUNT},
                    {"name": "PROVIDER_NAME", "value": server.provider.name},
                    {"name": "PROVIDER_NAMESPACE", "value": namespace},
                    pod_ip()
                ],
                "ports": [{"name": "http", "containerPort": worker::PORT}],
                "readinessProbe": {"httpGet": {"path": "/test_connection", "port": worker::PORT}, "periodSeconds": 2},
                "securityContext": container_security(),
                "volumeMounts": [store::mount()]
            }],
            "volumes": [{"name": "ova-store", "persistentVolumeClaim": {"claimName": name, "readOnly": true}}]
        }
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": owner},
        "spec": {"selector": selector(server), "ports": [{"name": "http", "port": worker::PORT, "targetPort": worker::PORT}]}
    });
    [volume, claim, pod, service].into_iter().map(TargetObject::new).collect()
}

fn selector(server: &OvaServer<'_>) -> Value {
    json!({labels::SERVER_SUBAPP: labels::SUBAPP_OVA_SERVER, labels::OVA_SERVER: server.name})
}

/// Reads the `spec.url` of an OVA provider: an absolute path, `file:///path`, or `server:/path`.
pub fn parse_url(url: &str) -> Result<StoreFacts, String> {
    let wrong = |why: &str| {
        Err(format!(
            "{url:?} is not an OVA provider's url: {why}; expected an absolute path, file:///path or server:/path"
        ))
    };
    let trimmed = url.trim();
    let path = match trimmed.strip_prefix("file://") {
        Some(path) => Some(path),
        None => trimmed.starts_with('/').then_some(trimmed),
    };
    if let Some(path) = path {
        return match path {
            "" | "/" => wrong("the path is missing"),
            path if !path.starts_with('/') => wrong("a file url has no host"),
            path if path.split('/').any(|part| part == "..") => wrong("the path goes upwards"),
            path => Ok(StoreFacts::HostPath { path: path.to_owned() }),
        };
    }
    if trimmed.contains("://") {
        return wrong("this scheme is not supported");
    }
    // an IPv6 server is in brackets
    let at = match trimmed.strip_prefix('[') {
        Some(rest) => rest.find(']').map(|at| at + 2),
        None => trimmed.find(':'),
    };
    match at.and_then(|at| Some((&trimmed[..at], trimmed.get(at..)?.strip_prefix(':')?))) {
        None => wrong("there is no server"),
        Some(("", _)) => wrong("the server is empty"),
        Some((server, path)) if path.starts_with('/') && !server.contains(char::is_whitespace) => {
            Ok(StoreFacts::Nfs { server: server.to_owned(), path: path.to_owned() })
        }
        Some(_) => wrong("the exported path is not absolute"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let host = |path: &str| Ok(StoreFacts::HostPath { path: path.into() });
        let nfs = |server: &str, path: &str| Ok(StoreFacts::Nfs { server: server.into(), path: path.into() });
        assert_eq!(parse_url("/srv/ova"), host("/srv/ova"));
        assert_eq!(parse_url("file:///srv/ova"), host("/srv/ova"));
        assert_eq!(parse_url("nas.example:/exports/ova"), nfs("nas.example", "/exports/ova"));
        assert_eq!(parse_url("[fd00::1]:/ova"), nfs("[fd00::1]", "/ova"));
        for wrong in [
            "",
            "/",
            "file://",
            "file://host/x",
            "nas:relative",
            ":/x",
            "https://nas/x",
            "relative",
            "/srv/../etc",
            "[fd00::1",
        ] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_pod_serves_its_own_claim() {
        let provider = ProviderFacts {
            name: "appliances".into(),
            namespace: "ns".into(),
            uid: "p".into(),
            ..ProviderFacts::default()
        };
        let store = StoreFacts::HostPath { path: "/srv/ova".into() };
        let objects = ova_server(&OvaServer { name: "s", uid: "u", provider: &provider, store: &store, image: "i" });
        let kinds: Vec<_> = objects.iter().map(|o| o.kind.as_str()).collect();
        assert_eq!(kinds, ["PersistentVolume", "PersistentVolumeClaim", "Pod", "Service"]);
        assert_eq!(objects[2].json["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], objects[1].name);
    }
}
