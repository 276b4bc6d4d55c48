//! One node: desired against seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::step::{Action, Aim, Delivery, Hold, NodePlan, Reason, Start, Step};
use super::world::{Attempt, DesiredProcess, Gate, NodeWorld, Phase, ProcessSighting};
use crate::model::kinds::StopSpec;
use crate::model::meta::{Key, Kind};

/// How long an artifact is kept though nothing uses it: going back to what ran before costs no transfer for as long.
pub const KEEP_UNUSED_MS: u64 = 10 * 60 * 1000;

/// What to do on this node now. The steps come in the order bundle, remove, stop, reload, adopt, restart, start,
/// discard: configuration before what reads it, and what frees a port before what wants one.
pub fn plan(world: &NodeWorld<'_>) -> NodePlan {
    let mut plan = NodePlan::default();
    if !world.seen.complete {
        plan.holds = world.desired.processes.keys().map(|id| (id.clone(), Hold::NodeUnknown)).collect();
        return plan;
    }
    if let Some((hash, text)) = &world.desired.bundle
        && world.seen.bundle.as_ref() != Some(hash)
    {
        let action = Action::Bundle { hash: hash.clone(), text: text.clone() };
        let step = Step { action, reason: Reason::BundleOutdated };
        settle(&mut plan, world, "", Verdict::Do(step));
    }
    if world.desired.bundle.is_none() && world.seen.bundle.is_some() && world.seen.processes.is_empty() {
        settle(
            &mut plan,
            world,
            "",
            Verdict::Do(Step { action: Action::Unbundle, reason: Reason::BundleUnused }),
        );
    }
    let bundle_waits = plan.holds.get("").cloned();
    let mut declared = 0;
    for (id, process) in &world.desired.processes {
        let seen = world.seen.processes.get(id);
        declared += usize::from(seen.is_some());
        if is_behind(process, seen) {
            plan.behind.insert(id.clone());
        }
        let verdict = decide(process, seen, world.desired.schedulable, world.now_ms);
        let verdict = match &bundle_waits {
            Some(hold) => before_bundle(verdict, hold),
            None => verdict,
        };
        let verdict = before_artifact(in_order(verdict, process, world), process, world);
        settle(&mut plan, world, id, verdict);
    }
    // Mostly all that is there is declared.
    if declared < world.seen.processes.len() {
        for (id, seen) in &world.seen.processes {
            if !world.desired.processes.contains_key(id) {
                let verdict = remove(id, seen, StopSpec::default(), Reason::Undeclared);
                settle(&mut plan, world, id, verdict);
            }
        }
    }
    deliver(&mut plan, world);
    discard(&mut plan, world);
    plan.steps.sort_by(|one, other| {
        let order = |step: &Step| rank(&step.action);
        order(one).cmp(&order(other)).then_with(|| one.action.about().cmp(other.action.about()))
    });
    plan
}

/// Whether a process that should run is not there as it is to be.
fn is_behind(process: &DesiredProcess, seen: Option<&ProcessSighting>) -> bool {
    let is_as_declared =
        || process.start.as_ref().is_ok_and(|start| seen.is_some_and(|seen| seen.hash == start.hash));
    process.running && !process.deleting && !is_as_declared()
}

enum Verdict {
    Fine,
    Do(Step),
    Hold(Hold),
}

/// Adds a verdict to the plan, unless the same was tried and it is too early to try again.
fn settle(plan: &mut NodePlan, world: &NodeWorld<'_>, id: &str, verdict: Verdict) {
    match verdict {
        Verdict::Fine => plan.converged.push(id.to_owned()),
        Verdict::Hold(hold) => {
            if let Hold::Starting { until_ms } = hold {
                plan.wake_at(until_ms);
            }
            plan.holds.insert(id.to_owned(), hold);
        }
        Verdict::Do(step) => match world.attempts.get(id) {
            Some(attempt) if attempt.not_before_ms > world.now_ms && attempt.aim == step.action.aim() => {
                let until_ms = attempt.not_before_ms;
                let Attempt { tries, why, .. } = attempt;
                let hold = Hold::BackingOff { until_ms, tries: *tries, why: why.clone() };
                plan.holds.insert(id.to_owned(), hold);
                plan.wake_at(until_ms);
            }
            Some(_) | None => plan.steps.push(step),
        },
    }
}

/// The attempt at this aim for which it is too early to try again.
fn too_early<'a>(world: &NodeWorld<'a>, about: &str, aim: &Aim) -> Option<&'a Attempt> {
    let attempt = world.attempts.get(about)?;
    (attempt.not_before_ms > world.now_ms && attempt.aim == *aim).then_some(attempt)
}

/// Nothing is started, nor ended to be started anew or for good, before it is its turn among other services and places. Orders that are
/// older than what is declared say nothing.
fn in_order(verdict: Verdict, process: &DesiredProcess, world: &NodeWorld<'_>) -> Verdict {
    let Verdict::Do(Step { action, .. }) = &verdict else { return verdict };
    let orders = world.orders;
    let is_older = |tie: Option<u64>| tie.is_some_and(|needed| orders.revision < needed);
    let gate = |gates: &BTreeMap<Key, Gate>, hold: fn(String, String) -> Hold| {
        let service = Key::within(Kind::Service, world.place.0.as_str(), process.service.as_str());
        gates.get(&service).map(|gate| hold(gate.other.clone(), gate.why.clone()))
    };
    let ties = process.ties;
    let hold = match action {
        Action::Start { .. } | Action::Restart { .. } => {
            let is_in_sight = orders.seen.get(world.place) == Some(&world.seen.conversation);
            if ties.place.is_some() && (is_older(ties.place) || !is_in_sight) {
                Some(Hold::Unplaced)
            } else if is_older(ties.start) {
                Some(Hold::Unordered)
            } else if ties.start.is_some() {
                gate(&orders.starts, |service, why| Hold::After { service, why })
            } else {
                None
            }
        }
        Action::Stop { .. } | Action::Remove { .. } if is_older(ties.stop) => Some(Hold::Unordered),
        Action::Stop { .. } | Action::Remove { .. } if ties.stop.is_some() => {
            gate(&orders.stops, |service, why| Hold::Before { service, why })
        }
        Action::Stop { .. }
        | Action::Remove { .. }
        | Action::Bundle { .. }
        | Action::Unbundle
        | Action::Reload { .. }
        | Action::Adopt { .. }
        | Action::Discard { .. } => None,
    };
    hold.map_or(verdict, Verdict::Hold)
}

/// Nothing is started, nor ended to be started anew, before what it is to run from is there.
fn before_artifact(verdict: Verdict, process: &DesiredProcess, world: &NodeWorld<'_>) -> Verdict {
    let starts =
        matches!(&verdict, Verdict::Do(Step { action: Action::Start { .. } | Action::Restart { .. }, .. }));
    match &process.artifact {
        Some(address) if starts && !world.seen.artifacts.contains(address) => {
            Verdict::Hold(match too_early(world, address, &Aim::Delivered) {
                Some(Attempt { not_before_ms, tries, why, .. }) => {
                    Hold::ArtifactFailed { until_ms: *not_before_ms, tries: *tries, why: why.clone() }
                }
                None => Hold::Artifact {
                    sent: world
                        .stock
                        .sending
                        .as_ref()
                        .filter(|(now, _)| now == address)
                        .map(|(_, sent)| *sent),
                    size: world.desired.artifacts.get(address).map_or(0, |source| source.size),
                },
            })
        }
        Some(_) | None => verdict,
    }
}

/// What has to be sent: whatever a process runs from, or would. What runs needs it too, for its supervisor starts it again.
fn deliver(plan: &mut NodePlan, world: &NodeWorld<'_>) {
    if !world.desired.schedulable || world.desired.artifacts.is_empty() {
        return;
    }
    let wants = |process: &&DesiredProcess| process.running && !process.deleting && process.start.is_ok();
    let wanted: BTreeSet<&String> = world
        .desired
        .processes
        .values()
        .filter(wants)
        .filter_map(|process| process.artifact.as_ref())
        .collect();
    for (address, source) in &world.desired.artifacts {
        if world.seen.artifacts.contains(address) || !wanted.contains(address) {
            continue;
        }
        match too_early(world, address, &Aim::Delivered) {
            Some(attempt) => plan.wake_at(attempt.not_before_ms),
            None => {
                plan.deliveries.push(Delivery { address: address.clone(), source: source.clone() });
            }
        }
    }
}

/// What can go: no process here is to run from it, and everything that runs is what should run, so that nothing runs from it
/// either.
fn discard(plan: &mut NodePlan, world: &NodeWorld<'_>) {
    if world.seen.artifacts.is_empty()
        || !world.seen.processes.iter().all(|(id, seen)| uses_only_what_it_should(id, seen, world))
    {
        return;
    }
    for address in &world.seen.artifacts {
        if world.desired.artifacts.contains_key(address) {
            continue;
        }
        plan.unused.insert(address.clone());
        let since_ms = world.stock.unused_since_ms.get(address).copied().unwrap_or(world.now_ms);
        let until_ms = since_ms.saturating_add(KEEP_UNUSED_MS);
        let early = too_early(world, address, &Aim::Discarded).map(|attempt| attempt.not_before_ms);
        match early.or((until_ms > world.now_ms).then_some(until_ms)) {
            Some(at_ms) => plan.wake_at(at_ms),
            None => plan
                .steps
                .push(Step { action: Action::Discard { address: address.clone() }, reason: Reason::Unused }),
        }
    }
}

fn uses_only_what_it_should(id: &str, seen: &ProcessSighting, world: &NodeWorld<'_>) -> bool {
    let is_as_declared = |process: &DesiredProcess| {
        process.running
            && !process.deleting
            && process.start.as_ref().is_ok_and(|start| start.hash == seen.hash)
    };
    seen.phase.is_over() || world.desired.processes.get(id).is_some_and(is_as_declared)
}

/// While the bundle waits, nobody can be told of it: what runs waits too, and what is started is told later.
fn before_bundle(verdict: Verdict, hold: &Hold) -> Verdict {
    match verdict {
        Verdict::Do(mut step) => {
            match &mut step.action {
                Action::Reload { .. } => return Verdict::Hold(hold.clone()),
                Action::Start { start, .. } | Action::Restart { start, .. } => {
                    Arc::make_mut(start).live = "-".into();
                }
                // What is adopted runs already, so it is told later if what it knows is old.
                Action::Bundle { .. }
                | Action::Unbundle
                | Action::Remove { .. }
                | Action::Stop { .. }
                | Action::Adopt { .. }
                | Action::Discard { .. } => {}
            }
            Verdict::Do(step)
        }
        Verdict::Fine | Verdict::Hold(_) => verdict,
    }
}

fn remove(id: &str, seen: &ProcessSighting, stop: StopSpec, reason: Reason) -> Verdict {
    if seen.phase == Phase::Stopping {
        return Verdict::Hold(Hold::Stopping);
    }
    Verdict::Do(Step { action: Action::Remove { id: id.to_owned(), stop }, reason })
}

fn decide(
    process: &DesiredProcess,
    seen: Option<&ProcessSighting>,
    schedulable: bool,
    now_ms: u64,
) -> Verdict {
    let id = &process.id;
    match (seen, process.deleting, process.running) {
        (None, true, _) | (None, false, false) => Verdict::Fine,
        (None, false, true) => start(process, Reason::Absent, schedulable),
        (Some(seen), true, _) => remove(id, seen, process.stop.clone(), Reason::Deleted),
        (Some(seen), false, false) => match seen.phase {
            Phase::Stopped | Phase::Lost => Verdict::Fine,
            Phase::Stopping => Verdict::Hold(Hold::Stopping),
            Phase::Busy => Verdict::Hold(Hold::Busy),
            Phase::Running | Phase::Backoff | Phase::Unsupervised => Verdict::Do(Step {
                action: Action::Stop { id: id.clone(), stop: process.stop.clone() },
                reason: Reason::NotWanted,
            }),
        },
        (Some(seen), false, true) => match seen.phase {
            Phase::Stopping => Verdict::Hold(Hold::Stopping),
            Phase::Busy => Verdict::Hold(Hold::Busy),
            Phase::Stopped => start(process, Reason::Stopped, schedulable),
            Phase::Lost => start(process, Reason::Lost, schedulable),
            Phase::Unsupervised | Phase::Running | Phase::Backoff => keep(process, seen, schedulable, now_ms),
        },
    }
}

/// It is there and should be: is it what should be there?
fn keep(process: &DesiredProcess, seen: &ProcessSighting, schedulable: bool, now_ms: u64) -> Verdict {
    let start = match &process.start {
        Ok(start) => start,
        Err(why) => return Verdict::Hold(Hold::Invalid(why.clone())),
    };
    if start.hash != seen.hash {
        return restart(process, Reason::Changed, schedulable);
    }
    let adopt = |reason| {
        let action = Action::Adopt { id: process.id.clone(), start: Arc::clone(start) };
        Verdict::Do(Step { action, reason })
    };
    match seen.phase {
        // Starts nothing, so it is done on a cordoned node too.
        Phase::Unsupervised => return adopt(Reason::Unsupervised),
        Phase::Backoff => return Verdict::Hold(Hold::Restarting),
        Phase::Running | Phase::Stopping | Phase::Stopped | Phase::Lost | Phase::Busy => {}
    }
    if start.care.hash != seen.care {
        return adopt(Reason::CareChanged);
    }
    match process.reload {
        Some(signal) if start.live != seen.live => Verdict::Do(Step {
            action: Action::Reload { id: process.id.clone(), signal, live: start.live.clone() },
            reason: Reason::LiveChanged,
        }),
        Some(_) | None => match seen.since_ms.saturating_add(process.start_ms) {
            until_ms if until_ms > now_ms => Verdict::Hold(Hold::Starting { until_ms }),
            _ => Verdict::Fine,
        },
    }
}

fn start(process: &DesiredProcess, reason: Reason, schedulable: bool) -> Verdict {
    begin(process, reason, schedulable, |id, start| Action::Start { id, start })
}

fn restart(process: &DesiredProcess, reason: Reason, schedulable: bool) -> Verdict {
    begin(process, reason, schedulable, |id, start| Action::Restart { id, start })
}

fn begin(
    process: &DesiredProcess,
    reason: Reason,
    schedulable: bool,
    action: fn(String, Arc<Start>) -> Action,
) -> Verdict {
    match &process.start {
        _ if !schedulable => Verdict::Hold(Hold::Cordoned),
        Err(why) => Verdict::Hold(Hold::Invalid(why.clone())),
        Ok(start) => Verdict::Do(Step { action: action(process.id.clone(), Arc::clone(start)), reason }),
    }
}

const fn rank(action: &Action) -> u8 {
    match action {
        Action::Bundle { .. } | Action::Unbundle => 0,
        Action::Remove { .. } => 1,
        Action::Stop { .. } => 2,
        Action::Reload { .. } => 3,
        Action::Adopt { .. } => 4,
        Action::Restart { .. } => 5,
        Action::Start { .. } => 6,
        Action::Discard { .. } => 7,
    }
}
