//! Operations on one VM: power, snapshots, changed areas. Whoever calls them has checked whose VM it is.

use super::{Arg, Client, Element, MoRef, VimError};

/// What changed on a disk, in one answer of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedAreas {
    /// Where the part of the disk begins that the answer speaks of, in bytes.
    pub start: u64,
    /// Its length in bytes; the next question is asked at `start + length`.
    pub length: u64,
    /// Start and length of each changed area, in bytes.
    pub areas: Vec<(u64, u64)>,
}

/// A ticket for one HTTP request to another server of the vCenter (a host), in the place of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTicket {
    /// Value of the cookie `vmware_cgi_ticket`.
    pub id: super::Secret,
    /// Host that the request goes to; none for the one in the URL.
    pub host: Option<String>,
    /// SHA-1 thumbprint of its certificate.
    pub thumbprint: Option<String>,
}

impl Client {
    /// Returns the VM with an instance UUID (or BIOS UUID); `None` when there is none, or when it is hidden.
    pub async fn find_vm(&self, uuid: &str, instance: bool) -> Result<Option<MoRef>, VimError> {
        let Some(index) = &self.content().search_index else { return Ok(None) };
        let args =
            [Arg::text("uuid", uuid.to_owned()), Arg::bool("vmSearch", true), Arg::bool("instanceUuid", instance)];
        Ok(self.call("FindByUuid", index, &args).await?.moref("returnval"))
    }

    /// Starts a VM; returns the task.
    pub async fn power_on(&self, vm: &MoRef) -> Result<MoRef, VimError> {
        self.task("PowerOnVM_Task", vm, &[]).await
    }

    /// Cuts a VM's power; returns the task.
    pub async fn power_off(&self, vm: &MoRef) -> Result<MoRef, VimError> {
        self.task("PowerOffVM_Task", vm, &[]).await
    }

    /// Asks the guest to shut down; returns at once. The fault is `ToolsUnavailable` when nobody in it listens.
    pub async fn shutdown_guest(&self, vm: &MoRef) -> Result<(), VimError> {
        self.call("ShutdownGuest", vm, &[]).await.map(drop)
    }

    /// Begins a snapshot of the disks, not of the memory; returns the task, whose result is the snapshot.
    pub async fn create_snapshot(
        &self,
        vm: &MoRef,
        name: &str,
        description: &str,
        quiesce: bool,
    ) -> Result<MoRef, VimError> {
        let args = [
            Arg::text("name", name.to_owned()),
            Arg::text("description", description.to_owned()),
            Arg::bool("memory", false),
            Arg::bool("quiesce", quiesce),
        ];
        self.task("CreateSnapshot_Task", vm, &args).await
    }

    /// Begins the removal of one snapshot and the consolidation of its disks; its children stay. Returns the task.
    pub async fn remove_snapshot(&self, snapshot: &MoRef) -> Result<MoRef, VimError> {
        let args = [Arg::bool("removeChildren", false), Arg::bool("consolidate", true)];
        self.task("RemoveSnapshot_Task", snapshot, &args).await
    }

    /// Begins the consolidation of disks that a removal left behind; returns the task.
    pub async fn consolidate_disks(&self, vm: &MoRef) -> Result<MoRef, VimError> {
        self.task("ConsolidateVMDisks_Task", vm, &[]).await
    }

    /// Begins to switch changed-block tracking on or off; returns the task. It takes effect with the VM's next
    /// snapshot or start.
    pub async fn set_change_tracking(&self, vm: &MoRef, on: bool) -> Result<MoRef, VimError> {
        let spec = Arg::object("spec", [Arg::bool("changeTrackingEnabled", on)]);
        self.task("ReconfigVM_Task", vm, &[spec]).await
    }

    /// Asks once what changed on a disk from `start` on, since a change ID (`*`: what is allocated), up to a snapshot
    /// (none: up to now, of a VM that is off).
    pub async fn query_changed_areas(
        &self,
        vm: &MoRef,
        snapshot: Option<&MoRef>,
        device_key: i32,
        start: u64,
        change_id: &str,
    ) -> Result<ChangedAreas, VimError> {
        let mut args: Vec<Arg> = snapshot.map(|snapshot| Arg::moref("snapshot", snapshot)).into_iter().collect();
        args.push(Arg::int("deviceKey", device_key.into()));
        args.push(Arg::text("startOffset", start.to_string()));
        args.push(Arg::text("changeId", change_id.to_owned()));
        let answer = self.call("QueryChangedDiskAreas", vm, &args).await?;
        answer.get("returnval").and_then(changed_areas).ok_or_else(|| VimError::Malformed {
            what: format!("the list of changed areas of {vm}"),
            reason: "it has no offset and length, or negative ones".to_owned(),
        })
    }

    /// Asks until the whole disk is answered for; returns start and length of each changed area, in bytes, in their
    /// order and within the capacity.
    pub async fn changed_areas(
        &self,
        vm: &MoRef,
        snapshot: Option<&MoRef>,
        device_key: i32,
        capacity: u64,
        change_id: &str,
    ) -> Result<Vec<(u64, u64)>, VimError> {
        let mut areas = Vec::new();
        let mut at = 0;
        while at < capacity {
            let page = self.query_changed_areas(vm, snapshot, device_key, at, change_id).await?;
            at = next_page(&page, at, capacity, &mut areas).map_err(|reason| VimError::Malformed {
                what: format!("the list of changed areas of {vm}, disk {device_key}"),
                reason,
            })?;
        }
        Ok(areas)
    }

    /// Returns a ticket for one request to an address, in the place of the session.
    pub async fn service_ticket(&self, method: &str, url: &reqwest::Url) -> Result<ServiceTicket, VimError> {
        // the enumeration is httpGet, httpPut …
        let method = match method.to_ascii_uppercase().as_str() {
            "PUT" => "httpPut",
            "POST" => "httpPost",
            "HEAD" => "httpHead",
            "DELETE" => "httpDelete",
            _ => "httpGet",
        };
        let spec = [Arg::text("method", method), Arg::text("url", url.to_string())];
        let spec = Arg::object("spec", spec).typed("SessionManagerHttpServiceRequestSpec");
        let answer = self.call("AcquireGenericServiceTicket", &self.content().session_manager, &[spec]).await?;
        let text = |path: &str| answer.text(path).filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(ServiceTicket {
            id: super::Secret::new(text("returnval.id").unwrap_or_default()),
            host: text("returnval.hostName"),
            thumbprint: text("returnval.sslThumbprint"),
        })
    }

    /// Calls a method that returns a task.
    pub async fn task(&self, method: &str, this: &MoRef, args: &[Arg]) -> Result<MoRef, VimError> {
        let answer = self.call(method, this, args).await?;
        answer.moref("returnval").ok_or_else(|| VimError::Malformed {
            what: format!("the answer to {method} of {this}"),
            reason: "it names no task".to_owned(),
        })
    }
}

fn changed_areas(answer: &Element) -> Option<ChangedAreas> {
    let bytes = |element: &Element, name: &str| u64::try_from(element.int(name)?).ok();
    let area = |area: &Element| Some((bytes(area, "start")?, bytes(area, "length")?));
    Some(ChangedAreas {
        start: bytes(answer, "startOffset")?,
        length: bytes(answer, "length")?,
        areas: answer.all("changedArea").map(area).collect::<Option<_>>()?,
    })
}

/// Takes a page over; returns where the next one begins, or why the page cannot be believed. An area that is left out
/// would be a change that is lost.
fn next_page(page: &ChangedAreas, at: u64, capacity: u64, areas: &mut Vec<(u64, u64)>) -> Result<u64, String> {
    if page.start > at {
        return Err(format!("asked from byte {at} on, it begins at {}", page.start));
    }
    let end = page.start.saturating_add(page.length);
    if end <= at {
        return Err(format!("it does not go on after byte {at}"));
    }
    for &(start, length) in &page.areas {
        let (start, end) = (start.max(at), start.saturating_add(length).min(capacity));
        if areas.last().is_some_and(|&(s, l)| s + l > start) && end > start {
            return Err(format!("areas overlap at byte {start}"));
        }
        if end > start {
            areas.push((start, end - start));
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_is_believed_when_it_goes_on() {
        let page = |start, length, areas: &[(u64, u64)]| ChangedAreas { start, length, areas: areas.to_vec() };
        let mut areas = Vec::new();
        assert_eq!(next_page(&page(0, 100, &[(0, 10), (50, 50)]), 0, 150, &mut areas), Ok(100));
        assert_eq!(next_page(&page(100, 50, &[(140, 90)]), 100, 150, &mut areas), Ok(150));
        assert_eq!(areas, [(0, 10), (50, 50), (140, 10)]);
        for wrong in [page(100, 0, &[]), page(120, 30, &[]), page(90, 10, &[]), page(100, 50, &[(100, 20), (110, 5)])] {
            assert!(next_page(&wrong, 100, 150, &mut Vec::new()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn negative_numbers_are_no_areas() {
        let read = |area: &str| {
            let xml = format!("<r><startOffset>0</startOffset><length>9</length><changedArea>{area}</changedArea></r>");
            changed_areas(&Element::parse(&xml, Default::default()).expect("well-formed"))
        };
        assert_eq!(read("<start>1</start><length>2</length>").map(|a| a.areas), Some(vec![(1, 2)]));
        assert_eq!(read("<start>-1</start><length>2</length>"), None);
        assert_eq!(read("<start>1</start>"), None);
    }

    proptest! {
        /// Whatever the pages, the areas come out as they went in.
        #[test]
        fn pages_lose_nothing(blocks in proptest::collection::vec(any::<bool>(), 1..60), per_page in 1usize..5) {
            let areas: Vec<(u64, u64)> = blocks.iter().enumerate().filter(|(_, b)| **b).map(|(i, _)| (i as u64 * 8, 8)).collect();
            let capacity = blocks.len() as u64 * 8;
            let (mut at, mut found) = (0, Vec::new());
            while at < capacity {
                let rest: Vec<_> = areas.iter().copied().filter(|(start, _)| *start >= at).collect();
                let end = rest.get(per_page).map_or(capacity, |(start, _)| *start);
                let page = ChangedAreas { start: at, length: end - at, areas: rest.into_iter().take(per_page).collect() };
                at = next_page(&page, at, capacity, &mut found).expect("a good page");
            }
            prop_assert_eq!(found, areas);
        }
    }
}
