//! A small name server on loopback: the cluster's names from the directory, all others from the machine's servers.
//!
//! Messages are RFC 1035; which names there are says <https://github.com/kubernetes/dns/blob/master/docs/specification.md>.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::{DOMAIN, Directory, cluster_ip, is_headless, ports};

/// How long an answer may be kept.
const TTL: u32 = 5;
/// How long a server of the machine has to answer.
const UPSTREAM: Duration = Duration::from_secs(5);
/// Questions that are worked on at the same time.
const AT_ONCE: usize = 256;
/// Bytes of an answer over UDP, where the client says nothing else.
const UDP_SIZE: usize = 512;

const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const SRV: u16 = 33;
const ANY: u16 = 255;
const NAME_ERROR: u8 = 3;
const SERVER_FAILURE: u8 = 2;

/// The sockets of the name server.
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    /// Where it listens, at port 53.
    pub address: Ipv4Addr,
}

/// Takes an address of 127.63.0.0/16 on which port 53 is free; none where this process may not.
pub async fn bind(seed: &str) -> Option<Sockets> {
    let hash = seed.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    for step in 0..32_u32 {
        let [_, _, c, d] = hash.wrapping_add(step).to_be_bytes();
        let address = Ipv4Addr::new(127, 63, c, d.clamp(1, 254));
        match (UdpSocket::bind((address, 53)).await, TcpListener::bind((address, 53)).await) {
            (Ok(udp), Ok(tcp)) => return Some(Sockets { udp, tcp, address }),
            (Err(error), _) | (_, Err(error)) => tracing::debug!(%error, %address, "no name server there"),
        }
    }
    None
}

/// Answers until shutdown.
pub async fn run(sockets: Sockets, directory: Directory, shutdown: CancellationToken) {
    let Sockets { udp, tcp, .. } = sockets;
    let (udp, directory) = (Arc::new(udp), Arc::new(directory));
    let mut tasks = tokio::task::JoinSet::new();
    let mut buffer = vec![0; 4096];
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = tasks.join_next() => {}
            received = udp.recv_from(&mut buffer), if tasks.len() < AT_ONCE => {
                let Ok((count, from)) = received else { continue };
                let (question, udp, directory) = (buffer[..count].to_vec(), udp.clone(), directory.clone());
                tasks.spawn(async move {
                    if let Some(answer) = answer(&question, &directory, false).await {
                        // lost like any datagram
                        let _ = udp.send_to(&answer, from).await;
                    }
                });
            }
            accepted = tcp.accept(), if tasks.len() < AT_ONCE => {
                let Ok((stream, _)) = accepted else { continue };
                let directory = directory.clone();
                tasks.spawn(async move {
                    let _ = tokio::time::timeout(4 * UPSTREAM, conversation(stream, &directory)).await;
                });
            }
        }
    }
}

async fn conversation(mut stream: TcpStream, directory: &Directory) {
    while let Ok(question) = read_message(&mut stream).await {
        let Some(answer) = answer(&question, directory, true).await else { return };
        if write_message(&mut stream, &answer).await.is_err() {
            return;
        }
    }
}

async fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

/// One question.
#[derive(Debug, PartialEq)]
struct Question {
    /// In lower case, without the last dot.
    name: String,
    kind: u16,
    /// Where the question ends in the message.
    end: usize,
}

impl Question {
    fn parse(message: &[u8]) -> Option<Self> {
        let count = u16::from_be_bytes([*message.get(4)?, *message.get(5)?]);
        let is_query = message.get(2)? & 0xf8 == 0;
        let mut at = 12;
        let mut labels: Vec<String> = Vec::new();
        loop {
            let length = usize::from(*message.get(at)?);
            if length == 0 {
                break;
            }
            // a question has no pointers
            let label = message.get(at + 1..at + 1 + length).filter(|_| length < 64)?;
            labels.push(std::str::from_utf8(label).ok()?.to_ascii_lowercase());
            at += 1 + length;
        }
        let kind = u16::from_be_bytes([*message.get(at + 1)?, *message.get(at + 2)?]);
        message.get(at + 4)?;
        (count == 1 && is_query).then(|| Self { name: labels.join("."), kind, end: at + 5 })
    }
}

/// A record of an answer.
#[derive(Clone, Debug, PartialEq)]
enum Record {
    A(String, Ipv4Addr),
    Cname(String, String),
    Srv(String, u16, String),
}

/// Answers a message; none: it is not a question.
async fn answer(message: &[u8], directory: &Directory, over_tcp: bool) -> Option<Vec<u8>> {
    let question = Question::parse(message)?;
    let inside = question.name == DOMAIN || question.name.ends_with(&format!(".{DOMAIN}"));
    if !inside {
        let forwarded = forward(message, over_tcp).await;
        return Some(forwarded.unwrap_or_else(|| reply(message, &question, SERVER_FAILURE, &[], &[], over_tcp)));
    }
    let Some(found) = lookup(&question.name, directory) else {
        return Some(reply(message, &question, NAME_ERROR, &[], &[], over_tcp));
    };
    let wanted = |record: &&Record| match record {
        Record::A(..) => question.kind == A || question.kind == ANY,
        Record::Cname(..) => true,
        Record::Srv(..) => question.kind == SRV || question.kind == ANY,
    };
    let mut answers: Vec<Record> = found.iter().filter(wanted).cloned().collect();
    if let Some(Record::Cname(_, target)) = answers.first().cloned() {
        // who asks expects the end of the chain
        let addresses = tokio::time::timeout(UPSTREAM, tokio::net::lookup_host((target.clone(), 0))).await;
        for address in addresses.into_iter().flatten().flatten() {
            if let IpAddr::V4(ip) = address.ip() {
                answers.push(Record::A(target.clone(), ip));
            }
        }
    }
    let more: Vec<Record> = match question.kind {
        SRV => found.iter().filter(|record| matches!(record, Record::A(..))).cloned().collect(),
        _ => Vec::new(),
    };
    Some(reply(message, &question, 0, &answers, &more, over_tcp))
}

/// The records of a name of the cluster; none: there is no such name.
fn lookup(name: &str, directory: &Directory) -> Option<Vec<Record>> {
    let labels: Vec<&str> = name.strip_suffix(&format!(".{DOMAIN}"))?.split('.').collect();
    let (head, service, namespace) = match labels.as_slice() {
        [ip, _, "pod"] => {
            return Some(vec![Record::A(name.into(), ip.replace('-', ".").parse().ok()?)]);
        }
        [head @ .., service, namespace, "svc"] => (head, *service, *namespace),
        _ => return None,
    };
    let known = directory.service(namespace, service)?;
    if let Some(target) = known.spec.as_ref().and_then(|spec| spec.external_name.clone()).filter(|_| head.is_empty()) {
        return Some(vec![Record::Cname(name.into(), target)]);
    }
    let base = format!("{service}.{namespace}.svc.{DOMAIN}");
    let headless = is_headless(&known);
    match head {
        [] if !headless => Some(vec![Record::A(name.into(), cluster_ip(&known)?)]),
        [] => {
            let mut addresses: Vec<Ipv4Addr> = Vec::new();
            let names: Vec<Option<String>> = match ports(&known) {
                [] => vec![None],
                list => list.iter().map(|port| port.name.clone()).collect(),
            };
            for port in names {
                addresses
                    .extend(endpoint_addresses(directory, namespace, service, port.as_deref()).map(|(_, ip, _)| ip));
            }
            addresses.sort_unstable();
            addresses.dedup();
            (!addresses.is_empty()).then(|| addresses.into_iter().map(|ip| Record::A(name.into(), ip)).collect())
        }
        [host] if headless => {
            let first = ports(&known).first().and_then(|port| port.name.clone());
            let mut all = endpoint_addresses(directory, namespace, service, first.as_deref());
            let (_, ip, _) = all.find(|(label, ..)| label == host)?;
            Some(vec![Record::A(name.into(), ip)])
        }
        [port, protocol] => {
            let (port, protocol) = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
            let found = ports(&known).iter().find(|known| {
                known.name.as_deref() == Some(port)
                    && known.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol)
            })?;
            if !headless {
                let number = u16::try_from(found.port).ok()?;
                return Some(vec![
                    Record::Srv(name.into(), number, base.clone()),
                    Record::A(base, cluster_ip(&known)?),
                ]);
            }
            let all = endpoint_addresses(directory, namespace, service, Some(port));
            let records = all.flat_map(|(label, ip, number)| {
                let target = format!("{label}.{base}");
                [Record::Srv(name.into(), number, target.clone()), Record::A(target, ip)]
            });
            Some(records.collect::<Vec<_>>()).filter(|records| !records.is_empty())
        }
        _ => None,
    }
}

/// Name, address and port of a service's ready endpoints.
fn endpoint_addresses<'a>(
    directory: &'a Directory,
    namespace: &str,
    service: &str,
    port: Option<&str>,
) -> impl Iterator<Item = (String, Ipv4Addr, u16)> + use<'a> {
    let endpoints = directory.endpoints(namespace, service, port);
    endpoints.into_iter().filter_map(|(endpoint, port)| {
        let ip: Ipv4Addr = endpoint.addresses.first()?.parse().ok()?;
        let label = endpoint.hostname.unwrap_or_else(|| ip.to_string().replace('.', "-"));
        Some((label, ip, port))
    })
}

/// Writes an answer; one that is too long for UDP says so, and the client asks again over TCP.
fn reply(
    message: &[u8],
    question: &Question,
    code: u8,
    answers: &[Record],
    more: &[Record],
    over_tcp: bool,
) -> Vec<u8> {
    let head = |truncated: u8, counts: [u16; 3]| {
        // an answer, from an authority, recursion desired as asked and available
        let flags = [0x84 | truncated | (message.get(2).copied().unwrap_or(0) & 1), 0x80 | code];
        let mut out = [message.get(..2).unwrap_or(&[0, 0]), &flags, &[0, 1]].concat();
        counts.iter().for_each(|count| out.extend(count.to_be_bytes()));
        out.extend_from_slice(message.get(12..question.end).unwrap_or_default());
        out
    };
    let mut out = head(0, [answers.len() as u16, u16::from(answers.is_empty()), more.len() as u16]);
    answers.iter().for_each(|record| put(&mut out, record));
    if answers.is_empty() {
        // how long the absence may be kept
        let mut data = Vec::new();
        put_name(&mut data, &format!("ns.dns.{DOMAIN}"));
        put_name(&mut data, &format!("hostmaster.{DOMAIN}"));
        [1, 7200, 1800, 86_400, TTL].iter().for_each(|number: &u32| data.extend(number.to_be_bytes()));
        put_record(&mut out, DOMAIN, SOA, &data);
    }
    more.iter().for_each(|record| put(&mut out, record));
    if !over_tcp && out.len() > UDP_SIZE {
        return head(2, [0, 0, 0]);
    }
    out
}

fn put(out: &mut Vec<u8>, record: &Record) {
    let mut data = Vec::new();
    match record {
        Record::A(name, ip) => put_record(out, name, A, &ip.octets()),
        Record::Cname(name, target) => {
            put_name(&mut data, target);
            put_record(out, name, CNAME, &data);
        }
        Record::Srv(name, port, target) => {
            data.extend([0, 0, 0, 100]);
            data.extend(port.to_be_bytes());
            put_name(&mut data, target);
            put_record(out, name, SRV, &data);
        }
    }
}

fn put_record(out: &mut Vec<u8>, name: &str, kind: u16, data: &[u8]) {
    put_name(out, name);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out.extend(TTL.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        out.push(label.len() as u8);
        out.extend_from_slice(label);
    }
    out.push(0);
}

/// Asks the machine's own servers, one after the other.
async fn forward(message: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
    let text = tokio::fs::read_to_string("/etc/resolv.conf").await.ok()?;
    for server in text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")) {
        let Ok(ip) = server.trim().parse::<IpAddr>() else { continue };
        let address = SocketAddr::new(ip, 53);
        let asked = if over_tcp {
            tokio::time::timeout(UPSTREAM, ask_tcp(address, message)).await
        } else {
            tokio::time::timeout(UPSTREAM, ask_udp(address, message)).await
        };
        match asked {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%error, %address, "a name server of the machine failed"),
            Err(_) => tracing::debug!(%address, "a name server of the machine does not answer"),
        }
    }
    None
}

async fn ask_udp(server: SocketAddr, message: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let count = socket.recv(&mut buffer).await?;
        if buffer.get(..2) == message.get(..2) {
            buffer.truncate(count);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, message: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, message).await?;
    read_message(&mut stream).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    fn directory() -> Directory {
        let (services, mut service_writer) = reflector::store::<Service>();
        let (slices, mut slice_writer) = reflector::store::<EndpointSlice>();
        let service = |name: &str, spec| {
            let value = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
            Event::Apply(serde_json::from_value::<Service>(value).expect("a service"))
        };
        let port = json!([{"name": "http", "port": 80}]);
        service_writer.apply_watcher_event(&service("web", json!({"clusterIP": "127.32.0.9", "ports": port})));
        service_writer.apply_watcher_event(&service("db", json!({"clusterIP": "None", "ports": port})));
        service_writer
            .apply_watcher_event(&service("out", json!({"type": "ExternalName", "externalName": "example.invalid"})));
        let slice = json!({
            "metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["127.64.0.1"], "hostname": "db-0", "conditions": {"ready": true}},
                          {"addresses": ["127.64.0.2"], "conditions": {"ready": false}},
                          {"addresses": ["127.64.0.3"], "conditions": {"ready": true}}],
        });
        slice_writer.apply_watcher_event(&Event::Apply(serde_json::from_value(slice).expect("a slice")));
        Directory { services, slices, server: None }
    }

    #[test]
    fn names_of_the_cluster_are_found() {
        let directory = directory();
        let find = |name: &str| {
            let records = lookup(&format!("{name}.cluster.local"), &directory)?;
            let text: Vec<String> = records
                .iter()
                .map(|record| match record {
                    Record::A(_, ip) => ip.to_string(),
                    Record::Cname(_, target) => target.clone(),
                    Record::Srv(_, port, target) => format!("{port} {target}"),
                })
                .collect();
            Some(text.join(", "))
        };
        for (name, expected) in [
            ("web.shop.svc", Some("127.32.0.9")),
            ("db.shop.svc", Some("127.64.0.1, 127.64.0.3")),
            ("db-0.db.shop.svc", Some("127.64.0.1")),
            ("127-64-0-3.db.shop.svc", Some("127.64.0.3")),
            ("_http._tcp.web.shop.svc", Some("80 web.shop.svc.cluster.local, 127.32.0.9")),
            ("out.shop.svc", Some("example.invalid")),
            ("127-64-0-9.shop.pod", Some("127.64.0.9")),
            ("web.other.svc", None),
            ("nothing", None),
        ] {
            assert_eq!(find(name).as_deref(), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn answers_are_well_formed() {
        let directory = directory();
        let mut question = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        put_name(&mut question, "Web.shop.svc.cluster.local");
        question.extend([0, 1, 0, 1]);
        let found = answer(&question, &directory, false).await.expect("an answer");
        assert_eq!(found[..8], [0xab, 0xcd, 0x85, 0x80, 0, 1, 0, 1]);
        assert!(found.ends_with(&[0, 4, 127, 32, 0, 9]));
        let mut unknown = question[..12].to_vec();
        put_name(&mut unknown, "none.shop.svc.cluster.local");
        unknown.extend([0, 28, 0, 1]);
        let missing = answer(&unknown, &directory, false).await.expect("an answer");
        assert_eq!((missing[3] & 15, &missing[6..10]), (NAME_ERROR, &[0, 0, 0, 1][..]));
        for end in 0..question.len() {
            assert_eq!(answer(&question[..end], &directory, false).await, None, "{end} bytes");
        }
    }
}
