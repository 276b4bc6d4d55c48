//! From which revision a service's processes run: how the next one reaches them, what becomes of it, and which ones are kept.

use std::collections::BTreeSet;

use super::Case;
use crate::model::kinds::{OnFailure, RevisionSpec};
use crate::model::meta::{Key, Kind};
use crate::model::{Document, Spec};
use crate::plan::availability::Availability;
use crate::plan::member::Member;
use crate::plan::place::{PlaceAction, PlaceHold, PlaceReason, Placement};
use crate::plan::standing::CRASHES;

/// How many revisions of a service are kept beside those that are in use: to see what was, and to go back to it.
const KEPT: usize = 10;

impl Case<'_, '_> {
    /// Has processes run from the target, no more at once than may be unavailable.
    pub(super) fn roll_out(&self, mut budget: u32, placement: &mut Placement) {
        let target = self.target.number;
        if target == 0 {
            return;
        }
        let mut outdated: Vec<&Member<'_>> = Vec::new();
        for member in self.members.iter().filter(|member| !member.leaves) {
            if member.document.metadata.revision != target {
                outdated.push(member);
            } else if self.is_being_judged()
                && self.is_timed(member) == (member.document.metadata.revised_ms == 0)
            {
                // Its time to do its work begins when it is told to run, and others do not keep it from that.
                self.assign(member, placement);
            }
        }
        outdated.sort_by_key(|member| (&member.spec.node, member.id));
        for member in outdated {
            // It runs from what is declared already, or it does not run: nothing is taken away.
            let changes_nothing = member.document.metadata.revision == 0 || !member.runs;
            if changes_nothing {
                self.assign(member, placement);
            } else if self.is_paused() {
                placement.holds.insert(member.key(), PlaceHold::RolloutPaused { revision: target });
            } else if let Some(why) = self.target.failed() {
                let why = why.to_owned();
                placement.holds.insert(member.key(), PlaceHold::RolloutFailed { revision: target, why });
            } else if !self.may_start {
                // Nothing is ended to be started anew before what it needs is there.
                placement.holds.entry(member.key()).or_insert(PlaceHold::RolloutWaits { revision: target });
            } else if !member.takes_new {
                let node = Key::within(Kind::Node, &*self.key.namespace, &*member.spec.node).to_string();
                placement
                    .holds
                    .entry(member.key())
                    .or_insert(PlaceHold::RolloutCordoned { revision: target, node });
            } else if member.is_down() {
                // It is unavailable as it is.
                self.assign(member, placement);
            } else if budget > 0 && member.works() {
                budget -= 1;
                self.assign(member, placement);
            } else {
                // What a move or failover says of it says more.
                placement.holds.entry(member.key()).or_insert(PlaceHold::RolloutWaits { revision: target });
            }
        }
        self.wake_for_readiness(placement);
    }

    /// Has a process run from the target. One that should not run has no time within which it has to do its work.
    fn assign(&self, member: &Member<'_>, placement: &mut Placement) {
        let at_ms = if self.is_timed(member) { self.world.now_ms } else { 0 };
        let action = PlaceAction::Assign { process: member.key(), revision: self.target.number, at_ms };
        placement.step(action, PlaceReason::RolledOut);
    }

    /// Whether the time runs within which a process has to do its work.
    const fn is_timed(&self, member: &Member<'_>) -> bool {
        member.runs && self.may_start
    }

    /// Whether the target is an update that has neither failed nor reached all.
    fn is_being_judged(&self) -> bool {
        let is_open = |(_, revision): (_, &RevisionSpec)| !revision.completed && revision.failed.is_none();
        self.target.all.len() > 1 && self.target.revision.is_some_and(is_open)
    }

    /// A process that has to run for longer, or to do its work for longer, does so by time alone.
    fn wake_for_readiness(&self, placement: &mut Placement) {
        let now_ms = self.world.now_ms;
        for member in self.members.iter().filter(|member| member.runs && !member.leaves) {
            let at_ms = match member.availability {
                Availability::Since(since) if member.document.metadata.revision == self.target.number => {
                    since.saturating_add(self.update.min_ready_ms())
                }
                Availability::Starting { since_ms } => since_ms.saturating_add(self.start_ms),
                Availability::Since(_) | Availability::No | Availability::Unknown => continue,
            };
            if at_ms > now_ms {
                placement.wake_at(at_ms);
            }
        }
    }

    /// Records what becomes of the target: that all do their work with it, or that one does not.
    pub(super) fn judge(&self, pruned: &BTreeSet<u64>, placement: &mut Placement) {
        // Whoever declares again what failed before wants it to be tried again.
        for (document, revision) in &self.target.all {
            let is_marked = revision.failed.is_some() || revision.replaced_by.is_some();
            let is_declared = revision.number == self.target.declared || self.target.declared == 0;
            if is_marked && !is_declared && !pruned.contains(&revision.number) {
                let cleared = RevisionSpec { failed: None, replaced_by: None, ..(*revision).clone() };
                let mut document = Document::clone(document);
                document.spec = Spec::Revision(cleared);
                placement.step(PlaceAction::Judge(Box::new(document)), PlaceReason::Changed);
            }
        }
        let Some((document, revision)) = self.target.revision else { return };
        if revision.completed || revision.failed.is_some() {
            return;
        }
        let mut judged = revision.clone();
        let reason = if let Some(why) = self.failure(placement) {
            if self.update.on_failure == Some(OnFailure::Rollback) {
                judged.replaced_by = self.good_before(revision.number);
            }
            judged.failed = Some(why);
            PlaceReason::Failed
        } else if self.is_complete() {
            judged.completed = true;
            PlaceReason::Completed
        } else {
            return;
        };
        let mut document = Document::clone(document);
        document.spec = Spec::Revision(judged);
        placement.step(PlaceAction::Judge(Box::new(document)), reason);
    }

    fn is_complete(&self) -> bool {
        let all = self.members.iter().filter(|member| member.runs && !member.leaves);
        let mut all = all.peekable();
        all.peek().is_some()
            && self.total() == self.working()
            && all.all(|member| member.document.metadata.revision == self.target.number && !member.is_behind)
    }

    /// The last revision before this one that once did its work everywhere.
    pub(super) fn good_before(&self, number: u64) -> Option<u64> {
        let before = self.target.all.iter().rev().map(|(_, revision)| revision);
        before
            .filter(|revision| revision.number < number && revision.completed)
            .map(|revision| revision.number)
            .next()
    }

    /// Why the rollout has failed, if it has: a process that was given the target does not do its work with it.
    fn failure(&self, placement: &mut Placement) -> Option<String> {
        // Something has to run from another one, or there has to be one to go back to; else there is nothing to be done.
        if !self.is_being_judged() {
            return None;
        }
        for member in &self.members {
            let is_new = member.document.metadata.revision == self.target.number;
            // What is not seen has not failed, nor has what is not started because its node is cordoned.
            let is_judged = member.runs && is_new && !member.is_unknown() && member.takes_new;
            if member.leaves || !is_judged || member.works() {
                continue;
            }
            if let Some(seen) = member.seen.filter(|seen| member.is_settled && seen.restarts >= CRASHES) {
                let exit =
                    seen.exit.map_or_else(String::new, |exit| format!(", the last time with status {exit}"));
                return Some(format!(
                    "process {} on {} ended {} times{exit}",
                    member.id, member.spec.node, seen.restarts
                ));
            }
            let deadline_ms = self.update.progress_deadline_ms();
            // One that did its work and has just ended has its time anew; not one that ends with what it should no longer run from.
            let since_ms = member.seen.filter(|_| member.is_settled).map_or(0, |seen| seen.since_ms);
            let revised_ms = member.document.metadata.revised_ms;
            // It was written by the clock of who led then, which may be another's. What this controller has not waited for itself,
            // it does not count, and what it takes for the future is not waited for.
            let told_ms = if revised_ms > self.world.now_ms { 0 } else { revised_ms };
            let at_ms = told_ms.max(since_ms).max(self.world.since_ms).saturating_add(deadline_ms);
            if revised_ms == 0 {
                // It has just been told to run.
            } else if at_ms > self.world.now_ms {
                placement.wake_at(at_ms);
            } else if self.may_start {
                return Some(format!(
                    "process {} on {} does not do its work {} s after its update",
                    member.id,
                    member.spec.node,
                    deadline_ms / 1000
                ));
            }
        }
        None
    }

    /// Takes out old revisions that nothing runs from, and answers their numbers.
    pub(super) fn prune(&self, placement: &mut Placement) -> BTreeSet<u64> {
        let mut pruned = BTreeSet::new();
        let excess = self.target.all.len().saturating_sub(KEPT);
        if excess == 0 {
            return pruned;
        }
        let of_members = self.members.iter().map(|member| member.document.metadata.revision);
        let of_going = self.going.iter().map(|going| going.document.metadata.revision);
        let mut used: BTreeSet<u64> = of_members.chain(of_going).collect();
        // Without the one that is declared it would not be known that it has failed.
        used.extend([self.target.number, self.target.declared]);
        used.extend(self.target.all.iter().filter_map(|(_, revision)| revision.replaced_by));
        for (document, revision) in self.target.all.iter().take(excess) {
            if !used.contains(&revision.number) && !document.is_deleting() {
                pruned.insert(revision.number);
                placement.step(PlaceAction::MarkDeleting(document.key()), PlaceReason::Superseded);
            }
        }
        pruned
    }
}
