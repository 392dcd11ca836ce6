//! The conversion worker: drives virt-v2v over the copied disks of one VM, so that the guest runs on KVM.
//!
//! ```text
//! V2V_* environment ──► Config            disks ──► overlay on each ──► virt-v2v-in-place ──► checks ──► commit
//!                                                        │                     │                 │
//!                                  a failure drops them: the copy is untouched │     root device, interface names
//!                                                   progress, facts, warnings ◄┘
//! ```
//! Its outputs are the disks, the HTTP endpoints that upstream's controller asks, and the termination message, so
//! that nothing is lost if nobody asked. `overlay` says how a killed run goes on.

mod config;
mod convert;
mod disks;
mod domain;
mod error;
pub(crate) mod guest_files;
pub(crate) mod kvm;
mod network;
mod output;
mod overlay;
mod report;
pub(crate) mod root_device;
mod server;
pub(crate) mod session;
pub(crate) mod tool;

#[cfg(test)]
mod crash_tests;

use std::net::SocketAddr;
use std::process::ExitCode;

use forklift_api::worker::{ConversionResult, EXIT_PERMANENT, EXIT_RETRYABLE, PORT};

pub use config::Config;
pub use convert::convert;
pub use error::ConversionError;
pub use output::Inspection;
pub use server::Shared;
pub use tool::Tools;

/// Runs the worker with the process's environment.
pub async fn run() -> ExitCode {
    let env = |key: &str| std::env::var(key).ok();
    let config = Config::from_env(env);
    let mut tools = Tools::on_path();
    tools.env = kvm::libguestfs_env(env).await;
    if config.xfs_repair_ignore {
        let append = format!("{} xfs_repair_ignore=1", env("LIBGUESTFS_APPEND").unwrap_or_default());
        tools.env.push(("LIBGUESTFS_APPEND".into(), append.trim().into()));
    }
    if let Some(memsize) = config.memsize {
        tools.env.push(("LIBGUESTFS_MEMSIZE".into(), memsize.to_string().into()));
    }

    let shared = Shared::default();
    let address = SocketAddr::new(config.listen, PORT);
    let server = match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => Some(tokio::spawn(axum::serve(listener, server::router(shared.clone())).into_future())),
        Err(error) => {
            // the termination message still tells the result
            tracing::warn!(%address, %error, "cannot serve the progress");
            None
        }
    };

    let outcome = convert(&config, &tools, &shared).await;
    let (result, code) = match outcome {
        Ok(result) => (result, ExitCode::SUCCESS),
        Err(error) => {
            let error = error.to_worker_error();
            tracing::error!(code = error.code, hint = error.hint, "{}", error.message);
            shared.progress("Failed", shared.current().percent.unwrap_or_default(), error.message.clone());
            let code = if error.retryable { EXIT_RETRYABLE } else { EXIT_PERMANENT };
            (ConversionResult { error: Some(error), ..ConversionResult::default() }, ExitCode::from(code))
        }
    };
    if let Err(error) = leave(&config, &result) {
        tracing::warn!(path = %config.termination_log.display(), %error, "cannot leave the result for the pod's status");
    }
    let failed = result.error.is_some();
    if !failed {
        shared.progress("Done", 100.0, "The guest is converted");
    }
    shared.finish(result);
    if !failed && config.local_migration && server.is_some() {
        shared.shutdown().await;
    }
    code
}

/// Leaves the result where the kubelet takes the termination message from; it takes 4096 bytes.
fn leave(config: &Config, result: &ConversionResult) -> std::io::Result<()> {
    let mut short = result.clone();
    let mut text = serde_json::to_string(&short)?;
    while text.len() > 4096 && !short.warnings.is_empty() {
        short.warnings.pop();
        text = serde_json::to_string(&short)?;
    }
    std::fs::write(&config.termination_log, text)
}
