//! Whether a node can be logged in to now, and taking a person's word for who it is.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::node_task::Shared;
use super::observed::LinkState;
use super::target;
use crate::model::Key;
use crate::node::link::LinkError;

/// Why a person's word was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// It would change nothing, or more than the person can have looked at.
    #[error("{0}")]
    Refused(String),
    /// The key's record can't be removed.
    #[error("the recorded key of {node} can't be removed from the data folder: {why}")]
    Record {
        /// The node.
        node: Key,
        /// What the system said.
        why: String,
    },
}

/// Tries nodes' logins, and takes a person's word for whom a login may go to.
pub trait Pinger: Send + Sync + 'static {
    /// Whether the node can be logged in to now, or why not.
    fn ping(&self, node: Key) -> BoxFuture<'_, Result<(), String>>;

    /// A person has checked the changed host key of a node: forgets the recorded one, and has the node connected to at once. The key
    /// that answers then is recorded as on first use.
    ///
    /// Only for a node that is in quarantine: to forget the key of another would open a door that nobody looks at.
    ///
    /// # Errors
    /// When the node is not in quarantine, its document pins the key, or the record can't be removed.
    fn trust(&self, node: &Key) -> Result<(), TrustError>;
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
            // One that waits for an older node to go is the one that people ask about.
            let documents = snapshot.documents.declared();
            let Some(spec) = documents.node(&node) else {
                return Err(format!("{node} does not exist"));
            };
            let target = self.0.common.target(&node, spec).await.map_err(|error| error.to_string())?;
            let link =
                self.0.connector(spec.transport).connect(&target).await.map_err(|error| error.to_string())?;
            link.close().await;
            Ok(())
        })
    }

    fn trust(&self, node: &Key) -> Result<(), TrustError> {
        let refused = |why: &str| Err(TrustError::Refused(format!("{node}: {why}")));
        let snapshot = self.0.state.snapshot();
        let Some(spec) = snapshot.documents.node(node) else { return refused("it does not exist") };
        if spec.host_key.is_some() {
            return refused("its document pins the key; change `host-key` there");
        }
        let quarantine = LinkError::HostKeyChanged(String::new()).name();
        match self.0.observed.node(&node.namespace, &node.name).map(|view| view.link.clone()) {
            Some(LinkState::Down { name, .. }) if name == quarantine => {}
            _ => return refused("its host key has not changed, so there is nothing to trust"),
        }
        let name = target::name_of(node);
        self.0
            .connector(spec.transport)
            .forget_host_key(&name)
            .map_err(|error| TrustError::Record { node: node.clone(), why: error.to_string() })?;
        tracing::warn!(%node, "a person trusts its changed host key");
        self.0.asked.send_modify(|asked| *asked.entry(node.clone()).or_default() += 1);
        Ok(())
    }
}
