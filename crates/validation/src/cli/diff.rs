//! `forklift policy diff`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::estate::{EstateArgs, Live, name, rules};
use super::{Output, Problem, counted};
use crate::{Concern, cores, parallel};

/// Options of `forklift policy diff`.
#[derive(clap::Args, Clone, Debug)]
pub struct DiffArgs {
    /// The rules before: a folder, or `bundled`
    pub old: PathBuf,
    /// The rules after: a folder, or `bundled`
    pub new: PathBuf,
    /// Which virtual machines
    #[command(flatten)]
    pub estate: EstateArgs,
    /// Compare texts and categories too, not only ids
    #[arg(long)]
    pub texts: bool,
    /// End with 1 when something differs
    #[arg(long)]
    pub exit_code: bool,
    /// Form of the result
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

/// What makes two concerns the same.
fn key(concern: &Concern, texts: bool) -> (String, String) {
    let name = if concern.id.is_empty() { concern.label.clone() } else { concern.id.clone() };
    let rest = match texts {
        true => format!("{} {} {}", concern.category, concern.label, concern.assessment),
        false => concern.category.clone(),
    };
    (name, rest)
}

struct Change<'v> {
    vm: &'v Value,
    gained: Vec<Concern>,
    lost: Vec<Concern>,
}

pub(super) fn run(
    args: &DiffArgs,
    live: &dyn Fn(&Live) -> Result<Vec<Value>, Problem>,
    out: &mut dyn Write,
) -> Result<u8, Problem> {
    if args.output == Output::Junit {
        return Err("junit is for tests: use table or json".into());
    }
    let estate = args.estate.load(live)?;
    let (old, new) = (rules(Some(&args.old))?, rules(Some(&args.new))?);
    let pairs = parallel(&estate.vms, cores(), |vm| {
        (old.concerns(&estate.provider_type, vm), new.concerns(&estate.provider_type, vm))
    });
    let mut changes = Vec::new();
    let mut refused = 0;
    for (vm, pair) in estate.vms.iter().zip(pairs) {
        let (Ok(before), Ok(after)) = pair else {
            refused += 1;
            continue;
        };
        let only = |these: &[Concern], those: &[Concern]| -> Vec<Concern> {
            let known: BTreeSet<_> = those.iter().map(|concern| key(concern, args.texts)).collect();
            these.iter().filter(|concern| !known.contains(&key(concern, args.texts))).cloned().collect()
        };
        let (gained, lost) = (only(&after, &before), only(&before, &after));
        if !gained.is_empty() || !lost.is_empty() {
            changes.push(Change { vm, gained, lost });
        }
    }
    match args.output {
        Output::Json => {
            let list: Vec<Value> = changes
                .iter()
                .map(|change| {
                    json!({"id": change.vm["id"], "name": change.vm["name"], "gained": change.gained, "lost": change.lost})
                })
                .collect();
            let document = json!({"vms": estate.vms.len(), "refused": refused, "changes": list});
            writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        }
        _ => table(&changes, estate.vms.len(), refused, out)?,
    }
    Ok(u8::from(args.exit_code && !changes.is_empty()))
}

fn table(changes: &[Change<'_>], total: usize, refused: usize, out: &mut dyn Write) -> Result<(), Problem> {
    let shown = |concern: &Concern| if concern.id.is_empty() { concern.label.clone() } else { concern.id.clone() };
    let mut sums: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
    for change in changes {
        writeln!(out, "{}", name(change.vm))?;
        for concern in &change.gained {
            sums.entry((shown(concern), concern.category.clone())).or_default().0 += 1;
            writeln!(out, "  + {:<11}  {}  {}", concern.category, shown(concern), concern.label)?;
        }
        for concern in &change.lost {
            sums.entry((shown(concern), concern.category.clone())).or_default().1 += 1;
            writeln!(out, "  - {:<11}  {}  {}", concern.category, shown(concern), concern.label)?;
        }
    }
    if !sums.is_empty() {
        writeln!(out)?;
        let width = sums.keys().map(|(id, _)| id.chars().count()).max().unwrap_or(0);
        for ((id, category), (gained, lost)) in &sums {
            writeln!(out, "{id:<width$}  {category:<11}  {:>6}  {:>6}", format!("+{gained}"), format!("-{lost}"))?;
        }
    }
    let refused =
        if refused == 0 { String::new() } else { format!(", {refused} could not be judged by one of the two") };
    writeln!(out, "{} of {} change{refused}", changes.len(), counted(total, "VM", "VMs"))?;
    Ok(())
}
