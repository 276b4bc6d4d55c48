//! What somebody has committed, for who has to tell it afterwards: the revisions that a task's commits got, and why, noted beside it, so
//! that no handler has to pass them on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::Revision;

tokio::task_local! {
    static NOTES: Noted;
}

/// The highest revision that was committed while this was in force, and the reason that was given.
#[derive(Debug, Clone, Default)]
pub struct Noted(Arc<Notes>);

#[derive(Debug, Default)]
struct Notes {
    revision: AtomicU64,
    reason: Mutex<Option<String>>,
}

impl Noted {
    /// Notes what is committed while a future runs.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        NOTES.scope(self.clone(), work).await
    }

    /// What was noted so far; none when nothing was committed.
    pub fn last(&self) -> Option<Revision> {
        let last = self.0.revision.load(Ordering::Relaxed);
        (last > 0).then_some(last)
    }

    /// Why it was done, where people had to say.
    pub fn reason(&self) -> Option<String> {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Notes a commit, if somebody wants to know.
pub(super) fn note(revision: Revision) {
    // Most commits are nobody's request.
    let _ = NOTES.try_with(|noted| noted.0.revision.fetch_max(revision, Ordering::Relaxed));
}

/// Notes why something is done, if somebody wants to know. Never a secret: it is told in the audit log.
pub fn note_reason(reason: &str) {
    let _ = NOTES.try_with(|noted| {
        *noted.0.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    });
}
