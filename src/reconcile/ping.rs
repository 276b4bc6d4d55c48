//! Whether a node can be logged in to now.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::node_task::Shared;
use crate::model::Key;

/// Tries nodes' logins.
pub trait Pinger: Send + Sync + 'static {
    /// Whether the node can be logged in to now, or why not.
    fn ping(&self, node: Key) -> BoxFuture<'_, Result<(), String>>;
}

/// A login to a node, apart from the link that is open already: it checks the credentials as they are now.
pub(super) struct Login(Arc<Shared>);

impl Login {
    pub(super) fn new(shared: Arc<Shared>) -> Login {
        Login(shared)
    }
}

impl Pinger for Login {
    fn ping(&self, node: Key) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let snapshot = self.0.state.snapshot();
            let Some(spec) = snapshot.documents.node(&node) else {
                return Err(format!("{node} does not exist"));
            };
            let target = self.0.common.target(&node, spec).await.map_err(|error| error.to_string())?;
            let link =
                self.0.connector(spec.transport).connect(&target).await.map_err(|error| error.to_string())?;
            link.close().await;
            Ok(())
        })
    }
}
