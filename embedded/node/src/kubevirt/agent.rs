//! The QEMU guest agent: what a guest says of itself, where it runs one.
//!
//! Each question is a session of its own on the channel's socket: a byte 0xFF clears what the agent had
//! half read, `guest-sync-delimited` finds the place in what it says (qga/qapi-schema.json).

use std::path::Path;
use std::time::Duration;

use forklift_kubevirt_types::vmi::GuestOsInfo;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::qmp;

/// How long an agent may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The most that is read of an answer.
const LONGEST: u64 = 4 << 20;

/// What an agent has said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The agent's version.
    pub version: String,
    /// Commands that it knows: name, enabled.
    pub commands: Vec<(String, bool)>,
    /// The system.
    pub os: GuestOsInfo,
    /// The host name.
    pub hostname: String,
    /// Name of the time zone and seconds east of UTC, as `CET, 3600`.
    pub timezone: String,
    /// Interfaces: name in the guest, MAC address, addresses.
    pub interfaces: Vec<(String, String, Vec<String>)>,
    /// Users that are logged in, as the API shows them.
    pub users: Vec<Value>,
    /// File systems, as the API shows them.
    pub filesystems: Vec<Value>,
}

/// Asks the agent one thing.
pub async fn ask(socket: &Path, command: &str, arguments: Value) -> std::io::Result<Value> {
    let answer = tokio::time::timeout(ANSWER, session(socket, command, arguments)).await;
    answer.unwrap_or_else(|_| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the guest agent does not answer")))
}

async fn session(socket: &Path, command: &str, arguments: Value) -> std::io::Result<Value> {
    let (read, mut write) = qmp::connect(socket).await?.into_split();
    let mut read = BufReader::new(read.take(LONGEST));
    let id = rand::random::<u32>();
    let sync = json!({"execute": "guest-sync-delimited", "arguments": {"id": id}});
    write.write_all(b"\xff").await?;
    write.write_all(format!("{sync}\n").as_bytes()).await?;
    loop {
        let mut stale = Vec::new();
        // what comes before the byte is for somebody else
        if read.read_until(0xff, &mut stale).await? == 0 {
            return Err(closed());
        }
        if line(&mut read).await?.get("return").and_then(Value::as_u64) == Some(u64::from(id)) {
            break;
        }
    }
    let mut wanted = json!({"execute": command});
    if !arguments.is_null() {
        wanted["arguments"] = arguments;
    }
    write.write_all(format!("{wanted}\n").as_bytes()).await?;
    let answer = line(&mut read).await?;
    match (answer.get("return"), answer.get("error")) {
        (Some(result), _) => Ok(result.clone()),
        (None, Some(error)) => Err(std::io::Error::other(format!("the guest agent refuses {command}: {error}"))),
        (None, None) => {
            Err(std::io::Error::other(format!("the guest agent answers {command} with neither return nor error")))
        }
    }
}

async fn line(read: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> std::io::Result<Value> {
    let mut text = Vec::new();
    if read.read_until(b'\n', &mut text).await? == 0 {
        return Err(closed());
    }
    Ok(serde_json::from_slice(&text)?)
}

fn closed() -> std::io::Error {
    std::io::Error::other("the guest agent's channel was closed")
}

/// Asks the agent all that is shown. What it does not know stays empty.
pub async fn report(socket: &Path) -> std::io::Result<Report> {
    let info = ask(socket, "guest-info", Value::Null).await?;
    let mut report = Report { version: text(&info, "version"), ..Report::default() };
    for command in list(&info, "supported_commands") {
        report.commands.push((text(command, "name"), command.get("enabled") == Some(&Value::Bool(true))));
    }
    let knows = |name: &str| report.commands.iter().any(|(known, enabled)| known == name && *enabled);
    let asked = [
        "guest-get-osinfo",
        "guest-get-host-name",
        "guest-get-timezone",
        "guest-network-get-interfaces",
        "guest-get-users",
        "guest-get-fsinfo",
    ];
    let asked: Vec<&str> = asked.into_iter().filter(|name| knows(name)).collect();
    for name in asked {
        match ask(socket, name, Value::Null).await {
            Ok(answer) => report.take(name, &answer),
            Err(error) => tracing::debug!(%error, "part of the guest agent's report is left out"),
        }
    }
    Ok(report)
}

impl Report {
    fn take(&mut self, command: &str, answer: &Value) {
        match command {
            "guest-get-osinfo" => {
                let field = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
                self.os = GuestOsInfo {
                    id: field("id"),
                    name: field("name"),
                    pretty_name: field("pretty-name"),
                    version: field("version"),
                    version_id: field("version-id"),
                    kernel_release: field("kernel-release"),
                    kernel_version: field("kernel-version"),
                    machine: field("machine"),
                    ..GuestOsInfo::default()
                };
            }
            "guest-get-host-name" => self.hostname = text(answer, "host-name"),
            "guest-get-timezone" => {
                let offset = answer.get("offset").and_then(Value::as_i64).unwrap_or(0);
                self.timezone = format!("{}, {offset}", text(answer, "zone"));
            }
            "guest-network-get-interfaces" => {
                for interface in answer.as_array().into_iter().flatten() {
                    let addresses = list(interface, "ip-addresses").map(|address| text(address, "ip-address"));
                    let (name, mac) = (text(interface, "name"), text(interface, "hardware-address"));
                    self.interfaces.push((name, mac.to_lowercase(), addresses.collect()));
                }
            }
            "guest-get-users" => {
                let users = answer.as_array().into_iter().flatten().map(|user| {
                    json!({"userName": text(user, "user"), "domain": text(user, "domain"),
                           "loginTime": user.get("login-time").cloned().unwrap_or_default()})
                });
                self.users = users.collect();
            }
            "guest-get-fsinfo" => {
                let filesystems = answer.as_array().into_iter().flatten().map(|filesystem| {
                    let disks: Vec<Value> = list(filesystem, "disk")
                        .map(|disk| json!({"busType": text(disk, "bus-type"), "serial": text(disk, "serial")}))
                        .collect();
                    let bytes = |name: &str| filesystem.get(name).and_then(Value::as_u64).unwrap_or(0);
                    json!({"diskName": text(filesystem, "name"), "mountPoint": text(filesystem, "mountpoint"),
                           "fileSystemType": text(filesystem, "type"), "usedBytes": bytes("used-bytes"),
                           "totalBytes": bytes("total-bytes"), "disk": disks})
                });
                self.filesystems = filesystems.collect();
            }
            _ => {}
        }
    }
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// An agent that knows some commands, behind a socket.
    pub fn fake(socket: &Path) -> tokio::task::JoinHandle<()> {
        let listener = UnixListener::bind(socket).expect("a socket");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (read, mut write) = stream.into_split();
                let mut read = BufReader::new(read);
                // left over from a client that went away
                write.write_all(b"{\"return\": 7}\n").await.expect("written");
                let mut line = Vec::new();
                while read.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
                    let start = usize::from(line.first() == Some(&0xff));
                    let asked: Value = serde_json::from_slice(&line[start..]).expect("a command");
                    let answer = match asked["execute"].as_str().expect("a name") {
                        "guest-sync-delimited" => {
                            write.write_all(b"\xff").await.expect("written");
                            json!({"return": asked["arguments"]["id"]})
                        }
                        "guest-info" => json!({"return": {"version": "7.2.0", "supported_commands": [
                            {"name": "guest-get-osinfo", "enabled": true, "success-response": true},
                            {"name": "guest-network-get-interfaces", "enabled": true, "success-response": true},
                            {"name": "guest-get-users", "enabled": true, "success-response": true},
                            {"name": "guest-get-timezone", "enabled": true, "success-response": true},
                            {"name": "guest-get-fsinfo", "enabled": false, "success-response": true}]}}),
                        "guest-get-osinfo" => json!({"return": {"id": "debian", "name": "Debian GNU/Linux",
                            "pretty-name": "Debian GNU/Linux 12 (bookworm)", "version-id": "12", "machine": "x86_64",
                            "kernel-release": "6.1.0", "version": "12 (bookworm)", "kernel-version": "#1 SMP"}}),
                        "guest-network-get-interfaces" => json!({"return": [
                            {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8, "ip-address-type": "ipv4"}]},
                            {"name": "enp1s0", "hardware-address": "02:00:00:00:00:0A", "ip-addresses": [
                                {"ip-address": "10.0.2.15", "prefix": 24, "ip-address-type": "ipv4"}]}]}),
                        "guest-get-users" => json!({"return": [{"user": "admin", "login-time": 1_700_000_000.5}]}),
                        "guest-get-timezone" => json!({"return": {"zone": "CET", "offset": 3600}}),
                        _ => json!({"error": {"class": "CommandNotFound", "desc": "no such command"}}),
                    };
                    if write.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                        break;
                    }
                    line.clear();
                }
            }
        })
    }

    #[tokio::test]
    async fn an_agent_tells_what_it_knows() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("agent.sock");
        let agent = fake(&socket);
        let report = report(&socket).await.expect("a report");
        assert_eq!(report.os.pretty_name.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(report.timezone, "CET, 3600");
        assert_eq!(report.interfaces[1], ("enp1s0".into(), "02:00:00:00:00:0a".into(), vec!["10.0.2.15".into()]));
        assert_eq!(report.users[0]["userName"], "admin");
        assert!(report.filesystems.is_empty(), "a command that is switched off is not asked");
        let error = ask(&socket, "guest-exec", Value::Null).await.expect_err("refused");
        assert!(error.to_string().contains("refuses guest-exec"), "{error}");
        agent.abort();
    }
}
