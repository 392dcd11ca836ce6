//! Serves an API server for development: `cargo run -p apiserver --example serve -- --data-dir D --port N`.
//! Prints the path of the kubeconfig and runs until it is interrupted.

use std::net::SocketAddr;
use std::path::PathBuf;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut data_dir = PathBuf::from("apiserver-data");
    let (mut port, mut kubelet_token) = (6443, String::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| anyhow::anyhow!("{argument} needs a value"))?;
        match argument.as_str() {
            "--data-dir" => data_dir = value.into(),
            "--port" => port = value.parse()?,
            "--kubelet-token" => kubelet_token = value,
            other => anyhow::bail!("unknown argument {other}; known: --data-dir DIR, --port N, --kubelet-token T"),
        }
    }
    let mut config = apiserver::Config::new(&data_dir);
    config.listen = SocketAddr::from(([127, 0, 0, 1], port));
    config.kubelet_token = kubelet_token;
    let server = apiserver::start(config).await?;
    let kubeconfig = data_dir.join("kubeconfig");
    std::fs::write(&kubeconfig, server.kubeconfig())?;
    println!("{}", kubeconfig.display());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
