//! Applying effects to the cluster: every call may be repeated after a crash and then changes nothing twice.
//!
//! - [`create`] makes an object whose name is derived; when it exists already it must be ours.
//! - [`delete`] names the UID it saw, so that an object made anew under the same name is left alone.
//! - [`patch`] is for small merges on objects that exist (owner references, finalizers, labels).
use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Field manager of everything the controllers write.
pub const MANAGER: &str = "forklift-controller";

/// Why an object could not be made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An object of this name exists and is not ours.
    #[error("{kind} {name} exists and was not made by this migration")]
    NotOurs {
        /// Kind of the object.
        kind: String,
        /// `namespace/name` of the object.
        name: String,
    },
    /// The API server refused for good: the same request will be refused again.
    #[error("{what}: {reason}")]
    Rejected {
        /// What was tried.
        what: String,
        /// The server's words.
        reason: String,
    },
    /// The API server did not answer, was busy, or the object changed meanwhile: try again.
    #[error("{what}")]
    Retry {
        /// What was tried.
        what: String,
        /// The error below.
        source: Box<kube::Error>,
    },
}

impl ApplyError {
    /// Sorts a client error into what the caller does about it.
    pub fn of(what: String, error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 405 | 413 | 422) => {
                Self::Rejected { what, reason: status.message.clone() }
            }
            _ => Self::Retry { what, source: Box::new(error) },
        }
    }
}

/// Returns `namespace/name`, or the name alone for what has no namespace.
pub fn display_name(meta: &ObjectMeta) -> String {
    let name = meta.name.as_deref().or(meta.generate_name.as_deref()).unwrap_or("?");
    meta.namespace.as_deref().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

/// Makes an object with a derived name. Returns the stored object and whether it was made just now.
///
/// When the name is taken, `ours` decides whether the existing object is the same thing made earlier.
pub async fn create<K>(api: &Api<K>, object: &K, ours: impl Fn(&K) -> bool) -> Result<(K, bool), ApplyError>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
    K::DynamicType: Default,
{
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    let name = display_name(object.meta());
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&params, object).await {
        Ok(made) => Ok((made, true)),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let what = || format!("reading {kind} {name}");
            match api.get_opt(&object.name_any()).await.map_err(|error| ApplyError::of(what(), error))? {
                Some(found) if ours(&found) => Ok((found, false)),
                Some(_) => Err(ApplyError::NotOurs { kind, name }),
                // It went away between the two calls.
                None => Err(ApplyError::Retry {
                    what: format!("creating {kind} {name}"),
                    source: Box::new(kube::Error::Api(status)),
                }),
            }
        }
        Err(error) => Err(ApplyError::of(format!("creating {kind} {name}"), error)),
    }
}

/// Removes the object that has this UID; gone already, or another object under its name, is success.
pub async fn delete<K>(api: &Api<K>, name: &str, uid: Option<&str>) -> Result<(), ApplyError>
where
    K: Resource + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let params = DeleteParams {
        preconditions: uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() }),
        // Jobs and VMs take their pods with them.
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => {
            let kind = K::kind(&K::DynamicType::default()).into_owned();
            Err(ApplyError::of(format!("deleting {kind} {name}"), error))
        }
    }
}

/// Merges a change into an object that exists; an object that is gone is success (`None`).
pub async fn patch<K>(api: &Api<K>, name: &str, change: &serde_json::Value) -> Result<Option<K>, ApplyError>
where
    K: Resource + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(name, &params, &Patch::Merge(change)).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => {
            let kind = K::kind(&K::DynamicType::default()).into_owned();
            Err(ApplyError::of(format!("changing {kind} {name}"), error))
        }
    }
}

/// Returns an owner reference; `None` while the owner has no UID (it was never stored).
pub fn owner<K>(object: &K, controller: bool, block: bool) -> Option<OwnerReference>
where
    K: Resource,
    K::DynamicType: Default,
{
    let kind = K::DynamicType::default();
    Some(OwnerReference {
        api_version: K::api_version(&kind).into_owned(),
        kind: K::kind(&kind).into_owned(),
        name: object.meta().name.clone()?,
        uid: object.meta().uid.clone()?,
        controller: Some(controller),
        block_owner_deletion: Some(block),
    })
}

/// Adds or removes a finalizer; returns whether the object had to be changed.
pub async fn set_finalizer<K>(api: &Api<K>, object: &K, finalizer: &str, wanted: bool) -> Result<bool, ApplyError>
where
    K: Resource + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let mut finalizers = object.finalizers().to_vec();
    if finalizers.iter().any(|f| f == finalizer) == wanted {
        return Ok(false);
    }
    if wanted {
        finalizers.push(finalizer.to_owned());
    } else {
        finalizers.retain(|f| f != finalizer);
    }
    // The resourceVersion makes two writers of the same list notice each other.
    let change = serde_json::json!({"metadata": {
        "finalizers": finalizers,
        "resourceVersion": object.resource_version(),
    }});
    patch(api, &object.name_any(), &change).await?;
    Ok(true)
}
