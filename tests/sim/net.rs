//! The simulated network: conversations between servers and machines, in both directions in order, and what happens to them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mainstay::node::link::{Connector, Link, LinkError, Target};
use mainstay::node::protocol::{self, Line};
use mainstay::node::side::{Side, Sides};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::checks;
use crate::world::{Inner, World};

/// How a machine can't be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    /// Refused at once, and open connections break.
    Refused,
    /// Nothing comes through, in either direction, and nobody says so.
    Silent,
    /// What the server says does not arrive; what the machine says does.
    Deaf,
    /// What the machine says does not arrive; what the server says does.
    Mute,
    /// It does not take the login.
    AuthFailed,
}

/// What comes out of a link.
type Said = (Instant, Result<String, ()>);

/// One conversation.
pub(crate) struct Conn {
    pub(crate) who: u32,
    pub(crate) host: String,
    /// The machine's boot that it is with.
    pub(crate) boot: u64,
    /// The machine has taken it up.
    pub(crate) is_open: bool,
    /// The machine's side has ended.
    pub(crate) is_over: bool,
    /// When the server has heard of all that is there; none before.
    pub(crate) told_at: Option<u64>,
    /// When it was opened, and when the server could first hear of its end.
    pub(crate) opened_at: u64,
    pub(crate) ended_at: Option<u64>,
    /// Nothing that the machine says gets through any more.
    pub(crate) is_mute: bool,
    to_server: mpsc::UnboundedSender<Said>,
    up_at: u64,
    down_at: u64,
}

/// A server's way to the machines.
pub(crate) struct Net {
    pub(crate) world: World,
    pub(crate) who: u32,
}

impl Connector for Net {
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Box<dyn Link>, LinkError>> {
        Box::pin(async move {
            self.world.gate(self.who).await;
            let (who, host, name) = (self.who, target.host.clone(), target.name.clone());
            let patience = target.connect_timeout;
            let what = format!("connect {name}");
            let tried = self
                .world
                .act(who, &what, move |inner| inner.lives(who).then(|| inner.connect(who, &host, &name)));
            let Some((wait, result)) = tried.await else { return std::future::pending().await };
            match wait {
                Some(wait) => sleep(Duration::from_millis(wait)).await,
                None => {
                    sleep(patience).await;
                    self.world.gate(who).await;
                    return Err(LinkError::TimedOut("no answer".into()));
                }
            }
            self.world.gate(who).await;
            let (conn, lines) = result?;
            let world = self.world.clone();
            Ok(Box::new(SimLink { world, who, conn, lines, head: None, name: target.name.clone() })
                as Box<dyn Link>)
        })
    }

    fn forget_host_key(&self, name: &str) -> std::io::Result<()> {
        self.world.with(|inner| {
            if inner.lives(self.who) {
                let server = inner.servers[&self.who].name.clone();
                inner.known_keys.remove(&(server, name.to_owned()));
            }
        });
        Ok(())
    }
}

type Connected = Result<(u64, mpsc::UnboundedReceiver<Said>), LinkError>;

impl Inner {
    /// None waits in vain.
    fn connect(&mut self, who: u32, host: &str, name: &str) -> (Option<u64>, Connected) {
        let wait = self.rng.between(5, 60);
        let lost = |why: &str| Err(LinkError::Unreachable(why.into()));
        match self.unreachable.get(host) {
            Some(Outage::Refused) => return (Some(wait), lost("connection refused")),
            Some(Outage::Silent | Outage::Deaf | Outage::Mute) => return (None, lost("never told")),
            Some(Outage::AuthFailed) => {
                return (Some(wait), Err(LinkError::AuthFailed("permission denied".into())));
            }
            None => {}
        }
        let Some(machine) = self.machines.get(host).filter(|machine| machine.is_up) else {
            return (Some(wait), lost("no route"));
        };
        let (boot, key) = (machine.boot, machine.key);
        let server = self.servers[&who].name.clone();
        let known = *self.known_keys.entry((server, name.to_owned())).or_insert(key);
        if known != key {
            return (Some(wait), Err(LinkError::HostKeyChanged("simulated".into())));
        }
        let (to_server, lines) = mpsc::unbounded_channel();
        let id = self.conns.keys().next_back().map_or(1, |last| last + 1);
        let now = self.now();
        self.conns.insert(
            id,
            Conn {
                who,
                host: host.to_owned(),
                boot,
                is_open: false,
                is_over: false,
                told_at: None,
                opened_at: now,
                ended_at: None,
                is_mute: false,
                to_server,
                up_at: now,
                down_at: now,
            },
        );
        (Some(wait), Ok((id, lines)))
    }

    /// A server sends a text. False when the connection is known to be gone.
    fn send(&mut self, id: u64, text: &str, name: &str) -> Option<bool> {
        let (who, host, is_over) = {
            let conn = &self.conns[&id];
            (conn.who, conn.host.clone(), conn.is_over)
        };
        let what = head(text);
        let is_command = !text.starts_with("LOOK");
        let crash = if is_command { self.effect(who) } else { None };
        if crash == Some(false) {
            self.kill(who, "before a send");
            return None;
        }
        if text.starts_with("BATCH") {
            self.batches += 1;
            if self.conns[&id].told_at.is_none_or(|told| told > self.now()) {
                let message = format!("{name} gets a batch before it has told all that is there");
                self.violate("IGN", message);
            }
        }
        if is_over {
            return Some(false);
        }
        let outage = self.unreachable.get(&host).copied();
        let lost = self.odds.command_lost;
        if matches!(outage, Some(Outage::Silent | Outage::Deaf)) || self.happens(lost) {
            self.say(format!("net: {what} of {} to {name} is lost", self.name_of(who)));
            let after = self.rng.between(0, 40_000);
            self.after(after, move |inner| inner.drop_conn(id));
        } else {
            let mut delay = self.rng.between(1, 20);
            let delayed = self.odds.delayed;
            if self.happens(delayed) {
                delay += self.rng.between(1_000, 40_000);
                let breaks = self.rng.between(0, 1_000);
                self.say(format!("net: {what} of {} to {name} is delayed by {delay} ms", self.name_of(who)));
                self.after(breaks, move |inner| inner.break_conn(id));
            }
            let answer_lost = self.odds.answer_lost;
            if is_command && self.happens(answer_lost) {
                self.say(format!("net: the answer to {what} of {name} is lost"));
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.is_mute = true;
                }
            }
            let at = self.conns[&id].up_at.max(self.now() + delay);
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.up_at = at;
            }
            let (text, copy) = (text.to_owned(), text.to_owned());
            let now = self.now();
            self.after(at - now, move |inner| inner.arrive(id, &text));
            let duplicated = self.odds.duplicated;
            if text_is_batch(&copy) && self.happens(duplicated) {
                let later = self.rng.between(0, 60_000);
                self.after(at - now + later, move |inner| {
                    // It is a fault, so none when all is well. Who ended its conversation, for its node is none any more, would not
                    // undo it.
                    let is_over = inner.conns.get(&id).is_none_or(|conn| conn.is_over);
                    if inner.odds.duplicated == 0 || is_over {
                        return;
                    }
                    inner.say(format!("net: {} arrives again", head(&copy)));
                    inner.arrive(id, &copy);
                });
            }
        }
        if crash == Some(true) {
            self.kill(who, "after a send");
            return None;
        }
        Some(true)
    }

    /// Something arrives at a machine.
    fn arrive(&mut self, id: u64, text: &str) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (host, boot) = (conn.host.clone(), conn.boot);
        let is_there = self.machines.get(&host).is_some_and(|machine| machine.is_up && machine.boot == boot);
        if is_there {
            self.hear(&host, id, text);
        }
    }

    /// A machine says a line.
    pub(crate) fn tell(&mut self, id: u64, line: String) {
        let latency = self.rng.between(1, 20);
        let now = self.now();
        let started = self.instant(0);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let outage = self.unreachable.get(&conn.host);
        if conn.is_over || conn.is_mute || matches!(outage, Some(Outage::Silent | Outage::Mute)) {
            // A line in between that is lost takes the rest with it: it is a stream.
            conn.is_mute = true;
            return;
        }
        conn.down_at = conn.down_at.max(now + latency);
        if line.starts_with("O ") {
            conn.told_at = Some(conn.down_at);
        }
        let at = started + Duration::from_millis(conn.down_at);
        drop(conn.to_server.send((at, Ok(line))));
    }

    /// The connection breaks for the server; what is on its way to the machine may arrive.
    fn break_conn(&mut self, id: u64) {
        let now = self.now();
        let at = self.instant(now);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.ended_at.get_or_insert(now);
            drop(conn.to_server.send((at, Err(()))));
            conn.is_mute = true;
        }
    }

    /// The connection breaks on both sides.
    pub(crate) fn drop_conn(&mut self, id: u64) {
        self.break_conn(id);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.is_over = true;
        }
    }

    /// All connections with a machine break.
    pub(crate) fn drop_conns_of(&mut self, host: &str) {
        let all: Vec<u64> =
            self.conns.iter().filter(|(_, conn)| conn.host == host).map(|(id, _)| *id).collect();
        all.into_iter().for_each(|id| self.drop_conn(id));
    }
}

/// The word of a text and its epoch. Revisions are counted over all nodes, so the order in which tasks are woken shows in them,
/// and in nothing else; they are in no trace.
fn head(text: &str) -> String {
    text.split([' ', '\n']).filter(|word| !word.contains('/')).take(2).collect::<Vec<_>>().join(" ")
}

fn text_is_batch(text: &str) -> bool {
    text.starts_with("BATCH")
}

/// A server's end of a conversation.
struct SimLink {
    world: World,
    who: u32,
    conn: u64,
    name: String,
    lines: mpsc::UnboundedReceiver<Said>,
    /// What has come off the wire and is not there yet.
    head: Option<Said>,
}

fn broken() -> LinkError {
    LinkError::Lost("the connection broke".into())
}

impl Link for SimLink {
    fn send<'a>(&'a mut self, text: &'a str) -> BoxFuture<'a, Result<(), LinkError>> {
        Box::pin(async move {
            if !self.world.gate(self.who).await {
                self.world.with(|inner| checks::at_send(inner, self.who, text));
            }
            let (who, conn, text, name) = (self.who, self.conn, text.to_owned(), self.name.clone());
            let what = format!("send {name}");
            let sent = self.world.act(who, &what, move |inner| {
                if inner.lives(who) { inner.send(conn, &text, &name) } else { None }
            });
            let Some(sent) = sent.await else { return std::future::pending().await };
            self.world.gate(who).await;
            if sent { Ok(()) } else { Err(broken()) }
        })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Line, LinkError>> {
        Box::pin(async move {
            if self.head.is_none() {
                self.head = self.lines.recv().await;
            }
            let Some((at, _)) = &self.head else { return Err(broken()) };
            sleep_until(*at).await;
            self.world.gate(self.who).await;
            match self.head.take() {
                Some((_, Ok(line))) => Ok(protocol::parse(&line)),
                Some((_, Err(()))) | None => Err(broken()),
            }
        })
    }

    fn sides(&self) -> Arc<dyn Sides> {
        Arc::new(NoSides)
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let conn = self.conn;
            let what = format!("close {}", self.name);
            self.world.act(self.who, &what, move |inner| inner.drop_conn(conn)).await;
        })
    }
}

/// Logs and artifacts are not simulated.
struct NoSides;

impl Sides for NoSides {
    fn open(&self, _: &[&str]) -> BoxFuture<'static, Result<Side, LinkError>> {
        Box::pin(std::future::ready(Err(LinkError::Busy("no channels here".into()))))
    }
}
