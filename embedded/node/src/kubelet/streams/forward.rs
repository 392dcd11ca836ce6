//! Port-forward: connections to a pod's address, as channels of a WebSocket or as streams of SPDY inside one.

use std::net::Ipv4Addr;

use axum::extract::ws::{Message, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{Channels, message, spdy};

/// Serves one connection for each port: channel 2·n carries it, 2·n+1 what went wrong. Both begin with the port.
pub(super) async fn channels(mut channels: Channels, address: Ipv4Addr, ports: &[u16]) {
    let mut writers = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for (index, port) in ports.iter().enumerate().take(127) {
        let (data, errors) = (2 * index as u8, 2 * index as u8 + 1);
        for channel in [data, errors] {
            if channels.out.send(message(channel, &port.to_le_bytes())).await.is_err() {
                return;
            }
        }
        let (sender, receiver) = mpsc::channel::<Vec<u8>>(super::WAITING);
        writers.push(sender);
        tasks.spawn(connection(address, *port, receiver, channels.out.clone(), data, errors));
    }
    loop {
        tokio::select! {
            received = channels.inbox.recv() => match received {
                Some((255, closed)) => {
                    if let Some(place) = closed.first().filter(|channel| **channel % 2 == 0) {
                        // an empty write is the end of what is sent
                        if let Some(writer) = writers.get(usize::from(place / 2)) {
                            let _ = writer.send(Vec::new()).await;
                        }
                    }
                }
                Some((channel, bytes)) if channel % 2 == 0 && !bytes.is_empty() => {
                    if let Some(writer) = writers.get(usize::from(channel / 2)) {
                        // a connection that has ended takes nothing more
                        let _ = writer.send(bytes).await;
                    }
                }
                Some(_) => {}
                None => return,
            },
            ended = tasks.join_next() => if ended.is_none() { break },
        }
    }
    channels.close().await;
}

async fn connection(
    address: Ipv4Addr,
    port: u16,
    mut input: mpsc::Receiver<Vec<u8>>,
    out: mpsc::Sender<Message>,
    data: u8,
    errors: u8,
) {
    let stream = match TcpStream::connect((address, port)).await {
        Ok(stream) => stream,
        Err(error) => {
            // the client may have gone
            let _ = out.send(message(errors, refusal(address, port, &error).as_bytes())).await;
            return;
        }
    };
    let (mut read, mut write) = stream.into_split();
    let reading = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            if out.send(message(data, &buffer[..count])).await.is_err() {
                return;
            }
        }
    };
    let writing = async {
        while let Some(bytes) = input.recv().await {
            let done = if bytes.is_empty() { write.shutdown().await } else { write.write_all(&bytes).await };
            if done.is_err() {
                return;
            }
        }
    };
    tokio::pin!(reading, writing);
    tokio::select! {
        () = &mut reading => {}
        () = &mut writing => reading.await,
    }
}

/// What a client is told of a port that nothing listens on.
pub(super) fn refusal(address: Ipv4Addr, port: u16, error: &std::io::Error) -> String {
    format!(
        "an error occurred forwarding {port}: cannot connect to {address}:{port}: {error}; does the pod listen there?"
    )
}

/// Serves SPDY that is carried in the messages of a WebSocket.
pub(super) async fn tunnel(socket: WebSocket, address: Ipv4Addr) {
    use futures::{SinkExt, StreamExt};
    let (mut sink, mut source) = socket.split();
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut from, mut to) = tokio::io::split(near);
    let inbound = async {
        while let Some(Ok(received)) = source.next().await {
            match received {
                Message::Binary(bytes) if to.write_all(&bytes).await.is_err() => return,
                Message::Close(_) => return,
                Message::Binary(_) | Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    };
    let outbound = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if sink.send(Message::Binary(buffer[..count].to_vec().into())).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    };
    tokio::select! {
        () = inbound => {}
        () = outbound => {}
        ended = spdy::serve(far, address) => if let Err(error) = ended {
            tracing::debug!(%error, "a port-forward ended");
        },
    }
}
