//! QEMU's control socket: asking a guest to power down.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::kubelet::process::Handle;

/// Presses the guest's power button; QEMU that does not answer gets a SIGTERM.
pub fn power_down_or(socket: PathBuf, handle: Handle) {
    tokio::spawn(async move {
        let pressed = tokio::time::timeout(Duration::from_secs(5), command(&socket, "system_powerdown")).await;
        match pressed {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "no ACPI shutdown");
                handle.terminate();
            }
            Err(_) => handle.terminate(),
        }
    });
}

/// Sends one command and returns its answer.
pub async fn command(socket: &Path, name: &str) -> std::io::Result<Value> {
    let stream = connect(socket).await?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    for (index, command) in ["", "qmp_capabilities", name].into_iter().enumerate() {
        if index > 0 {
            write.write_all(format!("{}\n", json!({"execute": command})).as_bytes()).await?;
        }
        loop {
            let line = lines.next_line().await?.ok_or_else(|| std::io::Error::other("QEMU closed its control socket"))?;
            let answer: Value = serde_json::from_str(&line)?;
            if index == 0 && answer.get("QMP").is_some() || index == 1 && answer.get("return").is_some() {
                break;
            }
            if let Some(error) = answer.get("error") {
                return Err(std::io::Error::other(format!("QEMU refuses {command}: {error}")));
            }
            if let Some(result) = answer.get("return") {
                return Ok(result.clone());
            }
            // events come in between
        }
    }
    Ok(Value::Null)
}

/// Connects by way of the directory: a socket's path takes only 107 bytes.
async fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(std::io::Error::other("not a path of a socket"));
    };
    let dir = std::fs::File::open(parent)?;
    UnixStream::connect(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name)).await
}
