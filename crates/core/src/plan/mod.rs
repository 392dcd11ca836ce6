//! The migration of a plan's VMs, decided in pure functions.
//!
//! ```text
//! watch ──► observe(needs(state)) ──► World ──► step ──► effects ──► apply each (idempotent) ──► store next
//!    ▲                                                     │ crash anywhere here: the same effects come again
//!    └──────────────────── recheck / object event ◄────────┘
//! ```
//! The protocol of the shell, for one VM:
//! 1. observe what [`step::needs`] asks for; what cannot be read means: no step now;
//! 2. [`step::step`]; pass every effect through [`crate::safety::permit`], then apply it, in their order;
//! 3. all applied: store [`Transition::next`]. One refused: apply no further one and store
//!    [`step::refused`]`(&old_state, …)` instead;
//! 4. look again as [`Transition::recheck`] says, or when an object changes.
//!
//! Entry points: [`itinerary`] (the order of phases), [`step`] (one VM), [`run`] (begin and end of a migration,
//! which one is active), [`schedule`] (who may start).
pub mod bandwidth;
pub mod effect;
pub mod itinerary;
pub mod phase;
pub mod pipeline;
pub mod run;
pub mod schedule;
pub mod state;
pub mod step;
pub mod wire;
pub mod world;

pub use effect::{Effect, EffectError, ObjectRef, TargetObject};
pub use phase::Phase;
pub use state::{Finding, Outcome, VmState, WaitCode, WaitingOn};
pub use world::{CancelReason, MigrationKind, Needs, PlanFacts, PlanVm, SourceFacts, TargetFacts, World};

/// What a step decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The state to be stored when all effects were applied; `next.waiting_on` tells what it waits for.
    pub next: VmState,
    /// What is to be done first, in this order.
    pub effects: Vec<Effect>,
    /// When to look again.
    pub recheck: Recheck,
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recheck {
    /// At once: the state moved on.
    Now,
    /// After so many seconds, or when an object changes.
    After(u32),
    /// Never: the migration is over.
    Never,
}
