//! The virt-launcher pod.

use forklift_kubevirt_types::vmi::VirtualMachineInstance;
use serde_json::{Value, json};

use super::{Builder, COMPUTE, CONSOLE, IMAGE, Launcher, PRIVATE, PRIVATE_DIR, Refusal, STATE_DIR, TPM};
use crate::events::short_hash;

/// The volume with what outlives the instance.
const STATE: &str = "kubevirt-state";

impl Builder {
    pub(super) fn pod(mut self, vmi: &VirtualMachineInstance, state: Option<&str>) -> Result<Launcher, Refusal> {
        let name = vmi.metadata.name.clone().unwrap_or_default();
        let uid = vmi.metadata.uid.clone().unwrap_or_default();
        let mut own = vec![json!({"name": PRIVATE, "mountPath": PRIVATE_DIR})];
        let mut volumes = vec![json!({"name": PRIVATE, "emptyDir": {}})];
        if let Some(claim) = state {
            own.push(json!({"name": STATE, "mountPath": STATE_DIR}));
            volumes.push(json!({"name": STATE, "persistentVolumeClaim": {"claimName": claim}}));
        }
        volumes.append(&mut self.volumes);
        let init = self.before(&own);
        let mut mounts = own;
        mounts.append(&mut self.mounts);
        let mut env = vec![json!({"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})];
        env.extend(self.env.iter().map(|(name, value)| json!({"name": name, "value": value})));
        let mut command = vec!["qemu-system-x86_64".to_owned()];
        if self.tpm.is_some() {
            // its socket comes a moment after its process
            let wait = format!(
                "n=0; until [ -S {PRIVATE_DIR}/tpm.sock ]; do n=$((n+1)); [ $n -lt 200 ] || {{ echo the TPM does not start >&2; exit 1; }}; sleep 0.05; done; exec \"$@\""
            );
            command = ["sh", "-c", &wait, "sh"].map(str::to_owned).into_iter().chain(command).collect();
        }
        command.append(&mut self.args);
        let mut compute = json!({
            "name": COMPUTE, "image": IMAGE, "command": command, "env": env,
            "volumeMounts": mounts, "volumeDevices": self.devices,
            "terminationMessagePolicy": "FallbackToLogsOnError",
        });
        self.probes(vmi, &mut compute);
        let mut labels = vmi.metadata.labels.clone().unwrap_or_default();
        labels.extend(
            [("kubevirt.io", "virt-launcher"), ("kubevirt.io/created-by", &uid), ("vm.kubevirt.io/name", &name)]
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let mut template = json!({
            "metadata": {
                "name": pod_name(&name, &uid),
                "namespace": vmi.metadata.namespace,
                "labels": labels,
                "annotations": {"kubevirt.io/domain": name},
                "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": name,
                    "uid": uid, "controller": true, "blockOwnerDeletion": true}],
            },
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": vmi.spec.termination_grace_period_seconds.unwrap_or(30),
                "nodeSelector": vmi.spec.node_selector,
                "initContainers": init,
                "containers": [compute],
                "volumes": volumes,
            },
        });
        if !vmi.spec.tolerations.is_empty() {
            template["spec"]["tolerations"] = json!(vmi.spec.tolerations);
        }
        if let Some(account) = &self.service_account {
            template["spec"]["serviceAccountName"] = json!(account);
        }
        let pod = serde_json::from_value(template).map_err(|error| error.to_string())?;
        Ok(Launcher { pod, notes: self.notes })
    }

    /// The containers that come before QEMU: preparation, the TPM, the console's log.
    fn before(&mut self, own: &[Value]) -> Vec<Value> {
        let mut init = Vec::new();
        if !self.prepare.is_empty() {
            let script = format!("set -e; {}", self.prepare.join("; "));
            let mounts: Vec<Value> = own.iter().cloned().chain(self.prepare_mounts.drain(..)).collect();
            let mut prepare =
                json!({"name": "prepare", "image": IMAGE, "command": ["sh", "-c", script], "volumeMounts": mounts});
            if !self.prepare_devices.is_empty() {
                prepare["volumeDevices"] = json!(self.prepare_devices);
            }
            init.push(prepare);
        }
        if let Some(script) = &self.tpm {
            init.push(json!({"name": TPM, "image": IMAGE, "restartPolicy": "Always", "command": ["sh", "-c", script], "volumeMounts": own}));
        }
        // ends as soon as it is asked to, after what was written last
        let log = format!("{PRIVATE_DIR}/serial.log");
        let script = format!("touch {log}; trap 'sleep 0.3; exit 0' TERM; tail -n +1 -f {log} & wait");
        init.push(json!({"name": CONSOLE, "image": IMAGE, "restartPolicy": "Always", "command": ["sh", "-c", script], "volumeMounts": &own[..1]}));
        init
    }

    /// Probes over the network ask at the pod's address, where the guest's ports are.
    fn probes(&mut self, vmi: &VirtualMachineInstance, compute: &mut Value) {
        let probes = [("readinessProbe", &vmi.spec.readiness_probe), ("livenessProbe", &vmi.spec.liveness_probe)];
        for (name, probe) in probes {
            let Some(probe) = probe else { continue };
            if probe.get("httpGet").is_some() || probe.get("tcpSocket").is_some() {
                compute[name] = probe.clone();
            } else {
                self.note(format!("{name} is not offered by the embedded node: only httpGet and tcpSocket are"));
            }
        }
    }
}

/// The name of a machine's pod: the same for each attempt to create it.
pub fn pod_name(name: &str, uid: &str) -> String {
    let base: String = name.chars().take(43).collect();
    format!("virt-launcher-{base}-{}", &short_hash(uid)[..5])
}
