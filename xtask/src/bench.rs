//! Benches: the peer and ours in turn on the same input, the ratio of the two at the end.
//!
//! `./x bench` runs all, `./x bench NAME…` some. Each prints a table of both sides and closes with one line,
//! `NAME ratio R goal G`: R is the median, over the pairs, of ours divided by the peer's. A goal that is not reached
//! does not fail the run: figures are for people to read.
//!
//! To add one: a function in a file below `bench/`, and a line in [`BENCHES`].

mod api;
pub mod disk;
mod inventory;
mod lease;
pub mod ours;
pub mod pair;
mod validation;
mod vsphere;

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// One bench.
pub struct Bench {
    /// What a user types and what the closing line begins with.
    pub name: &'static str,
    /// What is measured, against which peer.
    pub about: &'static str,
    /// Prepares, measures and prints.
    pub run: fn(&Machine) -> Result<pair::Report>,
}

/// All benches, in the order in which they run.
pub const BENCHES: &[Bench] = &[
    Bench { name: "vmdk", about: "VMDK streamOptimized to raw, against qemu-img convert", run: disk::vmdk },
    Bench { name: "copy", about: "sparse raw to raw, against the faster of qemu-img -W and nbdcopy", run: disk::copy },
    Bench { name: "qcow2", about: "qcow2 to raw, against qemu-img convert -W", run: disk::qcow2 },
    Bench { name: "nbd", about: "from nbdkit to raw, against nbdcopy", run: disk::nbd },
    Bench {
        name: "vsphere-nfc",
        about: "a disk from an export lease to a sparse file, digested, against curl of the same bytes to a file",
        run: lease::nfc,
    },
    Bench {
        name: "vsphere-ranges",
        about: "a disk from datastore ranges to a sparse file, digested, against curl of the same bytes to a file",
        run: lease::ranges,
    },
    Bench {
        name: "startup",
        about: "the whole stack from its start to ready, against kube-apiserver and etcd to /readyz",
        run: api::startup,
    },
    Bench {
        name: "idle-memory",
        about: "resident memory of the idle stack, against kube-apiserver and etcd",
        run: api::idle_memory,
    },
    Bench { name: "creates", about: "2,000 config maps of 1 KiB made by 16 writers", run: api::creates },
    Bench { name: "list-10000", about: "10,000 config maps of 1 KiB read in one answer", run: api::list_whole },
    Bench { name: "list-10000-chunks", about: "the same read in chunks of 500, as by kubectl", run: api::list_chunks },
    Bench {
        name: "validation",
        about: "all rules on one vSphere VM over HTTP, against the OPA server with the same rules",
        run: validation::one,
    },
    Bench {
        name: "validation-bulk",
        about: "all rules on 10,000 vSphere VMs over HTTP, against the OPA server",
        run: validation::bulk,
    },
    Bench { name: "watch-100", about: "1,000 new config maps seen by 100 watchers", run: api::watch },
    Bench {
        name: "inventory-load",
        about: "a vCenter of 10,000 machines loaded, against a Go program over govmomi",
        run: vsphere::load,
    },
    Bench {
        name: "inventory-memory",
        about: "resident memory with that inventory, against the same",
        run: vsphere::memory,
    },
    Bench {
        name: "inventory-get",
        about: "GET of one VM among 10,000, against a Go server with the answers ready in memory",
        run: inventory::get,
    },
    Bench { name: "inventory-list", about: "GET of 10,000 VMs in full, against the same", run: inventory::list },
];

/// What a bench needs of the machine.
pub struct Machine {
    /// A folder for inputs and outputs, removed after the run.
    pub folder: PathBuf,
    /// Number of pairs, where the user wants another than the bench's own.
    pub pairs: Option<usize>,
}

impl Machine {
    /// Builds one of our programs as it is released and returns its path.
    ///
    /// # Errors
    /// Where cargo fails.
    pub fn release(&self, package: &str, program: &str) -> Result<PathBuf> {
        let status = Command::new("cargo")
            .args(["build", "--release", "-q", "-p", package, "--bin", program])
            .current_dir(crate::root())
            .status()
            .context("cannot run cargo")?;
        if !status.success() {
            bail!("cargo build --release -p {package} failed");
        }
        Ok(self.target().join("release").join(program))
    }

    /// Builds an example of a crate in the release profile and returns its path.
    ///
    /// # Errors
    /// Where cargo fails.
    pub fn release_example(&self, package: &str, example: &str) -> Result<PathBuf> {
        let status = Command::new("cargo")
            .args(["build", "--release", "-q", "-p", package, "--example", example])
            .current_dir(crate::root())
            .status()
            .context("cannot run cargo")?;
        if !status.success() {
            bail!("cargo build --release -p {package} --example {example} failed");
        }
        Ok(self.target().join("release/examples").join(example))
    }

    fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from)
    }
}

/// Runs the benches of these names, or all.
///
/// # Errors
/// Where a name is unknown or a bench cannot be run; the others are run all the same.
pub fn run(names: &[String], folder: Option<PathBuf>, pairs: Option<usize>) -> Result<()> {
    for name in names {
        if !BENCHES.iter().any(|bench| bench.name == name) {
            let known: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
            bail!("no bench {name}; there are: {}", known.join(", "));
        }
    }
    let base = folder.unwrap_or_else(std::env::temp_dir);
    let mut failed = Vec::new();
    let mut closing = Vec::new();
    for bench in BENCHES.iter().filter(|bench| names.is_empty() || names.iter().any(|name| name == bench.name)) {
        eprintln!("\n== {}: {}", bench.name, bench.about);
        let folder = base.join(format!("forklift-bench-{}-{}", bench.name, std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let machine = Machine { folder: folder.clone(), pairs };
        let report = (bench.run)(&machine);
        let _ = std::fs::remove_dir_all(&folder);
        match report {
            Ok(report) => {
                println!("{report}");
                closing.push(report.closing());
            }
            Err(error) => {
                eprintln!("{}: {error:#}", bench.name);
                failed.push(bench.name);
            }
        }
    }
    if closing.len() > 1 {
        println!("\n{}", closing.join("\n"));
    }
    if !failed.is_empty() {
        bail!("could not be run: {}", failed.join(", "));
    }
    Ok(())
}
