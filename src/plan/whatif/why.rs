//! Why something is done to a process: the step's reason, what was decided over all nodes, and which fields changed.

use serde_json::{Value, json};

use super::Present;
use super::course::{Course, Done, Place};
use super::foresight::{Deed, Verb};
use crate::model::difference::{of_revisions, paths};
use crate::model::id::revision_name;
use crate::model::meta::{Key, Kind};
use crate::plan::place::PlaceReason;
use crate::plan::step::{Action, Reason, Start};
use crate::plan::world::{DesiredProcess, NodeDesired};

/// How many fields people are told by name.
const NAMED: usize = 4;

/// Tells the reasons of what is done on one node.
pub(super) struct Whys<'a> {
    present: &'a Present<'a>,
    course: &'a Course<'a>,
    place: &'a Place,
    /// What should be on the node without the change.
    before: &'a NodeDesired,
}

impl<'a> Whys<'a> {
    pub(super) const fn new(
        present: &'a Present<'a>,
        course: &'a Course<'a>,
        place: &'a Place,
        before: &'a NodeDesired,
    ) -> Whys<'a> {
        Whys { present, course, place, before }
    }

    pub(super) fn deed(&self, id: &str, done: &Done) -> Deed {
        let fields = self.fields(id, done);
        let key = Key::within(Kind::Process, self.place.0.as_str(), id);
        let placed = self.course.reasons.get(&key);
        let why = if fields.is_empty() {
            match (done.verb, done.reason, placed) {
                (Verb::Start, Reason::Absent, Some(_)) => "new process".to_owned(),
                (Verb::Start, Reason::Absent, None) if self.is_new(&key) => "new process".to_owned(),
                // That it is being deleted says less than what it is deleted for.
                (Verb::Stop, Reason::Deleted, Some(reason)) if *reason != PlaceReason::Placed => {
                    reason.to_string()
                }
                (_, reason, _) => reason.to_string(),
            }
        } else {
            let mut named = fields.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            if fields.len() > NAMED {
                named.push_str(&format!(" and {} more", fields.len() - NAMED));
            }
            format!("{named} changed")
        };
        Deed { verb: done.verb, reason: done.reason.word().into(), why, fields }
    }

    fn is_new(&self, process: &Key) -> bool {
        self.present.world.documents.live(process).is_none()
    }

    /// The fields that changed, for what is done for such.
    fn fields(&self, id: &str, done: &Done) -> Vec<String> {
        match (&done.action, done.reason) {
            (Action::Restart { start, .. }, Reason::Changed) => {
                self.started_with(id, start, done.of.as_ref().map_or(0, |(_, revision)| *revision))
            }
            (Action::Adopt { start, .. }, Reason::CareChanged) => self.looked_after(id, start),
            (Action::Reload { .. }, Reason::LiveChanged) => self.told(id),
            (
                Action::Restart { .. }
                | Action::Adopt { .. }
                | Action::Reload { .. }
                | Action::Start { .. }
                | Action::Stop { .. }
                | Action::Remove { .. }
                | Action::Bundle { .. }
                | Action::Unbundle
                | Action::Discard { .. },
                _,
            ) => Vec::new(),
        }
    }

    /// Those of what it is started with: of its service's revisions, or, where these are the same, of what was made of them for the node.
    fn started_with(&self, id: &str, start: &Start, revision: u64) -> Vec<String> {
        let instance = self.place.0.as_str();
        let key = Key::within(Kind::Process, instance, id);
        let document = self.present.world.documents.get(&key);
        if let Some(process) = self.present.world.documents.process(&key) {
            let named =
                |number: u64| Key::within(Kind::Revision, instance, revision_name(&process.service, number));
            let number = document.map_or(0, |document| document.metadata.revision);
            let before = self.present.world.documents.revision(&named(number));
            let after = self.course.documents.revision(&named(revision));
            let fields = before.zip(after).map(|(before, after)| of_revisions(before, after));
            if let Some(fields) = fields.filter(|fields| !fields.is_empty()) {
                return fields;
            }
        }
        let Some(before) = self.start_before(id).filter(|before| before.hash != start.hash) else {
            return Vec::new();
        };
        let mut fields = paths(json!({ "env": before.env }), json!({ "env": start.env }));
        if before.command != start.command {
            fields.insert(0, "command".into());
        }
        if fields.is_empty() {
            fields.push("options".into());
        }
        fields
    }

    fn start_before(&self, id: &str) -> Option<&'a Start> {
        self.before.processes.get(id)?.start.as_deref().ok()
    }

    /// Those of how its supervisor looks after it.
    fn looked_after(&self, id: &str, start: &Start) -> Vec<String> {
        let Some(before) = self.start_before(id) else { return Vec::new() };
        let (before_care, care) = (&before.care, &start.care);
        let all = [
            ("health", before_care.health != care.health),
            ("lease", before_care.lease != care.lease),
            ("log", before_care.log != care.log),
            ("stop", before.stop != start.stop),
        ];
        all.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field.to_owned()).collect()
    }

    /// Those of what it is told while it runs, which is what the node's bundle says to it.
    fn told(&self, id: &str) -> Vec<String> {
        let nothing = NodeDesired::default();
        let after = self.course.nodes.get(self.place).map_or(&nothing, |node| &node.desired);
        let Some(DesiredProcess { service, .. }) = after.processes.get(id) else { return Vec::new() };
        let told = told_to(self.before, service).zip(told_to(after, service));
        told.map(|(before, after)| paths(before, after)).unwrap_or_default()
    }
}

/// What a node's bundle says to a service.
fn told_to(desired: &NodeDesired, service: &str) -> Option<Value> {
    let (_, text) = desired.bundle.as_ref()?;
    let Ok(Value::Object(mut bundle)) = serde_json::from_str(text) else { return None };
    bundle.remove("node");
    let own = bundle.remove("services").and_then(|mut services| services.get_mut(service).map(Value::take));
    if let Some(Value::Object(own)) = own {
        bundle.extend(own);
    }
    Some(Value::Object(bundle))
}
