//! What a folder declares, as a reader finds it whom nobody disturbs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mainstay::model::Spec;
use mainstay::model::admit::{Origin, admit_text};
use mainstay::model::secret::{KEY_BYTES, Sealer};

/// The version of each document, by its name.
pub(crate) type State = BTreeMap<String, String>;

/// A document.
pub(crate) fn document(name: &str, version: u64) -> String {
    format!(
        "apiVersion: mainstay.dev/v1\nkind: Tenant\nmetadata: {{name: {name}}}\nspec: {{name: v{version}}}\n"
    )
}

/// Seals what tests declare, which has no secrets.
pub(crate) fn sealer() -> Sealer {
    Sealer::new([7; KEY_BYTES])
}

/// The manifests of a folder, hidden ones and what editors leave aside; in no order.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with(['.', '#']) {
            continue;
        }
        // Behind a link are the folders of a ConfigMap.
        if path.is_dir() {
            found.extend(files(&path));
        } else if name.ends_with(".yaml") {
            found.push(path);
        }
    }
    found
}

thread_local! {
    /// What texts declare; most are asked for many times.
    static KNOWN: RefCell<BTreeMap<String, Option<State>>> = const { RefCell::new(BTreeMap::new()) };
}

/// What a text declares; none when it is no manifest.
fn declared(text: &str) -> Option<State> {
    if let Some(known) = KNOWN.with_borrow(|known| known.get(text).cloned()) {
        return known;
    }
    let admitted = admit_text(text, &Origin::default(), &sealer()).ok();
    let state = admitted.map(|set| {
        set.into_iter()
            .map(|admitted| {
                let Spec::Tenant(tenant) = admitted.document.spec else { panic!("only tenants are written") };
                (admitted.document.metadata.name, tenant.name)
            })
            .collect()
    });
    KNOWN.with_borrow_mut(|known| known.insert(text.to_owned(), state.clone()));
    state
}

/// What a folder was like at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    /// What it declared.
    pub(crate) state: State,
    /// Whether one of its files held nothing, as one that is being written: then nothing may be deleted.
    pub(crate) has_empty: bool,
}

/// What a folder declares; none where it can't be read whole, or holds a mistake.
pub(crate) fn truth(root: &Path) -> Option<Moment> {
    let real = root.canonicalize().ok()?;
    let mut state = State::new();
    let mut has_empty = false;
    for path in files(&real) {
        let target = path.canonicalize().ok()?;
        if !target.starts_with(&real) || !target.is_file() {
            return None;
        }
        let text = std::fs::read_to_string(&target).unwrap();
        has_empty |= text.trim().is_empty();
        for (name, version) in declared(&text)? {
            if state.insert(name, version).is_some() {
                return None;
            }
        }
    }
    Some(Moment { state, has_empty })
}
