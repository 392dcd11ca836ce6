//! Expressions whose values are needed: references, calls, comprehensions, composites.

use super::symbols::{Lowered, Lowering, Meaning, Scope, Sym, SymBase, SymOp, fail, folded};
use crate::rego::ast::{Expr, ExprKind, Statement};
use crate::rego::plan::{Kind, Term};

impl Lowering<'_> {
    /// Lowers an expression whose value is needed; what it takes comes before.
    pub(super) fn argument(&mut self, expr: &Expr, out: &mut Vec<Sym>) -> Lowered<Term> {
        let line = expr.line;
        Ok(match &expr.kind {
            ExprKind::Const(value) => Term::Const(value.clone()),
            ExprKind::Var(_) | ExprKind::Ref(..) => {
                let slot = self.slot(None);
                let mut walk = Vec::new();
                let direct = self.reference(expr, Some(Term::Slot(slot)), out, &mut walk)?;
                out.extend(walk);
                direct.unwrap_or(Term::Slot(slot))
            }
            ExprKind::Call(name, arguments) => {
                let mut terms = Vec::new();
                for argument in arguments {
                    terms.push(self.argument(argument, out)?);
                }
                let slot = self.slot(None);
                if name.len() == 1 && name[0] == "walk" {
                    let Some(term) = terms.pop() else { return fail(line, "`walk` takes 1 argument") };
                    out.push(Sym { line, op: SymOp::Descend { term, out: Term::Slot(slot) } });
                    return Ok(Term::Slot(slot));
                }
                let (function, result) = self.function(name, &terms, line)?;
                if result {
                    return fail(line, format!("too many arguments for {}", name.join(".")));
                }
                self.note_result(slot, function);
                out.push(Sym { line, op: SymOp::Call { function, arguments: terms, out: Some(Term::Slot(slot)) } });
                Term::Slot(slot)
            }
            ExprKind::Unify(left, right) => {
                let arguments = vec![self.argument(left, out)?, self.argument(right, out)?];
                let (function, _) = self.function(&["equal".to_owned()], &arguments, line)?;
                let slot = self.slot(None);
                out.push(Sym { line, op: SymOp::Call { function, arguments, out: Some(Term::Slot(slot)) } });
                Term::Slot(slot)
            }
            ExprKind::Assign(..) => return fail(line, "`:=` stands between a name and its value only"),
            ExprKind::Array(items) => folded(Term::Array(self.arguments(items, out)?)),
            ExprKind::Set(items) => folded(Term::Set(self.arguments(items, out)?)),
            ExprKind::Object(members) => {
                let mut terms = Vec::new();
                for (key, value) in members {
                    terms.push((self.argument(key, out)?, self.argument(value, out)?));
                }
                folded(Term::Object(terms))
            }
            ExprKind::ArrayCompr(value, body) => self.comprehension(Kind::Complete, value, value, body, line, out)?,
            ExprKind::SetCompr(key, body) => self.comprehension(Kind::Set, key, key, body, line, out)?,
            ExprKind::ObjectCompr(pair, body) => self.comprehension(Kind::Object, &pair.0, &pair.1, body, line, out)?,
        })
    }

    pub(super) fn arguments(&mut self, items: &[Expr], out: &mut Vec<Sym>) -> Lowered<Vec<Term>> {
        items.iter().map(|item| self.argument(item, out)).collect()
    }

    pub(super) fn comprehension(
        &mut self,
        kind: Kind,
        key: &Expr,
        value: &Expr,
        body: &[Statement],
        line: u32,
        out: &mut Vec<Sym>,
    ) -> Lowered<Term> {
        self.scopes.push(Scope::default());
        self.declare_all(body, &[key, value]);
        let mut inside = Vec::new();
        for statement in body {
            self.statement(statement, &mut inside)?;
        }
        let key_term = self.argument(key, &mut inside)?;
        let value_term = if kind == Kind::Object { self.argument(value, &mut inside)? } else { key_term.clone() };
        let captured = self.scopes.pop().unwrap_or_default().captured;
        let slot = self.slot(None);
        let op = SymOp::Build { slot, kind, key: key_term, value: value_term, body: inside, captured };
        out.push(Sym { line, op });
        Ok(Term::Slot(slot))
    }

    /// Lowers a reference. Returns a term when there is nothing to walk, else puts the walk into `walk`.
    pub(super) fn reference(
        &mut self,
        expr: &Expr,
        result: Option<Term>,
        before: &mut Vec<Sym>,
        walk: &mut Vec<Sym>,
    ) -> Lowered<Option<Term>> {
        let line = expr.line;
        let (head, parts) = match &expr.kind {
            ExprKind::Ref(head, parts) => (head.as_ref(), parts.as_slice()),
            _ => (expr, &[][..]),
        };
        let (base, mut path) = match &head.kind {
            ExprKind::Var(name) => match self.meaning(name, line)? {
                Meaning::Slot(slot) if parts.is_empty() => return Ok(Some(Term::Slot(slot))),
                Meaning::Slot(slot) => (SymBase::Slot(slot), Vec::new()),
                Meaning::Base(base, path) => (base, path),
            },
            _ => {
                let term = self.argument(head, before)?;
                let slot = match term {
                    Term::Slot(slot) => slot,
                    term => {
                        let slot = self.slot(None);
                        before.push(Sym { line, op: SymOp::Unify(Term::Slot(slot), term) });
                        slot
                    }
                };
                (SymBase::Slot(slot), Vec::new())
            }
        };
        for part in parts {
            path.push(self.argument(part, before)?);
        }
        let (base, path) = self.resolve(base, path, line)?;
        if let SymBase::Rule(rule) = base {
            if matches!(self.program.rules[rule].kind, Kind::Function(_)) {
                return fail(line, format!("`{}` is a function: call it", self.program.rules[rule].name));
            }
        }
        walk.push(Sym { line, op: SymOp::Walk { base, path, out: result } });
        Ok(None)
    }
}
