//! Asking a collector to read some VMs at once, for those who are about to act on what the store says.
//!
//! ```text
//! who acts ── refresh(ids) ──► Ask ──► collector reads them at the source ──► store ──► answer
//! ```

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::Store;

/// A wish to have VMs read anew.
#[derive(Debug)]
pub struct Ask {
    /// The VMs' ids.
    pub ids: Vec<String>,
    answer: oneshot::Sender<Result<(), String>>,
}

impl Ask {
    /// Says that the store holds them as they were after the wish was uttered, or why it does not.
    pub fn answer(self, result: Result<(), String>) {
        // who asked may have gone meanwhile
        let _ = self.answer.send(result);
    }
}

impl Store {
    /// Has VMs read anew, and returns when the store holds them as they are now. Of collectors that cannot be asked, and
    /// of stores without one, what is known counts as long as nothing has failed.
    ///
    /// # Errors
    /// Why the source could not be read, in words for users.
    pub async fn refresh(&self, ids: Vec<String>, limit: Duration) -> Result<(), String> {
        let asked = self.asks().map(|asks| {
            let (answer, answered) = oneshot::channel();
            asks.send(Ask { ids, answer }).map(|()| answered)
        });
        let Some(Ok(answered)) = asked else {
            return self.failure().map_or(Ok(()), Err);
        };
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("the collector began anew meanwhile".to_owned()),
            Err(_) => Err(self.failure().unwrap_or_else(|| format!("no answer within {} s", limit.as_secs()))),
        }
    }
}

/// Returns both ends.
pub(crate) fn channel() -> (mpsc::UnboundedSender<Ask>, mpsc::UnboundedReceiver<Ask>) {
    mpsc::unbounded_channel()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{ProviderSpec, Writer};

    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_collector_is_asked_and_what_it_says_counts() {
        let store = Arc::new(Store::new(&ProviderSpec::PLAIN, "uid"));
        let writer = Writer::new(store.clone(), None);
        assert_eq!(store.refresh(vec!["1".into()], LIMIT).await, Ok(()), "nobody can be asked");
        writer.failed("no route");
        assert_eq!(store.refresh(vec!["1".into()], LIMIT).await, Err("no route".into()));

        let mut asks = writer.asks();
        let collector = tokio::spawn(async move {
            let ask = asks.recv().await.expect("somebody asks");
            let ids = ask.ids.clone();
            ask.answer(Err("gone".into()));
            (asks, ids)
        });
        assert_eq!(store.refresh(vec!["1".into()], LIMIT * 100).await, Err("gone".into()));
        let (asks, ids) = collector.await.expect("no panic");
        assert_eq!(ids, ["1"]);
        assert_eq!(store.refresh(Vec::new(), LIMIT).await, Err("no route".into()), "it does not answer");
        drop(asks);
        assert_eq!(store.refresh(Vec::new(), LIMIT).await, Err("no route".into()));
        writer.loaded();
        assert_eq!(store.refresh(Vec::new(), LIMIT).await, Ok(()), "the collector has ended");
    }
}
