//! The preferences that the target has for guest operating systems.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use forklift_core::os;
use forklift_core::plan::world::PreferenceFact;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::observe::dynamic;
use crate::context::Context;

/// How long a look at the target holds: preferences change with installations, not with migrations.
const HOLDS: Duration = Duration::from_secs(60);

type Known = BTreeMap<String, PreferenceFact>;

/// What was seen, by namespace.
#[derive(Default)]
pub struct Preferences {
    seen: Mutex<HashMap<String, (Instant, Known)>>,
}

impl Preferences {
    /// Returns the preferences for VMs in a namespace, by guest id: the namespace's own before the cluster's. A cluster
    /// without preferences has none; one that does not answer is asked again with the next pass.
    pub async fn of(&self, context: &Context, namespace: &str) -> Known {
        let seen = |all: &HashMap<String, (Instant, Known)>| {
            all.get(namespace).filter(|(when, _)| when.elapsed() < HOLDS).map(|(_, known)| known.clone())
        };
        if let Some(known) = seen(&self.seen.lock().unwrap_or_else(PoisonError::into_inner)) {
            return known;
        }
        let known = match look(context, namespace).await {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(namespace, %error, "preferences of the target cannot be listed");
                return Known::new();
            }
        };
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(namespace.to_owned(), (Instant::now(), known.clone()));
        known
    }
}

async fn look(context: &Context, namespace: &str) -> Result<Known, kube::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.config.namespace);
    let map = maps.get_opt(&context.config.settings.vsphere_osmap).await?.and_then(|map| map.data).unwrap_or_default();
    let own = names(context, "VirtualMachinePreference", Some(namespace)).await?;
    let shared = names(context, "VirtualMachineClusterPreference", None).await?;
    let fact = |name: String| {
        let kind = if own.contains(&name) {
            "VirtualMachinePreference"
        } else if shared.contains(&name) {
            "VirtualMachineClusterPreference"
        } else {
            return None;
        };
        Some(PreferenceFact { name, kind: kind.to_owned() })
    };
    Ok(os::preferences(&map).into_iter().filter_map(|(id, name)| Some((id, fact(name)?))).collect())
}

async fn names(context: &Context, kind: &str, namespace: Option<&str>) -> Result<Vec<String>, kube::Error> {
    let api = dynamic(context, "instancetype.kubevirt.io/v1beta1", kind, namespace);
    match api.list_metadata(&ListParams::default()).await {
        Ok(list) => Ok(list.items.iter().map(ResourceExt::name_any).collect()),
        // KubeVirt without instance types, or none at all
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
