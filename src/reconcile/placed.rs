//! What was decided over all nodes last, for everyone who shows it.

use std::sync::Arc;

use imbl::OrdMap;
use tokio::sync::watch;

use crate::model::Key;
use crate::plan::place::{Frozen, PlaceHold, Placement};
use crate::plan::standing::ServiceStatus;

/// What is known of a decision once it is carried out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decided {
    /// How each service stands.
    pub services: OrdMap<Key, Arc<ServiceStatus>>,
    /// Why nothing is done, by object.
    pub holds: OrdMap<Key, PlaceHold>,
    /// Why no failover is made at present.
    pub frozen: Option<Frozen>,
}

/// The last decision. A handle; clones show the same. Empty while this server does not lead.
#[derive(Debug, Clone)]
pub struct Placed {
    sender: Arc<watch::Sender<Arc<Decided>>>,
}

impl Default for Placed {
    fn default() -> Placed {
        Placed { sender: Arc::new(watch::Sender::default()) }
    }
}

impl Placed {
    /// The last decision.
    pub fn last(&self) -> Arc<Decided> {
        Arc::clone(&self.sender.borrow())
    }

    /// A bell that rings when something is decided otherwise.
    pub fn changes(&self) -> watch::Receiver<Arc<Decided>> {
        self.sender.subscribe()
    }

    pub(super) fn set(&self, placement: &Placement) {
        let Placement { services, holds, frozen, .. } = placement;
        let decided = Decided { services: services.clone(), holds: holds.clone(), frozen: *frozen };
        self.sender.send_if_modified(|last| {
            let is_news = **last != decided;
            if is_news {
                *last = Arc::new(decided);
            }
            is_news
        });
    }

    pub(super) fn clear(&self) {
        self.sender.send_replace(Arc::default());
    }
}
