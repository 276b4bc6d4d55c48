//! The world: all that is simulated, under one lock, and the conductor that lets one thing happen after the other.
//!
//! The controller's tasks are the real ones, on one thread, and time stands still while any of them can go on. What they ask of
//! the store and of the network goes through [`World::act`]: the conductor does all that was asked for in the same moment one
//! tick later, in the order of who asked and not of who was woken first, and every random choice is made there. So the
//! order in which the runtime wakes tasks, which no seed decides, decides nothing.
//!
//! **Invariant:** nothing random is drawn, and nothing simulated changes, but in the conductor or before it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay::clock::Clock;
use mainstay::plan::world::NodeDesired;
use mainstay::reconcile::controller::Controller;
use mainstay::reconcile::leadership::Leadership;
use mainstay::reconcile::observed::Observed;
use mainstay::reconcile::placed::Placed;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::checks;
use crate::net::Conn;
use crate::node::Machine;
use crate::rng::Rng;
use crate::run::Fault;
use crate::store::Core;

/// When the simulated world begins, in milliseconds since 1970.
pub(crate) const EPOCH_MS: u64 = 1_800_000_000_000;

/// A handle on the world.
#[derive(Clone)]
pub(crate) struct World(Arc<Shared>);

struct Shared {
    inner: Mutex<Inner>,
    bell: Notify,
}

/// What happens later.
type Event = Box<dyn FnOnce(&mut Inner) + Send>;

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Runs,
    /// Nothing that it asks for goes out, and no answer comes in.
    Paused,
    /// The same for ever: seen from outside, a process that is gone.
    Dead,
}

/// One run of a server.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) health: watch::Sender<Health>,
    /// Transactions that were sent, and batches and openings, so far.
    pub(crate) effects: u64,
    /// Until when its watches tell nothing.
    pub(crate) stale_until: u64,
    pub(crate) parts: Option<Running>,
}

/// The real thing.
pub(crate) struct Running {
    pub(crate) observed: Observed,
    pub(crate) controller: Controller,
    pub(crate) leadership: Leadership,
    pub(crate) placed: Placed,
    pub(crate) clock: Clock,
}

/// Where a server is to crash: before or after so many effects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CrashAt {
    pub(crate) effect: u64,
    pub(crate) after: bool,
}

/// What may go wrong by itself, each once in so many times; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Odds {
    pub(crate) store_unknown: u64,
    pub(crate) store_refuses: u64,
    pub(crate) store_slow: u64,
    pub(crate) watch_breaks: u64,
    pub(crate) command_lost: u64,
    pub(crate) answer_lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) delayed: u64,
    pub(crate) crash: u64,
}

/// All that is simulated.
pub(crate) struct Inner {
    pub(crate) rng: Rng,
    started: Instant,
    pending: BTreeMap<(u32, String, u64), Event>,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub(crate) trace: Vec<String>,
    /// The trace is printed while it grows, for a run that does not end.
    pub(crate) is_loud: bool,
    pub(crate) violation: Option<String>,
    pub(crate) store: Core,
    pub(crate) machines: BTreeMap<String, Machine>,
    pub(crate) conns: BTreeMap<u64, Conn>,
    pub(crate) servers: BTreeMap<u32, Server>,
    pub(crate) last_who: u32,
    /// How far the wall clocks of servers are off, by name: a machine's clock survives its server.
    pub(crate) wall_off_ms: BTreeMap<String, i64>,
    /// What is fenced and was given up: nowhere may it run.
    pub(crate) fenced_off: BTreeSet<String>,
    pub(crate) odds: Odds,
    pub(crate) crash_at: Option<CrashAt>,
    /// Effects of all servers.
    pub(crate) effects: u64,
    /// How hosts can't be reached at present; the keys that servers know, by server and node.
    pub(crate) unreachable: BTreeMap<String, crate::net::Outage>,
    pub(crate) known_keys: BTreeMap<(String, String), u64>,
    pub(crate) store_down_until: u64,
    /// Until when some process does not do its work that would by itself.
    pub(crate) ill_until: u64,
    pub(crate) batches: u64,
    pub(crate) rendered: BTreeMap<(u64, String), Arc<NodeDesired>>,
    /// Servers that died and have to be started again, by name.
    to_start: BTreeSet<String>,
    pub(crate) writes: u64,
    /// Where the runs are enumerated: what has happened since the change, and the fault that follows one of that.
    pub(crate) events: u64,
    pub(crate) strike: Option<Strike>,
    /// How long a change took, where a run measures that.
    pub(crate) took: u64,
    died: Arc<Notify>,
}

/// For how long something is put off: longer than anything takes that is quick.
const PUT_OFF_MS: u64 = 25;

/// A fault, after so many of the things that happen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strike {
    pub(crate) kind: Fault,
    pub(crate) at: u64,
    /// It lasts for long and befalls the last of those that it may befall, or else for a moment and the first.
    pub(crate) is_hard: bool,
}

/// Who asks in the name of people; no server.
pub(crate) const CLIENT: u32 = 1000;
/// Who decides what goes wrong.
pub(crate) const FATE: u32 = 2000;

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let inner = Inner {
            rng: Rng::new(seed),
            started: Instant::now(),
            pending: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            trace: Vec::new(),
            is_loud: false,
            violation: None,
            store: Core::default(),
            machines: BTreeMap::new(),
            conns: BTreeMap::new(),
            servers: BTreeMap::new(),
            last_who: 0,
            wall_off_ms: BTreeMap::new(),
            fenced_off: BTreeSet::new(),
            odds: Odds::default(),
            crash_at: None,
            effects: 0,
            unreachable: BTreeMap::new(),
            known_keys: BTreeMap::new(),
            store_down_until: 0,
            ill_until: 0,
            batches: 0,
            rendered: BTreeMap::new(),
            to_start: BTreeSet::new(),
            writes: 0,
            events: 0,
            strike: None,
            took: 0,
            died: Arc::default(),
        };
        World(Arc::new(Shared { inner: Mutex::new(inner), bell: Notify::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the world.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.lock())
    }

    /// Has something done in the next tick. Dropped before, it is done all the same.
    pub(crate) async fn act<T: Send + 'static>(
        &self,
        who: u32,
        what: &str,
        act: impl FnOnce(&mut Inner) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = oneshot::channel();
        self.with(|inner| {
            inner.sequence += 1;
            let event: Event = Box::new(move |inner| drop(answer.send(act(inner))));
            inner.pending.insert((who, what.to_owned(), inner.sequence), event);
        });
        self.0.bell.notify_one();
        match answered.await {
            Ok(answer) => answer,
            // The conductor has stopped, so that nothing goes on.
            Err(_) => std::future::pending().await,
        }
    }

    /// Does what is asked for and what was planned, for ever.
    pub(crate) async fn conduct(self) {
        loop {
            let due = self.with(|inner| {
                let tick = (!inner.pending.is_empty()).then(|| inner.now() + 1);
                let first = inner.queue.keys().next().map(|(at, _)| *at);
                tick.into_iter().chain(first).min().map(|at| inner.started + Duration::from_millis(at))
            });
            match due {
                Some(due) => tokio::select! {
                    biased;
                    () = sleep_until(due) => self.with(Inner::step),
                    () = self.0.bell.notified() => {}
                },
                None => self.0.bell.notified().await,
            }
        }
    }

    /// Waits for as long as a server is paused, or for ever when it is dead; whether there was something to wait for.
    pub(crate) async fn gate(&self, who: u32) -> bool {
        let health = self.with(|inner| inner.servers.get(&who).map(|server| server.health.subscribe()));
        let Some(mut health) = health else { return false };
        if *health.borrow() == Health::Runs {
            return false;
        }
        if health.wait_for(|health| *health == Health::Runs).await.is_err() {
            std::future::pending::<()>().await;
        }
        true
    }

    /// Starts servers that have died again, for ever.
    pub(crate) async fn revive(self) {
        let died = self.with(|inner| Arc::clone(&inner.died));
        loop {
            let names = self.with(|inner| std::mem::take(&mut inner.to_start));
            for name in names {
                tokio::spawn(crate::server::start(self.clone(), name));
            }
            died.notified().await;
        }
    }
}

impl Inner {
    /// Milliseconds since the world began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("no run is that long")
    }

    /// The moment of a time of this world.
    pub(crate) fn instant(&self, at: u64) -> Instant {
        self.started + Duration::from_millis(at)
    }

    /// Has something happen in so many milliseconds.
    pub(crate) fn after(&mut self, ms: u64, event: impl FnOnce(&mut Inner) + Send + 'static) {
        self.sequence += 1;
        self.queue.insert((self.now() + ms, self.sequence), Box::new(event));
    }

    /// Writes a line of the trace.
    pub(crate) fn say(&mut self, line: impl AsRef<str>) {
        let now = self.now();
        let line = format!("{:>5}.{:03} {}", now / 1000, now % 1000, line.as_ref());
        if self.is_loud {
            println!("{line}");
        }
        self.trace.push(line);
    }

    /// Something is not as it has to be. Only the first counts; what follows may follow from it.
    pub(crate) fn violate(&mut self, invariant: &str, what: impl AsRef<str>) {
        self.say(format!("VIOLATION of {invariant}: {}", what.as_ref()));
        if self.violation.is_none() {
            self.violation = Some(format!("{invariant}: {}", what.as_ref()));
        }
    }

    fn step(&mut self) {
        let now = self.now();
        for ((who, _, _), event) in std::mem::take(&mut self.pending) {
            // Where the runs are enumerated, whatever is asked for may come later than what others do meanwhile.
            if who != FATE && self.rng.counts() && self.rng.other() == Some(true) {
                self.sequence += 1;
                self.queue.insert((now + PUT_OFF_MS, self.sequence), event);
                continue;
            }
            event(self);
            self.happened();
        }
        while let Some(first) = self.queue.first_entry() {
            if first.key().0 > now {
                break;
            }
            let event = first.remove();
            event(self);
            self.happened();
        }
        checks::after_step(self);
    }

    /// Something has happened; a fault that is to follow it, does.
    fn happened(&mut self) {
        if !self.rng.counts() {
            return;
        }
        self.events += 1;
        if let Some(Strike { kind, at, is_hard }) = self.strike
            && at < self.events
        {
            self.strike = None;
            self.rng.count(false);
            self.rng.lean(is_hard);
            kind.befall(self);
            self.rng.lean(false);
            self.rng.count(true);
        }
    }

    /// True once in so many times; never for 0, and draws nothing then.
    pub(crate) fn happens(&mut self, odds: u64) -> bool {
        odds > 0 && self.rng.one_in(odds)
    }

    /// Whether a server is there to do anything.
    pub(crate) fn lives(&self, who: u32) -> bool {
        self.servers.get(&who).is_none_or(|server| *server.health.borrow() != Health::Dead)
    }

    /// Counts an effect of a server, and says whether it crashes before (false) or after it (true).
    pub(crate) fn effect(&mut self, who: u32) -> Option<bool> {
        if !self.servers.contains_key(&who) {
            return None;
        }
        self.effects += 1;
        if let Some(server) = self.servers.get_mut(&who) {
            server.effects += 1;
        }
        if let Some(CrashAt { effect, after }) = self.crash_at
            && effect == self.effects
        {
            return Some(after);
        }
        let odds = self.odds.crash;
        if self.happens(odds) { Some(self.rng.one_in(2)) } else { None }
    }

    /// A server is gone in the middle of whatever it did. Its connections break when the machines notice.
    pub(crate) fn kill(&mut self, who: u32, why: &str) {
        let Some(server) = self.servers.get_mut(&who) else { return };
        if *server.health.borrow() == Health::Dead {
            return;
        }
        server.health.send_replace(Health::Dead);
        server.parts = None;
        let name = server.name.clone();
        self.say(format!("{name} crashes ({why})"));
        let conns: Vec<u64> =
            self.conns.iter().filter(|(_, conn)| conn.who == who).map(|(id, _)| *id).collect();
        for conn in conns {
            let after = self.rng.between(0, 2_000);
            self.after(after, move |inner| inner.drop_conn(conn));
        }
        let after = self.rng.between(100, 10_000);
        self.after(after, move |inner| {
            inner.to_start.insert(name);
            inner.died.notify_one();
        });
    }
}
