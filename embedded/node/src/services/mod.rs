//! Services by name on loopback.
//!
//! ```text
//! endpoints  Service + ready Pods ──► EndpointSlices
//! proxy      <cluster IP>:<port>  ──► one of the ready endpoints        a listener of this process for each port
//! dns        web.shop.svc.cluster.local ──► cluster IP, or the endpoints of a headless service
//! names      resolv.conf, hosts and the variables WEB_SERVICE_HOST, … of each container
//! ```
//! Cluster IPs are loopback addresses that the API server gives out, so that nothing needs a privilege but the name
//! server's port; where that cannot be had, the names stand in each pod's hosts file as they were at its start.

pub mod dns;
pub mod endpoints;
pub mod names;
pub mod proxy;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::runtime::reflector::{ObjectRef, Store};

/// The domain of all names.
pub const DOMAIN: &str = "cluster.local";
/// The label that ties a slice to its service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// All services and where they lead.
#[derive(Clone)]
pub struct Directory {
    /// The services.
    pub services: Store<Service>,
    /// Their endpoints.
    pub slices: Store<EndpointSlice>,
    /// Where names are asked for.
    pub server: Option<Ipv4Addr>,
}

impl Directory {
    /// Finds a service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<std::sync::Arc<Service>> {
        self.services.get(&ObjectRef::new(name).within(namespace))
    }

    /// The endpoints of a service that may be used, each with the port of that name.
    pub fn endpoints(&self, namespace: &str, service: &str, port: Option<&str>) -> Vec<(Endpoint, u16)> {
        let mut found = Vec::new();
        for slice in self.slices.state() {
            let label = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
            if slice.metadata.namespace.as_deref() != Some(namespace) || label.map(String::as_str) != Some(service) {
                continue;
            }
            let wanted = port.unwrap_or_default();
            let port = slice.ports.iter().flatten().find(|known| known.name.as_deref().unwrap_or_default() == wanted);
            let number = port.and_then(|port| port.port).and_then(|number| u16::try_from(number).ok());
            // a service without ports still has addresses
            let none = slice.ports.as_ref().is_none_or(Vec::is_empty).then_some(0);
            let Some(number) = number.or(none) else { continue };
            let ready = |endpoint: &&Endpoint| {
                endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
            };
            found.extend(slice.endpoints.iter().filter(ready).map(|endpoint| (endpoint.clone(), number)));
        }
        found.sort_by(|one, other| one.0.addresses.cmp(&other.0.addresses));
        found
    }

    /// Where the ready endpoints of a service's port listen.
    pub fn backends(&self, namespace: &str, service: &str, port: Option<&str>) -> Vec<SocketAddr> {
        let endpoints = self.endpoints(namespace, service, port);
        let addresses = endpoints.iter().flat_map(|(endpoint, port)| {
            let parsed = endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
            parsed.map(|address| SocketAddr::new(address, *port))
        });
        addresses.collect()
    }
}

/// The cluster IP of a service that has one.
pub fn cluster_ip(service: &Service) -> Option<Ipv4Addr> {
    service.spec.as_ref()?.cluster_ip.as_deref()?.parse().ok()
}

/// Says whether a service has no address of its own.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The ports of a service.
pub fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}
