//! Carrying a plan out: which run is active, whose turn it is, one turn of every VM that runs, the end.
//!
//! ```text
//! active run? ─no─► a Migration waits? ─► VMs read at the source, checked anew ─► begin ─┐
//!      └─yes─────────────────────────────────────────────────────────────────────────────┴─► start VMs while there is room ─► turns ─► all completed? ─► end
//! blocked: nothing starts or moves; after the grace period what runs fails, and is put in order
//! ```
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use forklift_api::condition::{reasons, types};
use forklift_api::plan::{PlanVM, VMStatus};
use forklift_api::{Category, Condition, Migration, Plan};
use forklift_core::machine::Machine;
use forklift_core::plan::run::{self, Active, Blocker};
use forklift_core::plan::schedule::{Queued, Sharing, cost, held_back, held_message, pending_message, waiting_message};
use forklift_core::plan::{CancelReason, PlanFacts, PlanVm, Recheck, VmState};
use forklift_core::source::Source;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::facts::{Named, resolve, resolve_vm};
use super::observe::Children;
use super::record::{self, Beginning, mark};
use super::vm::{Turn, advance};
use crate::context::Context;
use crate::shell::status::{FAST, LONG, Pass, SLOW};

/// VMs that are observed and acted for at a time.
const AT_ONCE: usize = 32;

/// One pass of a run.
struct Run<'a> {
    context: &'a Context,
    named: &'a Named,
    facts: PlanFacts,
    migration: Option<Arc<Migration>>,
    source: Option<Arc<dyn Source>>,
    /// Why the whole run has to end.
    broken: Option<CancelReason>,
    /// The plan is blocked: only what has its outcome already is put in order.
    blocked: bool,
}

/// Carries the plan out as far as it goes now.
pub async fn execute(context: &Context, pass: &mut Pass<'_, Plan>, named: &Named, mut facts: PlanFacts) -> Action {
    let plan = pass.object;
    let blocked = pass.conditions().has_blocker() || pass.conditions().awaits_answer();
    let all = context.caches.migrations.state();
    let migrations: Vec<&Migration> = all.iter().map(Arc::as_ref).collect();
    let active = record::active(plan, &pass.status.migration, named, &migrations, facts.kind);
    let (uid, broken) = match active {
        Active::None => return idle(pass),
        Active::Begin(_) if blocked => return Action::requeue(SLOW),
        Active::Begin(fact) => {
            let Some(migration) = all.iter().find(|migration| migration.uid().as_deref() == Some(fact.uid.as_str()))
            else {
                return Action::requeue(FAST);
            };
            if !read_anew(context, pass, named, &fact.uid).await {
                return Action::requeue(if pass.conditions().has_blocker() { SLOW } else { Duration::ZERO });
            }
            begin(context, pass, named, migration).await;
            if record::running(&pass.status.migration).is_none() {
                return Action::requeue(FAST);
            }
            (fact.uid, None)
        }
        Active::Running { migration } => (migration, None),
        Active::Cancel { migration, reason } => (migration, Some(reason)),
    };
    let migration = all.iter().find(|migration| migration.uid().as_deref() == Some(uid.as_str())).cloned();
    if let Some(snapshot) = record::running(&pass.status.migration) {
        facts.migration_uid.clone_from(&snapshot.migration.uid);
        facts.migration_name.clone_from(&snapshot.migration.name);
    }
    systems(context, plan, &pass.status.migration.vms, &mut facts).await;
    facts.resume_conversion = migration.as_ref().is_some_and(|migration| migration.spec.resume_conversion);
    if blocked {
        fail_after_grace(context, pass);
    }
    let source = named.source.as_deref().and_then(|source| context.providers().source(source).ok());
    let run = Run { context, named, facts, migration, source, broken, blocked };
    let next = run.turns(pass).await;
    if let Some(outcome) = record::end(&mut pass.status.migration, broken, pass.now) {
        context.release_slots(&run.facts.uid);
        pass.remove(types::EXECUTING);
        pass.set(mark(outcome, None));
        tracing::info!(plan = plan.name_any(), outcome, "the run has ended");
        return Action::requeue(FAST);
    }
    pass.set(mark(types::EXECUTING, None));
    Action::requeue(next)
}

/// Looks what the target has for the systems of VMs that are not made yet: preferences, instance types, templates.
async fn systems(context: &Context, plan: &Plan, vms: &[VMStatus], facts: &mut PlanFacts) {
    if !vms.iter().any(|vm| vm.timed.is_running()) {
        return;
    }
    let namespace = facts.target_namespace.clone();
    if plan.spec.vms.iter().any(|vm| !vm.instance_type.is_empty()) {
        facts.instance_types = context.preferences.instance_types(context, &namespace).await;
    }
    if !facts.source.guest_ids {
        return;
    }
    facts.preferences = context.preferences.of(context, &namespace).await;
    let states = vms.iter().filter(|vm| vm.timed.is_running()).filter_map(|vm| VmState::from_status(vm).ok());
    let systems: BTreeSet<String> = states.filter_map(|state| state.operating_system).collect();
    for system in systems {
        if !facts.preferences.contains_key(&system)
            && let Some(template) = context.preferences.template(context, &system).await
        {
            facts.templates.insert(system, template);
        }
    }
}

/// Cancels the active run: one pass of putting things in order.
pub async fn cancel_all(context: &Context, pass: &mut Pass<'_, Plan>, named: &Named) {
    let mut facts = resolve(context, pass.object, named, None).await;
    if let Some(snapshot) = record::running(&pass.status.migration) {
        facts.migration_uid.clone_from(&snapshot.migration.uid);
        facts.migration_name.clone_from(&snapshot.migration.name);
    }
    let source = named.source.as_deref().and_then(|source| context.providers().source(source).ok());
    let broken = Some(CancelReason::UserRequested);
    let run = Run { context, named, facts, migration: None, source, broken, blocked: false };
    run.turns(pass).await;
    if let Some(outcome) = record::end(&mut pass.status.migration, broken, pass.now) {
        context.release_slots(&run.facts.uid);
        pass.remove(types::EXECUTING);
        pass.set(mark(outcome, None));
    }
}

/// Nothing runs and nobody waits.
fn idle(pass: &mut Pass<'_, Plan>) -> Action {
    pass.remove(types::EXECUTING);
    let failed = pass.conditions().has(types::FAILED);
    let resumable = pass.status.migration.vms.iter().any(|vm| vm.disks_copied && vm.conditions.has(types::FAILED));
    if failed && resumable {
        let message = "Disks are copied and only the conversion failed: it can be resumed without copying again.";
        pass.set(Condition::new(types::CONVERSION_RESUMABLE, Category::Advisory, message).durable());
    } else {
        pass.remove(types::CONVERSION_RESUMABLE);
    }
    Action::requeue(LONG)
}

/// Fails what runs when the plan has been blocked for longer than the grace period.
fn fail_after_grace(context: &Context, pass: &mut Pass<'_, Plan>) {
    let now = pass.now;
    let blockers: Vec<Blocker> = pass
        .conditions()
        .iter()
        .filter(|condition| condition.is_true() && matches!(condition.category, Category::Critical | Category::Error))
        .map(|condition| Blocker { message: condition.message.clone(), since: condition.last_transition_time.0 })
        .collect();
    let grace = i64::try_from(context.config.settings.blocker_grace_period_minutes.get()).unwrap_or(i64::MAX);
    let Some(reason) = run::blocked(&blockers, now, grace.saturating_mul(60)) else { return };
    for vm in pass.status.migration.vms.iter_mut().filter(|vm| !vm.timed.is_completed()) {
        let Ok(mut state) = VmState::from_status(vm) else { continue };
        run::fail_blocked(&mut state, &reason, now);
        state.started.get_or_insert(now);
        if let Ok(status) = state.to_status(vm, now) {
            *vm = status;
        }
    }
}

/// Returns whether this pass has checked the VMs as they are at the source. If not, they are read there, for the next
/// pass to check: an inventory that lags behind must not start anything.
async fn read_anew(context: &Context, pass: &mut Pass<'_, Plan>, named: &Named, migration_uid: &str) -> bool {
    let plan = pass.object;
    let memory = context.plan_memory(&plan.uid().unwrap_or_default());
    if memory.take_fresh(migration_uid) {
        return true;
    }
    let Some(source) = named.source.as_deref() else { return true };
    let mut ids = Vec::with_capacity(plan.spec.vms.len());
    for vm in &plan.spec.vms {
        ids.push(resolve_vm(context, plan, Some(source), vm).await.id);
    }
    match context.providers().fresh(source, &ids).await {
        Ok(()) => memory.note_fresh(migration_uid),
        Err(why) => {
            let message = format!("The VMs could not be looked at before the start: {why}.");
            let suggestion = "Nothing was begun. It is tried again until the source answers.";
            pass.remove(types::READY);
            pass.set(
                Condition::new(types::SOURCE_PROVIDER_NOT_READY, Category::Critical, message)
                    .reason(reasons::NOT_FOUND)
                    .suggestion(suggestion),
            );
        }
    }
    false
}

/// Begins a run.
async fn begin(context: &Context, pass: &mut Pass<'_, Plan>, named: &Named, migration: &Migration) {
    let plan = pass.object;
    let source = named.source.as_deref();
    let port = source.and_then(|source| context.providers().source(source).ok());
    let mut vms: Vec<(PlanVM, PlanVm)> = Vec::with_capacity(plan.spec.vms.len());
    let mut machines: HashMap<String, Machine> = HashMap::new();
    for vm in &plan.spec.vms {
        let planned = resolve_vm(context, plan, source, vm).await;
        if let Some(port) = &port
            && let Ok(machine) = port.machine(&planned.id).await
        {
            machines.insert(planned.id.clone(), machine);
        }
        vms.push((vm.clone(), planned));
    }
    for type_ in [types::FAILED, types::CANCELED, types::SUCCEEDED, types::CONVERSION_RESUMABLE] {
        pass.remove(type_);
    }
    let facts = resolve(context, plan, named, Some(migration)).await;
    for (_, planned) in &vms {
        if let Some(machine) = machines.remove(&planned.id) {
            machines.insert(planned.id.clone(), facts.migrated(planned, machine));
        }
    }
    let beginning = Beginning { plan, named, facts: &facts, migration, vms: &vms, machines: &machines, now: pass.now };
    match beginning.begin(&mut pass.status.migration) {
        Ok(()) => tracing::info!(plan = plan.name_any(), migration = migration.name_any(), "a run begins"),
        Err(error) => pass.set(Condition { message: error.to_string(), ..mark(types::FAILED, None) }),
    }
}

impl Run<'_> {
    /// Starts VMs while there is room, then lets every VM that runs take its turn. Returns when to look again.
    async fn turns(&self, pass: &mut Pass<'_, Plan>) -> Duration {
        if !self.blocked {
            self.start(pass).await;
        }
        let vms = &pass.status.migration.vms;
        let running: Vec<usize> = (0..vms.len()).filter(|&index| self.moves(&vms[index])).collect();
        let children = Children::index(self.context, &self.facts);
        let (plan, now) = (pass.object, pass.now);
        // Boxed, because the compiler cannot see otherwise that the stream of borrowed futures is Send.
        let turns: Vec<BoxFuture<'_, Option<(usize, VmState, Recheck)>>> =
            running.iter().map(|&index| self.turn(plan, index, &vms[index], &children, now).boxed()).collect();
        let results: Vec<_> = stream::iter(turns).buffer_unordered(AT_ONCE).collect().await;
        let mut soonest = SLOW;
        for (index, next, recheck) in results.into_iter().flatten() {
            soonest = soonest.min(match recheck {
                Recheck::Now | Recheck::Never => FAST,
                Recheck::After(seconds) => Duration::from_secs(seconds.max(1).into()),
            });
            let Some(vm) = pass.status.migration.vms.get_mut(index) else { continue };
            match next.to_status(vm, now) {
                Ok(status) => *vm = status,
                Err(error) => tracing::error!(vm = next.name, %error, "a VM's state cannot be stored"),
            }
        }
        soonest
    }

    /// Whether a VM has a turn in this pass.
    fn moves(&self, vm: &VMStatus) -> bool {
        vm.timed.is_running() && (!self.blocked || vm.conditions.has_any(&record::ENDS))
    }

    async fn turn(
        &self,
        plan: &Plan,
        index: usize,
        vm: &VMStatus,
        children: &Children,
        now: jiff::Timestamp,
    ) -> Option<(usize, VmState, Recheck)> {
        let state = match VmState::from_status(vm) {
            Ok(state) => state,
            Err(error) => {
                let name = &vm.reference().name;
                tracing::error!(plan = plan.name_any(), vm = name, %error, "a VM's stored state cannot be read");
                return None;
            }
        };
        let planned = match plan.spec.find_vm(vm.reference()).or_else(|| by_name(plan, vm)) {
            Some(spec) => resolve_vm(self.context, plan, self.named.source.as_deref(), spec).await,
            None => PlanVm::default(),
        };
        // The stored id stays the identity of the run, whatever plan or inventory say now.
        let planned = PlanVm { id: state.id.clone(), name: state.name.clone(), ..planned };
        let cutover = self.migration.as_ref().and_then(|migration| migration.spec.cutover_for(vm.reference()));
        let turn = Turn {
            context: self.context,
            plan,
            facts: &self.facts,
            children,
            source: self.source.as_ref(),
            cutover: cutover.map(|time| time.0),
            canceled: self.canceled(vm),
            now,
        };
        let (next, recheck) = advance(&turn, &planned, state).await;
        Some((index, next, recheck))
    }

    fn canceled(&self, vm: &VMStatus) -> Option<CancelReason> {
        let by_user = || {
            let migration = self.migration.as_ref()?;
            cancels(migration, vm).then_some(CancelReason::UserRequested)
        };
        self.broken.or_else(by_user)
    }

    /// Starts VMs while their source has room; the others are told that they wait.
    async fn start(&self, pass: &mut Pass<'_, Plan>) {
        let max = u32::try_from(self.context.config.settings.max_vm_inflight.get()).unwrap_or(u32::MAX);
        let per_disk = self.facts.source.hosts;
        let mut in_flight: BTreeMap<String, u32> = BTreeMap::new();
        let mut queue: Vec<Queued> = Vec::new();
        let held = self.held_back(pass).await;
        for vm in &pass.status.migration.vms {
            if vm.timed.is_completed() {
                continue;
            }
            let host = self.host(vm).await;
            let Ok(state) = VmState::from_status(vm) else { continue };
            let cost = cost(&state, per_disk);
            if vm.timed.is_started() {
                *in_flight.entry(host).or_default() += cost;
            } else if self.canceled(vm).is_none() && !held.contains_key(&state.id) {
                queue.push(Queued { id: state.id, host, cost });
            }
        }
        let started = self.context.take_slots(&self.facts, in_flight, &queue, max);
        let (now, mut waiting) = (pass.now, 0);
        for vm in pass.status.migration.vms.iter_mut().filter(|vm| !vm.timed.is_started()) {
            if let (Some(by), None) = (held.get(&vm.reference().id), self.canceled(vm)) {
                vm.conditions.set(Condition::new(types::PENDING, Category::Advisory, held_message(by)), now);
                continue;
            }
            // What is cancelled in the queue needs no place: it only has to be put in order.
            if started.contains(&vm.reference().id) || !queue.iter().any(|queued| queued.id == vm.reference().id) {
                vm.conditions.remove(types::PENDING);
                vm.timed.mark_started(now);
            } else {
                waiting += 1;
                vm.conditions.set(Condition::new(types::PENDING, Category::Advisory, pending_message(max)), now);
            }
        }
        if waiting > 0 && pass.conditions().is_ready() {
            pass.set(Condition::new(types::READY, Category::Required, waiting_message(waiting, max)));
        }
    }

    /// The VMs that wait for others of the plan, which copy the disks that they share.
    async fn held_back(&self, pass: &Pass<'_, Plan>) -> BTreeMap<String, Vec<String>> {
        let (spec, vms) = (&pass.object.spec, &pass.status.migration.vms);
        let copies = |vm: &VMStatus| {
            let own = spec.find_vm(vm.reference()).and_then(|vm| vm.migrate_shared_disks);
            own.unwrap_or(spec.migrate_shared_disks)
        };
        let Some(source) = self.source.as_ref().filter(|_| !vms.iter().all(copies)) else { return BTreeMap::new() };
        let mut sharing = Vec::new();
        for vm in vms {
            let Ok(machine) = source.machine(&vm.reference().id).await else { continue };
            let disks = machine.disks.into_iter().filter(|disk| disk.shared).map(|disk| disk.key).collect();
            let (id, name) = (machine.id, machine.name);
            sharing.push(Sharing { id, name, copies: copies(vm), ended: vm.timed.is_completed(), disks });
        }
        held_back(&sharing)
    }

    /// The host that counts for the limit; sources without hosts are counted as a whole.
    async fn host(&self, vm: &VMStatus) -> String {
        match &self.source {
            Some(source) if self.facts.source.hosts => {
                source.machine(&vm.reference().id).await.map(|machine| machine.host).unwrap_or_default()
            }
            Some(_) | None => String::new(),
        }
    }
}

fn by_name<'a>(plan: &'a Plan, vm: &VMStatus) -> Option<&'a PlanVM> {
    plan.spec.vms.iter().find(|spec| spec.reference.id.is_empty() && spec.reference.name == vm.reference().name)
}

fn cancels(migration: &Migration, vm: &VMStatus) -> bool {
    let reference = vm.reference();
    migration.spec.cancel.iter().any(|wanted| {
        if wanted.id.is_empty() {
            !wanted.name.is_empty() && wanted.name == reference.name
        } else {
            wanted.id == reference.id
        }
    })
}
