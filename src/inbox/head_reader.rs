//! Reads of heads, gathered as commits are: one statement for all that wait.
//!
//! When ten thousand streams come back at once, each needs its head and most need
//! nothing else. A head that is answered was read after it was asked for.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::{
    model::InboxKey,
    store::{self, Snapshot, Store},
};

/// The most heads of one statement.
const BATCH: usize = 256;
/// Who asks when this many wait already waits for a place.
const QUEUE: usize = 4096;

struct Ask {
    inbox: InboxKey,
    answer: oneshot::Sender<Result<Snapshot, Arc<store::Error>>>,
}

/// Where heads are asked for.
pub(super) struct HeadReader(mpsc::Sender<Ask>);

impl HeadReader {
    /// Starts the lane on the present tokio runtime; it ends with this.
    pub(super) fn start(store: Arc<dyn Store>) -> Self {
        let (queue, asks) = mpsc::channel(QUEUE);
        tokio::spawn(answer(store, asks));
        Self(queue)
    }

    /// Reads a head. Cancel safe.
    pub(super) async fn read(&self, inbox: &InboxKey) -> Result<Snapshot, Arc<store::Error>> {
        let stopped = || {
            Arc::new(store::Error::Unavailable(
                "the lane of heads has ended".into(),
            ))
        };
        let (answer, answered) = oneshot::channel();
        let ask = Ask {
            inbox: inbox.clone(),
            answer,
        };
        self.0.send(ask).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

async fn answer(store: Arc<dyn Store>, mut asks: mpsc::Receiver<Ask>) {
    let mut waiting = Vec::new();
    while asks.recv_many(&mut waiting, BATCH).await > 0 {
        let (inboxes, answers): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|ask| (ask.inbox, ask.answer)).unzip();
        match store.heads(&inboxes).await {
            Ok(heads) => {
                for (answer, head) in answers.into_iter().zip(heads) {
                    // Who went away does not need it.
                    let _ = answer.send(Ok(head));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}
