//! The validation rules, behind the port of the inventory, and where users keep theirs.
//!
//! ```text
//! ConfigMap validation-service-config  ─┐
//! ConfigMap forklift-validation-config ─┼─► Validator::replace ─► changed: VMs are judged again
//! folder (VALIDATION_RULES)            ─┘
//! ```
//! Each key of a ConfigMap that ends in `.rego` is a file. A file that cannot be
//! used is left out and named in the log; the others hold.

use std::collections::BTreeMap;
use std::path::PathBuf;

use forklift_inventory::Rules;
use forklift_validation::{Folder, LOOK, RuleError, RuleFile, Validator, is_rule};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// ConfigMaps in which users keep rules: the service's own name, and upstream's.
pub const CONFIG_MAPS: [&str; 2] = ["validation-service-config", "forklift-validation-config"];

/// Rules that give the inventory's VMs their concerns.
pub struct Concerns(pub Validator);

impl Rules for Concerns {
    fn version(&self, provider_type: &str) -> i64 {
        self.0.rules_version(provider_type)
    }

    fn concerns(&self, provider_type: &str, workload: &Value) -> Result<Vec<Value>, String> {
        let concerns =
            self.0.concerns(provider_type, workload).map_err(|error| match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            })?;
        concerns.into_iter().map(|concern| serde_json::to_value(concern).map_err(|error| error.to_string())).collect()
    }
}

/// Where users keep rules.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Namespace of the ConfigMaps.
    pub namespace: String,
    /// Another ConfigMap, as `validation_configmap_name` names it.
    pub config_map: Option<String>,
    /// A folder, usually a mounted volume.
    pub folder: Option<PathBuf>,
}

/// Keeps the rules as users have them, until `shutdown`; `changed` is called after every change.
pub async fn follow(
    client: Client,
    places: Places,
    validator: Validator,
    changed: impl Fn(),
    shutdown: CancellationToken,
) {
    let names = CONFIG_MAPS.iter().map(|name| (*name).to_owned()).chain(places.config_map.clone());
    let maps = futures::stream::select_all(names.map(|name| {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &places.namespace);
        let key = name.clone();
        watch_object(api, &name).default_backoff().map(move |found| (key.clone(), found)).boxed()
    }));
    let mut maps = std::pin::pin!(maps);
    let mut folder = places.folder.as_deref().map(Folder::new);
    let mut known: BTreeMap<String, Vec<RuleFile>> = BTreeMap::new();
    let mut in_use: Vec<RuleFile> = Vec::new();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some((name, found)) = maps.next() => match found {
                Ok(Some(map)) => drop(known.insert(name, files(&map))),
                Ok(None) => drop(known.remove(&name)),
                Err(error) => {
                    tracing::debug!(%error, name, "cannot watch the ConfigMap with validation rules");
                    continue;
                }
            },
            _ = look.tick(), if folder.is_some() => {
                if !folder.as_mut().is_some_and(Folder::changed) {
                    continue;
                }
            }
        }
        let from_folder = folder.as_ref().map(|folder| folder.files().to_vec()).unwrap_or_default();
        let unreadable = folder.as_ref().map(|folder| folder.errors().to_vec()).unwrap_or_default();
        let all = merged(known.values().flatten().cloned().chain(from_folder));
        if all == in_use && unreadable.is_empty() {
            continue;
        }
        let compiled = {
            let (validator, all) = (validator.clone(), all.clone());
            // a rule that does not end shows itself only after its limit
            tokio::task::spawn_blocking(move || validator.replace(&all)).await
        };
        let Ok(errors) = compiled else { continue };
        report(&unreadable, &errors, all.len());
        in_use = all;
        changed();
    }
}

fn report(unreadable: &[RuleError], errors: &[RuleError], count: usize) {
    for error in unreadable.iter().chain(errors) {
        tracing::error!(
            file = error.file,
            line = error.line,
            "a file of validation rules is left out: {}",
            error.message
        );
    }
    tracing::info!(files = count - errors.len().min(count), "validation rules of users are in use");
}

fn files(map: &ConfigMap) -> Vec<RuleFile> {
    let data = map.data.iter().flatten();
    data.filter(|(name, _)| is_rule(name)).map(|(name, text)| RuleFile::new(name.as_str(), text.as_str())).collect()
}

/// Of several files of one name the first counts: the ConfigMaps' before the folder's.
fn merged(files: impl Iterator<Item = RuleFile>) -> Vec<RuleFile> {
    let mut all: Vec<RuleFile> = Vec::new();
    for file in files {
        if !all.iter().any(|known| known.name == file.name) {
            all.push(file);
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rule_files_of_a_config_map_count_and_names_are_unique() {
        let map: ConfigMap = serde_json::from_value(serde_json::json!({
            "data": {"a.rego": "package a", "a_test.rego": "package a", "README": "no rules"},
        }))
        .expect("a ConfigMap");
        let found = files(&map);
        assert_eq!(found, [RuleFile::new("a.rego", "package a")]);
        let again = [RuleFile::new("b.rego", "package b"), RuleFile::new("a.rego", "package other")];
        let all = merged(found.into_iter().chain(again));
        assert_eq!(all, [RuleFile::new("a.rego", "package a"), RuleFile::new("b.rego", "package b")]);
    }
}
