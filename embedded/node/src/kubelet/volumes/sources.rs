//! Volumes whose files come from the API: ConfigMaps, Secrets, the pod's own fields, tokens.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccount, ServiceAccountTokenProjection, Volume,
    VolumeProjection,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::payload::File;
use super::{Preparer, Wait};
use crate::kubelet::env;

/// The files of a volume.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The files.
    pub files: Vec<File>,
    /// When a token among them is to be replaced.
    pub renew: Option<Timestamp>,
}

/// Which ConfigMaps and Secrets of its namespace a pod has mounted, by kind and name.
pub fn mounted(pod: &Pod) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    for volume in volumes {
        found.extend(volume.config_map.iter().map(|source| ("ConfigMap", source.name.clone())));
        found.extend(volume.secret.iter().filter_map(|source| Some(("Secret", source.secret_name.clone()?))));
        for part in volume.projected.iter().flat_map(|source| source.sources.iter().flatten()) {
            found.extend(part.config_map.iter().map(|source| ("ConfigMap", source.name.clone())));
            found.extend(part.secret.iter().map(|source| ("Secret", source.name.clone())));
        }
    }
    found
}

impl Preparer<'_> {
    /// Reads the files of a volume; none: it is of another kind.
    pub(super) async fn content(&self, volume: &Volume) -> Result<Option<Content>, Wait> {
        let mut content = Content::default();
        if let Some(source) = &volume.config_map {
            let data = self.config_map(&source.name, source.optional).await?;
            content.files = select(&data, source.items.as_deref(), source.optional, source.default_mode)?;
        } else if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let data = self.secret(name, source.optional).await?;
            content.files = select(&data, source.items.as_deref(), source.optional, source.default_mode)?;
        } else if let Some(source) = &volume.downward_api {
            content.files = self.downward(source.items.as_deref().unwrap_or_default(), source.default_mode)?;
        } else if let Some(source) = &volume.projected {
            for part in source.sources.iter().flatten() {
                let more = self.projection(part, source.default_mode).await?;
                content.files.extend(more.files);
                content.renew = [content.renew, more.renew].into_iter().flatten().min();
            }
        } else {
            return Ok(None);
        }
        Ok(Some(content))
    }

    async fn projection(&self, part: &VolumeProjection, mode: Option<i32>) -> Result<Content, Wait> {
        let mut content = Content::default();
        if let Some(part) = &part.config_map {
            let data = self.config_map(&part.name, part.optional).await?;
            content.files = select(&data, part.items.as_deref(), part.optional, mode)?;
        } else if let Some(part) = &part.secret {
            let data = self.secret(&part.name, part.optional).await?;
            content.files = select(&data, part.items.as_deref(), part.optional, mode)?;
        } else if let Some(part) = &part.downward_api {
            content.files = self.downward(part.items.as_deref().unwrap_or_default(), mode)?;
        } else if let Some(part) = &part.service_account_token {
            let (token, renew) = self.token(part).await?;
            content.renew = renew;
            // whoever the containers run as has to read it, and nobody else where that is one user
            let spec = self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
            let mode = match spec {
                Some(security) if security.fs_group.is_some() => 0o640,
                Some(security) if security.run_as_user.is_some() => 0o644,
                _ => 0o600,
            };
            content.files = vec![File { path: part.path.clone(), bytes: token, mode }];
        }
        Ok(content)
    }

    async fn config_map(&self, name: &str, optional: Option<bool>) -> Result<BTreeMap<String, Vec<u8>>, Wait> {
        match config_map(self.client, self.namespace(), name).await? {
            Some(data) => Ok(data),
            None if optional == Some(true) => Ok(BTreeMap::new()),
            None => Err(format!("configmap \"{name}\" not found")),
        }
    }

    async fn secret(&self, name: &str, optional: Option<bool>) -> Result<BTreeMap<String, Vec<u8>>, Wait> {
        match secret(self.client, self.namespace(), name).await? {
            Some(data) => Ok(data),
            None if optional == Some(true) => Ok(BTreeMap::new()),
            None => Err(format!("secret \"{name}\" not found")),
        }
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], default: Option<i32>) -> Result<Vec<File>, Wait> {
        items
            .iter()
            .map(|item| {
                let value = if let Some(field) = &item.field_ref {
                    env::pod_field(self.pod, &field.field_path, self.facts).map_err(|error| error.to_string())?
                } else if let Some(field) = &item.resource_field_ref {
                    let containers = self.pod.spec.iter().flat_map(|spec| &spec.containers);
                    let name = field.container_name.as_deref().unwrap_or_default();
                    containers
                        .filter(|container| container.name == name)
                        .map(|container| env::resource_field(container, &field.resource, self.facts))
                        .next()
                        .unwrap_or_default()
                } else {
                    String::new()
                };
                Ok(File { path: item.path.clone(), bytes: value.into_bytes(), mode: mode(item.mode, default) })
            })
            .collect()
    }

    /// Asks for a token that is bound to the pod, and when it is to be replaced.
    async fn token(&self, projection: &ServiceAccountTokenProjection) -> Result<(Vec<u8>, Option<Timestamp>), Wait> {
        let account = self.pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), self.namespace());
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: projection.audience.iter().cloned().collect(),
                expiration_seconds: projection.expiration_seconds,
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: self.pod.metadata.name.clone(),
                    uid: self.pod.metadata.uid.clone(),
                }),
            },
            ..TokenRequest::default()
        };
        let asked = Timestamp::now();
        let token = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .map_err(|error| format!("no token for service account {account}: {error}"))?;
        let status = token.status.ok_or_else(|| format!("no token for service account {account}"))?;
        Ok((status.token.into_bytes(), renew_at(asked, status.expiration_timestamp.0)))
    }
}

/// When a token is replaced: once 80 % of its time is over, as kubelet does.
fn renew_at(asked: Timestamp, expires: Timestamp) -> Option<Timestamp> {
    let life = expires.duration_since(asked).as_secs();
    (life > 0).then(|| asked.checked_add(SignedDuration::from_secs((life * 8 / 10).max(1))).ok()).flatten()
}

fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    u32::try_from(own.or(default).unwrap_or(0o644)).unwrap_or(0o644) & 0o777
}

/// Takes the listed keys under their paths, or all keys.
fn select(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default: Option<i32>,
) -> Result<Vec<File>, Wait> {
    let Some(items) = items else {
        let all = data.iter();
        return Ok(all
            .map(|(key, value)| File { path: key.clone(), bytes: value.clone(), mode: mode(None, default) })
            .collect());
    };
    let mut files = Vec::new();
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                files.push(File { path: item.path.clone(), bytes: value.clone(), mode: mode(item.mode, default) });
            }
            None if optional == Some(true) => {}
            None => return Err(format!("references non-existent key \"{}\"", item.key)),
        }
    }
    Ok(files)
}

/// Reads the data of a ConfigMap.
pub async fn config_map(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<BTreeMap<String, Vec<u8>>>, Wait> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|error| error.to_string())?;
    Ok(found.map(|object| {
        let text = object.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
        let binary = object.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
        text.chain(binary).collect()
    }))
}

/// Reads the data of a Secret.
pub async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, Wait> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|error| error.to_string())?;
    Ok(found.map(|object| {
        let data = object.data.into_iter().flatten().map(|(key, value)| (key, value.0));
        let text = object.string_data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
        data.chain(text).collect()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_selected() {
        let data: BTreeMap<String, Vec<u8>> = [("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())].into();
        let item = |key: &str, path: &str| KeyToPath { key: key.into(), path: path.into(), mode: Some(0o400) };
        assert_eq!(select(&data, None, None, None).expect("all").len(), 2);
        let one = File { path: "x/y".into(), bytes: b"2".to_vec(), mode: 0o400 };
        assert_eq!(select(&data, Some(&[item("b", "x/y")]), None, None), Ok(vec![one]));
        let missing = select(&data, Some(&[item("c", "x")]), None, None);
        assert_eq!(missing, Err("references non-existent key \"c\"".to_owned()));
    }

    #[test]
    fn tokens_are_replaced_before_they_expire() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        assert_eq!(renew_at(at(100), at(700)), Some(at(580)));
        assert_eq!(renew_at(at(100), at(100)), None);
    }
}
