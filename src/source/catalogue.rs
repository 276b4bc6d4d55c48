//! The documents that are shipped with the program: the platform's service types and integrations.

use std::collections::BTreeSet;

use crate::clock::timestamp;
use crate::model::admit::{Admitted, Origin, admit_text};
use crate::model::meta::SOURCE;
use crate::model::secret::{KEY_BYTES, Sealer};
use crate::model::{Documents, Problem};
use crate::state::{CATALOGUE, Commit, State, StateError, apply_set};

const FILES: [(&str, &str); 2] = [
    ("service-types.yaml", include_str!("../../manifests/service-types.yaml")),
    ("integrations.yaml", include_str!("../../manifests/integrations.yaml")),
];

/// The shipped documents.
///
/// # Errors
/// Never in a program that was tested: `tests/manifests.rs` admits them all.
pub fn documents() -> Result<Vec<Admitted>, Vec<Problem>> {
    // They hold no secrets, so the key does not matter.
    let sealer = Sealer::new([0; KEY_BYTES]);
    let mut all = Vec::new();
    for (file, text) in FILES {
        let origin = Origin { file: Some(file.into()), directory: None };
        all.extend(admit_text(text, &origin, &sealer)?);
    }
    Ok(all)
}

/// Puts the shipped documents into the store, but for those that somebody has made their own, or deleted.
///
/// # Errors
/// When the store did not take them.
pub async fn install(state: &State) -> Result<(), StateError> {
    loop {
        let documents = state.snapshot().documents;
        let Ok(mut set) = self::documents() else { return Ok(()) };
        set.retain(|admitted| is_ours(&documents, admitted));
        let mut unwanted = BTreeSet::new();
        for key in set.iter().map(|admitted| admitted.document.key()) {
            if documents.get(&key).is_none() && state.is_aside(&key).await? {
                unwanted.insert(key);
            }
        }
        set.retain(|admitted| !unwanted.contains(&admitted.document.key()));
        let Ok(change) = apply_set(&documents, CATALOGUE, &set, &timestamp()) else { return Ok(()) };
        if change.edits.is_empty() || state.commit(&change.edits, None).await? == Commit::Done {
            return Ok(());
        }
    }
}

fn is_ours(documents: &Documents, admitted: &Admitted) -> bool {
    documents
        .get(&admitted.document.key())
        .is_none_or(|found| found.metadata.annotations.get(SOURCE).is_some_and(|owner| owner == CATALOGUE))
}
