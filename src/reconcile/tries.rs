//! What fails on nodes, between the tasks that try and the store that keeps it, so that the next leader goes on waiting.
//!
//! Told by the nodes' tasks whenever it changes, which costs them nothing and waits for nobody: a store that is slow or away delays no node.
//! Written beside them, of all nodes together.
//!
//! **Invariant:** what is kept already is not written again; a world at rest writes nothing.
//! **Absent here:** when something is tried again, which the nodes' tasks decide. What failed in the last moment of a leader may be in no
//! store, so that the next one tries it once too early.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::model::{Documents, Key, Kind};
use crate::state::leader::Term;
use crate::state::tries::{NodeTries, Place, TriesChange};
use crate::state::{Commit, State};

/// For how long what fails is gathered before it is written: much fails at once, and is written at once.
const GATHERED_FOR: Duration = Duration::from_millis(50);

/// How long a store that did not take it is left alone.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What fails, by node. One for a controller's life; each time that it leads begins with what is stored.
#[derive(Debug, Default)]
pub(super) struct Tries {
    inner: Mutex<Inner>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// As it is; a node where nothing fails is not there.
    present: BTreeMap<Place, NodeTries>,
    /// As it is stored, as far as is known.
    stored: BTreeMap<Place, NodeTries>,
    /// Where the two may differ.
    changed: BTreeSet<Place>,
    /// Where a write may have happened or not.
    unsure: BTreeSet<Place>,
}

impl Inner {
    fn set(&mut self, place: &Place, tries: NodeTries) {
        if tries.is_empty() {
            self.present.remove(place);
        } else {
            self.present.insert(place.clone(), tries);
        }
        self.changed.insert(place.clone());
    }
}

impl Tries {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A time of leading begins, with what the leader before has left. What is left of nodes that are gone goes.
    pub(super) fn begin(&self, stored: BTreeMap<Place, NodeTries>, documents: &Documents) {
        let is_there = |(instance, node): &Place, tries: &NodeTries| {
            let key = Key::within(Kind::Node, instance.as_str(), node.as_str());
            documents.get(&key).is_some_and(|document| document.metadata.uid == tries.uid)
        };
        let mut inner = self.lock();
        *inner = Inner { present: stored.clone(), stored, ..Inner::default() };
        let gone: Vec<Place> = inner
            .present
            .iter()
            .filter(|(place, tries)| !is_there(place, tries))
            .map(|(place, _)| place.clone())
            .collect();
        gone.iter().for_each(|place| inner.set(place, NodeTries::default()));
        self.bell.notify_one();
    }

    /// Forgets everything: who does not lead writes nothing.
    pub(super) fn clear(&self) {
        *self.lock() = Inner::default();
    }

    /// What failed on the node of this document.
    pub(super) fn of(&self, place: &Place, uid: &str) -> NodeTries {
        let inner = self.lock();
        inner.present.get(place).filter(|tries| tries.uid == uid).cloned().unwrap_or_default()
    }

    /// Says what fails on a node now.
    pub(super) fn tell(&self, place: &Place, tries: NodeTries) {
        let mut inner = self.lock();
        let is_news = match inner.present.get(place) {
            Some(before) => *before != tries,
            None => !tries.is_empty(),
        };
        if is_news {
            inner.set(place, tries);
            self.bell.notify_one();
        }
    }

    /// What has to be written.
    fn news(&self) -> Vec<TriesChange> {
        let mut inner = self.lock();
        let mut changed = std::mem::take(&mut inner.changed);
        changed.extend(inner.unsure.iter().cloned());
        let differs = |place: &Place| {
            inner.unsure.contains(place) || inner.present.get(place) != inner.stored.get(place)
        };
        let changed = changed.into_iter().filter(differs);
        changed.map(|place| (place.clone(), inner.present.get(&place).cloned())).collect()
    }

    fn written(&self, changes: Vec<TriesChange>) {
        let mut inner = self.lock();
        for (place, tries) in changes {
            inner.unsure.remove(&place);
            match tries {
                Some(tries) => inner.stored.insert(place, tries),
                None => inner.stored.remove(&place),
            };
        }
    }

    fn not_written(&self, changes: Vec<TriesChange>) {
        self.lock().unsure.extend(changes.into_iter().map(|(place, _)| place));
        self.bell.notify_one();
    }

    /// Writes what changes, until another server leads.
    pub(super) async fn keep(&self, state: &State, term: Term) {
        loop {
            self.bell.notified().await;
            sleep(GATHERED_FOR).await;
            let changes = self.news();
            if changes.is_empty() {
                continue;
            }
            match state.keep_tries(&changes, term).await {
                Ok(Commit::Done) => self.written(changes),
                // Of who does not lead nothing is kept. If this one does after all, the next try will say.
                Ok(Commit::Conflict) => {
                    self.not_written(changes);
                    if matches!(state.is_present(term).await, Ok(false)) {
                        return;
                    }
                    sleep(AGAIN_AFTER).await;
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "what fails on nodes was not written"
                    );
                    self.not_written(changes);
                    sleep(AGAIN_AFTER).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Document, Metadata, Spec};
    use crate::state::tries::{StepTried, Tried};

    fn place(node: &str) -> Place {
        ("IN1".into(), node.into())
    }

    fn failing(uid: &str, tries: u32) -> NodeTries {
        let step = StepTried { aim: "gone".into(), tried: Tried { tries, ..Tried::default() } };
        NodeTries { uid: uid.into(), login: None, steps: [("p".to_owned(), step)].into() }
    }

    fn node(name: &str, uid: &str) -> Document {
        let (namespace, uid) = ("IN1".into(), uid.into());
        let metadata = Metadata { name: name.into(), namespace, uid, ..Metadata::default() };
        Document { metadata, spec: Spec::Node(Default::default()) }
    }

    #[test]
    fn what_is_kept_already_is_not_written_again() {
        let tries = Tries::default();
        tries.begin([(place("ND1"), failing("u", 2))].into(), &[node("ND1", "u")].into_iter().collect());
        assert_eq!(tries.of(&place("ND1"), "u"), failing("u", 2));
        tries.tell(&place("ND1"), failing("u", 2));
        tries.tell(&place("ND2"), NodeTries { uid: "v".into(), ..NodeTries::default() });
        assert_eq!(tries.news(), []);
        tries.tell(&place("ND1"), failing("u", 3));
        tries.tell(&place("ND1"), failing("u", 2));
        assert_eq!(tries.news(), [], "and what was only so in between never is");

        tries.tell(&place("ND1"), failing("u", 3));
        let news = tries.news();
        assert_eq!(news, [(place("ND1"), Some(failing("u", 3)))]);
        tries.written(news);
        tries.tell(&place("ND1"), NodeTries { uid: "u".into(), ..NodeTries::default() });
        let news = tries.news();
        assert_eq!(news, [(place("ND1"), None)]);
        tries.written(news);
        assert_eq!(tries.news(), []);
    }

    #[test]
    fn what_is_left_of_nodes_that_are_gone_goes() {
        let tries = Tries::default();
        let stored = ["ND1", "ND2", "ND3"].map(|name| (place(name), failing("u", 2))).into();
        tries.begin(stored, &[node("ND1", "u"), node("ND2", "another")].into_iter().collect());
        assert!(tries.of(&place("ND2"), "another").is_empty());
        assert_eq!(tries.news(), [(place("ND2"), None), (place("ND3"), None)]);
    }

    #[test]
    fn a_write_that_may_have_happened_is_made_again_whatever_is_so_by_then() {
        let tries = Tries::default();
        tries.begin(BTreeMap::new(), &Documents::default());
        tries.tell(&place("ND1"), failing("u", 2));
        tries.not_written(tries.news());
        tries.tell(&place("ND1"), NodeTries::default());
        let news = tries.news();
        assert_eq!(news, [(place("ND1"), None)]);
        tries.not_written(news);
        assert_eq!(tries.news(), [(place("ND1"), None)]);
        tries.written(tries.news());
        assert_eq!(tries.news(), []);
        tries.tell(&place("ND1"), failing("u", 2));
        tries.clear();
        assert_eq!(tries.news(), [], "who does not lead writes nothing");
    }
}
