//! `forklift policy`: the commands of the validation crate, with a live inventory and a server beside them.

use std::process::ExitCode;

use anyhow::{Context, bail};
use forklift_controllers::tls;
use forklift_inventory::client::InventoryClient;
use forklift_validation::cli::{self, Live, PROVIDERS, PolicyArgs, PolicyCommand, ServeArgs};
use forklift_validation::{Validator, follow_folder, rest};
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// How many VMs are asked for at once.
const AT_ONCE: usize = 16;

/// Runs a command.
pub fn run(args: &PolicyArgs, runtime: &Runtime) -> ExitCode {
    if let PolicyCommand::Serve(args) = &args.command {
        return match runtime.block_on(serve(args)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("forklift: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    cli::run(args, &|live| runtime.block_on(workloads(live)).map_err(|error| format!("{error:#}").into()))
}

/// Reads a provider's VMs as the rules see them.
async fn workloads(live: &Live) -> anyhow::Result<Vec<Value>> {
    let token = std::env::var("FORKLIFT_TOKEN").ok();
    let client = InventoryClient::new(&live.url, token.as_deref(), live.ca.as_deref(), live.insecure)
        .context("cannot use the certificate authority")?;
    let get = async |path: &str| {
        client.get(path, &[]).await.with_context(|| {
            let hint = if token.is_none() { "; hint: put a token into FORKLIFT_TOKEN" } else { "" };
            format!("cannot read {path} from {}{hint}", live.url)
        })
    };
    let all = get("providers").await?;
    let (provider_type, uid) = find(&all, &live.provider)?;
    let base = format!("providers/{provider_type}/{uid}");
    let vms = get(&format!("{base}/vms")).await?;
    let wanted = |vm: &&Value| {
        let is = |name: &String| vm["name"] == **name || vm["id"] == **name;
        live.vms.is_empty() || live.vms.iter().any(is)
    };
    let ids: Vec<String> = vms
        .as_array()
        .into_iter()
        .flatten()
        .filter(wanted)
        .filter_map(|vm| vm["id"].as_str().map(str::to_owned))
        .collect();
    futures::stream::iter(ids)
        .map(|id| {
            let path = format!("{base}/workloads/{id}");
            let client = &client;
            async move { client.get(&path, &[]).await.with_context(|| format!("cannot read {path}")) }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

/// Finds a provider by name, uid or, when there is one of it, type.
fn find(all: &Value, wanted: &str) -> anyhow::Result<(String, String)> {
    let mut known = Vec::new();
    for provider_type in PROVIDERS {
        for provider in all[*provider_type].as_array().into_iter().flatten() {
            let text = |field: &str| provider[field].as_str().unwrap_or_default().to_owned();
            known.push((*provider_type, text("name"), text("uid")));
        }
    }
    let mut found = known.iter().filter(|(_, name, uid)| name == wanted || uid == wanted);
    if let Some((provider_type, _, uid)) = found.next() {
        return Ok(((*provider_type).to_owned(), uid.clone()));
    }
    let of_type: Vec<_> = known.iter().filter(|(provider_type, ..)| *provider_type == wanted).collect();
    if let [(provider_type, _, uid)] = of_type.as_slice() {
        return Ok(((*provider_type).to_owned(), uid.clone()));
    }
    let names: Vec<&str> = known.iter().map(|(_, name, _)| name.as_str()).collect();
    bail!("there is no provider `{wanted}` in the inventory; there are: {}", names.join(", "))
}

/// Serves the rules until Ctrl-C or SIGTERM.
async fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let validator = Validator::new();
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}: is it in use?", args.listen))?;
    let address = listener.local_addr()?;
    let shutdown = CancellationToken::new();
    let follow = async {
        match &args.rules {
            Some(folder) => {
                let told = |errors: &[forklift_validation::RuleError]| {
                    errors.iter().for_each(|error| tracing::error!(%error, "a file of rules is left out"));
                };
                follow_folder(validator.clone(), folder, told).await;
            }
            None => std::future::pending().await,
        }
    };
    let router = rest::router(validator.clone());
    let scheme = if args.tls_certificate.is_some() { "https" } else { "http" };
    println!("rules are served on {scheme}://{address}/v1/data");
    if let Some(path) = &args.ready_file {
        std::fs::write(path, format!("{scheme}://{address}"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let serving = async {
        let (Some(certificate), Some(key)) = (&args.tls_certificate, &args.tls_key) else {
            return axum::serve(listener, router).await.context("the server failed");
        };
        let read = |path: &std::path::Path| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        tls::serve(listener, &read(certificate)?, &read(key)?, router, shutdown.clone()).await
    };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        served = serving => served,
        () = follow => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}
