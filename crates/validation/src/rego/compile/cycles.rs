//! Rules that need themselves.

use std::sync::Arc;

use super::CompileError;
use crate::rego::plan::{Base, Function, New, Op, Program, Step};

/// Refuses rules that need themselves.
pub(super) fn acyclic(program: &Program) -> Result<(), CompileError> {
    pub(super) fn uses(steps: &[Step], out: &mut Vec<(usize, u32)>) {
        for step in steps {
            match &step.op {
                Op::Walk { base: Base::Rule(rule), .. } => out.push((*rule, step.line)),
                Op::Call { function: Function::Rule(rule), .. } => out.push((*rule, step.line)),
                Op::With { changes, body, .. } => {
                    for (_, new) in changes {
                        if let New::Function(Function::Rule(rule)) = new {
                            out.push((*rule, step.line));
                        }
                    }
                    uses(body, out);
                }
                Op::Build { body, .. } | Op::Not(body) | Op::Every { body, .. } => uses(body, out),
                _ => {}
            }
        }
    }
    // 0 new, 1 on the path, 2 done
    pub(super) fn visit(program: &Program, rule: usize, state: &mut [u8], depth: usize) -> Result<(), CompileError> {
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
