//! Plan: which VMs are migrated, and their migration.
pub mod apply;
pub mod archive;
pub mod facts;
pub mod memory;
pub mod observe;

use std::sync::Arc;
use forklift_api::Plan;
use kube::runtime::controller::Action;
use crate::context::Context;
use crate::shell::status::ReconcileError;

/// Looks at a plan.
pub async fn reconcile(_plan: Arc<Plan>, _context: Arc<Context>) -> Result<Action, ReconcileError> {
    Ok(Action::await_change())
}
