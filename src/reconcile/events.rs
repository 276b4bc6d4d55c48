//! What was done, why, and how it ended: the last of it, in memory, for everyone who shows it.
//!
//! Made where things are done, never where they are decided. The same said again is one event with a higher count.
//!
//! **Invariant:** there are never more than a fixed number beside what is so at present; the one that was said last the longest ago
//! goes first.
//! **Absent here:** the store. A controller that was deposed can't write there, and still has to say so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::rfc3339;
use crate::model::kinds::EventSpec;

/// How many are kept.
const KEPT: usize = 1000;

/// What was said. The same again is the same event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Said {
    /// The object that it is about, as `Kind instance/name`.
    pub regarding: String,
    /// What was done, one word.
    pub action: &'static str,
    /// Why, one word.
    pub reason: &'static str,
    /// How it ended, for people.
    pub message: String,
}

/// The last events. A handle; clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Events {
    ring: Arc<Mutex<Ring>>,
}

impl Events {
    /// Takes an event in, said at this time.
    pub fn say(&self, said: Said, now_ms: u64) {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).say(said, now_ms);
    }

    /// Sets what is so at present, and stays among the events for as long as it is. Said when it was not so before, so that to look
    /// again is no event.
    pub fn stand(&self, present: BTreeSet<Said>, now_ms: u64) {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).stand(present, now_ms);
    }

    /// All of them, the one that was said last at the end.
    pub fn all(&self) -> Vec<EventSpec> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).all()
    }
}

/// When something was said, and how often.
#[derive(Debug, Clone, Copy)]
struct Times {
    count: u64,
    first_ms: u64,
    last_ms: u64,
    /// The place in the order of last saying.
    place: u64,
}

#[derive(Debug, Default)]
struct Ring {
    times: BTreeMap<Arc<Said>, Times>,
    order: BTreeMap<u64, Arc<Said>>,
    next: u64,
    /// What is so at present; it does not count among those that are kept.
    standing: BTreeSet<Said>,
}

impl Ring {
    fn say(&mut self, said: Said, now_ms: u64) {
        let said = Arc::new(said);
        let place = self.next;
        self.next += 1;
        let fresh = Times { count: 0, first_ms: now_ms, last_ms: now_ms, place };
        let times = self.times.entry(Arc::clone(&said)).or_insert(fresh);
        self.order.remove(&times.place);
        *times = Times { count: times.count + 1, last_ms: now_ms, place, ..*times };
        self.order.insert(place, said);
        self.trim();
    }

    fn stand(&mut self, present: BTreeSet<Said>, now_ms: u64) {
        let before = std::mem::replace(&mut self.standing, present);
        let new: Vec<Said> = self.standing.difference(&before).cloned().collect();
        for said in new {
            self.say(said, now_ms);
        }
        self.trim();
    }

    fn trim(&mut self) {
        let excess = self.order.len().saturating_sub(KEPT + self.standing.len());
        let oldest = self.order.iter().filter(|(_, said)| !self.standing.contains(said.as_ref()));
        let oldest: Vec<u64> = oldest.map(|(place, _)| *place).take(excess).collect();
        for place in oldest {
            if let Some(said) = self.order.remove(&place) {
                self.times.remove(&said);
            }
        }
    }

    fn all(&self) -> Vec<EventSpec> {
        let event = |said: &Arc<Said>| {
            let times = self.times.get(said)?;
            Some(EventSpec {
                regarding: said.regarding.clone(),
                action: said.action.to_owned(),
                reason: said.reason.to_owned(),
                message: said.message.clone(),
                count: times.count,
                first_timestamp: rfc3339(times.first_ms),
                last_timestamp: rfc3339(times.last_ms),
            })
        };
        self.order.values().filter_map(event).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Said {
        Said {
            regarding: "Node IN1/ND1".into(),
            action: "Connect",
            reason: "TimedOut",
            message: message.into(),
        }
    }

    fn told(events: &Events) -> Vec<(String, u64)> {
        events.all().into_iter().map(|event| (event.message, event.count)).collect()
    }

    #[test]
    fn the_same_again_is_counted_and_is_the_newest() {
        let events = Events::default();
        for (message, at) in [("a", 1_000), ("b", 2_000), ("a", 3_000)] {
            events.say(said(message), at);
        }
        assert_eq!(told(&events), [("b".to_owned(), 1), ("a".to_owned(), 2)]);
        let last = events.all().pop().expect("it was said");
        assert_eq!(
            (last.first_timestamp.as_str(), last.last_timestamp.as_str()),
            ("1970-01-01T00:00:01Z", "1970-01-01T00:00:03Z")
        );
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let events = Events::default();
        events.say(said("kept, for it is said again"), 0);
        for number in 0..KEPT * 2 {
            events.say(said(&number.to_string()), 0);
            events.say(said("kept, for it is said again"), 0);
        }
        let told = told(&events);
        assert_eq!(told.len(), KEPT);
        assert_eq!(told.last(), Some(&("kept, for it is said again".to_owned(), KEPT as u64 * 2 + 1)));
        assert_eq!(told.iter().rev().nth(1), Some(&((KEPT * 2 - 1).to_string(), 1)));
    }

    #[test]
    fn what_is_so_is_said_once_and_stays_for_as_long_as_it_is() {
        let events = Events::default();
        for at in 0..3 {
            events.stand(BTreeSet::from([said("waits")]), at);
        }
        for number in 0..KEPT * 2 {
            events.say(said(&number.to_string()), 0);
        }
        assert_eq!((events.all().len(), &told(&events)[0]), (KEPT + 1, &("waits".to_owned(), 1)));
        events.stand(BTreeSet::new(), 4);
        assert_eq!((events.all().len(), &told(&events)[0].0), (KEPT, &KEPT.to_string()));
    }
}
