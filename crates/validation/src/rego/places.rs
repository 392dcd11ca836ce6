//! Which parts of the input rules read, so that nothing else of it is kept.
//!
//! A path of names (`input.host.cluster`) leads to a *place*; places are numbered when rules are compiled, and a step
//! finds what is there by the number. A [`Layout`] says for a set of rules which places they read and what of the
//! values there: of `disk := input.disks[_]` with `disk.mode` behind it, one member of every entry.
//!
//! ```text
//! rules ─► Places: 0 input ─ 1 input.host ─ 2 input.host.cluster …      (numbers, in Program)
//!      └─► Layout: 2 whole · 5 every entry {mode, shared} · 7 only what type it has
//! ```
//!
//! Whatever use of a value is not understood here counts as a use of all of it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::plan::{Base, Definition, Function, Key, New, Op, Pattern, Program, Step, Target, Term};
use super::value::Value;

/// The numbered places; 0 is the input itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places(Vec<BTreeMap<Arc<str>, usize>>);

impl Default for Places {
    fn default() -> Self {
        Self(vec![BTreeMap::new()])
    }
}

impl Places {
    /// Returns the number of a member's place, a new one when it has none yet.
    fn member(&mut self, of: usize, name: &Arc<str>) -> usize {
        let new = self.0.len();
        let Some(members) = self.0.get_mut(of) else { return 0 };
        let found = *members.entry(name.clone()).or_insert(new);
        if found == new {
            self.0.push(BTreeMap::new());
        }
        found
    }

    /// Whether all of the other's places have the same numbers here.
    pub fn begin_with(&self, other: &Self) -> bool {
        let same = |(ours, theirs): (&BTreeMap<Arc<str>, usize>, &BTreeMap<Arc<str>, usize>)| {
            theirs.iter().all(|(name, place)| ours.get(name) == Some(place))
        };
        self.0.len() >= other.0.len() && self.0.iter().zip(&other.0).all(same)
    }

    /// Replaces the names that paths from the input begin with by places.
    pub fn settle(&mut self, definition: &mut Definition) {
        definition.branches.iter_mut().for_each(|branch| self.settle_steps(&mut branch.steps));
    }

    fn settle_steps(&mut self, steps: &mut [Step]) {
        for step in steps {
            match &mut step.op {
                Op::Walk { base: Base::Place(place), path, .. } => {
                    let names = path.iter().map_while(|key| match key {
                        Key::Const(Value::String(name)) => Some(name.clone()),
                        _ => None,
                    });
                    let names: Vec<Arc<str>> = names.collect();
                    path.drain(..names.len());
                    for name in names {
                        *place = self.member(*place, &name);
                    }
                }
                Op::Build { body, .. } | Op::Not(body) | Op::Every { body, .. } | Op::With { body, .. } => {
                    self.settle_steps(body);
                }
                _ => {}
            }
        }
    }
}

/// What of a value is read. Scalars are always kept, of the rest its type at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// All of it.
    pub whole: bool,
    /// That there is an entry, for each: its key or its position.
    pub entries: bool,
    /// Members with these names: a few, that are looked through.
    pub members: Vec<(Arc<str>, Shape)>,
    /// What is read of every entry.
    pub each: Option<Box<Shape>>,
}

impl Shape {
    fn whole() -> Self {
        Self { whole: true, ..Self::default() }
    }

    fn each(shape: Self) -> Self {
        Self { entries: true, each: Some(Box::new(shape)), ..Self::default() }
    }

    fn member(name: &Arc<str>, shape: Self) -> Self {
        Self { members: vec![(name.clone(), shape)], ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        self.whole |= other.whole;
        self.entries |= other.entries;
        for (name, shape) in other.members {
            match self.members.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => known.add(shape),
                None => self.members.push((name, shape)),
            }
        }
        if let Some(shape) = other.each {
            self.each.get_or_insert_default().add(*shape);
        }
    }

    /// What is read of every entry is read of those with a name too.
    fn finish(&mut self) {
        if self.whole {
            *self = Self::whole();
        }
        if let Some(each) = &mut self.each {
            for (_, member) in &mut self.members {
                member.add((**each).clone());
            }
            each.finish();
        }
        self.members.iter_mut().for_each(|(_, member)| member.finish());
    }

    /// Whether only the type of the value matters, when it is no scalar.
    pub fn is_type(&self) -> bool {
        !self.whole && !self.entries && self.members.is_empty()
    }

    /// The same with texts of its own: threads that count the users of one text wait for each other.
    fn apart(&self) -> Self {
        Self {
            whole: self.whole,
            entries: self.entries,
            members: self.members.iter().map(|(name, shape)| (Arc::from(&**name), shape.apart())).collect(),
            each: self.each.as_ref().map(|shape| Box::new(shape.apart())),
        }
    }
}

/// One place, as a set of rules reads it.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// What of the value is read; `None` when only members are.
    pub shape: Option<Shape>,
    /// Members that are read, or have members that are; by the length of the name, then by the name.
    pub members: Vec<(Arc<str>, usize)>,
}

/// An order in which a name is found with few looks at its letters.
pub fn by_length(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// What a set of rules reads of the input, by the numbers of its places.
#[derive(Clone, Debug, Default)]
pub struct Layout(pub Vec<Place>);

impl Layout {
    /// Returns what these rules read, with all rules that they ask.
    pub fn of(program: &Program, rules: impl IntoIterator<Item = usize>) -> Self {
        let mut reading = Reading { program, shapes: BTreeMap::new(), seen: BTreeSet::new(), mocked: false };
        rules.into_iter().for_each(|rule| reading.rule(rule));
        if reading.mocked {
            reading.shapes.values_mut().for_each(|shape| *shape = Shape::whole());
        }
        Self::finished(program, reading.shapes)
    }

    /// Returns a layout that keeps everything that any rule looks at, for people who look too.
    pub fn everything(program: &Program) -> Self {
        let mut reading = Reading { program, shapes: BTreeMap::new(), seen: BTreeSet::new(), mocked: false };
        (0..program.rules.len()).for_each(|rule| reading.rule(rule));
        reading.shapes.values_mut().for_each(|shape| *shape = Shape::whole());
        Self::finished(program, reading.shapes)
    }

    fn finished(program: &Program, mut shapes: BTreeMap<usize, Shape>) -> Self {
        let mut places: Vec<Place> = vec![Place::default(); program.places.0.len()];
        // members have higher numbers than what they are members of
        for at in (0..places.len()).rev() {
            let members = program.places.0[at].iter().map(|(name, place)| (name.clone(), *place));
            let read = |(_, place): &(Arc<str>, usize)| {
                places.get(*place).is_some_and(|p| p.shape.is_some() || !p.members.is_empty())
            };
            let mut members: Vec<(Arc<str>, usize)> = members.filter(read).collect();
            members.sort_by(|(a, _), (b, _)| by_length(a, b));
            let mut shape = shapes.remove(&at);
            if let Some(shape) = &mut shape {
                shape.finish();
            }
            places[at] = Place { shape, members };
        }
        Self(places)
    }

    /// Returns the layout for a thread of its own.
    pub fn apart(&self) -> Self {
        let place = |place: &Place| Place {
            shape: place.shape.as_ref().map(Shape::apart),
            members: place.members.iter().map(|(name, at)| (Arc::from(&**name), *at)).collect(),
        };
        Self(self.0.iter().map(place).collect())
    }
}

/// How deeply values are followed from slot to slot and from function to function.
const DEPTH: u32 = 24;

struct Reading<'p> {
    program: &'p Program,
    shapes: BTreeMap<usize, Shape>,
    seen: BTreeSet<usize>,
    /// Whether functions are replaced: then nothing is known of what they read.
    mocked: bool,
}

impl<'p> Reading<'p> {
    fn rule(&mut self, rule: usize) {
        if !self.seen.insert(rule) {
            return;
        }
        let program = self.program;
        let Some(set) = program.rules.get(rule) else { return };
        for definition in &set.definitions {
            definition.branches.iter().for_each(|branch| self.steps(&branch.steps, definition));
        }
    }

    fn steps(&mut self, steps: &'p [Step], definition: &'p Definition) {
        for step in steps {
            match &step.op {
                Op::Walk { base: Base::Place(place), path, out } => {
                    let shape = self.along(path, out, definition, 0);
                    self.shapes.entry(*place).or_default().add(shape);
                }
                Op::Walk { base: Base::Rule(rule), .. } | Op::Call { function: Function::Rule(rule), .. } => {
                    self.rule(*rule);
                }
                Op::With { changes, body, .. } => {
                    for (target, new) in changes {
                        if let New::Function(Function::Rule(rule)) = new {
                            self.rule(*rule);
                        }
                        match target {
                            // the rest of the input is in the new one
                            Target::Input(path) if !path.is_empty() => {
                                self.shapes.entry(0).or_default().add(Shape::whole());
                            }
                            Target::Function(_) => self.mocked = true,
                            _ => {}
                        }
                    }
                    self.steps(body, definition);
                }
                Op::Build { body, .. } | Op::Not(body) | Op::Every { body, .. } => self.steps(body, definition),
                _ => {}
            }
        }
    }

    /// What is read of a value by a path from it.
    fn along(&self, path: &[Key], out: &Pattern, definition: &Definition, depth: u32) -> Shape {
        match path.split_first() {
            None => self.matched(out, definition, depth),
            Some((Key::Const(Value::String(name)), rest)) => {
                Shape::member(name, self.along(rest, out, definition, depth))
            }
            // whether a text that is only known later is the name of a member, or a number a position
            Some((_, rest)) => Shape::each(self.along(rest, out, definition, depth)),
        }
    }

    fn matched(&self, pattern: &Pattern, definition: &Definition, depth: u32) -> Shape {
        match pattern {
            Pattern::Holds => Shape::default(),
            Pattern::Bind(slot) => self.slot(*slot, definition, depth + 1),
            Pattern::Equal(Term::Const(value)) if is_scalar(value) => Shape::default(),
            _ => Shape::whole(),
        }
    }

    /// What is read of the value in a slot.
    fn slot(&self, slot: usize, definition: &Definition, depth: u32) -> Shape {
        if depth > DEPTH {
            return Shape::whole();
        }
        let mut shape = Shape::default();
        for branch in &definition.branches {
            self.uses(slot, &branch.steps, definition, depth, &mut shape);
            if mentions(&branch.key, slot) || mentions(&branch.value, slot) {
                shape.whole = true;
            }
        }
        shape
    }

    fn uses(&self, slot: usize, steps: &[Step], definition: &Definition, depth: u32, shape: &mut Shape) {
        let is = |term: &Term| matches!(term, Term::Slot(other) if *other == slot);
        for step in steps {
            match &step.op {
                Op::Walk { base, path, out } => {
                    if matches!(base, Base::Slot(other) if *other == slot) {
                        shape.add(self.along(path, out, definition, depth));
                    }
                    shape.whole |= path.iter().any(|key| key_mentions(key, slot)) || pattern_mentions(out, slot);
                }
                Op::Call { function, arguments, out } => {
                    shape.whole |= pattern_mentions(out, slot);
                    for (at, argument) in arguments.iter().enumerate() {
                        if is(argument) {
                            shape.add(self.argument(*function, arguments, at, depth));
                        } else {
                            shape.whole |= mentions(argument, slot);
                        }
                    }
                }
                Op::Match { term, out } => {
                    if is(term) {
                        shape.add(self.matched(out, definition, depth));
                    } else {
                        shape.whole |= mentions(term, slot);
                    }
                    shape.whole |= pattern_mentions(out, slot);
                }
                Op::Build { key, value, body, .. } => {
                    shape.whole |= mentions(key, slot) || mentions(value, slot);
                    self.uses(slot, body, definition, depth, shape);
                }
                Op::Not(body) => self.uses(slot, body, definition, depth, shape),
                Op::Every { domain, value, body, .. } => {
                    if is(domain) {
                        shape.add(Shape::each(self.slot(*value, definition, depth + 1)));
                    } else {
                        shape.whole |= mentions(domain, slot);
                    }
                    self.uses(slot, body, definition, depth, shape);
                }
                Op::Each { collection, key, value } => {
                    if is(collection) {
                        shape.add(Shape::each(self.matched(value, definition, depth)));
                    } else {
                        shape.whole |= mentions(collection, slot);
                    }
                    shape.whole |=
                        key.as_ref().is_some_and(|key| pattern_mentions(key, slot)) || pattern_mentions(value, slot);
                }
                Op::Descend { term, out } => shape.whole |= mentions(term, slot) || pattern_mentions(out, slot),
                Op::With { changes, body, .. } => {
                    shape.whole |=
                        changes.iter().any(|(_, new)| matches!(new, New::Value(term) if mentions(term, slot)));
                    self.uses(slot, body, definition, depth, shape);
                }
            }
        }
    }

    /// What a function reads of an argument.
    fn argument(&self, function: Function, arguments: &[Term], at: usize, depth: u32) -> Shape {
        let builtin = match function {
            Function::Rule(rule) => {
                let mut shape = Shape::default();
                for definition in self.program.rules.get(rule).iter().flat_map(|set| &set.definitions) {
                    match definition.parameters.get(at) {
                        Some(pattern) => shape.add(self.matched(pattern, definition, depth + 1)),
                        None => shape.whole = true,
                    }
                }
                return shape;
            }
            Function::Builtin(builtin) => builtin,
        };
        let constant = |at: usize| match arguments.get(at) {
            Some(Term::Const(value)) => Some(value),
            _ => None,
        };
        match builtin.name {
            "is_array" | "is_boolean" | "is_null" | "is_number" | "is_object" | "is_string" | "type_name" => {
                Shape::default()
            }
            "count" => Shape::each(Shape::default()),
            // a scalar is never equal to what is none, and their order is that of the types
            "equal" | "neq" | "lt" | "lte" | "gt" | "gte" if constant(1 - at.min(1)).is_some_and(is_scalar) => {
                Shape::default()
            }
            "object.get" if at == 0 => match constant(1) {
                Some(Value::String(name)) => Shape::member(name, Shape::whole()),
                _ => Shape::whole(),
            },
            _ => Shape::whole(),
        }
    }
}

fn is_scalar(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_))
}

fn mentions(term: &Term, slot: usize) -> bool {
    let mut found = false;
    term.slots(&mut |other| found |= other == slot);
    found
}

fn key_mentions(key: &Key, slot: usize) -> bool {
    match key {
        Key::Const(_) | Key::Bind(_) => false,
        Key::Term(term) => mentions(term, slot),
        Key::Pattern(pattern) => pattern_mentions(pattern, slot),
    }
}

fn pattern_mentions(pattern: &Pattern, slot: usize) -> bool {
    match pattern {
        Pattern::Holds | Pattern::Bind(_) => false,
        Pattern::Equal(term) => mentions(term, slot),
        Pattern::Array(items) => items.iter().any(|item| pattern_mentions(item, slot)),
        Pattern::Object(members) => {
            members.iter().any(|(key, member)| mentions(key, slot) || pattern_mentions(member, slot))
        }
    }
}
