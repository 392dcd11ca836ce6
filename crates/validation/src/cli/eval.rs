//! `forklift policy eval` and `forklift policy trace`.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::estate::{EstateArgs, Live, name, rules};
use super::{Output, Problem, counted};
use crate::suite::short;
use crate::{Concern, RuleTrace, TraceStep, cores, parallel};

/// Options of `forklift policy eval`.
#[derive(clap::Args, Clone, Debug)]
pub struct EvalArgs {
    /// Which virtual machines
    #[command(flatten)]
    pub estate: EstateArgs,
    /// Folder with rules of your own
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// Form of the result
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

/// Options of `forklift policy trace`.
#[derive(clap::Args, Clone, Debug)]
pub struct TraceArgs {
    /// Which virtual machines
    #[command(flatten)]
    pub estate: EstateArgs,
    /// Folder with rules of your own
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// Only concerns whose id or label contains this, whether they are raised or not
    #[arg(long, value_name = "TEXT")]
    pub concern: Option<String>,
    /// Rules that do not fire too
    #[arg(long)]
    pub all: bool,
    /// Form of the result
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

type Loader<'l> = &'l dyn Fn(&Live) -> Result<Vec<Value>, Problem>;

fn not_junit(output: Output) -> Result<(), Problem> {
    if output == Output::Junit { Err("junit is for tests: use table or json".into()) } else { Ok(()) }
}

pub(super) fn run(args: &EvalArgs, live: Loader<'_>, out: &mut dyn Write) -> Result<u8, Problem> {
    not_junit(args.output)?;
    let estate = args.estate.load(live)?;
    let validator = rules(args.rules.as_deref())?;
    let found = parallel(&estate.vms, cores(), |vm| validator.concerns(&estate.provider_type, vm));
    let mut results = Vec::new();
    let mut code = 0;
    for (vm, found) in estate.vms.iter().zip(found) {
        match found {
            Ok(concerns) => results.push((vm, concerns)),
            Err(error) => {
                eprintln!("{}: {}", name(vm), with_sources(&error));
                code = 1;
            }
        }
    }
    if args.output == Output::Json {
        let list: Vec<Value> = results
            .iter()
            .map(|(vm, concerns)| json!({"id": vm["id"], "name": vm["name"], "concerns": concerns}))
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
        return Ok(code);
    }
    let mut totals = [0usize; 3];
    for (vm, concerns) in &results {
        writeln!(out, "{}  {}", name(vm), counted(concerns.len(), "concern", "concerns"))?;
        let width = concerns.iter().map(|concern| concern.id.chars().count()).max().unwrap_or(0);
        for concern in concerns {
            totals[order(concern)] += 1;
            writeln!(out, "  {:<11}  {:<width$}  {}", concern.category, concern.id, concern.label)?;
        }
    }
    if results.len() != 1 {
        let [critical, warning, other] = totals;
        let vms = counted(results.len(), "VM", "VMs");
        writeln!(out, "\n{vms}: {critical} critical, {warning} warnings, {other} for information")?;
    }
    Ok(code)
}

fn order(concern: &Concern) -> usize {
    match concern.category.as_str() {
        "Critical" => 0,
        "Warning" => 1,
        _ => 2,
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text += &format!(": {inner}");
        source = inner.source();
    }
    text
}

pub(super) fn trace(args: &TraceArgs, live: Loader<'_>, out: &mut dyn Write) -> Result<u8, Problem> {
    not_junit(args.output)?;
    let estate = args.estate.load(live)?;
    let validator = rules(args.rules.as_deref())?;
    let mut list = Vec::new();
    for vm in &estate.vms {
        let mut traces = validator.trace(&estate.provider_type, vm);
        traces.retain(|trace| match &args.concern {
            Some(part) => is_about(trace, part),
            None => args.all || !trace.concerns.is_empty() || trace.stopped.is_some(),
        });
        if args.output == Output::Json {
            list.push(json!({
                "id": vm["id"], "name": vm["name"], "rules": traces.iter().map(as_json).collect::<Vec<_>>(),
            }));
            continue;
        }
        if traces.is_empty() {
            match &args.concern {
                Some(part) => return Err(format!("there is no rule about `{part}`").into()),
                None => writeln!(out, "{}  no rule fires", name(vm))?,
            }
            continue;
        }
        writeln!(out, "{}", name(vm))?;
        traces.iter().try_for_each(|trace| show(trace, out))?;
    }
    if args.output == Output::Json {
        writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
    }
    Ok(0)
}

fn is_about(trace: &RuleTrace, part: &str) -> bool {
    trace.id.as_deref().is_some_and(|id| id.contains(part))
        || trace.concerns.iter().any(|concern| concern.id.contains(part) || concern.label.contains(part))
}

fn show(trace: &RuleTrace, out: &mut dyn Write) -> Result<(), Problem> {
    let id = trace.concerns.first().map(|c| c.id.as_str()).or(trace.id.as_deref()).unwrap_or("(no id)");
    let outcome = match (&trace.stopped, trace.concerns.len()) {
        (Some(why), _) => format!("stopped: {why}"),
        (None, 0) => "does not fire".to_owned(),
        (None, 1) => "fires".to_owned(),
        (None, times) => format!("fires {times} times"),
    };
    writeln!(out, "\n  {id}  {outcome}  ({}:{})", trace.file, trace.line)?;
    for concern in &trace.concerns {
        writeln!(out, "    {}: {}", concern.category, concern.label)?;
    }
    for step in &trace.steps {
        let mark = if step.held { '✔' } else { '✘' };
        let place =
            if step.file == trace.file { format!("{}", step.line) } else { format!("{}:{}", base(step), step.line) };
        let value = step.value.as_ref().map(|value| format!("  ⇒ {}", short(value))).unwrap_or_default();
        writeln!(out, "    {mark} {place:>4}  {}{}{value}", "  ".repeat(step.depth as usize), step.text)?;
    }
    Ok(())
}

fn base(step: &TraceStep) -> &str {
    step.file.rsplit('/').next().unwrap_or(&step.file)
}

fn as_json(trace: &RuleTrace) -> Value {
    json!({
        "file": trace.file, "line": trace.line, "id": trace.id, "fires": !trace.concerns.is_empty(),
        "concerns": trace.concerns, "stopped": trace.stopped,
        "steps": trace.steps.iter().map(|step| json!({
            "file": step.file, "line": step.line, "text": step.text, "held": step.held,
            "value": step.value.as_ref().map(Value::from),
        })).collect::<Vec<_>>(),
    })
}
