//! Conversion: one pod that converts or inspects a guest.
//!
//! ```text
//! Pending ─► Running: CreatingPod ─► PodRunning ─► Finished ─► Succeeded | Failed
//!                          ▲              │ the pod is gone (node lost, evicted): it is made again, the disks are as
//!                          └──────────────┘ they were, because the conversion works on an overlay
//! ```
//! A DeepInspection has stages of its own: see `inspection`.
//!
//! While the pod runs its progress is polled; when it says that it is done its results are kept in the status and the
//! pod is told to end. The termination message holds the result too, so nothing is lost when nobody asked in time.
mod inspection;
mod pod;

use std::sync::Arc;

use forklift_api::condition::{reasons, types};
use forklift_api::conversion::{ConversionPhase, ConversionSpec, ConversionStage, ConversionType, DiskEncryptionType};
use forklift_api::worker::{ConversionResult, Warning, WorkerError};
use forklift_api::{Category, Condition, Conversion};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use crate::context::{Context, is_set};
use crate::shell::apply::{ApplyError, create, delete, set_finalizer};
use crate::shell::status::{Pass, ReconcileError, SLOW};
use crate::worker;

/// Keeps a conversion until its pod, which lives in another namespace and so cannot be owned by it, is gone.
const FINALIZER: &str = "forklift.konveyor.io/conversion-pod";

/// Looks at a conversion.
pub async fn reconcile(conversion: Arc<Conversion>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let namespace = conversion.namespace().unwrap_or_default();
    let api: Api<Conversion> = Api::namespaced(context.client.clone(), &namespace);
    let elsewhere = !conversion.spec.target_namespace.is_empty() && conversion.spec.target_namespace != namespace;
    let inspects = conversion.spec.type_ == ConversionType::DeepInspection;
    if conversion.metadata.deletion_timestamp.is_some() {
        if elsewhere || inspects {
            remove_pod(&context, &conversion).await?;
        }
        if inspects && !inspection::left_in_order(&context, &conversion).await? {
            return Ok(Action::requeue(SLOW));
        }
        set_finalizer(&api, conversion.as_ref(), FINALIZER, false).await?;
        return Ok(Action::await_change());
    }
    let phase = conversion.status.as_ref().and_then(|status| status.phase);
    if inspects && inspection::is_to_be_ended(&conversion) {
        remove_pod(&context, &conversion).await?;
        let mut pass = Pass::begin(&context.client, conversion.as_ref(), Timestamp::now());
        let result = inspection::end(&context, &mut pass).await;
        return pass.finish(result).await;
    }
    if matches!(phase, Some(ConversionPhase::Succeeded | ConversionPhase::Failed | ConversionPhase::Canceled)) {
        return Ok(Action::await_change());
    }
    let holds = elsewhere || (inspects && inspection::takes_its_own(&conversion));
    if holds && set_finalizer(&api, conversion.as_ref(), FINALIZER, true).await? {
        return Ok(Action::requeue(SLOW));
    }
    let mut pass = Pass::begin(&context.client, conversion.as_ref(), Timestamp::now());
    check(&conversion.spec).into_iter().for_each(|condition| pass.set(condition));
    let result = if pass.conditions().has_critical() {
        Ok(Action::await_change())
    } else if inspects {
        inspection::advance(&context, &mut pass).await
    } else {
        advance(&context, &mut pass).await
    };
    if !pass.conditions().has_blocker() {
        pass.set(Condition::new(types::READY, Category::Required, "The conversion is ready."));
    }
    pass.finish(result).await
}

/// Returns what is wrong with a conversion's spec.
pub fn check(spec: &ConversionSpec) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let mut say = |type_: &str, message: &str| {
        conditions.push(Condition::new(type_, Category::Critical, message).reason(reasons::NOT_SET));
    };
    if spec.target_namespace.is_empty() {
        say(types::TARGET_NAMESPACE_NOT_SET, "The `targetNamespace` field is required.");
    }
    if spec.vm.not_set() {
        say(types::VM_NOT_SET, "The `VM` reference is not set.");
    }
    let on_disks = matches!(spec.type_, ConversionType::InPlace | ConversionType::Remote);
    if on_disks && spec.disks.is_empty() {
        say(types::DISKS_NOT_SET, "The `Disks` field is required for this conversion type.");
    }
    // In place nothing is fetched from the source, so there is nothing to log in to.
    if spec.type_ != ConversionType::InPlace && !is_named(&spec.connection.secret) {
        say(types::CONNECTION_NOT_SET, "The `Connection.Secret` is required.");
    }
    if let Some(encryption) = &spec.disk_encryption
        && encryption.type_ == DiskEncryptionType::Luks
        && !is_named(&encryption.secret)
    {
        say(types::LUKS_SECRET_NOT_SET, "The `diskEncryption.secret` is required when `diskEncryption.type` is LUKS.");
    }
    conditions
}

fn is_named(reference: &ObjectReference) -> bool {
    is_set(reference) || reference.name.as_deref().is_some_and(|name| !name.is_empty())
}

/// Goes on with a conversion by as many stages as can be gone now.
async fn advance(context: &Context, pass: &mut Pass<'_, Conversion>) -> Result<Action, ReconcileError> {
    let conversion = pass.object;
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &conversion.spec.target_namespace);
    let name = pod::name(conversion);
    if pass.status.start_time.is_none() {
        pass.status.start_time = Some(Time(pass.now));
    }
    pass.status.phase = Some(ConversionPhase::Running);
    let Some(found) = pods.get_opt(&name).await? else {
        let again = pass.status.stage == Some(ConversionStage::PodRunning);
        pass.status.stage = Some(ConversionStage::CreatingPod);
        let wanted = pod::build(conversion, &context.config.settings)?;
        let uid = conversion.uid();
        match create(&pods, &wanted, |found| pod::belongs(found, uid.as_deref())).await {
            Ok((made, _)) => {
                pass.status.stage = Some(ConversionStage::PodRunning);
                pass.status.pod = ObjectReference {
                    kind: Some("Pod".to_owned()),
                    namespace: made.namespace(),
                    name: Some(made.name_any()),
                    uid: made.uid(),
                    ..ObjectReference::default()
                };
                say(
                    pass,
                    if again {
                        "The conversion's pod was gone and is made again."
                    } else {
                        "The conversion's pod is being started."
                    },
                );
            }
            Err(ApplyError::Rejected { what, reason }) => fail(pass, &format!("{what}: {reason}")),
            Err(error) => return Err(error.into()),
        }
        return Ok(Action::requeue(SLOW));
    };
    pass.status.stage = Some(ConversionStage::PodRunning);
    match worker::phase(&found) {
        "Running" => watch_over(context, pass, &found).await,
        "Succeeded" => {
            let left = result_of(&found).or_else(|| pass.status.result.take()).unwrap_or_default();
            finish(pass, left);
            return Ok(Action::await_change());
        }
        // the worker had no chance to fail: its next pod finds the disks as they were
        "Failed" if interrupted(&found) => {
            delete(&pods, &found.name_any(), found.uid().as_deref()).await?;
            say(pass, "The node was stopped while the guest was being converted; it is converted again.");
            return Ok(Action::requeue(SLOW));
        }
        "Failed" => {
            let left = result_of(&found).or_else(|| pass.status.result.take()).unwrap_or_default();
            finish(pass, with_error(left, &found));
            return Ok(Action::await_change());
        }
        _ => wait_for_start(context, pass, &found),
    }
    let over = pass.status.completion_time.is_some();
    Ok(if over { Action::await_change() } else { Action::requeue(SLOW) })
}

async fn watch_over(context: &Context, pass: &mut Pass<'_, Conversion>, pod: &Pod) {
    let Some(ip) = worker::running_ip(pod) else { return };
    let progress = context.workers.conversion_progress(ip).await;
    let message = match &progress {
        Some(progress) => match (&progress.message, progress.percent) {
            (Some(message), Some(percent)) => format!("{message} ({percent:.0} %)"),
            (Some(message), None) => message.clone(),
            (None, Some(percent)) => format!("{} ({percent:.0} %)", progress.phase),
            (None, None) => progress.phase.clone(),
        },
        None => "The guest is being converted.".to_owned(),
    };
    say(pass, &message);
    // Workers of other makes have no progress; they answer /vm (with or without a text) when they are done.
    let done = match &progress {
        Some(progress) => progress.phase == "Done",
        None => context.workers.answers(ip, "/vm").await,
    };
    if let Some(progress) = progress {
        pass.status.progress = Some(progress);
    }
    if done {
        if pass.status.result.is_none() {
            pass.status.result = Some(fetch(context, ip).await);
        }
        context.workers.shut_down(ip).await;
    }
}

/// Reads the results from a worker that waits to be dismissed.
async fn fetch(context: &Context, ip: &str) -> ConversionResult {
    let workers = &context.workers;
    let (vm, inspection, warnings) =
        tokio::join!(workers.text(ip, "/vm"), workers.text(ip, "/inspection"), workers.text(ip, "/warnings"));
    let warnings: Vec<Warning> = warnings.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    ConversionResult {
        warnings,
        // What is JSON is kept as JSON, upstream's XML as a text.
        inspection: inspection.map(|text| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))),
        firmware: vm.as_deref().and_then(firmware_of),
        vm,
        error: None,
    }
}

/// Reads the firmware from the VM that virt-v2v describes (its KubeVirt YAML).
fn firmware_of(vm: &str) -> Option<String> {
    let lines = || vm.lines().map(str::trim);
    if lines().any(|line| line == "efi:" || line.starts_with("efi: ")) {
        Some("uefi".to_owned())
    } else if lines().any(|line| line.starts_with("bios:")) {
        Some("bios".to_owned())
    } else {
        None
    }
}

fn wait_for_start(context: &Context, pass: &mut Pass<'_, Conversion>, pod: &Pod) {
    let minutes = i64::try_from(context.config.settings.conversion_pod_pending_timeout).unwrap_or(0);
    let age = pod.creation_timestamp().map_or(0, |made| pass.now.as_second() - made.0.as_second());
    let why = worker::waiting(pod).map(|(reason, message)| format!("{reason}: {message}"));
    if minutes > 0 && age > minutes * 60 {
        let why = why.unwrap_or_else(|| "no reason is known".to_owned());
        fail(pass, &format!("The conversion's pod was pending for more than {minutes} minutes: {why}"));
    } else {
        say(
            pass,
            &why.map_or_else(
                || "The conversion's pod is being started.".to_owned(),
                |why| format!("The conversion's pod waits: {why}"),
            ),
        );
    }
}

/// Returns the result in a pod's termination message.
fn result_of(pod: &Pod) -> Option<ConversionResult> {
    serde_json::from_str(worker::termination_message(pod, pod::CONTAINER)?).ok()
}

/// Whether a pod was ended from outside: node lost or drained, evicted, preempted. Kubernetes marks such pods with the
/// condition DisruptionTarget; see "Pod disruption conditions" in its documentation.
fn interrupted(pod: &Pod) -> bool {
    const REASONS: [&str; 5] = ["NodeLost", "NodeShutdown", "Terminated", "Evicted", "Preempting"];
    let container =
        worker::container(pod, pod::CONTAINER).and_then(|status| status.state.as_ref()?.terminated.as_ref());
    let reasons = [
        pod.status.as_ref().and_then(|status| status.reason.as_deref()),
        container.and_then(|ended| ended.reason.as_deref()),
    ];
    let disrupted = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    result_of(pod).is_none()
        && (reasons.into_iter().flatten().any(|reason| REASONS.contains(&reason))
            || disrupted
                .into_iter()
                .any(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True"))
}

/// Sees to it that a failed pod's result says why.
fn with_error(mut result: ConversionResult, pod: &Pod) -> ConversionResult {
    if result.error.is_none() {
        let status =
            worker::container(pod, pod::CONTAINER).and_then(|status| status.state.as_ref()?.terminated.as_ref());
        let last = worker::termination_message(pod, pod::CONTAINER).map(str::trim).filter(|text| !text.is_empty());
        let evicted = pod.status.as_ref().and_then(|status| status.message.clone());
        let message = last.map(str::to_owned).or(evicted).unwrap_or_else(|| match status {
            Some(ended) => format!("the conversion ended with exit code {}", ended.exit_code),
            None => "the conversion's pod failed".to_owned(),
        });
        result.error = Some(WorkerError {
            code: status.and_then(|ended| ended.reason.clone()).unwrap_or_else(|| "PodFailed".to_owned()),
            message,
            hint: Some(format!(
                "read the log: kubectl logs -n {} {}",
                pod.namespace().unwrap_or_default(),
                pod.name_any()
            )),
            retryable: false,
        });
    }
    result
}

fn finish(pass: &mut Pass<'_, Conversion>, result: ConversionResult) {
    pass.status.stage = Some(ConversionStage::Finished);
    pass.status.completion_time = Some(Time(pass.now));
    pass.status.progress = None;
    match &result.error {
        None => {
            pass.status.phase = Some(ConversionPhase::Succeeded);
            "The conversion succeeded.".clone_into(&mut pass.status.message);
        }
        Some(error) => {
            let text =
                error.hint.as_ref().map_or_else(|| error.message.clone(), |hint| format!("{} ({hint})", error.message));
            pass.status.phase = Some(ConversionPhase::Failed);
            pass.status.message.clone_from(&text);
            pass.set(Condition::new(types::CONVERSION_FAILED, Category::Critical, text).reason(error.code.clone()));
        }
    }
    pass.status.result = Some(result);
}

fn fail(pass: &mut Pass<'_, Conversion>, message: &str) {
    let error =
        WorkerError { code: "PodNotStarted".to_owned(), message: message.to_owned(), hint: None, retryable: true };
    finish(pass, ConversionResult { error: Some(error), ..ConversionResult::default() });
}

fn say(pass: &mut Pass<'_, Conversion>, message: &str) {
    message.clone_into(&mut pass.status.message);
    // Upstream shows the stage in a condition whose type is the word Advisory.
    pass.set(Condition::new("Advisory", Category::Advisory, message));
}

async fn remove_pod(context: &Context, conversion: &Conversion) -> Result<(), ReconcileError> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &conversion.spec.target_namespace);
    let uid = conversion.uid();
    if let Some(found) = pods.get_opt(&pod::name(conversion)).await?.filter(|found| pod::belongs(found, uid.as_deref()))
    {
        delete(&pods, &found.name_any(), found.uid().as_deref()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_is_read_from_the_description() {
        assert_eq!(firmware_of("firmware:\n  bootloader:\n    efi:\n      secureBoot: true"), Some("uefi".into()));
        assert_eq!(firmware_of("bootloader:\n  bios: {}"), Some("bios".into()));
        assert_eq!(firmware_of("kind: VirtualMachine"), None);
    }
}
