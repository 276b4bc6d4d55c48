//! When the leases on a node are renewed, and from when. A process under a lease is stopped by its node once that is over, so that what may
//! run in one place only can be started elsewhere though its node says nothing.
//!
//! **Invariant:** a renewal carries what the node itself last said of its clock, so it means the same whenever it arrives, and a lease is
//! over at the latest when it has lasted from when that word came here.
//! **Absent here:** I/O, and a clock: moments are given. Where else something is started, which the placement decides.

use std::time::Duration;

use tokio::time::Instant;

use super::ANSWER_WITHIN;

/// Leases are renewed so many times while the shortest lasts. A renewal carries the word that came with the answer to the one before, so when
/// the next goes out, all but two parts of the lease are left: half of it.
const PARTS: u32 = 4;

/// What the node said of its clock, and when that came.
#[derive(Debug, Clone, Copy)]
struct Said {
    uptime: u64,
    at: Instant,
}

/// What is known of a node's leases in one conversation.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    shortest: Option<Duration>,
    said: Option<Said>,
    sent: Option<Instant>,
    answer_by: Option<Instant>,
}

impl Renewals {
    /// The shortest lease of what runs there or is to; none when nothing has one.
    pub(super) fn want(&mut self, shortest_seconds: Option<u32>) {
        self.shortest = shortest_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    }

    /// The node has said for how long it has been up, in hundredths of a second.
    pub(super) fn hear(&mut self, uptime: u64, at: Instant) {
        self.said = Some(Said { uptime, at });
        self.answer_by = None;
    }

    /// True when it is time for the next.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.answer_by.is_none() && self.due_at().is_some_and(|at| at <= now)
    }

    /// When the next is due, whether or not the last was answered.
    fn due_at(&self) -> Option<Instant> {
        let (shortest, said) = (self.shortest?, self.said?);
        Some(self.sent.map_or(said.at, |sent| sent + shortest / PARTS))
    }

    /// True when one was not answered in time.
    pub(super) fn is_unanswered(&self, now: Instant) -> bool {
        self.answer_by.is_some_and(|by| by <= now)
    }

    /// When there is something to do, unless the node says something before. A node that is busy with a batch is sent none.
    pub(super) fn next_deadline(&self, is_busy: bool) -> Option<Instant> {
        self.answer_by.or_else(|| self.due_at().filter(|_| !is_busy))
    }

    /// True when a lease that is renewed now is renewed for most of its time.
    pub(super) fn is_fresh(&self, seconds: u32, now: Instant) -> bool {
        let part = Duration::from_secs(seconds.into()) / PARTS;
        self.said.is_some_and(|said| said.at + part > now)
    }

    /// The uptime to renew by, which is about to be sent; none before the node has said one, and while the node is awaited to say another.
    pub(super) fn send(&mut self, now: Instant) -> Option<u64> {
        let said = self.said.filter(|_| self.answer_by.is_none())?;
        self.sent = Some(now);
        self.answer_by = Some(now + self.shortest.map_or(ANSWER_WITHIN, |lease| lease.min(ANSWER_WITHIN)));
        Some(said.uptime)
    }
}
