//! The shell around the pure middle: it observes, asks `core`, applies, and writes one status per pass.
pub mod apply;
pub mod event;
pub mod leader;
pub mod queue;
pub mod status;
pub mod watch;
