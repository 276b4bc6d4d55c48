//! Which nodes are connected now, for who wants to read or send bytes there beside the conversation.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::node::side::Sides;

/// A node that is connected.
#[derive(Clone)]
pub(super) struct Reach {
    /// Opens side channels there, for as long as this connection lives.
    pub(super) sides: Arc<dyn Sides>,
    /// Our directory there.
    pub(super) root: String,
}

type Reaches = BTreeMap<(String, String), Reach>;

/// The nodes that are connected, by (instance, node). Told by the nodes' tasks.
#[derive(Clone)]
pub struct Connected {
    sender: Arc<watch::Sender<Reaches>>,
}

impl Default for Connected {
    fn default() -> Connected {
        Connected { sender: Arc::new(watch::Sender::default()) }
    }
}

impl Connected {
    /// Tells that a node is connected, until what is returned is dropped.
    pub(super) fn tell(&self, node: &(String, String), reach: Reach) -> Told {
        self.sender.send_modify(|all| drop(all.insert(node.clone(), reach)));
        Told { connected: self.clone(), node: node.clone() }
    }

    /// How to reach a node now, if it is connected.
    pub(super) fn reach(&self, node: &(String, String)) -> Option<Reach> {
        self.sender.borrow().get(node).cloned()
    }

    /// Waits until a node is connected.
    pub(super) async fn wait_for(&self, node: &(String, String)) {
        // It can't end while it is waited for: the sender is ours.
        let _ = self.sender.subscribe().wait_for(|all| all.contains_key(node)).await;
    }
}

/// Keeps a node told of as connected.
pub(super) struct Told {
    connected: Connected,
    node: (String, String),
}

impl Drop for Told {
    fn drop(&mut self) {
        self.connected.sender.send_modify(|all| drop(all.remove(&self.node)));
    }
}
