//! Which documents have something in common, as a persistent map: a copy costs nothing.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::document::Document;

/// Documents of one kind by something that they say, each group in one instance and ordered by name.
///
/// **Invariant:** no group is empty.
#[derive(Debug, Clone)]
pub(super) struct Index<K: Ord> {
    groups: OrdMap<K, OrdSet<Member>>,
}

impl<K: Ord> Default for Index<K> {
    fn default() -> Index<K> {
        Index { groups: OrdMap::new() }
    }
}

impl<K: Ord + Clone> Index<K> {
    /// Enters a document, in the place of an older one of its name.
    pub(super) fn add(&mut self, of: K, document: &Arc<Document>) {
        self.groups.entry(of).or_default().insert(Member(Arc::clone(document)));
    }

    /// Takes a document out.
    pub(super) fn take(&mut self, of: &K, name: &str) {
        if let Some(group) = self.groups.get_mut(of) {
            group.remove(name);
            if group.is_empty() {
                self.groups.remove(of);
            }
        }
    }

    /// A group, by name.
    pub(super) fn of<'a>(&'a self, of: &K) -> impl Iterator<Item = &'a Arc<Document>> + use<'a, K> {
        self.groups.get(of).into_iter().flatten().map(|Member(document)| document)
    }

    /// How many are in a group.
    pub(super) fn count(&self, of: &K) -> usize {
        self.groups.get(of).map_or(0, OrdSet::len)
    }

    /// All groups, in order, and how many are in each.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&K, usize)> {
        self.groups.iter().map(|(of, group)| (of, group.len()))
    }
}

/// A document in a group: it is ordered by the name that it has anyway, so that the index repeats none.
#[derive(Debug, Clone)]
struct Member(Arc<Document>);

impl Borrow<str> for Member {
    fn borrow(&self) -> &str {
        &self.0.metadata.name
    }
}

impl PartialEq for Member {
    fn eq(&self, other: &Member) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Member {}

impl PartialOrd for Member {
    fn partial_cmp(&self, other: &Member) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Member {
    fn cmp(&self, other: &Member) -> Ordering {
        self.0.metadata.name.cmp(&other.0.metadata.name)
    }
}
