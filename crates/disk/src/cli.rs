//! `forklift disk`: look into images, copy and verify them, without any cluster.
//!
//! Data goes to stdout (text or, with `-o json`, JSON), talk and progress to stderr. Exit codes:
//! 0 done, 1 failed and may work later, 3 failed and will fail again.

mod bar;
mod copy;
mod show;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use crate::error::Result;
use crate::image::Format;
use crate::open::{Disk, Options, References};
use crate::remote::Access;

pub use verify::VerifyArgs;

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
    Copy(Box<copy::CopyArgs>),
    /// Compare a disk with the manifest that its copy left
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct SourceArgs {
    /// The image, or the archive that holds it: a path, http(s)://… or nbd(s)://…, nbd+unix:///…?socket=…
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
    /// File with headers for HTTP, a line `Name: value` each (Authorization, cookies)
    #[arg(long, value_name = "FILE")]
    header_file: Option<PathBuf>,
    /// PEM file of the authorities whose servers are trusted; by default those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Take any certificate of an HTTPS server
    #[arg(long)]
    insecure: bool,
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

impl SourceArgs {
    fn options(&self) -> Options {
        Options {
            member: self.member.clone(),
            format: self.format,
            gzip: self.gzip,
            references: if self.trust_references { References::Anywhere } else { References::Siblings },
            access: self.access(),
        }
    }

    fn access(&self) -> Access {
        let mut access = Access::default();
        (access.header_file, access.ca, access.insecure) = (self.header_file.clone(), self.ca.clone(), self.insecure);
        access
    }

    fn open(&self) -> Result<Disk> {
        Disk::open(&self.image, &self.options())
    }
}

/// Runs `forklift disk`.
pub fn run(args: DiskArgs) -> ExitCode {
    exit(match args.command {
        Command::Info { source, output } => source.open().and_then(|disk| show::info(&disk, output.output)),
        Command::Map { source, output } => source.open().and_then(|disk| show::map(&disk, output.output)),
        Command::Copy(args) => args.run(),
        Command::Verify(args) => args.run(),
    })
}

/// Runs `forklift verify`.
pub fn run_verify(args: VerifyArgs) -> ExitCode {
    exit(args.run())
}

fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}\ncode: {}\nhint: {}", error.chain(), error.code(), error.hint());
            ExitCode::from(if error.retryable() { 1 } else { 3 })
        }
    }
}
