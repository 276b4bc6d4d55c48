//! A simulated machine: what the node's script does with the lines that the controller sends, and what happens there by itself.
//!
//! It reads the very text that a real node would get. What is true there is kept apart from what its records say, as on a real
//! one: `copies` are the processes that run, whoever knows of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::checks;
use crate::words::words;
use crate::world::Inner;

/// What a process's record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Backoff,
    Stopping,
    Stopped,
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
        }
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
        let Record { restarts, hash, live, since, .. } = record;
        let age = (now - since) / 10;
        format!("P {id} {phase} {pid} {pid} {restarts} {exit} {hash} {live} {age} - ")
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
    Start { hash: String, live: String },
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
        self.tell(conn, format!("O {clock}"));
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.is_open = true;
        }
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
                let hash = step[2].clone();
                let live = if *unbundled { "-".to_owned() } else { step[3].clone() };
                let phase = machine.phase(id);
                if word == "start" && !matches!(phase, None | Some("stopped" | "lost")) {
                    return Ok(());
                }
                if machine.disk_full {
                    return Err(full());
                }
                if !machine.records.contains_key(id) {
                    machine.records.insert(id.to_owned(), fresh(&hash, &live, now));
                }
                match (word, phase) {
                    ("adopt", Some("running" | "unsupervised" | "stopping")) if machine.count(id) > 0 => {
                        machine.turn(id);
                        if let Some(record) = machine.records.get_mut(id) {
                            (record.sup, record.hash, record.phase) = (true, hash, Phase::Running);
                        }
                    }
                    ("restart", _) => self.halt(host, id, Then::Start { hash, live }),
                    _ => {
                        machine.turn(id);
                        if let Some(record) = machine.records.get_mut(id) {
                            (record.hash, record.live, record.restarts) = (hash, live, 0);
                        }
                        machine.launch(id, now);
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
                Then::Start { hash, live } => {
                    if let Some(record) = machine.records.get_mut(&id) {
                        (record.hash, record.live, record.restarts) = (hash, live, 0);
                    }
                    machine.launch(&id, now);
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

    /// A process ends by itself. Its supervisor starts it again.
    pub(crate) fn crash_process(&mut self, host: &str, id: &str) {
        let (now, delay) = (self.now(), self.rng.between(0, 2_000));
        let machine = self.machine(host);
        machine.end_copy(id);
        let boot = machine.boot;
        let Some(record) = machine.records.get_mut(id) else { return };
        if record.phase != Phase::Running || !record.sup {
            return;
        }
        (record.phase, record.exit, record.since) = (Phase::Backoff, Some(137), now);
        record.restarts += 1;
        let turn = machine.turn(id);
        self.say(format!("{host}: {id} crashes"));
        self.report(host, id);
        let (host, id) = (host.to_owned(), id.to_owned());
        self.after(delay, move |inner| {
            let now = inner.now();
            let machine = inner.machine(&host);
            if machine.is_turn(&id, boot, turn) {
                machine.launch(&id, now);
                inner.report(&host, &id);
            }
        });
    }

    /// A supervisor is killed. Nobody is left to ring.
    pub(crate) fn crash_supervisor(&mut self, host: &str, id: &str) {
        let machine = self.machine(host);
        machine.turn(id);
        if let Some(record) = machine.records.get_mut(id) {
            record.sup = false;
        }
        self.say(format!("{host}: the supervisor of {id} is killed"));
    }

    /// The machine goes down, and up again after so many milliseconds.
    pub(crate) fn reboot(&mut self, host: &str, down: u64) {
        self.say(format!("{host}: reboots, for {down} ms"));
        self.drop_conns_of(host);
        let machine = self.machine(host);
        machine.copies.clear();
        machine.is_up = false;
        machine.boot += 1;
        machine.locked_until = 0;
        let (host, boot) = (host.to_owned(), machine.boot);
        self.after(down, move |inner| {
            let machine = inner.machine(&host);
            if machine.boot == boot {
                machine.is_up = true;
            }
        });
    }

    /// Another machine stands there, with nothing on it; with another host key or, as of an image, the same.
    pub(crate) fn replace_machine(&mut self, host: &str, same_key: bool) {
        self.say(format!(
            "{host}: another machine stands there{}",
            if same_key { "" } else { ", with another key" }
        ));
        self.drop_conns_of(host);
        let machine = self.machine(host);
        let key = machine.key + u64::from(!same_key);
        *machine = Machine::new(key, machine.boot + 1);
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

fn fresh(hash: &str, live: &str, now: u64) -> Record {
    Record {
        phase: Phase::Stopped,
        boot: 0,
        sup: false,
        pid: None,
        hash: hash.to_owned(),
        live: live.to_owned(),
        restarts: 0,
        exit: None,
        since: now,
        turn: 0,
    }
}
