//! What a machine's status shows.

use forklift_kubevirt_types::kubevirt::Condition;
use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{Action, Decision, World, fingerprint, make, strategy};
use crate::kubevirt::status::condition;
use crate::kubevirt::{instancetype, vmi};

/// The first wait before a machine that failed is started again, in seconds.
const FIRST_WAIT: i64 = 10;
/// The longest.
const LONGEST_WAIT: i64 = 300;

/// What the status is made from.
pub struct Shown<'a> {
    /// The machine.
    pub vm: &'a VirtualMachine,
    /// Its instance.
    pub vmi: Option<&'a VirtualMachineInstance>,
    /// What comes next.
    pub decision: &'a Decision,
    /// What else is known.
    pub world: &'a World,
    /// Copies of its instance type and preference, when they were looked for.
    pub references: &'a instancetype::References,
}

impl Shown<'_> {
    /// Writes the status, if it changes anything.
    pub async fn write(&self, machines: &Api<VirtualMachine>, now: Timestamp) -> kube::Result<()> {
        let (vm, decision) = (self.vm, self.decision);
        let old = vm.status.clone().unwrap_or_default();
        let conditions = self.conditions(&old.conditions, now);
        let ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
        let known = old.start_failure.as_ref().and_then(|kept| kept.get("lastFailedVMIUID")?.as_str());
        let failure = match &decision.failures {
            None => Value::Null,
            Some((_, uid)) if known == Some(uid) => old.start_failure.clone().unwrap_or_default(),
            Some((count, uid)) => {
                let wait = (FIRST_WAIT << (count - 1).min(10)).min(LONGEST_WAIT);
                let at = now.checked_add(SignedDuration::from_secs(wait)).unwrap_or(now);
                json!({"consecutiveFailCount": count, "lastFailedVMIUID": uid, "retryAfterTimestamp": Time(at)})
            }
        };
        let mut new = json!({
            "created": self.vmi.is_some(), "ready": ready, "printableStatus": decision.printable,
            "conditions": conditions, "startFailure": failure,
            "observedGeneration": vm.metadata.generation, "desiredGeneration": vm.metadata.generation,
        });
        // a strategy is followed once its first start is behind it
        if !matches!(decision.action, Action::Start { .. } | Action::Protect) {
            new["runStrategy"] = json!(strategy(vm));
        }
        for (field, reference) in
            [("instancetypeRef", &self.references.instancetype), ("preferenceRef", &self.references.preference)]
        {
            if let Some(reference) = reference {
                new[field] = json!(reference);
            }
        }
        let mut metadata = json!({"uid": vm.metadata.uid});
        if decision.requests != old.state_change_requests {
            new["stateChangeRequests"] = json!(decision.requests);
            // others add to the list: what was not read must not be lost
            metadata["resourceVersion"] = json!(vm.metadata.resource_version);
        }
        let written = serde_json::to_value(&old).map_err(kube::Error::SerdeError)?;
        if !covers(&written, &new) {
            let name = vm.metadata.name.as_deref().unwrap_or_default();
            let patch = json!({"metadata": metadata, "status": new});
            machines.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        Ok(())
    }

    fn conditions(&self, old: &[Condition], now: Timestamp) -> Vec<Condition> {
        let own = self.vmi.and_then(|vmi| vmi.status.as_ref()).map(|status| status.conditions.clone());
        let mut list = own.unwrap_or_default();
        if !list.iter().any(|one| one.type_ == "Ready") {
            let why = match self.vmi {
                Some(_) => ("GuestNotRunning", "Guest VM is not reported as running"),
                None => ("VMINotExists", "VMI does not exist"),
            };
            list.insert(0, condition(old, "Ready", false, Some((why.0, why.1.to_owned())), now));
        }
        if let Some(failure) = &self.world.failure {
            list.push(condition(old, "Failure", true, Some((failure.reason, failure.message.clone())), now));
        }
        let runs = self.vmi.filter(|vmi| vmi.metadata.deletion_timestamp.is_none());
        let made_of = runs.and_then(|vmi| vmi.metadata.annotations.as_ref()?.get(make::FINGERPRINT));
        if made_of.is_some_and(|made_of| *made_of != fingerprint(self.vm)) {
            let text = "a non-live-updatable field was changed in the template spec".to_owned();
            list.push(condition(old, "RestartRequired", true, Some(("RestartRequired", text)), now));
        }
        list
    }
}

/// Whether merging would change nothing; a false or zero that is not written is not there.
fn covers(old: &Value, new: &Value) -> bool {
    let fields = new.as_object().into_iter().flatten();
    let mut fields = fields.filter(|(key, value)| old.get(*key).is_some() || !value.is_null());
    fields.all(|(key, value)| match old.get(key) {
        Some(known) => vmi::covers(known, value),
        None => vmi::covers(&Value::Null, value) || value.as_array().is_some_and(Vec::is_empty),
    })
}
