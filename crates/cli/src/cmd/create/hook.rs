//! `create hook`.

use anyhow::bail;
use base64::Engine;
use clap::Args;
use serde_json::{Value, json};

use super::{DryRun, text_or_file};
use crate::cluster::{API_VERSION, Cluster};
use crate::output::{dry_run, line};
use crate::refs;

/// Options of `create hook`.
#[derive(Args, Debug)]
pub(crate) struct HookArgs {
    /// Name of the hook
    name: Option<String>,
    /// Name of the hook
    #[arg(long = "name", short = 'M', value_name = "NAME")]
    flag: Option<String>,
    /// Image that runs the hook
    #[arg(long)]
    image: Option<String>,
    /// Service account of the hook's pod
    #[arg(long)]
    service_account: Option<String>,
    /// The playbook as text, or @FILE
    #[arg(long)]
    playbook: Option<String>,
    /// Seconds that the hook may take
    #[arg(long)]
    deadline: Option<i64>,
    /// Job template of an Ansible Automation Platform, instead of an image
    #[arg(long, conflicts_with_all = ["image", "playbook"])]
    aap_job_template_id: Option<i64>,
    /// URL of the Ansible Automation Platform
    #[arg(long, requires = "aap_job_template_id")]
    aap_url: Option<String>,
    /// Secret with the platform's token
    #[arg(long, requires = "aap_job_template_id")]
    aap_token_secret: Option<String>,
    /// Seconds that the platform's job may take
    #[arg(long, requires = "aap_job_template_id")]
    aap_timeout: Option<i64>,
    #[command(flatten)]
    dry: DryRun,
}

/// Creates the hook.
pub async fn run(cluster: &Cluster, args: &HookArgs) -> anyhow::Result<()> {
    let name = refs::name(&args.name, &args.flag)?;
    let namespace = &cluster.namespace;
    if args.deadline.is_some_and(|deadline| deadline < 0) {
        bail!("deadline must not be negative");
    }
    let spec = match args.aap_job_template_id {
        Some(template) => {
            let mut aap = json!({"jobTemplateId": template});
            set(&mut aap, "url", args.aap_url.as_ref().map(|url| json!(url)));
            set(
                &mut aap,
                "tokenSecret",
                args.aap_token_secret.as_ref().map(|secret| json!({"name": secret, "namespace": namespace})),
            );
            set(&mut aap, "timeout", args.aap_timeout.map(|timeout| json!(timeout)));
            json!({"aap": aap})
        }
        None => {
            let mut spec = json!({"image": args.image.as_deref().unwrap_or("quay.io/kubev2v/hook-runner")});
            set(&mut spec, "serviceAccount", args.service_account.as_ref().map(|account| json!(account)));
            let playbook = args.playbook.as_deref().map(text_or_file).transpose()?;
            set(
                &mut spec,
                "playbook",
                playbook.map(|text| json!(base64::engine::general_purpose::STANDARD.encode(text))),
            );
            set(&mut spec, "deadline", args.deadline.map(|deadline| json!(deadline)));
            spec
        }
    };
    let hook = json!({"apiVersion": API_VERSION, "kind": "Hook", "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    if args.dry.dry_run {
        return dry_run(&[hook], args.dry.output);
    }
    cluster.create(&hook).await?;
    line(&format!("hook/{name} created"))
}

fn set(object: &mut Value, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[key] = value;
    }
}
