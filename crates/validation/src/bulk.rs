//! Many VMs at once, spread over the cores.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Bytes;
use futures_core::Stream;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::question::Question;
use crate::rego::value::Value;
use crate::request::first;
use crate::rest::answered;
use crate::{EvaluationError, Validator};

/// How many inputs a thread takes at a time.
const BATCH: usize = 32;

/// Applies `work` to every item on `threads` threads; the results are in the items' order.
pub fn parallel<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let parts = batches(items, threads, || (), |(), batch| batch.iter().map(&work).collect::<Vec<R>>());
    parts.into_iter().flatten().collect()
}

/// Applies `work` to batches of items on `threads` threads, each with a state of its own.
fn batches<T: Sync, S, R: Send>(
    items: &[T],
    threads: usize,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &[T]) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let threads = threads.clamp(1, items.len().div_ceil(BATCH).max(1));
    let run = || {
        let mut results = Vec::new();
        let mut state = begin();
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(batch) = items.get(from..items.len().min(from.saturating_add(BATCH))).filter(|b| !b.is_empty())
            else {
                return results;
            };
            results.push((from, work(&mut state, batch)));
        }
    };
    let mut parts: Vec<(usize, R)> = std::thread::scope(|scope| {
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
    parts.into_iter().map(|(_, result)| result).collect()
}

/// The text of many answers, in pieces.
pub(crate) struct Answers {
    pieces: std::vec::IntoIter<Vec<u8>>,
    /// How many answers there are.
    pub count: usize,
}

impl Answers {
    /// Returns the length of the whole text.
    pub fn length(&self) -> usize {
        self.pieces.as_slice().iter().map(Vec::len).sum()
    }
}

impl Stream for Answers {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.pieces.next().map(|piece| Ok(piece.into())))
    }
}

/// Answers one input a line with one answer a line.
pub(crate) fn answer_lines(question: &Question, bytes: &[u8]) -> Answers {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
    let answer = |question: &mut Question, batch: &[&[u8]]| {
        let mut text = Vec::with_capacity(PIECE);
        for line in batch {
            answer(question, line, "the line", &mut text);
            text.push(b'\n');
        }
        text
    };
    let pieces = batches(&lines, cores(), || question.apart(), answer);
    Answers { pieces: pieces.into_iter(), count: lines.len() }
}

/// The text of a batch's answers is about as long.
const PIECE: usize = 64 * 1024;

/// Answers `{"inputs": […]}` with `{"results": […]}`.
///
/// # Errors
/// Where the text is not that.
pub(crate) fn answer_list(question: &Question, bytes: &[u8]) -> Result<Answers, String> {
    #[derive(Deserialize)]
    struct Inputs<'a> {
        #[serde(borrow)]
        inputs: Vec<&'a RawValue>,
    }
    let Inputs { inputs } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let answer = |question: &mut Question, batch: &[&RawValue]| {
        let mut text = Vec::with_capacity(PIECE);
        for (at, input) in batch.iter().enumerate() {
            if at > 0 {
                text.push(b',');
            }
            answer(question, input.get().as_bytes(), "the input", &mut text);
        }
        text
    };
    let mut pieces = Vec::with_capacity(inputs.len() / BATCH * 2 + 4);
    pieces.push(b"{\"results\":[".to_vec());
    for (at, piece) in batches(&inputs, cores(), || question.apart(), answer).into_iter().enumerate() {
        if at > 0 {
            pieces.push(b",".to_vec());
        }
        pieces.push(piece);
    }
    pieces.push(b"]}\n".to_vec());
    Ok(Answers { pieces: pieces.into_iter(), count: inputs.len() })
}

fn answer(question: &Question, input: &[u8], what: &str, out: &mut Vec<u8>) {
    let (code, message) = match first(input, question.reader()) {
        Err(error) => ("invalid_parameter", format!("{what} contains malformed input document: {error}")),
        Ok(input) => match question.answer(Some(&input)) {
            // writing to memory does not fail
            Ok(value) => return serde_json::to_writer(out, &answered(value.as_ref(), false)).unwrap_or_default(),
            Err(error) => ("internal_error", error.to_string()),
        },
    };
    out.extend_from_slice(json!({"error": {"code": code, "message": message}}).to_string().as_bytes());
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
