//! Work queues: one per kind, fed by the watches and by the reconcilers themselves, drained by kube's applier, which
//! keeps one run per object, merges what arrives meanwhile, and bounds how many run at a time.
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures::StreamExt;
use kube::Resource;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::status::ReconcileError;

/// The sending side of a work queue.
pub struct Queue<K: Resource> {
    sender: mpsc::UnboundedSender<ObjectRef<K>>,
}

impl<K: Resource> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

/// The receiving side of a work queue.
pub type Work<K> = mpsc::UnboundedReceiver<ObjectRef<K>>;

impl<K> Queue<K>
where
    K: Resource,
    K::DynamicType: Default,
{
    /// Makes a queue.
    pub fn new() -> (Self, Work<K>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender }, receiver)
    }

    /// Asks for a run on the named object; nothing happens when it does not exist.
    pub fn push(&self, namespace: &str, name: &str) {
        // A closed queue means that the controllers are stopping: nothing is lost, the next start looks at everything.
        let _ = self.sender.send(ObjectRef::new(name).within(namespace));
    }
}

/// Runs a reconciler over a queue until `cancel`; runs that have begun are finished.
pub async fn drive<K, C, F, Fut>(
    store: Store<K>,
    work: Work<K>,
    concurrency: u16,
    context: Arc<C>,
    cancel: CancellationToken,
    reconcile: F,
) where
    K: Resource + Clone + Send + Sync + 'static,
    K::DynamicType: Default + Debug + Eq + Hash + Clone + Unpin,
    C: Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<C>) -> Fut,
    Fut: Future<Output = Result<Action, ReconcileError>> + Send + 'static,
{
    let queue = UnboundedReceiverStream::new(work).take_until(cancel.cancelled_owned()).map(Ok::<_, Infallible>);
    let runs = controller::applier(
        move |object, context| Box::pin(reconcile(object, context)),
        |object, error: &ReconcileError, _| {
            error.log(&K::kind(&Default::default()), object.meta());
            Action::requeue(error.retry_after())
        },
        context,
        store,
        queue,
        controller::Config::default().concurrency(concurrency),
    );
    runs.for_each(|result| async move {
        match result {
            Ok(_) | Err(controller::Error::ObjectNotFound(_) | controller::Error::ReconcilerFailed(..)) => {}
            Err(error @ controller::Error::RunnerError(_)) => tracing::error!(%error, "a work queue stopped"),
            Err(controller::Error::QueueError(never)) => match never {},
        }
    })
    .await;
}
