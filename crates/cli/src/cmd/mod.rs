//! The command tree: a folder a verb, a file a noun.

mod create;
mod delete;
mod describe;
mod get;
mod lifecycle;

use clap::Subcommand;

use crate::cluster::Cluster;
use crate::{Global, output};

/// The verbs.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// List objects, or what a provider has
    #[command(subcommand)]
    Get(get::Get),
    /// Show one object in full
    #[command(subcommand)]
    Describe(describe::Describe),
    /// Create an object
    #[command(subcommand)]
    Create(create::Create),
    /// Delete objects
    #[command(subcommand)]
    Delete(delete::Delete),
    /// Start migrations
    #[command(subcommand)]
    Start(lifecycle::Start),
    /// Let warm migrations cut over
    #[command(subcommand)]
    Cutover(lifecycle::Cutover),
    /// Cancel virtual machines of a running migration
    #[command(subcommand)]
    Cancel(lifecycle::Cancel),
    /// Archive plans: end their clean-up duties and hide them
    #[command(subcommand)]
    Archive(lifecycle::Archive),
    /// Take plans out of the archive
    #[command(subcommand)]
    Unarchive(lifecycle::Archive),
    /// Print the version
    Version,
    /// Print a completion script
    Completion {
        /// The shell
        #[command(subcommand)]
        shell: crate::Shell,
    },
}

impl Command {
    /// Runs the command.
    pub async fn run(&self, global: &Global) -> anyhow::Result<()> {
        match self {
            Command::Version => return output::line(&format!("kubectl-mtv version: {}", env!("CARGO_PKG_VERSION"))),
            Command::Completion { shell } => {
                crate::completion(shell);
                return Ok(());
            }
            _ => {}
        }
        let cluster = Cluster::connect(global).await?;
        match self {
            Command::Get(get) => get.run(&cluster).await,
            Command::Describe(describe) => describe.run(&cluster).await,
            Command::Create(create) => create.run(&cluster).await,
            Command::Delete(delete) => delete.run(&cluster).await,
            Command::Start(start) => start.run(&cluster).await,
            Command::Cutover(cutover) => cutover.run(&cluster).await,
            Command::Cancel(cancel) => cancel.run(&cluster).await,
            Command::Archive(archive) => archive.run(&cluster, true).await,
            Command::Unarchive(archive) => archive.run(&cluster, false).await,
            Command::Version | Command::Completion { .. } => Ok(()),
        }
    }
}
