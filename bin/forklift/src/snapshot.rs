//! `forklift snapshot` and `forklift up --restore`: every object of the stack in one file, and back.

use std::path::{Path, PathBuf};

use crate::default_data_dir;
use crate::stack::API_SERVER;

/// Options of `forklift snapshot`.
#[derive(clap::Args, Clone, Debug)]
pub struct SnapshotArgs {
    /// The file to write; it may not exist yet. It holds secrets and is readable by this user only
    pub file: PathBuf,
    /// The stack's data folder, as given to `forklift up` [default: $XDG_DATA_HOME/forklift]
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

/// Writes the snapshot.
pub fn take(args: &SnapshotArgs) -> anyhow::Result<()> {
    let data = args.data_dir.clone().unwrap_or_else(default_data_dir);
    let taken = apiserver::snapshot(&data.join(API_SERVER), &args.file)?;
    println!(
        "{}: {} objects at revision {}, {} KiB",
        args.file.display(),
        taken.objects,
        taken.revision,
        taken.bytes.div_ceil(1024)
    );
    Ok(())
}

/// Makes the stack's objects from a snapshot, before the stack starts.
pub fn restore(file: &Path, data: &Path) -> anyhow::Result<()> {
    let restored = apiserver::restore(file, &data.join(API_SERVER))?;
    println!("restored {} objects from {}", restored.objects, file.display());
    Ok(())
}
