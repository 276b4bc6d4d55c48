//! What somebody has committed, for who has to tell it afterwards: the revisions that a task's commits got, noted beside it, so that no
//! handler has to pass them on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::Revision;

tokio::task_local! {
    static NOTES: Noted;
}

/// The highest revision that was committed while this was in force.
#[derive(Debug, Clone, Default)]
pub struct Noted(Arc<AtomicU64>);

impl Noted {
    /// Notes what is committed while a future runs.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        NOTES.scope(self.clone(), work).await
    }

    /// What was noted so far; none when nothing was committed.
    pub fn last(&self) -> Option<Revision> {
        let last = self.0.load(Ordering::Relaxed);
        (last > 0).then_some(last)
    }
}

/// Notes a commit, if somebody wants to know.
pub(super) fn note(revision: Revision) {
    // Most commits are nobody's request.
    let _ = NOTES.try_with(|noted| noted.0.fetch_max(revision, Ordering::Relaxed));
}
