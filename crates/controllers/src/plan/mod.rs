//! Plan: which VMs are migrated, and their migration.
//!
//! ```text
//! validate ─► (archived? clean up) ─► Ready ─► execute: the active run, one turn of each of its VMs ─► one status write
//! ```
pub mod apply;
pub mod archive;
pub mod bandwidth;
pub mod execute;
pub mod facts;
pub mod memory;
pub mod observe;
pub mod preferences;
pub mod record;
pub mod sight;
pub mod stale;
pub mod target;
pub mod validate;
pub mod vddk;
pub mod vm;
pub mod vms;

use std::sync::Arc;
use std::time::Duration;

use forklift_api::condition::{reasons, types};
use forklift_api::plan::{PlanStatus, Progress, Task};
use forklift_api::{Category, Condition, Plan};
use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::context::Context;
use crate::shell::status::{Pass, ReconcileError, SLOW, write};

/// Looks at a plan.
pub async fn reconcile(plan: Arc<Plan>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let memory = context.plan_memory(&plan.uid().unwrap_or_default());
    let plan = memory.newest(plan);
    if plan.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let done = |type_: &str| plan.status.as_ref().is_some_and(|status| status.conditions.has(type_));
    if plan.spec.archived && done(types::ARCHIVED) {
        return Ok(Action::await_change());
    }
    let mut pass = Pass::begin(&context.client, plan.as_ref(), jiff::Timestamp::now());
    let result = examine(&context, &mut pass).await;
    let (action, status) = pass.close(result)?;
    let only_progress =
        plan.status.as_ref().is_some_and(|stored| without_progress(stored) == without_progress(&status));
    if only_progress && let Some(wait) = memory.progress_waits() {
        return Ok(Action::requeue(wait.max(Duration::from_millis(100))));
    }
    match write(&context.client, plan.as_ref(), &status).await {
        Ok(Some(written)) => memory.wrote(written),
        Ok(None) => {}
        Err(error) => {
            memory.distrust();
            return Err(error);
        }
    }
    Ok(action)
}

async fn examine(context: &Context, pass: &mut Pass<'_, Plan>) -> Result<Action, ReconcileError> {
    let plan = pass.object;
    let named = facts::Named::of(context, plan);
    if plan.spec.archived {
        return archive_plan(context, pass, &named).await;
    }
    pass.remove(types::ARCHIVED);
    let facts = facts::resolve(context, plan, &named, None).await;
    let checked = validate::validate(context, pass, &named, &facts).await?;
    if checked && !pass.conditions().has_blocker() && !pass.conditions().has(types::VALIDATING_VDDK) {
        pass.set(Condition::new(types::READY, Category::Required, "The migration plan is ready."));
    }
    let removes = stale::wanted(plan) && pass.conditions().has(types::STALE_SNAPSHOTS);
    let action = execute::execute(context, pass, &named, facts).await;
    bandwidth::divide(context).await;
    // the inventory tells soon that they are gone
    Ok(if removes && !pass.conditions().has(types::EXECUTING) { Action::requeue(SLOW) } else { action })
}

/// Archives: what runs is cancelled first, then what helped to migrate goes.
async fn archive_plan(
    context: &Context,
    pass: &mut Pass<'_, Plan>,
    named: &facts::Named,
) -> Result<Action, ReconcileError> {
    if record::running(&pass.status.migration).is_some() {
        execute::cancel_all(context, pass, named).await;
        if record::running(&pass.status.migration).is_some() {
            return Ok(Action::requeue(SLOW));
        }
    }
    let errors = archive::archive(context, pass.object).await;
    for error in &errors {
        tracing::warn!(plan = pass.object.name_any(), %error, "an object of an archived plan could not be removed");
    }
    let archived = Condition::new(types::ARCHIVED, Category::Advisory, "The migration plan has been archived.");
    pass.set(archived.reason(reasons::USER_REQUESTED));
    Ok(Action::await_change())
}

/// Returns a status without what changes all the time while disks are copied.
fn without_progress(status: &PlanStatus) -> PlanStatus {
    let mut status = status.clone();
    let still = |task: &mut Task| {
        task.progress = Progress::default();
        task.annotations.clear();
        task.reason.clear();
    };
    for vm in &mut status.migration.vms {
        for step in &mut vm.pipeline {
            still(&mut step.task);
            step.tasks.iter_mut().for_each(still);
        }
        if let Some(waiting) = &mut vm.waiting_on {
            waiting.message.clear();
        }
    }
    status
}
