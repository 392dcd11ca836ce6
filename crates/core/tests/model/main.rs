//! The model test: many migrations in random worlds, with a crash before and after each effect, refused effects, lost
//! status writes, doubled effects, cancels, outages and other people's deeds. Every rule of `forklift_core::safety` is
//! asserted twice: by the rules themselves, and by a world that knows the truth. Planted bugs must be found.
mod fake;
mod mutants;
mod run;

use std::time::Instant;

use forklift_core::plan::Outcome;
use forklift_core::plan::step::step;

/// Migrations of the unchanged step.
const RUNS: u64 = 10_000;
/// Migrations within which a planted bug has to be found.
const MUTANT_RUNS: u64 = 6_000;

#[test]
fn every_migration_ends_well_whatever_happens() {
    let begun = Instant::now();
    let (mut succeeded, mut failed, mut canceled, mut steps) = (0u64, 0u64, 0u64, 0u64);
    for seed in 1..=RUNS {
        let report = run::migrate(seed, step, true);
        assert!(report.broken.is_empty(), "seed {seed}: {:#?}", report.broken);
        steps += report.steps;
        match report.outcome {
            Some(Outcome::Succeeded) => succeeded += 1,
            Some(Outcome::Failed) => failed += 1,
            Some(Outcome::Canceled) => canceled += 1,
            None => {}
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "model: {RUNS} migrations ({succeeded} succeeded, {failed} failed, {canceled} canceled), {steps} steps in {seconds:.2} s: {:.0} migrations/s",
        RUNS as f64 / seconds
    );
    assert!(succeeded > RUNS / 5 && failed > RUNS / 20 && canceled > RUNS / 20, "the worlds are too one-sided");
}

#[test]
fn planted_bugs_are_found() {
    let mut missed = Vec::new();
    for (name, mutant) in mutants::MUTANTS {
        let found = (1..=MUTANT_RUNS).find_map(|seed| {
            let report = run::migrate(seed, *mutant, false);
            report.broken.into_iter().next().map(|text| (seed, text))
        });
        match found {
            Some((seed, text)) => println!("{name}: seed {seed}: {text}"),
            None => missed.push(*name),
        }
    }
    assert!(missed.is_empty(), "the model does not find: {missed:#?}");
}

#[test]
fn the_safety_rules_alone_stop_the_dangerous_ones() {
    let guarded = [
        "goes on before the copy is verified",
        "creates the VM before the conversion finished",
        "deletes a foreign VM of the target's name",
        "removes the disks of a failed migration",
    ];
    for (name, mutant) in mutants::MUTANTS.iter().filter(|(name, _)| guarded.contains(name)) {
        let stopped = (1..=MUTANT_RUNS).any(|seed| {
            let report = run::migrate(seed, *mutant, true);
            report.broken.first().is_some_and(|text| text.starts_with("safety: "))
        });
        assert!(stopped, "not stopped: {name}");
    }
}
