//! The server of a folder of appliances, with real folders and clients.

use super::*;
use expect_test::expect;
use forklift_inventory::rest::Open;
use forklift_inventory::{Inventory, ProviderEntry};
use forklift_providers::Collector;
use forklift_providers::ova::samples::{Sample, old, ova};
use forklift_providers::ova::{Client, Collect, SPEC};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct Server {
    folder: tempfile::TempDir,
    url: String,
    end: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Server {
    /// Puts a whole file there at once, as old as one that nobody writes to.
    fn put(&self, name: &str, bytes: &[u8]) {
        let aside = self.folder.path().join("aside");
        std::fs::write(&aside, bytes).expect("writable");
        old(&aside);
        std::fs::rename(&aside, self.folder.path().join(name)).expect("writable");
    }

    /// JSON with the folder's name replaced.
    fn shown(&self, json: &Value) -> String {
        let text = serde_json::to_string_pretty(json).expect("plain data");
        text.replace(&self.folder.path().display().to_string(), "/ova")
    }
}

async fn server() -> Server {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let listen = listener.local_addr().expect("bound");
    let settings = Settings {
        catalog: folder.path().to_owned(),
        listen,
        rescan: Duration::from_millis(20),
        settle: Duration::ZERO,
    };
    let end = CancellationToken::new();
    tokio::spawn(serve(listener, settings, end.clone().cancelled_owned()));
    Server { folder, url: format!("http://{listen}"), end }
}

async fn fetched(server: &Server, path: &str) -> Value {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let response = reqwest::get(format!("{}{path}", server.url)).await.expect("reachable");
    response.json().await.expect("JSON")
}

async fn until(what: &str, mut met: impl AsyncFnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while !met().await {
        assert!(tokio::time::Instant::now() < limit, "waited too long: {what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_lists_have_upstreams_keys() {
    let server = server().await;
    server.put("web.ova", &ova(&Sample::default()));
    until("the appliance is listed", async || fetched(&server, "/vms").await != json!([])).await;
    expect![[r#"
        [
          {
            "Name": "web",
            "OvfPath": "/ova/web.ova",
            "ExportSource": "VMware",
            "OsType": "debian12_64Guest",
            "RevisionValidated": 0,
            "PolicyVersion": 0,
            "UUID": "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
            "Firmware": "efi",
            "SecureBoot": false,
            "CpuAffinity": [],
            "CpuHotAddEnabled": false,
            "CpuHotRemoveEnabled": false,
            "MemoryHotAddEnabled": false,
            "FaultToleranceEnabled": false,
            "CpuCount": 2,
            "CoresPerSocket": 2,
            "MemoryMB": 1024,
            "MemoryUnits": "byte * 2^20",
            "CpuUnits": "hertz * 10^6",
            "BalloonedMemory": 0,
            "IpAddress": "",
            "NumaNodeAffinity": [],
            "StorageUsed": 0,
            "ChangeTrackingEnabled": false,
            "Devices": [
              {
                "kind": "SCSI Controller"
              },
              {
                "kind": "Hard Disk"
              }
            ],
            "NICs": [
              {
                "name": "Network adapter 1",
                "mac": "00:50:56:01:02:03",
                "Network": "VM Network",
                "Config": [],
                "Model": "VmxNet3"
              }
            ],
            "Disks": [
              {
                "ID": "66e74111dac16ed0ddee1cad6d55771bfcdf",
                "Name": "disk1.vmdk",
                "FilePath": "/ova/web.ova",
                "Capacity": 1,
                "CapacityAllocationUnits": "byte * 2^30",
                "DiskId": "vmdisk1",
                "FileRef": "file1",
                "Format": "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized",
                "PopulatedSize": 4096,
                "CapacityBytes": 1073741824,
                "Bus": "scsi",
                "Controller": 0,
                "Position": 0,
                "Source": {
                  "Path": "/ova/web.ova",
                  "Member": "disk1.vmdk",
                  "Format": "vmdk",
                  "Compression": null,
                  "Size": 600,
                  "Modified": 1700000000000000000,
                  "Digest": {
                    "algorithm": "SHA256",
                    "hex": "f3729137ab245824f035f3a855878a52ffed858b8b01482a1d6bae6d0d9f7028"
                  }
                }
              }
            ],
            "Networks": [
              {
                "Name": "VM Network",
                "Description": "The network",
                "ID": "ae1badc8c693926f492a01e2f357d6af321b"
              }
            ],
            "TpmEnabled": false,
            "MemoryBytes": 1073741824
          }
        ]"#]]
    .assert_eq(&server.shown(&fetched(&server, "/vms").await));
    expect![[r#"
        [
          {
            "Name": "VM Network",
            "Description": "The network",
            "ID": "ae1badc8c693926f492a01e2f357d6af321b"
          }
        ]"#]]
    .assert_eq(&server.shown(&fetched(&server, "/networks").await));
    assert_eq!(fetched(&server, "/test_connection").await, json!(""));
}

#[tokio::test]
async fn the_collector_follows_the_folder() {
    let server = server().await;
    server.put("web.ova", &ova(&Sample::default()));
    server.put("broken.ova", b"not an archive, but long enough to look at");
    let inventory = Inventory::new(None);
    let object = json!({"metadata": {"uid": "u", "name": "p", "namespace": "n"}});
    let entry = inventory.insert(ProviderEntry::collected(&SPEC, object));
    let collect = Box::new(Collect::new(Client::new(&server.url).expect("a client")));
    let running = tokio::spawn(collect.run(inventory.writer(&entry), server.end.clone()));

    until("both appliances are known", async || entry.store().count("appliances") == 2).await;
    let rest = forklift_inventory::rest::router(inventory, Arc::new(Open));
    let get = async |path: &str| {
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).expect("valid");
        let response = tower::ServiceExt::oneshot(rest.clone(), request).await.expect("infallible");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("small");
        server.shown(&serde_json::from_slice(&bytes).expect("JSON"))
    };
    expect![[r#"
        [
          {
            "id": "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
            "name": "web",
            "selfLink": "providers/ova/u/vms/5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
            "path": "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d"
          }
        ]"#]]
    .assert_eq(&get("/providers/ova/u/vms").await);
    expect![[r#"
        [
          {
            "id": "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
            "name": "web",
            "selfLink": "providers/ova/u/vms/5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
            "path": "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
            "revisionValidated": 0,
            "networks": null,
            "disks": [
              {
                "ID": "66e74111dac16ed0ddee1cad6d55771bfcdf",
                "Variant": "",
                "Name": "disk1.vmdk",
                "Revision": 0,
                "FilePath": "/ova/web.ova",
                "Capacity": 1,
                "CapacityAllocationUnits": "byte * 2^30",
                "DiskId": "vmdisk1",
                "FileRef": "file1",
                "Format": "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized",
                "PopulatedSize": 4096
              }
            ],
            "concerns": []
          }
        ]"#]]
    .assert_eq(&get("/providers/ova/u/vms?detail=1").await);
    expect![[r#"
        {
          "selfLink": "providers/ova/u/workloads/5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
          "id": "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
          "name": "web",
          "path": "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
          "revisionValidated": 0,
          "networks": [
            {
              "ID": "ae1badc8c693926f492a01e2f357d6af321b",
              "Variant": "",
              "Name": "VM Network",
              "Revision": 0,
              "Description": "The network"
            }
          ],
          "disks": [
            {
              "ID": "66e74111dac16ed0ddee1cad6d55771bfcdf",
              "Variant": "",
              "Name": "disk1.vmdk",
              "Revision": 0,
              "FilePath": "/ova/web.ova",
              "Capacity": 1,
              "CapacityAllocationUnits": "byte * 2^30",
              "DiskId": "vmdisk1",
              "FileRef": "file1",
              "Format": "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized",
              "PopulatedSize": 4096
            }
          ],
          "concerns": [],
          "ovfPath": "/ova/web.ova",
          "exportSource": "VMware",
          "osType": "debian12_64Guest",
          "policyVersion": 0,
          "uuid": "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
          "firmware": "efi",
          "secureBoot": false,
          "cpuAffinity": [],
          "cpuHotAddEnabled": false,
          "cpuHotRemoveEnabled": false,
          "memoryHotAddEnabled": false,
          "faultToleranceEnabled": false,
          "cpuCount": 2,
          "coresPerSocket": 2,
          "memoryMB": 1024,
          "memoryUnits": "byte * 2^20",
          "cpuUnits": "hertz * 10^6",
          "balloonedMemory": 0,
          "ipAddress": "",
          "numaNodeAffinity": [],
          "storageUsed": 0,
          "changeTrackingEnabled": false,
          "devices": [
            {
              "Kind": "SCSI Controller"
            },
            {
              "Kind": "Hard Disk"
            }
          ],
          "nics": [
            {
              "Name": "Network adapter 1",
              "MAC": "00:50:56:01:02:03",
              "Network": "VM Network",
              "Config": []
            }
          ]
        }"#]]
    .assert_eq(&get("/providers/ova/u/workloads/5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d").await);
    expect![[r#"
        [
          {
            "id": "ae1badc8c693926f492a01e2f357d6af321b",
            "name": "VM Network",
            "selfLink": "providers/ova/u/networks/ae1badc8c693926f492a01e2f357d6af321b",
            "path": "ae1badc8c693926f492a01e2f357d6af321b",
            "Description": "The network"
          }
        ]"#]]
    .assert_eq(&get("/providers/ova/u/networks?detail=1").await);
    expect![[r#"
        [
          {
            "id": "66e74111dac16ed0ddee1cad6d55771bfcdf",
            "name": "disk1.vmdk",
            "selfLink": "providers/ova/u/disks/66e74111dac16ed0ddee1cad6d55771bfcdf",
            "FilePath": "/ova/web.ova",
            "Capacity": 1,
            "CapacityAllocationUnits": "byte * 2^30",
            "DiskId": "vmdisk1",
            "FileRef": "file1",
            "Format": "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized",
            "PopulatedSize": 4096
          }
        ]"#]]
    .assert_eq(&get("/providers/ova/u/disks?detail=1").await);
    expect![[r#"
        [
          {
            "id": "66e74111dac16ed0ddee1cad6d55771bfcdf",
            "name": "disk1.vmdk",
            "selfLink": "providers/ova/u/storages/66e74111dac16ed0ddee1cad6d55771bfcdf",
            "path": "66e74111dac16ed0ddee1cad6d55771bfcdf"
          }
        ]"#]]
    .assert_eq(&get("/providers/ova/u/storages").await);
    expect![[r#"
        [
          {
            "id": "7c606a29ea319c306d5e453cb6ce3bb3eb98",
            "name": "broken.ova",
            "selfLink": "providers/ova/u/appliances/7c606a29ea319c306d5e453cb6ce3bb3eb98",
            "path": "broken.ova",
            "file": "broken.ova",
            "size": 42,
            "modified": "2023-11-14T22:13:20Z",
            "error": "the file is not a tar archive",
            "virtualSystems": [],
            "state": "Broken"
          },
          {
            "id": "697c6414c5656d23b262fab92f1a37408dec",
            "name": "web.ova",
            "selfLink": "providers/ova/u/appliances/697c6414c5656d23b262fab92f1a37408dec",
            "path": "web.ova",
            "file": "web.ova",
            "size": 6656,
            "modified": "2023-11-14T22:13:20Z",
            "source": "VMware",
            "virtualSystems": [
              {
                "name": "web",
                "id": "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d"
              }
            ],
            "state": "Ready"
          }
        ]"#]]
    .assert_eq(&get("/providers/ova/u/appliances?detail=all").await);
    expect![[r#"
        {
          "uid": "u",
          "version": "",
          "namespace": "n",
          "name": "p",
          "selfLink": "providers/ova/u",
          "id": "u",
          "type": "ova",
          "object": {
            "metadata": {
              "uid": "u",
              "name": "p",
              "namespace": "n"
            }
          },
          "apiVersion": "",
          "product": "",
          "vmCount": 1,
          "networkCount": 1,
          "diskCount": 1,
          "storageCount": 1
        }"#]]
    .assert_eq(&get("/providers/ova/u").await);

    server.put("second.ova", &ova(&Sample { name: "second", id: "second", ..Sample::default() }));
    until("the new appliance is in the inventory", async || entry.store().count("vms") == 2).await;
    std::fs::remove_file(server.folder.path().join("web.ova")).expect("there");
    until("the removed one is not", async || entry.store().count("vms") == 1).await;
    server.end.cancel();
    running.await.expect("no panic").expect("ended as told");
}

/// The rules as the program wires them.
struct Bundled(forklift_validation::Validator);

impl forklift_inventory::Rules for Bundled {
    fn version(&self, provider_type: &str) -> i64 {
        self.0.rules_version(provider_type)
    }

    fn concerns(&self, provider_type: &str, workload: &Value) -> Result<Vec<Value>, String> {
        let found = self.0.concerns(provider_type, workload).map_err(|e| e.to_string())?;
        Ok(found.iter().map(|c| json!(c)).collect())
    }
}

#[tokio::test]
async fn rules_fire_on_what_the_collector_stores() {
    let server = server().await;
    let text = Sample { name: "my_vm", id: "x", ..Sample::default() }.descriptor();
    let text = text
        .replace("http://www.vmware.com/schema/ovf", "http://www.virtualbox.org/ovf/machine")
        .replace("ovf:capacity=\"1\"", "ovf:capacity=\"0\"")
        .replace("vmw:key=\"firmware\" vmw:value=\"efi\"", "vmw:key=\"cpuHotAddEnabled\" vmw:value=\"true\"");
    std::fs::write(server.folder.path().join("disk1.vmdk"), [0; 600]).expect("writable");
    server.put("vm.ovf", text.as_bytes());
    let rules = Arc::new(Bundled(forklift_validation::Validator::new()));
    let inventory = Inventory::new(Some(rules));
    let entry = inventory.insert(ProviderEntry::collected(&SPEC, json!({"metadata": {"uid": "u"}})));
    let collect = Box::new(Collect::new(Client::new(&server.url).expect("a client")));
    tokio::spawn(collect.run(inventory.writer(&entry), server.end.clone()));
    until("the VM is known", async || entry.store().count("vms") == 1).await;
    let id = entry.store().list("vms")[0].id.clone();
    let vm = entry.store().settled("vms", &id, Duration::from_secs(20)).await.expect("just listed");
    assert!(vm.is_validated(5), "{vm:?}");
    let ids: Vec<&str> = vm.verdict.concerns.iter().filter_map(|c| c["id"].as_str()).collect();
    let all_but_what_an_appliance_cannot_have =
        ["ova.cpu_memory.hotplug.enabled", "ova.disk.capacity.invalid", "ova.name.invalid", "ova.source.unsupported"];
    assert_eq!(ids, all_but_what_an_appliance_cannot_have);
}

#[tokio::test]
async fn the_registry_leads_from_a_reference_to_the_importers_input() {
    use forklift_api::{Provider, Ref};
    use forklift_providers::{Context, Endpoint, Found, Registry, Thing};
    let server = server().await;
    server.put("web.ova", &ova(&Sample::default()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    // an appliance needs no cluster: nothing listens there
    let config = kube::Config::new("http://127.0.0.1:1".parse().expect("a URL"));
    let client = kube::Client::try_from(config).expect("a client");
    let context = Context { client, config: None, namespace: "konveyor-forklift".into(), shared: Default::default() };
    let registry = Registry::new(Inventory::new(None), context);
    let provider: Provider = serde_json::from_value(json!({
        "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Provider",
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"type": "ova", "url": "/ova", "secret": {}},
    }))
    .expect("a Provider");
    let endpoint = |url: Option<&str>| Endpoint {
        provider: Arc::new(provider.clone()),
        secret: Default::default(),
        server: url.map(str::to_owned),
        hosts: Default::default(),
    };
    let starting = registry.test(&endpoint(None)).await.expect_err("no server");
    assert_eq!(starting.to_string(), "the provider's server is not up yet");
    registry.test(&endpoint(Some(&server.url))).await.expect("it answers");
    assert!(matches!(registry.find(&provider, Thing::Vm, &Ref::by_name("web")).await, Found::NotLoaded));

    let (collecting, end) = (registry.clone(), server.end.clone());
    let run = endpoint(Some(&server.url));
    tokio::spawn(async move { collecting.collect(run, end).await });
    let named = Ref::by_name("web");
    until("the VM is found", async || matches!(registry.find(&provider, Thing::Vm, &named).await, Found::One(..)))
        .await;
    let Found::One(vm, _) = registry.find(&provider, Thing::Vm, &named).await else { panic!("just found") };
    assert_eq!(vm.id, "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d");
    let network = registry.find(&provider, Thing::Network, &Ref::by_name("VM Network")).await;
    assert!(matches!(network, Found::One(..)), "{network:?}");
    assert!(matches!(registry.find(&provider, Thing::Storage, &Ref::by_name("none")).await, Found::None));

    let source = registry.source(&provider).expect("a source");
    let machine = source.machine(&vm.id).await.expect("there");
    let disks = source.disk_sources(&machine).await.expect("readable");
    let page = serde_json::to_value(&disks).expect("plain data");
    expect![[r#"
        [
          {
            "source": {
              "file": {
                "path": "/ova/web.ova",
                "member": "disk1.vmdk",
                "format": "vmdk",
                "digest": {
                  "algorithm": "SHA256",
                  "hex": "f3729137ab245824f035f3a855878a52ffed858b8b01482a1d6bae6d0d9f7028"
                }
              }
            },
            "identity": "/ova/web.ova|disk1.vmdk|600|1700000000000000000|SHA256:f3729137ab245824f035f3a855878a52ffed858b8b01482a1d6bae6d0d9f7028",
            "virtualSize": 1073741824
          }
        ]"#]].assert_eq(&server.shown(&page));
    assert!(source.machine("nobody").await.is_err());
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_is_told() {
    let server = server().await;
    std::fs::remove_dir_all(server.folder.path()).expect("there");
    let client = Client::new(&server.url).expect("a client");
    until("the test fails", async || client.test().await.is_err()).await;
    let error = client.test().await.expect_err("there is no folder").to_string();
    let error = error.replace(&server.folder.path().display().to_string(), "/ova");
    expect!["the provider's server answers 503 Service Unavailable: the folder /ova cannot be read: No such file or directory (os error 2)"].assert_eq(&error);
}

#[test]
fn settings_come_from_the_environment() {
    let read = |pairs: &[(&str, &str)]| {
        let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Settings::read(find).map_err(|e| e.to_string())
    };
    let settings = read(&[("POD_IP", "127.64.0.1"), ("OVA_SETTLE_SECONDS", "0.5")]).expect("good values");
    assert_eq!(settings.listen.to_string(), "127.64.0.1:8080");
    assert_eq!((settings.catalog, settings.settle), (PathBuf::from("/ova"), Duration::from_millis(500)));
    let bad = read(&[("OVA_RESCAN_SECONDS", "-1")]).expect_err("a negative time");
    assert_eq!(bad, "OVA_RESCAN_SECONDS is \"-1\", which is not a number of seconds");
}
