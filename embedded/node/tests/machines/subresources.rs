//! The API group subresources.kubevirt.io, through the API server.

use std::sync::Arc;

use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use futures::{SinkExt, StreamExt};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, http};

use crate::common::Stack;
use crate::guests::{Then, boot_sector};
use crate::{condition, console, disk, machine, phase, printable, stack};

const BASE: &str = "/apis/subresources.kubevirt.io/v1";

fn path(resource: &str) -> String {
    format!("{BASE}/namespaces/default/{resource}")
}

/// PUTs a body; returns the answer's text.
pub async fn put(stack: &Stack, resource: &str, body: Value) -> Result<String, kube::Error> {
    let request = http::Request::put(path(resource)).header("content-type", "application/json");
    stack.client.request_text(request.body(body.to_string().into_bytes()).expect("a request")).await
}

/// The HTTP status of a refusal.
pub fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

/// Waits until the group is served, and an instance is known to who serves it.
pub async fn until_served(stack: &Stack, machine: &str) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        // refused for want of an agent: so it came through
        let answer = get(stack, &format!("virtualmachineinstances/{machine}/guestosinfo")).await;
        if answer.as_ref().is_err_and(|error| error.to_string().contains("does not have guest agent connected")) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "not served: {answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn get(stack: &Stack, resource: &str) -> Result<String, kube::Error> {
    stack.client.request_text(http::Request::get(path(resource)).body(Vec::new()).expect("a request")).await
}

/// Attaches to a stream with a token: as virtctl does, over HTTP/1.1 with the binary protocol of KubeVirt.
async fn attach(
    stack: &Stack,
    resource: &str,
    token: &str,
) -> Result<WebSocketStream<tokio_rustls::client::TlsStream<TcpStream>>, tokio_tungstenite::tungstenite::Error> {
    use base64::Engine as _;
    use rustls_pki_types::pem::PemObject;
    let config = kube::config::Kubeconfig::from_yaml(&stack.kubeconfig()).expect("a kubeconfig");
    let cluster = config.clusters[0].cluster.clone().expect("a cluster");
    let address = cluster.server.expect("a server").trim_start_matches("https://").to_owned();
    let pem =
        base64::engine::general_purpose::STANDARD.decode(cluster.certificate_authority_data.expect("an authority"));
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls_pki_types::CertificateDer::from_pem_slice(&pem.expect("base64")).expect("a certificate"))
        .expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(&address).await.expect("connected");
    let name = rustls_pki_types::ServerName::try_from("localhost").expect("a name");
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.expect("TLS");
    let request = http::Request::get(format!("ws://{address}{}", path(resource)))
        .header("host", &address)
        .header("authorization", format!("Bearer {token}"))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", tokio_tungstenite::tungstenite::handshake::client::generate_key())
        .header("sec-websocket-protocol", "plain.kubevirt.io")
        .body(())
        .expect("a request");
    let (socket, answer) = tokio_tungstenite::client_async(request, stream).await?;
    assert_eq!(answer.headers()["sec-websocket-protocol"], "plain.kubevirt.io");
    Ok(socket)
}

/// Reads until a word has come.
async fn until_said(
    socket: &mut (impl StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin),
    word: &str,
) {
    let mut said = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&said).contains(word) {
            match socket.next().await.expect("not the end").expect("a message") {
                Message::Binary(part) => said.extend_from_slice(&part),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&said)),
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), reading).await.expect("said in time");
}

fn admin(stack: &Stack) -> String {
    let kubeconfig = stack.kubeconfig();
    let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("token: ")).expect("a token");
    line.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn consoles_are_attached_to() {
    let stack = stack().await;
    disk(&stack, "root", "Filesystem", boot_sector("READY:", Then::Echo)).await;
    stack.create::<VirtualMachine>(machine("web", "root", "virtio", "Always")).await;
    stack.until("web", |vm: &VirtualMachine| printable(vm) == "Running").await;
    until_served(&stack, "web").await;
    console(&stack, "web", "READY:").await;
    let token = admin(&stack);
    let mut first = attach(&stack, "virtualmachineinstances/web/console", &token).await.expect("attached");
    first.send(Message::Binary("Hello".into())).await.expect("sent");
    until_said(&mut first, "hELLO").await;
    // who comes last has the console; the log has it all
    let mut second = attach(&stack, "virtualmachineinstances/web/console", &token).await.expect("attached");
    second.send(Message::Binary("again".into())).await.expect("sent");
    until_said(&mut second, "AGAIN").await;
    let end = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while first.next().await.is_some_and(|m| m.is_ok()) {}
    });
    end.await.expect("the first is let go");
    let said = console(&stack, "web", "AGAIN").await;
    assert!(said.contains("READY:hELLOAGAIN"), "{said:?}");

    let mut screen = attach(&stack, "virtualmachineinstances/web/vnc", &token).await.expect("attached");
    until_said(&mut screen, "RFB 003.008\n").await;

    // RBAC holds for streams as well
    stack.create::<ServiceAccount>(json!({"metadata": {"name": "viewer"}})).await;
    let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).expect("a request");
    let accounts = stack.api::<ServiceAccount>();
    let viewer = accounts.create_token_request("viewer", &PostParams::default(), &request).await.expect("a token");
    let viewer = viewer.status.expect("a status").token;
    let refused = attach(&stack, "virtualmachineinstances/web/console", &viewer).await.expect_err("refused");
    let tokio_tungstenite::tungstenite::Error::Http(answer) = refused else { panic!("{refused:?}") };
    assert_eq!(answer.status(), 403);
    stack
        .create::<Role>(json!({"metadata": {"name": "console"}, "rules": [
            {"apiGroups": ["subresources.kubevirt.io"], "resources": ["virtualmachineinstances/console"], "verbs": ["get"]}]}))
        .await;
    stack
        .create::<RoleBinding>(json!({"metadata": {"name": "console"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "console"},
            "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": "default"}]}))
        .await;
    let mut third = attach(&stack, "virtualmachineinstances/web/console", &viewer).await.expect("attached");
    third.send(Message::Binary("Mine".into())).await.expect("sent");
    until_said(&mut third, "mINE").await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_started_stopped_and_paused() {
    // in debug builds the whole is too large for a test's stack
    Box::pin(started_stopped_and_paused()).await;
}

/// Waits until the API server says that the group is available.
async fn until_available(stack: &Stack) {
    let services: Api<APIService> = Api::all(stack.client.clone());
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let service = services.get_opt("v1.subresources.kubevirt.io").await.expect("an answer");
        let conditions = service.and_then(|service| service.status?.conditions).unwrap_or_default();
        if conditions.iter().any(|one| one.type_ == "Available" && one.status == "True") {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{conditions:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_is_discovered() {
    let stack = stack().await;
    until_available(&stack).await;
    // discovery names it beside the server's own groups, in both forms
    let groups = stack.client.list_api_groups().await.expect("groups");
    assert!(groups.groups.iter().any(|group| group.name == "subresources.kubevirt.io"));
    let resources = stack.client.list_api_group_resources("subresources.kubevirt.io/v1").await.expect("resources");
    assert!(resources.resources.iter().any(|one| one.name == "virtualmachineinstances/console"));
    stack.stop().await;
}

async fn started_stopped_and_paused() {
    let stack = stack().await;
    disk(&stack, "root", "Filesystem", boot_sector("UP", Then::Halt)).await;
    stack.create::<VirtualMachine>(machine("web", "root", "virtio", "Manual")).await;
    stack.until("web", |vm: &VirtualMachine| printable(vm) == "Stopped").await;
    until_available(&stack).await;
    let stopped = put(&stack, "virtualmachines/web/stop", json!({})).await.expect_err("refused");
    assert_eq!((code(&stopped), stopped.to_string().contains("VM is not running")), (409, true), "{stopped}");
    put(&stack, "virtualmachines/web/start", json!({"paused": true})).await.expect("accepted");
    stack.until("web", |vm: &VirtualMachine| printable(vm) == "Paused").await;
    let vmi = stack.api::<VirtualMachineInstance>().get("web").await.expect("an instance");
    assert_eq!(condition(&vmi, "Paused").expect("paused").1, "PausedByUser");
    assert_eq!(condition(&vmi, "LiveMigratable").expect("said").1, "DisksNotLiveMigratable");
    put(&stack, "virtualmachineinstances/web/unpause", json!({})).await.expect("accepted");
    stack.until("web", |vm: &VirtualMachine| printable(vm) == "Running").await;
    console(&stack, "web", "UP").await;
    put(&stack, "virtualmachineinstances/web/pause", json!({})).await.expect("accepted");
    stack.until("web", |vm: &VirtualMachine| printable(vm) == "Paused").await;
    let paused = put(&stack, "virtualmachineinstances/web/pause", json!({})).await.expect_err("refused");
    assert!(paused.to_string().contains("VMI is already paused"), "{paused}");
    let moved = put(&stack, "virtualmachines/web/migrate", json!({})).await.expect_err("refused");
    assert!(moved.to_string().contains("cannot migrate VMI"), "{moved}");
    let running = put(&stack, "virtualmachines/web/start", json!({})).await.expect_err("refused");
    assert!(running.to_string().contains("VM is already running"), "{running}");

    let first = vmi.metadata.uid.clone();
    put(&stack, "virtualmachines/web/restart", json!({"gracePeriodSeconds": 0})).await.expect("accepted");
    stack.until("web", |vmi: &VirtualMachineInstance| vmi.metadata.uid != first && phase(vmi) == "Running").await;
    put(&stack, "virtualmachines/web/stop", json!({})).await.expect("accepted");
    stack.until_gone::<VirtualMachineInstance>("web").await;
    let vm = stack.until("web", |vm: &VirtualMachine| printable(vm) == "Stopped").await;
    assert_eq!(vm.spec.run_strategy.as_deref(), Some("Manual"), "the strategy stays");

    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strategy_changes_with_start_and_stop() {
    let stack = stack().await;
    disk(&stack, "root", "Filesystem", boot_sector("UP", Then::Halt)).await;
    stack.create::<VirtualMachine>(machine("web", "root", "virtio", "Halted")).await;
    stack.until("web", |vm: &VirtualMachine| printable(vm) == "Stopped").await;
    until_available(&stack).await;
    put(&stack, "virtualmachines/web/start", json!({})).await.expect("accepted");
    let vm = stack.until("web", |vm: &VirtualMachine| printable(vm) == "Running").await;
    assert_eq!(vm.spec.run_strategy.as_deref(), Some("Always"));
    put(&stack, "virtualmachines/web/stop", json!({})).await.expect("accepted");
    let vm = stack.until("web", |vm: &VirtualMachine| printable(vm) == "Stopped").await;
    assert_eq!(vm.spec.run_strategy.as_deref(), Some("Halted"));
    let absent = put(&stack, "virtualmachines/nobody/start", json!({})).await.expect_err("refused");
    assert_eq!(code(&absent), 404, "{absent}");
    stack.stop().await;
}
