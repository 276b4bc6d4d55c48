//! Waiting for what a server does: how often it is asked, and when that is given up.

use std::time::{Duration, Instant};

/// What a command ends with whose time was over before what it waited for had come.
pub(super) const TIMED_OUT: u8 = 2;

/// Pause between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

/// When waiting is given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(Option<Instant>);

impl Limit {
    /// So many seconds from now; without a number, never.
    pub(super) fn new(seconds: Option<u64>) -> Limit {
        Limit(seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds))))
    }

    /// Whether the time is over.
    pub(super) fn is_over(self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}
