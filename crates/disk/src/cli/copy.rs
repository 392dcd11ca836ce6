//! `forklift disk copy`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::changed::ChangedRanges;
use crate::copy;
use crate::digest::Algorithm;
use crate::error::{Error, Result};
use crate::http;
use crate::image::Format;
use crate::job::{Job, Origin, Resume, Watch};
use crate::limit::{Gate, Limit};
use crate::location::Location;
use crate::manifest::sign::SignKey;
use crate::patience::Patience;
use crate::target::Volume;
use crate::verify::Scope;

use super::{OutputArgs, SourceArgs, bar, show};

#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The raw file that is made, or the device with --device
    target: PathBuf,
    /// The target is a block device, or a file that stands for one: it exists and keeps its size
    #[arg(long)]
    device: bool,
    /// Format of the target: raw, or qcow2 in a file; a target may also be nbd://…
    #[arg(long, value_name = "FORMAT", default_value = "raw")]
    target_format: Format,
    /// How much is read back after the copy
    #[arg(long, value_enum, default_value_t = VerifyArg::Full)]
    verify: VerifyArg,
    /// The most bytes a second, also by the time of day: 20MiB/s, "08:00-18:00=20MiB/s, else unlimited",
    /// "Mon-Fri 08:00-18:00=pause"; @FILE follows a file with such a text, also while the copy runs
    #[arg(long, visible_alias = "bandwidth", value_name = "RATE|SCHEDULE|@FILE")]
    limit: Option<String>,
    /// Time zone of the limit's hours, e.g. Europe/Berlin; by default that of this machine
    #[arg(long, requires = "limit", value_name = "ZONE")]
    limit_zone: Option<String>,
    /// Folder that all copies of this source name: they share the limit and take turns
    #[arg(long, value_name = "FOLDER")]
    share: Option<PathBuf>,
    /// How many copies of this source run at once
    #[arg(long, requires = "share", default_value_t = 2)]
    share_slots: usize,
    /// Number of workers; by default two for each processor
    #[arg(long)]
    workers: Option<usize>,
    /// Digest that the stored bytes must have, e.g. sha256:1f…
    #[arg(long, value_parser = parse_digest)]
    digest: Option<(Algorithm, String)>,
    /// Name of the source's content; by default its path. A copy goes on only for the same one
    #[arg(long)]
    identity: Option<String>,
    /// Name of the state that the source is in, for later rounds of changes
    #[arg(long, value_name = "ID", conflicts_with = "changed_ranges")]
    change_id: Option<String>,
    /// Copy only what changed since the state that the target holds: JSON with baseChangeId,
    /// changeId and ranges of start and length
    #[arg(long, value_name = "FILE")]
    changed_ranges: Option<PathBuf>,
    /// Whether a copy that was begun is gone on with
    #[arg(long, value_enum, default_value_t = ResumeArg::Auto, default_missing_value = "only", num_args = 0..=1, require_equals = true)]
    resume: ResumeArg,
    /// Begin anew if the source is not the one that an interrupted copy began with
    #[arg(long)]
    start_over: bool,
    /// The URL gives one streamOptimized VMDK from front to back, without ranges or a length (an export lease)
    #[arg(long)]
    stream: bool,
    /// Bring a target that holds another state of the disk to this one by writing only what differs
    #[arg(long)]
    compare: bool,
    /// Where the manifest lies; by default beside the target
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Where the map of copied chunks lies; by default beside the manifest, or behind the disk on a larger device
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Sign the manifest with this Ed25519 key (PEM, PKCS #8)
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    /// The most tries of one read
    #[arg(long, default_value_t = Patience::default().tries)]
    tries: u32,
    /// How many seconds all reads together may wait for further tries
    #[arg(long, value_name = "SECONDS", default_value_t = Patience::default().budget.as_secs())]
    retry_budget: u64,
    /// Give up when the source does not answer a read for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Patience::default().stalled.as_secs())]
    stalled: u64,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum VerifyArg {
    /// All of the disk
    Full,
    /// One chunk in sixteen
    Sampled,
    /// What this copy wrote: after a round of changes less than all
    Copied,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ResumeArg {
    /// Where there is one
    Auto,
    /// There has to be one
    Only,
    /// Copy all anew
    Never,
}

fn parse_digest(text: &str) -> Result<(Algorithm, String), String> {
    let (name, hex) = text.split_once(':').ok_or("write it as ALGORITHM:HEX")?;
    let algorithm = Algorithm::parse(name).ok_or("the algorithm is SHA1, SHA256 or SHA512")?;
    Ok((algorithm, hex.to_owned()))
}

impl CopyArgs {
    /// Returns what opens the source, where it is a stream.
    fn origin(&self) -> Result<Option<Origin>> {
        if !self.stream {
            return Ok(None);
        }
        match Location::of(&self.source.image)? {
            Location::Http(url) => {
                let export = http::Export::new(url, &self.source.access())?;
                Ok(Some(Origin::Stream(Arc::new(export))))
            }
            other => Err(Error::Usage { what: format!("{}: --stream is for HTTP and HTTPS", other.shown()) }),
        }
    }

    fn job(&self) -> Result<Job> {
        let path = self.source.image.canonicalize().unwrap_or_else(|_| self.source.image.clone());
        // without what a URL keeps secret
        let place = Location::of(&path)?.shown();
        let named = || format!("{place}|{}", self.source.member.as_deref().unwrap_or_default());
        let zone = self.limit_zone.as_deref();
        Ok(Job {
            identity: self.identity.clone().unwrap_or_else(named),
            open: self.source.options(),
            change_id: self.change_id.clone(),
            changed: self.changed_ranges.as_deref().map(ChangedRanges::read).transpose()?,
            digest: self.digest.clone(),
            target: self.target.clone(),
            target_format: Some(self.target_format),
            volume: if self.device { Volume::Device } else { Volume::File },
            room: None,
            manifest_at: self.manifest.clone(),
            map_at: self.map.clone(),
            verify: match self.verify {
                VerifyArg::Full => Some(Scope::Full),
                VerifyArg::Sampled => Some(Scope::Sampled),
                VerifyArg::Copied => Some(Scope::Copied),
                VerifyArg::None => None,
            },
            sign: self.sign_key.as_deref().map(SignKey::read).transpose()?.map(Arc::new),
            resume: match self.resume {
                ResumeArg::Auto => Resume::Auto,
                ResumeArg::Only => Resume::Only,
                ResumeArg::Never => Resume::Never,
            },
            start_over: self.start_over,
            origin: self.origin()?,
            compare: self.compare,
            gate: self.share.as_deref().map(|folder| Gate::new(folder, self.share_slots)).transpose()?,
            copy: copy::Options {
                workers: self.workers,
                limit: self.limit.as_deref().map(|text| Limit::parse(text, zone)).transpose()?.unwrap_or_default(),
                patience: Patience {
                    tries: self.tries.max(1),
                    budget: Duration::from_secs(self.retry_budget),
                    stalled: Duration::from_secs(self.stalled.max(1)),
                },
            },
            source: path,
        })
    }

    pub(super) fn run(&self) -> Result<()> {
        let job = self.job()?;
        let watch = Watch::new();
        let started = Instant::now();
        let stages = [("copying", watch.copy()), ("verifying", watch.verify())];
        let outcome = bar::with_bar(&stages, || job.run(&watch))?;
        show::outcome(&outcome, &watch, job.manifest().as_deref(), started.elapsed(), self.output.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Rate;

    #[test]
    fn limits_and_digests() {
        let rate = |text: &str, zone| Limit::parse(text, zone).map(|limit| limit.now());
        assert_eq!(rate("50M", None).expect("a rate"), Rate::BytesPerSecond(50 << 20));
        assert_eq!(rate("else pause", Some("UTC")).expect("a rate"), Rate::Paused);
        for (text, zone) in [("fast", None), ("50M", Some("Nowhere/City")), ("@/nowhere/limit", None)] {
            let error = rate(text, zone).expect_err("is refused");
            assert_eq!((error.code(), error.retryable()), ("Usage", false));
        }
        assert_eq!(parse_digest("sha256:ab"), Ok((Algorithm::Sha256, "ab".into())));
        assert!(parse_digest("ab").is_err());
    }
}
