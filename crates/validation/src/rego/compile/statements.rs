//! Statements: what stands before, in and behind them.

use super::names::Named;
use super::symbols::{Lowered, Lowering, Scope, Sym, SymBase, SymOp, fail};
use crate::rego::ast::{Expr, ExprKind, Literal, Statement};
use crate::rego::plan::{New, Target, Term};

impl Lowering<'_> {
    pub(super) fn statement(&mut self, statement: &Statement, out: &mut Vec<Sym>) -> Lowered<()> {
        if statement.with.is_empty() {
            return self.literal(statement, out);
        }
        let mut changes = Vec::new();
        for (target, value) in &statement.with {
            if let Some(change) = self.function_change(target, value)? {
                changes.push(change);
                continue;
            }
            let term = self.argument(value, out)?;
            changes.push((self.target(target)?, New::Value(term)));
        }
        let mut body = Vec::new();
        self.literal(statement, &mut body)?;
        out.push(Sym { line: statement.line, op: SymOp::With { changes, body } });
        Ok(())
    }

    /// `with f as g`: another function or a constant in the place of a function.
    fn function_change(&mut self, target: &Expr, value: &Expr) -> Lowered<Option<(Target, New)>> {
        let named = |this: &Self, expr: &Expr| dotted(expr).map(|name| (this.function_named(&name), name.join(".")));
        let Some((Named::Function(function, arity), name)) = named(self, target) else { return Ok(None) };
        if let Some((Named::Function(other, others), other_name)) = named(self, value) {
            if arity != others {
                let message = format!("`with`: `{name}` takes {arity} arguments, `{other_name}` takes {others}");
                return fail(value.line, message);
            }
            return Ok(Some((Target::Function(function), New::Function(other))));
        }
        let mut before = Vec::new();
        let term = self.argument(value, &mut before)?;
        if !before.is_empty() {
            return fail(value.line, format!("`with {name}`: a function is replaced by a function or a constant"));
        }
        Ok(Some((Target::Function(function), New::Value(term))))
    }

    pub(super) fn target(&mut self, target: &Expr) -> Lowered<Target> {
        let (name, parts) = match &target.kind {
            ExprKind::Var(name) => (name.as_str(), &[][..]),
            ExprKind::Ref(head, parts) => match &head.kind {
                ExprKind::Var(name) => (name.as_str(), parts.as_slice()),
                _ => return fail(target.line, "`with` changes `input` or something below `data`"),
            },
            _ => return fail(target.line, "`with` changes `input` or something below `data`"),
        };
        let mut path = Vec::new();
        for part in parts {
            match &part.kind {
                ExprKind::Const(value) => path.push(value.clone()),
                _ => return fail(part.line, "the target of `with` is spelt out"),
            }
        }
        match name {
            "input" => Ok(Target::Input(path)),
            "data" => {
                let terms = path.iter().cloned().map(Term::Const).collect();
                match self.resolve(SymBase::Data, terms, target.line)? {
                    (SymBase::Rule(rule), rest) if rest.is_empty() => Ok(Target::Rule(rule)),
                    (SymBase::Data, _) => Ok(Target::Data(path)),
                    _ => fail(target.line, "`with` changes a whole rule, not a part of its value"),
                }
            }
            _ => fail(
                target.line,
                format!("`with {name}`: only functions and what is below `input` and `data` can be replaced"),
            ),
        }
    }

    pub(super) fn literal(&mut self, statement: &Statement, out: &mut Vec<Sym>) -> Lowered<()> {
        let line = statement.line;
        match &statement.literal {
            Literal::Expr(expr) => self.expression(expr, out),
            Literal::Not(expr) => {
                let mut inside = Vec::new();
                self.negated(expr, out, &mut inside)?;
                out.push(Sym { line, op: SymOp::Not(inside) });
                Ok(())
            }
            Literal::Some(_) => Ok(()),
            Literal::SomeIn { key, value, collection } => {
                let collection = self.argument(collection, out)?;
                let key = key.as_ref().map(|key| self.argument(key, out)).transpose()?;
                let value = self.argument(value, out)?;
                out.push(Sym { line, op: SymOp::Each { collection, key, value } });
                Ok(())
            }
            Literal::Every { key, value, domain, body } => {
                let domain = self.argument(domain, out)?;
                self.scopes.push(Scope::default());
                let key = key.as_ref().map(|name| {
                    self.declare(name);
                    self.scopes.last().and_then(|s| s.names.get(name).copied()).unwrap_or_default()
                });
                self.declare(value);
                let value = match self.scopes.last().and_then(|scope| scope.names.get(value).copied()) {
                    Some(slot) => slot,
                    None => self.slot(Some("_")),
                };
                self.declare_all(body, &[]);
                let mut inside = Vec::new();
                for statement in body {
                    self.statement(statement, &mut inside)?;
                }
                let captured = self.scopes.pop().unwrap_or_default().captured;
                out.push(Sym { line, op: SymOp::Every { domain, key, value, body: inside, captured } });
                Ok(())
            }
        }
    }

    /// A negated expression: what OPA moves before it goes to `outside`.
    pub(super) fn negated(&mut self, expr: &Expr, outside: &mut Vec<Sym>, inside: &mut Vec<Sym>) -> Lowered<()> {
        let line = expr.line;
        match &expr.kind {
            ExprKind::Unify(left, right) => {
                let left = self.operand(left, outside, inside)?;
                let right = self.operand(right, outside, inside)?;
                inside.push(Sym { line, op: SymOp::Unify(left, right) });
                Ok(())
            }
            ExprKind::Call(name, arguments) => {
                let mut terms = Vec::new();
                for argument in arguments {
                    terms.push(self.argument(argument, outside)?);
                }
                let (function, result) = self.function(name, &terms, line)?;
                let out = if result { terms.pop() } else { None };
                inside.push(Sym { line, op: SymOp::Call { function, arguments: terms, out } });
                Ok(())
            }
            ExprKind::Assign(..) => fail(line, "a negated statement cannot assign"),
            _ => {
                let term = self.operand(expr, outside, inside)?;
                inside.push(Sym { line, op: SymOp::Holds(term) });
                Ok(())
            }
        }
    }

    /// A term of a negated expression that stays inside when it is a reference.
    pub(super) fn operand(&mut self, expr: &Expr, outside: &mut Vec<Sym>, inside: &mut Vec<Sym>) -> Lowered<Term> {
        match &expr.kind {
            ExprKind::Ref(..) | ExprKind::Var(_) => {
                let slot = self.slot(None);
                if let Some(term) = self.reference(expr, Some(Term::Slot(slot)), outside, inside)? {
                    return Ok(term);
                }
                Ok(Term::Slot(slot))
            }
            _ => self.argument(expr, outside),
        }
    }

    pub(super) fn expression(&mut self, expr: &Expr, out: &mut Vec<Sym>) -> Lowered<()> {
        let line = expr.line;
        match &expr.kind {
            ExprKind::Assign(left, right) | ExprKind::Unify(left, right) => {
                let left_term = self.argument(left, out)?;
                self.unify(right, left_term, out, line)
            }
            ExprKind::Call(name, arguments) => {
                let mut terms = Vec::new();
                for argument in arguments {
                    terms.push(self.argument(argument, out)?);
                }
                if name.len() == 1 && name[0] == "walk" && terms.len() == 2 {
                    let (Some(result), Some(term)) = (terms.pop(), terms.pop()) else { return Ok(()) };
                    out.push(Sym { line, op: SymOp::Descend { term, out: result } });
                    return Ok(());
                }
                let (function, result) = self.function(name, &terms, line)?;
                let result = if result { terms.pop() } else { None };
                out.push(Sym { line, op: SymOp::Call { function, arguments: terms, out: result } });
                Ok(())
            }
            ExprKind::Ref(..) => {
                let mut same = Vec::new();
                let term = self.reference(expr, None, out, &mut same)?;
                out.extend(same);
                if let Some(term) = term {
                    out.push(Sym { line, op: SymOp::Holds(term) });
                }
                Ok(())
            }
            _ => {
                let term = self.argument(expr, out)?;
                out.push(Sym { line, op: SymOp::Holds(term) });
                Ok(())
            }
        }
    }

    /// `term = expr`, with the result of a call or reference put where it belongs.
    pub(super) fn unify(&mut self, expr: &Expr, term: Term, out: &mut Vec<Sym>, line: u32) -> Lowered<()> {
        match &expr.kind {
            ExprKind::Ref(..) => {
                let mut walk = Vec::new();
                let direct = self.reference(expr, Some(term.clone()), out, &mut walk)?;
                out.extend(walk);
                if let Some(direct) = direct {
                    out.push(Sym { line, op: SymOp::Unify(term, direct) });
                }
                Ok(())
            }
            ExprKind::Call(name, arguments) if !(name.len() == 1 && name[0] == "walk") => {
                let mut terms = Vec::new();
                for argument in arguments {
                    terms.push(self.argument(argument, out)?);
                }
                let (function, result) = self.function(name, &terms, line)?;
                if result {
                    return fail(line, format!("too many arguments for {}", name.join(".")));
                }
                out.push(Sym { line, op: SymOp::Call { function, arguments: terms, out: Some(term) } });
                Ok(())
            }
            _ => {
                let right = self.argument(expr, out)?;
                out.push(Sym { line, op: SymOp::Unify(term, right) });
                Ok(())
            }
        }
    }
}

/// The parts of a name such as `regex.match`.
fn dotted(expr: &Expr) -> Option<Vec<String>> {
    match &expr.kind {
        ExprKind::Var(name) => Some(vec![name.clone()]),
        ExprKind::Ref(head, parts) => {
            let mut name = dotted(head)?;
            for part in parts {
                match &part.kind {
                    ExprKind::Const(value) => name.push(value.as_str()?.to_owned()),
                    _ => return None,
                }
            }
            Some(name)
        }
        _ => None,
    }
}
