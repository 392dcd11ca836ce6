//! One conformance suite, two servers: what a client may expect of a Kubernetes API, shown case by case on the embedded
//! API server and on a real kube-apiserver with etcd.
//!
//! ```text
//!   cases/<chapter>.rs ──► Chapter { name, cases } ──► run::all(server, chapters) ──► Report
//!                                                          │ 8 at once, each with a namespace of its own
//!   differences.md ───────────────────────────────────────►│ a listed difference must show, an unlisted one must not
//! ```
//! Expectations are what kube-apiserver does. Where the embedded server does otherwise on purpose, the case and the
//! reason are a line in `differences.md`; a line whose difference is gone fails the test.
//! `CONFORMANCE=watches` or `CONFORMANCE="generateName"` runs the chapters or cases whose names contain the text.

pub mod answer;
pub mod case;
pub mod cases;
pub mod differences;
pub mod hook;
pub mod run;
pub mod server;
pub mod watch;

pub use answer::Answer;
pub use case::{Case, Chapter, Outcome, Test, case};
pub use hook::Hook;
pub use server::Server;
pub use watch::Watch;
