//! `forklift disk verify`, also `forklift verify`.

use std::path::PathBuf;

use clap::Args;

use crate::cancel::Cancel;
use crate::chunk_map::beside;
use crate::error::{Error, Result};
use crate::image::Format;
use crate::manifest::Manifest;
use crate::manifest::sign::VerifyKey;
use crate::open::{Disk, Options};
use crate::progress::Progress;
use crate::verify::{Scope, Stored, drop_cache, locate, verify};

use super::{OutputArgs, bar, show};

/// Compare a disk with the manifest that its copy left
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The disk: a raw file or device, or an image of the manifest's target format
    disk: PathBuf,
    /// The manifest; by default the one beside the disk
    manifest: Option<PathBuf>,
    /// Read only a sample back
    #[arg(long)]
    sampled: bool,
    /// Fail unless the manifest is signed with this Ed25519 key (PEM, public half)
    #[arg(long, value_name = "FILE")]
    verify_key: Option<PathBuf>,
    /// The source, where it is at hand: names the byte that differs, not only its chunk
    #[arg(long, value_name = "IMAGE")]
    source: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl VerifyArgs {
    pub(super) fn run(&self) -> Result<()> {
        let path = self.manifest.clone().unwrap_or_else(|| beside(&self.disk, "manifest.json"));
        let missing = || Error::Source {
            path: path.display().to_string(),
            offset: 0,
            source: std::io::ErrorKind::NotFound.into(),
        };
        let manifest = Manifest::read(&path)?.ok_or_else(missing)?;
        if let Some(key) = &self.verify_key {
            VerifyKey::read(key)?.check(&manifest, &path)?;
        }
        let disk = self.open(&manifest)?;
        let stored = disk.as_ref().map_or(Stored::Raw(&self.disk), |disk| Stored::Disk(disk, &self.disk));
        let scope = if self.sampled { Scope::Sampled } else { Scope::Full };
        let progress = Progress::new();
        let check = || verify(stored, &manifest, scope, &progress, &Cancel::new());
        match bar::with_bar(&[("verifying", &progress)], check) {
            Ok(()) => show::verified(&self.disk, &manifest, scope, self.verify_key.is_some(), self.output.output),
            Err(error) => Err(match &self.source {
                Some(source) => locate(error, stored, &Disk::open(source, &Options::default())?),
                None => error,
            }),
        }
    }

    /// Opens a disk that is not raw.
    fn open(&self, manifest: &Manifest) -> Result<Option<Disk>> {
        let Some(format) = &manifest.target_format else {
            return Ok(None);
        };
        let format: Format = format.parse().map_err(|_| Error::Unsupported {
            path: self.disk.display().to_string(),
            what: format!("disk format {format:?} of the manifest is not known"),
        })?;
        // the page cache is no proof of what is stored
        let _ = std::fs::File::open(&self.disk).and_then(|file| drop_cache(&file));
        Disk::open(&self.disk, &Options { format: Some(format), ..Options::default() }).map(Some)
    }
}
