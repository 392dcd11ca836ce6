//! Decides whether a history can be that of one store that loses nothing: the way of etcd's robustness tests
//! (<https://github.com/etcd-io/etcd/tree/main/tests/robustness>).
//!
//! The union of all watch events is the order in which the store says that things happened. Every acknowledged write
//! must be in it once, at its revision; every read must be a state of it that was current while the read ran; every
//! watcher must have seen all of its part, once, in order. Revisions are the linearization: what was complete before
//! an operation began bounds it from below, what began after it ended bounds it from above.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::history::{Action, Event, History, Item, Kind, Operation, Outcome, Seen, Time, Tokens};

/// What no such store can show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged write is not in the history.
    LostWrite(String),
    /// A revision stands for two things, or a later write got a smaller one.
    RevisionReused(String),
    /// A watcher missed an event between two that it saw.
    WatchGap(String),
    /// A watcher saw an older event after a newer one.
    WatchOrder(String),
    /// A watcher saw an event twice.
    DuplicateEvent(String),
    /// An event's kind does not fit what was there before.
    WrongKind(String),
    /// A read shows what was known to be over, or what had not begun.
    StaleRead(String),
    /// A read or an event shows what nobody wrote, or a state that never was.
    Phantom(String),
    /// A conditional write was made though its condition did not hold.
    BrokenCondition(String),
    /// A refused write was made, or a write was made twice.
    UnwantedWrite(String),
    /// The watchers together did not see everything; nothing can be said about the rest.
    NotCovered(String),
}

/// What the store says happened to one resource.
struct Timeline<'a> {
    /// The first list, before any write.
    start: u64,
    initial: BTreeMap<&'a str, &'a Item>,
    events: BTreeMap<u64, &'a Event>,
    /// Revisions at which an object changed.
    objects: HashMap<&'a str, Vec<u64>>,
    /// Up to here the watchers together saw everything.
    covered: u64,
}

/// An object at some revision.
#[derive(Clone, Copy)]
struct State<'a> {
    revision: u64,
    tokens: &'a Tokens,
}

impl<'a> Timeline<'a> {
    /// Puts together what all watchers of a resource saw.
    fn new(history: &'a History, resource: &str, found: &mut Vec<Violation>) -> Self {
        let watches: Vec<_> = history.watches.iter().filter(|w| w.resource == resource).collect();
        let mut timeline =
            Self { start: 0, initial: BTreeMap::new(), events: BTreeMap::new(), objects: HashMap::new(), covered: 0 };
        if let Some(Seen::Listed { revision, items }) = watches.first().and_then(|w| w.seen.first()) {
            timeline.start = *revision;
            timeline.initial = items.iter().map(|item| (item.name.as_str(), item)).collect();
        }
        let mut spans = Vec::new();
        for watch in &watches {
            let (mut from, mut last) = (0, 0);
            for seen in &watch.seen {
                match seen {
                    Seen::Listed { revision, .. } => (from, last) = (*revision, *revision),
                    Seen::Bookmark(revision) => last = last.max(*revision),
                    Seen::Gone => spans.push((from, last)),
                    Seen::Event(event, _) => {
                        last = last.max(event.revision);
                        let known = timeline.events.entry(event.revision).or_insert(event);
                        if *known != event {
                            found.push(Violation::RevisionReused(format!("{resource}: {known:?} and {event:?}")));
                        }
                    }
                }
            }
            spans.push((from, last));
        }
        for event in timeline.events.values() {
            timeline.objects.entry(event.name.as_str()).or_default().push(event.revision);
        }
        spans.sort_unstable();
        timeline.covered = timeline.start;
        for (from, to) in spans {
            if from <= timeline.covered {
                timeline.covered = timeline.covered.max(to);
            }
        }
        if let Some((newest, _)) = timeline.events.last_key_value()
            && *newest > timeline.covered
        {
            found.push(Violation::NotCovered(format!("{resource}: seen up to {}, not to {newest}", timeline.covered)));
        }
        timeline
    }

    /// The last change of the object up to `revision`.
    fn last_change(&self, name: &str, revision: u64) -> Option<&'a Event> {
        let revisions = self.objects.get(name)?;
        let at = revisions.partition_point(|r| *r <= revision).checked_sub(1)?;
        self.events.get(revisions.get(at)?).copied()
    }

    fn next_change(&self, name: &str, revision: u64) -> Option<u64> {
        let revisions = self.objects.get(name)?;
        revisions.get(revisions.partition_point(|r| *r <= revision)).copied()
    }

    fn state(&self, name: &str, revision: u64) -> Option<State<'a>> {
        match self.last_change(name, revision) {
            Some(event) if event.kind == Kind::Deleted => None,
            Some(event) => Some(State { revision: event.revision, tokens: &event.tokens }),
            None => self.initial.get(name).map(|item| State { revision: item.revision, tokens: &item.tokens }),
        }
    }

    fn list(&self, revision: u64) -> Vec<Item> {
        let names: BTreeSet<&str> = self.initial.keys().copied().chain(self.objects.keys().copied()).collect();
        let item = |name: &str| {
            let state = self.state(name, revision)?;
            Some(Item { name: name.to_string(), revision: state.revision, tokens: state.tokens.clone() })
        };
        names.into_iter().filter_map(item).collect()
    }
}

/// For each time the greatest revision known before it, or the smallest begun after it.
struct Bounds {
    known: Vec<(Time, u64)>,
    begun: Vec<(Time, u64)>,
}

impl Bounds {
    fn new(history: &History, timelines: &BTreeMap<&str, Timeline>) -> Self {
        let mut known = Vec::new();
        let mut begun = Vec::new();
        let mut gone: HashMap<(&str, &str), u64> = HashMap::new();
        let mut brought: HashMap<(&str, &str), u64> = HashMap::new();
        for (resource, timeline) in timelines {
            for (revision, event) in &timeline.events {
                if event.kind == Kind::Deleted {
                    gone.insert((*resource, event.uid.as_str()), *revision);
                }
                for token in [&event.tokens.main, &event.tokens.status].into_iter().filter(|token| !token.is_empty()) {
                    brought.entry((*resource, token.as_str())).or_insert(*revision);
                }
            }
        }
        for operation in &history.operations {
            match &operation.outcome {
                Outcome::Deleted { uid } => {
                    if let Some(revision) = gone.get(&(operation.resource, uid.as_str())) {
                        known.push((operation.returned, *revision));
                        begun.push((operation.invoked, *revision));
                    }
                }
                Outcome::Unknown => {
                    if let Some(revision) = brought.get(&(operation.resource, operation.token.as_str())) {
                        begun.push((operation.invoked, *revision));
                    }
                }
                Outcome::Written { revision } => {
                    known.push((operation.returned, *revision));
                    begun.push((operation.invoked, *revision));
                }
                Outcome::Found { revision, .. } | Outcome::Listed { revision, .. } => {
                    known.push((operation.returned, *revision));
                }
                Outcome::Absent | Outcome::Refused => {}
            }
        }
        for watch in &history.watches {
            known.extend(watch.seen.iter().filter_map(|seen| match seen {
                Seen::Event(event, at) => Some((*at, event.revision)),
                Seen::Listed { .. } | Seen::Bookmark(_) | Seen::Gone => None,
            }));
        }
        known.sort_unstable();
        let mut most = 0;
        for (_, revision) in &mut known {
            most = most.max(*revision);
            *revision = most;
        }
        begun.sort_unstable();
        let mut least = u64::MAX;
        for (_, revision) in begun.iter_mut().rev() {
            least = least.min(*revision);
            *revision = least;
        }
        Self { known, begun }
    }

    /// A revision that was there before `time`: nothing that begins then may be older.
    fn before(&self, time: Time) -> u64 {
        let at = self.known.partition_point(|(t, _)| *t < time);
        at.checked_sub(1).and_then(|at| self.known.get(at)).map_or(0, |(_, revision)| *revision)
    }

    /// The last revision that can have been there at `time`.
    fn upto(&self, time: Time) -> u64 {
        let at = self.begun.partition_point(|(t, _)| *t <= time);
        self.begun.get(at).map_or(u64::MAX, |(_, revision)| *revision - 1)
    }
}

/// What was looked at, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acknowledged writes and deletions.
    pub acknowledged: usize,
    /// Writes without an answer.
    pub unknown: usize,
    /// Of these, those that had been made.
    pub unknown_made: usize,
    /// Reads.
    pub reads: usize,
    /// Events of all watchers.
    pub events: usize,
    /// Times that a watcher had to list again.
    pub gone: usize,
}

/// Checks a history; returns all that is wrong with it.
pub fn check(history: &History) -> (Vec<Violation>, Counts) {
    let mut found = Vec::new();
    let resources: BTreeSet<&str> = history.watches.iter().map(|watch| watch.resource).collect();
    let timelines: BTreeMap<&str, Timeline> =
        resources.into_iter().map(|r| (r, Timeline::new(history, r, &mut found))).collect();
    let bounds = Bounds::new(history, &timelines);
    let mut checker = Checker { history, bounds, found, counts: Counts::default() };
    checker.revisions(&timelines);
    for (resource, timeline) in &timelines {
        checker.watches(resource, timeline);
        checker.operations(resource, timeline);
        checker.tokens(resource, timeline);
    }
    (checker.found, checker.counts)
}

struct Checker<'a> {
    history: &'a History,
    bounds: Bounds,
    found: Vec<Violation>,
    counts: Counts,
}

impl<'a> Checker<'a> {
    /// One revision is one event, whatever the resource.
    fn revisions(&mut self, timelines: &BTreeMap<&str, Timeline>) {
        let mut owners: HashMap<u64, &str> = HashMap::new();
        for (resource, timeline) in timelines {
            for revision in timeline.events.keys() {
                if let Some(other) = owners.insert(*revision, *resource) {
                    self.found.push(Violation::RevisionReused(format!("{revision}: in {other} and in {resource}")));
                }
            }
        }
    }

    fn watches(&mut self, resource: &str, timeline: &Timeline) {
        let history = self.history;
        for (number, watch) in history.watches.iter().enumerate().filter(|(_, w)| w.resource == resource) {
            let mut last = None;
            let mut seen_revisions = BTreeSet::new();
            for seen in &watch.seen {
                let (to, bookmark) = match seen {
                    Seen::Listed { revision, items } => {
                        self.compare_list(resource, timeline, *revision, items, &format!("watcher {number}'s list"));
                        last = Some(*revision);
                        continue;
                    }
                    Seen::Gone => {
                        self.counts.gone += 1;
                        last = None;
                        continue;
                    }
                    Seen::Bookmark(revision) => (*revision, true),
                    Seen::Event(event, _) => {
                        self.counts.events += 1;
                        self.kind(resource, timeline, event);
                        (event.revision, false)
                    }
                };
                let Some(from) = last else {
                    self.found
                        .push(Violation::WatchOrder(format!("{resource}: watcher {number} did not begin with a list")));
                    last = Some(to);
                    continue;
                };
                if !bookmark && !seen_revisions.insert(to) {
                    self.found.push(Violation::DuplicateEvent(format!("{resource}: watcher {number} saw {to} twice")));
                    continue;
                }
                if to < from || (to == from && !bookmark) {
                    self.found
                        .push(Violation::WatchOrder(format!("{resource}: watcher {number} saw {to} after {from}")));
                    continue;
                }
                let end = if bookmark { to + 1 } else { to };
                if end > from + 1
                    && let Some((missed, event)) = timeline.events.range(from + 1..end).next()
                {
                    self.found.push(Violation::WatchGap(format!(
                        "{resource}: watcher {number} saw {from}, then {to}, and not {missed} ({event:?})"
                    )));
                }
                last = Some(to);
            }
        }
    }

    fn kind(&mut self, resource: &str, timeline: &Timeline, event: &Event) {
        let before = timeline.state(&event.name, event.revision - 1).is_some();
        if before == (event.kind == Kind::Added) {
            let was = if before { "there" } else { "not there" };
            self.found.push(Violation::WrongKind(format!("{resource}: {event:?}, and it was {was} before")));
        }
    }

    fn compare_list(&mut self, resource: &str, timeline: &Timeline, revision: u64, items: &[Item], who: &str) {
        if revision < timeline.start || revision > timeline.covered {
            return;
        }
        let mut items = items.to_vec();
        items.sort_by(|a, b| a.name.cmp(&b.name));
        let wanted = timeline.list(revision);
        if items != wanted {
            self.found
                .push(Violation::Phantom(format!("{resource}: {who} at {revision} is {items:?}, not {wanted:?}")));
        }
    }

    fn operations(&mut self, resource: &str, timeline: &Timeline) {
        let history = self.history;
        for operation in history.operations.iter().filter(|o| o.resource == resource) {
            let (low, high) = (self.bounds.before(operation.invoked), self.bounds.upto(operation.returned));
            match &operation.outcome {
                Outcome::Written { revision } => {
                    self.counts.acknowledged += 1;
                    if *revision <= low || *revision > high {
                        self.found.push(Violation::RevisionReused(format!(
                            "{operation:?}: {low} was there before, {high} is the last that can have been"
                        )));
                    }
                    self.written(operation, *revision, timeline);
                }
                Outcome::Deleted { uid } => {
                    self.counts.acknowledged += 1;
                    let events = timeline.objects.get(operation.name.as_str()).into_iter().flatten();
                    let gone = events
                        .filter_map(|r| timeline.events.get(r))
                        .filter(|e| e.kind == Kind::Deleted && e.uid == *uid && e.revision > low && e.revision <= high);
                    if gone.count() != 1 {
                        self.found.push(Violation::LostWrite(format!("{operation:?}: no such event")));
                    }
                }
                Outcome::Found { revision, tokens } => {
                    self.counts.reads += 1;
                    self.read(operation, *revision, tokens, timeline, low, high);
                }
                Outcome::Absent => {
                    self.counts.reads += 1;
                    let gone_later = timeline.objects.get(operation.name.as_str()).into_iter().flatten().any(|r| {
                        *r > low && *r <= high && timeline.events.get(r).is_some_and(|e| e.kind == Kind::Deleted)
                    });
                    if timeline.state(&operation.name, low).is_some() && !gone_later {
                        self.found.push(Violation::StaleRead(format!("{operation:?}: it was there all the time")));
                    }
                }
                Outcome::Listed { revision, items } => {
                    self.counts.reads += 1;
                    if *revision < low || *revision > high {
                        self.found.push(Violation::StaleRead(format!(
                            "{resource}: a list at {revision}, when {low} was there before and {high} was the last"
                        )));
                    }
                    self.compare_list(resource, timeline, *revision, items, "a list");
                }
                Outcome::Unknown => self.counts.unknown += 1,
                Outcome::Refused => {}
            }
        }
    }

    fn written(&mut self, operation: &Operation, revision: u64, timeline: &Timeline) {
        let Some(event) = timeline.events.get(&revision) else {
            if revision <= timeline.covered {
                self.found.push(Violation::LostWrite(format!("{operation:?}")));
            } else {
                self.found.push(Violation::NotCovered(format!("{operation:?}")));
            }
            return;
        };
        let token = if operation.action == Action::Status { &event.tokens.status } else { &event.tokens.main };
        if event.name != operation.name || *token != operation.token {
            self.found.push(Violation::RevisionReused(format!("{operation:?} was told the revision of {event:?}")));
            return;
        }
        let before = timeline.state(&operation.name, revision - 1);
        let holds = match operation.action {
            Action::Create => before.is_none(),
            Action::Update { expected } => before.is_some_and(|state| state.revision == expected),
            Action::Patch | Action::Status => before.is_some(),
            Action::Apply | Action::Delete | Action::Get | Action::List => true,
        };
        if !holds {
            let before = before.map(|state| state.revision);
            self.found.push(Violation::BrokenCondition(format!("{operation:?}: before it was {before:?}")));
        }
        // a write of one part leaves the other as it was
        let kept = match operation.action {
            Action::Status => before.is_some_and(|state| state.tokens.main == event.tokens.main),
            _ => before.map_or("", |state| state.tokens.status.as_str()) == event.tokens.status,
        };
        if !kept {
            self.found.push(Violation::Phantom(format!("{operation:?} changed the other part: {event:?}")));
        }
    }

    fn read(
        &mut self,
        operation: &Operation,
        revision: u64,
        tokens: &Tokens,
        timeline: &Timeline,
        low: u64,
        high: u64,
    ) {
        let known = timeline.state(&operation.name, revision);
        if revision <= timeline.covered
            && known.is_none_or(|state| state.revision != revision || state.tokens != tokens)
        {
            self.found.push(Violation::Phantom(format!("{operation:?}: no such version")));
            return;
        }
        if revision > high {
            self.found.push(Violation::StaleRead(format!("{operation:?}: {high} was the last that can have been")));
        }
        if let Some(next) = timeline.next_change(&operation.name, revision)
            && next <= low
        {
            self.found.push(Violation::StaleRead(format!("{operation:?}: {next} had replaced it, {low} was known")));
        }
    }

    /// Every token comes in once, by a write that was not refused.
    fn tokens(&mut self, resource: &str, timeline: &Timeline) {
        let history = self.history;
        let writes: HashMap<&str, &Operation> = history
            .operations
            .iter()
            .filter(|o| o.resource == resource && !o.token.is_empty())
            .map(|o| (o.token.as_str(), o))
            .collect();
        let mut brought: HashMap<&str, u64> = HashMap::new();
        for event in timeline.events.values().filter(|e| e.kind != Kind::Deleted) {
            let before = timeline.state(&event.name, event.revision - 1).map(|state| state.tokens);
            let new = |now: &'_ str, before: &str| !now.is_empty() && now != before;
            let none = Tokens::default();
            let before = before.unwrap_or(&none);
            for (now, was) in [(&event.tokens.main, &before.main), (&event.tokens.status, &before.status)] {
                if !new(now, was) {
                    continue;
                }
                match writes.get(now.as_str()) {
                    None => self.found.push(Violation::Phantom(format!("{resource}: nobody wrote {event:?}"))),
                    Some(write) => match write.outcome {
                        Outcome::Refused => self
                            .found
                            .push(Violation::UnwantedWrite(format!("{write:?} was refused, and made: {event:?}"))),
                        Outcome::Unknown => self.counts.unknown_made += 1,
                        _ => {}
                    },
                }
                if let Some(first) = brought.insert(now.as_str(), event.revision) {
                    self.found
                        .push(Violation::UnwantedWrite(format!("{resource}: made at {first} and again: {event:?}")));
                }
            }
        }
    }
}
