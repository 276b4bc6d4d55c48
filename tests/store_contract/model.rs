//! Any sequence of transactions, compactions and restarts leaves the embedded engine where a plain model is: a list of
//! whole maps, one for each revision.

use std::collections::BTreeMap;

use mainstay::store::embedded::Embedded;
use mainstay::store::{Change, Changes, Compare, Item, Revision, Store, StoreError, Write};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::tools::*;

#[derive(Debug, Clone)]
enum Step {
    /// Each key to a value, or away. Only if the guard holds: a key's revision, or one that is off by something.
    Txn {
        writes: BTreeMap<u8, Option<u8>>,
        guard: Option<(u8, u64)>,
    },
    /// At so many hundredths of the history.
    Compact(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let writes = proptest::collection::btree_map(0..6_u8, proptest::option::weighted(0.7, any::<u8>()), 0..5);
    let guard = proptest::option::of((0..6_u8, prop_oneof![3 => Just(0), 1 => 1..3_u64]));
    prop_oneof![
        10 => (writes, guard).prop_map(|(writes, guard)| Step::Txn { writes, guard }),
        1 => (0..=100_u64).prop_map(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

/// Keys of which some are prefixes of others.
fn key(n: u8) -> String {
    ["a", "a/", "a/b", "a/c", "b", "c/"][n as usize].to_owned()
}

struct Model {
    /// The map at each revision; the first is at 1.
    maps: Vec<BTreeMap<String, Item>>,
    changes: Vec<Changes>,
    oldest: Revision,
}

impl Model {
    fn new() -> Self {
        Model { maps: vec![BTreeMap::new()], changes: vec![], oldest: 1 }
    }

    fn revision(&self) -> Revision {
        self.maps.len() as Revision
    }

    fn at(&self, revision: Revision, prefix: &str) -> Vec<Item> {
        let map = &self.maps[revision as usize - 1];
        map.values().filter(|item| item.key.starts_with(prefix)).cloned().collect()
    }

    fn mod_revision(&self, key: &str) -> Revision {
        self.maps.last().and_then(|map| map.get(key)).map_or(0, |item| item.mod_revision)
    }

    fn apply(&mut self, writes: &[Write]) {
        let revision = self.revision() + 1;
        let mut map = self.maps.last().cloned().unwrap_or_default();
        let mut changes = Vec::new();
        for write in writes {
            match write {
                Write::Put(key, value) | Write::PutLeased(key, value, _) => {
                    let create_revision = map.get(key).map_or(revision, |old| old.create_revision);
                    let item = Item {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision,
                        mod_revision: revision,
                    };
                    map.insert(key.clone(), item.clone());
                    changes.push(Change::Put(item));
                }
                Write::Delete(key) => {
                    if map.remove(key).is_some() {
                        changes.push(Change::Delete { key: key.clone(), mod_revision: revision });
                    }
                }
            }
        }
        if !changes.is_empty() {
            self.maps.push(map);
            self.changes.push(Changes { revision, changes });
        }
    }
}

async fn compare(store: &Embedded, model: &Model) {
    let now = model.revision();
    assert_eq!(revision(store).await, now);
    for revision in model.oldest..=now {
        for prefix in ["", "a", "a/", "c/"] {
            assert_eq!(list_at(store, prefix, revision).await.items, model.at(revision, prefix));
        }
    }
    if model.oldest > 1 {
        let error = store.list("", Some(model.oldest - 1)).await.expect_err("it is compacted");
        assert!(matches!(error, StoreError::Compacted { oldest } if oldest == model.oldest), "{error:?}");
    }
    if now > model.oldest {
        let mut watch = watch(store, "", model.oldest + 1).await;
        let seen = until(&mut *watch, now).await;
        assert_eq!(seen, model.changes[model.oldest as usize - 1..]);
    }
}

async fn run_steps(steps: Vec<Step>) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let open = || Embedded::open(dir.path()).expect("the store can be opened");
    let mut store = Some(open());
    let mut model = Model::new();
    for step in steps {
        let open_store = store.as_ref().expect("it is open between the steps");
        match step {
            Step::Txn { writes, guard } => {
                let then: Vec<Write> = writes
                    .into_iter()
                    .map(|(n, value)| match value {
                        Some(value) => Write::Put(key(n), vec![value; value.into()]),
                        None => Write::Delete(key(n)),
                    })
                    .collect();
                let holds = guard.is_none_or(|(_, off)| off == 0);
                let when = guard
                    .map(|(n, off)| Compare::ModRevision(key(n), model.mod_revision(&key(n)) + off))
                    .into_iter()
                    .collect();
                let reply = attempt(open_store, when, then.clone()).await;
                if holds {
                    model.apply(&then);
                }
                assert_eq!((reply.succeeded, reply.revision), (holds, model.revision()));
            }
            Step::Compact(hundredths) => {
                let to = model.oldest + (model.revision() - model.oldest) * hundredths / 100;
                open_store.compact(to).await.expect("it can be compacted");
                model.oldest = to;
            }
            Step::Restart => {
                // The directory has to be free before it is taken again.
                drop(store.take());
                store = Some(open());
            }
        }
        compare(store.as_ref().expect("it was opened"), &model).await;
    }
}

proptest! {
    #![proptest_config(crate::properties::config(150, ""))]
    #[test]
    fn any_sequence_leaves_the_store_where_the_model_is(steps in vec(step(), 1..40)) {
        run("the model", run_steps(steps));
    }
}
