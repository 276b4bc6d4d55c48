//! What a change of documents would do on the nodes, as this server sees them now: for all who show it before it is made.

use std::path::Path;

use crate::clock::Clock;
use crate::model::Documents;
use crate::plan::render::Surroundings;
use crate::plan::whatif::{Foresight, Present, foresee};
use crate::plan::world::{Freeze, World};
use crate::reconcile::observed::Observed;
use crate::state::Snapshot;

/// Foresees. A handle; clones see the same.
#[derive(Debug, Clone)]
pub struct Outlook {
    observed: Observed,
    surroundings: Surroundings,
    freeze: Freeze,
    clock: Clock,
}

impl Outlook {
    /// What foresees as the controller of the same arguments decides.
    pub fn new(observed: Observed, program: &Path, freeze: Freeze, clock: Clock) -> Outlook {
        let surroundings = Surroundings { mainstay: program.display().to_string(), root: None };
        Outlook { observed, surroundings, freeze, clock }
    }

    /// What comes of these documents in the place of a snapshot's. Takes as long as what is concerned is large, so it is no work for a thread that
    /// others wait for.
    pub fn foresee(&self, snapshot: &Snapshot, changed: &Documents) -> Foresight {
        let views = self.observed.all();
        let world = World {
            documents: &snapshot.documents,
            seen: &views,
            now_ms: self.clock.now_ms(),
            // Who has just begun to look makes no failover yet; what is foreseen is what comes of it then.
            since_ms: 0,
            freeze: self.freeze,
        };
        let present = Present { world, revision: snapshot.revision, surroundings: &self.surroundings };
        foresee(&present, changed)
    }
}
