use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::*;
use crate::metrics::Metrics;
use crate::model::admit::{Origin, admit_text, password_place};
use crate::model::secret::{Clear, KEY_BYTES};
use crate::model::{Document, Key, Kind, Spec};
use crate::state::leader::{Candidate, Election};
use crate::state::{Commit, Edit, State, StateError, born};
use crate::store::TxnReply;
use crate::store::embedded::Embedded;
use crate::store::over::{Otherwise, Over};

const NODES: usize = 120;

fn old() -> Sealer {
    Sealer::new([1; KEY_BYTES])
}

fn new() -> Sealer {
    Sealer::new([2; KEY_BYTES])
}

fn node(number: usize, sealer: &Sealer) -> Document {
    let text = format!(
        "apiVersion: mainstay.dev/v1\nkind: Node\nmetadata: {{name: ND{number}, namespace: IN1}}\n\
         spec: {{name: a, ip-address: 192.0.2.1, username: me, password: secret-{number}}}"
    );
    let admitted = admit_text(&text, &Origin::default(), sealer).unwrap().remove(0);
    born(admitted.document, "2026-01-01T00:00:00Z")
}

/// A store that fails when a number of transactions has been written.
struct Failing {
    store: Arc<Embedded>,
    left: AtomicUsize,
}

impl Otherwise for Failing {
    fn store(&self) -> &Arc<Embedded> {
        &self.store
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnReply, StoreError>> {
        let count = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match count {
            Ok(_) => self.store.txn(txn),
            Err(_) => Box::pin(std::future::ready(Err(StoreError::Unavailable("the test says so".into())))),
        }
    }
}

async fn filled() -> (tempfile::TempDir, Arc<Embedded>, State) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(dir.path()).unwrap());
    let state = State::open(store.clone(), Arc::new(Metrics::default())).await.unwrap();
    state.use_sealing_key(old().id()).await.unwrap();
    let edits: Vec<Edit> = (0..NODES).map(|number| Edit::Create(node(number, &old()))).collect();
    assert_eq!(state.commit(&edits, None).await.unwrap(), Commit::Done);
    (dir, store, state)
}

async fn assert_sealed_with_the_new_key(store: &Arc<Embedded>) {
    let state = State::open(store.clone(), Arc::new(Metrics::default())).await.unwrap();
    state.use_sealing_key(new().id()).await.unwrap();
    let snapshot = state.snapshot();
    for number in 0..NODES {
        let key = Key::within(Kind::Node, "IN1", format!("ND{number}"));
        let document = snapshot.documents.get(&key).unwrap();
        let Spec::Node(node) = &document.spec else { panic!("{key}") };
        let clear = new().open(&password_place(&key), node.password.as_ref().unwrap()).unwrap();
        assert_eq!(clear, Clear::new(format!("secret-{number}")));
    }
}

#[tokio::test]
async fn a_rotation_that_is_cut_short_anywhere_is_finished_by_the_next() {
    // Begin, three batches, end.
    for cut in 0..=4 {
        let (_dir, store, running) = filled().await;
        let failing = Over(Failing { store: store.clone(), left: AtomicUsize::new(cut) });
        assert!(rotate(&failing, &old(), &new()).await.is_err(), "{cut}");
        if cut > 0 {
            let state = State::open(store.clone(), Arc::new(Metrics::default())).await.unwrap();
            for key in [old(), new()] {
                let refused = state.use_sealing_key(key.id()).await;
                assert!(matches!(refused, Err(StateError::Rotating { .. })), "{refused:?}");
            }
            let late = running.commit(&[Edit::Create(node(NODES, &old()))], None).await;
            assert!(matches!(late, Err(StateError::Rotating { .. })), "{late:?}");
        }
        rotate(&*store, &old(), &new()).await.unwrap();
        assert_sealed_with_the_new_key(&store).await;
    }
}

#[tokio::test]
async fn documents_that_do_not_fit_in_one_transaction_are_sealed_in_two() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(dir.path()).unwrap());
    let state = State::open(store.clone(), Arc::new(Metrics::default())).await.unwrap();
    state.use_sealing_key(old().id()).await.unwrap();
    for (number, kib) in [(1, 400), (2, 950)] {
        let mut node = node(number, &old());
        node.metadata.annotations.insert("long".into(), "x".repeat(kib * 1024));
        assert_eq!(state.commit(&[Edit::Create(node)], None).await.unwrap(), Commit::Done);
    }
    assert_eq!(rotate(&*store, &old(), &new()).await.unwrap(), 2);
}

#[tokio::test]
async fn a_controller_that_missed_the_rotation_can_write_nothing() {
    let (_dir, store, running) = filled().await;
    assert_eq!(rotate(&*store, &old(), &new()).await.unwrap(), NODES);
    assert_eq!(rotate(&*store, &old(), &new()).await.unwrap(), 0);
    let late = running.commit(&[Edit::Create(node(NODES, &old()))], None).await;
    assert!(matches!(late, Err(StateError::OtherKey { .. })), "{late:?}");
    assert_sealed_with_the_new_key(&store).await;
    // What was sealed with the old key can't be read as history either.
    assert!(matches!(store.list("", Some(2)).await, Err(StoreError::Compacted { .. })));
}

#[tokio::test]
async fn who_has_another_key_than_the_store_is_not_elected() {
    let (_dir, store, running) = filled().await;
    rotate(&*store, &old(), &new()).await.unwrap();
    let candidate = Candidate { server: "a".into(), address: None };
    let lease = running.grant(Duration::from_secs(60)).await.unwrap();
    let late = running.stand(&candidate, lease.id, "").await;
    assert!(matches!(late, Err(StateError::OtherKey { .. })), "{late:?}");
    let state = State::open(store, Arc::new(Metrics::default())).await.unwrap();
    state.use_sealing_key(new().id()).await.unwrap();
    assert!(matches!(state.stand(&candidate, lease.id, "").await, Ok(Election::Won(_))));
}

#[tokio::test]
async fn keys_that_are_not_the_stores_change_nothing() {
    let (_dir, store, _running) = filled().await;
    let before = store.list("", None).await.unwrap();
    let error = rotate(&*store, &new(), &Sealer::new([3; KEY_BYTES])).await.unwrap_err();
    assert!(matches!(error, RotationError::OtherKeys { .. }), "{error:?}");
    assert_eq!(store.list("", None).await.unwrap(), before);
}
