//! What was decided over all nodes last, for everyone who shows it.

use std::sync::Arc;

use imbl::OrdMap;
use tokio::sync::watch;

use crate::model::Key;
use crate::plan::place::{Frozen, PlaceHold, Placement};
use crate::plan::standing::ServiceStatus;

/// Since when each condition of a service has been as it is, in milliseconds since 1970. Not longer than this server has led.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Since {
    /// Available.
    pub available_ms: u64,
    /// Progressing.
    pub progressing_ms: u64,
    /// Degraded.
    pub degraded_ms: u64,
}

/// What is known of a decision once it is carried out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decided {
    /// How each service stands.
    pub services: OrdMap<Key, Arc<ServiceStatus>>,
    /// Since when each has been so.
    pub since: OrdMap<Key, Since>,
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

    /// Shows a decision, made at this time.
    pub(super) fn set(&self, placement: &Placement, now_ms: u64) {
        let Placement { services, holds, frozen, .. } = placement;
        self.sender.send_if_modified(|last| {
            // Mostly nothing is news, and since when all is so follows from how it is.
            if last.services == *services && last.holds == *holds && last.frozen == *frozen {
                return false;
            }
            let since = services.iter().map(|(key, status)| {
                let before = last.services.get(key).map(AsRef::as_ref).zip(last.since.get(key).copied());
                (key.clone(), since(before, status, now_ms))
            });
            let since = since.collect();
            let (services, holds) = (services.clone(), holds.clone());
            *last = Arc::new(Decided { services, since, holds, frozen: *frozen });
            true
        });
    }

    pub(super) fn clear(&self) {
        self.sender.send_replace(Arc::default());
    }
}

/// A condition is another one when its status is, whatever is said of it.
fn since(before: Option<(&ServiceStatus, Since)>, now: &ServiceStatus, now_ms: u64) -> Since {
    let at = |is_same: bool, since_ms: u64| if is_same { since_ms } else { now_ms };
    let Some((last, since)) = before else {
        return Since { available_ms: now_ms, progressing_ms: now_ms, degraded_ms: now_ms };
    };
    Since {
        available_ms: at(last.is_available.status == now.is_available.status, since.available_ms),
        progressing_ms: at(last.progressing.status == now.progressing.status, since.progressing_ms),
        degraded_ms: at(last.degraded.status == now.degraded.status, since.degraded_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;
    use crate::plan::standing::Condition;

    fn placement(available: Condition, message: &str) -> Placement {
        let status = ServiceStatus {
            observed_generation: 1,
            revision: 1,
            desired: 1,
            placed: 1,
            updated: 1,
            available: 1,
            unknown: 0,
            is_available: available,
            progressing: Condition::no("Complete", message),
            degraded: Condition::no("AsExpected", ""),
        };
        let key = Key::within(Kind::Service, "IN1", "SV1");
        Placement { services: OrdMap::from_iter([(key, Arc::new(status))]), ..Placement::default() }
    }

    #[test]
    fn a_condition_has_been_so_since_its_status_changed_and_not_since_its_message_did() {
        let placed = Placed::default();
        let since = || placed.last().since.values().copied().collect::<Vec<_>>();
        placed.set(&placement(Condition::yes("Enough", ""), "a"), 1_000);
        placed.set(&placement(Condition::yes("Enough", ""), "b"), 2_000);
        assert_eq!(since(), [Since { available_ms: 1_000, progressing_ms: 1_000, degraded_ms: 1_000 }]);
        placed.set(&placement(Condition::no("TooFew", ""), "b"), 3_000);
        assert_eq!(since(), [Since { available_ms: 3_000, progressing_ms: 1_000, degraded_ms: 1_000 }]);
    }
}
