//! Places for connections: a bounded number, and whoever is waited for gives way when they run short.
//!
//! A newcomer is always taken in, for nothing else tells a client with a request from one of ten thousand that only sit there. In its
//! place goes the one that has let us wait longest: first of those that never asked anything, then of the others. One whose request is
//! being worked on never goes; there are fewer turns than places, so somebody else always can.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::metrics::Metrics;

/// All places.
pub(super) struct Places {
    limit: usize,
    taken: Mutex<Taken>,
    started: Instant,
    metrics: Arc<Metrics>,
    left: Notify,
}

#[derive(Default)]
struct Taken {
    next: u64,
    seats: BTreeMap<u64, Arc<Seat>>,
    is_ending: bool,
}

/// One connection's place, as others see it.
#[derive(Default)]
struct Seat {
    /// Microseconds after the start since when the client has been waited for; 0 while it waits for us.
    waited_since: AtomicU64,
    /// Whether it has asked for anything yet.
    has_asked: AtomicBool,
    /// Whether it has to go, and not only to end.
    is_evicted: AtomicBool,
    bell: Notify,
}

/// A connection's place; given back when dropped.
pub(super) struct Place {
    number: u64,
    seat: Arc<Seat>,
    places: Arc<Places>,
}

/// What a connection is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Go at once.
    Leave,
    /// Answer what was asked, and go.
    End,
}

impl Places {
    pub(super) fn new(limit: usize, metrics: Arc<Metrics>) -> Arc<Places> {
        let (taken, left) = (Mutex::default(), Notify::new());
        Arc::new(Places { limit, taken, started: Instant::now(), metrics, left })
    }

    /// A place, for which another may have to go. None when all are being worked for, or at the end.
    pub(super) fn take(self: &Arc<Places>) -> Option<Place> {
        let seat = Arc::new(Seat::default());
        seat.waited_since.store(self.now(), Ordering::Relaxed);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.is_ending {
            return None;
        }
        if taken.seats.len() >= self.limit {
            let number = taken.longest_waited()?;
            let evicted = taken.seats.remove(&number)?;
            evicted.is_evicted.store(true, Ordering::Relaxed);
            evicted.bell.notify_one();
            self.metrics.api_evictions.inc();
        }
        taken.next += 1;
        let number = taken.next;
        taken.seats.insert(number, Arc::clone(&seat));
        self.count(&taken);
        Some(Place { number, seat, places: Arc::clone(self) })
    }

    /// Tells all to end. Those that are waited for go now.
    pub(super) fn end(&self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.is_ending = true;
        for seat in taken.seats.values() {
            seat.bell.notify_one();
        }
    }

    /// Waits until all are free.
    pub(super) async fn all_left(&self) {
        loop {
            let left = self.left.notified();
            if self.taken.lock().unwrap_or_else(PoisonError::into_inner).seats.is_empty() {
                return;
            }
            left.await;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn count(&self, taken: &Taken) {
        self.metrics.api_connections.set(i64::try_from(taken.seats.len()).unwrap_or(i64::MAX));
    }
}

impl Taken {
    fn longest_waited(&self) -> Option<u64> {
        self.seats
            .iter()
            .filter_map(|(number, seat)| match seat.waited_since.load(Ordering::Relaxed) {
                0 => None,
                since => Some((seat.has_asked.load(Ordering::Relaxed), since, *number)),
            })
            .min()
            .map(|(_, _, number)| number)
    }
}

impl Place {
    /// From now on we wait for the client.
    pub(super) fn wait(&self) {
        self.seat.waited_since.store(self.places.now(), Ordering::Relaxed);
    }

    /// From now on the client waits for us.
    pub(super) fn work(&self) {
        self.seat.has_asked.store(true, Ordering::Relaxed);
        self.seat.waited_since.store(0, Ordering::Relaxed);
    }

    /// Waits to be told something.
    pub(super) async fn told(&self) -> Told {
        self.seat.bell.notified().await;
        if self.seat.is_evicted.load(Ordering::Relaxed) { Told::Leave } else { Told::End }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.seats.remove(&self.number);
        self.places.count(&taken);
        if taken.seats.is_empty() {
            self.places.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_asked_goes_first_then_who_was_waited_for_longest_and_never_who_is_worked_for() {
        let places = Places::new(3, Arc::default());
        let [asked, silent, worked] = [(); 3].map(|()| places.take().unwrap());
        asked.work();
        asked.wait();
        worked.work();
        let is_evicted = |place: &Place| place.seat.is_evicted.load(Ordering::Relaxed);

        let newcomer = places.take().unwrap();
        assert_eq!([&asked, &silent, &worked].map(is_evicted), [false, true, false]);
        newcomer.work();
        let _second = places.take().unwrap();
        assert_eq!([&asked, &worked, &newcomer].map(is_evicted), [true, false, false]);
        let third = places.take().unwrap();
        third.work();
        assert!(places.take().is_none(), "all are being worked for");
        drop(worked);
        assert!(places.take().is_some());
    }
}
