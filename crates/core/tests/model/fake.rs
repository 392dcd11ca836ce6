//! A world that obeys effects, slowly and with mishaps, and that knows the truth: what is really on the volumes, which
//! VM really is under an id, who really made an object.
use std::collections::BTreeMap;

use forklift_api::conversion::{InspectionConcern, InspectionResult};
use forklift_api::worker::{ConversionResult, ImportProgress, ImportResult, WorkerError};
use forklift_core::machine::{Machine, PowerState, VmIdentity};
use forklift_core::names;
use forklift_core::plan::itinerary::Facets;
use forklift_core::plan::world::{
    ConversionFact, ConversionPhase, GuestFact, HookFact, ImportFact, JobState, Observed, PvcFact, VmFact,
};
use forklift_core::plan::{
    Effect, EffectError, Needs, ObjectRef, PlanFacts, PlanVm, SourceFacts, TargetFacts, TargetObject,
};
use forklift_core::safety;
use forklift_core::source::{DiskDelta, SnapshotFact};

/// Small deterministic generator.
pub struct Rng(pub u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}

/// What is really on a volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bytes {
    /// A whole copy is there, be it of an earlier round.
    base: bool,
    /// The last importer ended well, whatever its source did meanwhile.
    finished: bool,
    /// All of it was copied and read back, from a source that stood still.
    pub good: bool,
    /// The copy is of the moment after the source went off.
    pub last: bool,
    pub converted: bool,
}

#[derive(Clone, Debug)]
pub struct Object {
    pub made: TargetObject,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub foreign: bool,
    visible_at: u64,
    gone_at: Option<u64>,
    pub owners: Vec<String>,
    pub bytes: Bytes,
    job: Job,
}

/// The course of a Job or Conversion, decided when it is created.
#[derive(Clone, Debug, Default)]
struct Job {
    done_at: u64,
    ending: Ending,
    dirty: bool,
    ended: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Ending {
    #[default]
    Good,
    Retryable,
    Permanent,
    /// The Job is reported as succeeded, but nobody knows how: the bytes were not verified.
    Lost,
    /// Ended by somebody.
    Canceled,
}

/// What is the matter with the guest, which only an inspection finds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Trouble {
    #[default]
    None,
    /// A concern that is told, and no more.
    Small,
    /// A concern with which it must not be migrated.
    Grave,
}

/// What the target's Windows guest does after its first start, in ticks.
#[derive(Clone, Debug, Default)]
pub struct Guest {
    begun: u64,
    boot: u64,
    /// When it installs its agent; 0 for never.
    agent: u64,
    /// When it restarts, in order.
    restarts: Vec<u64>,
    /// How long a restart takes.
    down: u64,
    /// The VM is another instance after each restart.
    replaced: bool,
}

impl Guest {
    fn drawn(rng: &mut Rng, now: u64) -> Self {
        let boot = 1 + rng.below(10);
        let agent = if rng.chance(200) { 0 } else { boot + 5 + rng.below(60) };
        let mut at = boot.max(agent);
        let restarts = (0..rng.below(3))
            .map(|_| {
                at += 61 + rng.below(200);
                at
            })
            .collect();
        Self { begun: now, boot, agent, restarts, down: 1 + rng.below(30), replaced: rng.chance(300) }
    }

    fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.begun)
    }

    /// Whether it has something to do yet, or is in the middle of it.
    fn busy(&self, now: u64) -> bool {
        let over = self.restarts.first().copied().unwrap_or(self.agent) + self.down;
        self.age(now) <= over.max(self.boot)
    }

    fn fact(&self, now: u64) -> Option<GuestFact> {
        let age = self.age(now);
        let done = self.restarts.iter().filter(|at| age >= **at + self.down).count();
        let down = self.restarts.iter().any(|at| (*at..at + self.down).contains(&age));
        if age < self.boot || (down && self.replaced) {
            return None;
        }
        let uid = if self.replaced { format!("vmi-{done}") } else { "vmi".into() };
        Some(GuestFact { uid, running: true, agent: self.agent > 0 && age >= self.agent && !down })
    }
}

#[derive(Clone, Debug)]
pub struct Snapshot {
    pub ready_at: u64,
    pub gone_at: Option<u64>,
    /// Taken while the source was off.
    pub off: bool,
}

pub struct Fake {
    pub tick: u64,
    pub rng: Rng,
    pub plan: PlanFacts,
    pub vm: PlanVm,
    pub machine: Machine,
    /// The source VM is on (if the source has power at all).
    pub on: bool,
    off_at: Option<u64>,
    /// Another VM took the id: its identity.
    pub swapped: bool,
    pub away_until: u64,
    /// Nothing goes wrong by chance.
    pub lucky: bool,
    /// The next Job ends with a permanent error.
    pub spoil: bool,
    pub snapshots: BTreeMap<String, Snapshot>,
    pub objects: Vec<Object>,
    serial: u64,
    /// Rules that were broken, in words.
    pub broken: Vec<String>,
    /// What an inspection will find.
    pub trouble: Trouble,
    /// An inspection has looked at the guest, in this run.
    pub inspected: bool,
    /// What the target's guest does, from the creation of the VM.
    pub guest: Option<Guest>,
}

impl Fake {
    pub fn new(rng: Rng, plan: PlanFacts, vm: PlanVm, machine: Machine) -> Self {
        let on = plan.source.power && machine.power == PowerState::On;
        Self {
            tick: 0,
            rng,
            plan,
            vm,
            machine,
            on,
            off_at: None,
            swapped: false,
            away_until: 0,
            lucky: false,
            spoil: false,
            snapshots: BTreeMap::new(),
            objects: Vec::new(),
            serial: 0,
            broken: Vec::new(),
            trouble: Trouble::None,
            inspected: false,
            guest: None,
        }
    }

    fn break_rule(&mut self, text: impl Into<String>) {
        self.broken.push(text.into());
    }

    /// Time goes by: jobs run, deletions happen, guests shut down.
    pub fn advance(&mut self) {
        self.tick += 1;
        let now = self.tick;
        if self.off_at.is_some_and(|at| at <= now) {
            self.on = false;
            self.off_at = None;
        }
        self.snapshots.retain(|_, s| s.gone_at.is_none_or(|at| at > now));
        self.objects.retain(|o| o.gone_at.is_none_or(|at| at > now));
        for at in 0..self.objects.len() {
            self.run_job(at);
        }
    }

    fn run_job(&mut self, at: usize) {
        let object = &self.objects[at];
        if object.job.ended || object.foreign {
            return;
        }
        let import = object.made.kind == "Job" && object.labels.get("forklift.app").is_some_and(|a| a == "importer");
        let warm = self.plan.source.warm;
        let round: usize = object.labels.get("round").and_then(|r| r.parse().ok()).unwrap_or(0);
        let snapshot = self.snapshots.get(&names::snapshot(&self.plan, round)).cloned();
        let moving = if warm { snapshot.as_ref().is_none_or(|s| s.ready_at > self.tick) } else { self.on };
        let last = if warm { snapshot.as_ref().is_some_and(|s| s.off) } else { !self.on };
        let claim = claim_of(&object.made);
        let object = &mut self.objects[at];
        object.job.dirty |= import && moving;
        if object.job.done_at > self.tick || !matches!(object.made.kind.as_str(), "Job" | "Conversion") {
            return;
        }
        object.job.ended = true;
        let (good, dirty) = (object.job.ending == Ending::Good, object.job.dirty);
        if import {
            // before the first volume is good, or when a round is added to it
            if let Some(volume) = self
                .objects
                .iter_mut()
                .find(|o| Some(&o.made.name) == claim.as_ref() && o.made.kind == "PersistentVolumeClaim")
            {
                let base = volume.bytes.base;
                let copied = good && !dirty && (round == 0 || base);
                volume.bytes = Bytes {
                    base: base || copied,
                    finished: good,
                    good: copied,
                    last: copied && last,
                    converted: false,
                };
            }
        } else if is_inspection(&self.objects[at].made) {
            self.inspected |= good && self.objects[at].current();
        } else if self.objects[at].made.kind == "Conversion" && good && self.objects[at].current() {
            let mut spoiled = false;
            for volume in self.objects.iter_mut().filter(|o| o.made.kind == "PersistentVolumeClaim" && o.current()) {
                spoiled |= !volume.bytes.finished;
                volume.bytes.converted = true;
            }
            if spoiled {
                self.break_rule("a conversion ran on volumes that were not copied");
            }
        }
    }

    /// Puts an object there without asking anybody.
    pub fn plant(&mut self, json: serde_json::Value, foreign: bool) -> String {
        let made = TargetObject::new(json);
        self.serial += 1;
        let uid = format!("uid-{}", self.serial);
        let labels = labels_of(&made);
        let ending = match self.rng.below(100) {
            0..3 => Ending::Permanent,
            3..8 => Ending::Retryable,
            8..11 if made.kind == "Job" => Ending::Lost,
            8..16 if is_inspection(&made) => Ending::Canceled,
            _ => Ending::Good,
        };
        let ending = match (std::mem::take(&mut self.spoil), self.lucky) {
            (true, _) => Ending::Permanent,
            (false, true) => Ending::Good,
            (false, false) => ending,
        };
        let job = Job { done_at: self.tick + 1 + self.rng.below(16), ending, ..Job::default() };
        let visible_at = if self.tick == 0 { 0 } else { self.tick + self.rng.below(3) };
        self.objects.push(Object {
            made,
            uid: uid.clone(),
            labels,
            foreign,
            visible_at,
            gone_at: None,
            owners: Vec::new(),
            bytes: Bytes::default(),
            job,
        });
        uid
    }

    fn find(&self, kind: &str, name: &str) -> Option<usize> {
        self.objects.iter().position(|o| o.made.kind == kind && o.made.name == name)
    }

    /// Obeys an effect; doing it twice changes nothing more.
    pub fn apply(&mut self, effect: &Effect) -> Result<(), EffectError> {
        match effect {
            Effect::Ensure(object) => self.ensure(object),
            Effect::CopySecret { to, .. } | Effect::CopyConfigMap { to, .. } => self.ensure(to),
            Effect::Adopt { object, owner } => {
                if let Some(at) = self.find(&object.kind, &object.name).filter(|at| self.objects[*at].uid == object.uid)
                {
                    if self.objects[at].foreign {
                        self.break_rule(format!("a foreign {object} was changed"));
                    }
                    let owners = &mut self.objects[at].owners;
                    if !owners.contains(&owner.uid) {
                        owners.push(owner.uid.clone());
                    }
                }
                Ok(())
            }
            Effect::Delete(object) => {
                self.delete(object);
                Ok(())
            }
            Effect::PowerOff(vm) => {
                self.reached()?;
                self.is_planned(vm, "off");
                if self.on && self.off_at.is_none() {
                    self.off_at = Some(self.tick + 1 + self.rng.below(12));
                }
                Ok(())
            }
            Effect::PowerOn(vm) => {
                self.reached()?;
                self.is_planned(vm, "on");
                if self.objects.iter().any(|o| o.made.kind == "VirtualMachine" && !o.foreign) {
                    self.break_rule("the source was switched on although the target exists");
                }
                self.on = true;
                self.off_at = None;
                Ok(())
            }
            Effect::EnsureSnapshot { vm, name } => {
                self.reached()?;
                self.is_planned(vm, "to be a snapshot");
                let snapshot = Snapshot { ready_at: self.tick + self.rng.below(3), gone_at: None, off: !self.on };
                self.snapshots.entry(name.clone()).or_insert(snapshot);
                Ok(())
            }
            Effect::RemoveSnapshot { vm, name } => {
                self.reached()?;
                self.is_planned(vm, "without a snapshot");
                let gone = self.tick + 1 + self.rng.below(3);
                if let Some(snapshot) = self.snapshots.get_mut(name) {
                    snapshot.gone_at.get_or_insert(gone);
                }
                Ok(())
            }
            Effect::Event { .. } => Ok(()),
        }
    }

    fn reached(&self) -> Result<(), EffectError> {
        if self.away_until > self.tick { Err(EffectError::Unavailable("source".into())) } else { Ok(()) }
    }

    fn is_planned(&mut self, vm: &VmIdentity, what: &str) {
        if self.swapped || *vm != self.machine.identity() {
            self.break_rule(format!("another VM than the planned one was told {what}"));
        }
    }

    fn ensure(&mut self, object: &TargetObject) -> Result<(), EffectError> {
        if let Some(at) = self.find(&object.kind, &object.name) {
            let same = safety::is_same(object, &self.objects[at].labels) && self.objects[at].gone_at.is_none();
            return if same {
                Ok(())
            } else if self.objects[at].gone_at.is_some() {
                Err(EffectError::Conflict(format!("{} is being deleted", object.name)))
            } else {
                Err(EffectError::NotOurs(object.name.clone()))
            };
        }
        if object.kind == "VirtualMachine" {
            self.check_new_vm();
            if self.guest.is_none() && Facets::of(&self.plan, &self.vm, Some(&self.machine)).reboots {
                self.guest = Some(Guest::drawn(&mut self.rng, self.tick));
            }
        }
        if object.kind == "PersistentVolumeClaim" && Facets::of(&self.plan, &self.vm, Some(&self.machine)).preflight {
            if !self.inspected {
                self.break_rule("a volume was made before the guest was inspected");
            }
            if self.trouble == Trouble::Grave {
                self.break_rule("a volume was made for a guest that must not be migrated");
            }
        }
        self.plant(object.json.clone(), false);
        Ok(())
    }

    fn check_new_vm(&mut self) {
        if self.plan.source.power && self.on && !self.swapped {
            self.break_rule("the target was created while the source runs");
        }
        let converts = self.plan.source.conversion && !self.plan.options.skip_guest_conversion;
        let volumes: Vec<_> = self
            .objects
            .iter()
            .filter(|o| o.made.kind == "PersistentVolumeClaim" && o.current() && o.gone_at.is_none())
            .collect();
        let wrong = |rule: &dyn Fn(&Bytes) -> bool| {
            volumes.iter().any(|v| !rule(&v.bytes)) || volumes.len() < self.machine.disks.len()
        };
        let findings = [
            (wrong(&|b| b.good), "the target was created on bytes that were not verified"),
            (wrong(&|b| b.last), "the target was created on a copy older than the source's last write"),
            (converts && wrong(&|b| b.converted), "the target was created on a guest that was not converted"),
        ];
        findings.into_iter().filter(|(is, _)| *is).for_each(|(_, text)| self.broken.push(text.to_owned()));
    }

    fn delete(&mut self, object: &ObjectRef) {
        let Some(at) = self.find(&object.kind, &object.name) else { return };
        // a precondition on the UID: another object of this name is not meant
        if self.objects[at].uid != object.uid {
            return;
        }
        if self.objects[at].foreign {
            self.break_rule(format!("a foreign {object} was deleted"));
        }
        let gone = self.tick + self.rng.below(4);
        self.objects[at].gone_at.get_or_insert(gone);
    }

    /// What the source says, as far as it was asked.
    pub fn source(&self, needs: Needs) -> SourceFacts {
        let mut facts = SourceFacts::default();
        if !(needs.power || needs.snapshots) {
            return facts;
        }
        if self.away_until > self.tick {
            facts.unreachable = Some("connection refused".into());
            return facts;
        }
        if needs.power && self.plan.source.power {
            let mut identity = self.machine.identity();
            if self.swapped {
                identity.uuid = "of-another-vm".into();
            }
            facts.identity = Some(identity);
            facts.power = if self.on || self.swapped { PowerState::On } else { PowerState::Off };
        }
        if needs.snapshots {
            let delta = |name: &str| DiskDelta { disk: "d".into(), delta_id: name.to_owned() };
            facts.snapshots = self
                .snapshots
                .iter()
                .map(|(name, s)| SnapshotFact {
                    name: name.clone(),
                    id: format!("ref-{name}"),
                    ready: s.ready_at <= self.tick,
                    deltas: vec![delta(name)],
                })
                .collect();
        }
        facts
    }

    /// What the target shows, as far as it was asked.
    pub fn target(&self, needs: Needs, name: &str) -> TargetFacts {
        let mut facts = TargetFacts {
            namespace: self.find("Namespace", &self.plan.target_namespace).is_some(),
            ..TargetFacts::default()
        };
        if !needs.target {
            return facts;
        }
        for object in self.objects.iter().filter(|o| o.visible_at <= self.tick) {
            let seen = self.observed(object);
            let of_vm = seen.plan_uid == self.plan.uid && seen.vm_id == self.vm.id;
            if needs.labelled && of_vm {
                facts.labelled.push(seen.clone());
            }
            let note = |key: &str| {
                object
                    .made
                    .json
                    .pointer("/metadata/annotations")
                    .and_then(|a| a.get(key))
                    .and_then(|v| v.as_str())
                    .unwrap_or_default()
                    .to_owned()
            };
            let disk = note("forklift.konveyor.io/disk-source");
            match object.made.kind.as_str() {
                "VirtualMachine" => {
                    if object.made.name == name {
                        facts.vm = Some(VmFact { seen, ..VmFact::default() });
                    }
                }
                "PersistentVolumeClaim" if of_vm => facts.pvcs.push(PvcFact {
                    seen,
                    disk,
                    phase: "Bound".into(),
                    owners: object.owners.clone(),
                    volume_mode: "Filesystem".into(),
                    message: None,
                }),
                "Job" if of_vm && object.labels.contains_key("step") => facts.hooks.push(HookFact {
                    seen,
                    step: object.labels["step"].clone(),
                    state: self.job_state(object),
                    failed: 0,
                    message: None,
                }),
                "Job" if of_vm => facts.imports.push(self.import(object, seen, disk, needs)),
                "Conversion" if of_vm && is_inspection(&object.made) => {
                    facts.inspection = Some(self.inspection(object, seen));
                }
                "Conversion" if of_vm => facts.conversion = Some(self.conversion(object, seen)),
                _ => {}
            }
        }
        if needs.guest {
            facts.guest = self.guest.as_ref().and_then(|guest| guest.fact(self.tick));
        }
        facts
    }

    /// Whether the target's guest is in the middle of what it does at its first starts.
    pub fn guest_is_busy(&self) -> bool {
        self.guest.as_ref().is_some_and(|guest| guest.busy(self.tick))
    }

    fn inspection(&self, object: &Object, seen: Observed) -> ConversionFact {
        let mut fact = self.conversion(object, seen);
        if fact.phase == ConversionPhase::Succeeded {
            let concern = |category: &str, message: &str| InspectionConcern {
                category: category.into(),
                id: "id".into(),
                label: "label".into(),
                message: message.into(),
            };
            let concerns = match self.trouble {
                Trouble::None => Vec::new(),
                Trouble::Small => {
                    vec![concern("Warning", "look at this: it matters"), concern("Information", "so it is")]
                }
                Trouble::Grave => vec![concern("Critical", "it cannot run there")],
            };
            fact.inspection = Some(InspectionResult { concerns, bytes_read: 7, ..InspectionResult::default() });
        }
        fact
    }

    fn observed(&self, object: &Object) -> Observed {
        let label = |key: &str| object.labels.get(key).cloned().unwrap_or_default();
        Observed {
            object: ObjectRef {
                api_version: object.made.api_version.clone(),
                kind: object.made.kind.clone(),
                namespace: object.made.namespace.clone(),
                name: object.made.name.clone(),
                uid: object.uid.clone(),
            },
            plan_uid: label("plan"),
            migration_uid: label("migration"),
            vm_id: label("vmID"),
            deleting: object.gone_at.is_some(),
            active: !object.job.ended,
        }
    }

    fn job_state(&self, object: &Object) -> JobState {
        match (object.job.ended, object.job.ending) {
            (false, _) => JobState::Running,
            (true, Ending::Good | Ending::Lost) => JobState::Succeeded,
            (true, Ending::Retryable | Ending::Permanent | Ending::Canceled) => JobState::Failed,
        }
    }

    fn import(&self, object: &Object, seen: Observed, disk: String, needs: Needs) -> ImportFact {
        let error = match object.job.ending {
            Ending::Good | Ending::Lost => None,
            Ending::Retryable | Ending::Canceled => Some(worker_error(true)),
            Ending::Permanent => Some(worker_error(false)),
        };
        // a dirty copy cannot be told by the importer: nobody but the order of the phases prevents it
        let result = ImportResult {
            verified: error.is_none(),
            digest: Some("blake3:00".into()),
            error,
            ..ImportResult::default()
        };
        let known = object.job.ended && object.job.ending != Ending::Lost;
        ImportFact {
            seen,
            disk,
            state: self.job_state(object),
            round: object.labels.get("round").and_then(|r| r.parse().ok()).unwrap_or(0),
            progress: needs.import_progress.then(|| ImportProgress {
                bytes_total: 100,
                bytes_done: 50,
                ..ImportProgress::default()
            }),
            result: known.then_some(result),
            restarts: 0,
            waiting: None,
        }
    }

    fn conversion(&self, object: &Object, seen: Observed) -> ConversionFact {
        let (phase, error) = match (object.job.ended, object.job.ending) {
            (false, _) => (ConversionPhase::Running, None),
            (true, Ending::Good | Ending::Lost) => (ConversionPhase::Succeeded, None),
            (true, Ending::Retryable) => (ConversionPhase::Failed, Some(worker_error(true))),
            (true, Ending::Permanent) => (ConversionPhase::Failed, Some(worker_error(false))),
            (true, Ending::Canceled) => (ConversionPhase::Canceled, None),
        };
        let result = ConversionResult { error, firmware: Some("bios".into()), ..ConversionResult::default() };
        let result = object.job.ended.then_some(result);
        ConversionFact { seen, phase, result, ..ConversionFact::default() }
    }
}

fn worker_error(retryable: bool) -> WorkerError {
    WorkerError { code: "Mishap".into(), message: "a mishap".into(), hint: Some("look".into()), retryable }
}

fn claim_of(object: &TargetObject) -> Option<String> {
    let volumes = object.json.pointer("/spec/template/spec/volumes")?.as_array()?;
    let disk = volumes.iter().find(|v| v["name"] == "disk")?;
    Some(disk["persistentVolumeClaim"]["claimName"].as_str()?.to_owned())
}

fn is_inspection(object: &TargetObject) -> bool {
    object.kind == "Conversion" && object.json["spec"]["type"] == "DeepInspection"
}

fn labels_of(object: &TargetObject) -> BTreeMap<String, String> {
    let labels = object.json.pointer("/metadata/labels").and_then(|l| l.as_object());
    labels.into_iter().flatten().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect()
}

impl Object {
    /// Whether it is of the migration that runs.
    pub fn current(&self) -> bool {
        !self.foreign && self.labels.get("migration").is_some_and(|m| m == "mig-uid")
    }

    /// Whether it is not being deleted.
    pub fn stays(&self) -> bool {
        self.gone_at.is_none()
    }

    /// Whether its Job has ended.
    pub fn job_ended(&self) -> bool {
        self.job.ended
    }
}
