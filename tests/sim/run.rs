//! One run: a world, faults and changes while it lasts, then none, and then it has to come to rest.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use mainstay::model::{Key, Kind};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::checks;
use crate::net::Outage;
use crate::node::Machine;
use crate::people::{People, Said, Wish, host};
use crate::rng::Rng;
use crate::server;
use crate::store::Sim;
use crate::world::{CLIENT, CrashAt, FATE, Health, Inner, Odds, Strike, World};

/// How long it may take, once nothing goes wrong any more, until all is as declared: the longest wait before a node that refused is
/// tried again, and some more.
const SETTLES_WITHIN_S: u64 = 600;

/// How long nothing may happen then: more than three looks at each node.
const QUIET_S: u64 = 50;

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Script {
    /// Everything at random.
    Random,
    /// A fixed course of changes, with a crash at one effect.
    Crash { servers: u8, at: Option<CrashAt> },
    /// The same course, with one fault in one of its steps.
    Fault { kind: Fault, step: u8 },
    /// One change of a small world from rest, with other choices at some points, and a fault.
    Explore(Course),
    /// One machine is stuck like this, or none is, the server is another one, and something changes.
    Stuck(Option<Outage>),
}

/// An enumerated run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    /// The world with leases, health and rollouts, or else the simplest.
    pub(crate) is_guarded: bool,
    /// Which change, 0 to 4.
    pub(crate) step: u8,
    /// The points at which not the quickest, or not the first, is chosen.
    pub(crate) others: [Option<u64>; 2],
    pub(crate) strike: Option<Strike>,
}

/// How long after its change the points of an enumerated run count, in seconds.
const COUNTS_FOR_S: u64 = 4;

/// How long a fault that is hard is left alone, in seconds: longer than any failover of the small world waits.
const HARD_FOR_S: u64 = 45;

/// A run's end.
pub(crate) struct Report {
    pub(crate) violation: Option<String>,
    pub(crate) trace: Vec<String>,
    pub(crate) effects: u64,
    /// Points of choice, and what happened, where the runs are enumerated.
    pub(crate) points: u64,
    pub(crate) events: u64,
    /// How long a change took to reach the node that is not stuck, in milliseconds.
    pub(crate) took: u64,
}

thread_local! {
    /// What has panicked on this thread, in whatever task: the runtime would keep it to itself.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Has panics noted, beside what is done about them anyway.
fn note_panics() {
    static NOTED: Once = Once::new();
    NOTED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            before(info);
        }));
    });
}

/// Runs a seed's world to its end.
pub(crate) fn run(seed: u64, script: Script, is_loud: bool) -> Report {
    note_panics();
    PANICS.with_borrow_mut(Vec::clear);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let world = World::new(seed);
        world.with(|inner| inner.is_loud = is_loud);
        tokio::spawn(world.clone().conduct());
        tokio::spawn(world.clone().revive());
        live(&world, script).await;
        let panics = PANICS.with_borrow_mut(std::mem::take);
        panics.into_iter().for_each(|what| world.with(|inner| inner.violate("PANIC", what)));
        world.with(|inner| Report {
            violation: inner.violation.take(),
            trace: std::mem::take(&mut inner.trace),
            effects: inner.effects,
            points: inner.rng.points(),
            events: inner.events,
            took: inner.took,
        })
    })
}

/// Runs one case of the store's contract suite on a simulated store.
pub(crate) fn on_a_store(case: crate::tools::Case) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let world = World::new(0);
        tokio::spawn(world.clone().conduct());
        case(&Sim { world, who: CLIENT }).await;
    });
}

/// What is wished for, and where people leave it.
#[derive(Clone)]
struct Desk(Arc<(Mutex<Papers>, Notify)>);

struct Papers {
    wish: Wish,
    said: Vec<Said>,
    is_applied: bool,
}

impl Desk {
    fn new(wish: Wish) -> Desk {
        Desk(Arc::new((Mutex::new(Papers { wish, said: Vec::new(), is_applied: false }), Notify::new())))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Papers) -> T) -> T {
        f(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what is wished for.
    fn change(&self, change: impl FnOnce(&mut Papers)) {
        self.with(|papers| {
            papers.is_applied = false;
            change(papers);
        });
        self.0.1.notify_one();
    }

    /// Brings what is wished for into the store, again and again.
    async fn work(self, mut people: People) {
        loop {
            let (wish, said) = self.with(|papers| (papers.wish.clone(), std::mem::take(&mut papers.said)));
            for said in said {
                people.say(said).await;
            }
            let is_applied = people.apply(&wish).await;
            self.with(|papers| papers.is_applied = is_applied && papers.wish == wish);
            if is_applied {
                let _ = timeout(Duration::from_secs(20), self.0.1.notified()).await;
            } else {
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn live(world: &World, script: Script) {
    let people = People::new(world).await;
    let (wish, servers, steps) = world.with(|inner| {
        for node in 1..=4 {
            for machine in 1..=2 {
                let key = u64::from(node) * 100 + u64::from(machine);
                // Up to a twentieth, and leases leave a tenth.
                let drift = i64::try_from(inner.rng.between(0, 100)).expect("it is small") - 50;
                inner.machines.insert(host(node, machine), Machine::new(key, 1).with_drift(drift));
            }
        }
        match script {
            Script::Random => {
                let nodes = inner.rng.between(1, 4) as u8;
                let services = inner.rng.between(1, 3) as u8;
                let wish = Wish::new(&mut inner.rng, nodes, services);
                let servers = inner.rng.between(1, 2) as u8;
                (wish, servers, inner.rng.between(4, 14))
            }
            Script::Crash { servers, at } => {
                inner.crash_at = at;
                (Wish::fixed(), servers, 5)
            }
            Script::Fault { .. } => (Wish::fixed(), 2, 5),
            Script::Explore(course) => {
                inner.rng = Rng::enumerated(course.others.into_iter().flatten());
                inner.strike = course.strike;
                let mut wish = if course.is_guarded { Wish::guarded() } else { Wish::fixed() };
                (0..course.step).for_each(|step| course.vary(&mut wish, step));
                (wish, 1, 1)
            }
            Script::Stuck(_) => (Wish::fixed(), 1, 1),
        }
    });
    for number in 1..=servers {
        server::start(world.clone(), format!("server-{number}")).await;
    }
    let desk = Desk::new(wish);
    let papers = desk.clone();
    tokio::spawn(papers.work(people));
    if matches!(script, Script::Random) {
        world.with(|inner| inner.odds = odds(inner));
    }
    for step in 0..steps {
        match script {
            Script::Random => chance(world, &desk).await,
            Script::Crash { .. } => {
                sleep(Duration::from_secs(12)).await;
                desk.change(|papers| papers.wish.vary(step as u8));
            }
            Script::Stuck(outage) => {
                sleep(Duration::from_secs(12)).await;
                let stick = move |inner: &mut Inner| {
                    if let Some(outage) = outage {
                        inner.unreachable.insert(host(1, 1), outage);
                    }
                    if let Some(server) = inner.some_server() {
                        inner.kill(server, "for another to begin");
                    }
                };
                world.act(FATE, "stick", stick).await;
                desk.change(|papers| papers.wish.vary(0));
                reach_the_other(world).await;
            }
            Script::Explore(course) => {
                sleep(Duration::from_secs(12)).await;
                world.act(FATE, "count", |inner| inner.rng.count(true)).await;
                desk.change(|papers| course.vary(&mut papers.wish, course.step));
                sleep(Duration::from_secs(COUNTS_FOR_S)).await;
                world.act(FATE, "count no more", |inner| inner.rng.count(false)).await;
                if course.strike.is_some_and(|strike| strike.is_hard) {
                    sleep(Duration::from_secs(HARD_FOR_S)).await;
                }
            }
            Script::Fault { kind, step: at } => {
                sleep(Duration::from_secs(12)).await;
                if u64::from(at) == step {
                    world.act(FATE, "fault", move |inner| kind.befall(inner)).await;
                }
                desk.change(|papers| papers.wish.vary(step as u8));
            }
        }
        if world.with(|inner| inner.violation.is_some()) {
            return;
        }
    }
    if let Script::Stuck(_) = script {
        return;
    }
    world.act(FATE, "heal", heal).await;
    if matches!(script, Script::Random) {
        // Half of what people have said of objects they take back, so that both ends are looked at.
        let back = world.act(FATE, "take back", |inner| {
            let all = (1..=4).flat_map(|of| [Said::Resume(of), Said::Uncordon(of)]);
            all.filter(|_| inner.rng.one_in(2)).collect::<Vec<_>>()
        });
        let back = back.await;
        desk.change(|papers| papers.said.extend(back));
    }
    if settle(world, &desk).await {
        rest(world).await;
    }
    if world.with(|inner| inner.violation.is_none()) && !matches!(script, Script::Explore(_)) {
        fail_static(world).await;
    }
}

impl Course {
    fn vary(self, wish: &mut Wish, step: u8) {
        if self.is_guarded { wish.vary_guarded(step) } else { wish.vary(step) }
    }
}

/// ISO: waits until the node that is not stuck is as declared, and notes how long that took.
async fn reach_the_other(world: &World) {
    let (began, host) = (world.with(|inner| inner.now()), host(2, 1));
    let mut why = String::new();
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        match world.with(|inner| checks::is_brought(inner, "ND2", &host)) {
            Ok(()) => return world.with(|inner| inner.took = inner.now() - began),
            Err(error) => why = error,
        }
    }
    world.with(|inner| inner.violate("ISO", why));
}

/// What goes wrong by itself in this run: some of it, for where everything does nothing gets far.
fn odds(inner: &mut Inner) -> Odds {
    let mut maybe = |often: u64, rare: u64| match inner.rng.between(0, 2) {
        0 => inner.rng.between(often, rare),
        _ => 0,
    };
    Odds {
        store_unknown: maybe(5, 30),
        store_refuses: maybe(20, 100),
        store_slow: maybe(20, 100),
        watch_breaks: maybe(5, 30),
        command_lost: maybe(8, 40),
        answer_lost: maybe(8, 40),
        duplicated: maybe(2, 8),
        delayed: maybe(8, 40),
        crash: maybe(20, 80),
    }
}

/// Something changes or goes wrong, and then time passes.
async fn chance(world: &World, desk: &Desk) {
    let is_change = world.act(FATE, "chance", |inner| inner.rng.one_in(2)).await;
    if is_change {
        let (mut wish, is_applied) = desk.with(|papers| (papers.wish.clone(), papers.is_applied));
        let changed = world.act(FATE, "wish", move |inner| {
            let what = wish.change(&mut inner.rng, is_applied);
            inner.say(format!("people: {what}"));
            let said = inner.rng.one_in(2).then(|| Said::draw(&mut inner.rng));
            (wish, said)
        });
        let (wish, said) = changed.await;
        desk.change(|papers| {
            papers.wish = wish;
            papers.said.extend(said);
        });
    } else {
        let befall = |inner: &mut Inner| {
            if let Some(fault) = inner.rng.pick(&Fault::ALL) {
                fault.befall(inner);
            }
        };
        world.act(FATE, "fault", befall).await;
    }
    let pause = world.act(FATE, "pause", |inner| match inner.rng.between(0, 3) {
        0 => inner.rng.between(0, 50),
        1 => inner.rng.between(50, 2_000),
        _ => inner.rng.between(2_000, 25_000),
    });
    sleep(Duration::from_millis(pause.await)).await;
}

/// A kind of fault, as a step of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Reboot,
    Replaced,
    ReplacedWithOtherKey,
    ProcessCrash,
    SupervisorCrash,
    BothCrash,
    DiskFull,
    Refused,
    Silent,
    Deaf,
    Mute,
    AuthFailed,
    StoreDown,
    Compaction,
    StaleWatch,
    Gap,
    ClockAhead,
    ClockBehind,
    Pause,
    Crash,
    Ill,
}

impl Fault {
    /// Each.
    pub(crate) const ALL: [Fault; 21] = [
        Fault::Reboot,
        Fault::Replaced,
        Fault::ReplacedWithOtherKey,
        Fault::ProcessCrash,
        Fault::SupervisorCrash,
        Fault::BothCrash,
        Fault::DiskFull,
        Fault::Refused,
        Fault::Silent,
        Fault::Deaf,
        Fault::Mute,
        Fault::AuthFailed,
        Fault::StoreDown,
        Fault::Compaction,
        Fault::StaleWatch,
        Fault::Gap,
        Fault::ClockAhead,
        Fault::ClockBehind,
        Fault::Pause,
        Fault::Crash,
        Fault::Ill,
    ];

    /// It happens now, to somebody.
    pub(crate) fn befall(self, inner: &mut Inner) {
        let hosts: Vec<String> = inner.used_hosts();
        let host = inner.rng.pick(&hosts);
        let process = inner.some_process();
        let server = inner.some_server();
        match self {
            Fault::Reboot => {
                let down = inner.rng.between(1_000, 40_000);
                host.into_iter().for_each(|host| inner.reboot(&host, down));
            }
            Fault::Replaced => host.into_iter().for_each(|host| inner.replace_machine(&host, true)),
            Fault::ReplacedWithOtherKey => {
                host.into_iter().for_each(|host| inner.replace_machine(&host, false));
            }
            Fault::ProcessCrash => {
                process.into_iter().for_each(|(host, id)| inner.crash_process(&host, &id));
            }
            Fault::SupervisorCrash => {
                process.into_iter().for_each(|(host, id)| inner.crash_supervisor(&host, &id));
            }
            Fault::BothCrash => {
                if let Some((host, id)) = process {
                    inner.crash_supervisor(&host, &id);
                    inner.crash_process(&host, &id);
                }
            }
            Fault::DiskFull => {
                if let Some(host) = host {
                    let (lasts, name) = (inner.rng.between(1_000, 60_000), host.clone());
                    inner.say(format!("{host}: its disk is full"));
                    inner.set_disk(&host, true);
                    inner.after(lasts, move |inner| inner.set_disk(&name, false));
                }
            }
            Fault::Refused => inner.outage(host, Outage::Refused),
            Fault::Silent => inner.outage(host, Outage::Silent),
            Fault::Deaf => inner.outage(host, Outage::Deaf),
            Fault::Mute => inner.outage(host, Outage::Mute),
            Fault::AuthFailed => inner.outage(host, Outage::AuthFailed),
            Fault::StoreDown => {
                let lasts = inner.rng.between(500, 20_000);
                inner.say(format!("the store is down for {lasts} ms"));
                inner.store_down_until = inner.now() + lasts;
            }
            Fault::Compaction => inner.compact(),
            Fault::StaleWatch => inner.go_stale(server),
            Fault::Gap => {
                inner.go_stale(server);
                inner.after(3_000, Inner::compact);
            }
            Fault::ClockAhead => inner.set_clock(server, 3_600_000),
            Fault::ClockBehind => inner.set_clock(server, -3_600_000),
            Fault::Pause => {
                if let Some(who) = server {
                    let lasts = inner.rng.between(500, 20_000);
                    inner.say(format!("{} is paused for {lasts} ms", inner.name_of(who)));
                    inner.set_health(who, Health::Paused);
                    inner.after(lasts, move |inner| inner.set_health(who, Health::Runs));
                }
            }
            Fault::Ill => process.into_iter().for_each(|(host, id)| inner.fall_ill(&host, &id)),
            Fault::Crash => server.into_iter().for_each(|who| inner.kill(who, "by itself")),
        }
    }
}

impl Inner {
    /// The machines that nodes are.
    fn used_hosts(&self) -> Vec<String> {
        let documents = self.store.now();
        let hosts = documents.of_kind(Kind::Node).filter_map(|(key, _)| documents.node(key));
        hosts.map(|node| node.ip_address.clone()).collect()
    }

    fn some_process(&mut self) -> Option<(String, String)> {
        let all: Vec<(String, String)> = self
            .machines
            .iter()
            .flat_map(|(host, machine)| machine.ids().into_iter().map(|id| (host.clone(), id)))
            .collect();
        self.rng.pick(&all)
    }

    fn some_server(&mut self) -> Option<u32> {
        let is_there = |(_, server): &(&u32, &crate::world::Server)| *server.health.borrow() == Health::Runs;
        let all: Vec<u32> = self.servers.iter().filter(is_there).map(|(who, _)| *who).collect();
        self.rng.pick(&all)
    }

    fn set_health(&mut self, who: u32, health: Health) {
        if self.lives(who)
            && let Some(server) = self.servers.get_mut(&who)
        {
            server.health.send_replace(health);
        }
    }

    fn set_disk(&mut self, host: &str, is_full: bool) {
        if let Some(machine) = self.machines.get_mut(host) {
            machine.disk_full = is_full;
        }
    }

    fn outage(&mut self, host: Option<String>, outage: Outage) {
        let Some(host) = host else { return };
        let lasts = self.rng.between(1_000, 60_000);
        self.say(format!("{host} is cut off ({outage:?}) for {lasts} ms"));
        self.unreachable.insert(host.clone(), outage);
        if outage == Outage::Refused {
            self.drop_conns_of(&host);
        }
        self.after(lasts, move |inner| {
            inner.unreachable.remove(&host);
        });
    }

    fn compact(&mut self) {
        let revision = self.store.revision;
        self.say(format!("the store is compacted at {revision}"));
        self.store.compact(revision).expect("it is the present one");
    }

    fn go_stale(&mut self, server: Option<u32>) {
        if let Some(who) = server {
            let lasts = self.rng.between(1_000, 40_000);
            self.say(format!("the watches of {} tell nothing for {lasts} ms", self.name_of(who)));
            let until = self.now() + lasts;
            if let Some(server) = self.servers.get_mut(&who) {
                server.stale_until = until;
            }
        }
    }

    fn set_clock(&mut self, server: Option<u32>, off: i64) {
        if let Some(who) = server {
            self.say(format!("the clock of {} is set by {off} ms", self.name_of(who)));
            let name = self.servers[&who].name.clone();
            *self.wall_off_ms.entry(name).or_default() += off;
        }
    }
}

/// Nothing goes wrong from here on.
fn heal(inner: &mut Inner) {
    inner.say("all is well from here on");
    inner.odds = Odds::default();
    inner.crash_at = None;
    inner.wall_off_ms.clear();
    inner.store_down_until = 0;
    inner.unreachable.clear();
    for machine in inner.machines.values_mut() {
        machine.disk_full = false;
    }
    for server in inner.servers.values_mut() {
        if *server.health.borrow() == Health::Paused {
            server.health.send_replace(Health::Runs);
        }
    }
}

/// ESR: waits until all is as declared, twice in a row.
async fn settle(world: &World, desk: &Desk) -> bool {
    let mut why = String::new();
    let mut fine = 0;
    for _ in 0..SETTLES_WITHIN_S / 5 {
        sleep(Duration::from_secs(5)).await;
        let is_applied = desk.with(|papers| papers.is_applied);
        let found = world.with(|inner| {
            if inner.violation.is_some() {
                return None;
            }
            Some(if is_applied { checks::converged(inner) } else { Err("not all is applied".into()) })
        });
        match found {
            None => return false,
            Some(Ok(())) => {
                fine += 1;
                if fine == 2 {
                    world.with(|inner| inner.say("all is as declared"));
                    return true;
                }
            }
            Some(Err(error)) => {
                (fine, why) = (0, error);
                trust(world);
            }
        }
    }
    world.with(|inner| {
        checks::explain(inner);
        inner.violate("ESR", why);
    });
    false
}

/// A person trusts each machine that has another key.
fn trust(world: &World) {
    let pingers = world.with(|inner| {
        let parts = inner.servers.values().filter_map(|server| server.parts.as_ref());
        parts.map(|parts| (parts.controller.pinger(), parts.observed.all())).collect::<Vec<_>>()
    });
    for (pinger, views) in pingers {
        for (instance, node) in views.keys().cloned() {
            // Refused where there is nothing to trust.
            let _ = pinger.trust(&Key::within(Kind::Node, instance, node));
        }
    }
}

/// ESR: then nothing more is done.
async fn rest(world: &World) {
    let counts = |inner: &mut Inner| (inner.writes, inner.batches);
    let before = world.with(counts);
    sleep(Duration::from_secs(QUIET_S)).await;
    let after = world.with(counts);
    if before != after {
        world.with(|inner| {
            inner.violate("QUIET", format!("writes and batches went from {before:?} to {after:?}"));
        });
        return;
    }
    if let Err(why) = world.with(checks::converged) {
        world.with(|inner| inner.violate("ESR", format!("it did not stay so: {why}")));
    }
}

/// Fail static: the servers end, and what runs goes on. What has a lease ends by itself.
async fn fail_static(world: &World) {
    let copies = |inner: &mut Inner| {
        let lasts = |machine: &Machine, id: &str| !machine.is_leased(id) && !machine.dies(id);
        let of = |(host, machine): (&String, &Machine)| {
            let copies = machine.copies.iter().filter(|(_, id)| lasts(machine, id));
            let copies = copies.map(|(pid, id)| (*pid, id.clone()));
            (host.clone(), copies.collect::<Vec<_>>())
        };
        inner.machines.iter().map(of).collect::<Vec<_>>()
    };
    let before = world.with(copies);
    let running: Vec<_> =
        world.with(|inner| inner.servers.values_mut().filter_map(|server| server.parts.take()).collect());
    for parts in running {
        parts.controller.end().await;
        parts.leadership.resign().await;
    }
    sleep(Duration::from_secs(30)).await;
    if world.with(copies) != before {
        world.with(|inner| inner.violate("FAIL STATIC", "the servers ended, and processes with them"));
    }
    let leased = |inner: &mut Inner| {
        let of = |machine: &Machine| machine.copies.values().find(|id| machine.is_leased(id)).cloned();
        inner.machines.iter().find_map(|(host, machine)| Some((host.clone(), of(machine)?)))
    };
    if let Some((host, id)) = world.with(leased) {
        let message = format!("{id} runs on {host}, and nobody has renewed its lease for 30 s");
        world.with(|inner| inner.violate("FENCED", message));
    }
}
