//! What a decision over all nodes is in the documents: for who writes it into the store, and for who only foresees it.

use super::place::PlaceAction;
use crate::model::{Document, Documents, Key};

/// A change of one document.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Make an object.
    Create(Document),
    /// Have this one, which waits, take the place of what it waited for.
    Promote(Document),
    /// Give an object that is there this content.
    Replace(Document),
    /// Take an object out; this is how it was.
    Remove(Document),
}

/// What an action changes, by the documents as they are; none where the object is not there any more. `now` is what is written down as the
/// time of a deletion.
pub fn write(documents: &Documents, action: PlaceAction, now: &str) -> Option<Write> {
    let found = |key: &Key| documents.get(key).map(|found| Document::clone(found));
    let waiting = |key: &Key| documents.successor(key).map(|found| Document::clone(found));
    match action {
        PlaceAction::Create(document) => Some(Write::Create(*document)),
        PlaceAction::Judge(document) => Some(Write::Replace(*document)),
        PlaceAction::MarkDeleting(key) => found(&key).map(|found| deletion(found, now)),
        PlaceAction::GiveUp(key) => found(&key).map(|mut found| {
            found.metadata.given_up = true;
            deletion(found, now)
        }),
        PlaceAction::Assign { process, revision, at_ms } => found(&process).map(|mut found| {
            (found.metadata.revision, found.metadata.revised_ms) = (revision, at_ms);
            Write::Replace(found)
        }),
        PlaceAction::Lease { process, lease, bound_ms } => found(&process).map(|mut found| {
            (found.metadata.lease, found.metadata.lease_bound_ms) = (lease, bound_ms);
            Write::Replace(found)
        }),
        PlaceAction::Finalize(key) => found(&key).map(Write::Remove),
        PlaceAction::Unlink(document) => {
            documents.get(&document.key())?.with_spec(document.spec).map(Write::Replace)
        }
        PlaceAction::Promote(key) => waiting(&key).map(Write::Promote),
        PlaceAction::Drop(key) => waiting(&key).map(Write::Remove),
    }
}

fn deletion(document: Document, now: &str) -> Write {
    document.deleted(now).map_or_else(|| Write::Remove(document), Write::Replace)
}

impl Write {
    /// Does it to documents in memory, at this revision.
    pub fn apply(self, documents: &mut Documents, revision: u64) {
        match self {
            Write::Create(mut document) | Write::Replace(mut document) => {
                document.metadata.resource_version = revision.to_string();
                documents.insert(document);
            }
            Write::Promote(mut document) => {
                documents.remove_waiting(&document.key());
                document.metadata.waiting = false;
                document.metadata.resource_version = revision.to_string();
                documents.insert(document);
            }
            Write::Remove(document) if document.metadata.waiting => {
                documents.remove_waiting(&document.key());
            }
            Write::Remove(document) => documents.remove(&document.key()),
        }
    }
}
