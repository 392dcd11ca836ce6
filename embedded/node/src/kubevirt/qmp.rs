//! QEMU's control socket: commands, and asking a guest to power down.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::kubelet::process::Handle;

/// How long QEMU may take to answer.
const SESSION: Duration = Duration::from_secs(5);
/// How long a guest gets before its button is pressed again: QEMU forgets a press that comes
/// before the guest's driver listens.
const PRESS_AGAIN: Duration = Duration::from_secs(4);

/// What a guest makes of its power button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// An operating system with ACPI may react.
    Pressed,
    /// No operating system with ACPI runs: nobody will ever react.
    Unconnected,
}

/// Presses the guest's power button until it reacts. QEMU that does not answer, and a guest
/// that cannot react, get a SIGTERM at once.
pub fn power_down_or(socket: PathBuf, handle: Handle) {
    tokio::spawn(async move {
        match press(&socket).await {
            Ok(Button::Pressed) => {
                // the last handle kills: this task must not keep the container alive
                drop(handle);
                press_until_it_ends(&socket, PRESS_AGAIN).await;
            }
            Ok(Button::Unconnected) => {
                tracing::debug!("the guest has no ACPI to shut down by");
                handle.terminate();
            }
            Err(error) => {
                tracing::debug!(%error, "no ACPI shutdown");
                handle.terminate();
            }
        }
    });
}

/// Presses the button after each pause, for as long as QEMU answers.
async fn press_until_it_ends(socket: &Path, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        if press(socket).await.is_err() {
            return;
        }
    }
}

/// Presses the guest's power button.
pub async fn press(socket: &Path) -> std::io::Result<Button> {
    command(socket, "system_powerdown", Value::Null).await?;
    // PM1a_CNT where QEMU's firmware puts it. Its lowest bit, SCI_EN, is set when a system
    // takes ACPI over, which is long before it mounts a disk. EFI firmware sets it too, and a
    // port without a device reads as ones: then the grace period is simply waited for.
    let read = json!({"command-line": "i /h 0x604"});
    let answer = command(socket, "human-monitor-command", read).await?;
    let digits = answer.as_str().and_then(|text| text.trim().rsplit_once("0x")).map(|(_, digits)| digits);
    let register = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    Ok(if register.is_some_and(|value| value & 1 == 0) { Button::Unconnected } else { Button::Pressed })
}

/// Sends one command and returns its answer.
pub async fn command(socket: &Path, name: &str, arguments: Value) -> std::io::Result<Value> {
    let answer = tokio::time::timeout(SESSION, session(socket, name, arguments)).await;
    answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

async fn session(socket: &Path, name: &str, arguments: Value) -> std::io::Result<Value> {
    let stream = connect(socket).await?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let greeting = lines.next_line().await?;
    if greeting.is_none() {
        return Err(closed());
    }
    let mut wanted = json!({"execute": name});
    if !arguments.is_null() {
        wanted["arguments"] = arguments;
    }
    let mut result = Value::Null;
    for command in [json!({"execute": "qmp_capabilities"}), wanted] {
        write.write_all(format!("{command}\n").as_bytes()).await?;
        result = loop {
            let line = lines.next_line().await?.ok_or_else(closed)?;
            let answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                let why = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
                return Err(std::io::Error::other(format!("QEMU refuses {}: {why}", command["execute"])));
            }
            if let Some(result) = answer.get("return") {
                break result.clone();
            }
            // events come in between
        };
    }
    Ok(result)
}

fn closed() -> std::io::Error {
    std::io::Error::other("QEMU closed its control socket")
}

/// Sends one command along with an open file, which QEMU then has (`add-fd`); returns its answer.
pub async fn send_file(socket: PathBuf, file: std::fs::File, command: Value) -> std::io::Result<Value> {
    let send = move || send_file_blocking(&socket, &file, &command);
    tokio::task::spawn_blocking(send).await.map_err(std::io::Error::other)?
}

fn send_file_blocking(socket: &Path, file: &std::fs::File, command: &Value) -> std::io::Result<Value> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::io::{BufRead, IoSlice, Write};
    use std::os::fd::AsFd;
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(std::io::Error::other("not a path of a socket"));
    };
    let dir = std::fs::File::open(parent)?;
    let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(SESSION))?;
    stream.set_write_timeout(Some(SESSION))?;
    let mut lines = std::io::BufReader::new(stream.try_clone()?).lines();
    lines.next().ok_or_else(closed)??;
    stream.write_all(format!("{}\n", json!({"execute": "qmp_capabilities"})).as_bytes())?;
    answer(&mut lines)?;
    let files = [file.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut extra = SendAncillaryBuffer::new(&mut space);
    if !extra.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(std::io::Error::other("no room for a file descriptor"));
    }
    let text = format!("{command}\n");
    // the file goes with the first byte, the rest follows
    let sent = sendmsg(&stream, &[IoSlice::new(text.as_bytes())], &mut extra, SendFlags::NOSIGNAL)?;
    stream.write_all(text.as_bytes().get(sent..).unwrap_or_default())?;
    answer(&mut lines)
}

/// Reads on until QEMU answers; events come in between.
fn answer(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> std::io::Result<Value> {
    loop {
        let message: Value = serde_json::from_str(&lines.next().ok_or_else(closed)??)?;
        if let Some(error) = message.get("error") {
            return Err(std::io::Error::other(format!("QEMU refuses: {error}")));
        }
        if let Some(result) = message.get("return") {
            return Ok(result.clone());
        }
    }
}

/// Connects by way of the directory: a socket's path takes only 107 bytes.
pub async fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(std::io::Error::other("not a path of a socket"));
    };
    let dir = std::fs::File::open(parent)?;
    UnixStream::connect(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    use tokio::process::{Child, Command};

    /// Halts.
    const HALTED: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];

    /// Takes ACPI over, lets one press of the button pass and turns itself off at the next.
    ///
    /// ```text
    ///     cli; xor ax,ax; mov ds,ax
    ///     mov dx,0x604; in ax,dx; or ax,1; out dx,ax      ; PM1a_CNT: SCI_EN
    ///     mov dx,0x602; mov ax,0x100; out dx,ax           ; PM1a_EN: PWRBTN_EN
    ///     mov cx,2
    /// 1:  mov dx,0x600; in ax,dx; test ax,0x100; jz 1b    ; PM1a_STS: PWRBTN_STS
    ///     mov ax,0x100; out dx,ax; loop 1b
    ///     mov dx,0x604; mov ax,0x2001; out dx,ax          ; SLP_EN
    /// 2:  hlt; jmp 2b
    /// ```
    const INATTENTIVE: &[u8] = &[
        0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xba, 0x04, 0x06, 0xed, 0x83, 0xc8, 0x01, 0xef, 0xba, 0x02, 0x06, 0xb8, 0x00,
        0x01, 0xef, 0xb9, 0x02, 0x00, 0xba, 0x00, 0x06, 0xed, 0xa9, 0x00, 0x01, 0x74, 0xf7, 0xb8, 0x00, 0x01, 0xef,
        0xe2, 0xf1, 0xba, 0x04, 0x06, 0xb8, 0x01, 0x20, 0xef, 0xf4, 0xeb, 0xfd,
    ];

    /// Starts a guest from its boot sector.
    fn boot(dir: &Path, sector: &[u8]) -> Child {
        let mut disk = sector.to_vec();
        disk.resize(510, 0);
        disk.extend([0x55, 0xaa]);
        disk.resize(1 << 20, 0);
        std::fs::write(dir.join("disk.img"), disk).expect("written");
        Command::new("qemu-system-x86_64")
            .current_dir(dir)
            .args(["-machine", "q35,accel=tcg", "-m", "64", "-nodefaults", "-display", "none"])
            .args(["-drive", "if=virtio,format=raw,file=disk.img", "-qmp", "unix:qmp.sock,server=on,wait=off"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("QEMU starts")
    }

    /// Presses the button until somebody could react, or for a while.
    async fn press_until(socket: &Path, wanted: Button) {
        let wait = async {
            while press(socket).await.ok() != Some(wanted) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the guest gets that far");
    }

    #[tokio::test]
    async fn a_guest_without_acpi_is_told_from_one_that_missed_the_button() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("qmp.sock");
        let mut guest = boot(dir.path(), INATTENTIVE);
        press_until(&socket, Button::Pressed).await;
        let pressing = press_until_it_ends(&socket, Duration::from_millis(50));
        tokio::time::timeout(Duration::from_secs(60), pressing).await.expect("it reacts in the end");
        assert!(guest.wait().await.expect("an end").success());
    }

    #[tokio::test]
    async fn a_halted_guest_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("qmp.sock");
        let mut guest = boot(dir.path(), HALTED);
        press_until(&socket, Button::Unconnected).await;
        command(&socket, "query-status", Value::Null).await.expect("it still runs");
        // the answer may be cut short by the end
        let _ = command(&socket, "quit", Value::Null).await;
        assert!(guest.wait().await.expect("an end").success());
    }
}
