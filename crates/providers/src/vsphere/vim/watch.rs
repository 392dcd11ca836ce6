//! Watching the whole inventory: a filter over everything below the root folder, and its updates.
//!
//! ```text
//!   CreatePropertyCollector ── CreateFilter ── WaitForUpdatesEx("") ─► full set, in pages (truncated)
//!        ▲                                     WaitForUpdatesEx(v1) ─► changes │ nothing within max_wait
//!        └── session, collector or version gone: a new one, and a full set again
//! ```

use std::time::Duration;

use super::{Arg, Client, Element, FilterSpec, MoRef, VimError};

/// How many objects come in one update set.
const PAGE: i64 = 250;
/// What a server may take beyond the wait that it was told.
const GRACE: Duration = Duration::from_secs(120);

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateKind {
    /// It is there: new, or in a full set.
    Enter,
    /// Some properties changed.
    Modify,
    /// It is gone.
    Leave,
}

/// What a filter reports of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectUpdate {
    /// What happened.
    pub kind: UpdateKind,
    /// To which object.
    pub object: MoRef,
    /// Path and value; no value where it is unset now. Whole properties, as they were asked for.
    pub changes: Vec<(String, Option<Element>)>,
    /// Paths that could not be read, for want of a privilege or because the host does not answer.
    pub missing: Vec<String>,
}

/// One set of updates.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateSet {
    /// The server's version of what was told so far.
    pub version: String,
    /// More of the same follows at once.
    pub truncated: bool,
    /// Part of a full set: the first one, or the one after the session was lost. What is not in it (from the one with
    /// `first` to the one that is not `truncated`) exists no more.
    pub full: bool,
    /// The first page of a full set.
    pub first: bool,
    /// The objects.
    pub objects: Vec<ObjectUpdate>,
}

/// Watches everything below the root folder.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    specs: Vec<(String, Vec<String>)>,
    /// Collector of our own, so that several watches share a session.
    collector: MoRef,
    version: String,
    full: bool,
}

impl Watch {
    /// Starts watching paths by type. Types are the most derived that are wanted; those below them count too.
    pub async fn new(client: &Client, specs: &[(&str, &[&str])]) -> Result<Watch, VimError> {
        let owned = |(kind, paths): &(&str, &[&str])| {
            ((*kind).to_owned(), paths.iter().map(|path| (*path).to_owned()).collect())
        };
        let specs: Vec<_> = specs.iter().map(owned).collect();
        let collector = begin(client, &specs).await?;
        Ok(Self { client: client.clone(), specs, collector, version: String::new(), full: true })
    }

    /// Returns the paths that are watched of a type.
    pub fn paths(&self, kind: &str) -> Vec<String> {
        self.specs.iter().find(|(known, _)| known == kind).map(|(_, paths)| paths.clone()).unwrap_or_default()
    }

    /// Waits for updates; `None` when there are none within the time. The first call brings the full set.
    pub async fn next(&mut self, max_wait: Duration) -> Result<Option<UpdateSet>, VimError> {
        match self.wait(max_wait).await {
            Err(error) if is_lost(&error) => {
                tracing::debug!(host = self.client.endpoint().host(), %error, "the watch starts again");
                self.collector = begin(&self.client, &self.specs).await?;
                self.version.clear();
                self.full = true;
                self.wait(max_wait).await
            }
            answer => answer,
        }
    }

    /// Ends the watch; a wait that somebody else has in it ends too.
    pub async fn close(self) {
        for method in ["CancelWaitForUpdates", "DestroyPropertyCollector"] {
            if let Err(error) = self.client.call(method, &self.collector, &[]).await {
                tracing::debug!(method, %error, "the watch was not closed");
            }
        }
    }

    async fn wait(&mut self, max_wait: Duration) -> Result<Option<UpdateSet>, VimError> {
        let seconds = i64::try_from(max_wait.as_secs()).unwrap_or(i64::MAX).min(1800);
        let options = [Arg::int("maxWaitSeconds", seconds), Arg::int("maxObjectUpdates", PAGE)];
        let args = [Arg::text("version", self.version.clone()), Arg::object("options", options)];
        let answer = self.client.call_within("WaitForUpdatesEx", &self.collector, &args, max_wait + GRACE).await?;
        let Some(set) = answer.children.into_iter().find(|child| &*child.name == "returnval") else { return Ok(None) };
        let version = set.text("version").unwrap_or_default().to_owned();
        let truncated = set.bool("truncated").unwrap_or(false);
        let first = self.version.is_empty();
        let update = UpdateSet {
            version: version.clone(),
            truncated,
            full: self.full,
            first,
            objects: (set.children.into_iter())
                .filter(|child| &*child.name == "filterSet")
                .flat_map(|filter| filter.children)
                .filter(|child| &*child.name == "objectSet")
                .filter_map(ObjectUpdate::read)
                .collect(),
        };
        self.version = version;
        self.full = self.full && truncated;
        Ok(Some(update))
    }
}

/// Whether a new filter helps: the session is gone and with it the collector, or the server forgot the version.
fn is_lost(error: &VimError) -> bool {
    ["NotAuthenticated", "ManagedObjectNotFound", "InvalidCollectorVersion"]
        .into_iter()
        .any(|kind| error.is_fault(kind))
}

async fn begin(client: &Client, specs: &[(String, Vec<String>)]) -> Result<MoRef, VimError> {
    let made = client.call("CreatePropertyCollector", &client.content().property_collector, &[]).await?;
    let collector = made.moref("returnval").ok_or_else(|| VimError::Malformed {
        what: "the new property collector".to_owned(),
        reason: "there is none".to_owned(),
    })?;
    let mut filter: Option<FilterSpec> = None;
    for (kind, paths) in specs {
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        filter = Some(match filter {
            None => FilterSpec::of(kind, &paths),
            Some(filter) => filter.and(kind, &paths),
        });
    }
    let Some(filter) = filter else {
        return Err(VimError::Parameters("a watch needs at least one type".to_owned()));
    };
    let filter = filter.reached_from(&client.content().root_folder, false, selections());
    let args = [filter.into_arg("spec"), Arg::bool("partialUpdates", false)];
    client.call("CreateFilter", &collector, &args).await?;
    Ok(collector)
}

/// How everything is reached from the root folder: name, type, path, and by which selections it goes on.
const TRAVERSAL: &[(&str, &str, &str, &[&str])] = &[
    ("folder", "Folder", "childEntity", &EVERYTHING),
    ("vmFolder", "Datacenter", "vmFolder", &["folder"]),
    ("hostFolder", "Datacenter", "hostFolder", &EVERYTHING),
    ("networkFolder", "Datacenter", "networkFolder", &["folder"]),
    ("datastoreFolder", "Datacenter", "datastoreFolder", &["folder"]),
    ("host", "ComputeResource", "host", &[]),
    ("pool", "ComputeResource", "resourcePool", &["pools", "poolVms"]),
    ("pools", "ResourcePool", "resourcePool", &["pools", "poolVms"]),
    // the VMs of a vApp are in no folder
    ("poolVms", "ResourcePool", "vm", &[]),
];

const EVERYTHING: [&str; 7] = ["folder", "vmFolder", "hostFolder", "networkFolder", "datastoreFolder", "host", "pool"];

/// Returns the selections from the root folder: folders within folders, data centres, compute resources, pools.
pub(super) fn selections() -> Vec<Arg> {
    let selection = |(name, kind, path, next): &(&'static str, &'static str, &'static str, &[&'static str])| {
        let named = next.iter().map(|other| Arg::object("selectSet", [Arg::text("name", *other)]));
        let fields =
            [Arg::text("name", *name), Arg::text("type", *kind), Arg::text("path", *path), Arg::bool("skip", false)];
        Arg::object("selectSet", fields.into_iter().chain(named)).typed("TraversalSpec")
    };
    TRAVERSAL.iter().map(selection).collect()
}

impl ObjectUpdate {
    /// Reads an update; `None` when it is none that is known. Values are moved, not copied: a page of VMs is large.
    pub(crate) fn read(update: Element) -> Option<Self> {
        let kind = match update.text("kind")? {
            "enter" => UpdateKind::Enter,
            "modify" => UpdateKind::Modify,
            "leave" => UpdateKind::Leave,
            _ => return None,
        };
        let object = update.moref("obj")?;
        let missing = update.all("missingSet").filter_map(|missing| Some(missing.text("path")?.to_owned())).collect();
        let changes = update.children.into_iter().filter(|child| &*child.name == "changeSet").filter_map(|change| {
            let path = change.text("name")?.to_owned();
            let value = change.children.into_iter().find(|child| &*child.name == "val");
            Some((path, value))
        });
        Some(Self { kind, object, changes: changes.collect(), missing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_selection_that_is_named_exists() {
        for (name, _, _, next) in TRAVERSAL {
            for other in *next {
                assert!(TRAVERSAL.iter().any(|(n, ..)| n == other), "{name} goes on by {other}");
            }
        }
    }

    #[test]
    fn an_update_with_a_value_and_without_one() {
        let xml = r#"<objectSet xmlns:x="u"><kind>modify</kind><obj type="VirtualMachine">vm-1</obj>
            <changeSet><name>name</name><op>assign</op><val x:type="xsd:string">web</val></changeSet>
            <changeSet><name>snapshot</name><op>remove</op></changeSet>
            <missingSet><path>config.uuid</path><fault/></missingSet></objectSet>"#;
        let update =
            ObjectUpdate::read(Element::parse(xml, Default::default()).expect("well-formed")).expect("an update");
        assert_eq!((update.kind, update.object.value.as_str()), (UpdateKind::Modify, "vm-1"));
        let shown: Vec<_> =
            update.changes.iter().map(|(path, v)| (path.as_str(), v.as_ref().map(|v| v.text.as_str()))).collect();
        assert_eq!(shown, [("name", Some("web")), ("snapshot", None)]);
        assert_eq!(update.missing, ["config.uuid"]);
    }
}
