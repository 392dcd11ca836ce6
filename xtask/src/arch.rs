//! The agreed dependencies between our crates, and the rules that no agreement may break.
//!
//! A crate is cut where a dependency has to be forbidden, so a new edge is a decision: it shows up in
//! `docs/architecture.snap` and in its review. Dev-dependencies are free.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

const TABLE: &str = "docs/architecture.snap";

/// Crates and what of ours they depend on.
pub type Edges = BTreeMap<String, BTreeSet<String>>;

/// What the pure crate must not reach for: clients, runtimes, files, chance.
const NOT_IN_CORE: &[&str] = &["kube", "tokio", "reqwest", "hyper", "rand", "rustix", "axum", "futures"];

struct Workspace {
    edges: Edges,
    /// Folder of each crate, from the root.
    folders: BTreeMap<String, String>,
    /// What else `forklift-core` depends on.
    core_external: BTreeSet<String>,
}

/// Fails when the dependencies differ from the table, or break a rule.
pub fn check(root: &Path) -> Result<()> {
    let workspace = read(root)?;
    let mut faults = broken_rules(&workspace);
    let path = root.join(TABLE);
    let agreed = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    faults.extend(differences(&agreed, &table(&workspace.edges)));
    if !faults.is_empty() {
        bail!(
            "{}\nhint: take the dependency away, or agree to it with `cargo run -p xtask -- arch --update`",
            faults.join("\n")
        );
    }
    Ok(())
}

/// Writes the table as the dependencies are, unless they break a rule.
pub fn update(root: &Path) -> Result<()> {
    let workspace = read(root)?;
    let faults = broken_rules(&workspace);
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    let path = root.join(TABLE);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(&path, table(&workspace.edges)).with_context(|| format!("cannot write {}", path.display()))
}

fn read(root: &Path) -> Result<Workspace> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cannot read the workspace with cargo metadata")?;
    let mut workspace = Workspace { edges: Edges::new(), folders: BTreeMap::new(), core_external: BTreeSet::new() };
    for package in &metadata.packages {
        let name = package.name.to_string();
        let normal = || package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        let ours = normal().filter(|dependency| dependency.path.is_some()).map(|dependency| dependency.name.clone());
        workspace.edges.insert(name.clone(), ours.collect());
        if name == "forklift-core" {
            let others = normal().filter(|dependency| dependency.path.is_none());
            workspace.core_external = others.map(|dependency| dependency.name.clone()).collect();
        }
        let manifest = Path::new(package.manifest_path.as_str());
        let folder = manifest.strip_prefix(root).unwrap_or(manifest).parent().unwrap_or(manifest);
        workspace.folders.insert(name, folder.display().to_string());
    }
    Ok(workspace)
}

fn broken_rules(workspace: &Workspace) -> Vec<String> {
    let mut faults = Vec::new();
    let is_embedded = |name: &str| workspace.folders.get(name).is_some_and(|folder| folder.starts_with("embedded"));
    for (name, targets) in &workspace.edges {
        for target in targets {
            if is_embedded(name) && !matches!(target.as_str(), "forklift-disk" | "forklift-kubevirt-types") {
                faults.push(format!(
                    "{name} -> {target}: the embedded stack must not know Forklift; they meet over the Kubernetes API"
                ));
            }
            let composes = matches!(name.as_str(), "forklift" | "forklift-testkit")
                || workspace.folders.get(name).is_some_and(|folder| folder.starts_with("tests"));
            if is_embedded(target) && !is_embedded(name) && !composes {
                faults.push(format!("{name} -> {target}: only the program and the tests may start the embedded stack"));
            }
        }
    }
    for forbidden in NOT_IN_CORE.iter().filter(|name| workspace.core_external.contains(**name)) {
        faults.push(format!("forklift-core -> {forbidden}: core decides and does nothing; pass values in and out"));
    }
    faults
}

fn table(edges: &Edges) -> String {
    let mut text = String::from("# Who depends on whom. Checked by a test; see `cargo run -p xtask -- arch`.\n");
    for (name, targets) in edges {
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        let _ = writeln!(text, "{}", format!("{name} -> {}", targets.join(" ")).trim_end());
    }
    text
}

fn differences(agreed: &str, present: &str) -> Vec<String> {
    let edges = |text: &str| -> BTreeSet<(String, String)> {
        text.lines()
            .filter_map(|line| line.split_once(" ->"))
            .flat_map(|(name, targets)| {
                let mut ends: Vec<&str> = targets.split_whitespace().collect();
                ends.push("(itself)");
                ends.into_iter().map(|target| (name.to_owned(), target.to_owned())).collect::<Vec<_>>()
            })
            .collect()
    };
    let (agreed, present) = (edges(agreed), edges(present));
    let new = present.difference(&agreed).map(|(name, target)| format!("{name} -> {target}: new, not in {TABLE}"));
    let gone = agreed.difference(&present).map(|(name, target)| format!("{name} -> {target}: in {TABLE}, but gone"));
    new.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(edges: &[(&str, &str, &[&str])]) -> Workspace {
        Workspace {
            edges: edges
                .iter()
                .map(|(name, _, targets)| ((*name).to_owned(), targets.iter().map(|&t| t.to_owned()).collect()))
                .collect(),
            folders: edges.iter().map(|(name, folder, _)| ((*name).to_owned(), (*folder).to_owned())).collect(),
            core_external: BTreeSet::from(["serde".to_owned(), "tokio".to_owned()]),
        }
    }

    #[test]
    fn forbidden_edges_are_named_with_their_reason() {
        let faults = broken_rules(&workspace(&[
            ("node", "embedded/node", &["forklift-disk", "forklift-api"]),
            ("forklift-controllers", "crates/controllers", &["node"]),
            ("forklift", "bin/forklift", &["node"]),
        ]));
        assert_eq!(
            faults,
            [
                "forklift-controllers -> node: only the program and the tests may start the embedded stack",
                "node -> forklift-api: the embedded stack must not know Forklift; they meet over the Kubernetes API",
                "forklift-core -> tokio: core decides and does nothing; pass values in and out",
            ]
        );
    }

    #[test]
    fn a_new_edge_and_a_lost_one_are_told_apart() {
        let faults = differences("a -> b c\nd ->\n", "a -> b e\nd ->\n");
        assert_eq!(
            faults,
            ["a -> e: new, not in docs/architecture.snap", "a -> c: in docs/architecture.snap, but gone"]
        );
    }
}
