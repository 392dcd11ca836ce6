//! The conversion of the guest, on the copied disks.
use serde_json::Value;

use super::Turn;
use super::transfer::explain;
use crate::build::conversion::{self, Copied, CopiedDisk};
use crate::os;
use crate::plan::Transition;
use crate::plan::effect::{Effect, TargetObject};
use crate::plan::pipeline::{self, StepName};
use crate::plan::state::{VmState, WaitCode};
use crate::plan::world::{ConversionFact, ConversionPhase, PvcFact};

/// Annotation of the step: UID of the Conversion that succeeded. The target VM is created only with this proof.
pub(crate) const CONVERTED: &str = "converted";
const ATTEMPTS: &str = "attempts";
const REPLACED: &str = "replaced";

/// The claims of the VM's disks, in the order of the disks; `Err` names the first that is missing.
pub(super) fn claims<'w>(turn: &Turn<'w>) -> Result<Vec<&'w PvcFact>, String> {
    let world = turn.world;
    let Some(machine) = world.machine else { return Err("the VM is not in the source's inventory any more".into()) };
    let find = |key: &str| {
        let ours = |p: &&PvcFact| p.disk == key && !p.seen.deleting && p.seen.is_of(world.plan, world.vm);
        world.target.pvcs.iter().find(ours)
    };
    machine.disks.iter().map(|d| find(&d.key).ok_or_else(|| format!("the PVC of disk {} is missing", d.key))).collect()
}

/// Creates the Conversion.
pub(super) fn create(turn: &Turn<'_>) -> Transition {
    match current(turn) {
        Some(_) => turn.go(turn.state.clone()),
        None => match build(turn) {
            Ok(object) => ensure(turn, turn.state.clone(), object),
            Err(reason) => turn.fail([reason]),
        },
    }
}

fn ensure(turn: &Turn<'_>, next: VmState, object: TargetObject) -> Transition {
    let message = format!("Conversion {} to appear", object.name);
    let (plan, vm) = (turn.world.plan, turn.world.vm);
    let mut effects = Vec::new();
    if let Some(Copied { namespace, name, to }) = conversion::keys(plan, vm) {
        effects.push(Effect::CopySecret { namespace, name, to: Box::new(to) });
    }
    if let Some(Copied { namespace, name, to }) = conversion::scripts(plan, vm) {
        effects.push(Effect::CopyConfigMap { namespace, name, to: Box::new(to) });
    }
    effects.push(Effect::Ensure(Box::new(object)));
    turn.stay(next, effects, WaitCode::ConversionPod, message)
}

fn build(turn: &Turn<'_>) -> Result<TargetObject, String> {
    let world = turn.world;
    let claims = claims(turn)?;
    let Some(machine) = world.machine else { return Err("the VM is not in the source's inventory any more".into()) };
    let disks: Vec<_> =
        claims.iter().map(|p| CopiedDisk { claim: &p.seen.object.name, volume_mode: &p.volume_mode }).collect();
    Ok(conversion::conversion(world.plan, world.vm, machine, &disks, &turn.target_name()))
}

fn current<'w>(turn: &Turn<'w>) -> Option<&'w ConversionFact> {
    let world = turn.world;
    world.target.conversion.as_ref().filter(|c| c.seen.is_of(world.plan, world.vm) && c.seen.is_current(world.plan))
}

/// Follows the Conversion until it has ended.
pub(super) fn wait(turn: &Turn<'_>) -> Transition {
    let mut next = turn.state.clone();
    let Some(fact) = current(turn) else {
        // removed by hand, or given up: it works on overlays, so another one starts from the clean copy
        return match build(turn) {
            Ok(object) => ensure(turn, next, object),
            Err(reason) => turn.fail([reason]),
        };
    };
    if fact.seen.deleting {
        return turn.wait(WaitCode::ConversionPod, "the failed conversion to be gone");
    }
    let Some(step) = pipeline::find(&mut next.pipeline, StepName::ImageConversion) else {
        return turn.fail(["the pipeline has no step ImageConversion".into()]);
    };
    let notes = &mut step.task.annotations;
    if notes.get(REPLACED) == Some(&fact.seen.object.uid) {
        let effects = vec![Effect::Delete(fact.seen.object.clone())];
        return turn.stay(next, effects, WaitCode::ConversionPod, "the failed conversion to be gone");
    }
    let error = fact.result.as_ref().and_then(|r| r.error.as_ref());
    match (fact.phase, error) {
        (ConversionPhase::Succeeded, None) => {
            notes.insert(CONVERTED.into(), fact.seen.object.uid.clone());
            notes.remove("percent");
            record(&mut next, fact, turn.world.plan.source.guest_ids);
            turn.go(next)
        }
        (ConversionPhase::Succeeded | ConversionPhase::Failed | ConversionPhase::Canceled, Some(error)) => {
            let why = explain("guest conversion", error);
            let attempts = notes.get(ATTEMPTS).and_then(|a| a.parse::<u32>().ok()).unwrap_or(0) + 1;
            if !error.retryable || attempts > turn.world.plan.worker_retries {
                return turn.fail_from(next, [why]);
            }
            notes.insert(ATTEMPTS.into(), attempts.to_string());
            notes.insert(REPLACED.into(), fact.seen.object.uid.clone());
            let effects = vec![Effect::Delete(fact.seen.object.clone())];
            turn.stay(next, effects, WaitCode::ConversionPod, format!("{why}; attempt {attempts}"))
        }
        (ConversionPhase::Failed | ConversionPhase::Canceled, None) => {
            let why = fact.message.clone().filter(|m| !m.is_empty()).unwrap_or_else(|| "see the log of its pod".into());
            turn.fail_from(next, [format!("guest conversion failed: {why}")])
        }
        (ConversionPhase::Pending, _) => {
            let why = fact.message.clone().filter(|m| !m.is_empty()).map(|m| format!(": {m}")).unwrap_or_default();
            turn.stay(next, Vec::new(), WaitCode::ConversionPod, format!("the conversion pod to start{why}"))
        }
        (ConversionPhase::Running, _) => {
            let mut message = "the guest conversion".to_owned();
            if let Some(progress) = &fact.progress {
                step.task.reason = Some(progress.phase.clone()).filter(|p| !p.is_empty());
                if let Some(percent) = progress.percent {
                    notes.insert("percent".into(), format!("{percent:.0}"));
                    message = format!("{message}: {percent:.0} %");
                }
                if let Some(text) = progress.message.as_ref().filter(|m| !m.is_empty()) {
                    message = format!("{message}: {text}");
                }
            }
            turn.stay(next, Vec::new(), WaitCode::Conversion, message)
        }
    }
}

/// The text of the first element of this name in virt-v2v-inspector's XML, whose elements have no attributes there.
fn tagged<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, after) = xml.split_once(&format!("<{name}>"))?;
    after.split_once("</").map(|(text, _)| text.trim())
}

/// Keeps what the conversion found.
fn record(next: &mut VmState, fact: &ConversionFact, guest_ids: bool) {
    let Some(result) = &fact.result else { return };
    if let Some(firmware) = result.firmware.as_ref().filter(|f| !f.is_empty()) {
        next.firmware = Some(firmware.clone());
    }
    for warning in &result.warnings {
        let text = if warning.reason.is_empty() {
            warning.message.clone()
        } else {
            format!("{}: {}", warning.reason, warning.message)
        };
        if !next.warnings.contains(&text) {
            next.warnings.push(text);
        }
    }
    if let Some(inspection) = &result.inspection {
        let text = |pointers: &[&str]| {
            let found = pointers.iter().find_map(|p| inspection.pointer(p)).and_then(Value::as_str).unwrap_or_default();
            found.to_owned()
        };
        let tag = |name: &str| inspection.as_str().and_then(|xml| tagged(xml, name)).unwrap_or_default().to_owned();
        let found =
            |pointers: &[&str], name: &str| Some(text(pointers)).filter(|t| !t.is_empty()).unwrap_or_else(|| tag(name));
        let osinfo = found(&["/osinfo", "/osInfo/osinfo"], "osinfo");
        let distro = text(&["/osInfo/distro", "/os_info/distro", "/distro", "/osInfo/name", "/os_info/name", "/name"]);
        let version = text(&["/osInfo/version", "/os_info/version", "/osInfo/major_version", "/version"]);
        let short = if osinfo.is_empty() { format!("{distro}{version}") } else { osinfo };
        if guest_ids {
            let name = found(&["/name", "/osInfo/name"], "name");
            next.operating_system = Some(os::guest_id(&short, &name).to_owned());
        } else if !short.is_empty() {
            next.operating_system = Some(short);
        }
        let boot = inspection.pointer("/bootDisk").or_else(|| inspection.pointer("/boot_disk")).and_then(Value::as_u64);
        next.detected_boot_disk = boot.and_then(|b| usize::try_from(b).ok()).or(next.detected_boot_disk);
    }
}
