//! The programs that run in pods. Their inputs are arguments, environment and
//! mounted files; their outputs are a volume, an exit code, a termination
//! message and an HTTP endpoint. They know nothing of the controllers.

pub mod conversion;
pub mod hook_runner;
pub mod importer;
pub mod inspection;
pub mod ova_server;
pub mod vddk_check;
