//! What a node's task knows of its node, and what it concludes from what the node says, and from silence.
//!
//! **Invariant:** no I/O, and no clock but the moments that it is given: lines go in, texts and what is known come out.
//! **Absent here:** what should be done, which [`crate::plan::node`] decides; talking, which the task does.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::renewals::Renewals;
use super::{ANSWER_WITHIN, LOOK_EVERY};
use crate::node::link::LinkError;
use crate::node::protocol::{self, Line, ProcessLine, Verdict};
use crate::plan::backoff::{Waits, wait_ms};
use crate::plan::step::{Aim, NodePlan, Step};
use crate::plan::world::{Attempt, DesiredProcess, NodeDesired, NodeSighting, ProcessSighting, Stock};
use crate::reconcile::observed::Warning;
use crate::state::tries::{StepTried, Tried};

/// Most processes that are taken from one node's word; far more than one runs.
pub(super) const MAX_PROCESSES: usize = 10_000;

/// Most artifacts that are taken from one node's word.
const MAX_ARTIFACTS: usize = 10_000;

/// Before a step that did not help is tried again.
pub(super) const RETRY: Waits = Waits { first_ms: 1_000, longest_ms: 60_000 };

/// Most steps of one node whose failures are kept beyond this controller, and how many characters of what was said of each: what
/// is kept of a node has to fit into one value of the store.
const MAX_KEPT: usize = 400;
const MAX_KEPT_WHY: usize = 300;

/// How far a node's clock may be from ours, in seconds.
const MAX_SKEW_S: u64 = 60;

/// A change of the skew that is no news: what it takes to say the time, and clocks that drift apart.
const SAME_SKEW_S: u64 = 5;

/// One moment, by all the clocks that there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: Instant,
    /// On the clock of what is seen.
    pub(super) ms: u64,
    /// The controller's own time of day.
    pub(super) time_of_day_ms: u64,
}

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The process, or [`BUNDLE`].
    pub(super) id: String,
    pub(super) action: &'static str,
    pub(super) reason: &'static str,
    pub(super) outcome: String,
}

/// What a task knows of its node. No I/O: lines and times go in, texts and plans come out.
#[derive(Default)]
pub(super) struct Mind {
    pub(super) sighting: NodeSighting,
    pub(super) attempts: BTreeMap<String, Attempt>,
    /// When each of them was tried last and is tried next, by the time of day.
    times: BTreeMap<String, (u64, u64)>,
    in_flight: Option<InFlight>,
    renewals: Renewals,
    /// Of the controller in this conversation, and the last that was sent.
    epoch: u64,
    revision: u64,
    pub(super) stock: Stock,
    /// Processes, and artifacts by their addresses, heard of since everything was asked for.
    listing: Option<BTreeSet<String>>,
    pub(super) looks: u64,
    look_at: Option<Instant>,
    answer_by: Option<Instant>,
    /// How far the node's clock is ahead of ours.
    ahead_s: Option<i64>,
    /// How steps ended that nobody was told of yet.
    pub(super) told: Vec<Told>,
}

struct InFlight {
    revision: u64,
    aims: BTreeMap<String, Aim>,
    /// Action and reason of each step, for people.
    words: BTreeMap<String, (&'static str, &'static str)>,
    failed: BTreeMap<String, String>,
}

/// The bundle's place among the attempts; no process has an empty id.
pub(super) const BUNDLE: &str = "";

impl Mind {
    /// A new conversation starts: what was seen is kept for people, and counts for nothing until all is told again.
    pub(super) fn begin(&mut self, epoch: u64, conversation: u64, now: Instant) {
        (self.epoch, self.revision) = (epoch, conversation);
        self.renewals = Renewals::default();
        self.sighting.complete = false;
        self.sighting.conversation = conversation;
        self.in_flight = None;
        self.listing = Some(BTreeSet::new());
        self.look_at = None;
        self.answer_by = Some(now + ANSWER_WITHIN);
        self.ahead_s = None;
    }

    /// The node is not seen.
    pub(super) fn unseen(&mut self, now_ms: u64) {
        self.sighting.complete = false;
        self.sighting.unseen_since_ms.get_or_insert(now_ms);
    }

    /// The conversation ended: how the steps on their way end, nobody will say.
    pub(super) fn lost(&mut self) {
        if let Some(batch) = &mut self.in_flight {
            let words = std::mem::take(&mut batch.words);
            self.told_all(words, |_| "not known: the link ended before the node answered".into());
        }
    }

    fn told_all(
        &mut self,
        words: BTreeMap<String, (&'static str, &'static str)>,
        outcome: impl Fn(&str) -> String,
    ) {
        self.told.extend(words.into_iter().map(|(id, (action, reason))| {
            let outcome = outcome(&id);
            Told { id, action, reason, outcome }
        }));
    }

    /// What people should know of the node besides.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let off = self.ahead_s.filter(|ahead_s| ahead_s.unsigned_abs() > MAX_SKEW_S);
        off.map(|ahead_s| Warning::ClockOff { ahead_s }).into_iter().collect()
    }

    /// The node has said what time it is there.
    fn compare_clocks(&mut self, theirs_s: Option<u64>, ours_s: u64) {
        let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        let ahead_s = theirs_s.map(|theirs_s| signed(theirs_s).saturating_sub(signed(ours_s)));
        let is_news = match (self.ahead_s, ahead_s) {
            (Some(before), Some(now)) => before.abs_diff(now) > SAME_SKEW_S,
            (before, now) => before != now,
        };
        if is_news {
            self.ahead_s = ahead_s;
        }
    }

    pub(super) fn can_plan(&self) -> bool {
        self.sighting.complete && self.in_flight.is_none()
    }

    /// What was seen, for others: with what is on its way.
    pub(super) fn shown(&self) -> NodeSighting {
        let pending = self.in_flight.iter().flat_map(|batch| batch.aims.keys().cloned()).collect();
        NodeSighting { pending, ..self.sighting.clone() }
    }

    /// When there is something to do though nothing is heard. Nothing is asked while an answer is awaited, so a look that is due has
    /// to wait for that.
    pub(super) fn next_deadline(&self, now: Instant) -> Instant {
        let far = now + LOOK_EVERY;
        let renewal = self.renewals.next_deadline(self.in_flight.is_some());
        [self.answer_by.or(self.look_at), renewal].into_iter().flatten().fold(far, Instant::min)
    }

    pub(super) fn sent(&mut self, revision: u64, steps: &[Step], now: Instant) {
        let aim = |step: &Step| (step.action.about().to_owned(), step.action.aim());
        let aims = steps.iter().map(aim).collect();
        let words = |step: &Step| {
            let id = step.action.about().to_owned();
            (id, (step.action.word(), step.reason.word()))
        };
        let words = steps.iter().map(words).collect();
        self.revision = revision;
        self.in_flight = Some(InFlight { revision, aims, words, failed: BTreeMap::new() });
        self.answer_by = Some(now + ANSWER_WITHIN);
    }

    /// What time asks for: a renewal of the leases, a look at the node, or the end of a link that does not answer.
    pub(super) fn tick(&mut self, now: Instant) -> Result<Option<String>, LinkError> {
        if self.answer_by.is_some_and(|by| by <= now) {
            return Err(LinkError::TimedOut(format!("no answer within {} s", ANSWER_WITHIN.as_secs())));
        }
        if self.renewals.is_unanswered(now) {
            return Err(LinkError::TimedOut("a renewal of the leases was not answered in time".into()));
        }
        // Behind a batch it would wait for the end of that, and a node's shell may read ahead of it.
        if self.sighting.complete && self.in_flight.is_none() && self.renewals.is_due(now) {
            return Ok(self.renewal(now));
        }
        if self.answer_by.is_none() && self.look_at.is_some_and(|at| at <= now) {
            self.looks += 1;
            self.listing = Some(BTreeSet::new());
            self.look_at = None;
            self.answer_by = Some(now + ANSWER_WITHIN);
            return Ok(Some(protocol::look(self.looks)));
        }
        Ok(None)
    }

    fn renewal(&mut self, now: Instant) -> Option<String> {
        let uptime = self.renewals.send(now)?;
        Some(protocol::lease(self.epoch, self.revision, uptime))
    }

    /// What has to be sent before these steps, and whether they can follow: what is started under a lease needs one that was just renewed,
    /// for which the node has to have said just now what time it is.
    pub(super) fn ready(&mut self, steps: &[Step], now: Instant) -> (Option<String>, bool) {
        match steps.iter().filter_map(|step| step.action.lease()).min() {
            Some(seconds) => {
                let is_fresh = self.renewals.is_fresh(seconds, now);
                (self.renewal(now), is_fresh)
            }
            None => (None, true),
        }
    }

    /// The node was heard out: nothing is awaited, and it is asked again after a while.
    fn answered(&mut self, now: Instant) {
        self.answer_by = None;
        self.look_at = Some(now + LOOK_EVERY);
    }

    pub(super) fn hear(&mut self, line: Line, moment: Moment) -> Result<(), LinkError> {
        let Moment { at: now, ms: now_ms, time_of_day_ms } = moment;
        let time_of_day_s = time_of_day_ms / 1000;
        match line {
            Line::Process(process) => {
                self.see(process, now_ms);
                if self.sighting.processes.len() > MAX_PROCESSES {
                    return Err(LinkError::ShellUnusable(format!(
                        "it tells of more than {MAX_PROCESSES} processes"
                    )));
                }
            }
            Line::Gone(id) => {
                self.sighting.processes.remove(&id);
            }
            Line::Bundle(hash) => self.sighting.bundle = hash,
            Line::Root(root) => self.sighting.root = Some(root),
            Line::Artifact { address, is_there: false } => {
                self.sighting.artifacts.remove(&address);
            }
            Line::Artifact { address, is_there: true } => {
                if let Some(heard) = &mut self.listing {
                    heard.insert(address.clone());
                }
                self.sighting.artifacts.insert(address);
                if self.sighting.artifacts.len() > MAX_ARTIFACTS {
                    return Err(LinkError::ShellUnusable(format!(
                        "it tells of more than {MAX_ARTIFACTS} artifacts"
                    )));
                }
            }
            Line::Uptime(uptime) => self.renewals.hear(uptime, now),
            Line::Opened { clock_s } => {
                self.compare_clocks(clock_s, time_of_day_s);
                self.heard_all();
                self.sighting.complete = true;
                self.sighting.unseen_since_ms = None;
                self.answered(now);
            }
            Line::Looked { token, clock_s } if token == self.looks => {
                self.compare_clocks(clock_s, time_of_day_s);
                self.heard_all();
                if self.in_flight.is_none() {
                    self.answered(now);
                }
            }
            Line::Looked { .. } => {}
            Line::StepFailed { id, message } => {
                if let Some(batch) = &mut self.in_flight {
                    // The node calls the bundle by its hash, and one that is to go by none.
                    let is_bundle = match batch.aims.get(BUNDLE) {
                        Some(Aim::Bundle(hash)) => *hash == id,
                        Some(Aim::Unbundled) => id == "-",
                        Some(
                            Aim::Gone
                            | Aim::Stopped
                            | Aim::Told(_)
                            | Aim::Supervised(_)
                            | Aim::Running(_)
                            | Aim::Delivered
                            | Aim::Discarded,
                        )
                        | None => false,
                    };
                    batch.failed.insert(if is_bundle { BUNDLE.into() } else { id }, message);
                }
            }
            Line::Done { revision, verdict } => self.done(revision, verdict, moment)?,
            Line::Fenced(epoch) => return Err(LinkError::Fenced(epoch)),
            Line::Full(why) => return Err(LinkError::DiskFull(why)),
            Line::Unusable(why) => return Err(LinkError::ShellUnusable(why)),
            Line::Greeting { .. } | Line::Rubbish => {}
        }
        Ok(())
    }

    /// Everything that is there was told: what was not is gone.
    fn heard_all(&mut self) {
        if let Some(heard) = self.listing.take() {
            self.sighting.processes.retain(|id, _| heard.contains(id));
            self.sighting.artifacts.retain(|address| heard.contains(address));
        }
    }

    fn see(&mut self, process: ProcessLine, now_ms: u64) {
        if let Some(heard) = &mut self.listing {
            heard.insert(process.id.clone());
        }
        let mut seen = ProcessSighting {
            phase: process.phase,
            pid: process.pid,
            restarts: process.restarts,
            exit: process.exit,
            hash: process.hash,
            care: process.care,
            lease: process.lease,
            health: process.health,
            live: process.live,
            since_ms: now_ms.saturating_sub(process.age_ms),
        };
        if let Some(before) = self.sighting.processes.get(&process.id) {
            // The age is rounded and takes its time to come: the same state told twice is no news.
            let same = ProcessSighting { since_ms: before.since_ms, ..seen.clone() };
            if same == *before && before.since_ms.abs_diff(seen.since_ms) < 500 {
                seen = same;
            }
        }
        self.sighting.processes.insert(process.id, seen);
    }

    fn done(&mut self, revision: u64, verdict: Verdict, now: Moment) -> Result<(), LinkError> {
        let Some(batch) = self.in_flight.take_if(|batch| batch.revision == revision) else { return Ok(()) };
        self.answered(now.at);
        let (why, fenced) = match verdict {
            Verdict::Done => (None, None),
            Verdict::Locked => (Some("another batch holds the node's lock".to_owned()), None),
            Verdict::Fenced { epoch, .. } => {
                let error = LinkError::Fenced(epoch);
                (Some(error.to_string()), Some(error))
            }
        };
        self.told_all(batch.words, |id| match batch.failed.get(id).or(why.as_ref()) {
            Some(why) => format!("failed: {why}"),
            None => "done".into(),
        });
        if let Some(error) = fenced {
            return Err(error);
        }
        for (id, aim) in batch.aims {
            let why = batch.failed.get(&id).cloned().or_else(|| why.clone());
            self.tried(id, aim, why, now);
        }
        Ok(())
    }

    /// Something was tried; whether it has helped is for the node to say.
    pub(super) fn tried(&mut self, about: String, aim: Aim, why: Option<String>, now: Moment) {
        let before = self.attempts.get(&about).filter(|before| before.aim == aim);
        let tries = before.map_or(0, |before| before.tries).saturating_add(1);
        let wait_ms = wait_ms(RETRY, &about, tries);
        self.times.insert(about.clone(), (now.time_of_day_ms, now.time_of_day_ms.saturating_add(wait_ms)));
        let not_before_ms = now.ms.saturating_add(wait_ms);
        self.attempts.insert(about, Attempt { aim, tries, not_before_ms, why });
    }

    /// Goes on waiting where an earlier controller was. What this version does not know is tried at once.
    pub(super) fn take_over(&mut self, steps: BTreeMap<String, StepTried>, now: Moment) {
        for (about, StepTried { aim, tried }) in steps {
            let Some(aim) = Aim::parse(&aim) else { continue };
            let left_ms = tried.left_ms(now.time_of_day_ms, RETRY.longest_ms);
            let not_before_ms = now.ms.saturating_add(left_ms);
            self.times.insert(about.clone(), (tried.at_ms, tried.next_ms));
            let attempt = Attempt { aim, tries: tried.tries, not_before_ms, why: tried.why };
            self.attempts.insert(about, attempt);
        }
    }

    /// What fails, for a later controller. What was tried once, and may have helped, is no failure yet.
    pub(super) fn failing(&self) -> BTreeMap<String, StepTried> {
        let failing = self.attempts.iter().filter(|(_, attempt)| attempt.why.is_some() || attempt.tries > 1);
        let kept = |(about, attempt): (&String, &Attempt)| {
            let (at_ms, next_ms) = self.times.get(about).copied().unwrap_or_default();
            let why = attempt.why.as_deref().map(short);
            let tried = Tried { tries: attempt.tries, at_ms, next_ms, why };
            (about.clone(), StepTried { aim: attempt.aim.to_string(), tried })
        };
        failing.take(MAX_KEPT).map(kept).collect()
    }

    /// Forgets the attempts that have worked, and those for what nobody wants or sees any more; remembers since when artifacts
    /// are unused, and which leases have to be renewed.
    pub(super) fn settle(&mut self, plan: &NodePlan, desired: &NodeDesired, now_ms: u64) {
        self.renewals.want(self.shortest_lease(desired));
        self.stock.note_unused(&plan.unused, now_ms);
        for id in &plan.converged {
            self.attempts.remove(id);
            self.times.remove(id);
        }
        let bundle_is_there = match &desired.bundle {
            Some((hash, _)) => self.sighting.bundle.as_ref() == Some(hash),
            None => self.sighting.bundle.is_none(),
        };
        let seen = &self.sighting;
        let matters = |id: &String| match id.as_str() {
            BUNDLE => !bundle_is_there,
            id => {
                desired.processes.contains_key(id)
                    || seen.processes.contains_key(id)
                    // One that is to come, or one that is to go.
                    || desired.artifacts.contains_key(id) != seen.artifacts.contains(id)
            }
        };
        self.attempts.retain(|id, _| matters(id));
        self.times.retain(|id, _| matters(id));
    }

    /// In seconds, of what runs under one, whatever is wanted of it, and of what is to be started under one.
    fn shortest_lease(&self, desired: &NodeDesired) -> Option<u32> {
        let runs = |seen: &&ProcessSighting| !seen.phase.is_over();
        let seen = self.sighting.processes.values().filter(runs).filter_map(|seen| seen.lease);
        let starts = |process: &&DesiredProcess| process.running && !process.deleting;
        let start = |process: &DesiredProcess| process.start.as_ref().ok()?.care.lease;
        seen.chain(desired.processes.values().filter(starts).filter_map(start)).min()
    }
}

/// What was said, as far as it is kept.
pub(super) fn short(why: &str) -> String {
    why.chars().filter(|c| !c.is_control()).take(MAX_KEPT_WHY).collect()
}
