//! Applying the effects of a step, in their order; the first one refused ends it.
use std::collections::BTreeMap;
use std::sync::Arc;

use forklift_api::Plan;
use forklift_core::plan::{Effect, EffectError, ObjectRef, TargetObject};
use forklift_core::safety::is_same;
use forklift_core::source::{Source, SourceError};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::observe::dynamic;
use crate::context::Context;
use crate::shell::event;

/// What effects act on.
pub struct Target<'a> {
    /// Client and queues.
    pub context: &'a Context,
    /// The plan, for events.
    pub plan: &'a Plan,
    /// The source, when it is there.
    pub source: Option<&'a Arc<dyn Source>>,
}

impl Target<'_> {
    /// Applies one effect.
    pub async fn apply(&self, effect: &Effect) -> Result<(), EffectError> {
        tracing::debug!(plan = self.plan.name_any(), %effect, "applying");
        match effect {
            Effect::Ensure(object) => self.ensure(object).await,
            Effect::CopySecret { namespace, name, to } => self.copy_secret(namespace, name, to).await,
            Effect::CopyConfigMap { namespace, name, to } => self.copy_config_map(namespace, name, to).await,
            Effect::Adopt { object, owner } => self.adopt(object, owner).await,
            Effect::Delete(object) => self.delete(object).await,
            Effect::PowerOff(vm) => self.source()?.power_off(vm).await.map_err(refusal),
            Effect::PowerOn(vm) => self.source()?.power_on(vm).await.map_err(refusal),
            Effect::EnsureSnapshot { vm, name } => {
                let source = self.source()?;
                let snapshots = source.snapshots().ok_or_else(no_snapshots)?;
                snapshots.ensure(vm, name).await.map_err(refusal)
            }
            Effect::RemoveSnapshot { vm, name } => {
                let source = self.source()?;
                let snapshots = source.snapshots().ok_or_else(no_snapshots)?;
                snapshots.remove(vm, name).await.map_err(refusal)
            }
            Effect::Event { warning, reason, message } => {
                event::tell(&self.context.client, self.plan, *warning, reason, message);
                Ok(())
            }
        }
    }

    fn source(&self) -> Result<&Arc<dyn Source>, EffectError> {
        self.source.ok_or_else(|| EffectError::Unavailable("the source provider is not there".to_owned()))
    }

    async fn ensure(&self, object: &TargetObject) -> Result<(), EffectError> {
        let api = dynamic(self.context, &object.api_version, &object.kind, object.namespace.as_deref());
        let wanted: DynamicObject = serde_json::from_value(object.json.clone()).map_err(|error| {
            EffectError::Rejected(format!("{} {} cannot be written: {error}", object.kind, object.name))
        })?;
        let create_params = kube::api::PostParams {
            field_manager: Some(crate::shell::apply::MANAGER.to_owned()),
            ..kube::api::PostParams::default()
        };
        match api.create(&create_params, &wanted).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => match api.get_metadata_opt(&object.name).await {
                // A namespace is shared; everything else has to be this VM's.
                Ok(Some(found)) if object.kind == "Namespace" || is_same(object, found.labels()) => Ok(()),
                Ok(Some(_)) => Err(EffectError::NotOurs(describe(object))),
                Ok(None) => Err(EffectError::Conflict(format!("{} is being removed", describe(object)))),
                Err(error) => Err(of_client(&describe(object), error)),
            },
            Err(error) => Err(of_client(&describe(object), error)),
        }
    }

    async fn copy_secret(&self, namespace: &str, name: &str, to: &TargetObject) -> Result<(), EffectError> {
        let from: Api<Secret> = Api::namespaced(self.context.client.clone(), namespace);
        let what = format!("Secret {namespace}/{name}");
        let found = match from.get_opt(name).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                return Err(EffectError::Unavailable(format!("{what}, which the migration needs, does not exist")));
            }
            Err(error) => return Err(of_client(&what, error)),
        };
        let mut copy: Secret = serde_json::from_value(to.json.clone())
            .map_err(|error| EffectError::Rejected(format!("the copy of {what} cannot be written: {error}")))?;
        // what the copy has beside the credentials, e.g. the address that they are for
        let more = copy.string_data.take().unwrap_or_default();
        let more = more.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes())));
        let data: BTreeMap<String, ByteString> = found.data.unwrap_or_default().into_iter().chain(more).collect();
        copy.data = Some(data.clone());
        let target: Api<Secret> =
            Api::namespaced(self.context.client.clone(), to.namespace.as_deref().unwrap_or_default());
        let params = kube::api::PostParams {
            field_manager: Some(crate::shell::apply::MANAGER.to_owned()),
            ..kube::api::PostParams::default()
        };
        let taken = match target.create(&params, &copy).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => target.get_opt(&to.name).await,
            Err(error) => Err(error),
        };
        match taken {
            Ok(Some(known)) if !is_same(to, known.labels()) => Err(EffectError::NotOurs(describe(to))),
            Ok(Some(known)) if known.data.clone().unwrap_or_default() == data => Ok(()),
            // the credentials were rotated while the migration runs
            Ok(Some(mut known)) => {
                known.data = Some(data);
                let replaced = target.replace(&to.name, &params, &known).await;
                replaced.map(|_| ()).map_err(|error| of_client(&describe(to), error))
            }
            Ok(None) => Err(EffectError::Conflict(format!("{} is being removed", describe(to)))),
            Err(error) => Err(of_client(&describe(to), error)),
        }
    }

    async fn copy_config_map(&self, namespace: &str, name: &str, to: &TargetObject) -> Result<(), EffectError> {
        let from: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), namespace);
        let what = format!("ConfigMap {namespace}/{name}");
        let found = match from.get_opt(name).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                return Err(EffectError::Unavailable(format!("{what}, which the migration needs, does not exist")));
            }
            Err(error) => return Err(of_client(&what, error)),
        };
        let mut copy = to.clone();
        for (key, value) in [("data", json!(found.data)), ("binaryData", json!(found.binary_data))] {
            if !value.is_null() {
                copy.json[key] = value;
            }
        }
        self.ensure(&copy).await
    }

    async fn adopt(&self, object: &ObjectRef, owner: &ObjectRef) -> Result<(), EffectError> {
        let api = dynamic(self.context, &object.api_version, &object.kind, object.namespace.as_deref());
        let found = match api.get_metadata_opt(&object.name).await {
            Ok(Some(found)) if found.uid().as_deref() == Some(object.uid.as_str()) => found,
            Ok(_) => return Err(EffectError::Conflict(format!("{object} is not there any more"))),
            Err(error) => return Err(of_client(&object.to_string(), error)),
        };
        let mut owners = found.owner_references().to_vec();
        if owners.iter().any(|known| known.uid == owner.uid) {
            return Ok(());
        }
        owners.push(OwnerReference {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: Some(false),
            block_owner_deletion: Some(true),
        });
        let change = json!({"metadata": {
            "uid": object.uid,
            "resourceVersion": found.resource_version(),
            "ownerReferences": owners,
        }});
        match api.patch(&object.name, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(&change)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(of_client(&object.to_string(), error)),
        }
    }

    async fn delete(&self, object: &ObjectRef) -> Result<(), EffectError> {
        delete_object(self.context, object).await
    }
}

/// Deletes an object that was seen, by its UID.
pub async fn delete_object(context: &Context, object: &ObjectRef) -> Result<(), EffectError> {
    let api = dynamic(context, &object.api_version, &object.kind, object.namespace.as_deref());
    let params = kube::api::DeleteParams {
        preconditions: Some(kube::api::Preconditions { uid: Some(object.uid.clone()), ..Default::default() }),
        propagation_policy: Some(kube::api::PropagationPolicy::Background),
        ..kube::api::DeleteParams::default()
    };
    match api.delete(&object.name, &params).await {
        Ok(_) => Ok(()),
        // Gone, or another object under its name: what was meant is not there.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(of_client(&object.to_string(), error)),
    }
}

fn describe(object: &TargetObject) -> String {
    match &object.namespace {
        Some(namespace) => format!("{} {namespace}/{}", object.kind, object.name),
        None => format!("{} {}", object.kind, object.name),
    }
}

fn no_snapshots() -> EffectError {
    EffectError::Rejected("the source has no snapshots".to_owned())
}

fn of_client(what: &str, error: kube::Error) -> EffectError {
    match error {
        kube::Error::Api(status) => match status.code {
            400 | 403 | 405 | 413 | 422 => EffectError::Rejected(format!("{what}: {}", status.message)),
            409 => EffectError::Conflict(format!("{what}: {}", status.message)),
            429 | 500..=599 => EffectError::Unavailable(format!("{what}: {}", status.message)),
            _ => EffectError::Failed(format!("{what}: {}", status.message)),
        },
        other => EffectError::Unavailable(format!("{what}: {other}")),
    }
}

fn refusal(error: SourceError) -> EffectError {
    match error {
        SourceError::NotReady(_) | SourceError::Unreachable(_) => EffectError::Unavailable(error.to_string()),
        SourceError::Conflict(_) => EffectError::Conflict(error.to_string()),
        SourceError::Denied(_) => EffectError::Rejected(error.to_string()),
        SourceError::NotFound(_) | SourceError::Other(_) => EffectError::Failed(error.to_string()),
    }
}
