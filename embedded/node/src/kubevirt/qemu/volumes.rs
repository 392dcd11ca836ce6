//! Where disks come from: claims, images, overlays, and small ISO images made for the guest.
//!
//! What is made for the guest is made by the `prepare` container in the pod's private directory.
//! Seeds (cloud-init) come there through a secret of the machine's own ([`seed`]), so that no
//! user data stands in a command line or in the pod.

use std::collections::BTreeMap;

use base64::Engine as _;
use forklift_kubevirt_types::kubevirt::{CloudInit, VirtualMachineInstanceSpec, Volume};
use forklift_kubevirt_types::vmi::VirtualMachineInstance;
use serde_json::{Value, json};

use super::disks::Image;
use super::{Builder, Facts, PRIVATE_DIR, Refusal, quote};
use crate::quantity;

/// Where the seeds' secret is mounted for `prepare`.
const SEED_DIR: &str = "/var/run/kubevirt-seed";
/// Where config maps and the like are mounted for `prepare`.
const CONFIG_DIR: &str = "/var/run/kubevirt-config";
/// Where image files and folders of this machine are mounted.
const HOST_DIR: &str = "/var/run/kubevirt-host";
/// An image that the node does not have.
const NO_IMAGE: &str = "ErrImagePull";

/// Names of the claims behind a machine's volumes.
pub fn claims(spec: &VirtualMachineInstanceSpec) -> Vec<String> {
    spec.volumes.iter().filter_map(claim_of).collect()
}

/// The claim behind a volume.
pub fn claim_of(volume: &Volume) -> Option<String> {
    let claim = volume.persistent_volume_claim.as_ref();
    let claim = claim.or_else(|| volume.ephemeral.as_ref()?.persistent_volume_claim.as_ref());
    let name = claim.map(|claim| claim.claim_name.clone());
    name.or_else(|| volume.data_volume.as_ref().map(|source| source.name.clone()))
}

/// Whether the machine keeps EFI variables or a TPM beyond its instance.
pub fn needs_state(spec: &VirtualMachineInstanceSpec) -> bool {
    let firmware = spec.domain.firmware.as_ref();
    let efi = firmware.and_then(|firmware| firmware.bootloader.as_ref()?.efi.as_ref());
    let tpm = spec.domain.devices.tpm.as_ref().filter(|tpm| tpm.enabled != Some(false));
    efi.is_some_and(|efi| efi.persistent == Some(true)) || tpm.is_some_and(|tpm| tpm.persistent == Some(true))
}

/// Secrets whose content goes onto seed disks.
pub fn seed_secrets(spec: &VirtualMachineInstanceSpec) -> Vec<String> {
    let mut names: Vec<String> = seeds(spec)
        .flat_map(|(_, source)| [&source.secret_ref, &source.network_data_secret_ref])
        .flatten()
        .map(|reference| reference.name.clone())
        .collect();
    if !names.is_empty() || seeds(spec).next().is_some() {
        names.extend(spec.access_credentials.iter().filter_map(credential));
    }
    names.sort();
    names.dedup();
    names
}

fn seeds(spec: &VirtualMachineInstanceSpec) -> impl Iterator<Item = (&Volume, &CloudInit)> {
    spec.volumes.iter().filter_map(|volume| {
        let source = volume.cloud_init_no_cloud.as_ref().or(volume.cloud_init_config_drive.as_ref())?;
        Some((volume, source))
    })
}

/// The secret of public keys that cloud-init brings into the guest.
fn credential(credential: &Value) -> Option<String> {
    let key = credential.get("sshPublicKey")?;
    let method = key.get("propagationMethod")?;
    (method.get("noCloud").is_some() || method.get("configDrive").is_some())
        .then(|| key.pointer("/source/secret/secretName")?.as_str().map(str::to_owned))
        .flatten()
}

/// The files of all seed disks, as `VOLUME.FILE`; none when there is no such disk.
pub fn seed(
    vmi: &VirtualMachineInstance,
    secrets: &BTreeMap<String, BTreeMap<String, Vec<u8>>>,
) -> Result<Option<BTreeMap<String, Vec<u8>>>, Refusal> {
    let mut files = BTreeMap::new();
    let name = vmi.metadata.name.clone().unwrap_or_default();
    let id = format!("{}/{name}", vmi.metadata.namespace.clone().unwrap_or_default());
    // the same after a restart, so that the guest does not begin anew
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, id.as_bytes()).to_string();
    let host = vmi.spec.hostname.clone().unwrap_or_else(|| name.split('.').next().unwrap_or_default().to_owned());
    let keys: BTreeMap<String, String> = vmi
        .spec
        .access_credentials
        .iter()
        .filter_map(credential)
        .flat_map(|name| secrets.get(&name).cloned().unwrap_or_default().into_values())
        .enumerate()
        .map(|(number, key)| (number.to_string(), String::from_utf8_lossy(&key).trim().to_owned()))
        .collect();
    for (volume, source) in seeds(&vmi.spec) {
        let what = |kind: &str| format!("{kind} of volume {}", volume.name);
        let user = content(
            &what("userData"),
            source.secret_ref.as_ref().map(|reference| reference.name.as_str()),
            &["userdata", "userData"],
            source.user_data.as_deref(),
            source.user_data_base64.as_deref(),
            secrets,
        )?;
        let network_secret = source.network_data_secret_ref.as_ref().map(|reference| reference.name.as_str());
        let network = content(
            &what("networkData"),
            network_secret,
            &["networkdata", "networkData"],
            source.network_data.as_deref(),
            source.network_data_base64.as_deref(),
            secrets,
        )?;
        let mut meta = if volume.cloud_init_no_cloud.is_some() {
            json!({"instance-id": id, "local-hostname": host})
        } else {
            json!({"instance_id": id, "local_hostname": host, "hostname": host, "uuid": id})
        };
        if !keys.is_empty() {
            let field = if volume.cloud_init_no_cloud.is_some() { "public-keys" } else { "public_keys" };
            meta[field] = json!(keys);
        }
        let mut put = |file: &str, content: Vec<u8>| files.insert(format!("{}.{file}", volume.name), content);
        put("meta-data", meta.to_string().into_bytes());
        put("user-data", user.unwrap_or_default());
        if let Some(network) = network {
            put("network-data", network);
        }
    }
    Ok((!files.is_empty()).then_some(files))
}

fn content(
    what: &str,
    secret: Option<&str>,
    keys: &[&str],
    text: Option<&str>,
    base64: Option<&str>,
    secrets: &BTreeMap<String, BTreeMap<String, Vec<u8>>>,
) -> Result<Option<Vec<u8>>, Refusal> {
    if let Some(name) = secret {
        let Some(data) = secrets.get(name) else {
            let message = format!("secret \"{name}\" with the {what} not found");
            return Err(Refusal { reason: "FailedMount", message });
        };
        return match keys.iter().find_map(|key| data.get(*key)) {
            Some(content) => Ok(Some(content.clone())),
            None if text.is_none() && base64.is_none() && what.starts_with("userData") => {
                Err(format!("secret \"{name}\" has no key {} with the {what}", keys[0]).into())
            }
            None => Ok(None),
        };
    }
    if let Some(encoded) = base64 {
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim());
        return decoded.map(Some).map_err(|error| format!("the {what} is not base64: {error}").into());
    }
    Ok(text.map(|text| text.as_bytes().to_vec()))
}

impl Builder {
    /// Brings a volume into the pod; returns what QEMU opens.
    pub(super) fn volume(&mut self, volume: &Volume, facts: &Facts) -> Result<Option<Image>, Refusal> {
        let name = &volume.name;
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        {
            return Err(format!("volume {name:?} needs a name of lower case letters, digits and '-'").into());
        }
        if let Some(claim_name) = claim_of(volume) {
            let image = self.claim(volume, &claim_name, facts)?;
            return Ok(Some(if volume.ephemeral.is_some() { self.overlay(name, &image, facts)? } else { image }));
        }
        if let Some(source) = &volume.container_disk {
            let Some(image) = facts.images.get(&source.image) else {
                let message = format!(
                    "containerDisk {}: nothing is pulled, and no local file stands for this image; give it a row with `disk` in the node's image table",
                    source.image
                );
                return Err(Refusal { reason: NO_IMAGE, message });
            };
            let path = format!("{HOST_DIR}/{name}");
            self.volumes.push(json!({"name": name, "hostPath": {"path": image.path, "type": "File"}}));
            let mount = json!({"name": name, "mountPath": path, "readOnly": true});
            self.mounts.push(mount.clone());
            self.prepare_mounts.push(mount);
            let base = Image { path, format: image.format, ..Image::default() };
            return Ok(Some(self.overlay(name, &base, facts)?));
        }
        if let Some(empty) = &volume.empty_disk {
            let size = empty.capacity.as_ref().and_then(|size| quantity::bytes(&size.0)).unwrap_or(0);
            let path = format!("{PRIVATE_DIR}/empty-{name}.img");
            self.prepare.push(format!("truncate -s {size} {path}"));
            return Ok(Some(Image::raw(path)));
        }
        if let Some(disk) = &volume.host_disk {
            return self.host_disk(name, disk).map(Some);
        }
        self.made_for_the_guest(volume, facts)
    }

    fn claim(&mut self, volume: &Volume, claim_name: &str, facts: &Facts) -> Result<Image, Refusal> {
        let name = &volume.name;
        let Some(claim) = facts.claims.get(claim_name) else {
            let message = format!("persistentvolumeclaim \"{claim_name}\" not found");
            return Err(Refusal { reason: super::super::vmi::NO_CLAIM, message });
        };
        let overlaid = volume.ephemeral.is_some();
        let asked = volume.persistent_volume_claim.as_ref().and_then(|claim| claim.read_only) == Some(true);
        let source = json!({"claimName": claim_name, "readOnly": asked || overlaid});
        self.volumes.push(json!({"name": name, "persistentVolumeClaim": source}));
        if claim.block {
            let path = format!("/dev/{name}");
            let device = json!({"name": name, "devicePath": path});
            if overlaid {
                self.prepare_devices.push(device.clone());
            }
            self.devices.push(device);
            return Ok(Image { device: claim.device, read_only: asked, ..Image::raw(path) });
        }
        let dir = format!("{PRIVATE_DIR}/vmi-disks/{name}");
        let mount = json!({"name": name, "mountPath": dir});
        self.prepare_mounts.push(mount.clone());
        self.mounts.push(mount);
        if claim.size > 0 && !asked && !overlaid {
            // an empty volume is an empty disk, as KubeVirt has it
            self.prepare.push(format!("[ -e {dir}/disk.img ] || truncate -s {} {dir}/disk.img", claim.size));
        }
        Ok(Image { read_only: asked, ..Image::raw(format!("{dir}/disk.img")) })
    }

    /// An image whose writes go with the pod.
    fn overlay(&mut self, name: &str, base: &Image, facts: &Facts) -> Result<Image, Refusal> {
        if !facts.has("qemu-img") {
            return Err(format!("volume {name} needs qemu-img: install the package qemu-utils").into());
        }
        let path = format!("{PRIVATE_DIR}/overlay-{name}.qcow2");
        self.prepare.push(format!("qemu-img create -q -f qcow2 -F {} -b {} {path}", base.format, base.path));
        Ok(Image::overlay(path))
    }

    fn host_disk(&mut self, name: &str, disk: &forklift_kubevirt_types::kubevirt::HostDisk) -> Result<Image, Refusal> {
        let whole = std::path::Path::new(&disk.path);
        let (Some(parent), Some(file)) = (whole.parent(), whole.file_name().and_then(|file| file.to_str())) else {
            return Err(format!("hostDisk {name} has no path of a file: {}", disk.path).into());
        };
        let dir = format!("{HOST_DIR}/{name}");
        let path = format!("{dir}/{file}");
        let kind = if disk.type_ == "DiskOrCreate" { "DirectoryOrCreate" } else { "Directory" };
        self.volumes.push(json!({"name": name, "hostPath": {"path": parent, "type": kind}}));
        let mount = json!({"name": name, "mountPath": dir});
        if disk.type_ == "DiskOrCreate" {
            let Some(size) = disk.capacity.as_ref().and_then(|size| quantity::bytes(&size.0)) else {
                return Err(format!("hostDisk {name} is made when it is not there, and has no capacity").into());
            };
            self.prepare_mounts.push(mount.clone());
            self.prepare
                .push(format!("cd {dir}; [ -e {0} ] || truncate -s {size} {0}; cd /", quote(&format!("./{file}"))));
        }
        self.mounts.push(mount);
        Ok(Image::raw(path))
    }

    /// Cloud-init, sysprep, config maps and the like become ISO images.
    fn made_for_the_guest(&mut self, volume: &Volume, facts: &Facts) -> Result<Option<Image>, Refusal> {
        let name = &volume.name;
        let staging = format!("{PRIVATE_DIR}/iso-{name}");
        let (label, fill) = if volume.cloud_init_no_cloud.is_some() {
            let files = ["meta-data", "user-data", "network-data"];
            ("cidata", seed_files(name, &staging, &files.map(|file| (file, file))))
        } else if volume.cloud_init_config_drive.is_some() {
            let files =
                [("meta-data", "meta_data.json"), ("user-data", "user_data"), ("network-data", "network_data.json")];
            ("config-2", seed_files(name, &format!("{staging}/openstack/latest"), &files))
        } else {
            let (label, source) = match pod_source(volume) {
                Some(found) => found,
                None => {
                    let kinds = volume.other.keys().cloned().collect::<Vec<_>>().join(", ");
                    self.note(format!("volume {name} is left out: the embedded node offers no {kinds} volumes"));
                    return Ok(None);
                }
            };
            let dir = format!("{CONFIG_DIR}/{name}");
            let mut source = source;
            source["name"] = json!(name);
            self.volumes.push(source);
            self.prepare_mounts.push(json!({"name": name, "mountPath": dir}));
            if let Some(account) = &volume.service_account {
                self.service_account = Some(account.service_account_name.clone());
            }
            let fill = format!(
                "mkdir -p {staging}; find {dir} -mindepth 1 -maxdepth 1 ! -name '.*' -exec cp -rL {{}} {staging} ';'"
            );
            return self.iso(name, label, fill, facts).map(Some);
        };
        let Some(secret) = &facts.seeds else {
            return Err(format!("volume {name} has no seed: the machine's secret is not made yet").into());
        };
        if !self.controllers.iter().any(|known| known == "seed") {
            self.controllers.push("seed".into());
            self.volumes.push(json!({"name": "kubevirt-seed", "secret": {"secretName": secret}}));
            self.prepare_mounts.push(json!({"name": "kubevirt-seed", "mountPath": SEED_DIR}));
        }
        self.iso(name, label, fill, facts).map(Some)
    }

    fn iso(&mut self, name: &str, label: &str, fill: String, facts: &Facts) -> Result<Image, Refusal> {
        if !facts.has("xorriso") {
            return Err(format!("volume {name} becomes an ISO image, for which the package xorriso is needed").into());
        }
        let (staging, path) = (format!("{PRIVATE_DIR}/iso-{name}"), format!("{PRIVATE_DIR}/{name}.iso"));
        self.prepare.push(fill);
        self.prepare.push(format!(
            "xorriso -as mkisofs -quiet -volid {} -joliet -rock -o {path} {staging}; rm -rf {staging}",
            quote(label)
        ));
        Ok(Image::raw(path))
    }
}

/// Copies what there is of a seed's files.
fn seed_files(name: &str, dir: &str, files: &[(&str, &str)]) -> String {
    let mut script = format!("mkdir -p {dir}");
    for (from, to) in files {
        script += &format!("; [ ! -e {SEED_DIR}/{name}.{from} ] || cp {SEED_DIR}/{name}.{from} {dir}/{to}");
    }
    script
}

/// The disk's label and the pod's volume of what Kubernetes has as a volume itself.
fn pod_source(volume: &Volume) -> Option<(&str, Value)> {
    let (label, source) = if let Some(map) = &volume.config_map {
        (map.volume_label.as_deref(), json!({"configMap": {"name": map.name, "optional": map.optional}}))
    } else if let Some(secret) = &volume.secret {
        let source = json!({"secret": {"secretName": secret.secret_name, "optional": secret.optional}});
        (secret.volume_label.as_deref(), source)
    } else if let Some(downward) = &volume.downward_api {
        (downward.volume_label.as_deref(), json!({"downwardAPI": {"items": downward.fields}}))
    } else if volume.service_account.is_some() {
        let ca = json!({"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}], "optional": true});
        let namespace = json!({"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}});
        let token = json!({"serviceAccountToken": {"path": "token"}});
        let sources = json!([token, {"configMap": ca}, {"downwardAPI": {"items": [namespace]}}]);
        (None, json!({"projected": {"sources": sources}}))
    } else {
        let sysprep = volume.sysprep.as_ref()?;
        let map = sysprep.config_map.as_ref().map(|map| json!({"configMap": {"name": map.name}}));
        let secret = || sysprep.secret.as_ref().map(|secret| json!({"secret": {"secretName": secret.name}}));
        return Some(("unattendCD", map.or_else(secret)?));
    };
    Some((label.filter(|label| !label.is_empty()).unwrap_or("cfgdata"), source))
}
