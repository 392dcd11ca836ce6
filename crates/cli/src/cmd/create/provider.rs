//! `create provider`: the Secret with its credentials, then the Provider.

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{DryRun, text_or_file};
use crate::cluster::{API_VERSION, Cluster};
use crate::output::{dry_run, line};
use crate::refs;

/// Options of `create provider`.
#[derive(Args, Debug)]
pub(crate) struct ProviderArgs {
    /// Name of the provider
    name: Option<String>,
    /// Name of the provider
    #[arg(long = "name", short = 'M', value_name = "NAME")]
    flag: Option<String>,
    /// Type of the provider
    #[arg(long = "type", short = 't', value_enum)]
    kind: Kind,
    /// Existing secret with the credentials
    #[arg(long)]
    secret: Option<String>,
    /// Where the provider is: for vsphere https://HOST/sdk; for ova a local folder, an appliance, or an NFS export
    /// SERVER:/PATH
    #[arg(long, short = 'U')]
    url: Option<String>,
    /// CA certificate as PEM text, or @FILE
    #[arg(long)]
    cacert: Option<String>,
    /// Do not verify the provider's certificate
    #[arg(long)]
    provider_insecure_skip_tls: bool,
    /// Account (vsphere)
    #[arg(long, short = 'u')]
    username: Option<String>,
    /// Its password, or @FILE with it: what is written here others can see in the list of processes
    #[arg(long, short = 'p', env = "MTV_PROVIDER_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// What the address of a vsphere provider is
    #[arg(long, value_parser = ["vcenter", "esxi"])]
    sdk_endpoint: Option<String>,
    /// Image with VMware's disk library (vsphere)
    #[arg(long)]
    vddk_init_image: Option<String>,
    /// Bearer token (openshift)
    #[arg(long, short = 'T')]
    provider_token: Option<String>,
    /// Limit of the bytes copied in a second, for each disk
    #[arg(long, value_name = "BYTES")]
    bandwidth_limit: Option<u64>,
    /// Limit of the bytes copied in a second from each ESXi host, e.g. 200Mi (vsphere)
    #[arg(long, value_name = "BYTES")]
    host_bandwidth_limit: Option<String>,
    /// Limit of the bytes copied in a second from each datastore, e.g. 200Mi (vsphere)
    #[arg(long, value_name = "BYTES")]
    datastore_bandwidth_limit: Option<String>,
    #[command(flatten)]
    dry: DryRun,
}

/// Types whose migrations work today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Openshift,
    Ova,
    Vsphere,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Openshift => "openshift",
            Kind::Ova => "ova",
            Kind::Vsphere => "vsphere",
        }
    }
}

/// Creates the provider.
pub async fn run(cluster: &Cluster, args: &ProviderArgs) -> anyhow::Result<()> {
    let name = refs::name(&args.name, &args.flag)?;
    let namespace = &cluster.namespace;
    let kind = args.kind.name();
    let data = secret_data(args).context("failed to prepare provider")?;
    let mut settings = Map::new();
    if let Some(limit) = args.bandwidth_limit {
        settings.insert("bandwidthLimit".into(), json!(limit.to_string()));
    }
    if args.kind == Kind::Vsphere {
        let written = [
            ("sdkEndpoint", &args.sdk_endpoint),
            ("vddkInitImage", &args.vddk_init_image),
            ("hostBandwidthLimit", &args.host_bandwidth_limit),
            ("datastoreBandwidthLimit", &args.datastore_bandwidth_limit),
        ];
        let written = written.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?))));
        settings.extend(written);
    }
    let mut provider = json!({
        "apiVersion": API_VERSION, "kind": "Provider", "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": kind, "url": args.url.clone().unwrap_or_default(), "secret": {}},
    });
    if !settings.is_empty() {
        provider["spec"]["settings"] = Value::Object(settings);
    }
    let labels = json!({"createdForProviderType": kind, "createdForResourceType": "providers"});
    let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"namespace": namespace, "labels": labels}, "stringData": data});
    if args.dry.dry_run {
        let mut objects = Vec::new();
        if args.secret.is_none() && !data.is_empty() {
            secret["metadata"]["name"] = json!(format!("{name}-{kind}-credentials"));
            provider["spec"]["secret"] = json!({"name": secret["metadata"]["name"], "namespace": namespace});
            objects.push(secret);
        } else if let Some(existing) = &args.secret {
            provider["spec"]["secret"] = json!({"name": existing, "namespace": namespace});
        }
        objects.push(provider);
        return dry_run(&objects, args.dry.output);
    }
    if cluster.find("Provider", namespace, &name).await?.is_some() {
        bail!("provider '{name}' already exists in namespace '{namespace}'");
    }
    let secrets = cluster.api_of("", "v1", "Secret", namespace);
    let made_secret = match &args.secret {
        Some(existing) => {
            provider["spec"]["secret"] = json!({"name": existing, "namespace": namespace});
            None
        }
        None if data.is_empty() => None,
        None => {
            secret["metadata"]["generateName"] = json!(format!("{name}-{kind}-"));
            let made = cluster.create(&secret).await?;
            let secret_name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            provider["spec"]["secret"] = json!({"name": secret_name, "namespace": namespace});
            Some(secret_name)
        }
    };
    let made = match cluster.create(&provider).await {
        Ok(made) => made,
        Err(error) => {
            // a secret without its provider would only be found by chance
            if let Some(secret) = &made_secret {
                let _ = secrets.delete(secret, &Default::default()).await;
            }
            return Err(error);
        }
    };
    line(&format!("provider/{name} created"))?;
    if let Some(secret) = made_secret {
        let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": API_VERSION, "kind": "Provider", "name": name, "uid": made["metadata"]["uid"]}]}});
        secrets
            .patch(&secret, &Default::default(), &kube::api::Patch::Merge(&owner))
            .await
            .context("failed to tie the secret to the provider")?;
        line(&format!("Created secret '{secret}' for provider authentication"))?;
    } else if let Some(secret) = &args.secret {
        line(&format!("Using existing secret '{secret}' for provider authentication"))?;
    }
    Ok(())
}

/// Returns the secret's content and checks that it is enough for the type.
fn secret_data(args: &ProviderArgs) -> anyhow::Result<Map<String, Value>> {
    let mut data = Map::new();
    match args.kind {
        Kind::Ova => {
            let Some(url) = &args.url else {
                bail!("provider url is required: a local folder, an .ova file, or an NFS export (server:/path)")
            };
            let nfs = url
                .split_once(':')
                .is_some_and(|(server, path)| !server.is_empty() && path.starts_with('/') && !path.starts_with("//"));
            let local = url.starts_with('/') || url.starts_with("file:///");
            if !nfs && !local {
                bail!(
                    "OVA provider URL must be a local path (/srv/exports) or in NFS format (server:/path), got '{url}'"
                );
            }
            data.insert("url".into(), json!(url));
        }
        Kind::Vsphere => {
            let Some(url) = &args.url else { bail!("provider url is required: https://HOST/sdk") };
            data.insert("url".into(), json!(url));
            if args.secret.is_none() {
                let (Some(user), Some(password)) = (&args.username, &args.password) else {
                    bail!("a vsphere provider needs --username and --password, or --secret")
                };
                let insecure = args.provider_insecure_skip_tls;
                if args.cacert.is_none() && !insecure {
                    eprintln!("Warning: no --cacert given, the provider's certificate must be known to this system");
                }
                data.insert("user".into(), json!(user));
                data.insert("password".into(), json!(text_or_file(password)?.trim_end_matches(['\n', '\r'])));
            }
        }
        Kind::Openshift => {
            if let Some(token) = &args.provider_token {
                let Some(url) = &args.url else { bail!("provider url is required with a token") };
                data.insert("token".into(), json!(token));
                data.insert("url".into(), json!(url));
            }
        }
    }
    if args.secret.is_none() && !data.is_empty() {
        if let Some(cacert) = &args.cacert {
            data.insert("ca.crt".into(), json!(text_or_file(cacert)?));
        }
        if args.provider_insecure_skip_tls {
            data.insert("insecureSkipVerify".into(), json!("true"));
        }
    }
    Ok(data)
}
