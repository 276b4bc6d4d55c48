//! A simulated machine: what the node's script does with the lines that the controller sends, and what happens there by itself.
//!
//! It reads the very text that a real node would get. What is true there is kept apart from what its records say, as on a real
//! one: `copies` are the processes that run, whoever knows of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::checks;
use crate::words::words;
use crate::world::Inner;

#[path = "care.rs"]
mod care;

/// The argument by which a program ends soon, whenever it is started.
pub(crate) const DIES: &str = "dies";

/// The argument by which a program never does its work, which only a check finds out.
pub(crate) const SICK: &str = "sick";

/// What a process's record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Backoff,
    Stopping,
    Stopped,
}

/// What a program makes of its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Temper {
    /// It ends soon, whenever it is started.
    dies: bool,
    /// It never does its work.
    is_sick: bool,
}

/// What a step says of a process that is to be started or adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Order {
    hash: String,
    live: String,
    lease: Option<u64>,
    is_checked: bool,
    temper: Temper,
}

impl Order {
    /// ID HASH LIVE SIGNAL GRACE ENV LOG CHECK LEASE ARGV…, after the word.
    fn read(step: &[String]) -> Order {
        let says = |word: &str| step[10..].iter().any(|argument| argument == word);
        Order {
            hash: step[2].clone(),
            live: step[3].clone(),
            lease: (step[9] != "-").then(|| step[9].parse().expect("seconds")),
            is_checked: step[8] != "-",
            temper: Temper { dies: says(DIES), is_sick: says(SICK) },
        }
    }
}

#[derive(Debug, Clone)]
struct Record {
    phase: Phase,
    boot: u64,
    /// Its supervisor, or who stops it, is there.
    sup: bool,
    pid: Option<u32>,
    hash: String,
    live: String,
    restarts: u64,
    exit: Option<i32>,
    /// Seconds that it may run while nobody renews that.
    lease: Option<u64>,
    /// Its supervisor asks whether it does its work.
    is_checked: bool,
    /// What that came to, and of which pid.
    health: Option<(u32, bool)>,
    temper: Temper,
    since: u64,
    /// Counts what was asked for: what an earlier one has planned does not happen.
    turn: u64,
}

/// A machine.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) is_up: bool,
    pub(crate) boot: u64,
    /// Its host key.
    pub(crate) key: u64,
    pub(crate) disk_full: bool,
    pub(crate) fence: (u64, u64),
    pub(crate) bundle: Option<String>,
    /// Processes that run, by pid, and whose they are.
    pub(crate) copies: BTreeMap<u32, String>,
    pub(crate) strangers: BTreeSet<u32>,
    /// The folder's name, once it was said.
    pub(crate) root: Option<String>,
    records: BTreeMap<String, Record>,
    locked_until: u64,
    next_pid: u32,
    next_turn: u64,
    /// When it came up, and by how many thousandths its clock runs too fast or, below 0, too slow.
    up_since: u64,
    drift: i64,
    /// When the leader had seen this machine, as it last said, in hundredths of a second that it has been up.
    seen_at: Option<u64>,
    /// When its guard looks next.
    guard_at: Option<u64>,
}

impl Machine {
    pub(crate) fn new(key: u64, boot: u64) -> Machine {
        Machine {
            is_up: true,
            boot,
            key,
            disk_full: false,
            fence: (0, 0),
            bundle: None,
            copies: BTreeMap::new(),
            strangers: BTreeSet::from([11, 12]),
            root: None,
            records: BTreeMap::new(),
            locked_until: 0,
            next_pid: 100,
            next_turn: 0,
            up_since: 0,
            drift: 0,
            seen_at: None,
            guard_at: None,
        }
    }

    /// The same with a clock that runs so many thousandths too fast or, below 0, too slow.
    pub(crate) fn with_drift(self, drift: i64) -> Machine {
        Machine { drift, ..self }
    }

    /// What is known there, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.records.keys().cloned().collect()
    }

    /// How many copies of a process run.
    pub(crate) fn count(&self, id: &str) -> usize {
        self.copies.values().filter(|of| *of == id).count()
    }

    /// The hash that a process was started with, and what it was told.
    pub(crate) fn started_with(&self, id: &str) -> Option<(&str, &str)> {
        self.records.get(id).map(|record| (record.hash.as_str(), record.live.as_str()))
    }

    /// The phase as a look would tell it.
    pub(crate) fn phase(&self, id: &str) -> Option<&'static str> {
        let record = self.records.get(id)?;
        let lives = record.boot == self.boot && record.pid.is_some_and(|pid| self.copies.contains_key(&pid));
        Some(match record.phase {
            Phase::Stopped => "stopped",
            _ if record.boot != self.boot => "lost",
            _ if lives && !record.sup => "unsupervised",
            _ if !record.sup => "lost",
            Phase::Running if lives => "running",
            Phase::Running | Phase::Backoff => "backoff",
            Phase::Stopping => "stopping",
        })
    }

    fn level(&self, id: &str, now: u64) -> String {
        let (Some(record), Some(phase)) = (self.records.get(id), self.phase(id)) else {
            return format!("G {id}");
        };
        let lives = record.boot == self.boot && record.pid.is_some_and(|pid| self.copies.contains_key(&pid));
        let pid = match record.pid {
            Some(pid) if lives => pid.to_string(),
            Some(_) | None => "-".into(),
        };
        let exit = record.exit.map_or_else(|| "-".into(), |exit| exit.to_string());
        let health = match record.health {
            Some((of, is_well)) if lives && record.pid == Some(of) => {
                if is_well {
                    "healthy -"
                } else {
                    "unhealthy it does not do its work"
                }
            }
            Some(_) | None => "- ",
        };
        let Record { restarts, hash, live, since, .. } = record;
        let age = (now - since) / 10;
        format!("P {id} {phase} {pid} {pid} {restarts} {exit} {hash} {live} {age} {health}")
    }

    fn bundle_line(&self) -> String {
        format!("B {}", self.bundle.as_deref().unwrap_or("-"))
    }

    /// A copy of it runs from now on.
    fn launch(&mut self, id: &str, now: u64) {
        self.next_pid += 1;
        let (pid, boot) = (self.next_pid, self.boot);
        if let Some(record) = self.records.get_mut(id) {
            (record.phase, record.pid, record.boot, record.since) = (Phase::Running, Some(pid), boot, now);
            record.sup = true;
            self.copies.insert(pid, id.to_owned());
        }
    }

    fn end_copy(&mut self, id: &str) {
        if let Some(pid) = self.records.get(id).and_then(|record| record.pid) {
            self.copies.remove(&pid);
        }
    }

    /// Something new is asked of it: what was planned before is off.
    fn turn(&mut self, id: &str) -> u64 {
        self.next_turn += 1;
        if let Some(record) = self.records.get_mut(id) {
            record.turn = self.next_turn;
        }
        self.next_turn
    }

    fn is_turn(&self, id: &str, boot: u64, turn: u64) -> bool {
        self.is_up && self.boot == boot && self.records.get(id).is_some_and(|record| record.turn == turn)
    }
}

/// What follows when it was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Then {
    Rest,
    Forget,
    Start(Order),
}

impl Inner {
    fn machine(&mut self, host: &str) -> &mut Machine {
        self.machines.get_mut(host).expect("there is such a machine")
    }

    /// A machine hears a text.
    pub(crate) fn hear(&mut self, host: &str, conn: u64, text: &str) {
        let (head, rest) = text.split_once('\n').unwrap_or((text, ""));
        let head = words(head);
        let number = |at: usize| head[at].parse::<u64>().expect("a number");
        match head[0].as_str() {
            "LEASE" => self.renew(host, conn, (number(1), number(2)), number(3)),
            "OPEN" => self.open(host, conn, &head[1], number(2), number(3)),
            "LOOK" => {
                if self.conns[&conn].is_open {
                    self.tell_all(host, conn);
                    let clock = self.clock_of_nodes();
                    self.tell(conn, format!("K {} {clock}", head[1]));
                }
            }
            "BATCH" => {
                assert_eq!(rest.len() as u64, number(4), "the frame says how long it is");
                let steps: Vec<Vec<String>> = rest.lines().map(words).collect();
                let (end, steps) = steps.split_last().expect("a batch has an end");
                assert_eq!(end.join(" "), format!("END {}", number(3)));
                self.batch(host, conn, (number(1), number(2)), steps.to_vec(), 10_000);
            }
            other => panic!("no node knows the line {other}"),
        }
    }

    /// The nodes' time of day, in seconds.
    fn clock_of_nodes(&self) -> u64 {
        (crate::world::EPOCH_MS + self.now()) / 1000
    }

    fn tell_all(&mut self, host: &str, conn: u64) {
        let now = self.now();
        let machine = self.machine(host);
        let mut lines: Vec<String> = machine.ids().iter().map(|id| machine.level(id, now)).collect();
        lines.push(machine.bundle_line());
        lines.into_iter().for_each(|line| self.tell(conn, line));
    }

    fn open(&mut self, host: &str, conn: u64, root: &str, epoch: u64, revision: u64) {
        let machine = self.machine(host);
        if let Err(newer) = machine.pass_fence((epoch, revision)) {
            self.say(format!("{host}: refuses OPEN of epoch {epoch}, for one of {} came before", newer.0));
            self.tell(conn, format!("X fenced {}", newer.0));
            return;
        }
        machine.root = Some(root.to_owned());
        self.say(format!("{host}: OPEN {root} of epoch {epoch}"));
        self.tell(conn, format!("R /home/{root}"));
        self.tell_all(host, conn);
        let clock = self.clock_of_nodes();
        let now = self.now();
        let uptime = self.machine(host).uptime(now);
        self.tell(conn, format!("L {uptime}"));
        self.tell(conn, format!("O {clock}"));
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.is_open = true;
        }
    }

    /// Leases last from when the machine had said this uptime.
    fn renew(&mut self, host: &str, conn: u64, at: (u64, u64), uptime: u64) {
        let now = self.now();
        let machine = self.machine(host);
        if at < machine.fence {
            let newer = machine.fence.0;
            self.tell(conn, format!("X fenced {newer}"));
            return;
        }
        let up = machine.uptime(now);
        if uptime <= up {
            machine.seen_at = machine.seen_at.max(Some(uptime));
        }
        self.tell(conn, format!("L {up}"));
    }

    fn batch(&mut self, host: &str, conn: u64, at: (u64, u64), steps: Vec<Vec<String>>, patience: u64) {
        let now = self.now();
        let machine = self.machine(host);
        let waits = machine.locked_until.saturating_sub(now);
        if waits > patience {
            self.after(patience, move |inner| inner.tell(conn, format!("D {} locked", at.1)));
            return;
        }
        if waits > 0 {
            let (host, boot) = (host.to_owned(), machine.boot);
            self.after(waits, move |inner| {
                if inner.is_there(&host, boot) {
                    inner.batch(&host, conn, at, steps, patience - waits);
                }
            });
            return;
        }
        if let Err(newer) = machine.pass_fence(at) {
            self.say(format!("{host}: refuses BATCH of epoch {}, for one of {} came before", at.0, newer.0));
            self.tell(conn, format!("D {} fenced {} {}", at.1, newer.0, newer.1));
            return;
        }
        let boot = machine.boot;
        let mut unbundled = false;
        for step in &steps {
            checks::before_step(self, host, at.0, step);
            self.say(format!(
                "{host}: {} of epoch {}",
                step[..step.len().min(if step[0] == "bundle" { 2 } else { 3 })].join(" "),
                at.0
            ));
            if let Err(why) = self.step_on(host, step, &mut unbundled) {
                self.say(format!("{host}: … {why}"));
                self.tell(conn, format!("E {} {why}", step[1]));
            }
        }
        let takes = self.rng.between(2, 150);
        self.machine(host).locked_until = now + takes;
        let host = host.to_owned();
        self.after(takes, move |inner| {
            if !inner.is_there(&host, boot) {
                return;
            }
            let now = inner.now();
            for step in &steps {
                let machine = inner.machine(&host);
                let line = match step[0].as_str() {
                    "bundle" | "unbundle" => machine.bundle_line(),
                    "discard" => continue,
                    _ => machine.level(&step[1], now),
                };
                inner.tell(conn, line);
            }
            inner.tell(conn, format!("D {} done", at.1));
        });
    }

    fn is_there(&self, host: &str, boot: u64) -> bool {
        self.machines.get(host).is_some_and(|machine| machine.is_up && machine.boot == boot)
    }

    fn step_on(&mut self, host: &str, step: &[String], unbundled: &mut bool) -> Result<(), String> {
        let now = self.now();
        let full = || "disk full: there is no room for it".to_owned();
        let machine = self.machine(host);
        let (word, id) = (step[0].as_str(), step[1].as_str());
        match word {
            "bundle" if machine.disk_full => {
                *unbundled = true;
                return Err(full());
            }
            "bundle" => machine.bundle = Some(id.to_owned()),
            "unbundle" => machine.bundle = None,
            "discard" => {}
            "start" | "restart" | "adopt" => {
                let mut order = Order::read(step);
                if word != "adopt" && order.lease.is_some_and(|seconds| machine.is_over(seconds, now)) {
                    return Err("its lease was over when this came".into());
                }
                if *unbundled {
                    order.live = "-".to_owned();
                }
                let phase = machine.phase(id);
                if word == "start" && !matches!(phase, None | Some("stopped" | "lost")) {
                    return Ok(());
                }
                if machine.disk_full {
                    return Err(full());
                }
                if !machine.records.contains_key(id) {
                    machine.records.insert(id.to_owned(), fresh(now));
                }
                match (word, phase) {
                    ("adopt", Some("running" | "unsupervised" | "stopping")) if machine.count(id) > 0 => {
                        machine.turn(id);
                        if let Some(record) = machine.records.get_mut(id) {
                            // What it was told stays.
                            order.live.clone_from(&record.live);
                            record.take(order);
                            (record.sup, record.phase) = (true, Phase::Running);
                        }
                        self.look_after(host, id);
                    }
                    ("restart", _) => self.halt(host, id, Then::Start(order)),
                    _ => {
                        machine.turn(id);
                        if let Some(record) = machine.records.get_mut(id) {
                            record.take(order);
                            record.restarts = 0;
                        }
                        self.begin(host, id);
                        self.report(host, id);
                    }
                }
            }
            "stop" | "remove" => {
                if machine.records.contains_key(id) {
                    self.halt(host, id, if word == "stop" { Then::Rest } else { Then::Forget });
                }
            }
            "reload" => {
                if machine.count(id) == 0 {
                    return Err("it is not running, so it was not told".into());
                }
                if let Some(record) = machine.records.get_mut(id) {
                    record.live.clone_from(&step[3]);
                }
            }
            other => panic!("no node knows the step {other}"),
        }
        Ok(())
    }

    /// Asks it to end, which takes a while.
    fn halt(&mut self, host: &str, id: &str, then: Then) {
        let (now, takes) = (self.now(), self.rng.between(5, 3_000));
        let slow = self.rng.one_in(20);
        let machine = self.machine(host);
        let turn = machine.turn(id);
        let boot = machine.boot;
        let is_alive = machine.count(id) > 0;
        if let Some(record) = machine.records.get_mut(id) {
            (record.phase, record.sup, record.since) = (Phase::Stopping, true, now);
            if record.boot != boot {
                (record.boot, record.pid) = (boot, None);
            }
        }
        let takes = match (is_alive, slow) {
            (false, _) => 2,
            (true, false) => takes,
            // It does not end by itself.
            (true, true) => 10_000,
        };
        self.report(host, id);
        let (host, id) = (host.to_owned(), id.to_owned());
        self.after(takes, move |inner| {
            let now = inner.now();
            let machine = inner.machine(&host);
            if !machine.is_turn(&id, boot, turn) {
                return;
            }
            machine.end_copy(&id);
            match then {
                Then::Rest => {
                    if let Some(record) = machine.records.get_mut(&id) {
                        (record.phase, record.pid, record.sup, record.since) =
                            (Phase::Stopped, None, false, now);
                    }
                }
                Then::Forget => {
                    machine.records.remove(&id);
                }
                Then::Start(order) => {
                    if let Some(record) = machine.records.get_mut(&id) {
                        record.take(order);
                        record.restarts = 0;
                    }
                    inner.begin(&host, &id);
                }
            }
            inner.report(&host, &id);
        });
    }

    /// Rings for a process: says how it is, unasked, to whoever has a conversation open.
    fn report(&mut self, host: &str, id: &str) {
        let (now, boot) = (self.now(), self.machine(host).boot);
        let line = self.machine(host).level(id, now);
        let open = |(_, conn): &(&u64, &crate::net::Conn)| {
            conn.host == host && conn.boot == boot && conn.is_open && !conn.is_over
        };
        let conns: Vec<u64> = self.conns.iter().filter(open).map(|(id, _)| *id).collect();
        conns.into_iter().for_each(|conn| self.tell(conn, line.clone()));
    }
}

impl Machine {
    /// Lets pass what is not older than what came before, which it answers else.
    fn pass_fence(&mut self, at: (u64, u64)) -> Result<(), (u64, u64)> {
        if at < self.fence {
            return Err(self.fence);
        }
        self.fence = at;
        Ok(())
    }
}

impl Record {
    /// From here on it is started, and looked after, like this.
    fn take(&mut self, order: Order) {
        let Order { hash, live, lease, is_checked, temper } = order;
        (self.hash, self.live, self.lease) = (hash, live, lease);
        (self.is_checked, self.temper) = (is_checked, temper);
    }
}

fn fresh(now: u64) -> Record {
    Record {
        phase: Phase::Stopped,
        boot: 0,
        sup: false,
        pid: None,
        hash: "-".into(),
        live: "-".into(),
        restarts: 0,
        exit: None,
        lease: None,
        is_checked: false,
        health: None,
        temper: Temper::default(),
        since: now,
        turn: 0,
    }
}
