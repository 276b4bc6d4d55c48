//! What the controller does in the store with a decision over all nodes, done to documents in memory.

use mainstay::model::{Document, Documents, Key};
use mainstay::plan::place::PlaceAction;

/// When what is deleted here was.
pub(crate) const DELETED: &str = "2026-01-01T00:00:00Z";

/// Does it, at this revision.
pub(crate) fn write(documents: &mut Documents, action: &PlaceAction, revision: u64) {
    if let Some(write) = mainstay::plan::written::write(documents, action.clone(), DELETED) {
        write.apply(documents, revision);
    }
}

/// Decides that an object goes.
#[allow(dead_code, reason = "the stories leave documents out instead")]
pub(crate) fn delete(documents: &mut Documents, key: &Key, revision: u64) {
    if let Some(found) = documents.get(key) {
        let mut document = Document::clone(found);
        document.metadata.deletion_timestamp.get_or_insert_with(|| DELETED.into());
        document.metadata.resource_version = revision.to_string();
        documents.insert(document);
    }
}
