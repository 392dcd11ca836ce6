//! Many VMs at once, spread over the cores.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::rego::value::Value;
use crate::{EvaluationError, Validator};

/// How many inputs a thread takes at a time.
const BATCH: usize = 32;

/// Applies `work` to every item on `threads` threads; the results are in the items' order.
pub fn parallel<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let threads = threads.clamp(1, items.len().div_ceil(BATCH).max(1));
    let run = || {
        let mut results = Vec::new();
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(batch) = items.get(from..items.len().min(from.saturating_add(BATCH))).filter(|b| !b.is_empty())
            else {
                return results;
            };
            results.push((from, batch.iter().map(&work).collect::<Vec<R>>()));
        }
    };
    let mut parts: Vec<(usize, Vec<R>)> = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut parts = run();
        for helper in helpers {
            match helper.join() {
                Ok(more) => parts.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        parts
    });
    parts.sort_by_key(|(from, _)| *from);
    parts.into_iter().flat_map(|(_, results)| results).collect()
}

/// The number of threads that a bulk evaluation takes by itself.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Validator {
    /// Evaluates a provider's rules on many VMs; the results are in their order.
    pub fn concerns_of_all(
        &self,
        provider_type: &str,
        workloads: &[Value],
        threads: usize,
    ) -> Vec<Result<Vec<crate::Concern>, EvaluationError>> {
        parallel(workloads, threads, |workload| self.concerns_of(provider_type, workload.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_whatever_the_number_of_threads() {
        let items: Vec<usize> = (0..1000).collect();
        for threads in [1, 2, 7] {
            assert_eq!(parallel(&items, threads, |i| i * 2), items.iter().map(|i| i * 2).collect::<Vec<_>>());
        }
        assert!(parallel(&[] as &[usize], 4, |i| *i).is_empty());
    }
}
