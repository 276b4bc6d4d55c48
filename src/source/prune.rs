//! What a source may delete by itself. Pure.
//!
//! An unmounted disk, a wrong branch and a cleaned folder look the same. So a change that would take a lot away waits for people, as a
//! whole: what else it says would be half of what somebody meant.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::board::Approval;
use crate::model::Key;
use crate::model::secret::hex;
use crate::state::Edit;

/// Fewer deletions than these wait for nobody, unless nothing is left.
const AT_LEAST: usize = 5;

/// From which share of its objects on a source waits before it deletes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneLimit {
    /// In percent; more than that waits.
    pub percent: u8,
}

impl Default for PruneLimit {
    fn default() -> PruneLimit {
        PruneLimit { percent: 30 }
    }
}

/// The objects that edits delete: each by its name and its uid, for a later one of that name is another.
pub(super) type Deletions = BTreeSet<(Key, String)>;

/// What edits delete.
pub(super) fn deletions(edits: &[Edit]) -> Deletions {
    let deleted = |edit: &Edit| match edit {
        Edit::Remove(document) => Some((document.key(), document.metadata.uid.clone())),
        Edit::Replace(document) if document.is_deleting() => {
            Some((document.key(), document.metadata.uid.clone()))
        }
        Edit::Replace(_) | Edit::Create(_) | Edit::Expect(_) => None,
    };
    edits.iter().filter_map(deleted).collect()
}

/// What names exactly these deletions.
pub(super) fn digest(deletions: &Deletions) -> String {
    let mut digest = Sha256::new();
    for (key, uid) in deletions {
        digest.update(format!("{key} {uid}\n"));
    }
    hex(&digest.finalize()[..8])
}

/// What people have to approve before a source with so many objects, in which so many documents stand now, deletes these; none when
/// nobody has to.
pub(super) fn limited(
    limit: PruneLimit,
    documents: usize,
    of: usize,
    deletions: &Deletions,
) -> Option<Approval> {
    let count = deletions.len();
    let is_many = count >= AT_LEAST && count * 100 > usize::from(limit.percent) * of;
    let is_all = count > 0 && documents == 0;
    (is_many || is_all).then(|| Approval {
        digest: digest(deletions),
        deletes: deletions.iter().map(|(key, _)| key.to_string()).collect(),
        of,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn some(count: usize) -> Deletions {
        (0..count).map(|number| (Key::cluster(Kind::Tenant, format!("t{number}")), "uid".into())).collect()
    }

    fn waits(percent: u8, documents: usize, of: usize, count: usize) -> bool {
        limited(PruneLimit { percent }, documents, of, &some(count)).is_some()
    }

    #[test]
    fn a_change_waits_when_it_takes_away_more_than_the_share_and_at_least_five_or_all() {
        assert!(!waits(30, 1, 5, 4), "four are few");
        assert!(waits(30, 5, 10, 5));
        assert!(!waits(30, 15, 20, 5) && !waits(30, 14, 20, 6), "30 % is the limit and not over it");
        assert!(waits(30, 13, 20, 7));
        assert!(waits(30, 0, 1, 1), "nothing is left");
        assert!(!waits(30, 0, 0, 0), "nothing is deleted");
        assert!(!waits(100, 1, 20, 19) && waits(100, 0, 20, 20));
        assert!(waits(0, 95, 100, 5) && !waits(0, 96, 100, 4));
    }

    #[test]
    fn the_digest_is_that_of_the_objects_and_not_of_their_names() {
        let mut other = some(3);
        assert_eq!(digest(&some(3)), digest(&other));
        other.pop_first();
        assert_ne!(digest(&some(3)), digest(&other));
        other.insert((Key::cluster(Kind::Tenant, "t0"), "another".into()));
        assert_ne!(digest(&some(3)), digest(&other));
    }
}
