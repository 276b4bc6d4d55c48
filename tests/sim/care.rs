//! What happens on a machine though nobody asks for it: a supervisor starts again what ended, asks whether it does its work, and the guard
//! stops what has a lease that is over; and what befalls them.

use super::{Inner, Machine, Phase, Record, Then};

/// How late a guard may notice that a lease is over, in milliseconds. Guard and keeper each look, the keeper every two seconds.
const NOTICES_WITHIN: u64 = 2_500;

impl Machine {
    /// Hundredths of a second since it came up, by its own clock.
    pub(super) fn uptime(&self, now: u64) -> u64 {
        let thousandths = u64::try_from(1000 + self.drift).expect("no clock runs backwards");
        now.saturating_sub(self.up_since) * thousandths / 10_000
    }

    /// For how many milliseconds a lease of so many seconds goes on, by the clock of the machine.
    fn lease_left(&self, seconds: u64, now: u64) -> u64 {
        let end = self.seen_at.map_or(0, |seen| seen + seconds * 100);
        end.saturating_sub(self.uptime(now)) * 10
    }

    /// Whether a lease of so many seconds is over.
    pub(super) fn is_over(&self, seconds: u64, now: u64) -> bool {
        self.lease_left(seconds, now) == 0
    }

    /// Whether a process runs, or may be started again, under a lease.
    fn is_guarded(&self, record: &Record) -> bool {
        record.boot == self.boot && record.phase != Phase::Stopped && record.lease.is_some()
    }

    /// Whether what runs as this process has a lease.
    pub(crate) fn is_leased(&self, id: &str) -> bool {
        self.records.get(id).is_some_and(|record| record.lease.is_some())
    }

    /// Whether it does its work, as its last check has found; none before that, and where there is none.
    pub(crate) fn health(&self, id: &str) -> Option<bool> {
        let record = self.records.get(id)?;
        record.health.filter(|(of, _)| record.pid == Some(*of)).map(|(_, is_well)| is_well)
    }

    /// Whether it ends soon, whenever it is started.
    pub(crate) fn dies(&self, id: &str) -> bool {
        self.records.get(id).is_some_and(|record| record.temper.dies)
    }
}

impl Inner {
    /// A supervisor starts the process, unless its lease is over.
    pub(super) fn begin(&mut self, host: &str, id: &str) {
        let now = self.now();
        let machine = self.machine(host);
        let lease = machine.records.get(id).and_then(|record| record.lease);
        if lease.is_some_and(|seconds| machine.is_over(seconds, now)) {
            let boot = machine.boot;
            if let Some(record) = machine.records.get_mut(id) {
                (record.phase, record.pid, record.sup, record.since) = (Phase::Stopped, None, false, now);
                record.boot = boot;
            }
            self.say(format!("{host}: {id} is not started, its lease is over"));
            return;
        }
        machine.launch(id, now);
        self.look_after(host, id);
        if self.machine(host).dies(id) {
            let lives = self.rng.between(100, 3_000);
            let (host, id, pid) = (host.to_owned(), id.to_owned(), self.machine(host).records[id].pid);
            self.after(lives, move |inner| {
                let machine = inner.machine(&host);
                let record = machine.records.get(&id).filter(|record| record.pid == pid);
                if machine.is_up && record.is_some() && machine.count(&id) > 0 {
                    inner.crash_process(&host, &id);
                }
            });
        }
    }

    /// A supervisor is there, and what is beside it.
    pub(super) fn look_after(&mut self, host: &str, id: &str) {
        self.arm_guard(host);
        let Some(record) = self.machine(host).records.get(id).filter(|record| record.is_checked) else {
            return;
        };
        let (pid, boot, is_sick) = (record.pid, record.boot, record.temper.is_sick);
        // The first answer takes a moment, and that it is not well is only believed after some.
        let takes = if is_sick { self.rng.between(1_000, 4_000) } else { self.rng.between(20, 1_500) };
        let (host, id) = (host.to_owned(), id.to_owned());
        self.after(takes, move |inner| inner.find(&host, &id, (boot, pid), !is_sick));
    }

    /// A check has found how a process is, if it is still that one and somebody is there to ask.
    fn find(&mut self, host: &str, id: &str, of: (u64, Option<u32>), is_well: bool) {
        let machine = self.machine(host);
        let lives = machine.is_up && machine.count(id) > 0;
        let Some(record) = machine.records.get_mut(id) else { return };
        let is_same = lives && (record.boot, record.pid) == of && record.phase == Phase::Running;
        let found = record.pid.map(|pid| (pid, is_well));
        if is_same && record.sup && record.is_checked && record.health != found {
            record.health = found;
            self.report(host, id);
        }
    }

    /// A process that does its work does not for a while.
    pub(crate) fn fall_ill(&mut self, host: &str, id: &str) {
        let lasts = self.rng.between(1_000, 40_000);
        let Some(record) = self.machine(host).records.get(id) else { return };
        let of = (record.boot, record.pid);
        if !record.is_checked || record.temper.is_sick {
            return;
        }
        self.say(format!("{host}: {id} does not do its work for {lasts} ms"));
        self.find(host, id, of, false);
        self.ill_until = self.ill_until.max(self.now() + lasts);
        let (host, id) = (host.to_owned(), id.to_owned());
        self.after(lasts, move |inner| inner.find(&host, &id, of, true));
    }

    /// Has the guard look when the next lease may be over.
    fn arm_guard(&mut self, host: &str) {
        let now = self.now();
        let machine = self.machine(host);
        let leases = machine.records.values().filter(|record| machine.is_guarded(record));
        let next = leases.filter_map(|record| record.lease).map(|lease| machine.lease_left(lease, now)).min();
        let Some(at) = next.map(|left| now + left) else {
            machine.guard_at = None;
            return;
        };
        if machine.guard_at.is_some_and(|armed| armed > now && armed <= at + NOTICES_WITHIN) {
            return;
        }
        let at = at + self.rng.between(20, NOTICES_WITHIN);
        let machine = self.machine(host);
        machine.guard_at = Some(at);
        let (host, boot) = (host.to_owned(), machine.boot);
        self.after(at - now, move |inner| {
            let machine = inner.machine(&host);
            if machine.is_up && machine.boot == boot && machine.guard_at == Some(at) {
                machine.guard_at = None;
                inner.enforce(&host);
                inner.arm_guard(&host);
            }
        });
    }

    /// Stops what has a lease that is over, as a stop of the controller would.
    fn enforce(&mut self, host: &str) {
        let now = self.now();
        let machine = self.machine(host);
        let is_due = |record: &Record| {
            let is_over = record.lease.is_some_and(|seconds| machine.is_over(seconds, now));
            // While it is being stopped, who does that is let do it.
            is_over && machine.is_guarded(record) && !(record.phase == Phase::Stopping && record.sup)
        };
        let due: Vec<String> =
            machine.records.iter().filter(|(_, record)| is_due(record)).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.say(format!("{host}: the lease of {id} is over"));
            self.halt(host, &id, Then::Rest);
        }
    }

    /// A process ends by itself. Its supervisor starts it again.
    pub(crate) fn crash_process(&mut self, host: &str, id: &str) {
        let now = self.now();
        let machine = self.machine(host);
        machine.end_copy(id);
        let boot = machine.boot;
        let Some(record) = machine.records.get_mut(id) else { return };
        if record.phase != Phase::Running || !record.sup {
            return;
        }
        (record.phase, record.exit, record.since) = (Phase::Backoff, Some(137), now);
        record.restarts += 1;
        let longest = 2_000 * record.restarts.min(10);
        let delay = self.rng.between(0, longest);
        let turn = self.machine(host).turn(id);
        self.say(format!("{host}: {id} crashes"));
        self.report(host, id);
        let (host, id) = (host.to_owned(), id.to_owned());
        self.after(delay, move |inner| {
            if inner.machine(&host).is_turn(&id, boot, turn) {
                inner.begin(&host, &id);
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
        let now = self.now();
        let machine = self.machine(host);
        machine.copies.clear();
        machine.is_up = false;
        machine.boot += 1;
        machine.locked_until = 0;
        (machine.up_since, machine.seen_at, machine.guard_at) = (now + down, None, None);
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
        let now = self.now();
        let machine = self.machine(host);
        let key = machine.key + u64::from(!same_key);
        let drift = machine.drift;
        *machine = Machine { up_since: now, ..Machine::new(key, machine.boot + 1).with_drift(drift) };
    }
}
