//! What the target has for guest operating systems and sizes: preferences, instance types, OpenShift's templates.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use forklift_core::os;
use forklift_core::plan::world::PreferenceFact;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::observe::dynamic;
use crate::context::Context;

/// How long a look at the target holds: preferences change with installations, not with migrations.
const HOLDS: Duration = Duration::from_secs(60);

/// Where OpenShift's templates are.
const TEMPLATES: &str = "openshift";
/// The templates that are for servers of middle size, as upstream takes them.
const SERVERS: &str = "workload.template.kubevirt.io/server=true,flavor.template.kubevirt.io/medium=true";

type Known = BTreeMap<String, PreferenceFact>;

/// What was seen, by namespace.
#[derive(Default)]
pub struct Preferences {
    seen: Mutex<HashMap<String, (Instant, Known)>>,
    types: Mutex<HashMap<String, (Instant, BTreeMap<String, String>)>>,
    /// Templates by guest id; `None` where there is none.
    templates: Mutex<HashMap<String, (Instant, Option<Value>)>>,
}

/// Returns what was seen not too long ago.
fn recent<T: Clone>(seen: &Mutex<HashMap<String, (Instant, T)>>, key: &str) -> Option<T> {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.get(key).filter(|(when, _)| when.elapsed() < HOLDS).map(|(_, known)| known.clone())
}

fn remember<T>(seen: &Mutex<HashMap<String, (Instant, T)>>, key: &str, value: T) {
    seen.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), (Instant::now(), value));
}

impl Preferences {
    /// Returns the preferences for VMs in a namespace, by guest id: the namespace's own before the cluster's. A cluster
    /// without preferences has none; one that does not answer is asked again with the next pass.
    pub async fn of(&self, context: &Context, namespace: &str) -> Known {
        if let Some(known) = recent(&self.seen, namespace) {
            return known;
        }
        let known = match look(context, namespace).await {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(namespace, %error, "preferences of the target cannot be listed");
                return Known::new();
            }
        };
        remember(&self.seen, namespace, known.clone());
        known
    }

    /// Returns the instance types for VMs in a namespace with their kind, by name: the namespace's own before the
    /// cluster's. `None` when the target does not answer.
    pub async fn instance_types(&self, context: &Context, namespace: &str) -> Option<BTreeMap<String, String>> {
        if let Some(known) = recent(&self.types, namespace) {
            return Some(known);
        }
        let mut known = BTreeMap::new();
        for (kind, within) in
            [("VirtualMachineClusterInstancetype", None), ("VirtualMachineInstancetype", Some(namespace))]
        {
            match names(context, kind, within).await {
                Ok(names) => known.extend(names.into_iter().map(|name| (name, kind.to_owned()))),
                Err(error) => {
                    tracing::warn!(namespace, %error, "instance types of the target cannot be listed");
                    return None;
                }
            }
        }
        remember(&self.types, namespace, known.clone());
        Some(known)
    }

    /// Returns OpenShift's newest template for a guest id; `None` where there is none, as on other clusters.
    pub async fn template(&self, context: &Context, guest_id: &str) -> Option<Value> {
        if let Some(known) = recent(&self.templates, guest_id) {
            return known;
        }
        let mut found = None;
        for id in os::template_ids(guest_id) {
            let labels = format!("os.template.kubevirt.io/{id}=true,{SERVERS}");
            let api = dynamic(context, "template.openshift.io/v1", "Template", Some(TEMPLATES));
            match api.list(&ListParams::default().labels(&labels)).await {
                Ok(list) => found = list.items.into_iter().max_by_key(|template| template.creation_timestamp()),
                // not OpenShift
                Err(kube::Error::Api(status)) if status.code == 404 => break,
                Err(error) => {
                    tracing::warn!(guest_id, %error, "templates of the target cannot be listed");
                    return None;
                }
            }
            if found.is_some() {
                break;
            }
        }
        let found = found.map(|template| template.data);
        remember(&self.templates, guest_id, found.clone());
        found
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
