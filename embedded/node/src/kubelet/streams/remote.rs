//! exec and attach: a program's input and output, its terminal's size, and how it ended.

use std::time::Duration;

use axum::extract::ws::Message;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{broadcast, mpsc};

use super::{Asked, Channels, message};
use crate::kubelet::logs::Stream;
use crate::kubelet::process::{self, Process, Terminal};
use crate::kubelet::running::Running;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// How long output may come after the end: a program left behind may hold the pipe for ever.
const LAST_WORDS: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Runs a program in a container; it ends with the session.
pub(super) async fn exec(mut channels: Channels, asked: Asked, running: &Running) {
    let command = asked.command.join(" ");
    let launch = running.beside(asked.command.clone(), asked.stdin, asked.tty);
    let process = match process::start_beside(launch).await {
        Ok(process) => process,
        Err(error) => {
            let status = json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
                "message": format!("error executing command in container: {error}")});
            return end(channels, status).await;
        }
    };
    let Process { out, err, input, terminal, end: mut ended, handle, .. } = process;
    greet(&channels.out, &asked).await;
    let mut outputs = tokio::task::JoinSet::new();
    outputs.spawn(pump(out, asked.stdout.then_some(STDOUT), channels.out.clone()));
    if let Some(err) = err {
        outputs.spawn(pump(err, asked.stderr.then_some(STDERR), channels.out.clone()));
    }
    let mut input = Input { to: input, terminal };
    let code = loop {
        tokio::select! {
            code = &mut ended => break code.unwrap_or(255),
            received = channels.inbox.recv() => match received {
                Some((channel, bytes)) => {
                    // what it does not read must not hide its end
                    tokio::select! {
                        () = input.take(channel, &bytes) => {}
                        code = &mut ended => break code.unwrap_or(255),
                    }
                }
                // the client has gone: the handle kills the program
                None => {
                    drop(handle);
                    outputs.abort_all();
                    return;
                }
            },
        }
    };
    let rest = async { while outputs.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_WORDS, rest).await;
    outputs.abort_all();
    end(channels, exit_status(code, &command)).await;
}

/// Connects to the program that a container runs, until it ends or the client leaves.
pub(super) async fn attach(mut channels: Channels, asked: Asked, running: &Running) {
    let mut output = running.output.subscribe();
    greet(&channels.out, &asked).await;
    let terminal = running.terminal.clone();
    // one session at a time writes
    let guard = if asked.stdin { running.input.try_lock().ok() } else { None };
    let mut input = Input { to: None, terminal };
    let mut guard = guard;
    if let Some(guard) = &mut guard {
        input.to = guard.take();
    }
    let told = loop {
        tokio::select! {
            biased;
            chunk = output.recv() => match chunk {
                Ok((stream, bytes)) => {
                    if !show(&channels.out, &asked, stream, bytes).await {
                        break false;
                    }
                }
                // a client that is too slow misses something, the program is not held up; the log has it all
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => break true,
            },
            () = running.done.cancelled() => break true,
            received = channels.inbox.recv() => match received {
                Some((channel, bytes)) => {
                    tokio::select! {
                        () = input.take(channel, &bytes) => {}
                        () = running.done.cancelled() => {}
                    }
                }
                None => break false,
            },
        }
    };
    if let Some(guard) = &mut guard
        && !running.stdin_once
    {
        **guard = input.to.take();
    }
    drop(guard);
    if told {
        while let Ok((stream, bytes)) = output.try_recv() {
            show(&channels.out, &asked, stream, bytes).await;
        }
        end(channels, json!({"metadata": {}, "status": "Success"})).await;
    }
}

async fn show(out: &mpsc::Sender<Message>, asked: &Asked, stream: Stream, bytes: Bytes) -> bool {
    let channel = match stream {
        Stream::Out if asked.stdout => STDOUT,
        Stream::Err if asked.stderr => STDERR,
        Stream::Out | Stream::Err => return true,
    };
    out.send(message(channel, &bytes)).await.is_ok()
}

/// Tells the client with an empty message that it is connected, as kubelet does.
async fn greet(out: &mpsc::Sender<Message>, asked: &Asked) {
    let channel = match (asked.stdout, asked.stderr) {
        (true, _) => STDOUT,
        (false, true) => STDERR,
        (false, false) => ERROR,
    };
    // a client that has gone is noticed by the session
    let _ = out.send(message(channel, &[])).await;
}

/// The client's side of a program's input.
struct Input {
    to: Option<pipe::Sender>,
    terminal: Option<Terminal>,
}

impl Input {
    async fn take(&mut self, channel: u8, bytes: &[u8]) {
        match channel {
            STDIN => {
                if let Some(to) = &mut self.to
                    && to.write_all(bytes).await.is_err()
                {
                    self.to = None;
                }
            }
            RESIZE => {
                if let (Some(terminal), Ok(size)) = (&self.terminal, serde_json::from_slice::<Size>(bytes))
                    && let Err(error) = terminal.resize(size.width, size.height)
                {
                    tracing::debug!(%error, "a terminal has not been resized");
                }
            }
            CLOSE if bytes == [STDIN] => {
                if self.terminal.is_some()
                    && let Some(to) = &mut self.to
                {
                    // the end of a terminal's input is a character
                    let _ = to.write_all(&[4]).await;
                }
                self.to = None;
            }
            _ => {}
        }
    }
}

/// Copies a stream to a channel until it ends; without a channel it is only read.
async fn pump(mut from: pipe::Receiver, channel: Option<u8>, out: mpsc::Sender<Message>) {
    let mut buffer = vec![0; 32 << 10];
    // a terminal ends with an error
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if let Some(channel) = channel
            && out.send(message(channel, &buffer[..count])).await.is_err()
        {
            return;
        }
    }
}

async fn end(channels: Channels, status: Value) {
    // a client that has gone needs no status
    let _ = channels.out.send(message(ERROR, status.to_string().as_bytes())).await;
    channels.close().await;
}

/// The end of a program as clients read it: `kubectl exec` ends with the code of the first cause.
fn exit_status(code: i32, command: &str) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: error executing command [{command}], exit code {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_causes() {
        assert_eq!(exit_status(0, "true"), json!({"metadata": {}, "status": "Success"}));
        let status = exit_status(3, "sh -c x");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(status["reason"], "NonZeroExitCode");
    }
}
