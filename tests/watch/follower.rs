//! The folder's follower over an embedded store, and all that the store was made to hold, one transaction after the other.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::clock::Clock;
use mainstay::metrics::Metrics;
use mainstay::model::Kind;
use mainstay::model::Spec;
use mainstay::reconcile::events::Events;
use mainstay::source::board::{Approval, Board, SourceStatus};
use mainstay::source::folder::Folder;
use mainstay::source::{Parts, PruneLimit, follow};
use mainstay::store::embedded::Embedded;
use mainstay::store::{Change, Store};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::LIMIT;
use crate::truth::{State, sealer};

pub(crate) struct Follower {
    parts: Parts,
    applied: Arc<Mutex<Vec<State>>>,
    tasks: [JoinHandle<()>; 2],
    _data: TempDir,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Follower {
    pub(crate) async fn start(root: &Path, prune: PruneLimit) -> Follower {
        let data = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::default());
        let store: Arc<dyn Store> = Arc::new(Embedded::open(data.path()).unwrap());
        let applied = Arc::new(Mutex::new(Vec::new()));
        let watched = tokio::spawn(watch(Arc::clone(&store), Arc::clone(&applied)));
        let state = mainstay::state::State::open(store, Arc::clone(&metrics)).await.unwrap();
        let parts = Parts {
            state: Arc::new(state),
            sealer: sealer(),
            metrics,
            catalogue: false,
            events: Events::default(),
            clock: Clock::default(),
            board: Board::default(),
            prune,
        };
        let followed = tokio::spawn(follow(Folder::new(root), parts.clone()));
        Follower { parts, applied, tasks: [watched, followed], _data: data }
    }

    /// What the store holds.
    pub(crate) fn state(&self) -> State {
        // What was written is in the snapshot by now, for a turn ends with that.
        let documents = self.parts.state.snapshot().documents;
        let version = |spec: &Spec| {
            let Spec::Tenant(tenant) = spec else { panic!("{spec:?}") };
            tenant.name.clone()
        };
        documents.of_kind(Kind::Tenant).map(|(key, found)| (key.name.clone(), version(&found.spec))).collect()
    }

    pub(crate) fn status(&self) -> SourceStatus {
        self.parts.board.all().remove(0)
    }

    pub(crate) fn metrics(&self) -> String {
        self.parts.metrics.text()
    }

    /// What was told, as `ACTION REASON: MESSAGE`.
    pub(crate) fn events(&self) -> Vec<String> {
        let all = self.parts.events.all();
        all.into_iter().map(|it| format!("{} {}: {}", it.action, it.reason, it.message)).collect()
    }

    pub(crate) fn approve(&self, digest: &str) -> Result<Approval, String> {
        self.parts.board.approve(&self.status().name, digest).map_err(|refused| refused.to_string())
    }

    /// Waits until something is so, and looks again whenever it may be.
    async fn wait<T>(&self, mut is_so: impl FnMut(&SourceStatus) -> Option<T>) -> Option<T> {
        let mut changes = self.parts.board.changes();
        let waited = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = self.parts.board.all().first().and_then(&mut is_so) {
                    return found;
                }
                changes.next().await;
            }
        };
        timeout(LIMIT, waited).await.ok()
    }

    /// Waits until the store holds this and nothing waits, approving what has to be; how often that was.
    pub(crate) async fn until(&self, wanted: &State) -> Result<usize, String> {
        let mut approved = BTreeSet::new();
        let mut snapshots = self.parts.state.changes();
        let is_reached = async {
            loop {
                snapshots.mark_unchanged();
                if let Some(approval) = self.parts.board.all().first().and_then(|it| it.approval.clone()) {
                    // By then it may be something else that waits.
                    if self.approve(&approval.digest).is_ok() {
                        approved.insert(approval.digest);
                    }
                }
                if self.state() == *wanted {
                    return;
                }
                let _ = timeout(Duration::from_millis(50), snapshots.changed()).await;
            }
        };
        if timeout(LIMIT, is_reached).await.is_err() {
            let state = self.state();
            return Err(format!(
                "in the end the store holds {state:?}, and the folder {wanted:?}; {:?}",
                self.status()
            ));
        }
        Ok(approved.len())
    }

    pub(crate) async fn held(&self) -> Approval {
        self.wait(|status| status.approval.clone()).await.expect("it waits")
    }

    pub(crate) async fn held_other_than(&self, other: &Approval) -> Approval {
        self.wait(|status| status.approval.clone().filter(|found| found != other)).await.expect("it waits")
    }

    pub(crate) async fn not_held(&self) {
        self.wait(|status| status.approval.is_none().then_some(())).await.expect("it waits no more");
    }

    pub(crate) async fn problems(&self) -> Vec<String> {
        self.problems_other_than(&[]).await
    }

    pub(crate) async fn problems_other_than(&self, other: &[String]) -> Vec<String> {
        self.wait(|status| {
            let problems: Vec<String> = status.problems.iter().map(ToString::to_string).collect();
            (!problems.is_empty() && problems != other).then_some(problems)
        })
        .await
        .expect("it is refused")
    }

    /// The states that the store went through.
    pub(crate) async fn end(self) -> Vec<State> {
        // What the store has done is told in order, so with the last of it all of it was told.
        let last = self.state();
        let told = async {
            while self.applied.lock().unwrap().last() != Some(&last) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, told).await.expect("the store tells what was written");
        std::mem::take(&mut self.applied.lock().unwrap())
    }
}

/// Keeps what each transaction left.
async fn watch(store: Arc<dyn Store>, applied: Arc<Mutex<Vec<State>>>) {
    let mut watch = store.watch("doc/Tenant/", 1).await.unwrap();
    let mut state = State::new();
    while let Ok(changes) = watch.next().await {
        for change in changes.changes {
            let name = |key: &str| key.rsplit('/').next().unwrap().to_owned();
            match change {
                Change::Put(item) => {
                    let document: serde_json::Value = serde_json::from_slice(&item.value).unwrap();
                    state.insert(name(&item.key), document["spec"]["name"].as_str().unwrap().to_owned());
                }
                Change::Delete { key, .. } => drop(state.remove(&name(&key))),
            }
        }
        applied.lock().unwrap().push(state.clone());
    }
}
