//! The programs that run in pods, by name.

use std::process::ExitCode;

/// A worker's name, as the controllers give it in a pod's `args`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Name {
    /// Copies one disk into a volume and verifies it
    Importer,
    /// Converts a copied guest with virt-v2v
    Conversion,
    /// Looks into the disks of a VM at a snapshot before they are copied
    Inspection,
    /// Serves the appliances of a folder to the inventory
    OvaServer,
    /// Runs a migration hook's playbook
    HookRunner,
    /// Loads the user's VDDK and says whether it can be used
    VddkCheck,
    /// Reads a disk with the user's VDDK for an importer, which starts it
    #[value(hide = true)]
    Vddk,
}

impl Name {
    /// Runs the worker; its inputs are the environment and the mounted files.
    pub async fn run(self) -> ExitCode {
        match self {
            Name::Importer => forklift_workers::importer::run().await,
            Name::Conversion => forklift_workers::conversion::run().await,
            Name::Inspection => forklift_workers::inspection::run().await,
            Name::OvaServer => forklift_workers::ova_server::run().await,
            Name::HookRunner => forklift_workers::hook_runner::run().await,
            Name::VddkCheck => forklift_workers::vddk_check::run().await,
            // the library is called from one thread, which it may block
            Name::Vddk => {
                tokio::task::spawn_blocking(forklift_workers::importer::serve_vddk).await.unwrap_or(ExitCode::FAILURE)
            }
        }
    }
}
