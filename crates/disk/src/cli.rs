//! `forklift disk`: look into images, copy and verify them, without any cluster.
//!
//! Data goes to stdout (text or, with `-o json`, JSON), talk and progress to stderr. Exit codes:
//! 0 done, 1 failed and may work later, 3 failed and will fail again.

mod show;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::copy;
use crate::digest::Algorithm;
use crate::error::{Error, Result};
use crate::image::Format;
use crate::job::{Job, Watch};
use crate::manifest::Manifest;
use crate::open::{Disk, Options, References};
use crate::progress::Progress;
use crate::target::Volume;
use crate::verify::{Scope, verify};

/// Arguments of `forklift disk`.
#[derive(Debug, Args)]
pub struct DiskArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show an image's format, sizes and details
    Info {
        #[command(flatten)]
        source: SourceArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List what the ranges of an image hold: data, zeros or nothing
    Map {
        #[command(flatten)]
        source: SourceArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Copy an image to a raw file or device, verify it and write its manifest
    ///
    /// A copy that was interrupted goes on where it was: run the same command again.
    Copy(Box<CopyArgs>),
    /// Compare a raw disk with the manifest that its copy left
    Verify {
        /// The raw file or device
        disk: PathBuf,
        /// The manifest; by default the one beside the disk
        manifest: Option<PathBuf>,
        /// Read only a sample back
        #[arg(long)]
        sampled: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Debug, Args)]
struct SourceArgs {
    /// The image, or the archive that holds it
    image: PathBuf,
    /// Member of the archive (OVA) that is the image; it is read in place
    #[arg(long)]
    member: Option<String>,
    /// Format of the image; by default its bytes tell
    #[arg(long)]
    format: Option<Format>,
    /// The image is a gzip stream
    #[arg(long)]
    gzip: bool,
    /// Open backing files and extents wherever the image says: only for images that you trust
    #[arg(long)]
    trust_references: bool,
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct CopyArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The raw file that is made, or the device with --device
    target: PathBuf,
    /// The target is a block device, or a file that stands for one: it exists and keeps its size
    #[arg(long)]
    device: bool,
    /// How much is read back after the copy
    #[arg(long, value_enum, default_value_t = VerifyArg::Full)]
    verify: VerifyArg,
    /// The most bytes a second, e.g. 50M
    #[arg(long, value_parser = parse_size)]
    bandwidth: Option<u64>,
    /// Number of workers; by default one for each processor
    #[arg(long)]
    workers: Option<usize>,
    /// Digest that the stored bytes must have, e.g. sha256:1f…
    #[arg(long, value_parser = parse_digest)]
    digest: Option<(Algorithm, String)>,
    /// Begin anew if the source is not the one that an interrupted copy began with
    #[arg(long)]
    start_over: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum VerifyArg {
    Full,
    Sampled,
    None,
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.to_ascii_uppercase().trim_end_matches("IB") {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(format!("unknown unit {unit:?}; use K, M or G")),
    };
    let number: u64 = digits.parse().map_err(|_| "no number".to_owned())?;
    number.checked_mul(1 << shift).filter(|size| *size > 0).ok_or_else(|| "out of range".into())
}

fn parse_digest(text: &str) -> Result<(Algorithm, String), String> {
    let (name, hex) = text.split_once(':').ok_or("write it as ALGORITHM:HEX")?;
    let algorithm = Algorithm::parse(name).ok_or("the algorithm is SHA1, SHA256 or SHA512")?;
    Ok((algorithm, hex.to_owned()))
}

impl SourceArgs {
    fn options(&self) -> Options {
        Options {
            member: self.member.clone(),
            format: self.format,
            gzip: self.gzip,
            references: if self.trust_references { References::Anywhere } else { References::Siblings },
        }
    }

    fn open(&self) -> Result<Disk> {
        Disk::open(&self.image, &self.options())
    }
}

/// Runs the command.
pub fn run(args: DiskArgs) -> ExitCode {
    let result = match args.command {
        Command::Info { source, output } => source.open().and_then(|disk| show::info(&disk, output.output)),
        Command::Map { source, output } => source.open().and_then(|disk| show::map(&disk, output.output)),
        Command::Copy(args) => run_copy(&args),
        Command::Verify { disk, manifest, sampled, output } => {
            let manifest = manifest.unwrap_or_else(|| crate::chunk_map::beside(&disk, "manifest.json"));
            run_verify(&disk, &manifest, sampled, output.output)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}\nhint: {}", error.chain(), error.hint());
            ExitCode::from(if error.retryable() { 1 } else { 3 })
        }
    }
}

fn run_copy(args: &CopyArgs) -> Result<()> {
    let source = &args.source;
    let path = source.image.canonicalize().unwrap_or_else(|_| source.image.clone());
    let job = Job {
        identity: format!("{}|{}", path.display(), source.member.as_deref().unwrap_or_default()),
        source: path,
        open: source.options(),
        digest: args.digest.clone(),
        target: args.target.clone(),
        volume: if args.device { Volume::Device } else { Volume::File },
        room: None,
        verify: match args.verify {
            VerifyArg::Full => Some(Scope::Full),
            VerifyArg::Sampled => Some(Scope::Sampled),
            VerifyArg::None => None,
        },
        start_over: args.start_over,
        copy: copy::Options { workers: args.workers, bandwidth: args.bandwidth },
    };
    let watch = Watch::new();
    let started = std::time::Instant::now();
    let outcome = with_bar(&[("copying", watch.copy()), ("verifying", watch.verify())], || job.run(&watch))?;
    show::outcome(&outcome, job.manifest().as_deref(), started.elapsed(), args.output.output)
}

fn run_verify(disk: &std::path::Path, path: &std::path::Path, sampled: bool, output: Output) -> Result<()> {
    let missing =
        || Error::Source { path: path.display().to_string(), offset: 0, source: std::io::ErrorKind::NotFound.into() };
    let manifest = Manifest::read(path)?.ok_or_else(missing)?;
    let progress = Progress::new();
    let scope = if sampled { Scope::Sampled } else { Scope::Full };
    let cancel = crate::cancel::Cancel::new();
    with_bar(&[("verifying", &progress)], || verify(disk, &manifest, scope, &progress, &cancel))?;
    show::verified(disk, &manifest, scope, output)
}

/// Shows progress on a terminal while `work` runs.
fn with_bar<T: Send>(stages: &[(&str, &Progress)], work: impl FnOnce() -> T + Send) -> T {
    use std::io::IsTerminal;
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let done = crate::cancel::Cancel::new();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.wait(Duration::from_millis(250)) {
                // the last stage that has begun
                let stage = stages.iter().rev().find(|(_, progress)| progress.snapshot().total > 0);
                if let Some((name, progress)) = stage {
                    eprint!("\r\x1b[K{}", show::line(name, &progress.snapshot()));
                }
            }
            eprint!("\r\x1b[K");
        });
        let result = work();
        done.cancel();
        result
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_digests() {
        assert_eq!(parse_size("50M"), Ok(50 << 20));
        assert_eq!(parse_size("4GiB"), Ok(4 << 30));
        assert!(parse_size("fast").is_err() && parse_size("0").is_err() && parse_size("99999999999G").is_err());
        assert_eq!(parse_digest("sha256:ab"), Ok((Algorithm::Sha256, "ab".into())));
        assert!(parse_digest("ab").is_err());
    }
}
