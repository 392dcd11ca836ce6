//! Peers: the real systems that tests and benches run beside ours.
//!
//! Debian's programs are found on the PATH; Go programs come from the modules below `tests/peers`, which name their
//! packages by version, and are built once into the user's cache (`./x peers` builds all of them ahead).
//!
//! A test whose peer is absent prints `skipped: …` and returns; with `REQUIRE_PEERS=1` in the environment it fails.

pub mod inventory;
pub mod kube;
pub mod opa;
pub mod running;
pub mod vcenter;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// A Go module below `tests/peers` and what is built from it.
#[derive(Debug)]
pub struct Module {
    /// Folder below `tests/peers`.
    pub name: &'static str,
    /// Packages with a main function, by import path or relative to the folder.
    pub packages: &'static [&'static str],
    /// Linker flags.
    pub ldflags: &'static str,
}

/// All Go modules of peers.
pub const MODULES: &[Module] = &[
    Module {
        name: "kubernetes",
        packages: &["k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kube-controller-manager"],
        // the server reports the version that it is linked with
        ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.33.13 \
              -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=33",
    },
    // builds a program called `server`: its import path ends in the version
    Module { name: "etcd", packages: &["go.etcd.io/etcd/server/v3"], ldflags: "-s -w" },
    // ours: structured-merge-diff as an oracle for server-side apply
    Module { name: "smd", packages: &["."], ldflags: "-s -w" },
    Module { name: "protobuf", packages: &["."], ldflags: "-s -w" },
    Module { name: "client-go", packages: &["."], ldflags: "-s -w" },
    // ours: a vCenter with bytes behind its disks, by govmomi's simulator
    Module { name: "vcsim", packages: &["./vcsim", "./vcprepared", "./govload", "./jsonserve"], ldflags: "-s -w" },
    // ours: the tree search language's original as an oracle
    Module { name: "lang", packages: &["."], ldflags: "-s -w" },
    // ours: KubeVirt's types, for strict decoding
    Module { name: "kubevirt-types", packages: &["."], ldflags: "-s -w" },
    // Open Policy Agent as upstream's validation service runs it
    Module { name: "opa", packages: &["github.com/open-policy-agent/opa"], ldflags: "-s -w" },
];

/// Returns the path of an installed program, or says that the test is skipped and returns nothing.
///
/// # Panics
/// Where the program is absent and `REQUIRE_PEERS` is set.
pub fn program(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").and_then(|path| {
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        folders.map(|folder| folder.join(name)).find(|file| file.is_file())
    });
    found.or_else(|| absent(name, "install its Debian package (`./x setup` does)"))
}

/// Returns the path of a Go program of a module below `tests/peers`, which is built where it is not there yet.
///
/// # Panics
/// Where the program cannot be built and `REQUIRE_PEERS` is set.
pub fn go(module: &str, program: &str) -> Option<PathBuf> {
    let Some(module) = MODULES.iter().find(|known| known.name == module) else {
        panic!("no module {module} in testkit's list of peers");
    };
    match build(module) {
        Ok(folder) => {
            let path = folder.join(program);
            assert!(path.is_file(), "module {} builds no {program}", module.name);
            Some(path)
        }
        Err(error) => absent(program, &format!("`./x peers` builds it; now it fails: {error:#}")),
    }
}

/// Returns a Python that has this module: the one of `./x setup`, else the machine's.
///
/// # Panics
/// Where there is none and `REQUIRE_PEERS` is set.
pub fn python(module: &str) -> Option<PathBuf> {
    let own = cache().join("venv/bin/python3");
    let has = |python: &PathBuf| {
        Command::new(python).args(["-c", &format!("import {module}")]).output().is_ok_and(|done| done.status.success())
    };
    let found = [own, PathBuf::from("python3")].into_iter().find(has);
    found.or_else(|| absent(&format!("Python's {module}"), "`./x setup` installs it"))
}

fn absent<T>(name: &str, hint: &str) -> Option<T> {
    assert!(std::env::var_os("REQUIRE_PEERS").is_none(), "peer {name} is missing: {hint}");
    println!("skipped: peer {name} is missing: {hint}");
    None
}

/// Builds a module's programs into the user's cache, unless the same ones are there; returns their folder.
///
/// # Errors
/// Where Go is missing or the build fails; the compiler's words are in the error.
pub fn build(module: &Module) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers").join(module.name);
    let cache = cache().join("peers");
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let folder = cache.join(format!("{}-{}", module.name, fingerprint(module, &source)?));
    if folder.is_dir() {
        return Ok(folder);
    }
    // one build at a time: tests of several crates may want the same peer at once
    let lock = File::create(cache.join(format!(".{}.lock", module.name))).context("cannot make a lock file")?;
    lock.lock().context("cannot lock the peers' folder")?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let making = cache.join(format!(".{}.making", module.name));
    let _ = std::fs::remove_dir_all(&making);
    std::fs::create_dir_all(&making)?;
    let output = Command::new("go")
        .current_dir(&source)
        .args(["build", "-ldflags", module.ldflags, "-o"])
        .arg(&making)
        .args(module.packages)
        .env("GOFLAGS", "-mod=mod -buildvcs=false")
        .output()
        .context("cannot run go (Go 1.25 or later is needed)")?;
    ensure!(output.status.success(), "go build in {}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    for old in std::fs::read_dir(&cache)?.flatten() {
        // what an older version of the module built
        if old.file_name().to_string_lossy().starts_with(&format!("{}-", module.name)) {
            let _ = std::fs::remove_dir_all(old.path());
        }
    }
    std::fs::rename(&making, &folder)?;
    Ok(folder)
}

/// Builds all modules; for `./x peers`.
///
/// # Errors
/// As [`build`], for the first module that fails.
pub fn build_all() -> Result<()> {
    for module in MODULES {
        let folder = build(module).with_context(|| format!("peer {}", module.name))?;
        println!("{}: {}", module.name, folder.display());
    }
    Ok(())
}

/// Returns the user's cache folder of this project, as the script `x` has it.
pub fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache");
    base.unwrap_or_else(home).join("forklift")
}

fn fingerprint(module: &Module, source: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(format!("{module:?}"));
    let mut folders = vec![source.to_path_buf()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{} is empty", source.display());
    }
    for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "go" || kind == "mod")) {
        hash.update(std::fs::read(file)?);
    }
    Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// A free loopback port; another process may take it before it is used, so callers try again.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0)).context("no free port on loopback")?.local_addr()?.port())
}
