//! What people do to a node as a whole: cordon, drain, uncordon, forget. Ours: the seed has no such things.
//!
//! A drain is said of a node, in an annotation, and is carried out by the placement, within the limits of each service.
//!
//! **Invariant:** a node that is seen is not forgotten: what runs there is stopped by deleting it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::body::{Parameters, Place, only};
use super::error::Error;
use super::etag::UNCONDITIONAL;
use super::nodes::{self, NodeStatus};
use super::resource::{change, change_one, declared_in, deleting, spoken_of, visible};
use super::route::{Content, Operation, Route};
use super::running::WAITS;
use super::{Context, Shared};
use crate::clock::{Clock, timestamp};
use crate::model::kinds::{NodeSpec, Object};
use crate::model::meta::{DRAINING, FORGOTTEN};
use crate::model::{Document, Documents, Key, Kind, Spec};
use crate::plan::place::PlaceHold;
use crate::reconcile::events::Said;
use crate::reconcile::observed::{LinkState, NodeView};
use crate::reconcile::placed::Decided;
use crate::state::Edit;
use crate::state::noted::note_reason;

const PATH: &str = "/1.0/instances/{instance}/nodes/{id}";

/// Longest reason, in characters.
const MAX_REASON: usize = 500;

pub(super) fn routes() -> Vec<Route> {
    let said = |id: &str, summary: &str, about: &'static str| {
        Operation::new(id, summary)
            .described(about)
            .answers(StatusCode::OK, Content::of::<NodeStatus>())
            .conflicts()
    };
    vec![
        Route::post(
            format!("{PATH}/cordon"),
            cordon,
            said("cordonNode", "Keep new processes from a node", "As `status: false`. What runs there goes on."),
        ),
        Route::post(
            format!("{PATH}/drain"),
            drain,
            said(
                "drainNode",
                "Move away from a node what can be moved",
                "Within the limits of each service's `update`; nothing new comes meanwhile. The node's status says what is left.",
            ),
        ),
        Route::post(
            format!("{PATH}/uncordon"),
            uncordon,
            said("uncordonNode", "Let a node take processes again", "Ends a drain, and `status: false`. Nothing moves back."),
        ),
        Route::post(
            format!("{PATH}/forget"),
            forget,
            Operation::new("forgetNode", "Delete a node that is gone for good")
                .described("Its deletion waits for nothing, for there is nobody left who could confirm it. If the machine does come back, what runs there goes on without anybody's looking after it. Refused while the node is connected, or not tried yet.")
                .takes(Content::of::<Forget>())
                .conflicts(),
        ),
    ]
}

/// Why a node is gone for good.
#[derive(JsonSchema)]
struct Forget {
    /// For people; it is kept in the events and in the audit log.
    #[schemars(regex(pattern = r"^[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]{0,499}$"))]
    #[expect(dead_code, reason = "it is read by hand, for its messages")]
    reason: String,
}

/// A process that is left on a node that is being drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Left {
    /// The process.
    pub(super) process: String,
    /// Its service.
    pub(super) service: String,
    /// Whether it stays until people do something: no drain moves it.
    pub(super) stays: bool,
    /// Why it is still there.
    pub(super) reason: String,
}

/// What is left on a node, and why.
pub(super) fn left(documents: &Documents, decided: &Decided, node: &Key) -> Vec<Left> {
    let instance = node.namespace.as_str();
    let left = documents.processes_on(instance, &node.name).map(|(document, spec)| {
        let key = document.key();
        let service = documents.service(&Key::within(Kind::Service, instance, spec.service.as_str()));
        let is_placed = document.metadata.owner_references.iter().any(|owner| owner.kind == Kind::Service);
        let names_it = service
            .and_then(|service| service.nodes.as_ref())
            .is_some_and(|nodes| nodes.contains(&node.name));
        let (stays, reason) = if document.is_deleting() {
            (false, "it is being stopped and removed".to_owned())
        } else if names_it {
            (true, format!("its service names this node in `nodes`; take {} out there", node.name))
        } else if !is_placed {
            (true, "it was created by hand; delete it, and create one on another node".to_owned())
        } else {
            match decided.holds.get(&key) {
                Some(hold) => (matches!(hold, PlaceHold::NowhereElse { .. }), hold.to_string()),
                None => (false, "it is about to be moved".to_owned()),
            }
        };
        Left { process: key.name, service: spec.service.clone(), stays, reason }
    });
    left.collect()
}

async fn set_status(context: &Context, key: &Key, takes: bool) -> Result<(), Error> {
    change_one(context, key, &UNCONDITIONAL, |documents, _| {
        let spec = documents.node(key).cloned().unwrap_or_default();
        Ok(Spec::Node(NodeSpec { status: Some(takes), ..spec }))
    })
    .await
    .map(drop)
}

fn status_of(context: &Context, key: &Key) -> Result<Json<NodeStatus>, Error> {
    nodes::shown(context, key).map(Json)
}

async fn cordon(State(context): State<Shared>, place: Place) -> Result<Json<NodeStatus>, Error> {
    let key = place.key(Kind::Node);
    spoken_of(&context.documents(), &key)?;
    set_status(&context, &key, false).await?;
    status_of(&context, &key)
}

async fn drain(State(context): State<Shared>, place: Place) -> Result<Json<NodeStatus>, Error> {
    let key = place.key(Kind::Node);
    change(&context, |documents| {
        let mut document = spoken_of(documents, &key)?.clone();
        if document.metadata.annotations.contains_key(DRAINING) {
            return Ok((Vec::new(), ()));
        }
        document.metadata.annotations.insert(DRAINING.into(), timestamp());
        Ok((vec![Edit::Replace(document)], ()))
    })
    .await?;
    status_of(&context, &key)
}

async fn uncordon(State(context): State<Shared>, place: Place) -> Result<Json<NodeStatus>, Error> {
    let key = place.key(Kind::Node);
    // Also where the rest is a folder's: the drain was said here.
    change(&context, |documents| {
        let mut document = spoken_of(documents, &key)?.clone();
        let was_draining = document.metadata.annotations.remove(DRAINING).is_some();
        Ok((Vec::from_iter(was_draining.then_some(Edit::Replace(document))), ()))
    })
    .await?;
    let documents = context.documents();
    if documents.node(&key).is_some_and(|node| node.status == Some(false)) {
        let place = documents.get(&key).and_then(|document| declared_in(document, "/spec/status"));
        if let Some(place) = place {
            return Err(Error::Conflict(format!(
                "{key} is cordoned by {place} (`status: false`); change it there; it is no longer being drained"
            )));
        }
        set_status(&context, &key, true).await?;
    }
    status_of(&context, &key)
}

async fn forget(
    State(context): State<Shared>,
    place: Place,
    Parameters(given): Parameters,
) -> Result<StatusCode, Error> {
    let key = place.key(Kind::Node);
    let reason = reason(&given).map_err(Error::BadRequest)?;
    change(&context, |_| {
        // The one that is there, also when it is being deleted and a later one of its name waits.
        let documents = context.state.snapshot().documents;
        let Some(found) = documents.get(&key) else {
            visible(&documents.declared(), &key)?;
            return Err(Error::Conflict(format!("{key}: {WAITS}")));
        };
        let view = context.observed.node(&key.namespace, &key.name).unwrap_or_default();
        let edits = if found.is_deleting() {
            refuse_seen(&key, &view)?;
            vec![Edit::Replace(Document::clone(found))]
        } else {
            visible(&documents, &key)?;
            refuse_seen(&key, &view)?;
            deleting(&documents, &key, &UNCONDITIONAL)?
        };
        Ok((edits.into_iter().map(|edit| forgotten(edit, &key, &reason)).collect(), ()))
    })
    .await?;
    note_reason(&reason);
    let regarding = key.to_string();
    let said = Said { regarding, action: "Forget", reason: "GoneForGood", message: reason };
    context.events.say(said, Clock::default().now_ms());
    Ok(StatusCode::NO_CONTENT)
}

/// The edit of the node says that it is forgotten, too.
fn forgotten(edit: Edit, key: &Key, reason: &str) -> Edit {
    match edit {
        Edit::Replace(mut document) if document.key() == *key => {
            document.metadata.annotations.insert(FORGOTTEN.into(), reason.to_owned());
            Edit::Replace(document)
        }
        Edit::Create(_) | Edit::Replace(_) | Edit::Remove(_) | Edit::Expect(_) => edit,
    }
}

fn refuse_seen(key: &Key, view: &NodeView) -> Result<(), Error> {
    match &view.link {
        LinkState::Down { .. } => Ok(()),
        LinkState::Connected { .. } => Err(Error::Conflict(format!(
            "{key} is connected, so it is not gone: delete it, and what runs there is stopped"
        ))),
        LinkState::Connecting => Err(Error::Conflict(format!(
            "{key} is being connected to; ask again when it is known how that went"
        ))),
    }
}

fn reason(given: &Object) -> Result<String, String> {
    only(given, "reason")?;
    let is_visible = |text: &str| {
        text.chars().next().is_some_and(|first| !first.is_whitespace())
            && text.chars().count() <= MAX_REASON
            && !text.chars().any(char::is_control)
    };
    match given.get("reason") {
        None => Err("`reason` is missing; say why the node is gone for good".into()),
        Some(Value::String(text)) if is_visible(text) => Ok(text.clone()),
        Some(_) => Err(format!(
            "reason: write a line of 1 to {MAX_REASON} characters that begins with no space, and has no control characters"
        )),
    }
}

#[cfg(test)]
mod tests {
    use imbl::OrdMap;
    use serde_json::json;

    use super::*;
    use crate::model::Metadata;
    use crate::model::kinds::{ProcessSpec, ServiceSpec};
    use crate::model::meta::OwnerReference;

    fn document(name: &str, spec: Spec) -> Document {
        let metadata = Metadata { name: name.into(), namespace: "IN1".into(), ..Metadata::default() };
        Document { metadata, spec }
    }

    #[test]
    fn what_is_left_says_what_people_have_to_do_and_what_moves_by_itself() {
        let process = |id: &str, service: &str, is_placed: bool| {
            let spec = ProcessSpec { service: service.into(), node: "ND1".into(), running: None };
            let mut made = document(id, Spec::Process(spec));
            let owner = OwnerReference { kind: Kind::Service, name: service.into(), uid: String::new() };
            made.metadata.owner_references.extend(is_placed.then_some(owner));
            made
        };
        let mut going = process("e", "SV1", true);
        going.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
        let named = ServiceSpec { nodes: Some(vec!["ND1".into()]), ..ServiceSpec::default() };
        let documents: Documents = [
            document("SV1", Spec::Service(ServiceSpec::default())),
            document("SV2", Spec::Service(named)),
            process("a", "SV1", true),
            process("b", "SV1", true),
            process("c", "SV2", true),
            process("d", "SV1", false),
            going,
        ]
        .into_iter()
        .collect();
        let held = PlaceHold::NowhereElse { node: "Node IN1/ND1".into() };
        let key = |id: &str| Key::within(Kind::Process, "IN1", id);
        let decided = Decided { holds: OrdMap::from_iter([(key("b"), held)]), ..Decided::default() };
        let left = left(&documents, &decided, &Key::within(Kind::Node, "IN1", "ND1"));
        let said: Vec<(&str, bool, &str)> =
            left.iter().map(|left| (left.process.as_str(), left.stays, left.reason.as_str())).collect();
        assert_eq!(
            said,
            [
                ("a", false, "it is about to be moved"),
                ("b", true, "it should move away from Node IN1/ND1, and no other node takes it"),
                ("c", true, "its service names this node in `nodes`; take ND1 out there"),
                ("d", true, "it was created by hand; delete it, and create one on another node"),
                ("e", false, "it is being stopped and removed"),
            ]
        );
    }

    #[test]
    fn a_reason_is_a_line_that_people_can_read() {
        let reason = |body: Value| reason(body.as_object().unwrap());
        assert_eq!(reason(json!({"reason": "burnt"})), Ok("burnt".into()));
        assert!(reason(json!({"reason": "ä".repeat(500)})).is_ok());
        for body in [
            json!({}),
            json!({"reason": ""}),
            json!({"reason": " x"}),
            json!({"reason": "a\nb"}),
            json!({"reason": 7}),
            json!({"reason": "x".repeat(501)}),
            json!({"reason": "x", "force": true}),
        ] {
            assert!(reason(body.clone()).is_err(), "{body}");
        }
    }
}
