//! Takes the requests of the fan-out node of the same process.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use service::local_api::LocalApi;
use tokio::sync::oneshot;

use super::queue::{RequestSender, RpcQueue, RpcRequest};

/// The queues of this node, while it takes requests.
#[derive(Clone, Default)]
pub(crate) struct LocalRequests {
    queues: Arc<ArcSwapOption<Vec<RpcQueue>>>,
}

impl LocalRequests {
    /// Takes requests from now on.
    pub(super) fn open(&self, queues: Vec<RpcQueue>) {
        self.queues.store(Some(Arc::new(queues)));
    }

    /// Takes no further requests.
    pub(super) fn close(&self) {
        self.queues.store(None);
    }
}

impl std::fmt::Debug for LocalRequests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalRequests").field("is_open", &self.queues.load().is_some()).finish()
    }
}

impl LocalApi for LocalRequests {
    fn request(&self, subject: &str, payload: Bytes) -> Option<oneshot::Receiver<Bytes>> {
        let queues = self.queues.load();
        let queue = queues.as_ref()?.iter().find(|queue| queue.subject == subject)?;
        let (sender, answer) = oneshot::channel();
        // If too many wait, another api node may have time.
        queue.accept(RpcRequest { payload, sender: RequestSender::Local(sender) }).ok()?;
        Some(answer)
    }
}
