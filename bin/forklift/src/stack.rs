//! The embedded stack: API server, node, controllers, inventory and validation in one process tree on loopback.

use std::fs::{File, Permissions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use forklift_controllers::{tls, webhook};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use node::images::ImageTable;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::controller::Controller;
use crate::default_data_dir;

/// Field manager of what the composition writes.
const MANAGER: &str = "forklift";

/// The API server's part of the data folder.
pub const API_SERVER: &str = "apiserver";

/// Options of `forklift up`.
#[derive(clap::Args, Clone, Debug)]
pub struct UpArgs {
    /// Folder for everything that is kept: objects, volumes, credentials [default: $XDG_DATA_HOME/forklift]
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Address of the API server; port 0 takes a free one and keeps it
    #[arg(long, default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,
    /// Start with the objects of this file, which `forklift snapshot` wrote; the data folder may have none yet
    #[arg(long, value_name = "FILE")]
    pub restore: Option<PathBuf>,
    /// Write this file once everything answers
    #[arg(long, hide = true)]
    pub ready_file: Option<PathBuf>,
}

/// A running stack; ends with [`Stack::stop`].
pub struct Stack {
    /// Client with the administrator's rights.
    pub client: kube::Client,
    /// Path of the kubeconfig.
    pub kubeconfig: PathBuf,
    /// Where the inventory's REST service answers.
    pub inventory_url: String,
    /// The administrator's bearer token, good for the API server and the inventory.
    pub token: String,
    /// The certificate authority of both, PEM.
    pub ca: String,
    server: apiserver::Handle,
    shutdown: CancellationToken,
    _lock: File,
}

/// The running parts of a stack.
pub struct Parts(JoinSet<(&'static str, anyhow::Result<()>)>);

impl Parts {
    /// Returns when a part has ended by itself, with its reason.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.0.join_next().await {
            Some(Ok((part, Err(error)))) => error.context(format!("the {part} failed")),
            Some(Ok((part, Ok(())))) => anyhow::anyhow!("the {part} ended"),
            Some(Err(error)) => anyhow::anyhow!("a part of the stack failed: {error}"),
            None => std::future::pending().await,
        }
    }
}

/// Runs the stack until Ctrl-C or SIGTERM.
pub async fn up(args: UpArgs) -> anyhow::Result<()> {
    let start = Instant::now();
    let data = args.data_dir.clone().unwrap_or_else(default_data_dir);
    if let Some(file) = &args.restore {
        crate::snapshot::restore(file, &data)?;
    }
    let (stack, mut parts) = Stack::start(&data, args.listen).await?;
    println!("forklift is ready after {:.2} s", start.elapsed().as_secs_f64());
    println!("  API server   {}", stack.server.url());
    println!("  inventory    {}", stack.inventory_url);
    println!("  use it with  export KUBECONFIG={}", stack.kubeconfig.display());
    if let Some(path) = &args.ready_file {
        std::fs::write(path, stack.server.url()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let outcome = tokio::select! {
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
        failed = parts.failed() => Err(failed),
    };
    stack.stop(parts).await;
    outcome
}

impl Stack {
    /// Starts everything with its state in `data` and returns when all of it answers.
    pub async fn start(data: &Path, listen: SocketAddr) -> anyhow::Result<(Self, Parts)> {
        let lock = lock(data)?;
        let shutdown = CancellationToken::new();
        let kubelet_token = kept_secret(&data.join("kubelet.token"))?;
        let server = apiserver::start(apiserver::Config {
            listen: kept_address(data, "listen", listen)?,
            kubelet_token: kubelet_token.clone(),
            ..apiserver::Config::new(data.join(API_SERVER))
        })
        .await
        .with_context(|| format!("cannot start the API server on {listen}"))?;
        let address = server.url().trim_start_matches("https://").parse().context("the API server has no address")?;
        keep_address(data, "listen", address)?;
        let kubeconfig = data.join("kubeconfig");
        write_private(&kubeconfig, &server.kubeconfig())?;
        let config = client_config(&server.kubeconfig()).await?;
        let client = kube::Client::try_from(config.clone())?;

        let crds = forklift_api::crds().into_iter().chain(forklift_kubevirt_types::crds());
        install_crds(&client, crds).await?;
        ensure_namespace(&client, forklift_api::DEFAULT_NAMESPACE).await?;

        let mut tasks = JoinSet::new();
        let node = node::run(
            client.clone(),
            node::Config { images: images()?, ..node::Config::new("local", data.join("node"), kubelet_token) },
            shutdown.clone(),
        );
        tasks.spawn(async move { ("node", node.await) });

        let rules = forklift_controllers::rules::Places {
            namespace: forklift_api::DEFAULT_NAMESPACE.to_owned(),
            ..Default::default()
        };
        let keep = Some(data.join("inventory"));
        let controller = Controller::new(client.clone(), Some(config), forklift_api::DEFAULT_NAMESPACE, rules, keep);
        let inventory_listener =
            bind(kept_address(data, "inventory.listen", SocketAddr::from(([127, 0, 0, 1], 0)))?).await?;
        let inventory_address = inventory_listener.local_addr()?;
        keep_address(data, "inventory.listen", inventory_address)?;
        let (cert, key) =
            server.issue_certificate(&["127.0.0.1", "localhost", "forklift-inventory"].map(String::from))?;
        let router = controller.inventory_router();
        let stop = shutdown.clone();
        tasks.spawn(async move { ("inventory", tls::serve(inventory_listener, &cert, &key, router, stop).await) });
        publish_service(&client, "forklift-inventory", inventory_address).await?;

        let validation_listener =
            // an address of its own: no two Services may have the same
            bind(kept_address(data, "validation.listen", SocketAddr::from(([127, 0, 0, 2], 0)))?).await?;
        let validation_address = validation_listener.local_addr()?;
        keep_address(data, "validation.listen", validation_address)?;
        let (cert, key) =
            server.issue_certificate(&["127.0.0.2", "localhost", "forklift-validation"].map(String::from))?;
        let (router, stop) = (controller.validation_router(), shutdown.clone());
        tasks.spawn(async move { ("validation", tls::serve(validation_listener, &cert, &key, router, stop).await) });
        publish_service(&client, "forklift-validation", validation_address).await?;

        // The API server asks them from now on: they are there before anybody writes a provider.
        let hooks = bind(kept_address(data, "webhook.listen", SocketAddr::from(([127, 0, 0, 1], 0)))?).await?;
        let hooks_address = hooks.local_addr()?;
        keep_address(data, "webhook.listen", hooks_address)?;
        let (cert, key) = server.issue_certificate(&["127.0.0.1", "localhost"].map(String::from))?;
        let (router, stop) = (controller.webhook_router(), shutdown.clone());
        tasks.spawn(async move { ("webhooks", tls::serve(hooks, &cert, &key, router, stop).await) });
        webhook::register(&client, &webhook::Reach::Url(format!("https://{hooks_address}")), server.ca_pem()).await?;

        let controllers = controller.run(shutdown.clone());
        tasks.spawn(async move { ("controllers", controllers.await) });
        ensure_host_provider(&client).await?;

        let stack = Stack {
            client,
            kubeconfig,
            inventory_url: format!("https://{inventory_address}"),
            token: server.admin_token().to_string(),
            ca: server.ca_pem().to_string(),
            server,
            shutdown,
            _lock: lock,
        };
        Ok((stack, Parts(tasks)))
    }

    /// Stops the controllers, the node with its pods, and last the API server.
    pub async fn stop(self, mut parts: Parts) {
        self.shutdown.cancel();
        let all = async { while parts.0.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(30), all).await.is_err() {
            tracing::warn!("a part of the stack did not stop within 30 s");
        }
        self.server.shutdown().await;
    }
}

/// Takes the folder for this process, so that two stacks never write to one store.
fn lock(data: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(data).with_context(|| format!("cannot make the data folder {}", data.display()))?;
    std::fs::set_permissions(data, Permissions::from_mode(0o700))?;
    let path = data.join("lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let owner = std::fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "another forklift (process {}) uses {}: stop it, or choose another --data-dir",
                owner.trim(),
                data.display()
            );
        }
        Err(std::fs::TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// Returns the address to listen on: for port 0 the one that was used before, so that kubeconfigs stay good.
fn kept_address(data: &Path, name: &str, wanted: SocketAddr) -> anyhow::Result<SocketAddr> {
    if wanted.port() != 0 {
        return Ok(wanted);
    }
    let kept = std::fs::read_to_string(data.join(name)).ok().and_then(|text| text.trim().parse::<SocketAddr>().ok());
    Ok(kept.filter(|kept| kept.ip() == wanted.ip() && std::net::TcpListener::bind(kept).is_ok()).unwrap_or(wanted))
}

fn keep_address(data: &Path, name: &str, address: SocketAddr) -> anyhow::Result<()> {
    std::fs::write(data.join(name), address.to_string())
        .with_context(|| format!("cannot write {}", data.join(name).display()))
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}: is it in use?"))
}

/// Returns the secret in `path`, made on first use; only this user can read it.
fn kept_secret(path: &Path) -> anyhow::Result<String> {
    if let Ok(secret) = std::fs::read_to_string(path) {
        return Ok(secret);
    }
    let mut bytes = [0; 32];
    std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    write_private(path, &secret)?;
    Ok(secret)
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let part = path.with_extension("part");
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The programs that pods may name: our own image is this executable.
fn images() -> anyhow::Result<ImageTable> {
    let this = std::env::current_exe().context("cannot find the path of this program")?;
    let this = this.to_str().context("the path of this program is not UTF-8")?.to_owned();
    Ok(ImageTable::default()
        .with(forklift_api::IMAGE, [this.as_str()])
        .wrapping("quay.io/kubev2v/hook-runner*", [this.as_str(), "worker", "hook-runner"])
        .wrapping("quay.io/konveyor/hook-runner*", [this.as_str(), "worker", "hook-runner"])
        // they need this machine's tools and mounts, which user 107 of their pods may not open
        .keeping_user())
}

async fn client_config(kubeconfig: &str) -> anyhow::Result<kube::Config> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

async fn install_crds(
    client: &kube::Client,
    crds: impl Iterator<Item = CustomResourceDefinition>,
) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply(MANAGER).force();
    for crd in crds {
        let name = crd.metadata.name.clone().unwrap_or_default();
        api.patch(&name, &params, &Patch::Apply(&crd))
            .await
            .with_context(|| format!("cannot install the definition {name}"))?;
    }
    Ok(())
}

async fn ensure_namespace(client: &kube::Client, name: &str) -> anyhow::Result<()> {
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    api.patch(name, &PatchParams::apply(MANAGER), &Patch::Apply(&namespace))
        .await
        .with_context(|| format!("cannot make the namespace {name}"))?;
    Ok(())
}

/// Writes the Service by which clients find a part of the product, as the operator does on a cluster.
async fn publish_service(client: &kube::Client, name: &str, address: SocketAddr) -> anyhow::Result<()> {
    let api: Api<k8s_openapi::api::core::v1::Service> =
        Api::namespaced(client.clone(), forklift_api::DEFAULT_NAMESPACE);
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "labels": {"app": "forklift", "service": name}},
        "spec": {"clusterIP": address.ip().to_string(), "ports": [{"name": "api-https", "port": address.port(), "protocol": "TCP"}]},
    });
    api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&service))
        .await
        .with_context(|| format!("cannot publish {name}"))?;
    Ok(())
}

/// The target of migrations that stay on this machine: the provider `host`, as the operator makes it.
async fn ensure_host_provider(client: &kube::Client) -> anyhow::Result<()> {
    let api: Api<forklift_api::provider::Provider> = Api::namespaced(client.clone(), forklift_api::DEFAULT_NAMESPACE);
    let provider = json!({
        "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Provider",
        "metadata": {"name": "host", "namespace": forklift_api::DEFAULT_NAMESPACE},
        "spec": {"type": "openshift", "url": "", "secret": {}},
    });
    api.patch("host", &PatchParams::apply(MANAGER).force(), &Patch::Apply(&provider))
        .await
        .context("cannot make the provider host")?;
    Ok(())
}
