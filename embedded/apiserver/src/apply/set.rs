//! Sets of field paths, and their wire form `FieldsV1`.
//!
//! A set is a tree of steps; a member is a path that ends there. Owning a field does not mean owning what is below it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Map, Value};

use super::step::Step;
use super::types::Type;

/// A set of field paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    // a node is either a member or has members below it
    nodes: BTreeMap<Step, Node>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: FieldSet,
}

impl FieldSet {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Reads `FieldsV1`.
    pub fn decode(fields: &Value) -> Result<Self, String> {
        let mut set = Self::default();
        for (text, below) in fields.as_object().into_iter().flatten() {
            if text == "." {
                continue;
            }
            let own = below.as_object().is_none_or(|m| m.is_empty() || m.contains_key("."));
            set.put(Step::decode(text)?, own, Self::decode(below)?);
        }
        Ok(set)
    }

    /// Writes `FieldsV1`.
    pub fn encode(&self) -> Value {
        let node = |(step, node): (&Step, &Node)| {
            let mut below = Map::new();
            if node.member && !node.below.is_empty() {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            if let Value::Object(rest) = node.below.encode() {
                below.extend(rest);
            }
            (step.encode(), Value::Object(below))
        };
        Value::Object(self.nodes.iter().map(node).collect())
    }

    /// Adds a step as member or not, with what is below it.
    pub fn put(&mut self, step: Step, member: bool, below: Self) {
        if !member && below.is_empty() {
            return;
        }
        match self.nodes.entry(step) {
            Entry::Vacant(entry) => {
                entry.insert(Node { member, below });
            }
            Entry::Occupied(mut entry) => {
                let node = entry.get_mut();
                node.member |= member;
                node.below.extend(&below);
            }
        }
    }

    /// A set of one path of fields.
    pub fn of_fields(path: &[&str]) -> Self {
        let mut set = Self::default();
        if let Some((first, rest)) = path.split_first() {
            set.put(Step::field(first), rest.is_empty(), Self::of_fields(rest));
        }
        set
    }

    /// Takes the other's paths in.
    pub fn extend(&mut self, other: &Self) {
        for (step, node) in &other.nodes {
            match self.nodes.get_mut(step) {
                Some(known) => {
                    known.member |= node.member;
                    known.below.extend(&node.below);
                }
                None => {
                    self.nodes.insert(step.clone(), node.clone());
                }
            }
        }
    }

    /// Paths in either.
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.extend(other);
        all
    }

    /// Paths in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (step, node) in &self.nodes {
            if let Some(theirs) = other.nodes.get(step) {
                both.put(step.clone(), node.member && theirs.member, node.below.intersection(&theirs.below));
            }
        }
        both
    }

    /// Paths here that are not there.
    pub fn difference(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (step, node) in &self.nodes {
            match other.nodes.get(step) {
                None => rest.put(step.clone(), node.member, node.below.clone()),
                Some(theirs) => {
                    rest.put(step.clone(), node.member && !theirs.member, node.below.difference(&theirs.below));
                }
            }
        }
        rest
    }

    /// Paths here that are neither there nor below a path that is there.
    pub fn difference_below(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (step, node) in &self.nodes {
            match other.nodes.get(step) {
                None => rest.put(step.clone(), node.member, node.below.clone()),
                Some(theirs) if theirs.member => {}
                Some(theirs) => rest.put(step.clone(), node.member, node.below.difference_below(&theirs.below)),
            }
        }
        rest
    }

    /// Whether the step itself is a member.
    pub fn has(&self, step: &Step) -> bool {
        self.nodes.get(step).is_some_and(|node| node.member)
    }

    /// Whether the path is a member.
    pub fn has_path(&self, path: &[Step]) -> bool {
        match path {
            [] => false,
            [last] => self.has(last),
            [first, rest @ ..] => self.nodes.get(first).is_some_and(|node| node.below.has_path(rest)),
        }
    }

    /// What is below a step, if anything is.
    pub fn below(&self, step: &Step) -> Option<&Self> {
        self.nodes.get(step).map(|node| &node.below).filter(|below| !below.is_empty())
    }

    /// The steps at this level: whether each is a member, and what is below it.
    pub fn steps(&self) -> impl Iterator<Item = (&Step, bool, &Self)> {
        self.nodes.iter().map(|(step, node)| (step, node.member, &node.below))
    }

    /// The set with every declared field that has members below it as a member too.
    pub fn with_declared_fields(&self, ty: Type) -> Self {
        let atom = ty.atom();
        let mut all = Self::default();
        for (step, node) in &self.nodes {
            let (declared, child) = match (step, &atom.map, &atom.list) {
                (Step::Field(name), Some(map), _) => (map.field(name).is_some(), map.child(name)),
                (Step::Keys(_), _, Some(list)) => (false, list.element),
                _ => (false, Type::Undeclared),
            };
            let member = node.member || (declared && !node.below.is_empty());
            all.put(step.clone(), member, node.below.with_declared_fields(child));
        }
        all
    }

    /// What is at and below a path of fields, `*` standing for any list element.
    pub fn matching(&self, path: &[&str]) -> Self {
        let Some((first, rest)) = path.split_first() else { return self.clone() };
        let mut found = Self::default();
        for (step, node) in &self.nodes {
            match step {
                Step::Field(name) if **name == **first => {}
                Step::Keys(_) | Step::Value(_) if *first == "*" => {}
                _ => continue,
            }
            found.put(step.clone(), node.member && rest.is_empty(), node.below.matching(rest));
        }
        found
    }

    /// All paths, members of a level before what is below them.
    pub fn paths(&self) -> Vec<Vec<Step>> {
        let mut all = Vec::new();
        self.collect(&mut Vec::new(), &mut all);
        all
    }

    fn collect(&self, prefix: &mut Vec<Step>, all: &mut Vec<Vec<Step>>) {
        for (step, _) in self.nodes.iter().filter(|(_, node)| node.member) {
            let mut path = prefix.clone();
            path.push(step.clone());
            all.push(path);
        }
        for (step, node) in &self.nodes {
            prefix.push(step.clone());
            node.below.collect(prefix, all);
            prefix.pop();
        }
    }
}

/// A path as Kubernetes prints it.
pub fn show(path: &[Step]) -> String {
    path.iter().map(ToString::to_string).collect()
}
