//! Leases for the export of disks over HTTP (`HttpNfcLease`).
//!
//! ```text
//!   ExportVm │ ExportSnapshot ──► initializing ──► ready ── progress(0…100) … ──► complete
//!                                      └► error           └► abort, or no progress for `timeout` ──► gone
//! ```

use std::time::Duration;

use reqwest::Url;

use super::{Client, Element, Fault, MoRef, VimError, xml::Arg};

/// A lease. Dropping it does not end it: say `complete` or `abort`, else the VM stays locked until the time is out.
#[derive(Clone, Debug)]
pub struct Lease {
    client: Client,
    lease: MoRef,
}

/// What a lease offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The files.
    pub devices: Vec<DeviceUrl>,
    /// How long the lease lives without progress.
    pub timeout: Duration,
    /// Sum of the disks' capacities, in bytes.
    pub total_capacity: u64,
}

/// A file of a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceUrl {
    /// Key of the device within the lease, `/vm-42/VirtualLsiLogicController0:0`.
    pub key: String,
    /// Address; the server's own host stands in the place of `*`.
    pub url: String,
    /// SHA-1 thumbprint of the certificate of the host that serves it.
    pub thumbprint: Option<String>,
    /// Whether it is a disk, and no NVRAM or image.
    pub disk: bool,
    /// Name of the file in the export, `disk-0.vmdk`.
    pub target: String,
    /// Size in bytes, where the server knows it beforehand.
    pub size: Option<u64>,
}

/// What was sent for a device, told after the transfer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestEntry {
    /// Key of the device.
    pub key: String,
    /// SHA-1 of what was sent, hexadecimal.
    pub sha1: String,
    /// Bytes that were sent.
    pub size: u64,
    /// Capacity of the disk in bytes.
    pub capacity: Option<u64>,
    /// Bytes of the disk that are allocated.
    pub populated: Option<u64>,
}

impl Client {
    /// Begins the export of a VM that is off.
    pub async fn export_vm(&self, vm: &MoRef) -> Result<Lease, VimError> {
        self.export("ExportVm", vm).await
    }

    /// Begins the export of a snapshot (API 6.0 and later), whose VM may run.
    pub async fn export_snapshot(&self, snapshot: &MoRef) -> Result<Lease, VimError> {
        self.export("ExportSnapshot", snapshot).await
    }

    async fn export(&self, method: &str, this: &MoRef) -> Result<Lease, VimError> {
        let lease = self.task(method, this, &[]).await?;
        Ok(Lease { client: self.clone(), lease })
    }
}

impl Lease {
    /// Returns the lease's reference.
    pub fn moref(&self) -> &MoRef {
        &self.lease
    }

    /// Waits until the lease is ready; its fault when it cannot be, `Timedout` of ours when it takes longer or was ended
    /// meanwhile (by an administrator, or with the session that it hangs on): another lease may well do.
    pub async fn ready(&self, limit: Duration) -> Result<LeaseInfo, VimError> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut pause = Duration::from_millis(50);
        loop {
            let lease = match self.client.properties(&self.lease, &["state", "info", "error"]).await {
                Err(error) if error.is_fault("ManagedObjectNotFound") => {
                    return Err(self.timed_out(format!("the lease was ended before it was ready: {error}")));
                }
                lease => lease?,
            };
            match lease.text("state") {
                Some("ready") => {
                    let host = self.client.endpoint().url.clone();
                    return Ok(lease.get("info").map(|found| info(found, &host)).unwrap_or_default());
                }
                Some("error") => {
                    let fault = lease.get("error").map(Fault::localized).unwrap_or_default();
                    return Err(match fault.kind.as_str() {
                        "RequestCanceled" => {
                            self.timed_out(format!("the lease was ended before it was ready: {}", fault.message))
                        }
                        _ => VimError::Fault(fault),
                    });
                }
                Some("done") => return Err(self.timed_out("the lease ended before it was used".to_owned())),
                Some(_) | None => {}
            }
            if tokio::time::Instant::now() >= deadline {
                let _ = self.abort("it took too long to get ready").await;
                return Err(self.timed_out(format!("the lease was not ready within {} s", limit.as_secs())));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Reports progress in percent, which also keeps the lease alive: at least once within a third of its time.
    pub async fn progress(&self, percent: u8) -> Result<(), VimError> {
        let args = [Arg::int("percent", percent.min(100).into())];
        self.client.call("HttpNfcLeaseProgress", &self.lease, &args).await.map(drop)
    }

    /// Ends the lease after everything was read.
    pub async fn complete(&self) -> Result<(), VimError> {
        self.client.call("HttpNfcLeaseComplete", &self.lease, &[]).await.map(drop)
    }

    /// Ends the lease before everything was read; the reason is shown in the server's task list.
    pub async fn abort(&self, reason: &str) -> Result<(), VimError> {
        let canceled = Arg::object("fault", []).typed("RequestCanceled");
        let fault = Arg::object("fault", [canceled, Arg::text("localizedMessage", reason.to_owned())]);
        match self.client.call("HttpNfcLeaseAbort", &self.lease, &[fault]).await {
            // gone already: it timed out, or the session ended
            Err(error) if error.is_fault("ManagedObjectNotFound") || error.is_fault("InvalidState") => Ok(()),
            aborted => aborted.map(drop),
        }
    }

    /// Returns what the server says of what it sent (API 6.0 and later).
    pub async fn manifest(&self) -> Result<Vec<ManifestEntry>, VimError> {
        let answer = self.client.call("HttpNfcLeaseGetManifest", &self.lease, &[]).await?;
        let bytes = |entry: &Element, name: &str| u64::try_from(entry.int(name)?).ok();
        let entry = |entry: &Element| ManifestEntry {
            key: entry.text("key").unwrap_or_default().to_owned(),
            sha1: entry.text("sha1").or(entry.text("checksum")).unwrap_or_default().to_owned(),
            size: bytes(entry, "size").unwrap_or(0),
            capacity: bytes(entry, "capacity"),
            populated: bytes(entry, "populatedSize"),
        };
        Ok(answer.all("returnval").map(entry).collect())
    }

    fn timed_out(&self, message: String) -> VimError {
        VimError::Fault(Fault { kind: "Timedout".to_owned(), message, detail: Element::default() })
    }
}

fn info(found: &Element, server: &Url) -> LeaseInfo {
    let bytes = |element: &Element, name: &str| u64::try_from(element.int(name)?).ok();
    let device = |device: &Element| {
        let text = |name: &str| device.text(name).unwrap_or_default().to_owned();
        DeviceUrl {
            key: text("key"),
            url: host_filled_in(device.text("url").unwrap_or_default(), server),
            thumbprint: Some(text("sslThumbprint")).filter(|thumbprint| !thumbprint.is_empty()),
            disk: device.bool("disk").unwrap_or(false),
            target: text("targetId"),
            size: bytes(device, "fileSize"),
        }
    };
    LeaseInfo {
        devices: found.all("deviceUrl").map(device).collect(),
        timeout: Duration::from_secs(bytes(found, "leaseTimeout").filter(|seconds| *seconds > 0).unwrap_or(300)),
        total_capacity: bytes(found, "totalDiskCapacityInKB").unwrap_or(0).saturating_mul(1024),
    }
}

/// ESXi writes `https://*/nfc/…` for "where you asked".
fn host_filled_in(url: &str, server: &Url) -> String {
    match url.split_once("://*") {
        Some((scheme, rest)) => {
            let port = server.port().filter(|_| !rest.starts_with(':')).map(|p| format!(":{p}")).unwrap_or_default();
            format!("{scheme}://{}{port}{rest}", server.host_str().unwrap_or_default())
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lease_offers() {
        let xml = r#"<val><lease type="HttpNfcLease">l</lease>
            <deviceUrl><key>/vm-1/VirtualLsiLogicController0:0</key><url>https://*/nfc/l/disk-0.vmdk</url>
              <sslThumbprint>AB</sslThumbprint><disk>true</disk><targetId>disk-0.vmdk</targetId></deviceUrl>
            <deviceUrl><key>/vm-1/nvram</key><url>https://esx/nfc/l/x.nvram</url><fileSize>8684</fileSize></deviceUrl>
            <totalDiskCapacityInKB>16</totalDiskCapacityInKB><leaseTimeout>30</leaseTimeout></val>"#;
        let server = Url::parse("https://esx1.example:8443/sdk").expect("a URL");
        let found = info(&Element::parse(xml, Default::default()).expect("well-formed"), &server);
        assert_eq!((found.timeout.as_secs(), found.total_capacity), (30, 16384));
        let [disk, nvram] = &found.devices[..] else { panic!("two devices") };
        assert_eq!(disk.url, "https://esx1.example:8443/nfc/l/disk-0.vmdk");
        assert_eq!((disk.disk, disk.thumbprint.as_deref()), (true, Some("AB")));
        assert_eq!((nvram.disk, nvram.size, nvram.thumbprint.clone()), (false, Some(8684), None));
    }
}
