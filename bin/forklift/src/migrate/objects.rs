//! The objects of one migration, as a user of a cluster would write them.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use forklift_api::DEFAULT_NAMESPACE as NAMESPACE;
use futures::AsyncBufReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::result::Finished;
use super::{LOOK, has_condition};
use crate::stack::Stack;

const MANAGER: &str = "forklift-migrate";
/// Namespace for the migrated machine.
const TARGET: &str = "migrated";
const GROUP: &str = "forklift.konveyor.io";

/// Names and clients of one migration's objects.
pub struct Objects<'a> {
    stack: &'a Stack,
    name: String,
}

/// The appliance's provider in the inventory.
pub struct Inventory<'a> {
    stack: &'a Stack,
    http: reqwest::Client,
    uid: String,
}

impl<'a> Objects<'a> {
    /// Returns the objects for the appliance with this file stem.
    pub fn new(stack: &'a Stack, stem: &str) -> Self {
        let name: String =
            stem.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name = name.trim_matches('-').chars().take(40).collect::<String>();
        Objects { stack, name: if name.is_empty() { "appliance".into() } else { name } }
    }

    fn api(&self, group: &str, version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.stack.client.clone(), namespace, &resource)
    }

    async fn apply(&self, kind: &str, name: &str, body: Value) -> anyhow::Result<()> {
        let mut object = json!({"apiVersion": format!("{GROUP}/v1beta1"), "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}});
        object["spec"] = body;
        let api = self.api(GROUP, "v1beta1", kind, NAMESPACE);
        api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object))
            .await
            .with_context(|| format!("cannot write the {kind} {name}"))?;
        Ok(())
    }

    async fn get(&self, kind: &str, name: &str) -> anyhow::Result<Value> {
        let object = self
            .api(GROUP, "v1beta1", kind, NAMESPACE)
            .get(name)
            .await
            .with_context(|| format!("cannot read the {kind} {name}"))?;
        Ok(serde_json::to_value(object)?)
    }

    fn reference(&self, name: &str) -> Value {
        json!({"name": name, "namespace": NAMESPACE})
    }

    /// Makes the provider for the folder with the appliance.
    pub async fn provider(&self, catalog: &Path) -> anyhow::Result<()> {
        let url = catalog.to_str().context("the appliance's path is not UTF-8")?;
        let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(self.stack.client.clone(), NAMESPACE);
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.name}, "stringData": {"url": url}});
        secrets
            .patch(&self.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&secret))
            .await
            .context("cannot write the provider's secret")?;
        self.apply("Provider", &self.name, json!({"type": "ova", "url": url, "secret": self.reference(&self.name)}))
            .await
    }

    /// Waits until the provider's inventory is there.
    pub async fn wait_for_provider(&self, patience: Duration) -> anyhow::Result<Value> {
        let (provider, host) = (self.name.as_str(), "host");
        for name in [host, provider] {
            self.settled("Provider", name, patience, |object| {
                has_condition(&object["status"], "Ready") && has_condition(&object["status"], "InventoryCreated")
            })
            .await?;
        }
        self.get("Provider", provider).await
    }

    /// Returns the appliance's part of the inventory.
    pub fn inventory(&self, provider: &Value) -> anyhow::Result<Inventory<'a>> {
        let uid = provider["metadata"]["uid"].as_str().context("the provider has no uid")?.to_owned();
        let authority = reqwest::Certificate::from_pem(self.stack.ca.as_bytes())?;
        let http = reqwest::Client::builder().tls_certs_merge([authority]).build()?;
        Ok(Inventory { stack: self.stack, http, uid })
    }

    /// Makes the maps: the first network becomes the pod network, further ones are left out.
    pub async fn maps(&self, inventory: &Inventory<'_>) -> anyhow::Result<()> {
        let provider = json!({"source": self.reference(&self.name), "destination": self.reference("host")});
        let networks = inventory.list("networks").await?;
        let rows: Vec<_> = networks
            .iter()
            .enumerate()
            .map(|(index, network)| {
                let kind = if index == 0 { "pod" } else { "ignored" };
                if index > 0 {
                    eprintln!(
                        "  network {} is left out: only one can be the pod network",
                        network["name"].as_str().unwrap_or_default()
                    );
                }
                json!({"source": {"id": network["id"]}, "destination": {"type": kind}})
            })
            .collect();
        self.apply("NetworkMap", &self.name, json!({"provider": provider, "map": rows})).await?;
        let storages = inventory.list("storages").await?;
        let rows: Vec<_> = storages
            .iter()
            .map(|storage| json!({"source": {"id": storage["id"]}, "destination": {"storageClass": "standard"}}))
            .collect();
        self.apply("StorageMap", &self.name, json!({"provider": provider, "map": rows})).await
    }

    /// Makes the plan.
    pub async fn plan(&self, vm: &Value, raw: bool) -> anyhow::Result<()> {
        let spec = json!({
            "targetNamespace": TARGET,
            "provider": {"source": self.reference(&self.name), "destination": self.reference("host")},
            "map": {"network": self.reference(&self.name), "storage": self.reference(&self.name)},
            "vms": [{"id": vm["id"], "name": vm["name"]}],
            "targetPowerState": "off",
            "skipGuestConversion": raw,
        });
        self.apply("Plan", &self.name, spec).await
    }

    /// Waits until the plan is ready, or says why it is not.
    pub async fn wait_for_plan(&self, patience: Duration) -> anyhow::Result<()> {
        self.settled("Plan", &self.name, patience, |plan| {
            has_condition(&plan["status"], "Ready")
                || has_condition(&plan["status"], "Succeeded")
                || has_condition(&plan["status"], "Executing")
        })
        .await
    }

    /// Starts the migration, or goes on with the one that an earlier run has started; a failed one is started anew.
    pub async fn migration(&self) -> anyhow::Result<()> {
        let plan = self.get_plan().await?;
        let over = has_condition(&plan["status"], "Failed") || has_condition(&plan["status"], "Canceled");
        let tries = plan["status"]["migration"]["history"].as_array().map_or(0, Vec::len);
        let number = if over { tries + 1 } else { tries.max(1) };
        self.apply("Migration", &format!("{}-{number}", self.name), json!({"plan": self.reference(&self.name)}))
            .await?;
        // an earlier try's end must not be taken for this one's
        let started = |plan: &Value| {
            plan["status"]["migration"]["history"].as_array().is_some_and(|history| history.len() >= number)
        };
        self.settled("Plan", &self.name, Duration::from_secs(120), started).await
    }

    /// Returns the plan.
    pub async fn get_plan(&self) -> anyhow::Result<Value> {
        self.get("Plan", &self.name).await
    }

    /// Returns what the migration has made.
    pub async fn finished(&self, source: &Value) -> anyhow::Result<Finished> {
        let plan = self.get_plan().await?;
        let status = &plan["status"]["migration"]["vms"][0];
        let source_name = source["name"].as_str().unwrap_or_default();
        let name = status["newName"].as_str().filter(|name| !name.is_empty()).unwrap_or(source_name).to_owned();
        let machine = self
            .api("kubevirt.io", "v1", "VirtualMachine", TARGET)
            .get(&name)
            .await
            .with_context(|| format!("cannot read the VirtualMachine {name}"))?;
        let machine = serde_json::to_value(machine)?;
        let mut claims = Vec::new();
        for volume in machine["spec"]["template"]["spec"]["volumes"].as_array().into_iter().flatten() {
            let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() else { continue };
            let claim = self
                .api("", "v1", "PersistentVolumeClaim", TARGET)
                .get(claim)
                .await
                .with_context(|| format!("cannot read the claim {claim}"))?;
            claims.push(serde_json::to_value(claim)?);
        }
        Ok(Finished { vm: name, machine, claims })
    }

    /// Turns the migrated machine on or off.
    pub async fn power(&self, vm: &str, on: bool) -> anyhow::Result<()> {
        let strategy = if on { "Always" } else { "Halted" };
        let api = self.api("kubevirt.io", "v1", "VirtualMachine", TARGET);
        let patch = json!({"spec": {"runStrategy": strategy}});
        api.patch(vm, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .with_context(|| format!("cannot turn the VirtualMachine {vm} {}", if on { "on" } else { "off" }))?;
        Ok(())
    }

    /// Waits until the machine's instance is gone.
    pub async fn wait_until_off(&self, vm: &str, patience: Duration) -> anyhow::Result<()> {
        let api = self.api("kubevirt.io", "v1", "VirtualMachineInstance", TARGET);
        let start = Instant::now();
        let mut tick = tokio::time::interval(LOOK);
        while api.get_opt(vm).await?.is_some() {
            if start.elapsed() > patience {
                bail!("the VirtualMachine {vm} does not turn off");
            }
            tick.tick().await;
        }
        Ok(())
    }

    /// Prints the machine's serial console until it shows `until`.
    pub async fn console(&self, vm: &str, until: &str, patience: Duration) -> anyhow::Result<()> {
        let read = async {
            let pods: Api<Pod> = Api::namespaced(self.stack.client.clone(), TARGET);
            let mut tick = tokio::time::interval(LOOK);
            let params =
                LogParams { container: Some("guest-console-log".into()), follow: true, ..LogParams::default() };
            let mut stream = loop {
                tick.tick().await;
                let list = pods.list(&ListParams::default().labels(&format!("vm.kubevirt.io/name={vm}"))).await?;
                let Some(pod) = list.items.into_iter().find_map(|pod| pod.metadata.name) else { continue };
                if let Ok(stream) = pods.log_stream(&pod, &params).await {
                    break stream;
                }
            };
            // a prompt has no line end, so the text is looked for in the bytes as they come
            let mut seen = String::new();
            loop {
                let bytes = stream.fill_buf().await?;
                if bytes.is_empty() {
                    bail!("the console ended before it showed {until:?}");
                }
                let (text, length) = (String::from_utf8_lossy(bytes).into_owned(), bytes.len());
                stream.consume_unpin(length);
                print!("{text}");
                std::io::stdout().flush()?;
                seen += &text;
                if seen.contains(until) {
                    return Ok(());
                }
                let keep = seen.len().saturating_sub(until.len() + 256);
                let keep = (keep..=seen.len()).find(|at| seen.is_char_boundary(*at)).unwrap_or(seen.len());
                seen.drain(..keep);
            }
        };
        tokio::time::timeout(patience, read)
            .await
            .with_context(|| format!("the console did not show {until:?} within {} s", patience.as_secs()))?
    }

    /// Waits until `holds`; a Critical condition, or none of it in time, becomes the error.
    async fn settled(
        &self,
        kind: &str,
        name: &str,
        patience: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut tick = tokio::time::interval(LOOK);
        let mut critical_since: Option<Instant> = None;
        loop {
            tick.tick().await;
            let object = self.get(kind, name).await?;
            if holds(&object) {
                return Ok(());
            }
            let problems = problems(&object);
            if problems.is_empty() {
                critical_since = None;
            } else if critical_since.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(5) {
                bail!("the {kind} {name} is not ready: {}", problems.into_iter().collect::<Vec<_>>().join("; "));
            }
            if start.elapsed() > patience {
                bail!(
                    "the {kind} {name} is not ready after {} s; its status is {}",
                    patience.as_secs(),
                    object["status"]
                );
            }
        }
    }
}

/// Returns the messages of the conditions that keep an object from being ready.
fn problems(object: &Value) -> BTreeSet<String> {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let critical = conditions.filter(|condition| {
        matches!(condition["category"].as_str(), Some("Critical" | "Error")) && condition["status"] == "True"
    });
    critical
        .map(|condition| {
            let items: Vec<_> = condition["items"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let message = condition["message"].as_str().unwrap_or_default().trim_end_matches('.');
            if items.is_empty() { message.to_owned() } else { format!("{message}: {}", items.join(", ")) }
        })
        .collect()
}

impl Inventory<'_> {
    async fn fetch(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}/providers/ova/{}/{path}", self.stack.inventory_url, self.uid);
        let response = self
            .http
            .get(&url)
            .bearer_auth(&self.stack.token)
            .send()
            .await
            .with_context(|| format!("cannot ask the inventory for {path}"))?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("the inventory answered {status} for {path}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("the inventory's answer for {path} is not JSON"))
    }

    /// Returns a collection.
    pub async fn list(&self, collection: &str) -> anyhow::Result<Vec<Value>> {
        let value = self.fetch(&format!("{collection}?detail=4")).await?;
        Ok(value.as_array().cloned().unwrap_or_default())
    }

    /// Returns the machine to migrate: the named one, or the only one. Waits until the appliance has been read.
    pub async fn vm(&self, wanted: Option<&str>, appliance: &Path, patience: Duration) -> anyhow::Result<Value> {
        let file = appliance.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let start = Instant::now();
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tick.tick().await;
            let known = self.list("appliances").await?;
            let state = known.iter().find(|known| known["file"] == file);
            match state.and_then(|known| known["state"].as_str()) {
                Some("Broken") => bail!(
                    "{} cannot be used: {}",
                    appliance.display(),
                    state.map(|known| known["error"].to_string()).unwrap_or_default().trim_matches('"')
                ),
                Some("Ready") => break,
                // a file that was modified a moment ago may still be growing
                _ if start.elapsed() < patience => {}
                _ => bail!("{} is still being written: try again when it is complete", appliance.display()),
            }
        }
        let mut vms = self.list("vms").await?;
        // the folder may hold other appliances
        vms.retain(|vm| vm["ovfPath"].as_str().is_none_or(|path| path.ends_with(file)));
        let names = || vms.iter().filter_map(|vm| vm["name"].as_str()).collect::<Vec<_>>().join(", ");
        match (wanted, vms.as_slice()) {
            (_, []) => bail!("{} holds no virtual machine", appliance.display()),
            (None, [vm]) => Ok(vm.clone()),
            (None, _) => {
                bail!("{} holds several virtual machines: choose one with --vm ({})", appliance.display(), names())
            }
            (Some(name), _) => vms.iter().find(|vm| vm["name"] == name).cloned().with_context(|| {
                format!("{} holds no virtual machine {name}: it has {}", appliance.display(), names())
            }),
        }
    }
}
