//! What the checks of a plan saw of a VM, so that a change of the inventory wakes a plan only when it is one to its eyes.
//!
//! ```text
//! inventory ─ what changed in a moment ─► which plans' VMs depend on it? ─► do they look different now? ─► plan's queue
//!                                         └► networks, storage renamed? ─► maps' queues ─► their plans
//! ```
//! A VM's record changes with every address that its guest reports and every byte that it writes; a machine as plans see
//! it changes seldom.
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::Arc;

use forklift_api::{Plan, Provider};
use forklift_core::machine::Machine;
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::ResourceExt;

use super::record;
use super::vms::{Lookup, look_up};
use crate::caches::refers;
use crate::context::Context;
use crate::ports::Changed;

/// What was seen of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Digest of the machine, or of why there is none.
    digest: u64,
    /// Ids of what it is made of: the VM, its host, networks and storage, VMs that share its disks.
    made_of: Vec<String>,
}

impl Sight {
    /// Returns what is seen of a look-up.
    pub fn of(found: &Result<Machine, Lookup>) -> Self {
        let machine = match found {
            Ok(machine) => machine,
            Err(lookup) => return Self { digest: digest(&format!("{lookup:?}")), made_of: Vec::new() },
        };
        let ids = [&machine.id, &machine.host].into_iter();
        let ids = ids.chain(machine.nics.iter().map(|nic| &nic.network.id));
        let ids = ids.chain(machine.disks.iter().map(|disk| &disk.storage.id));
        let ids = ids.chain(machine.disks.iter().flat_map(|disk| &disk.users).map(|user| &user.id));
        let mut made_of: Vec<String> = ids.filter(|id| !id.is_empty()).cloned().collect();
        made_of.sort_unstable();
        made_of.dedup();
        Self { digest: digest(machine), made_of }
    }

    fn is_touched(&self, changed: &Changed) -> bool {
        self.made_of.iter().any(|id| changed.ids.contains(id.as_str()))
    }
}

fn digest(value: &impl serde::Serialize) -> u64 {
    struct Digest(DefaultHasher);
    impl io::Write for Digest {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut digest = Digest(DefaultHasher::new());
    // machines are plain data: there is nothing in them that JSON does not have
    let _ = serde_json::to_writer(&mut digest, value);
    digest.0.finish()
}

/// Has plans and maps looked at as soon as the inventory of their source changes for them, until the inventory ends.
pub async fn follow(context: &Context, provider: &Provider, mut changes: BoxStream<'static, Changed>) {
    // what changed between the passes so far and now was told to nobody
    wake(context, provider, &Changed { all: true, ..Changed::default() }).await;
    while let Some(changed) = changes.next().await {
        wake(context, provider, &changed).await;
    }
}

async fn wake(context: &Context, provider: &Provider, changed: &Changed) {
    let caches = &context.caches;
    if changed.networks || changed.all {
        for map in caches.network_maps.state().iter().filter(|map| refers(&map.spec.provider.source, provider)) {
            context.queues.network_maps.push(&map.namespace().unwrap_or_default(), &map.name_any());
        }
    }
    if changed.storage || changed.all {
        for map in caches.storage_maps.state().iter().filter(|map| refers(&map.spec.provider.source, provider)) {
            context.queues.storage_maps.push(&map.namespace().unwrap_or_default(), &map.name_any());
        }
    }
    for plan in caches.plans.state() {
        if is_concerned(context, provider, &plan, changed).await {
            context.queues.plans.push(&plan.namespace().unwrap_or_default(), &plan.name_any());
        }
    }
}

/// Whether the VMs of a plan look different to it now. Plans that were not checked yet are about to be, and those that
/// run ask the inventory themselves.
async fn is_concerned(context: &Context, provider: &Provider, plan: &Arc<Plan>, changed: &Changed) -> bool {
    let runs = || plan.status.as_ref().is_some_and(|status| record::running(&status.migration).is_some());
    if !refers(&plan.spec.provider.source, provider) || plan.spec.archived || runs() {
        return false;
    }
    let memory = context.plan_memory(&plan.uid().unwrap_or_default());
    let mut port = None;
    for (reference, seen) in memory.seen().iter() {
        if !changed.names(reference) && !seen.is_touched(changed) {
            continue;
        }
        let port = port.get_or_insert_with(|| context.providers().source(provider).ok());
        let now = Sight::of(&look_up(context, Some(provider), port.as_deref(), reference).await);
        if now != *seen {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use forklift_core::machine::{Disk, DiskUser, Nic, PowerState, ResourceRef};

    use super::*;

    fn machine() -> Machine {
        let users = vec![DiskUser { id: "vm-2".into(), ..DiskUser::default() }];
        let storage = ResourceRef::new("ds-1", "ds");
        Machine {
            id: "vm-1".into(),
            name: "web".into(),
            host: "host-1".into(),
            nics: vec![Nic { network: ResourceRef::new("net-1", "lan"), ..Nic::default() }],
            disks: vec![
                Disk { storage: storage.clone(), users, ..Disk::default() },
                Disk { storage, ..Disk::default() },
            ],
            ..Machine::default()
        }
    }

    fn changed(ids: &[&str]) -> Changed {
        Changed { ids: ids.iter().map(|id| Arc::from(*id)).collect(), ..Changed::default() }
    }

    #[test]
    fn a_machine_is_made_of_more_than_itself() {
        let seen = Sight::of(&Ok(machine()));
        assert_eq!(seen.made_of, ["ds-1", "host-1", "net-1", "vm-1", "vm-2"]);
        for id in ["vm-1", "vm-2", "host-1", "net-1", "ds-1"] {
            assert!(seen.is_touched(&changed(&["vm-9", id])), "{id}");
        }
        assert!(!seen.is_touched(&changed(&["vm-9", "host-2"])));
    }

    #[test]
    fn only_what_plans_see_makes_a_difference() {
        let seen = Sight::of(&Ok(machine()));
        assert_eq!(Sight::of(&Ok(machine())), seen);
        assert_ne!(Sight::of(&Ok(Machine { power: PowerState::Off, ..machine() })), seen);
        assert_ne!(Sight::of(&Err(Lookup::Missing)), seen);
        assert_ne!(Sight::of(&Err(Lookup::Missing)), Sight::of(&Err(Lookup::Ambiguous)));
    }
}
