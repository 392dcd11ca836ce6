//! How long one VM takes: `bulk PROVIDER FILE`, a file with one workload a line.

use std::time::Instant;

use forklift_validation::Validator;
use forklift_validation::rego::value::Value;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(provider), Some(file)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: bulk PROVIDER FILE");
        return;
    };
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => return eprintln!("cannot read {file}: {error}"),
    };
    let start = Instant::now();
    let validator = Validator::new();
    let version = validator.rules_version(&provider);
    println!("load and compile: {:.1} ms (rules version {version})", start.elapsed().as_secs_f64() * 1e3);
    let lines: Vec<&str> = text.lines().collect();
    for _ in 0..3 {
        let start = Instant::now();
        let inputs: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let parsed = start.elapsed();
        let start = Instant::now();
        let mut concerns = 0;
        for input in inputs {
            concerns += validator.concerns_of(&provider, input).map_or(0, |found| found.len());
        }
        let evaluated = start.elapsed();
        let each = |time: std::time::Duration| time.as_secs_f64() * 1e6 / lines.len() as f64;
        println!(
            "{} VMs, {concerns} concerns: parse {:.1} µs, rules {:.1} µs a VM",
            lines.len(),
            each(parsed),
            each(evaluated)
        );
    }
}
