//! Puts statements into an order in which each finds its variables bound.

use std::collections::BTreeSet;

use super::symbols::{Lowered, Lowering, Sym, SymBase, SymOp, fail, pattern};
use crate::rego::SyntaxError;
use crate::rego::plan::{Base, Key, New, Op, Pattern, Step, Term};

impl Lowering<'_> {
    /// Puts statements into an order in which each can run.
    pub(super) fn try_order(&self, symbols: &[Sym], bound: &mut BTreeSet<usize>) -> Lowered<Vec<Step>> {
        let mut pending: Vec<&Sym> = symbols.iter().collect();
        let mut steps = Vec::with_capacity(pending.len());
        while !pending.is_empty() {
            let mut placed = None;
            let mut reason = None;
            for (at, symbol) in pending.iter().enumerate() {
                let mut with_it = bound.clone();
                match self.place(symbol, &mut with_it) {
                    Ok(op) => {
                        *bound = with_it;
                        placed = Some((at, Step { line: symbol.line, op }));
                        break;
                    }
                    Err(error) => reason = reason.or(Some(error)),
                }
            }
            match placed {
                Some((at, step)) => {
                    pending.remove(at);
                    steps.push(step);
                }
                None => return Err(reason.unwrap_or(SyntaxError { line: 0, message: String::new() })),
            }
        }
        Ok(steps)
    }

    pub(super) fn ready(&self, term: &Term, bound: &BTreeSet<usize>, line: u32) -> Lowered<()> {
        self.all_bound(term, bound, line)
    }

    pub(super) fn out(&self, term: &Term, bound: &mut BTreeSet<usize>, line: u32) -> Lowered<Pattern> {
        pattern(term, bound).map_or_else(|| fail(line, "a set with names cannot be matched"), Ok)
    }

    pub(super) fn place(&self, symbol: &Sym, bound: &mut BTreeSet<usize>) -> Lowered<Op> {
        let line = symbol.line;
        let captured_bound = |captured: &BTreeSet<usize>, bound: &BTreeSet<usize>| {
            captured.iter().find(|slot| !bound.contains(slot)).map_or(Ok(()), |s| Err(self.unsafe_variable(*s, line)))
        };
        Ok(match &symbol.op {
            SymOp::Walk { base, path, out } => {
                let base = match base {
                    SymBase::Input => Base::Place(0),
                    SymBase::Rule(rule) => Base::Rule(*rule),
                    SymBase::Data => Base::Data,
                    SymBase::Slot(slot) => {
                        self.ready(&Term::Slot(*slot), bound, line)?;
                        Base::Slot(*slot)
                    }
                };
                let mut keys = Vec::with_capacity(path.len());
                for term in path {
                    keys.push(match term {
                        Term::Const(value) => Key::Const(value.clone()),
                        Term::Slot(slot) if !bound.contains(slot) => {
                            if self.slots.get(*slot).is_none_or(Option::is_none) {
                                return Err(self.unsafe_variable(*slot, line));
                            }
                            bound.insert(*slot);
                            Key::Bind(*slot)
                        }
                        term if self.ready(term, bound, line).is_ok() => Key::Term(term.clone()),
                        term => Key::Pattern(self.out(term, bound, line)?),
                    });
                }
                let out = out.as_ref().map_or(Ok(Pattern::Holds), |out| self.out(out, bound, line))?;
                Op::Walk { base, path: keys, out }
            }
            SymOp::Call { function, arguments, out } => {
                for argument in arguments {
                    self.ready(argument, bound, line)?;
                }
                let out = out.as_ref().map_or(Ok(Pattern::Holds), |out| self.out(out, bound, line))?;
                Op::Call { function: *function, arguments: arguments.clone(), out }
            }
            SymOp::Holds(term) => {
                self.ready(term, bound, line)?;
                Op::Match { term: term.clone(), out: Pattern::Holds }
            }
            SymOp::Unify(left, right) => {
                if self.ready(left, bound, line).is_ok() {
                    Op::Match { term: left.clone(), out: self.out(right, bound, line)? }
                } else {
                    self.ready(right, bound, line)?;
                    Op::Match { term: right.clone(), out: self.out(left, bound, line)? }
                }
            }
            SymOp::Build { slot, kind, key, value, body, captured } => {
                captured_bound(captured, bound)?;
                let mut inside = bound.clone();
                let body = self.try_order(body, &mut inside)?;
                self.ready(key, &inside, line)?;
                self.ready(value, &inside, line)?;
                bound.insert(*slot);
                Op::Build { slot: *slot, kind: *kind, key: key.clone(), value: value.clone(), body }
            }
            SymOp::Not(body) => {
                let mut inside = bound.clone();
                let body_steps = self.try_order(body, &mut inside)?;
                // a variable of the rule that only the negation would bind is unsafe
                let new = inside
                    .difference(bound)
                    .find(|slot| self.slots.get(**slot).and_then(Option::as_deref).is_some_and(|name| name != "_"));
                if let Some(slot) = new {
                    return Err(self.unsafe_variable(*slot, line));
                }
                Op::Not(body_steps)
            }
            SymOp::Every { domain, key, value, body, captured } => {
                self.ready(domain, bound, line)?;
                captured_bound(captured, bound)?;
                let mut inside = bound.clone();
                inside.extend(key);
                inside.insert(*value);
                let body = self.try_order(body, &mut inside)?;
                Op::Every { domain: domain.clone(), key: *key, value: *value, body }
            }
            SymOp::Each { collection, key, value } => {
                self.ready(collection, bound, line)?;
                let key = key.as_ref().map(|key| self.out(key, bound, line)).transpose()?;
                Op::Each { collection: collection.clone(), key, value: self.out(value, bound, line)? }
            }
            SymOp::Descend { term, out } => {
                self.ready(term, bound, line)?;
                Op::Descend { term: term.clone(), out: self.out(out, bound, line)? }
            }
            SymOp::With { changes, body } => {
                for (_, new) in changes {
                    if let New::Value(term) = new {
                        self.ready(term, bound, line)?;
                    }
                }
                let before = bound.clone();
                let body = self.try_order(body, bound)?;
                Op::With { changes: changes.clone(), body, bound: bound.difference(&before).copied().collect() }
            }
        })
    }
}
