//! The programs that run in pods. Their inputs are arguments, environment and
//! mounted files; their outputs are a volume, an exit code, a termination
//! message and an HTTP endpoint. They know nothing of the controllers.

pub mod conversion;
pub mod hook_runner;
pub mod importer;
pub mod inspection;
pub mod ova_server;
pub mod vddk_check;

/// Returns when the process is asked to end.
pub(crate) async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
