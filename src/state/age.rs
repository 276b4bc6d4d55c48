//! How old the snapshot is: for who reads it while the store can't be reached.
//!
//! A store at which nothing happens says nothing, so it is asked once a second. While it answers and is followed, what is
//! there is what it holds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::Store;

/// How often the store is asked.
const PULSE: Duration = Duration::from_secs(1);

/// When the snapshot was last known to be current.
#[derive(Debug, Clone)]
pub(super) struct Age(Arc<Known>);

#[derive(Debug)]
struct Known {
    at: Mutex<Instant>,
    is_followed: AtomicBool,
}

impl Age {
    /// Begins to ask, until the last copy of this is gone.
    pub(super) fn start(store: Arc<dyn Store>) -> Age {
        let known = Known { at: Mutex::new(Instant::now()), is_followed: AtomicBool::new(true) };
        let age = Age(Arc::new(known));
        tokio::spawn(pulse(Arc::downgrade(&store), Arc::downgrade(&age.0)));
        age
    }

    pub(super) fn get(&self) -> Duration {
        self.0.at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    pub(super) fn confirm(&self) {
        *self.0.at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether there is a watch that would tell of a change.
    pub(super) fn follows(&self, is_followed: bool) {
        self.0.is_followed.store(is_followed, Ordering::Relaxed);
    }
}

/// Holds neither the store nor the state: a store that is dropped has to be free at once.
async fn pulse(store: Weak<dyn Store>, known: Weak<Known>) {
    loop {
        tokio::time::sleep(PULSE).await;
        let answers = match store.upgrade() {
            Some(store) => store.list(super::EPOCH, None).await.is_ok(),
            None => return,
        };
        let Some(known) = known.upgrade() else { return };
        let age = Age(known);
        if answers && age.0.is_followed.load(Ordering::Relaxed) {
            age.confirm();
        }
    }
}
