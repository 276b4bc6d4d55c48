//! What goes wrong in a round, as data: the same for the same seed and number, whatever the machine does.

use std::fmt;

/// How many nodes there are.
pub(crate) const NODES: usize = 3;

/// The services, each with a process on every node: its id, and how its program behaves.
pub(crate) const SERVICES: [(&str, &str); 3] = [("SV1", "plain"), ("SV2", "deaf"), ("SV3", "forks")];

/// How long a frozen sshd stays so.
const FROZEN_MS: u64 = 10_000;

/// So long a pid is left to the machine's init, which has to collect the dead before it is free; some take seconds.
const VACANT_MS: u64 = 3_000;

/// The faults of a round begin within this time, but for those that follow close on another.
const SPREAD_MS: u64 = 3_000;

/// How close on another one.
const CLOSE_MS: u64 = 150;

/// A process's place in the world: the index of its service and of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) service: usize,
    pub(crate) node: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (service, kind) = SERVICES[self.service];
        write!(f, "{service} ({kind}) on ND{}", self.node + 1)
    }
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9 of the ssh that carries the link to a node.
    KillMaster(usize),
    /// kill -9 of a node's listening sshd; it is started again.
    KillListener(usize),
    /// kill -9 of the sshd that serves the link.
    KillSession(usize),
    /// Both of these.
    KillSshd(usize),
    /// SIGSTOP of both, then SIGCONT.
    FreezeSshd(usize),
    /// kill -9 of a supervisor.
    KillSupervisor(Place),
    /// kill -9 of a service's program.
    KillProgram(Place),
    /// kill -9 of both, one a moment after the other: a supervisor may be killed while it starts the program again.
    KillBoth { place: Place, supervisor_first: bool },
    /// The same, and a stranger gets the program's pid once it is free.
    ReusePid(Place),
    /// The program dies at once, whenever it is started.
    Brittle(Place),
    /// A service is stopped and started again, by the API.
    Bounce(usize),
    /// kill -9 of the controller; it is started again on the same data.
    KillController,
    /// A second controller is started on the same store.
    SecondController {
        /// Whether the older one is then told to end, rather than killed.
        is_told: bool,
    },
}

impl Fault {
    /// The fault in a few words, without what it befalls.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Fault::KillMaster(_) => "kill the ssh master",
            Fault::KillListener(_) => "kill the listening sshd",
            Fault::KillSession(_) => "kill the session's sshd",
            Fault::KillSshd(_) => "kill the whole sshd",
            Fault::FreezeSshd(_) => "freeze sshd",
            Fault::KillSupervisor(_) => "kill the supervisor",
            Fault::KillProgram(_) => "kill the program",
            Fault::KillBoth { supervisor_first: true, .. } => "kill supervisor, then program",
            Fault::KillBoth { supervisor_first: false, .. } => "kill program, then supervisor",
            Fault::ReusePid(_) => "vacate the pid",
            Fault::Brittle(_) => "make the program die at once",
            Fault::Bounce(_) => "stop and start the service",
            Fault::KillController => "kill the controller",
            Fault::SecondController { .. } => "start a second controller",
        }
    }

    /// What can't befall the same thing twice at once: the node's sshd, the process, the service or the controller. None for
    /// what is over at once.
    fn occupies(self) -> Option<(u8, usize)> {
        match self {
            Fault::KillListener(node) | Fault::KillSshd(node) | Fault::FreezeSshd(node) => Some((0, node)),
            Fault::Brittle(place) | Fault::ReusePid(place) | Fault::KillBoth { place, .. } => {
                Some((1, place.node * SERVICES.len() + place.service))
            }
            Fault::Bounce(service) => Some((2, service)),
            Fault::KillController | Fault::SecondController { .. } => Some((3, 0)),
            Fault::KillMaster(_)
            | Fault::KillSession(_)
            | Fault::KillSupervisor(_)
            | Fault::KillProgram(_) => None,
        }
    }
}

/// A fault, and when it begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) fault: Fault,
    pub(crate) begin_ms: u64,
    pub(crate) end_ms: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fault.name())?;
        match self.fault {
            Fault::KillMaster(node)
            | Fault::KillListener(node)
            | Fault::KillSession(node)
            | Fault::KillSshd(node)
            | Fault::FreezeSshd(node) => write!(f, " of ND{}", node + 1)?,
            Fault::KillSupervisor(place)
            | Fault::KillProgram(place)
            | Fault::KillBoth { place, .. }
            | Fault::ReusePid(place)
            | Fault::Brittle(place) => write!(f, " of {place}")?,
            Fault::Bounce(service) => write!(f, " {}", SERVICES[service].0)?,
            Fault::KillController | Fault::SecondController { .. } => {}
        }
        write!(f, " at {}", self.begin_ms)?;
        if self.end_ms > self.begin_ms { write!(f, "–{} ms", self.end_ms) } else { write!(f, " ms") }
    }
}

/// The faults of one round, in the order in which they begin.
pub(crate) fn round(seed: u64, number: u64) -> Vec<Event> {
    let mut random = Random::of(seed, number);
    let mut events: Vec<Event> = Vec::new();
    let count = 1 + random.below(5);
    while events.len() < count {
        let event = random.event(events.last());
        let is_taken = events.iter().any(|other| {
            event.fault.occupies().is_some() && event.fault.occupies() == other.fault.occupies()
        });
        if !is_taken {
            events.push(event);
        }
    }
    events.sort_by_key(|event| event.begin_ms);
    events
}

/// SplitMix64. Ten lines of our own, because a seed that somebody wrote down has to mean the same for ever, which the generators
/// of crates do not promise from one version to the next.
struct Random(u64);

impl Random {
    /// A stream for each round, so that a round can be replayed without those before it.
    fn of(seed: u64, number: u64) -> Random {
        let mut random = Random(seed);
        random.0 = random.next() ^ number;
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("it is below a usize")
    }

    fn event(&mut self, before: Option<&Event>) -> Event {
        let node = self.below(NODES);
        let place = Place { service: self.below(SERVICES.len()), node };
        let (fault, lasts_ms) = match self.below(13) {
            0 => (Fault::KillMaster(node), 0),
            1 => (Fault::KillListener(node), self.between(0, 3_000)),
            2 => (Fault::KillSession(node), 0),
            3 => (Fault::KillSshd(node), self.between(0, 3_000)),
            4 => (Fault::FreezeSshd(node), FROZEN_MS),
            5 => (Fault::KillSupervisor(place), 0),
            6 => (Fault::KillProgram(place), 0),
            7 => {
                let supervisor_first = self.below(2) == 0;
                (Fault::KillBoth { place, supervisor_first }, self.between(0, 60))
            }
            8 => (Fault::ReusePid(place), VACANT_MS),
            9 => (Fault::Brittle(place), self.between(500, 6_000)),
            10 => (Fault::Bounce(place.service), self.between(0, 1_500)),
            11 => (Fault::KillController, self.between(0, 2_000)),
            _ => (Fault::SecondController { is_told: self.below(2) == 0 }, self.between(500, 3_000)),
        };
        // Half of them follow close on the one before: what one leaves half done is where the next one hurts.
        let begin_ms = match before {
            Some(before) if self.below(2) == 0 => {
                let after = if self.below(2) == 0 { before.begin_ms } else { before.end_ms };
                after + self.between(0, CLOSE_MS)
            }
            Some(_) | None => self.between(0, SPREAD_MS),
        };
        Event { fault, begin_ms, end_ms: begin_ms + lasts_ms }
    }
}
