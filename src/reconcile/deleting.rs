//! What is being deleted, and what that waits for, for people: `/1.0` no longer shows such an object, and somebody may wonder.
//!
//! A message names the node that is waited for and how that is, and nothing that changes from one look to the next.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use super::events::Said;
use super::observed::{LinkState, NodeView, Views};
use crate::clock::rfc3339;
use crate::model::{Document, Documents, Key, Kind};
use crate::plan::place::PlaceHold;

/// How long a chain of what waits for what can be: an instance for a node, that for a process, that for its node.
const MAX_CHAIN: usize = 4;

/// What is so at present.
pub(super) fn told(documents: &Documents, holds: &OrdMap<Key, PlaceHold>, views: &Views) -> BTreeSet<Said> {
    let deleting = documents.deleting().filter_map(|(key, document)| {
        let message = waits(documents, holds, views, key)?;
        Some(said(document, "Deleting", "NotClean", message))
    });
    let waiting = documents.waiting().map(|(key, document)| {
        let older = if documents.get(key).is_some() {
            "the older one of the same name".to_owned()
        } else {
            let needed = document.needs().into_iter().find(|need| documents.live(need).is_none());
            needed.map_or_else(
                || "its turn".into(),
                |needed| format!("{needed}, which waits itself or is going"),
            )
        };
        said(document, "Waiting", "OlderIsDeleting", format!("it is declared and waits for {older}"))
    });
    deleting.chain(waiting).collect()
}

fn said(document: &Document, action: &'static str, reason: &'static str, message: String) -> Said {
    Said { regarding: document.key().to_string(), action, reason, message }
}

/// What a deletion waits for in the end: a node that has to confirm something.
fn waits(documents: &Documents, holds: &OrdMap<Key, PlaceHold>, views: &Views, key: &Key) -> Option<String> {
    let mut at = key.clone();
    for _ in 0..MAX_CHAIN {
        match holds.get(&at)? {
            PlaceHold::NoNode { .. }
            | PlaceHold::Occupied(_)
            | PlaceHold::MoveWaits { .. }
            | PlaceHold::NowhereElse { .. }
            | PlaceHold::RolloutWaits { .. }
            | PlaceHold::RolloutCordoned { .. }
            | PlaceHold::RolloutPaused { .. }
            | PlaceHold::RolloutFailed { .. } => return None,
            PlaceHold::GivesUp { .. } | PlaceHold::Unfenced { .. } | PlaceHold::Frozen { .. } => {
                return Some(format!("waits for {at}"));
            }
            PlaceHold::WaitsFor(node) | PlaceHold::NodeUnknown(node) if at.kind == Kind::Process => {
                let what = if at == *key { "it is gone" } else { "the processes there are gone" };
                let view = views.get(&(node.namespace.clone(), node.name.clone()));
                return Some(format!(
                    "waits for {node}{}, to confirm that {what}",
                    how(view.map(Arc::as_ref))
                ));
            }
            PlaceHold::WaitsFor(other) if documents.live(other).is_some() => {
                // About to be marked.
                return Some(format!("waits for {other}"));
            }
            PlaceHold::WaitsFor(other) | PlaceHold::NodeUnknown(other) => at = other.clone(),
        }
    }
    Some(format!("waits for {at}"))
}

/// How a node is, where that is why it does not answer.
fn how(view: Option<&NodeView>) -> String {
    match view.map(|view| (&view.link, view.sighting.complete)) {
        None => ", which was not tried yet".into(),
        Some((LinkState::Connecting, _)) => ", which is being connected to".into(),
        Some((LinkState::Connected { .. }, true)) => String::new(),
        Some((LinkState::Connected { .. }, false)) => ", which is being read".into(),
        Some((LinkState::Down { name, since_ms, .. }, _)) => {
            format!(", which is not reached since {} ({name})", rfc3339(*since_ms))
        }
    }
}
