//! Tags of VMs: asked for beside the watch, so that the inventory does not wait for them.
//!
//! No update tells that a tag was attached: all are read again after a while, and those of a new VM at once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;

use super::vim::{Client, MoRef, Tag, Tags, VimError};

/// How often all tags are read.
const INTERVAL: Duration = Duration::from_secs(300);

/// Tags that were read.
#[derive(Debug)]
pub struct News {
    /// The VMs that were asked for; none for all.
    pub of: Option<Vec<MoRef>>,
    /// What they have; VMs without tags are not among them.
    pub tags: BTreeMap<MoRef, Vec<Tag>>,
}

/// Tags on their way; ends when it is dropped.
pub struct Tagging {
    /// What was read.
    pub news: mpsc::Receiver<News>,
    /// VMs whose tags are wanted at once.
    pub questions: mpsc::UnboundedSender<Vec<MoRef>>,
}

/// Starts to read tags. What fails is logged and tried again at the next time.
pub fn start(client: &Client) -> Tagging {
    let (tell, news) = mpsc::channel(1);
    let (questions, asked) = mpsc::unbounded_channel();
    let client = client.clone();
    tokio::spawn(async move { read(&client, tell, asked).await });
    Tagging { news, questions }
}

async fn read(client: &Client, tell: mpsc::Sender<News>, mut asked: mpsc::UnboundedReceiver<Vec<MoRef>>) {
    let mut session: Option<Tags> = None;
    let mut times = tokio::time::interval(INTERVAL);
    loop {
        let of = tokio::select! {
            () = tell.closed() => break,
            _ = times.tick() => None,
            of = asked.recv() => match of {
                Some(of) => Some(of),
                None => break,
            },
        };
        match tags(client, &mut session, of.as_deref()).await {
            Ok(Some(tags)) => {
                if tell.send(News { of, tags }).await.is_err() {
                    break;
                }
            }
            // a host: it has no tags
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(host = client.endpoint().host(), %error, "tags of VMs cannot be read");
                // a session that was lost is opened again next time
                session = None;
            }
        }
    }
    if let Some(session) = session {
        session.close().await;
    }
}

async fn tags(
    client: &Client,
    session: &mut Option<Tags>,
    of: Option<&[MoRef]>,
) -> Result<Option<BTreeMap<MoRef, Vec<Tag>>>, VimError> {
    if session.is_none() {
        *session = Tags::open(client).await?;
    }
    let Some(session) = session else { return Ok(None) };
    match of {
        Some(vms) => session.of(vms).await.map(Some),
        None => session.all().await.map(Some),
    }
}
