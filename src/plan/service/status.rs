//! How a service stands, as it is decided.

use super::Case;
use crate::model::kinds::RevisionSpec;
use crate::plan::availability::{Availability, Count};
use crate::plan::member::Member;
use crate::plan::standing::{CRASHES, Condition, ServiceStatus, Truth};

impl Case<'_, '_> {
    pub(super) fn status(&self) -> ServiceStatus {
        let count = |is: &dyn Fn(&Member<'_>) -> bool| {
            let count =
                self.members.iter().filter(|member| !member.leaves && member.runs && is(member)).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let target = self.target.number;
        let (desired, placed) = (self.total(), count(&|_| true));
        let updated = count(&|member| {
            member.document.metadata.revision == target && member.is_settled && !member.is_behind
        });
        let available = count(&|member| matches!(member.availability, Availability::Since(_)));
        let unknown = count(&|member| member.is_unknown());
        let is_enough = |available| Count { wanted: desired, available }.is_enough(&self.update);
        let of = format!("{available} of {desired} processes do their work");
        let is_available =
            match (desired == 0 || is_enough(available), is_enough(available.saturating_add(unknown))) {
                (true, _) => Condition::yes("Enough", of),
                (false, true) => Condition {
                    status: Truth::Unknown,
                    reason: "NodesNotSeen",
                    message: format!("{of}, and {unknown} are on nodes that do not answer"),
                },
                (false, false) => Condition::no("TooFew", of),
            };
        let has_arrived = self.target.revision.is_some_and(|(_, revision)| revision.completed);
        // Where it once was everywhere, nothing moves because a node is not seen.
        let is_done = placed == desired
            && (updated == desired
                || has_arrived && count(&|member| member.document.metadata.revision == target) == desired);
        let progressing = match (is_done, self.is_paused(), self.target.failed()) {
            (true, _, _) => Condition::no("Complete", format!("all run from revision {target}")),
            (false, true, _) => {
                Condition::no("Paused", format!("{updated} of {desired} run from revision {target}"))
            }
            (false, false, Some(why)) => Condition::no("Failed", why),
            (false, false, None) => {
                Condition::yes("RollingOut", format!("{updated} of {desired} run from revision {target}"))
            }
        };
        let crashing = self.members.iter().find(|member| {
            member.runs
                && !member.leaves
                && member.seen.is_some_and(|seen| seen.restarts >= CRASHES)
                && !member.works()
        });
        let last = self
            .target
            .all
            .iter()
            .rev()
            .map(|(_, revision)| revision)
            .find(|revision| revision.failed.is_some());
        let degraded = match (last.filter(|last| last.number >= target), crashing) {
            (Some(failed), _) => {
                let why = failed.failed.clone().unwrap_or_default();
                let back = failed
                    .replaced_by
                    .map_or_else(String::new, |number| format!("; back to revision {number}"));
                let message = format!("revision {}: {why}{back}", failed.number);
                if why == RevisionSpec::ROLLED_BACK {
                    Condition::no("RolledBack", message)
                } else {
                    Condition::yes("RolloutFailed", message)
                }
            }
            (None, Some(member)) => {
                let restarts = member.seen.map_or(0, |seen| seen.restarts);
                Condition::yes(
                    "CrashLoop",
                    format!(
                        "process {} on {} was started again {restarts} times",
                        member.id, member.spec.node
                    ),
                )
            }
            (None, None) => Condition::no("AsExpected", ""),
        };
        ServiceStatus {
            observed_generation: self.document.metadata.generation,
            revision: target,
            desired,
            placed,
            updated,
            available,
            unknown,
            is_available,
            progressing,
            degraded,
        }
    }
}
