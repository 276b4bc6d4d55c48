//! Which of several servers on one store reconciles: standing for election, holding the lease, and giving up in time.
//!
//! Whoever leads renews its lease three times in its time. One that can't stops acting before the lease can have ended, by
//! its own monotonic clock, counted from when the last renewal that succeeded was sent: the store counts from later. So no
//! two servers act at once, as long as their clocks run at about the same rate; where they do not (a machine that
//! was suspended), the store refuses the earlier one's writes and the nodes its commands.
//!
//! **Invariant:** a [`Tenure`] that no longer holds never holds again; who leads again has a new one, with a higher epoch.
//! **Absent here:** what a leader does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::clock::{Clock, timestamp};
use crate::state::leader::{Candidate, Election, Known, Leader, Term};
use crate::state::{Epoch, State, StateError};
use crate::store::{Kept, Lease, LeaseId};

/// First and longest wait before a store that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How a lease's time is divided: renewed after one part of so many, tried again after one of so many when that failed, and
/// left unused at its end by one of so many, for clocks that differ.
const RENEWALS: u32 = 3;
const RETRIES: u32 = 12;
const MARGIN: u32 = 10;

/// When a lease is to be renewed and until when it may be acted on. Pure: times are inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hold {
    ttl: Duration,
    /// When the last renewal that succeeded was sent.
    renewed: Instant,
    /// When to renew next.
    next: Instant,
}

impl Hold {
    /// Granted, or renewed, by a call that was sent then.
    fn new(ttl: Duration, sent: Instant) -> Hold {
        Hold { ttl, renewed: sent, next: sent + ttl / RENEWALS }
    }

    /// A renewal was not answered.
    fn failed(self, now: Instant) -> Hold {
        Hold { next: now + self.ttl / RETRIES, ..self }
    }

    /// The first moment at which nothing may be done any more.
    fn until(&self) -> Instant {
        self.renewed + (self.ttl - self.ttl / MARGIN)
    }
}

/// A time in which this server leads.
#[derive(Debug, Clone)]
pub struct Tenure {
    /// What its writes and commands prove themselves with.
    pub term: Term,
    /// The sender goes when it is over.
    until: watch::Receiver<Instant>,
}

impl Tenure {
    /// Whether this server may act now. Asked before each thing that is done, for a process that was stopped goes on in the middle
    /// of anything.
    pub fn holds(&self) -> bool {
        self.until.has_changed().is_ok() && Instant::now() < *self.until.borrow()
    }

    /// Waits until it is over.
    pub async fn over(&mut self) {
        while self.until.changed().await.is_ok() {}
    }
}

/// What a server is among those on its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leads(Leader),
    /// Another one leads.
    Follows(Leader),
    /// Nobody leads, as far as it knows.
    Nobody,
}

/// Who leads, for everyone who shows it or asks it. A handle; clones show the same.
#[derive(Debug, Clone)]
pub struct Standing {
    candidate: Candidate,
    lease: Duration,
    known: watch::Receiver<Known>,
    tenure: watch::Receiver<Option<Tenure>>,
}

impl Standing {
    /// For a server that shares its store with no other and stands in no election: it leads.
    pub fn alone() -> Standing {
        let candidate = Candidate { server: "alone".into(), address: None };
        let leader = Leader {
            server: "alone".into(),
            address: None,
            epoch: Epoch(1),
            since: timestamp(),
            revision: 1,
        };
        let tenure = Tenure { term: leader.term(), until: watch::channel(Instant::now()).1 };
        let known = Known { revision: 1, leader: Some(leader) };
        Standing {
            candidate,
            lease: Duration::ZERO,
            known: watch::channel(known).1,
            tenure: watch::channel(Some(tenure)).1,
        }
    }

    /// What this server is now.
    pub fn role(&self) -> Role {
        role(&self.candidate, &self.known.borrow(), self.tenure.borrow().as_ref())
    }

    /// Waits until somebody leads.
    pub async fn settled(&mut self) -> Role {
        loop {
            let role = self.role();
            if role != Role::Nobody {
                return role;
            }
            self.changed().await;
        }
    }

    /// Waits until what is known changes.
    pub async fn changed(&mut self) {
        let ended = tokio::select! {
            biased;
            changed = self.known.changed() => changed.is_err(),
            changed = self.tenure.changed() => changed.is_err(),
        };
        if ended {
            std::future::pending().await
        }
    }

    /// How long a leader that is gone is waited for.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Who this server is.
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }
}

/// Pure, so that it can be told and tested.
fn role(own: &Candidate, known: &Known, tenure: Option<&Tenure>) -> Role {
    match (&known.leader, tenure) {
        (Some(leader), Some(tenure)) if leader.term() == tenure.term => Role::Leads(leader.clone()),
        // Elected already, and not yet heard of it, or not yet heard of the end.
        (_, Some(_)) => Role::Nobody,
        // An earlier run of this server: what was ours is over, and who had our address is gone.
        (Some(leader), None) if leader.server == own.server => Role::Nobody,
        (Some(leader), None) if leader.address.is_some() && leader.address == own.address => Role::Nobody,
        (Some(leader), None) => Role::Follows(leader.clone()),
        (None, None) => Role::Nobody,
    }
}

/// A server's part in the elections.
pub struct Leadership {
    standing: Standing,
    ending: watch::Sender<bool>,
    task: JoinHandle<()>,
    follower: JoinHandle<()>,
}

impl Leadership {
    /// Stands for election whenever nobody leads.
    pub fn start(state: Arc<State>, candidate: Candidate, lease: Duration, clock: Clock) -> Leadership {
        let (known, tenure) = (Arc::new(watch::Sender::default()), watch::Sender::default());
        let (ending, ended) = watch::channel(false);
        let standing = Standing {
            candidate: candidate.clone(),
            lease,
            known: known.subscribe(),
            tenure: tenure.subscribe(),
        };
        let follower = tokio::spawn(follow(Arc::clone(&state), Arc::clone(&known)));
        let runner = Runner {
            state,
            candidate,
            lease,
            clock,
            heard: known.subscribe(),
            known,
            tenure,
            ended,
            left: None,
        };
        Leadership { standing, ending, task: tokio::spawn(runner.run()), follower }
    }

    /// Who leads.
    pub fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// The times in which this server leads.
    pub fn tenures(&self) -> watch::Receiver<Option<Tenure>> {
        self.standing.tenure.clone()
    }

    /// Leads no longer, and gives the lease back, so that another one leads at once. What this server does as a leader has to have
    /// ended.
    pub async fn resign(self) {
        self.ending.send_replace(true);
        let _ = self.task.await;
        self.follower.abort();
    }
}

/// Takes in what is news.
fn tell(known: &watch::Sender<Known>, news: Known) {
    known.send_if_modified(|known| {
        let is_news = news.revision >= known.revision && news != *known;
        if is_news {
            *known = news;
        }
        is_news
    });
}

/// Keeps current who leads.
async fn follow(state: Arc<State>, known: Arc<watch::Sender<Known>>) {
    let mut pause = RETRY.0;
    loop {
        let error = match state.leader().await {
            Ok(now) => {
                pause = RETRY.0;
                let from = now.revision + 1;
                tell(&known, now);
                state.watch_leader(from, |news| tell(&known, news)).await
            }
            Err(error) => error,
        };
        tracing::debug!(error = &error as &dyn std::error::Error, "who leads is not heard");
        sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

struct Runner {
    state: Arc<State>,
    candidate: Candidate,
    lease: Duration,
    clock: Clock,
    known: Arc<watch::Sender<Known>>,
    heard: watch::Receiver<Known>,
    tenure: watch::Sender<Option<Tenure>>,
    ended: watch::Receiver<bool>,
    /// A lease that is no longer acted on, and may still hold the leader's key.
    left: Option<LeaseId>,
}

impl Runner {
    async fn run(mut self) {
        let mut pause = RETRY.0;
        while !*self.ended.borrow() {
            match self.stand().await {
                Ok(Some((lease, hold, leader))) => {
                    pause = RETRY.0;
                    self.lead(lease, hold, leader).await;
                }
                Ok(None) => {
                    pause = RETRY.0;
                    self.wait_for_vacancy().await;
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "no election can be held");
                    tokio::select! {
                        biased;
                        _ = self.ended.wait_for(|ended| *ended) => {}
                        () = sleep(pause) => {}
                    }
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
        if let Err(error) = self.give_back().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the lease was not given back; it ends by itself"
            );
        }
    }

    /// Ends the lease that was left, so that nobody has to wait for its end.
    async fn give_back(&mut self) -> Result<(), StateError> {
        if let Some(lease) = self.left {
            self.state.revoke(lease).await?;
            self.left = None;
        }
        Ok(())
    }

    /// None when somebody else leads.
    async fn stand(&mut self) -> Result<Option<(Lease, Hold, Leader)>, StateError> {
        self.give_back().await?;
        let now = self.state.leader().await?;
        let is_vacant = now.leader.is_none();
        tell(&self.known, now);
        if !is_vacant {
            return Ok(None);
        }
        let sent = Instant::now();
        let lease = self.state.grant(self.lease).await?;
        // From here on there may be a key of ours; not if the election is won.
        self.left = Some(lease.id);
        match self.state.stand(&self.candidate, lease.id, &self.clock.timestamp()).await? {
            Election::Won(leader) => Ok(Some((lease, Hold::new(lease.ttl, sent), leader))),
            Election::Lost => Ok(None),
        }
    }

    /// Leads until it is over. The lease is left then.
    async fn lead(&mut self, lease: Lease, mut hold: Hold, leader: Leader) {
        let term = leader.term();
        tracing::info!(epoch = term.epoch.0, revision = term.revision, "this server leads");
        tell(&self.known, Known { revision: term.revision, leader: Some(leader) });
        let (until, receiver) = watch::channel(hold.until());
        self.tenure.send_replace(Some(Tenure { term, until: receiver }));
        let is_over = |known: &Known| {
            known.revision > term.revision && known.leader.as_ref().map(Leader::term) != Some(term)
        };
        let why = loop {
            tokio::select! {
                biased;
                _ = self.ended.wait_for(|ended| *ended) => break "it ends",
                _ = self.heard.wait_for(is_over) => break "its key is gone from the store",
                () = sleep_until(hold.until()) => break "its lease could not be renewed",
                () = sleep_until(hold.next) => {}
            }
            let sent = Instant::now();
            match timeout_at(hold.until(), self.state.keep_alive(lease)).await {
                // What held no longer for a moment, does not again: somebody may have asked in between.
                Ok(Ok(Kept::Alive)) if Instant::now() >= hold.until() => {
                    break "its lease was renewed too late";
                }
                Ok(Ok(Kept::Alive)) => {
                    hold = Hold::new(lease.ttl, sent);
                    until.send_replace(hold.until());
                }
                Ok(Ok(Kept::Gone)) => break "its lease has ended",
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the lease was not renewed");
                    hold = hold.failed(Instant::now());
                }
                Err(_) => break "its lease could not be renewed",
            }
        };
        self.tenure.send_replace(None);
        drop(until);
        tracing::info!(epoch = term.epoch.0, why, "this server leads no longer");
    }

    /// Waits until nobody leads. What the watch can't tell, such as one at a member that hangs, is asked every now and then.
    async fn wait_for_vacancy(&mut self) {
        tokio::select! {
            biased;
            _ = self.ended.wait_for(|ended| *ended) => {}
            _ = self.heard.wait_for(|known| known.leader.is_none()) => {}
            () = sleep(self.lease / 2) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(server: &str, address: &str, revision: u64) -> Leader {
        let address = Some(address.into());
        Leader { server: server.into(), address, epoch: Epoch(revision), since: String::new(), revision }
    }

    fn own() -> Candidate {
        Candidate { server: "a".into(), address: Some("http://a".into()) }
    }

    fn known(leader: Leader) -> Known {
        Known { revision: leader.revision, leader: Some(leader) }
    }

    #[test]
    fn a_lease_is_acted_on_for_less_than_its_time_from_when_it_was_asked_for() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let hold = Hold::new(second * 10, start);
        assert_eq!(hold.until(), start + second * 9);
        assert!(hold.next > start + second * 3 && hold.next < start + second * 4, "a third");
        let failed = hold.failed(start + second * 5);
        assert_eq!(failed.until(), hold.until(), "what failed lengthens nothing");
        assert!(failed.next > start + second * 5 && failed.next < start + second * 6);
    }

    #[test]
    fn a_server_follows_others_and_never_itself() {
        let (first, other) = (leader("a", "http://a", 3), leader("b", "http://b", 4));
        assert_eq!(role(&own(), &known(other.clone()), None), Role::Follows(other.clone()));
        assert_eq!(role(&own(), &Known::default(), None), Role::Nobody);
        assert_eq!(role(&own(), &known(first.clone()), None), Role::Nobody, "its time is over");
        let before = leader("0", "http://a", 2);
        assert_eq!(role(&own(), &known(before), None), Role::Nobody, "an earlier run of this server");
        let (_until, receiver) = watch::channel(Instant::now());
        let tenure = Tenure { term: first.term(), until: receiver };
        assert_eq!(role(&own(), &known(first.clone()), Some(&tenure)), Role::Leads(first));
        assert_eq!(role(&own(), &known(other), Some(&tenure)), Role::Nobody, "one of the two is old news");
    }

    #[tokio::test]
    async fn a_tenure_ends_with_its_time_or_with_its_end_whichever_is_first() {
        let term = Term { epoch: Epoch(1), revision: 2 };
        let (until, receiver) = watch::channel(Instant::now() + Duration::from_secs(60));
        let mut tenure = Tenure { term, until: receiver };
        assert!(tenure.holds());
        until.send_replace(Instant::now());
        assert!(!tenure.holds(), "its time is over, though nobody has said so");
        until.send_replace(Instant::now() + Duration::from_secs(60));
        drop(until);
        assert!(!tenure.holds());
        tenure.over().await;
    }
}
