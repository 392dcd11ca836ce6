//! What a rule may use: time, memory, depth. Every value that is made is charged.

use std::time::{Duration, Instant};

/// Bounds of one rule's evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time.
    pub time: Duration,
    /// Bytes of values made, not counting what is freed in between.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(1), memory: 64 << 20 }
    }
}

/// Why an evaluation was stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// It took too long.
    #[error("the rule took longer than {} ms", .0.as_millis())]
    Time(Duration),
    /// It made too much.
    #[error("the rule made more than {} MiB of values", .0 >> 20)]
    Memory(usize),
    /// Rules that call rules that call rules.
    #[error("the rules call each other too deeply")]
    Depth,
    /// Two definitions disagree.
    #[error("{0}")]
    Conflict(String),
    /// Something that is not allowed here.
    #[error("{0}")]
    Refused(String),
}

/// A whole evaluation may use this many times what one rule may.
const WHOLE: u32 = 4;
/// Steps between two looks at the clock.
const CLOCK: u32 = 512;
/// How deeply evaluations may be nested, bounded by the thread's stack.
const DEPTH: u32 = 200;

/// What is left of [`Limits`].
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    limits: Limits,
    started: Option<Instant>,
    until_clock: u32,
    bytes: usize,
    depth: u32,
    /// What the rules to come may use together.
    rest: Limits,
    granted: usize,
}

impl Budget {
    pub fn new(limits: Limits) -> Self {
        let rest = Limits { time: limits.time * WHOLE, memory: limits.memory.saturating_mul(WHOLE as usize) };
        let granted = limits.memory;
        Self { limits, started: None, until_clock: CLOCK, bytes: limits.memory, depth: 0, rest, granted }
    }

    /// Gives the next rule its share: all of it, as long as the whole evaluation keeps within its bounds.
    pub fn refill(&mut self) {
        self.rest.memory = self.rest.memory.saturating_sub(self.granted - self.bytes);
        if let Some(started) = self.started.take() {
            self.rest.time = self.rest.time.saturating_sub(started.elapsed());
        }
        self.until_clock = CLOCK;
        self.granted = self.limits.memory.min(self.rest.memory);
        self.bytes = self.granted;
    }

    /// Counts one step.
    #[inline]
    pub fn step(&mut self) -> Result<(), Stop> {
        self.until_clock -= 1;
        if self.until_clock == 0 { self.clock() } else { Ok(()) }
    }

    #[cold]
    fn clock(&mut self) -> Result<(), Stop> {
        self.until_clock = CLOCK;
        // the clock starts with the first look at it: most rules end before
        let started = *self.started.get_or_insert_with(Instant::now);
        if started.elapsed() > self.limits.time.min(self.rest.time) {
            Err(Stop::Time(self.limits.time))
        } else {
            Ok(())
        }
    }

    /// Charges for a value before it is made; large ones also look at the clock.
    #[inline]
    pub fn charge(&mut self, bytes: usize) -> Result<(), Stop> {
        match self.bytes.checked_sub(bytes) {
            Some(left) => self.bytes = left,
            None => return Err(Stop::Memory(self.limits.memory)),
        }
        if bytes > 1 << 16 { self.clock() } else { Ok(()) }
    }

    /// Returns the bytes that may still be made.
    pub fn left(&self) -> usize {
        self.bytes
    }

    pub fn enter(&mut self) -> Result<(), Stop> {
        self.depth += 1;
        if self.depth > DEPTH { Err(Stop::Depth) } else { Ok(()) }
    }

    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// After an error: forget the nesting below `depth`.
    pub fn unwind(&mut self, depth: u32) {
        self.depth = depth;
    }
}
