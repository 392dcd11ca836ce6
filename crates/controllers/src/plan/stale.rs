//! Snapshots that lost migrations left on a plan's VMs, removed when the plan's annotation asks for it.
//!
//! Only snapshots that bear a migration's name are looked at, and none that a migration which runs has made.
use forklift_api::{Plan, annotations};
use forklift_core::machine::Machine;
use forklift_core::names::{SNAPSHOT_NAME, snapshot_prefix};
use forklift_core::plan::PlanFacts;
use forklift_core::source::Source;
use kube::ResourceExt;

use super::record;
use crate::context::Context;

/// Whether the plan asks for the removal.
pub fn wanted(plan: &Plan) -> bool {
    plan.annotations().get(annotations::REMOVE_STALE_SNAPSHOTS).is_some_and(|value| value == "true")
}

/// Starts the removal of what is left on these VMs; the inventory tells when it is done.
pub async fn remove(context: &Context, source: &dyn Source, machines: impl Iterator<Item = &Machine>) {
    let Some(snapshots) = source.snapshots() else { return };
    let in_use = prefixes(context);
    for machine in machines {
        for name in removable(&machine.traits.migration_snapshots, &in_use) {
            match snapshots.remove(&machine.identity(), name).await {
                Ok(()) => tracing::info!(vm = machine.name, name, "a snapshot of a lost migration is removed"),
                Err(error) => tracing::warn!(vm = machine.name, name, %error, "a snapshot of a lost migration stays"),
            }
        }
    }
}

/// Returns what the names of snapshots of migrations that run start with.
fn prefixes(context: &Context) -> Vec<String> {
    let plans = context.caches.plans.state();
    let running = plans.iter().filter_map(|plan| record::running(&plan.status.as_ref()?.migration));
    running
        .map(|run| snapshot_prefix(&PlanFacts { migration_uid: run.migration.uid.clone(), ..PlanFacts::default() }))
        .collect()
}

fn removable<'a>(names: &'a [String], in_use: &'a [String]) -> impl Iterator<Item = &'a str> {
    let left =
        |name: &&str| name.starts_with(SNAPSHOT_NAME) && !in_use.iter().any(|used| name.starts_with(used.as_str()));
    names.iter().map(String::as_str).filter(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_migration_uses_or_somebody_else_made_is_left_alone() {
        let names = [
            "forklift-migration-precopy-aa-1",
            "forklift-migration-precopy-bb-0",
            "backup",
            "forklift-migration-precopy",
        ]
        .map(str::to_owned);
        let in_use = ["forklift-migration-precopy-bb-".to_owned()];
        let gone: Vec<&str> = removable(&names, &in_use).collect();
        assert_eq!(gone, ["forklift-migration-precopy-aa-1", "forklift-migration-precopy"]);
    }
}
