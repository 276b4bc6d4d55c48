//! What somebody has committed, for who has to tell it afterwards, and who it is: noted beside the task that commits, so that no handler has
//! to pass it on, and none can forget. The objects that are changed say who called; the audit log says what was changed, and why.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::Document;
pub use crate::model::meta::Call;
use crate::store::Revision;

tokio::task_local! {
    static NOTES: Noted;
}

/// The call that was answered while this was in force, the highest revision that was committed for it, and the reason that was given.
#[derive(Debug, Clone, Default)]
pub struct Noted(Arc<Notes>);

#[derive(Debug, Default)]
struct Notes {
    call: Option<Call>,
    revision: AtomicU64,
    reason: Mutex<Option<String>>,
}

impl Noted {
    /// Of a call: what is committed for it says so.
    pub fn of(call: Call) -> Noted {
        Noted(Arc::new(Notes { call: Some(call.bounded()), ..Notes::default() }))
    }

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

/// A document as it is written for the call that is being answered, if one is.
pub(super) fn signed(document: &Document) -> Cow<'_, Document> {
    let call = NOTES.try_with(|noted| noted.0.call.clone());
    match call.ok().flatten() {
        Some(call) => {
            let mut document = document.clone();
            document.metadata.last_call = Some(call);
            Cow::Owned(document)
        }
        None => Cow::Borrowed(document),
    }
}

/// Notes why something is done, if somebody wants to know. Never a secret: it is told in the audit log.
pub fn note_reason(reason: &str) {
    let _ = NOTES.try_with(|noted| {
        *noted.0.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    });
}
