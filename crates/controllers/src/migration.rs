//! Migration: its plan must exist and be ready; its status mirrors what the plan remembers of this run.
//!
//! ```text
//! plan not ready ─► PlanNotReady, with what keeps it ─┐
//! plan runs another ─► Pending                        ├─► (it is its turn) ─► Running ─► Succeeded | Failed | Canceled
//! plan ready ─► Ready ────────────────────────────────┘
//! ```
//! As upstream, a migration that cannot begin waits: it begins by itself when its plan is ready, and says so.
//!
//! The plan's reconciler carries the migration out; this one only tells. A migration that has ended is not looked at
//! again: the plan may by then be at its next run.
use std::sync::Arc;

use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition, Migration, Plan};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::caches::named;
use crate::context::{Context, is_set};
use crate::plan::record;
use crate::ports::{Found, Thing};
use crate::shell::apply::{owner, patch};
use crate::shell::status::{FAST, LONG, Pass, ReconcileError, SLOW, write};

/// The conditions that end a migration.
const ENDS: [&str; 3] = [types::SUCCEEDED, types::FAILED, types::CANCELED];

/// Looks at a migration.
pub async fn reconcile(migration: Arc<Migration>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    if migration.status.as_ref().is_some_and(|status| status.conditions.has_any(&ENDS) && status.timed.is_completed()) {
        return Ok(Action::await_change());
    }
    let mut pass = Pass::begin(&context.client, migration.as_ref(), jiff::Timestamp::now());
    let result = examine(&context, &mut pass).await;
    // The plan's progress is copied no more often than it is written.
    let memory = context.plan_memory(&migration.uid().unwrap_or_default());
    let (action, status) = pass.close(result)?;
    let told = migration.status.as_ref().is_some_and(|stored| stored.conditions == status.conditions);
    if told && let Some(wait) = memory.progress_waits() {
        return Ok(Action::requeue(wait.max(FAST)));
    }
    write(&context.client, migration.as_ref(), &status).await?;
    if status.conditions.has_any(&ENDS) {
        context.forget_plan(&migration.uid().unwrap_or_default());
    } else {
        memory.wrote_something();
    }
    Ok(action)
}

async fn examine(context: &Context, pass: &mut Pass<'_, Migration>) -> Result<Action, ReconcileError> {
    let migration = pass.object;
    let reference = &migration.spec.plan;
    let not_valid = |reason: &str, message: String| {
        Condition::new(types::PLAN_NOT_VALID, Category::Critical, message).reason(reason)
    };
    if !is_set(reference) {
        pass.set(not_valid(reasons::NOT_SET, "The plan is not set.".to_owned()));
        return Ok(Action::await_change());
    }
    let Some(plan) = named(&context.caches.plans, reference) else {
        let name =
            format!("{}/{}", reference.namespace.as_deref().unwrap_or(""), reference.name.as_deref().unwrap_or(""));
        pass.set(not_valid(reasons::NOT_FOUND, format!("The plan {name} was not found.")));
        return Ok(Action::requeue(SLOW));
    };
    belong(context, migration, &plan).await?;
    mirror(pass, &plan);
    if pass.conditions().has_any(&ENDS) {
        return Ok(Action::await_change());
    }
    let running = pass.conditions().has(types::RUNNING);
    if !running {
        waiting(&plan, &migration.uid().unwrap_or_default()).into_iter().for_each(|condition| pass.set(condition));
    }
    check_cancel(context, pass, &plan).await;
    if !pass.conditions().has_blocker() {
        pass.set(Condition::new(types::READY, Category::Required, "The migration is ready."));
    }
    Ok(Action::requeue(if running { LONG } else { SLOW }))
}

/// Says what a migration that has not begun waits for.
fn waiting(plan: &Plan, uid: &str) -> Option<Condition> {
    let status = plan.status.as_ref();
    let other = status.and_then(|status| record::running(&status.migration)).map(|run| &run.migration);
    if let Some(other) = other.filter(|other| other.uid != uid) {
        let message = format!("The plan is executing migration {}; this one begins when that has ended.", other.name);
        return Some(Condition::new(types::PENDING, Category::Advisory, message));
    }
    if status.is_some_and(|status| status.conditions.is_ready()) {
        return None;
    }
    let conditions = status.map(|status| &status.conditions);
    let keeps = |c: &&Condition| {
        c.is_true() && (matches!(c.category, Category::Critical | Category::Error) || c.type_ == types::VALIDATING_VDDK)
    };
    let blockers: Vec<&Condition> = conditions.into_iter().flat_map(|c| c.iter()).filter(keeps).collect();
    let (why, suggestion) = if plan.spec.archived {
        ("it is archived".to_owned(), "Delete this migration, or set `archived` of the plan to false.")
    } else if blockers.is_empty() {
        ("it has not been checked yet".to_owned(), "It begins by itself when the plan is ready.")
    } else {
        let said: Vec<&str> = blockers.iter().map(|blocker| blocker.message.trim_end_matches('.')).collect();
        (said.join("; "), "It begins by itself when the plan is ready; delete it if it shall not.")
    };
    Some(
        Condition::new(types::PLAN_NOT_READY, Category::Critical, format!("The plan is not ready: {why}."))
            .reason(reasons::NOT_FOUND)
            .suggestion(suggestion)
            .items(blockers.iter().map(|blocker| blocker.type_.clone())),
    )
}

/// Makes the plan the owner, so that deleting the plan deletes its migrations.
async fn belong(context: &Context, migration: &Migration, plan: &Plan) -> Result<(), ReconcileError> {
    let owned = migration.owner_references().iter().any(|owner| Some(&owner.uid) == plan.metadata.uid.as_ref());
    if owned || migration.namespace() != plan.namespace() {
        return Ok(());
    }
    let Some(plan) = owner(plan, false, false) else { return Ok(()) };
    let mut owners = migration.owner_references().to_vec();
    owners.push(plan);
    let api: Api<Migration> = Api::namespaced(context.client.clone(), &migration.namespace().unwrap_or_default());
    let change = json!({"metadata": {"ownerReferences": owners, "resourceVersion": migration.resource_version()}});
    patch(&api, &migration.name_any(), &change).await?;
    // The write changed the version that the status would be written at.
    Err(ReconcileError::stale())
}

/// Copies what the plan remembers of this run.
fn mirror(pass: &mut Pass<'_, Migration>, plan: &Plan) {
    let Some(record) = plan.status.as_ref().map(|status| &status.migration) else { return };
    let uid = pass.object.uid().unwrap_or_default();
    let Some(snapshot) = record.snapshot_of(&uid) else { return };
    if record.active_snapshot().is_some_and(|active| active.migration.uid == uid) {
        pass.status.vms.clone_from(&record.vms);
    }
    pass.status.timed.mark_started(pass.now);
    if snapshot.conditions.has(types::EXECUTING) {
        pass.set(Condition::new(types::RUNNING, Category::Advisory, "The migration is RUNNING."));
    }
    for end in ENDS {
        if let Some(condition) = snapshot.conditions.find(end).filter(|condition| condition.is_true()) {
            pass.set(condition.clone().durable());
            pass.status.timed.mark_completed(pass.now);
        }
    }
}

/// Says which VMs that are to be cancelled do not exist.
async fn check_cancel(context: &Context, pass: &mut Pass<'_, Migration>, plan: &Plan) {
    let Some(source) = context.caches.provider(&plan.spec.provider.source) else { return };
    let (mut missing, mut ambiguous) = (Vec::new(), Vec::new());
    for reference in &pass.object.spec.cancel {
        match context.providers().find(&source, Thing::Vm, reference).await {
            Found::None => missing.push(reference.to_string()),
            Found::Many => ambiguous.push(reference.to_string()),
            Found::One(_) | Found::NotLoaded => {}
        }
    }
    if !missing.is_empty() {
        pass.set(
            Condition::new(types::VM_NOT_FOUND, Category::Warn, "VM to be canceled not found.")
                .reason(reasons::NOT_FOUND)
                .items(missing),
        );
    }
    if !ambiguous.is_empty() {
        pass.set(
            Condition::new(types::VM_NOT_UNIQUE, Category::Warn, "VM to be canceled is ambiguous: name it by id.")
                .reason(reasons::AMBIGUOUS)
                .items(ambiguous),
        );
    }
}
