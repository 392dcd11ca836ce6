//! The proxy: a listener for each port of a cluster IP, which passes on to the ready endpoints in turn.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::{Directory, cluster_ip, ports};
use crate::events::{Events, Kind};

/// What the addresses begin with that the API server gives to services: 127.32.0.0/16.
const RANGE: [u8; 2] = [127, 32];
/// How long a connection to an endpoint may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a UDP client is remembered.
const UDP_IDLE: Duration = Duration::from_secs(60);
/// How long until an address that is in use is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// One port of a service, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Port {
    namespace: String,
    service: String,
    name: Option<String>,
    address: SocketAddr,
    udp: bool,
}

/// Keeps the listeners of all services until shutdown; looks again whenever `changed` is told.
pub async fn run(
    directory: Directory,
    events: Events,
    mut changed: tokio::sync::watch::Receiver<()>,
    shutdown: CancellationToken,
) {
    let mut open: HashMap<Port, tokio::task::JoinHandle<()>> = HashMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            told = changed.changed() => if told.is_err() { break },
        }
        let services = directory.services.state();
        let wanted: HashSet<Port> = services.iter().flat_map(|service| listeners(service)).collect();
        open.retain(|port, task| {
            let keep = wanted.contains(port);
            if !keep {
                task.abort();
            }
            keep
        });
        for port in wanted {
            let (directory, events) = (&directory, &events);
            open.entry(port.clone()).or_insert_with(|| tokio::spawn(listen(directory.clone(), events.clone(), port)));
        }
    }
    for (_, task) in open {
        task.abort();
    }
}

fn listeners(service: &Service) -> Vec<Port> {
    // an address that somebody wrote into a service is somebody else's listener
    let ours = |address: &Ipv4Addr| address.octets()[..2] == RANGE;
    let Some(address) = cluster_ip(service).filter(ours) else { return Vec::new() };
    let mut list = Vec::new();
    for port in ports(service) {
        let udp = match port.protocol.as_deref() {
            None | Some("TCP") => false,
            Some("UDP") => true,
            Some(_) => continue,
        };
        let known = [Some((address, port.port)), port.node_port.map(|number| (Ipv4Addr::LOCALHOST, number))];
        for (address, number) in known.into_iter().flatten() {
            let Some(number) = u16::try_from(number).ok().filter(|number| *number > 0) else { continue };
            list.push(Port {
                namespace: service.metadata.namespace.clone().unwrap_or_default(),
                service: service.metadata.name.clone().unwrap_or_default(),
                name: port.name.clone(),
                address: SocketAddr::from((address, number)),
                udp,
            });
        }
    }
    list
}

async fn listen(directory: Directory, events: Events, port: Port) {
    let mut told = false;
    loop {
        let result = if port.udp { serve_udp(&directory, &port).await } else { serve_tcp(&directory, &port).await };
        let Err(error) = result else { return };
        tracing::debug!(%error, address = %port.address, service = port.service, "a service is not served");
        if !std::mem::replace(&mut told, true)
            && let Some(service) = directory.service(&port.namespace, &port.service)
        {
            let message = format!(
                "cannot listen on {}: {error}; another stack on this machine may use the same address, or the port needs a privilege",
                port.address
            );
            events.publish(service.as_ref(), Kind::Warning, "FailedListen", &message).await;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn serve_tcp(directory: &Directory, port: &Port) -> std::io::Result<()> {
    let listener = TcpListener::bind(port.address).await?;
    let turn = AtomicUsize::new(0);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (client, _) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // out of descriptors, or a client that left at once
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let backends = directory.backends(&port.namespace, &port.service, port.name.as_deref());
        let first = turn.fetch_add(1, Ordering::Relaxed);
        connections.spawn(pass_on(client, backends, first));
    }
}

/// Connects a client with the first endpoint, from a place on in turn, that answers. Without one the connection ends.
async fn pass_on(mut client: TcpStream, backends: Vec<SocketAddr>, first: usize) {
    for step in 0..backends.len() {
        let Some(backend) = backends.get((first + step) % backends.len()) else { return };
        if let Ok(Ok(mut stream)) = tokio::time::timeout(CONNECT, TcpStream::connect(backend)).await {
            // either side may end it in any way
            let _ = tokio::io::copy_bidirectional(&mut client, &mut stream).await;
            return;
        }
    }
}

async fn serve_udp(directory: &Directory, port: &Port) -> std::io::Result<()> {
    let socket = Arc::new(UdpSocket::bind(port.address).await?);
    let mut clients: HashMap<SocketAddr, (Arc<UdpSocket>, tokio::task::AbortHandle)> = HashMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    let mut turn = 0_usize;
    let mut buffer = vec![0; 65_535];
    loop {
        let (count, from) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                Err(_) => continue,
            },
            Some(ended) = tasks.join_next() => {
                if let Ok(client) = ended {
                    clients.remove(&client);
                }
                continue;
            }
        };
        if !clients.contains_key(&from) {
            let backends = directory.backends(&port.namespace, &port.service, port.name.as_deref());
            let Some(backend) = (!backends.is_empty()).then(|| backends[turn % backends.len()]) else { continue };
            turn = turn.wrapping_add(1);
            let upstream = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
            upstream.connect(backend).await?;
            let (answers, back) = (upstream.clone(), socket.clone());
            let task = tasks.spawn(async move {
                let mut buffer = vec![0; 65_535];
                while let Ok(Ok(count)) = tokio::time::timeout(UDP_IDLE, answers.recv(&mut buffer)).await {
                    if back.send_to(&buffer[..count], from).await.is_err() {
                        break;
                    }
                }
                from
            });
            clients.insert(from, (upstream, task));
        }
        if let Some((upstream, _)) = clients.get(&from) {
            // lost like any datagram
            let _ = upstream.send(&buffer[..count]).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_port_of_a_cluster_ip_listens() {
        let mut service: Service = serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "n"},
            "spec": {"clusterIP": "127.32.0.9", "ports": [{"name": "a", "port": 80, "nodePort": 30080},
                     {"name": "b", "port": 53, "protocol": "UDP"}, {"name": "c", "port": 9, "protocol": "SCTP"}]},
        }))
        .expect("a service");
        let list: Vec<String> =
            listeners(&service).iter().map(|port| format!("{} {}", port.address, port.udp)).collect();
        assert_eq!(list, ["127.32.0.9:80 false", "127.0.0.1:30080 false", "127.32.0.9:53 true"]);
        service.spec.get_or_insert_default().cluster_ip = Some("127.0.0.1".into());
        assert!(listeners(&service).is_empty(), "it may be the listener of another program");
    }
}
