//! Asking a collector to look at the source at once: at VMs that somebody is about to act on, at a thing that the store
//! does not keep.
//!
//! ```text
//! who acts ── refresh(ids) ──► Ask::Refresh ──► collector reads them ──► store ──► done
//! who asks ── look(id, key) ─► Ask::Look ─────► collector asks the source ────────► value
//! ```

use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::Store;

/// A wish of somebody who waits.
#[derive(Debug)]
pub enum Ask {
    /// VMs are to be read anew.
    Refresh(Refresh),
    /// Something is to be looked up that is not kept.
    Look(Look),
}

/// A wish to have VMs read anew.
#[derive(Debug)]
pub struct Refresh {
    /// The VMs' ids.
    pub ids: Vec<String>,
    answer: oneshot::Sender<Result<(), String>>,
}

impl Refresh {
    /// Says that the store holds them as they were after the wish was uttered, or why it does not.
    pub fn answer(self, result: Result<(), String>) {
        // who asked may have gone meanwhile
        let _ = self.answer.send(result);
    }
}

/// A wish to have something looked up at the source.
#[derive(Debug)]
pub struct Look {
    /// The collection.
    pub kind: &'static str,
    /// Id of the record.
    pub id: String,
    /// What about it.
    pub key: String,
    answer: oneshot::Sender<Result<Value, String>>,
}

impl Look {
    /// Gives what was found, or says why nothing can be.
    pub fn answer(self, result: Result<Value, String>) {
        let _ = self.answer.send(result);
    }
}

impl Ask {
    /// Says why the source cannot be looked at now.
    pub fn refuse(self, why: String) {
        match self {
            Self::Refresh(refresh) => refresh.answer(Err(why)),
            Self::Look(look) => look.answer(Err(why)),
        }
    }
}

impl Store {
    /// Has VMs read anew, and returns when the store holds them as they are now. Of collectors that cannot be asked, and
    /// of stores without one, what is known counts as long as nothing has failed.
    ///
    /// # Errors
    /// Why the source could not be read, in words for users.
    pub async fn refresh(&self, ids: Vec<String>, limit: Duration) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        if !self.ask(Ask::Refresh(Refresh { ids, answer })) {
            return self.failure().map_or(Ok(()), Err);
        }
        self.answered(answered, limit).await
    }

    /// Looks something up at the source that is not kept: `key` of a record.
    ///
    /// # Errors
    /// Why it is not to be had, in words for users.
    pub async fn look(&self, kind: &'static str, id: &str, key: &str, limit: Duration) -> Result<Value, String> {
        let (answer, answered) = oneshot::channel();
        let look = Look { kind, id: id.to_owned(), key: key.to_owned(), answer };
        if !self.ask(Ask::Look(look)) {
            return Err(self.failure().unwrap_or_else(|| "the source is not looked at".to_owned()));
        }
        self.answered(answered, limit).await
    }

    /// Utters a wish; returns whether there is somebody who hears it.
    fn ask(&self, ask: Ask) -> bool {
        self.asks().is_some_and(|asks| asks.send(ask).is_ok())
    }

    async fn answered<T>(&self, answered: oneshot::Receiver<Result<T, String>>, limit: Duration) -> Result<T, String> {
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
            let Some(Ask::Refresh(refresh)) = asks.recv().await else { panic!("nobody wants VMs read") };
            let ids = refresh.ids.clone();
            refresh.answer(Err("gone".into()));
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
