//! Admits a reading: each file by itself, and a file again only when it changed.
//!
//! **Invariant:** what is kept has no text of a manifest, which may hold a password in clear.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::artifacts::{admit_all, is_meant_for_us};
use super::reading::{Manifest, Stamps, Text};
use crate::model::Problem;
use crate::model::admit::{Admitted, Origin, admit_text};
use crate::model::secret::Sealer;

/// What is known of the files of a source.
#[derive(Debug, Default)]
pub(super) struct Door {
    stamps: Stamps,
    /// The documents of each file that has a stamp.
    admitted: BTreeMap<String, Vec<Admitted>>,
}

impl Door {
    /// The stamps of what is known.
    pub(super) fn stamps(&self) -> Stamps {
        Arc::clone(&self.stamps)
    }

    /// Admits all documents of a reading, or none.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(super) fn admit(
        &mut self,
        manifests: &[Manifest],
        sealer: &Sealer,
    ) -> Result<Vec<Admitted>, Vec<Problem>> {
        let names: BTreeSet<&str> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
        let stamps = Arc::make_mut(&mut self.stamps);
        stamps.retain(|name, _| names.contains(name.as_str()));
        self.admitted.retain(|name, _| names.contains(name.as_str()));
        admit_all(manifests, |manifest| {
            let wrong = |why: &str| vec![manifest.problem(why.to_owned())];
            let text = match &manifest.text {
                Text::Read(text) => text,
                Text::Unreadable(why) => return Err(wrong(why)),
                Text::Known => {
                    let known = self.admitted.get(&manifest.name);
                    return known.cloned().ok_or_else(|| wrong("was not read; it will be"));
                }
            };
            let directory = manifest.path.as_deref().and_then(Path::parent).map(Path::to_path_buf);
            let origin = Origin { file: Some(manifest.name.clone()), directory };
            let admitted = admit_text(text, &origin, sealer)?;
            match manifest.stamp.clone().filter(|_| is_meant_for_us(manifest)) {
                Some(stamp) => {
                    stamps.insert(manifest.name.clone(), stamp);
                    self.admitted.insert(manifest.name.clone(), admitted.clone());
                }
                None => {
                    stamps.remove(&manifest.name);
                    self.admitted.remove(&manifest.name);
                }
            }
            Ok(admitted)
        })
    }

    /// Has a file be read again though it did not change; false when it would be anyway.
    pub(super) fn forget(&mut self, name: &str) -> bool {
        Arc::make_mut(&mut self.stamps).remove(name);
        self.admitted.remove(name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::KEY_BYTES;

    const TENANT: &str = "apiVersion: mainstay.dev/v1\nkind: Tenant\nmetadata: {name: a}\nspec: {name: a}\n";

    fn manifest(stamp: Option<&str>, text: Text) -> Manifest {
        Manifest { name: "a.yaml".into(), path: None, stamp: stamp.map(str::to_owned), text }
    }

    fn admit(door: &mut Door, manifest: Manifest) -> Result<usize, Vec<Problem>> {
        door.admit(&[manifest], &Sealer::new([0; KEY_BYTES])).map(|set| set.len())
    }

    #[test]
    fn what_has_a_stamp_need_not_be_read_again_until_it_is_forgotten() {
        let mut door = Door::default();
        let text = || Text::Read(TENANT.into());
        assert_eq!(admit(&mut door, manifest(Some("1"), text())), Ok(1));
        assert_eq!(door.stamps()["a.yaml"], "1");
        assert_eq!(admit(&mut door, manifest(Some("1"), Text::Known)), Ok(1));
        assert!(door.forget("a.yaml") && !door.forget("a.yaml"));
        assert!(door.stamps().is_empty());
        assert!(admit(&mut door, manifest(Some("1"), Text::Known)).is_err(), "it is never taken for empty");
    }

    #[test]
    fn what_has_no_stamp_or_is_gone_is_not_kept() {
        let mut door = Door::default();
        let text = || Text::Read(TENANT.into());
        assert_eq!(admit(&mut door, manifest(Some("1"), text())), Ok(1));
        assert_eq!(admit(&mut door, manifest(None, text())), Ok(1));
        assert!(door.stamps().is_empty());
        assert_eq!(admit(&mut door, manifest(Some("1"), text())), Ok(1));
        assert!(door.admit(&[], &Sealer::new([0; KEY_BYTES])).is_ok_and(|set| set.is_empty()));
        assert!(door.stamps().is_empty() && door.admitted.is_empty());
    }
}
