//! What a container finds of services: variables, `/etc/resolv.conf`, `/etc/hosts`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};

use super::{DOMAIN, Directory, cluster_ip, ports};
use crate::kubelet::env::Facts;

/// How long a start waits for the first list of services.
const FIRST_LIST: Duration = Duration::from_secs(5);

impl Directory {
    async fn listed(&self) {
        // later containers see what came meanwhile
        let _ = tokio::time::timeout(FIRST_LIST, self.services.wait_until_ready()).await;
    }

    /// The variables of the services in a pod's namespace, and of the API server's where it has one.
    pub async fn environment(&self, pod: &Pod) -> Vec<(String, String)> {
        self.listed().await;
        let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
        let mut found = BTreeMap::new();
        for service in self.services.state() {
            let namespace = service.metadata.namespace.as_deref();
            let of_api = namespace == Some("default") && service.metadata.name.as_deref() == Some("kubernetes");
            if of_api || links && namespace == pod.metadata.namespace.as_deref() {
                found.extend(variables(&service));
            }
        }
        found.into_iter().collect()
    }

    /// Writes a pod's own name files: where each is seen, and where it is.
    pub async fn files(&self, pod: &Pod, facts: &Facts, dir: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
        self.listed().await;
        let (hosts, resolv) = (dir.join("etc-hosts"), dir.join("resolv.conf"));
        let machine = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let services = if self.server.is_none() { self.services.state() } else { Vec::new() };
        std::fs::write(&hosts, hosts_file(&machine("/etc/hosts"), pod, facts, &services))?;
        let text = resolv_file(&machine("/etc/resolv.conf"), pod, self.server.map(|ip| ip.to_string()).as_deref());
        std::fs::write(&resolv, text)?;
        Ok(vec![("/etc/hosts".into(), hosts), ("/etc/resolv.conf".into(), resolv)])
    }
}

/// `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT` and the older forms that Docker's links had.
fn variables(service: &Service) -> Vec<(String, String)> {
    let Some(ip) = cluster_ip(service) else { return Vec::new() };
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let name = upper(service.metadata.name.as_deref().unwrap_or_default());
    let mut list = vec![(format!("{name}_SERVICE_HOST"), ip.to_string())];
    for (index, port) in ports(service).iter().enumerate() {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        let url = format!("{}://{ip}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            list.push((format!("{name}_SERVICE_PORT"), port.port.to_string()));
            list.push((format!("{name}_PORT"), url.clone()));
        }
        if let Some(port_name) = &port.name {
            list.push((format!("{name}_SERVICE_PORT_{}", upper(port_name)), port.port.to_string()));
        }
        let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
        list.push((prefix.clone(), url));
        list.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        list.push((format!("{prefix}_PORT"), port.port.to_string()));
        list.push((format!("{prefix}_ADDR"), ip.to_string()));
    }
    list
}

/// The machine's names, the pod's own, its aliases; and the services, where there is no name server.
fn hosts_file(machine: &str, pod: &Pod, facts: &Facts, services: &[std::sync::Arc<Service>]) -> String {
    let mut text = format!("{}\n# the pod's own names\n", machine.trim_end());
    let spec = pod.spec.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let hostname = spec.hostname.clone().or(pod.metadata.name.clone()).unwrap_or_default();
    if !facts.pod_ip.is_empty() {
        let full = spec.subdomain.map(|subdomain| format!("{hostname}.{subdomain}.{namespace}.svc.{DOMAIN}\t"));
        text.push_str(&format!("{}\t{}{hostname}\n", facts.pod_ip, full.unwrap_or_default()));
    }
    for alias in spec.host_aliases.iter().flatten() {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")));
    }
    for service in services {
        let Some(ip) = cluster_ip(service) else { continue };
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let home = service.metadata.namespace.as_deref().unwrap_or_default();
        let short = if home == namespace { format!("\t{name}") } else { String::new() };
        text.push_str(&format!("{ip}\t{name}.{home}.svc.{DOMAIN}\t{name}.{home}.svc\t{name}.{home}{short}\n"));
    }
    text
}

/// Our name server for pods with dnsPolicy ClusterFirst, the machine's for the others; then `dnsConfig`.
fn resolv_file(machine: &str, pod: &Pod, server: Option<&str>) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let lines = |keyword: &str| -> Vec<String> {
        let found = machine.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(keyword)).then(|| words.map(str::to_owned).collect::<Vec<_>>())
        });
        found.flatten().collect()
    };
    let (mut servers, mut search, mut options) = (lines("nameserver"), lines("search"), lines("options"));
    match (spec.dns_policy.as_deref(), server) {
        (Some("None"), _) => (servers, search, options) = Default::default(),
        (Some("Default"), _) | (_, None) => {}
        (_, Some(server)) => {
            servers = vec![server.to_owned()];
            let own = [format!("{namespace}.svc.{DOMAIN}"), format!("svc.{DOMAIN}"), DOMAIN.to_owned()];
            search = own.into_iter().chain(search).collect();
            options = vec!["ndots:5".into()];
        }
    }
    if let Some(config) = spec.dns_config {
        servers.extend(config.nameservers.unwrap_or_default());
        search.extend(config.searches.unwrap_or_default());
        for option in config.options.unwrap_or_default() {
            let name = option.name.unwrap_or_default();
            options.retain(|known| known.split(':').next() != Some(&name));
            options.push(option.value.map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (keyword, words) in [("search", search), ("options", options)] {
        if !words.is_empty() {
            text.push_str(&format!("{keyword} {}\n", words.join(" ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        let pod = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
        serde_json::from_value(pod).expect("a pod")
    }

    fn service() -> Service {
        serde_json::from_value(json!({"metadata": {"name": "my-web", "namespace": "shop"},
            "spec": {"clusterIP": "127.32.0.9", "ports": [{"name": "http", "port": 80}]}}))
        .expect("a service")
    }

    #[test]
    fn services_are_variables() {
        let text: Vec<String> = variables(&service()).iter().map(|(name, value)| format!("{name}={value}")).collect();
        expect![[r#"
            MY_WEB_SERVICE_HOST=127.32.0.9
            MY_WEB_SERVICE_PORT=80
            MY_WEB_PORT=tcp://127.32.0.9:80
            MY_WEB_SERVICE_PORT_HTTP=80
            MY_WEB_PORT_80_TCP=tcp://127.32.0.9:80
            MY_WEB_PORT_80_TCP_PROTO=tcp
            MY_WEB_PORT_80_TCP_PORT=80
            MY_WEB_PORT_80_TCP_ADDR=127.32.0.9"#]]
        .assert_eq(&text.join("\n"));
    }

    #[test]
    fn name_files_follow_the_dns_policy() {
        let machine = "# made by hand\nnameserver 10.0.0.1\nsearch example.com\n";
        let containers = json!([{"name": "c"}]);
        let first = pod(json!({"containers": containers, "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}));
        expect![[r#"
            nameserver 127.63.0.10
            search shop.svc.cluster.local svc.cluster.local cluster.local example.com
            options ndots:2
        "#]]
        .assert_eq(&resolv_file(machine, &first, Some("127.63.0.10")));
        let plain = pod(json!({"containers": containers, "dnsPolicy": "Default"}));
        assert_eq!(resolv_file(machine, &plain, Some("127.63.0.10")), "nameserver 10.0.0.1\nsearch example.com\n");
        let own =
            pod(json!({"containers": containers, "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}}));
        assert_eq!(resolv_file(machine, &own, None), "nameserver 1.1.1.1\n");
    }

    #[test]
    fn hosts_name_the_pod_and_services_without_a_name_server() {
        let pod =
            pod(json!({"containers": [{"name": "c"}], "hostAliases": [{"ip": "10.0.0.5", "hostnames": ["vcenter"]}]}));
        let facts = Facts { pod_ip: "127.64.0.7".into(), ..Facts::default() };
        let text = hosts_file("127.0.0.1 localhost\n", &pod, &facts, &[std::sync::Arc::new(service())]);
        expect![[r#"
            127.0.0.1 localhost
            # the pod's own names
            127.64.0.7	p
            10.0.0.5	vcenter
            127.32.0.9	my-web.shop.svc.cluster.local	my-web.shop.svc	my-web.shop	my-web
        "#]]
        .assert_eq(&text);
    }
}
