//! What the commands print.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::extents::Extent;
use crate::job::{Outcome, Watch};
use crate::manifest::Manifest;
use crate::open::Disk;
use crate::verify::Scope;

use super::Output;

/// Writes to stdout; a reader that went away is not an error worth a message of its own.
fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    write(&mut out).and_then(|()| out.flush()).map_err(|source| Error::Target {
        path: "stdout".into(),
        action: "print the result".into(),
        source,
    })
}

fn print_json(value: &Value) -> Result<()> {
    print(|out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        writeln!(out)
    })
}

/// Returns bytes as people read them.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {name}") }
}

pub(super) fn info(disk: &Disk, output: Output) -> Result<()> {
    let mut data = 0;
    disk.map(|extent| {
        if extent.kind == crate::extents::Kind::Data {
            data += extent.length;
        }
    })?;
    let stored =
        disk.stored().len().map_err(|source| Error::Source { path: disk.name().to_owned(), offset: 0, source })?;
    let details = disk.image().details();
    if output == Output::Json {
        let details: serde_json::Map<_, _> =
            details.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        return print_json(&json!({
            "image": disk.name(), "format": disk.format().name(), "virtualSize": disk.size(),
            "dataSize": data, "storedSize": stored, "details": details,
        }));
    }
    print(|out| {
        writeln!(out, "image         {}", disk.name())?;
        writeln!(out, "format        {}", disk.format())?;
        writeln!(out, "virtual size  {} ({} bytes)", human(disk.size()), disk.size())?;
        writeln!(out, "data          {} ({data} bytes)", human(data))?;
        writeln!(out, "stored        {} ({stored} bytes)", human(stored))?;
        details.iter().try_for_each(|(name, value)| writeln!(out, "{name:<14}{value}"))
    })
}

pub(super) fn map(disk: &Disk, output: Output) -> Result<()> {
    let mut extents: Vec<Extent> = Vec::new();
    disk.map(|extent| extents.push(extent))?;
    if output == Output::Json {
        return print_json(&json!(extents));
    }
    print(|out| {
        writeln!(out, "{:>16}  {:>16}  KIND", "START", "LENGTH")?;
        extents.iter().try_for_each(|extent| {
            let kind = format!("{:?}", extent.kind).to_lowercase();
            writeln!(out, "{:>16}  {:>16}  {kind}", extent.start, extent.length)
        })
    })
}

pub(super) fn outcome(
    outcome: &Outcome,
    watch: &Watch,
    manifest: Option<&Path>,
    took: Duration,
    output: Output,
) -> Result<()> {
    let copied = watch.copy().snapshot();
    if output == Output::Json {
        return print_json(&json!({
            "virtualSize": outcome.size, "written": outcome.written, "resumed": outcome.resumed,
            "skipped": copied.skipped, "read": outcome.read, "retries": copied.retries,
            "digest": format!("blake3:{}", outcome.root), "changeId": outcome.change_id, "verified": outcome.verified,
            "finishedBefore": outcome.finished_before, "manifest": manifest, "seconds": took.as_secs_f64(),
        }));
    }
    print(|out| {
        if outcome.finished_before {
            writeln!(out, "copied before: the target's manifest is of the same source")?;
        }
        writeln!(out, "virtual size  {}", human(outcome.size))?;
        writeln!(out, "written       {}", human(outcome.written))?;
        if outcome.resumed > 0 {
            writeln!(out, "kept          {} of an earlier run", human(outcome.resumed))?;
        }
        if copied.retries > 0 {
            writeln!(out, "tried again   {} reads", copied.retries)?;
        }
        writeln!(out, "digest        blake3:{}", outcome.root)?;
        if let Some(id) = &outcome.change_id {
            writeln!(out, "state         {id}")?;
        }
        writeln!(out, "verified      {}", if outcome.verified { "yes" } else { "no" })?;
        if let Some(path) = manifest {
            writeln!(out, "manifest      {}", path.display())?;
        }
        writeln!(out, "time          {:.1} s", took.as_secs_f64())
    })
}

pub(super) fn verified(disk: &Path, manifest: &Manifest, scope: Scope, signed: bool, output: Output) -> Result<()> {
    if output == Output::Json {
        return print_json(&json!({
            "disk": disk, "verified": true, "full": scope == Scope::Full, "digest": format!("blake3:{}", manifest.root),
            "signed": signed, "changeId": manifest.change_id, "virtualSize": manifest.size, "created": manifest.created,
        }));
    }
    print(|out| {
        let what = if scope == Scope::Full { "all" } else { "a sample" };
        let signature = if signed { ", and the signature fits" } else { "" };
        let size = human(manifest.size);
        writeln!(out, "{}: {what} of {size} is as copied at {}{signature}", disk.display(), manifest.created)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_as_people_read_them() {
        let said = [0, 1023, 1536, 5 << 30, u64::MAX].map(human);
        assert_eq!(said, ["0 B", "1023 B", "1.5 KiB", "5.0 GiB", "16777216.0 TiB"]);
    }
}
