//! From syntax trees to plans, by the rules of OPA's compiler.
//!
//! Three of its rewrites decide what a rule means and are done the same way here:
//!
//! - nested calls, and references that are arguments of calls, become statements of
//!   their own **before** the one they stand in. Hence `not f(input.x)` is undefined
//!   when `input.x` is, although `not input.x` and `not input.x == 1` hold then;
//! - `a == b` is unification, `!=`, `<`, `in` … are calls;
//! - the statements of a body are put into an order in which each finds its
//!   variables bound; when there is none, a variable is "unsafe".

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::SyntaxError;
use super::ast::{Branch, Expr, ExprKind, Literal, Module, Rule, RuleKind, Statement};
use super::builtins::{self, Builtin};
use super::plan::{
    Base, BranchPlan, Definition, Function, Key, Kind, Op, Pattern, Program, RuleSet, Step, Target, Term,
};
use super::value::Value;

/// An error in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    pub file: Arc<str>,
    pub line: u32,
    pub message: String,
}

/// Compiles modules into a program; the first error ends it.
///
/// Files from index `users` on are the user's.
pub fn program(modules: &[Module], users: usize) -> Result<Program, CompileError> {
    let mut program = Program { users, ..Program::default() };
    for module in modules {
        declare(&mut program, module)?;
    }
    let mut definitions: Vec<(usize, Definition)> = Vec::new();
    for (file, module) in modules.iter().enumerate() {
        let package = module.package.join(".");
        for rule in &module.rules {
            let at = |error: SyntaxError| CompileError {
                file: module.file.clone(),
                line: error.line,
                message: error.message,
            };
            let Some(index) = program.rule(&package, &rule.name) else { continue };
            let mut lowering = Lowering::new(&program, module, &package);
            match &rule.kind {
                RuleKind::Default { value, .. } => {
                    let value = lowering.constant(value).map_err(at)?;
                    if program.rules[index].default.as_ref().is_some_and(|other| *other != value) {
                        return Err(at(SyntaxError {
                            line: rule.line,
                            message: format!("`{}` has another default value already", rule.name),
                        }));
                    }
                    program.rules[index].default = Some(value);
                }
                _ => {
                    let mut definition = lowering.definition(rule).map_err(at)?;
                    definition.file = file as u32;
                    definitions.push((index, definition));
                }
            }
        }
    }
    for (index, definition) in definitions {
        program.rules[index].definitions.push(definition);
    }
    acyclic(&program)?;
    Ok(program)
}

/// Enters the names of a module's rules, with their kinds.
fn declare(program: &mut Program, module: &Module) -> Result<(), CompileError> {
    program.files.push(module.file.clone());
    let package = module.package.join(".");
    for rule in &module.rules {
        let kind = match &rule.kind {
            RuleKind::Default { args: Some(count), .. } => Kind::Function(*count),
            RuleKind::Default { args: None, .. } | RuleKind::Complete { .. } => Kind::Complete,
            RuleKind::Set { .. } => Kind::Set,
            RuleKind::Object { .. } => Kind::Object,
            RuleKind::Function { args, .. } => Kind::Function(args.len()),
        };
        let names = program.packages.entry(package.clone()).or_default();
        match names.get(&rule.name) {
            Some(index) if program.rules[*index].kind != kind => {
                return Err(CompileError {
                    file: module.file.clone(),
                    line: rule.line,
                    message: format!("`{}` is defined as something else already (conflicting rules)", rule.name),
                });
            }
            Some(_) => {}
            None => {
                names.insert(rule.name.clone(), program.rules.len());
                program.rules.push(RuleSet {
                    package: package.clone(),
                    name: rule.name.clone(),
                    kind,
                    default: None,
                    definitions: Vec::new(),
                    isolated: rule.name == "concerns" && kind == Kind::Set,
                });
            }
        }
    }
    Ok(())
}

/// A statement before it is put in order.
#[derive(Debug)]
struct Sym {
    line: u32,
    op: SymOp,
}

#[derive(Debug)]
enum SymOp {
    Walk { base: SymBase, path: Vec<Term>, out: Option<Term> },
    Call { function: Function, arguments: Vec<Term>, out: Option<Term> },
    Holds(Term),
    Unify(Term, Term),
    Build { slot: usize, kind: Kind, key: Term, value: Term, body: Vec<Sym>, captured: BTreeSet<usize> },
    Not(Vec<Sym>),
    Every { domain: Term, key: Option<usize>, value: usize, body: Vec<Sym>, captured: BTreeSet<usize> },
    Each { collection: Term, key: Option<Term>, value: Term },
    Descend { term: Term, out: Term },
    With { changes: Vec<(Target, Term)>, body: Vec<Sym> },
}

#[derive(Clone, Debug)]
enum SymBase {
    Input,
    Slot(usize),
    Rule(usize),
    Data,
}

#[derive(Default)]
struct Scope {
    names: HashMap<String, usize>,
    /// Slots of outer scopes that are used inside.
    captured: BTreeSet<usize>,
}

/// What a name stands for.
enum Meaning {
    Slot(usize),
    Base(SymBase, Vec<Term>),
}

struct Lowering<'a> {
    program: &'a Program,
    module: &'a Module,
    package: &'a str,
    scopes: Vec<Scope>,
    /// For each slot the name it has in the rule; `None` for results of nested calls.
    slots: Vec<Option<String>>,
}

type Lowered<T> = Result<T, SyntaxError>;

fn fail<T>(line: u32, message: impl Into<String>) -> Lowered<T> {
    Err(SyntaxError { line, message: message.into() })
}

impl<'a> Lowering<'a> {
    fn new(program: &'a Program, module: &'a Module, package: &'a str) -> Self {
        Self { program, module, package, scopes: vec![Scope::default()], slots: Vec::new() }
    }

    fn constant(&mut self, expr: &Expr) -> Lowered<Value> {
        let mut before = Vec::new();
        match (self.argument(expr, &mut before)?, before.is_empty()) {
            (Term::Const(value), true) => Ok(value),
            _ => fail(expr.line, "a default value is a constant"),
        }
    }

    fn definition(&mut self, rule: &Rule) -> Lowered<Definition> {
        let mut parameters = Vec::new();
        let mut bound = BTreeSet::new();
        let truth = Expr { line: rule.line, kind: ExprKind::Const(Value::Bool(true)) };
        let mut branches = Vec::new();
        match &rule.kind {
            RuleKind::Function { args, branches: bodies } => {
                for arg in args {
                    let mut names = Vec::new();
                    variables(arg, &mut names);
                    names.iter().for_each(|name| self.declare(name));
                }
                for arg in args {
                    let mut before = Vec::new();
                    let term = self.argument(arg, &mut before)?;
                    if !before.is_empty() {
                        return fail(arg.line, "a parameter is a name, a constant or a pattern of these");
                    }
                    let Some(pattern) = pattern(&term, &mut bound) else {
                        return fail(arg.line, "a parameter cannot be a set with names");
                    };
                    parameters.push(pattern);
                }
                for branch in bodies {
                    branches.push(self.branch(&truth, &branch.value, &branch.body, &bound, branch)?);
                }
            }
            RuleKind::Complete { branches: bodies } => {
                for branch in bodies {
                    branches.push(self.branch(&truth, &branch.value, &branch.body, &bound, branch)?);
                }
            }
            RuleKind::Set { key, body } => branches.push(self.body(key, &truth, body, &bound, rule.line)?),
            RuleKind::Object { key, value, body } => branches.push(self.body(key, value, body, &bound, rule.line)?),
            RuleKind::Default { .. } => {}
        }
        Ok(Definition { file: 0, line: rule.line, slots: self.slots.len(), parameters, branches })
    }

    fn branch(
        &mut self,
        key: &Expr,
        value: &Expr,
        body: &[Statement],
        bound: &BTreeSet<usize>,
        branch: &Branch,
    ) -> Lowered<BranchPlan> {
        self.body(key, value, body, bound, branch.value.line)
    }

    fn body(
        &mut self,
        key: &Expr,
        value: &Expr,
        body: &[Statement],
        bound: &BTreeSet<usize>,
        line: u32,
    ) -> Lowered<BranchPlan> {
        self.scopes.push(Scope::default());
        self.declare_all(body, &[key, value]);
        let mut symbols = Vec::new();
        for statement in body {
            self.statement(statement, &mut symbols)?;
        }
        let key_term = self.argument(key, &mut symbols)?;
        let value_term = self.argument(value, &mut symbols)?;
        self.scopes.pop();
        let mut bound = bound.clone();
        let steps = self.order(symbols, &mut bound)?;
        for term in [&key_term, &value_term] {
            self.all_bound(term, &bound, line)?;
        }
        let once = matches!((&key_term, &value_term), (Term::Const(_), Term::Const(_)));
        Ok(BranchPlan { line, steps, key: key_term, value: value_term, once })
    }

    fn all_bound(&self, term: &Term, bound: &BTreeSet<usize>, line: u32) -> Lowered<()> {
        let mut unbound = None;
        term.slots(&mut |slot| {
            if !bound.contains(&slot) {
                unbound = Some(slot);
            }
        });
        unbound.map_or(Ok(()), |slot| Err(self.unsafe_variable(slot, line)))
    }

    fn unsafe_variable(&self, slot: usize, line: u32) -> SyntaxError {
        let name = self.slots.get(slot).and_then(Option::as_deref).unwrap_or("_");
        SyntaxError { line, message: format!("var {name} is unsafe: nothing gives it a value") }
    }

    fn slot(&mut self, name: Option<&str>) -> usize {
        self.slots.push(name.map(str::to_owned));
        self.slots.len() - 1
    }

    fn declare(&mut self, name: &str) {
        if name == "_" {
            return;
        }
        let slot = self.slot(Some(name));
        if let Some(scope) = self.scopes.last_mut() {
            scope.names.entry(name.to_owned()).or_insert(slot);
        }
    }

    /// Gives the names that a body declares, and those it only uses, their slots.
    fn declare_all(&mut self, body: &[Statement], heads: &[&Expr]) {
        let mut declared = Vec::new();
        for statement in body {
            match &statement.literal {
                Literal::Some(names) => declared.extend(names.iter().cloned()),
                Literal::SomeIn { key, value, .. } => {
                    key.iter().for_each(|key| variables(key, &mut declared));
                    variables(value, &mut declared);
                }
                Literal::Expr(Expr { kind: ExprKind::Assign(left, _), .. }) => variables(left, &mut declared),
                _ => {}
            }
        }
        declared.iter().for_each(|name| self.declare(name));
        let mut used = Vec::new();
        for statement in body {
            match &statement.literal {
                Literal::Expr(expr) | Literal::Not(expr) => names(expr, &mut used),
                Literal::SomeIn { collection: expr, .. } | Literal::Every { domain: expr, .. } => {
                    names(expr, &mut used)
                }
                Literal::Some(_) => {}
            }
            statement.with.iter().for_each(|(_, value)| names(value, &mut used));
        }
        heads.iter().for_each(|head| names(head, &mut used));
        for name in used {
            let known = self.scopes.iter().any(|scope| scope.names.contains_key(&name));
            if !known && !self.is_global(&name) {
                self.declare(&name);
            }
        }
    }

    fn is_global(&self, name: &str) -> bool {
        matches!(name, "input" | "data")
            || self.module.imports.iter().any(|import| import.alias == name)
            || self.program.rule(self.package, name).is_some()
    }

    fn meaning(&mut self, name: &str, line: u32) -> Lowered<Meaning> {
        if name == "_" {
            return Ok(Meaning::Slot(self.slot(Some("_"))));
        }
        let found = self.scopes.iter().enumerate().rev().find_map(|(at, s)| s.names.get(name).map(|slot| (at, *slot)));
        if let Some((at, slot)) = found {
            for scope in self.scopes.iter_mut().skip(at + 1) {
                scope.captured.insert(slot);
            }
            return Ok(Meaning::Slot(slot));
        }
        if name == "input" {
            return Ok(Meaning::Base(SymBase::Input, Vec::new()));
        }
        if name == "data" {
            return Ok(Meaning::Base(SymBase::Data, Vec::new()));
        }
        if let Some(import) = self.module.imports.iter().find(|import| import.alias == name) {
            let path: Vec<Term> = import.path.iter().skip(1).map(|part| text(part)).collect();
            return Ok(match import.path.first().map(String::as_str) {
                Some("input") => Meaning::Base(SymBase::Input, path),
                _ => Meaning::Base(SymBase::Data, path),
            });
        }
        match self.program.rule(self.package, name) {
            Some(rule) => Ok(Meaning::Base(SymBase::Rule(rule), Vec::new())),
            None => fail(line, format!("var {name} is unsafe: nothing gives it a value")),
        }
    }

    /// Finds the rule that a path below `data` begins with.
    fn resolve(&self, base: SymBase, path: Vec<Term>, line: u32) -> Lowered<(SymBase, Vec<Term>)> {
        if !matches!(base, SymBase::Data) {
            return Ok((base, path));
        }
        let mut package = String::new();
        for (at, part) in path.iter().enumerate() {
            let Term::Const(Value::String(name)) = part else { break };
            if let Some(rule) = self.program.rule(&package, name) {
                return Ok((SymBase::Rule(rule), path[at + 1..].to_vec()));
            }
            if !package.is_empty() {
                package.push('.');
            }
            package.push_str(name);
        }
        let inside = |known: &String| known == &package || known.starts_with(&format!("{package}."));
        if package.is_empty()
            || self.program.packages.keys().any(inside) && !self.program.packages.contains_key(&package)
        {
            return fail(line, "a reference to several packages at once is not supported: name the package and rule");
        }
        Ok((SymBase::Data, path))
    }

    fn statement(&mut self, statement: &Statement, out: &mut Vec<Sym>) -> Lowered<()> {
        if statement.with.is_empty() {
            return self.literal(statement, out);
        }
        let mut changes = Vec::new();
        for (target, value) in &statement.with {
            let term = self.argument(value, out)?;
            changes.push((self.target(target)?, term));
        }
        let mut body = Vec::new();
        self.literal(statement, &mut body)?;
        out.push(Sym { line: statement.line, op: SymOp::With { changes, body } });
        Ok(())
    }

    fn target(&mut self, target: &Expr) -> Lowered<Target> {
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
            _ => fail(target.line, format!("`with {name}` is not supported: only `input` and `data` can be changed")),
        }
    }

    fn literal(&mut self, statement: &Statement, out: &mut Vec<Sym>) -> Lowered<()> {
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
    fn negated(&mut self, expr: &Expr, outside: &mut Vec<Sym>, inside: &mut Vec<Sym>) -> Lowered<()> {
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
                let (function, result) = self.function(name, terms.len(), line)?;
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
    fn operand(&mut self, expr: &Expr, outside: &mut Vec<Sym>, inside: &mut Vec<Sym>) -> Lowered<Term> {
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

    fn expression(&mut self, expr: &Expr, out: &mut Vec<Sym>) -> Lowered<()> {
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
                let (function, result) = self.function(name, terms.len(), line)?;
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
    fn unify(&mut self, expr: &Expr, term: Term, out: &mut Vec<Sym>, line: u32) -> Lowered<()> {
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
                let (function, result) = self.function(name, terms.len(), line)?;
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

    /// Finds a function; the flag says that the last argument is its result.
    fn function(&self, name: &[String], count: usize, line: u32) -> Lowered<(Function, bool)> {
        let dotted = name.join(".");
        let rule = match name {
            [single] => self.program.rule(self.package, single).or_else(|| {
                // an imported function
                let import = self.module.imports.iter().find(|import| import.alias == *single)?;
                let (last, path) = import.path.split_last()?;
                self.program.rule(&path.get(1..)?.join("."), last)
            }),
            [head, middle @ .., last] if head == "data" => self.program.rule(&middle.join("."), last),
            [head, middle @ .., last] => {
                self.module.imports.iter().find(|import| import.alias == *head).and_then(|i| {
                    let path: Vec<&str> = i.path.iter().skip(1).chain(middle).map(String::as_str).collect();
                    self.program.rule(&path.join("."), last)
                })
            }
            [] => None,
        };
        if let Some(rule) = rule {
            return match self.program.rules[rule].kind {
                Kind::Function(arity) if arity == count => Ok((Function::Rule(rule), false)),
                Kind::Function(arity) if arity + 1 == count => Ok((Function::Rule(rule), true)),
                Kind::Function(arity) => fail(line, format!("`{dotted}` takes {arity} arguments, not {count}")),
                _ => fail(line, format!("`{dotted}` is a rule, not a function")),
            };
        }
        let Some(builtin): Option<&'static Builtin> = builtins::find(&dotted) else {
            return fail(line, format!("unknown function {dotted}"));
        };
        match builtin.arity {
            arity if arity == count => Ok((Function::Builtin(builtin), false)),
            arity if arity + 1 == count => Ok((Function::Builtin(builtin), true)),
            arity => fail(line, format!("`{dotted}` takes {arity} arguments, not {count}")),
        }
    }

    /// Lowers an expression whose value is needed; what it takes comes before.
    fn argument(&mut self, expr: &Expr, out: &mut Vec<Sym>) -> Lowered<Term> {
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
                let (function, result) = self.function(name, terms.len(), line)?;
                if result {
                    return fail(line, format!("too many arguments for {}", name.join(".")));
                }
                out.push(Sym { line, op: SymOp::Call { function, arguments: terms, out: Some(Term::Slot(slot)) } });
                Term::Slot(slot)
            }
            ExprKind::Unify(left, right) => {
                let arguments = vec![self.argument(left, out)?, self.argument(right, out)?];
                let (function, _) = self.function(&["equal".to_owned()], 2, line)?;
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

    fn arguments(&mut self, items: &[Expr], out: &mut Vec<Sym>) -> Lowered<Vec<Term>> {
        items.iter().map(|item| self.argument(item, out)).collect()
    }

    fn comprehension(
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
    fn reference(
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

    /// Puts statements into an order in which each can run.
    fn order(&self, symbols: Vec<Sym>, bound: &mut BTreeSet<usize>) -> Lowered<Vec<Step>> {
        self.try_order(&symbols, bound)
    }

    fn try_order(&self, symbols: &[Sym], bound: &mut BTreeSet<usize>) -> Lowered<Vec<Step>> {
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

    fn ready(&self, term: &Term, bound: &BTreeSet<usize>, line: u32) -> Lowered<()> {
        self.all_bound(term, bound, line)
    }

    fn out(&self, term: &Term, bound: &mut BTreeSet<usize>, line: u32) -> Lowered<Pattern> {
        pattern(term, bound).map_or_else(|| fail(line, "a set with names cannot be matched"), Ok)
    }

    fn place(&self, symbol: &Sym, bound: &mut BTreeSet<usize>) -> Lowered<Op> {
        let line = symbol.line;
        let captured_bound = |captured: &BTreeSet<usize>, bound: &BTreeSet<usize>| {
            captured.iter().find(|slot| !bound.contains(slot)).map_or(Ok(()), |s| Err(self.unsafe_variable(*s, line)))
        };
        Ok(match &symbol.op {
            SymOp::Walk { base, path, out } => {
                let base = match base {
                    SymBase::Input => Base::Input,
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
                for (_, term) in changes {
                    self.ready(term, bound, line)?;
                }
                let before = bound.clone();
                let body = self.try_order(body, bound)?;
                let changes = changes.iter().map(|(target, term)| (target.copied(), term.clone())).collect();
                Op::With { changes, body, bound: bound.difference(&before).copied().collect() }
            }
        })
    }
}

impl Target {
    fn copied(&self) -> Self {
        match self {
            Target::Input(path) => Target::Input(path.clone()),
            Target::Rule(rule) => Target::Rule(*rule),
            Target::Data(path) => Target::Data(path.clone()),
        }
    }
}

fn text(part: &str) -> Term {
    Term::Const(Value::string(part))
}

/// Turns a term into a pattern that binds what is not bound; `None` for sets with unbound members.
fn pattern(term: &Term, bound: &mut BTreeSet<usize>) -> Option<Pattern> {
    let mut free = false;
    term.slots(&mut |slot| free |= !bound.contains(&slot));
    if !free {
        return Some(Pattern::Equal(term.clone()));
    }
    match term {
        Term::Slot(slot) => {
            bound.insert(*slot);
            Some(Pattern::Bind(*slot))
        }
        Term::Array(items) => items.iter().map(|item| pattern(item, bound)).collect::<Option<_>>().map(Pattern::Array),
        Term::Object(members) => members
            .iter()
            .map(|(key, value)| {
                let mut free = false;
                key.slots(&mut |slot| free |= !bound.contains(&slot));
                if free { None } else { Some((key.clone(), pattern(value, bound)?)) }
            })
            .collect::<Option<_>>()
            .map(Pattern::Object),
        Term::Set(_) | Term::Const(_) => None,
    }
}

/// Makes a composite of constants a constant.
fn folded(term: Term) -> Term {
    let constant = |term: &Term| match term {
        Term::Const(value) => Some(value.clone()),
        _ => None,
    };
    match &term {
        Term::Array(items) => items.iter().map(constant).collect::<Option<_>>().map(Value::array),
        Term::Set(items) => items.iter().map(constant).collect::<Option<_>>().map(Value::set),
        Term::Object(members) => members
            .iter()
            .map(|(key, value)| Some((constant(key)?, constant(value)?)))
            .collect::<Option<_>>()
            .map(Value::object),
        _ => None,
    }
    .map_or(term, Term::Const)
}

/// The variables of a pattern.
fn variables(expr: &Expr, out: &mut Vec<String>) {
    match &expr.kind {
        ExprKind::Var(name) => out.push(name.clone()),
        ExprKind::Array(items) | ExprKind::Set(items) => items.iter().for_each(|item| variables(item, out)),
        ExprKind::Object(members) => members.iter().for_each(|(_, value)| variables(value, out)),
        _ => {}
    }
}

/// The names used in an expression, those inside comprehensions left out.
fn names(expr: &Expr, out: &mut Vec<String>) {
    match &expr.kind {
        ExprKind::Const(_) | ExprKind::ArrayCompr(..) | ExprKind::SetCompr(..) | ExprKind::ObjectCompr(..) => {}
        ExprKind::Var(name) => out.push(name.clone()),
        ExprKind::Ref(head, parts) => {
            names(head, out);
            parts.iter().for_each(|part| names(part, out));
        }
        ExprKind::Call(_, items) | ExprKind::Array(items) | ExprKind::Set(items) => {
            items.iter().for_each(|item| names(item, out));
        }
        ExprKind::Object(members) => members.iter().for_each(|(key, value)| {
            names(key, out);
            names(value, out);
        }),
        ExprKind::Assign(left, right) | ExprKind::Unify(left, right) => {
            names(left, out);
            names(right, out);
        }
    }
}

/// Refuses rules that need themselves.
fn acyclic(program: &Program) -> Result<(), CompileError> {
    fn uses(steps: &[Step], out: &mut Vec<(usize, u32)>) {
        for step in steps {
            match &step.op {
                Op::Walk { base: Base::Rule(rule), .. } => out.push((*rule, step.line)),
                Op::Call { function: Function::Rule(rule), .. } => out.push((*rule, step.line)),
                Op::Build { body, .. } | Op::Not(body) | Op::Every { body, .. } | Op::With { body, .. } => {
                    uses(body, out);
                }
                _ => {}
            }
        }
    }
    // 0 new, 1 on the path, 2 done
    fn visit(program: &Program, rule: usize, state: &mut [u8], depth: usize) -> Result<(), CompileError> {
        state[rule] = 1;
        for definition in &program.rules[rule].definitions {
            let mut used = Vec::new();
            definition.branches.iter().for_each(|branch| uses(&branch.steps, &mut used));
            for (other, line) in used {
                let file = || program.files.get(definition.file as usize).cloned().unwrap_or_else(|| Arc::from(""));
                match state[other] {
                    0 if depth > 100 => {
                        let message = "rules call each other too deeply".to_owned();
                        return Err(CompileError { file: file(), line, message });
                    }
                    0 => visit(program, other, state, depth + 1)?,
                    1 => {
                        let message = format!("rule {} is recursive", program.rules[other].name);
                        return Err(CompileError { file: file(), line, message });
                    }
                    _ => {}
                }
            }
        }
        state[rule] = 2;
        Ok(())
    }
    let mut state = vec![0; program.rules.len()];
    for rule in 0..program.rules.len() {
        if state[rule] == 0 {
            visit(program, rule, &mut state, 0)?;
        }
    }
    Ok(())
}
