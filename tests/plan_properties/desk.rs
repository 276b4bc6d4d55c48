//! What the controller does in the store with a decision over all nodes, done to documents in memory.

use mainstay::model::{Document, Documents, Key};
use mainstay::plan::place::PlaceAction;

/// When what is deleted here was.
pub(crate) const DELETED: &str = "2026-01-01T00:00:00Z";

/// Does it, at this revision.
pub(crate) fn write(documents: &mut Documents, action: &PlaceAction, revision: u64) {
    let found = |documents: &Documents, key: &Key| documents.get(key).map(|found| Document::clone(found));
    let change = |documents: &mut Documents, key: &Key, change: &dyn Fn(&mut Document)| {
        if let Some(mut document) = found(documents, key) {
            change(&mut document);
            document.metadata.resource_version = revision.to_string();
            documents.insert(document);
        }
    };
    match action {
        PlaceAction::Create(document) | PlaceAction::Judge(document) | PlaceAction::Unlink(document) => {
            let mut document = Document::clone(document);
            document.metadata.resource_version = revision.to_string();
            documents.insert(document);
        }
        PlaceAction::Assign { process, revision: number, at_ms } => change(documents, process, &|found| {
            found.metadata.revision = *number;
            found.metadata.revised_ms = *at_ms;
        }),
        PlaceAction::Lease { process, lease, bound_ms } => change(documents, process, &|found| {
            (found.metadata.lease, found.metadata.lease_bound_ms) = (*lease, *bound_ms);
        }),
        // Nothing on a node stands for a revision, so it goes at once.
        PlaceAction::MarkDeleting(key) if documents.revision(key).is_some() => documents.remove(key),
        PlaceAction::MarkDeleting(key) => delete(documents, key, revision),
        PlaceAction::GiveUp(key) => {
            change(documents, key, &|found| found.metadata.given_up = true);
            delete(documents, key, revision);
        }
        PlaceAction::Finalize(key) => documents.remove(key),
        PlaceAction::Promote(key) | PlaceAction::Drop(key) => unreachable!("{key} waits for nothing"),
    }
}

/// Decides that an object goes.
pub(crate) fn delete(documents: &mut Documents, key: &Key, revision: u64) {
    if let Some(found) = documents.get(key) {
        let mut document = Document::clone(found);
        document.metadata.deletion_timestamp.get_or_insert_with(|| DELETED.into());
        document.metadata.resource_version = revision.to_string();
        documents.insert(document);
    }
}
